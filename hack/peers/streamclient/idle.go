package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/apimachinery/pkg/util/httpstream/spdy"
	"k8s.io/client-go/tools/remotecommand"
)

// An hour of client-go's pings: one every five seconds.
const hourOfPings = 720

// idle keeps a session of each transport open in which nothing happens but pings, then uses it: client-go's, every 5 s for so long,
// or with a lapse as many as an hour has.
func idle(p *peer, prefix string, long, lapse time.Duration) int {
	name := prefix + "::an_idle_session_stays"
	sessions := map[transport]func() error{
		overSPDY:      func() error { return p.waitThenTalk(overSPDY, long) },
		overWebSocket: func() error { return p.waitThenTalk(overWebSocket, long) },
	}
	if lapse > 0 {
		name = prefix + "::an_hour_of_pings_keeps_an_idle_session"
		sessions[overSPDY] = func() error { return p.lapseSPDY(lapse) }
		sessions[overWebSocket] = func() error { return p.lapseWebSocket(lapse) }
	}
	results := make(chan error)
	for over, session := range sessions {
		go func() {
			if err := session(); err != nil {
				results <- fmt.Errorf("%s: %w", over, err)
			} else {
				results <- nil
			}
		}()
	}
	var wrong error
	for range sessions {
		wrong = errors.Join(wrong, <-results)
	}
	if wrong != nil {
		fmt.Printf("FAIL %s: %v\n", name, wrong)
		return 1
	}
	fmt.Printf("PASS %s\n", name)
	return 0
}

func (p *peer) waitThenTalk(over transport, long time.Duration) error {
	return talkAfter(long, func(ctx context.Context, s session) error { return p.stream(ctx, over, s) })
}

// talkAfter opens a session of `cat`, leaves it alone for so long, then says a word and wants it back.
func talkAfter(long time.Duration, stream func(context.Context, session) error) error {
	ctx, cancel := context.WithTimeout(context.Background(), long+patience)
	defer cancel()
	read, write := io.Pipe()
	typed, typing := io.Pipe()
	ended := make(chan error, 1)
	go func() {
		err := stream(ctx, session{command: []string{"cat"}, stdin: typed, stdout: write})
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

// lapseSPDY is client-go's own session with another period of pings.
func (p *peer) lapseSPDY(lapse time.Duration) error {
	return talkAfter(hourOfPings*lapse, func(ctx context.Context, s session) error {
		address, err := p.remote(s)
		if err != nil {
			return err
		}
		config := spdy.RoundTripperConfig{TLS: &tls.Config{InsecureSkipVerify: true}, PingPeriod: lapse}
		pinging, err := spdy.NewRoundTripperWithConfig(config)
		if err != nil {
			return err
		}
		executor, err := remotecommand.NewSPDYExecutorForTransports(pinging, pinging, "POST", address)
		if err != nil {
			return err
		}
		return executor.StreamWithContext(ctx, remotecommand.StreamOptions{Stdin: s.stdin, Stdout: s.stdout})
	})
}

// lapseWebSocket counts that each ping has its pong; client-go's period can't be set.
func (p *peer) lapseWebSocket(lapse time.Duration) error {
	address, err := p.remote(session{command: []string{"cat"}, stdin: http.NoBody, stdout: io.Discard})
	if err != nil {
		return err
	}
	connection, err := webSocket(address)
	if err != nil {
		return err
	}
	defer connection.Close()
	pongs, said := 0, ""
	connection.SetPongHandler(func(string) error { pongs++; return nil })
	failed := make(chan error, 1)
	go func() { failed <- pingThenTalk(connection, lapse) }()
	_ = connection.SetReadDeadline(time.Now().Add(hourOfPings*lapse + patience))
	for said != "hello\n" {
		_, message, err := connection.ReadMessage()
		if err != nil {
			return err
		}
		if len(message) > 0 && message[0] == 1 { // stdout
			said += string(message[1:])
		}
	}
	return errors.Join(<-failed, same("pongs", pongs, hourOfPings))
}

func webSocket(address *url.URL) (*websocket.Conn, error) {
	scheme := map[string]string{"http": "ws", "https": "wss"}
	there := *address
	there.Scheme = scheme[address.Scheme]
	dialer := websocket.Dialer{Subprotocols: []string{"v5.channel.k8s.io"}, TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	connection, answer, err := dialer.Dial(there.String(), nil)
	if answer != nil && answer.Body != nil {
		answer.Body.Close()
	}
	return connection, err
}

func pingThenTalk(connection *websocket.Conn, lapse time.Duration) error {
	for range hourOfPings {
		if err := connection.WriteControl(websocket.PingMessage, nil, time.Now().Add(patience)); err != nil {
			return err
		}
		time.Sleep(lapse)
	}
	return connection.WriteMessage(websocket.BinaryMessage, []byte("\x00hello\n"))
}
