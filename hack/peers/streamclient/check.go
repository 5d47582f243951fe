package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/remotecommand"
	client "k8s.io/client-go/tools/remotecommand"
	"k8s.io/client-go/util/exec"
)

// check runs all checks whose names contain a word over both transports and prints a line for each; the exit code.
func check(p *peer, prefix, only string, size int64) int {
	type one struct {
		name string
		run  func(context.Context, transport) error
	}
	checks := []one{
		{"exec_carries_three_streams_and_the_exit_code", p.threeStreams},
		{"exec_half_closes_stdin", p.halfClose},
		{"exec_says_what_is_wrong", p.unknownProgram},
		{"exec_resizes_its_terminal", p.terminal},
		{"exec_delivers_huge_output", func(ctx context.Context, over transport) error { return p.hugeOutput(ctx, over, size) }},
		{"exec_takes_huge_input", func(ctx context.Context, over transport) error { return p.hugeInput(ctx, over, size/4) }},
		{"exec_waits_for_a_slow_reader", p.slowReader},
		{"forward_carries_both_directions_and_half_closes", p.forwardEcho},
		{"forward_reaches_ipv6", p.forwardV6},
		{"forward_carries_a_thousand_connections", p.forwardThousand},
		{"forward_goes_on_after_a_reset", p.forwardReset},
		{"forward_says_who_refused", p.forwardRefused},
	}
	if p.attached != "" {
		checks = append(checks, one{"attach_can_be_taken_up_again", p.attachTwice})
	}
	if p.kubelet == "" { // a kubelet answers for itself
		checks = append(checks, one{"exec_speaks_older_versions", p.versions})
	}
	code := 0
	for _, over := range []transport{overSPDY, overWebSocket} {
		for _, check := range checks {
			name := fmt.Sprintf("%s::%s_%s", prefix, over, check.name)
			if !strings.Contains(name, only) {
				continue
			}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			if err := check.run(ctx, over); err != nil {
				fmt.Printf("FAIL %s: %v\n", name, strings.ReplaceAll(err.Error(), "\n", " "))
				code = 1
			} else {
				fmt.Printf("PASS %s\n", name)
			}
			cancel()
		}
	}
	return code
}

// shell runs a script; what it printed, and its exit code (-1: none was told).
func (p *peer) shell(ctx context.Context, over transport, script, stdin string, versions ...string) (string, string, int, error) {
	var stdout, stderr bytes.Buffer
	err := p.stream(ctx, over, session{command: []string{"sh", "-c", script}, stdin: strings.NewReader(stdin), stdout: &stdout, stderr: &stderr}, versions...)
	code := 0
	var exit exec.CodeExitError
	if errors.As(err, &exit) {
		code, err = exit.Code, nil
	} else if err != nil {
		code = -1
	}
	return stdout.String(), stderr.String(), code, err
}

func same[T comparable](what string, is, expected T) error {
	if is != expected {
		return fmt.Errorf("%s: %v, expected %v", what, is, expected)
	}
	return nil
}

func (p *peer) threeStreams(ctx context.Context, over transport) error {
	stdout, stderr, code, err := p.shell(ctx, over, "read line; echo out $line; echo err >&2; exit 7", "hello\n")
	return errors.Join(err, same("stdout", stdout, "out hello\n"), same("stderr", stderr, "err\n"), same("exit code", code, 7))
}

func (p *peer) halfClose(ctx context.Context, over transport) error {
	input := strings.Repeat("x", 100_000)
	stdout, _, code, err := p.shell(ctx, over, "wc -c; sleep 0.3; echo after", input)
	return errors.Join(err, same("stdout", stdout, "100000\nafter\n"), same("exit code", code, 0))
}

func (p *peer) unknownProgram(ctx context.Context, over transport) error {
	var stdout bytes.Buffer
	err := p.stream(ctx, over, session{command: []string{"no-such-program"}, stdout: &stdout})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		return fmt.Errorf("said %v, expected the program's name", err)
	}
	return nil
}

