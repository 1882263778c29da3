// A peer to compare with: the same servers in Go, with one goroutine for each connection, on one processor unless told.
//
//	main [echo | lines | fan-out] [GOMAXPROCS]     on 127.0.0.1, on a free port; SIGTERM ends it with status 0
//	main tls CERTIFICATE KEY          the echo over crypto/tls
package main

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime"
	"strconv"
	"sync"
	"syscall"
)

// What Go's own io.Copy takes.
const bufferSize = 32 * 1024

func echo(connection net.Conn) {
	defer connection.Close()
	// Not io.Copy: on Linux it would splice, and no byte would come into the program.
	buffer := make([]byte, bufferSize)
	for {
		count, err := connection.Read(buffer)
		if count > 0 {
			if _, failed := connection.Write(buffer[:count]); failed != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// One write for each line; they leave together when no more has been received.
func lines(connection net.Conn) {
	defer connection.Close()
	reader := bufio.NewReaderSize(connection, bufferSize)
	writer := bufio.NewWriterSize(connection, bufferSize)
	for {
		line, err := reader.ReadSlice('\n')
		if _, failed := writer.Write(line); failed != nil {
			return
		}
		if reader.Buffered() == 0 || err != nil {
			if writer.Flush() != nil {
				return
			}
		}
		if err != nil && err != bufio.ErrBufferFull {
			return
		}
	}
}

var (
	lock    sync.Mutex
	members = map[net.Conn]chan []byte{}
)

// Messages that may wait for one who does not read, before the others wait with it.
const queueLength = 64

// A member from here on, in the order of accepting. Each has a goroutine that sends, so that nobody waits for a slow
// one at once.
func join(connection net.Conn) {
	queue := make(chan []byte, queueLength)
	lock.Lock()
	members[connection] = queue
	lock.Unlock()
	go func() {
		for message := range queue {
			connection.Write(message)
		}
		connection.Close()
	}()
	go fanOut(connection, queue)
}

// The slice is the same one for all.
func fanOut(connection net.Conn, queue chan []byte) {
	buffer := make([]byte, bufferSize)
	for {
		count, err := connection.Read(buffer)
		if count > 0 {
			message := append([]byte(nil), buffer[:count]...)
			lock.Lock()
			for _, queue := range members {
				queue <- message
			}
			lock.Unlock()
		}
		if err != nil {
			break
		}
	}
	lock.Lock()
	delete(members, connection)
	close(queue)
	lock.Unlock()
}

// Accepted connections shake hands at their first read, each in its own goroutine.
func listen(mode string) (net.Listener, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil || mode != "tls" {
		return listener, err
	}
	if len(os.Args) != 4 {
		return nil, errors.New("usage: main tls CERTIFICATE KEY")
	}
	certificate, err := tls.LoadX509KeyPair(os.Args[2], os.Args[3])
	return tls.NewListener(listener, &tls.Config{Certificates: []tls.Certificate{certificate}}), err
}

func main() {
	runtime.GOMAXPROCS(1)
	if len(os.Args) == 3 {
		processors, err := strconv.Atoi(os.Args[2])
		if err != nil || processors < 1 {
			fmt.Fprintln(os.Stderr, "no number of processors:", os.Args[2])
			os.Exit(64)
		}
		runtime.GOMAXPROCS(processors)
	}
	mode := "echo"
	if len(os.Args) > 1 {
		mode = os.Args[1]
	}
	handle := map[string]func(net.Conn){
		"echo":    func(connection net.Conn) { go echo(connection) },
		"lines":   func(connection net.Conn) { go lines(connection) },
		"fan-out": join,
		"tls":     func(connection net.Conn) { go echo(connection) },
	}[mode]
	listener, err := listen(mode)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	go func() {
		<-signals
		os.Exit(0)
	}()
	fmt.Println("Listening on port", listener.Addr().(*net.TCPAddr).Port)
	for {
		connection, err := listener.Accept()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		handle(connection)
	}
}
