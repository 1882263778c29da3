#define _GNU_SOURCE
#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum {
    // An address has 28,000 ports for connections (ip_local_port_range), which stay taken for a minute.
    CONNECTIONS_PER_ADDRESS = 20000,
    ADDRESSES = 250,
};

static char message[512];
static double patience_seconds = 20;

const char *load_error(void) { return message; }
void load_set_patience(double seconds) { patience_seconds = seconds; }
double patience(void) { return patience_seconds; }

int fail(int error, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    size_t length = strlen(message);
    if (error != 0) snprintf(message + length, sizeof message - length, ": %s", strerror(error));
    return -1;
}

double seconds_now(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

// MARK: The bytes

static unsigned char bytes[PERIOD + PIECE];
static unsigned char received[PIECE];

// Any bytes but for the ends of the lines, so that a wrong one is seen (xorshift64, Marsaglia 2003).
__attribute__((constructor))
static void fill(void) {
    uint64_t state = 88172645463325252u;
    for (size_t index = 0; index < PERIOD; index++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        unsigned char byte = (unsigned char)(state >> 32);
        bytes[index] = index % LINE == LINE - 1 ? '\n' : byte == '\n' ? ' ' : byte;
    }
    for (size_t index = PERIOD; index < sizeof bytes; index++) bytes[index] = bytes[index - PERIOD];
}

const unsigned char *stream_bytes(uint64_t at) { return bytes + at % PERIOD; }

// MARK: Opening and closing

static int connect_to(int port, uint64_t source) {
    int descriptor = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (descriptor < 0) return fail(errno, "socket");
    int on = 1;
    struct timeval limit = {.tv_sec = (time_t)patience_seconds + 1};
    setsockopt(descriptor, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    setsockopt(descriptor, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    uint32_t host = (uint32_t)(source / CONNECTIONS_PER_ADDRESS % ADDRESSES) << 8;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + host)};
    const char *call = "bind";
    int result = bind(descriptor, (struct sockaddr *)&address, sizeof address);
    if (result == 0) {
        address.sin_port = htons((uint16_t)port);
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        call = "connect";
        result = connect(descriptor, (struct sockaddr *)&address, sizeof address);
    }
    if (result == 0) return descriptor;
    fail(errno, "%s, connection %llu", call, (unsigned long long)source + 1);
    close(descriptor);
    return -1;
}

bool make_clients(const char *certificate, struct tls_clients **clients) {
    *clients = NULL;
    if (certificate == NULL) return true;
    *clients = tls_clients_new(certificate);
    if (*clients == NULL) fail(0, "%s: %s", certificate, tls_complaint());
    return *clients != NULL;
}

int stream_open(struct stream *stream, int port, uint64_t source, struct tls_clients *clients, bool resumes) {
    *stream = no_stream;
    stream->descriptor = connect_to(port, source);
    if (stream->descriptor < 0) return -1;
    if (clients == NULL || tls_begin(stream, clients, resumes) == 0) return 0;
    stream_close(stream);
    return -1;
}

int stream_handshake(struct stream *stream) { return stream->ssl != NULL ? tls_handshake(stream) : 1; }

int stream_end(struct stream *stream) {
    if (stream->ssl != NULL) return tls_end(stream);
    return shutdown(stream->descriptor, SHUT_WR) == 0 ? 0 : fail(errno, "shutdown");
}

void stream_close(struct stream *stream) {
    SSL_free(stream->ssl);
    if (stream->descriptor >= 0) close(stream->descriptor);
    *stream = no_stream;
}

// MARK: Calls

bool is_transient(void) { return errno == EAGAIN || errno == EINTR; }

int stream_await(struct stream *stream, const char *what) {
    for (;;) {
        struct pollfd readable = {.fd = stream->descriptor, .events = POLLIN};
        int ready = poll(&readable, 1, (int)(patience() * 1000));
        if (ready > 0) return 0;
        if (ready == 0) return fail(0, "%s has not come within %g seconds", what, patience());
        if (errno != EINTR) return fail(errno, "poll");
    }
}

static ptrdiff_t receive_in_clear(struct stream *stream, size_t room, bool *ended) {
    ssize_t count = recv(stream->descriptor, received, room, MSG_DONTWAIT);
    *ended = count == 0;
    if (count >= 0) return count;
    return is_transient() ? 0 : fail(errno, "recv");
}

ptrdiff_t receive(struct stream *stream, uint64_t at, uint64_t limit, bool *ended) {
    // One byte more than is expected would be an error, and shows.
    size_t room = limit < sizeof received ? (size_t)limit + 1 : sizeof received;
    ptrdiff_t count = stream->ssl != NULL
        ? tls_receive(stream, received, room, ended) : receive_in_clear(stream, room, ended);
    if (count < 0) return -1;
    if ((uint64_t)count > limit) {
        return fail(0, "a byte that nobody has sent, behind byte %llu", (unsigned long long)(at + limit));
    }
    if (memcmp(received, stream_bytes(at), (size_t)count) == 0) return count;
    uint64_t wrong = 0;
    while (received[wrong] == stream_bytes(at)[wrong]) wrong++;
    return fail(0, "byte %llu of a stream came back as another", (unsigned long long)(at + wrong));
}

static ptrdiff_t transmit_in_clear(struct stream *stream, const unsigned char *piece, size_t size) {
    ssize_t sent = send(stream->descriptor, piece, size, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (sent >= 0) return sent;
    return is_transient() ? 0 : fail(errno, "send");
}

ptrdiff_t transmit(struct stream *stream, uint64_t at, uint64_t count) {
    uint64_t done = 0;
    while (done < count) {
        size_t size = count - done < PIECE ? (size_t)(count - done) : PIECE;
        const unsigned char *piece = stream_bytes(at + done);
        ptrdiff_t sent = stream->ssl != NULL
            ? tls_transmit(stream, piece, size) : transmit_in_clear(stream, piece, size);
        if (sent < 0) return -1;
        if (sent == 0) break;
        done += (uint64_t)sent;
    }
    return (ptrdiff_t)done;
}
