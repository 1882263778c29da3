#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

// The most of a message that may be on its way in a fan-out, where nobody watches for room: far below any buffer.
enum { LARGEST_FAN_OUT = 16 * 1024 };

struct connection {
    struct stream stream;
    bool wants_room;
    // Positions in its stream: how far it was sent, may be sent, and came back.
    uint64_t sent;
    uint64_t target;
    uint64_t received;
    // Where the message ends that is under way.
    uint64_t answered;
};

struct load {
    int port;
    // NULL in clear.
    struct tls_clients *clients;
    int epoll;
    int count;
    struct connection *connections;
};

// MARK: Opening

static struct connection *entry(struct load *load, int index) { return &load->connections[index]; }

// A connection by its index, since the array moves when it grows.
static int watch(struct load *load, int index, int how) {
    struct connection *connection = entry(load, index);
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    if (connection->wants_room) event.events |= EPOLLOUT;
    if (epoll_ctl(load->epoll, how, connection->stream.descriptor, &event) != 0) return fail(errno, "epoll_ctl");
    return 0;
}

struct load *load_open(int port, int connections, const char *certificate) {
    struct load *load = calloc(1, sizeof *load);
    if (load == NULL) abort();
    load->port = port;
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (load->epoll < 0) fail(errno, "epoll_create1");
    if (load->epoll < 0 || !make_clients(certificate, &load->clients) || load_add(load, connections) != 0) {
        load_abandon(load);
        return NULL;
    }
    return load;
}

// Connects, and waits for the end of the handshake.
static int connect_now(struct load *load, struct stream *stream) {
    if (stream_open(stream, load->port, (uint64_t)load->count, load->clients, false) != 0) return -1;
    for (;;) {
        int done = stream_handshake(stream);
        if (done > 0) return 0;
        if (done < 0 || stream_await(stream, "the server's part of the handshake") != 0) break;
    }
    stream_close(stream);
    return -1;
}

int load_add(struct load *load, int connections) {
    size_t size = sizeof *load->connections * (size_t)(load->count + connections);
    struct connection *grown = realloc(load->connections, size);
    if (grown == NULL && size > 0) abort();
    load->connections = grown;
    for (int added = 0; added < connections; added++) {
        struct stream stream;
        if (connect_now(load, &stream) != 0) return -1;
        // Each begins elsewhere, so that another one's bytes do not pass for its own.
        uint64_t start = (uint64_t)load->count * 7 * LINE;
        load->connections[load->count] = (struct connection){
            .stream = stream, .sent = start, .target = start, .received = start, .answered = start};
        load->count++;
        if (watch(load, load->count - 1, EPOLL_CTL_ADD) != 0) return -1;
    }
    return 0;
}

// MARK: Closing

void load_abandon(struct load *load) {
    for (int index = 0; index < load->count; index++) stream_close(&entry(load, index)->stream);
    if (load->epoll >= 0) close(load->epoll);
    tls_clients_free(load->clients);
    free(load->connections);
    free(load);
}

static int await_end(struct connection *connection) {
    bool ended = false;
    while (!ended) {
        if (stream_await(&connection->stream, "the server's end of a stream") != 0) return -1;
        if (receive(&connection->stream, connection->received, 0, &ended) < 0) return -1;
    }
    return 0;
}

int load_close(struct load *load) {
    int result = 0;
    for (int index = 0; index < load->count && result == 0; index++) {
        result = stream_end(&entry(load, index)->stream);
    }
    for (int index = 0; index < load->count && result == 0; index++) result = await_end(entry(load, index));
    load_abandon(load);
    return result;
}

// MARK: Moving bytes

// Sends towards the target, and watches for room if there is none.
static int push(struct load *load, int index) {
    struct connection *connection = entry(load, index);
    ptrdiff_t sent = transmit(&connection->stream, connection->sent, connection->target - connection->sent);
    if (sent < 0) return -1;
    connection->sent += (uint64_t)sent;
    bool wants_room = connection->sent < connection->target;
    if (wants_room == connection->wants_room) return 0;
    connection->wants_room = wants_room;
    return watch(load, index, EPOLL_CTL_MOD);
}

static int pull(struct connection *connection, uint64_t limit) {
    bool ended;
    ptrdiff_t count = receive(&connection->stream, connection->received, limit - connection->received, &ended);
    if (count < 0) return -1;
    if (ended) {
        return fail(
            0, "the server has closed with %llu bytes to come", (unsigned long long)(limit - connection->received));
    }
    connection->received += (uint64_t)count;
    return 0;
}