// versions: what older clients speak. The first three of SPDY say the exit code as text.
func (p *peer) versions(ctx context.Context, over transport) error {
	old := []string{remotecommand.StreamProtocolV4Name}
	if over == overSPDY {
		old = append(old, remotecommand.StreamProtocolV3Name, remotecommand.StreamProtocolV2Name)
	}
	var wrong []error
	for _, version := range old {
		stdout, _, code, err := p.shell(ctx, over, "echo out; exit 7", "", version)
		if version == remotecommand.StreamProtocolV4Name {
			err = errors.Join(err, same("exit code in "+version, code, 7))
		} else if err != nil && strings.Contains(err.Error(), "exit status 7") {
			err = nil
		}
		wrong = append(wrong, err, same("stdout in "+version, stdout, "out\n"))
	}
	return errors.Join(wrong...)
}

// sizes is a terminal whose size changes when somebody says so.
type sizes chan client.TerminalSize

func (s sizes) Next() *client.TerminalSize {
	size, open := <-s
	if !open {
		return nil
	}
	return &size
}

func (p *peer) terminal(ctx context.Context, over transport) error {
	const script = `until [ "$(stty size 2>/dev/null)" = "40 100" ]; do sleep 0.02; done; echo first; until [ "$(stty size)" = "50 120" ]; do sleep 0.02; done; echo second; test -t 0 && test -t 2`
	queue := make(sizes, 1)
	queue <- client.TerminalSize{Width: 100, Height: 40}
	defer close(queue)
	read, write := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		input, _ := io.Pipe() // nobody types
		ended <- p.stream(ctx, over, session{command: []string{"sh", "-c", script}, stdin: input, stdout: write, sizes: queue})
		write.Close()
	}()
	said := make([]byte, len("first\r\n"))
	if _, err := io.ReadFull(read, said); err != nil {
		return errors.Join(err, <-ended)
	}
	queue <- client.TerminalSize{Width: 120, Height: 50}
	rest, _ := io.ReadAll(read)
	return errors.Join(<-ended, same("said", string(said)+string(rest), "first\r\nsecond\r\n"))
}

func (p *peer) hugeOutput(ctx context.Context, over transport, size int64) error {
	v := new(verifier)
	err := p.stream(ctx, over, session{command: []string{"/streamclient", "gen", fmt.Sprint(size)}, stdout: v})
	return errors.Join(err, v.expect(size))
}

func (p *peer) hugeInput(ctx context.Context, over transport, size int64) error {
	read, write := io.Pipe()
	go func() {
		_ = generate(write, size)
		write.Close()
	}()
	var stdout bytes.Buffer
	err := p.stream(ctx, over, session{command: []string{"/streamclient", "verify", fmt.Sprint(size)}, stdin: read, stdout: &stdout})
	return errors.Join(err, same("said", stdout.String(), "whole\n"))
}

// slow takes its time at the beginning.
type slow struct {
	verifier
	once sync.Once
}

func (s *slow) Write(piece []byte) (int, error) {
	s.once.Do(func() { time.Sleep(time.Second) })
	return s.verifier.Write(piece)
}

func (p *peer) slowReader(ctx context.Context, over transport) error {
	const size = 32 << 20
	var v slow
	err := p.stream(ctx, over, session{command: []string{"/streamclient", "gen", fmt.Sprint(size)}, stdout: &v})
	return errors.Join(err, v.expect(size))
}

// attachTwice: what was attached and left goes on, with its stdin open, and is there for the next.
func (p *peer) attachTwice(ctx context.Context, over transport) error {
	for _, word := range []string{"one", "two"} {
		part, leave := context.WithCancel(ctx)
		read, write := io.Pipe()
		typed, typing := io.Pipe()
		ended := make(chan error, 1)
		go func() {
			err := p.stream(part, over, session{stdin: typed, stdout: write})
			write.CloseWithError(errors.Join(io.EOF, err))
			ended <- err
		}()
		go func() { fmt.Fprintf(typing, "%s-%s\n", over, word) }()
		expected := fmt.Sprintf("got %s-%s\n", over, word)
		said := make([]byte, len(expected))
		_, err := io.ReadFull(read, said)
		leave()
		typing.CloseWithError(context.Canceled)
		go func() { _, _ = io.Copy(io.Discard, read) }()
		<-ended
		if err := errors.Join(err, same("said", string(said), expected)); err != nil {
			return err
		}
	}
	return nil
}
