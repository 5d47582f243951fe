package main

import (
	"fmt"
	"sync"
	"syscall"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/errdefs"
)

// soak starts and stops pods, a few at a time: each has a first container that is told to end, and a second that ends by itself, and
// every exit code has to be the one that was meant.
func soak(c *client, s side, rounds, pods, workers int) error {
	for round := range rounds {
		begin := time.Now()
		if err := c.crowd(s, round, pods, workers); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
		fmt.Printf("round %d of %d: %d pods, every exit code right, %.1f s\n", round+1, rounds, pods, time.Since(begin).Seconds())
	}
	return nil
}

func (c *client) crowd(s side, round, pods, workers int) error {
	numbers, failed := make(chan int), make(chan error, pods)
	var all sync.WaitGroup
	for range workers {
		all.Add(1)
		go func() {
			defer all.Done()
			for number := range numbers {
				if err := c.pod(s, fmt.Sprintf("p%d-%d", round, number), uint32(1+number%100)); err != nil {
					failed <- err
				}
			}
		}()
	}
	for number := range pods {
		numbers <- number
	}
	close(numbers)
	all.Wait()
	select {
	case err := <-failed:
		return err
	default:
		return nil
	}
}

// pod is the life of one.
func (c *client) pod(s side, id string, code uint32) error {
	first, err := c.container(s, id, id, "/bin/sh", "-c", fmt.Sprintf("trap 'exit %d' TERM; while :; do sleep 0.05; done", code))
	if err != nil {
		return err
	}
	second, err := c.container(s, id+"-b", id, "/bin/sh", "-c", fmt.Sprintf("exit %d", 100+code))
	if err != nil {
		return err
	}
	one, err := c.start(first)
	if err != nil {
		return err
	}
	two, err := c.start(second)
	if err != nil {
		return err
	}
	if err := ends(c, two, 100+code); err != nil {
		return err
	}
	if err := c.stop(one, code); err != nil {
		return err
	}
	if err := c.remove(second); err != nil {
		return err
	}
	return c.remove(first)
}

// stop tells it to end until it does: a shell that has not come to its trap yet is not told anything, as the first process it is.
func (c *client) stop(r *running, code uint32) error {
	for range 600 {
		if err := r.task.Kill(c.ctx, syscall.SIGTERM); err != nil && !errdefs.IsNotFound(err) {
			return err
		}
		select {
		case status := <-r.end:
			again := make(chan containerd.ExitStatus, 1)
			again <- status
			r.end = again
			return ends(c, r, code)
		case <-time.After(100 * time.Millisecond):
		}
	}
	return fmt.Errorf("%s has not ended after a minute", r.ID())
}

func ends(c *client, r *running, code uint32) error {
	got, err := r.ended(c.ctx)
	if err == nil && got != code {
		err = fmt.Errorf("%s ended with %d instead of %d", r.ID(), got, code)
	}
	return err
}
