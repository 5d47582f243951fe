// Command tasks drives containerd by its client library, as an engine does: it times tasks under two shims in turn (bench), or
// starts and stops pods until something is lost (soak). hack/benches/shim and hack/soaks/shim start it, in hack/peers/room.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	containerd "github.com/containerd/containerd/v2/client"
	"github.com/containerd/containerd/v2/pkg/cio"
	"github.com/containerd/containerd/v2/pkg/namespaces"
	"github.com/containerd/containerd/v2/pkg/oci"

	runcoptions "github.com/containerd/containerd/api/types/runc/options"
)

// side is a shim and the runtime that it calls.
type side struct {
	name    string
	shim    string // its program's name
	runtime string
	options any
	pause   string
}

type client struct {
	*containerd.Client
	ctx   context.Context
	image containerd.Image
	count int
}

func main() {
	address := flag.String("address", "/run/containerd/containerd.sock", "containerd's socket")
	image := flag.String("image", "docker.io/library/t:1", "an image with a shell, /pause-ours and /pause-theirs")
	runc := flag.String("runc", "runc", "the runtime of containerd's own shim")
	rounds := flag.Int("rounds", 20, "how often")
	pods := flag.Int("pods", 100, "how many pods at once")
	workers := flag.Int("workers", 4, "how many are started at a time")
	json := flag.String("json", "", "a file for the figures")
	flag.Parse()

	ours := side{"ours", "containerd-shim-rt-v2", "io.containerd.rt.v2", nil, "/pause-ours"}
	theirs := side{"theirs", "containerd-shim-runc-v2", "io.containerd.runc.v2", &runcoptions.Options{BinaryName: *runc}, "/pause-theirs"}
	ctx, cancel := context.WithTimeout(namespaces.WithNamespace(context.Background(), "default"), 4*time.Hour)
	defer cancel()
	c, err := connect(ctx, *address, *image)
	if err == nil {
		switch flag.Arg(0) {
		case "bench":
			err = bench(c, ours, theirs, *rounds, *pods, *json)
		case "soak":
			err = soak(c, ours, *rounds, *pods, *workers)
		default:
			err = errors.New("usage: tasks [OPTION…] bench|soak")
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "tasks:", err)
		os.Exit(1)
	}
}

func connect(ctx context.Context, address, name string) (*client, error) {
	c, err := containerd.New(address)
	if err != nil {
		return nil, err
	}
	image, err := c.GetImage(ctx, name)
	return &client{Client: c, ctx: ctx, image: image}, err
}

// container makes one without a task: its root filesystem is there, its config is written.
func (c *client) container(s side, id, pod string, args ...string) (containerd.Container, error) {
	annotations := map[string]string{}
	if pod != "" {
		annotations["io.kubernetes.cri.sandbox-id"] = pod
	}
	return c.NewContainer(c.ctx, id,
		containerd.WithImage(c.image),
		containerd.WithNewSnapshot(id, c.image),
		containerd.WithRuntime(s.runtime, s.options),
		containerd.WithNewSpec(oci.WithImageConfig(c.image), oci.WithProcessArgs(args...), oci.WithAnnotations(annotations)))
}

// running is a container with its task, started, and its end to come.
type running struct {
	containerd.Container
	task containerd.Task
	end  <-chan containerd.ExitStatus
}

// start creates the task and starts it: what is timed.
func (c *client) start(made containerd.Container) (*running, error) {
	task, err := made.NewTask(c.ctx, cio.NullIO)
	if err != nil {
		return nil, fmt.Errorf("create the task of %s: %w", made.ID(), err)
	}
	end, err := task.Wait(c.ctx)
	if err != nil {
		return nil, fmt.Errorf("wait for %s: %w", made.ID(), err)
	}
	if err := task.Start(c.ctx); err != nil {
		return nil, fmt.Errorf("start %s: %w", made.ID(), err)
	}
	return &running{made, task, end}, nil
}

// ended waits for the end and removes the task: the exit code.
func (r *running) ended(ctx context.Context) (uint32, error) {
	var status containerd.ExitStatus
	select {
	case status = <-r.end:
	case <-time.After(time.Minute):
		return 0, fmt.Errorf("%s has not ended after a minute", r.ID())
	}
	if status.Error() != nil {
		return 0, status.Error()
	}
	deleted, err := r.task.Delete(ctx)
	if err != nil {
		return 0, fmt.Errorf("delete the task of %s: %w", r.ID(), err)
	}
	if deleted.ExitCode() != status.ExitCode() {
		return 0, fmt.Errorf("%s: Wait said %d, Delete %d", r.ID(), status.ExitCode(), deleted.ExitCode())
	}
	return status.ExitCode(), nil
}

// remove the container without its task.
func (c *client) remove(made containerd.Container) error {
	return made.Delete(c.ctx, containerd.WithSnapshotCleanup)
}
