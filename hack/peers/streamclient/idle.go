package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// idle keeps a session of each transport open in which nothing happens but client-go's pings (every 5 s), then uses it.
func idle(p *peer, prefix string, long time.Duration) int {
	code := 0
	results := make(chan error)
	for _, over := range []transport{overSPDY, overWebSocket} {
		go func() {
			if err := p.waitThenTalk(over, long); err != nil {
				results <- fmt.Errorf("%s: %w", over, err)
			} else {
				results <- nil
			}
		}()
	}
	for range 2 {
		if err := <-results; err != nil {
			fmt.Printf("FAIL %s::an_idle_session_stays: %v\n", prefix, err)
			code = 1
		}
	}
	if code == 0 {
		fmt.Printf("PASS %s::an_idle_session_stays\n", prefix)
	}
	return code
}

func (p *peer) waitThenTalk(over transport, long time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), long+patience)
	defer cancel()
	read, write := io.Pipe()
	typed, typing := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := p.stream(ctx, over, session{command: []string{"cat"}, stdin: typed, stdout: write})
		write.CloseWithError(errors.Join(io.EOF, err))
		ended <- err
	}()
	select {
	case err := <-ended:
		return fmt.Errorf("it ended by itself: %v", err)
	case <-time.After(long):
	}
	said := make([]byte, 6)
	go func() { _, _ = io.WriteString(typing, "hello\n"); typing.Close() }()
	if _, err := io.ReadFull(read, said); err != nil {
		return err
	}
	if err := same("said", string(said), "hello\n"); err != nil {
		return err
	}
	return <-ended
}
