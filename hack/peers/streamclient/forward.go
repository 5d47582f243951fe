package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	core "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/httpstream"
	"k8s.io/client-go/tools/portforward"
)

// dial a forwarded port: the half of a connection that is closed alone, and no wait for ever.
func dial(address string) (*net.TCPConn, error) {
	connection, err := net.DialTimeout("tcp", address, patience)
	if err != nil {
		return nil, err
	}
	_ = connection.SetDeadline(time.Now().Add(patience))
	return connection.(*net.TCPConn), nil
}

// said: everything that comes back for what is sent, after its end.
func said(address, word string) (string, error) {
	connection, err := dial(address)
	if err != nil {
		return "", err
	}
	defer connection.Close()
	if _, err := io.WriteString(connection, word); err != nil {
		return "", err
	}
	if err := connection.CloseWrite(); err != nil {
		return "", err
	}
	answer, err := io.ReadAll(connection)
	return string(answer), err
}

// once forwards a port for the time of a few connections.
func (p *peer) once(over transport, port int, with func(address string) error) error {
	address, end, err := p.forward(over, port)
	if err != nil {
		return err
	}
	err = with(address)
	if ended := end(); ended != nil {
		err = errors.Join(err, fmt.Errorf("the session: %w", ended))
	}
	return err
}

func (p *peer) forwardEcho(_ context.Context, over transport) error {
	return errors.Join(p.once(over, takes, func(address string) error {
		answer, err := said(address, strings.Repeat("x", 3_000_000))
		return errors.Join(err, same("said", answer, "3000000 bytes"))
	}), p.once(over, sends, func(address string) error { return download(address, 64<<20) }))
}

// download asks the pod for so many bytes and looks at each.
func download(address string, size int64) error {
	connection, err := dial(address)
	if err != nil {
		return err
	}
	defer connection.Close()
	if _, err := connection.Write(binary.BigEndian.AppendUint64(nil, uint64(size))); err != nil {
		return err
	}
	return verify(connection, size)
}

func (p *peer) forwardV6(_ context.Context, over transport) error {
	return p.once(over, echoesV6, func(address string) error {
		answer, err := said(address, "six")
		return errors.Join(err, same("said", answer, "six"))
	})
}

// All are open at the same time; each is told its own number.
func (p *peer) forwardThousand(_ context.Context, over transport) error {
	const count = 1000
	return p.once(over, echoes, func(address string) error {
		var all sync.WaitGroup
		opened := make(chan struct{}, count)
		talk := make(chan struct{})
		wrong := make([]error, count)
		for number := range count {
			all.Go(func() { wrong[number] = one(address, number, opened, talk) })
		}
		for range count {
			select {
			case <-opened:
			case <-time.After(patience):
				return fmt.Errorf("%d connections are not open after %v", count, patience)
			}
		}
		close(talk)
		all.Wait()
		return errors.Join(wrong...)
	})
}

func one(address string, number int, opened chan<- struct{}, talk <-chan struct{}) error {
	var first [1]byte
	connection, err := dial(address)
	if err == nil {
		defer connection.Close()
		_, err = connection.Write([]byte{'!'})
	}
	if err == nil {
		_, err = io.ReadFull(connection, first[:]) // so that it is open up to the pod
	}
	opened <- struct{}{}
	if err != nil {
		return err
	}
	<-talk
	word := fmt.Sprintf("connection %d", number)
	if _, err := io.WriteString(connection, word); err != nil {
		return err
	}
	_ = connection.CloseWrite()
	answer, err := io.ReadAll(connection)
	return errors.Join(err, same("said", string(answer), word))
}

func (p *peer) forwardReset(_ context.Context, over transport) error {
	return p.once(over, resets, func(address string) error {
		for range 3 {
			connection, err := dial(address)
			if err != nil {
				return fmt.Errorf("the session is over: %w", err)
			}
			_, _ = connection.Write([]byte{'!'})
			if rest, _ := io.ReadAll(connection); len(rest) > 0 {
				return fmt.Errorf("%d bytes from one that resets", len(rest))
			}
			connection.Close()
		}
		time.Sleep(50 * time.Millisecond) // for the client to end the session, if it does
		last, err := dial(address)
		if err != nil {
			return fmt.Errorf("the session is over: %w", err)
		}
		return last.Close()
	})
}

// client-go's forwarder ends its session when it is told of an error. The session itself goes on: so without the forwarder.
func (p *peer) forwardRefused(_ context.Context, over transport) error {
	const nobody = 7999
	dialer, err := p.dialer(over, nobody)
	if err != nil {
		return err
	}
	connection, _, err := dialer.Dial(portforward.PortForwardProtocolV1Name)
	if err != nil {
		return err
	}
	defer connection.Close()
	told, answer, err := pair(connection, nobody, 0)
	if err != nil || !strings.Contains(told, fmt.Sprint(nobody)) || answer != "" {
		return errors.Join(err, fmt.Errorf("told %q and answered %q, where nobody listens", told, answer))
	}
	told, answer, err = pair(connection, echoes, 1)
	return errors.Join(err, same("told", told, ""), same("answered", answer, "!"))
}

// pair is one connection: says a word, and gives all that came on its two streams.
func pair(connection httpstream.Connection, port, request int) (string, string, error) {
	headers := http.Header{}
	headers.Set(core.PortHeader, fmt.Sprint(port))
	headers.Set(core.PortForwardRequestIDHeader, fmt.Sprint(request))
	var streams [2]httpstream.Stream
	for place, kind := range []string{core.StreamTypeError, core.StreamTypeData} {
		headers.Set(core.StreamType, kind)
		stream, err := connection.CreateStream(headers)
		if err != nil {
			return "", "", err
		}
		streams[place] = stream
	}
	_ = streams[0].Close()
	_, _ = streams[1].Write([]byte{'!'}) // one that was reset takes nothing
	_ = streams[1].Close()
	told, err := io.ReadAll(streams[0])
	answer, failed := io.ReadAll(streams[1])
	return string(told), string(answer), errors.Join(err, failed)
}
