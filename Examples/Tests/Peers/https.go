// Go's client of HTTPS: https ROOTS PORT VERSION
//
// Asks twice, the second time with the session of the first, and tells one line for each: the version, the protocol of
// ALPN, whether the session was resumed, and the answer.
package main

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
)

func main() {
	pem, err := os.ReadFile(os.Args[1])
	check(err)
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(pem)
	version := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}[os.Args[3]]
	client := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig: &tls.Config{
			RootCAs: roots, MinVersion: version, MaxVersion: version, NextProtos: []string{"http/1.1"},
			ClientSessionCache: tls.NewLRUClientSessionCache(10),
		},
	}}
	for i := 0; i < 2; i++ {
		answer, err := client.Get("https://localhost:" + os.Args[2] + "/")
		check(err)
		body, err := io.ReadAll(answer.Body)
		check(err)
		answer.Body.Close()
		resumed := map[bool]string{true: "resumed", false: "new"}[answer.TLS.DidResume]
		fmt.Println("TLSv"+os.Args[3], answer.TLS.NegotiatedProtocol, resumed, strings.TrimSpace(string(body)))
	}
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
