package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/portforward"
	"k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/transport/spdy"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// What is talked to, and about what.
type peer struct {
	cri, kubelet             string
	container, attached, pod string
	runtime                  cri.RuntimeServiceClient
}

// The two ways to carry streams.
type transport string

const (
	overSPDY      transport = "spdy"
	overWebSocket transport = "websocket"
)

// Which streams a session has, and what is at our end of them.
type session struct {
	command []string // none: attach
	stdin   io.Reader
	stdout  io.Writer
	stderr  io.Writer
	sizes   remotecommand.TerminalSizeQueue // a terminal, if there
}

const patience = 120 * time.Second

func (p *peer) connect() error {
	if p.kubelet != "" {
		return nil
	}
	connection, err := grpc.NewClient(p.cri, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return fmt.Errorf("connect to %q: %w", p.cri, err)
	}
	p.runtime = cri.NewRuntimeServiceClient(connection)
	return nil
}

// config for a URL; neither server has a certificate that anybody signed.
func config(address *url.URL) *rest.Config {
	config := &rest.Config{Host: address.Scheme + "://" + address.Host}
	config.Insecure = address.Scheme == "https"
	return config
}

func (p *peer) remote(s session) (*url.URL, error) {
	if p.kubelet != "" {
		query := url.Values{"command": s.command}
		for name, wanted := range map[string]bool{"input": s.stdin != nil, "output": s.stdout != nil, "error": s.stderr != nil, "tty": s.sizes != nil} {
			if wanted {
				query.Set(name, "1")
			}
		}
		verb, container := "exec", p.container
		if s.command == nil {
			verb, container = "attach", p.attached
		}
		return url.Parse(fmt.Sprintf("%s/%s/%s/%s?%s", p.kubelet, verb, p.pod, container, query.Encode()))
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if s.command == nil {
		answer, err := p.runtime.Attach(ctx, &cri.AttachRequest{ContainerId: p.attached,
			Stdin: s.stdin != nil, Stdout: s.stdout != nil, Stderr: s.stderr != nil, Tty: s.sizes != nil})
		if err != nil {
			return nil, err
		}
		return url.Parse(answer.Url)
	}
	answer, err := p.runtime.Exec(ctx, &cri.ExecRequest{ContainerId: p.container, Cmd: s.command,
		Stdin: s.stdin != nil, Stdout: s.stdout != nil, Stderr: s.stderr != nil, Tty: s.sizes != nil})
	if err != nil {
		return nil, err
	}
	return url.Parse(answer.Url)
}

// stream runs a session to its end; versions name the protocol's, none for the client's own choice.
func (p *peer) stream(ctx context.Context, over transport, s session, versions ...string) error {
	address, err := p.remote(s)
	if err != nil {
		return err
	}
	var executor remotecommand.Executor
	switch {
	case over == overWebSocket && len(versions) > 0:
		executor, err = remotecommand.NewWebSocketExecutorForProtocols(config(address), "GET", address.String(), versions...)
	case over == overWebSocket:
		executor, err = remotecommand.NewWebSocketExecutor(config(address), "GET", address.String())
	case len(versions) > 0:
		roundTripper, upgrader, failed := spdy.RoundTripperFor(config(address))
		if failed != nil {
			return failed
		}
		executor, err = remotecommand.NewSPDYExecutorForProtocols(roundTripper, upgrader, "POST", address, versions...)
	default:
		executor, err = remotecommand.NewSPDYExecutor(config(address), "POST", address)
	}
	if err != nil {
		return err
	}
	return executor.StreamWithContext(ctx, remotecommand.StreamOptions{
		Stdin: s.stdin, Stdout: s.stdout, Stderr: s.stderr, Tty: s.sizes != nil, TerminalSizeQueue: s.sizes})
}

// dialer of a session of forwarded ports.
func (p *peer) dialer(over transport, port int) (httpstream.Dialer, error) {
	var address *url.URL
	var err error
	if p.kubelet != "" {
		address, err = url.Parse(fmt.Sprintf("%s/portForward/%s", p.kubelet, p.pod))
	} else {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		var answer *cri.PortForwardResponse
		if answer, err = p.runtime.PortForward(ctx, &cri.PortForwardRequest{PodSandboxId: p.pod, Port: []int32{int32(port)}}); err == nil {
			address, err = url.Parse(answer.Url)
		}
	}
	if err != nil {
		return nil, err
	}
	if over == overWebSocket {
		return portforward.NewSPDYOverWebsocketDialer(address, config(address))
	}
	roundTripper, upgrader, err := spdy.RoundTripperFor(config(address))
	return spdy.NewDialer(upgrader, &http.Client{Transport: roundTripper}, "POST", address), err
}

// forward listens on a port of ours for one of the pod's; what is returned ends it.
func (p *peer) forward(over transport, port int) (string, func() error, error) {
	dialer, err := p.dialer(over, port)
	if err != nil {
		return "", nil, err
	}
	stop, ready, ended := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	ports := []string{fmt.Sprintf("0:%d", port)}
	forwarder, err := portforward.NewOnAddresses(dialer, []string{"127.0.0.1"}, ports, stop, ready, nil, io.Discard)
	if err != nil {
		return "", nil, err
	}
	go func() { ended <- forwarder.ForwardPorts() }()
	select {
	case err := <-ended:
		return "", nil, fmt.Errorf("forward port %d: %w", port, err)
	case <-ready:
	case <-time.After(patience):
		return "", nil, fmt.Errorf("forward port %d: not ready", port)
	}
	ours, err := forwarder.GetPorts()
	if err != nil {
		return "", nil, err
	}
	end := func() error { close(stop); return <-ended }
	return fmt.Sprintf("127.0.0.1:%d", ours[0].Local), end, nil
}
