#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

// A place that one connection after the other takes.
struct slot {
    int descriptor;
    uint64_t start;
    uint64_t received;
};

struct churn {
    int port;
    int epoll;
    uint64_t size;
    struct slot *slots;
};

// Counts on from one call to the next: their ports stay taken for a minute.
static uint64_t connected;

static int begin(struct churn *churn, int index) {
    struct slot *slot = &churn->slots[index];
    slot->start = connected * LINE;
    slot->received = 0;
    slot->descriptor = connect_to(churn->port, connected++);
    if (slot->descriptor < 0) return -1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (uint32_t)index};
    if (epoll_ctl(churn->epoll, EPOLL_CTL_ADD, slot->descriptor, &event) != 0) return fail(errno, "epoll_ctl");
    ptrdiff_t sent = transmit(slot->descriptor, slot->start, churn->size);
    if (sent < 0) return -1;
    return (uint64_t)sent == churn->size ? 0 : fail(0, "no room for one small message");
}

// Takes what has come; 1 when the connection is at its end.
static int proceed(struct churn *churn, struct slot *slot) {
    bool ended;
    ptrdiff_t count =
        receive(slot->descriptor, slot->start + slot->received, churn->size - slot->received, &ended);
    if (count < 0) return -1;
    slot->received += (uint64_t)count;
    if (ended && slot->received < churn->size) return fail(0, "the server has closed before it had answered");
    if (ended) {
        close(slot->descriptor);
        slot->descriptor = -1;
        return 1;
    }
    if (count > 0 && slot->received == churn->size && shutdown(slot->descriptor, SHUT_WR) != 0) {
        return fail(errno, "shutdown");
    }
    return 0;
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

int load_connect(int port, int at_a_time, uint64_t size, double seconds, uint64_t *connections) {
    struct churn churn = {.port = port, .size = size, .epoll = epoll_create1(EPOLL_CLOEXEC)};
    if (churn.epoll < 0) return fail(errno, "epoll_create1");
    churn.slots = malloc(sizeof *churn.slots * (size_t)at_a_time);
    if (churn.slots == NULL) abort();
    for (int index = 0; index < at_a_time; index++) churn.slots[index].descriptor = -1;
    *connections = 0;
    int result = run(&churn, at_a_time, seconds, connections);
    for (int index = 0; index < at_a_time; index++) {
        if (churn.slots[index].descriptor >= 0) close(churn.slots[index].descriptor);
    }
    free(churn.slots);
    close(churn.epoll);
    return result;
}
