#define _GNU_SOURCE
#include "internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
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

// MARK: Calls

int connect_to(int port, uint64_t source) {
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

static bool is_transient(void) { return errno == EAGAIN || errno == EINTR; }

ptrdiff_t receive(int descriptor, uint64_t at, uint64_t limit, bool *ended) {
    // One byte more than is expected would be an error, and shows.
    size_t room = limit < sizeof received ? (size_t)limit + 1 : sizeof received;
    ssize_t count = recv(descriptor, received, room, MSG_DONTWAIT);
    *ended = count == 0;
    if (count < 0) return is_transient() ? 0 : fail(errno, "recv");
    if ((uint64_t)count > limit) {
        return fail(0, "a byte that nobody has sent, behind byte %llu", (unsigned long long)(at + limit));
    }
    if (memcmp(received, stream_bytes(at), (size_t)count) == 0) return count;
    uint64_t wrong = 0;
    while (received[wrong] == stream_bytes(at)[wrong]) wrong++;
    return fail(0, "byte %llu of a stream came back as another", (unsigned long long)(at + wrong));
}

ptrdiff_t transmit(int descriptor, uint64_t at, uint64_t count) {
    uint64_t done = 0;
    while (done < count) {
        size_t piece = count - done < PIECE ? (size_t)(count - done) : PIECE;
        ssize_t sent = send(descriptor, stream_bytes(at + done), piece, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (sent < 0) {
            if (!is_transient()) return fail(errno, "send");
            break;
        }
        done += (uint64_t)sent;
    }
    return (ptrdiff_t)done;
}
