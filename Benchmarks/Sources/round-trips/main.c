// A load whose answers are checked: one connection, one message at a time, the next one only when the last one
// has come back. The server does the same work in each round trip, so two runs of different length tell what
// one costs.
//
//   round-trips PORT COUNT SIZE [CERTIFICATE [full | resumed]]
//
// With a certificate, over TLS. With the last word each message has a connection and a handshake of its own. Exit
// status 1 and a line on stderr when anything differs.

#include "tls-client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

// The whole message is sent before any of it is read: more might find the buffers of both sides full for ever.
enum { LARGEST = 64 * 1024 };

// A server under valgrind is slow, but one that is silent for so long is broken.
enum { PATIENCE_SECONDS = 60 };

static void fail(const char *what) {
    fprintf(stderr, "round-trips: %s\n", what);
    exit(1);
}

static void fail_tls(const char *call) {
    fprintf(stderr, "round-trips: %s: %s\n", call, tls_complaint());
    exit(1);
}

static void fail_call(const char *call) {
    fprintf(stderr, "round-trips: %s: %s\n", call, strerror(errno));
    exit(1);
}

static long number(const char *text, long least, long most) {
    char *end;
    errno = 0;
    long value = strtol(text, &end, 10);
    if (errno != 0 || end == text || *end != '\0' || value < least || value > most) {
        fprintf(stderr, "round-trips: %s is not between %ld and %ld\n", text, least, most);
        exit(64);
    }
    return value;
}

static int connect_to(long port) {
    int descriptor = socket(AF_INET, SOCK_STREAM, 0);
    if (descriptor < 0) fail_call("socket");
    struct timeval patience = {.tv_sec = PATIENCE_SECONDS};
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    if (connect(descriptor, (struct sockaddr *)&address, sizeof address) != 0) fail_call("connect");
    return descriptor;
}

// Another message each time: a server that answers with an old one must not pass (xorshift64, Marsaglia 2003).
static void fill(unsigned char *bytes, size_t size) {
    static uint64_t state = 88172645463325252u;
    for (size_t index = 0; index < size; index++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[index] = (unsigned char)state;
    }
}

// MARK: One connection

// Without `ssl`, in clear.
struct connection {
    int descriptor;
    SSL *ssl;
};

static struct connection connect_over(struct tls_clients *clients, long port, bool resumes) {
    struct connection connection = {.descriptor = connect_to(port)};
    if (clients == NULL) return connection;
    connection.ssl = tls_client_new(clients, connection.descriptor, resumes);
    if (connection.ssl == NULL) fail(resumes ? "the server has given no session" : "no memory for TLS");
    if (SSL_connect(connection.ssl) != 1) fail_tls("SSL_connect");
    if (resumes && !SSL_session_reused(connection.ssl)) fail("the server has not resumed the session");
    return connection;
}

static void send_all(struct connection connection, const unsigned char *bytes, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count;
        if (connection.ssl != NULL) {
            count = SSL_write(connection.ssl, bytes + sent, (int)(size - sent));
            if (count <= 0) fail_tls("SSL_write");
        } else {
            count = send(connection.descriptor, bytes + sent, size - sent, MSG_NOSIGNAL);
            if (count < 0) fail_call("send");
        }
        sent += (size_t)count;
    }
}

static void receive_all(struct connection connection, unsigned char *bytes, size_t size) {
    for (size_t received = 0; received < size;) {
        ssize_t count;
        if (connection.ssl != NULL) {
            count = SSL_read(connection.ssl, bytes + received, (int)(size - received));
            if (count <= 0) fail_tls("SSL_read");
        } else {
            count = recv(connection.descriptor, bytes + received, size - received, 0);
            if (count < 0) fail_call("recv");
            if (count == 0) fail("the server has closed before it had answered");
        }
        received += (size_t)count;
    }
}

static void end(struct connection connection) {
    char byte;
    if (connection.ssl != NULL) {
        // The first call sends close_notify, the second waits for the other one.
        if (SSL_shutdown(connection.ssl) < 0 || SSL_shutdown(connection.ssl) != 1) fail_tls("SSL_shutdown");
        SSL_free(connection.ssl);
    } else if (shutdown(connection.descriptor, SHUT_WR) != 0) {
        fail_call("shutdown");
    }
    ssize_t count = recv(connection.descriptor, &byte, 1, 0);
    if (count < 0) fail_call("recv");
    if (count > 0) fail("bytes behind the last answer");
    close(connection.descriptor);
}

static void echo(struct connection connection, size_t size) {
    static unsigned char message[LARGEST];
    static unsigned char answer[LARGEST];
    fill(message, size);
    send_all(connection, message, size);
    receive_all(connection, answer, size);
    if (memcmp(message, answer, size) != 0) fail("an answer differs from its message");
}

int main(int count, char **arguments) {
    bool is_full = count == 6 && strcmp(arguments[5], "full") == 0;
    bool is_resumed = count == 6 && strcmp(arguments[5], "resumed") == 0;
    if (count < 4 || count > 6 || (count == 6 && !is_full && !is_resumed)) {
        fprintf(stderr, "usage: round-trips PORT COUNT SIZE [CERTIFICATE [full | resumed]]\n");
        return 64;
    }
    long port = number(arguments[1], 1, 65535);
    long rounds = number(arguments[2], 1, 1000000000);
    size_t size = (size_t)number(arguments[3], 1, LARGEST);
    struct tls_clients *clients = NULL;
    if (count > 4) {
        // OpenSSL writes with write(2), which raises it for a server that has gone.
        signal(SIGPIPE, SIG_IGN);
        clients = tls_clients_new(arguments[4]);
        if (clients == NULL) fail_tls(arguments[4]);
    }
    struct connection connection = connect_over(clients, port, false);
    for (long round = 0; round < rounds; round++) {
        echo(connection, size);
        if (!is_full && !is_resumed) continue;
        end(connection);
        connection = connect_over(clients, port, is_resumed);
    }
    end(connection);
    tls_clients_free(clients);
    return 0;
}
