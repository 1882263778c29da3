#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

// A place that one connection after the other takes.
struct slot {
    struct stream stream;
    // The handshake is over, and the message sent.
    bool has_sent;
    uint64_t start;
    uint64_t received;
};

struct churn {
    int port;
    int epoll;
    uint64_t size;
    // NULL in clear.
    struct tls_clients *clients;
    bool resumes;
    struct slot *slots;
};

// Counts on from one call to the next: their ports stay taken for a minute.
static uint64_t connected;

// Goes on with the handshake, and sends the message when it is over.
static int greet(struct churn *churn, struct slot *slot) {
    int done = stream_handshake(&slot->stream);
    if (done <= 0) return done;
    ptrdiff_t sent = transmit(&slot->stream, slot->start, churn->size);
    if (sent < 0) return -1;
    slot->has_sent = true;
    return (uint64_t)sent == churn->size ? 0 : fail(0, "no room for one small message");
}

static int begin(struct churn *churn, int index) {
    struct slot *slot = &churn->slots[index];
    slot->start = connected * LINE;
    slot->received = 0;
    slot->has_sent = false;
    if (stream_open(&slot->stream, churn->port, connected++, churn->clients, churn->resumes) != 0) return -1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    if (epoll_ctl(churn->epoll, EPOLL_CTL_ADD, slot->stream.descriptor, &event) != 0) return fail(errno, "epoll_ctl");
    return greet(churn, slot);
}

// Takes what has come; 1 when the connection is at its end.
static int proceed(struct churn *churn, struct slot *slot) {
    bool ended;
    if (!slot->has_sent) return greet(churn, slot);
    ptrdiff_t count =
        receive(&slot->stream, slot->start + slot->received, churn->size - slot->received, &ended);
    if (count < 0) return -1;
    slot->received += (uint64_t)count;
    if (ended && slot->received < churn->size) return fail(0, "the server has closed before it had answered");
    if (ended) {
        stream_close(&slot->stream);
        return 1;
    }
    return count > 0 && slot->received == churn->size ? stream_end(&slot->stream) : 0;
}

static int run(struct churn *churn, int at_a_time, double seconds, uint64_t *connections) {
    struct epoll_event events[EVENTS];
    double now = seconds_now(), progress = now, end = now + seconds;
    int under_way = 0;
    for (; under_way < at_a_time; under_way++) {
        if (begin(churn, under_way) != 0) return -1;
    }
    while (under_way > 0) {
        int count = epoll_wait(churn->epoll, events, EVENTS, 1000);
        if (count < 0 && errno != EINTR) return fail(errno, "epoll_wait");
        now = seconds_now();
        if (count > 0) progress = now;
        if (now - progress > patience()) return fail(0, "no answer within %g seconds", patience());
        for (int event = 0; event < count; event++) {
            int index = (int)events[event].data.u32;
            int done = proceed(churn, &churn->slots[index]);
            if (done < 0) return -1;
            if (done == 0) continue;
            ++*connections;
            if (now >= end) under_way--; else if (begin(churn, index) != 0) return -1;
        }
    }
    return 0;
}

int load_connect(
    int port, int at_a_time, uint64_t size, double seconds, const char *certificate, bool resumes,
    uint64_t *connections
) {
    struct churn churn = {.port = port, .size = size, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (churn.epoll < 0) return fail(errno, "epoll_create1");
    churn.slots = malloc(sizeof *churn.slots * (size_t)at_a_time);
    if (churn.slots == NULL) abort();
    for (int index = 0; index < at_a_time; index++) churn.slots[index].stream = no_stream;
    *connections = 0;
    int result = make_clients(certificate, &churn.clients) ? 0 : -1;
    // One that brings the session.
    if (result == 0 && resumes) result = run(&churn, 1, 0, connections);
    *connections = 0;
    churn.resumes = resumes;
    if (result == 0) result = run(&churn, at_a_time, seconds, connections);
    for (int index = 0; index < at_a_time; index++) stream_close(&churn.slots[index].stream);
    tls_clients_free(churn.clients);
    free(churn.slots);
    close(churn.epoll);
    return result;
}
