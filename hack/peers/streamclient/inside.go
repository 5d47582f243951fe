package main

// The other end, inside the container.

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"time"
)

// What each port does with a connection.
const (
	echoes   = 7001 // sends back what comes, half-closes after its end
	sends    = 7002 // reads eight bytes, a number, and sends that many
	resets   = 7003 // reads a byte, then resets
	takes    = 7004 // reads to the end, then says how much it was
	echoesV6 = 7005 // as echoes, on ::1 alone
)

// What serve --use uses, so that a summary can be held against it.
const (
	usedMemory = 32 << 20
	usedDisk   = 8 << 20
	usedCPU    = 500 * time.Millisecond
)

// use takes memory, disk and CPU; what it gives back has to be kept for the memory to be in use.
func use() []byte {
	memory := make([]byte, usedMemory)
	for began := time.Now(); time.Since(began) < usedCPU; {
		fill(memory, 0)
	}
	if err := os.WriteFile("/used", memory[:usedDisk], 0o644); err != nil {
		fatal("%v", err)
	}
	return memory
}

func serve(arguments []string) {
	if len(arguments) == 1 && arguments[0] == "--use" {
		defer runtime.KeepAlive(use())
	}
	listen("tcp4", "127.0.0.1", sends, func(connection *net.TCPConn) {
		var wanted [8]byte
		if _, err := io.ReadFull(connection, wanted[:]); err == nil {
			_ = generate(connection, int64(binary.BigEndian.Uint64(wanted[:])))
		}
	})
	listen("tcp4", "127.0.0.1", resets, func(connection *net.TCPConn) {
		_, _ = connection.Read(make([]byte, 1))
		_ = connection.SetLinger(0)
	})
	listen("tcp4", "127.0.0.1", takes, func(connection *net.TCPConn) {
		count, _ := io.Copy(io.Discard, connection)
		fmt.Fprintf(connection, "%d bytes", count)
	})
	echo := func(connection *net.TCPConn) {
		_, _ = io.Copy(connection, connection)
		_ = connection.CloseWrite()
	}
	listen("tcp4", "127.0.0.1", echoes, echo)
	listen("tcp6", "[::1]", echoesV6, echo)
	fmt.Println("serving")
	select {}
}

func listen(network, address string, port int, with func(*net.TCPConn)) {
	listener, err := net.Listen(network, fmt.Sprintf("%s:%d", address, port))
	if err != nil {
		fatal("%v", err)
	}
	go func() {
		for {
			connection, err := listener.Accept()
			if err != nil {
				fatal("accept: %v", err)
			}
			go func() {
				defer connection.Close()
				with(connection.(*net.TCPConn))
			}()
		}
	}()
}

// Bytes that are nowhere the same: the position, every eight bytes.
const block = 64 << 10

func fill(piece []byte, at int64) {
	for place := 0; place+8 <= len(piece); place += 8 {
		binary.LittleEndian.PutUint64(piece[place:], uint64(at)+uint64(place))
	}
}

func generate(to io.Writer, bytes int64) error {
	piece := make([]byte, block)
	for at := int64(0); at < bytes; at += block {
		fill(piece, at)
		if _, err := to.Write(piece[:min(block, bytes-at)]); err != nil {
			return err
		}
	}
	return nil
}

// verifier takes what generate makes, in pieces of any size; its zero value expects the beginning.
type verifier struct {
	at    int64
	whole [block]byte
	of    int64
}

func (v *verifier) Write(piece []byte) (int, error) {
	written := len(piece)
	for len(piece) > 0 {
		start := v.at / block * block
		if v.of != start || v.at == 0 {
			fill(v.whole[:], start)
			v.of = start
		}
		expected := v.whole[v.at-start:]
		count := min(len(piece), len(expected))
		if !bytes.Equal(piece[:count], expected[:count]) {
			return 0, fmt.Errorf("other bytes than were sent, near %d", v.at)
		}
		v.at += int64(count)
		piece = piece[count:]
	}
	return written, nil
}

func verify(from io.Reader, bytes int64) error {
	v := new(verifier)
	if _, err := io.Copy(v, from); err != nil {
		return err
	}
	return v.expect(bytes)
}

func (v *verifier) expect(bytes int64) error {
	if v.at != bytes {
		return fmt.Errorf("%d bytes of %d", v.at, bytes)
	}
	return nil
}
