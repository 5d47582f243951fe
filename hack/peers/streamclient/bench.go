package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// counter only counts: what is measured is the server.
type counter struct{ bytes int64 }

func (c *counter) Write(piece []byte) (int, error) {
	c.bytes += int64(len(piece))
	return len(piece), nil
}

// first remembers when the first byte came.
type first struct {
	once sync.Once
	at   time.Time
}

func (f *first) Write(piece []byte) (int, error) {
	f.once.Do(func() { f.at = time.Now() })
	return len(piece), nil
}

// bench takes each figure so often and prints them as JSON: megabytes a second, and milliseconds.
func bench(p *peer, size int64, rounds int) {
	figures := map[string][]float64{}
	for range rounds {
		for _, over := range []transport{overSPDY, overWebSocket} {
			take := func(name string, with func(context.Context, transport) (float64, error)) {
				ctx, cancel := context.WithTimeout(context.Background(), patience)
				defer cancel()
				figure, err := with(ctx, over)
				name = fmt.Sprintf("%s/%s", name, over)
				if err != nil {
					fmt.Fprintf(os.Stderr, "%s: %v\n", name, err) // a peer may not speak it
					return
				}
				figures[name] = append(figures[name], figure)
			}
			take("exec stdout", func(ctx context.Context, over transport) (float64, error) { return p.stdoutSpeed(ctx, over, size) })
			take("port-forward", func(ctx context.Context, over transport) (float64, error) { return p.forwardSpeed(over, size) })
			take("first byte", p.firstByte)
		}
	}
	_ = json.NewEncoder(os.Stdout).Encode(figures)
}

func speed(bytes int64, began time.Time) float64 {
	return float64(bytes) / 1e6 / time.Since(began).Seconds()
}

func (p *peer) stdoutSpeed(ctx context.Context, over transport, size int64) (float64, error) {
	var all counter
	began := time.Now()
	err := p.stream(ctx, over, session{command: []string{"/streamclient", "gen", fmt.Sprint(size)}, stdout: &all})
	if err == nil {
		err = same("bytes", all.bytes, size)
	}
	return speed(all.bytes, began), err
}

func (p *peer) forwardSpeed(over transport, size int64) (figure float64, err error) {
	err = p.once(over, sends, func(address string) error {
		connection, err := dial(address)
		if err != nil {
			return err
		}
		defer connection.Close()
		var wanted [8]byte
		for place := range wanted {
			wanted[place] = byte(size >> (8 * (7 - place)))
		}
		began := time.Now()
		if _, err := connection.Write(wanted[:]); err != nil {
			return err
		}
		count, err := io.Copy(io.Discard, connection)
		figure = speed(count, began)
		if err != nil {
			return err
		}
		return same("bytes", count, size)
	})
	return figure, err
}

func (p *peer) firstByte(ctx context.Context, over transport) (float64, error) {
	var byte first
	began := time.Now()
	if err := p.stream(ctx, over, session{command: []string{"echo", "x"}, stdout: &byte}); err != nil {
		return 0, err
	}
	return float64(byte.at.Sub(began).Microseconds()) / 1000, nil
}