// Waits for events; how many there are, or -1 when none came for too long since `*progress`.
static int await_events(struct load *load, struct epoll_event *events, int milliseconds, double *progress) {
    int count = epoll_wait(load->epoll, events, EVENTS, milliseconds);
    if (count < 0 && errno != EINTR) return fail(errno, "epoll_wait");
    if (count > 0) {
        *progress = seconds_now();
    } else if (seconds_now() - *progress > patience()) {
        return fail(0, "bytes have not come back within %g seconds", patience());
    }
    return count < 0 ? 0 : count;
}

// MARK: Closed loop

int load_echo(struct load *load, int connections, uint64_t size, double seconds, uint64_t *messages) {
    struct epoll_event events[EVENTS];
    double progress = seconds_now(), end = progress + seconds;
    int under_way = 0;
    *messages = 0;
    for (int index = 0; index < connections; index++, under_way++) {
        entry(load, index)->target += size;
        if (push(load, index) != 0) return -1;
    }
    while (under_way > 0) {
        int count = await_events(load, events, 1000, &progress);
        if (count < 0) return -1;
        bool is_over = progress >= end;
        for (int event = 0; event < count; event++) {
            int index = (int)events[event].data.u32;
            struct connection *connection = entry(load, index);
            if (connection->wants_room && push(load, index) != 0) return -1;
            if ((events[event].events & ~(uint32_t)EPOLLOUT) == 0) continue;
            if (pull(connection, connection->sent) != 0) return -1;
            if (connection->received < connection->target) continue;
            ++*messages;
            if (is_over) {
                under_way--;
            } else {
                connection->target += size;
                if (push(load, index) != 0) return -1;
            }
        }
    }
    return 0;
}

// MARK: Open loop

// A message's latency counts from when it was to be sent, so that the wait for a slow server is in it.
struct schedule {
    double start;
    double interval;
    uint64_t messages;
    uint64_t sent;
    uint64_t answered;
};

static int send_what_is_due(struct load *load, struct schedule *schedule, uint64_t size) {
    double now = seconds_now();
    while (schedule->sent < schedule->messages && schedule->start + (double)schedule->sent * schedule->interval <= now) {
        int index = (int)(schedule->sent % (uint64_t)load->count);
        entry(load, index)->target += size;
        if (push(load, index) != 0) return -1;
        schedule->sent++;
    }
    return 0;
}

int load_echo_at_rate(
    struct load *load, uint64_t size, double messages_per_second, uint64_t messages, int64_t *latencies
) {
    struct epoll_event events[EVENTS];
    struct schedule schedule = {.start = seconds_now(), .interval = 1 / messages_per_second, .messages = messages};
    double progress = schedule.start;
    // The message of each connection that is next to come back.
    uint64_t *next = calloc((size_t)load->count, sizeof *next);
    if (next == NULL) abort();
    for (int index = 0; index < load->count; index++) {
        next[index] = (uint64_t)index;
        entry(load, index)->answered = entry(load, index)->received;
    }
    int result = 0;
    while (result == 0 && schedule.answered < messages) {
        result = send_what_is_due(load, &schedule, size);
        // Without sleep: to be woken costs more than a message.
        int count = result == 0 ? await_events(load, events, 0, &progress) : -1;
        if (count < 0) result = -1;
        for (int event = 0; event < count && result == 0; event++) {
            int index = (int)events[event].data.u32;
            struct connection *connection = entry(load, index);
            if (connection->wants_room) result = push(load, index);
            if (result == 0) result = pull(connection, connection->sent);
            double now = seconds_now();
            while (connection->received - connection->answered >= size) {
                connection->answered += size;
                double intended = schedule.start + (double)next[index] * schedule.interval;
                latencies[schedule.answered++] = (int64_t)((now - intended) * 1e9);
                next[index] += (uint64_t)load->count;
            }
        }
    }
    free(next);
    return result;
}

// MARK: Fan-out

int load_fan_out(struct load *load, uint64_t size, double seconds, uint64_t *messages) {
    struct epoll_event events[EVENTS];
    double progress = seconds_now(), end = progress + seconds;
    struct connection *publisher = entry(load, 0);
    if (size > LARGEST_FAN_OUT) return fail(0, "a message of a fan-out has at most %d bytes", LARGEST_FAN_OUT);
    // All get the publisher's stream.
    for (int index = 0; index < load->count; index++) entry(load, index)->received = publisher->received;
    for (*messages = 0; *messages == 0 || progress < end; ++*messages) {
        publisher->target += size;
        if (push(load, 0) != 0) return -1;
        for (int left = load->count; left > 0;) {
            int count = await_events(load, events, 1000, &progress);
            if (count < 0) return -1;
            for (int event = 0; event < count; event++) {
                struct connection *connection = entry(load, (int)events[event].data.u32);
                if (pull(connection, publisher->target) != 0) return -1;
                if (connection->received == publisher->target) left--;
            }
        }
    }
    return 0;
}
