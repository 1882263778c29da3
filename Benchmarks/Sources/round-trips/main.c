// A load whose answers are checked: one connection, one message at a time, the next one only when the last one
// has come back. The server does the same work in each round trip, so two runs of different length tell what
// one costs.
//
//   round-trips PORT COUNT SIZE      exit status 1 and a line on stderr when anything differs

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

static void send_all(int descriptor, const unsigned char *bytes, size_t size) {
    for (size_t sent = 0; sent < size;) {
        ssize_t count = send(descriptor, bytes + sent, size - sent, MSG_NOSIGNAL);
        if (count < 0) fail_call("send");
        sent += (size_t)count;
    }
}

static void receive_all(int descriptor, unsigned char *bytes, size_t size) {
    for (size_t received = 0; received < size;) {
        ssize_t count = recv(descriptor, bytes + received, size - received, 0);
        if (count < 0) fail_call("recv");
        if (count == 0) fail("the server has closed before it had answered");
        received += (size_t)count;
    }
}

int main(int count, char **arguments) {
    if (count != 4) {
        fprintf(stderr, "usage: round-trips PORT COUNT SIZE\n");
        return 64;
    }
    long port = number(arguments[1], 1, 65535);
    long rounds = number(arguments[2], 1, 1000000000);
    size_t size = (size_t)number(arguments[3], 1, LARGEST);
    static unsigned char message[LARGEST];
    static unsigned char answer[LARGEST];
    int descriptor = connect_to(port);
    for (long round = 0; round < rounds; round++) {
        fill(message, size);
        send_all(descriptor, message, size);
        receive_all(descriptor, answer, size);
        if (memcmp(message, answer, size) != 0) fail("an answer differs from its message");
    }
    if (shutdown(descriptor, SHUT_WR) != 0) fail_call("shutdown");
    ssize_t end = recv(descriptor, answer, sizeof answer, 0);
    if (end < 0) fail_call("recv");
    if (end > 0) fail("bytes behind the last answer");
    close(descriptor);
    return 0;
}
