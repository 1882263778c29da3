// A yardstick: the least that an echo server on Linux can cost. Raw epoll, level-triggered, with nothing left
// out that correctness needs, since a wrong baseline is a fast one.
//
//   echo-epoll-c [PORT]      on 127.0.0.1; 0, the default, takes a free port. SIGTERM ends it with status 0.

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    BACKLOG = 511,
    EVENTS_PER_TURN = 1024,
    // More at once would keep those who are connected waiting.
    ACCEPTS_PER_TURN = 16,
    READ_SIZE = 64 * 1024,
    // Reading stops at the first mark and goes on at the second: the marks of the server that is compared.
    HIGH_WATER_MARK = 64 * 1024,
    LOW_WATER_MARK = 16 * 1024,
    // A read is made only below the high water mark, so one more always fits.
    QUEUE_SIZE = HIGH_WATER_MARK + READ_SIZE,
};

struct client {
    struct client *next;
    struct client *previous;
    int descriptor;
    // What epoll was told.
    uint32_t interest;
    // Above the high water mark and not yet below the low one.
    bool saturated;
    // The peer has sent FIN: answer what is queued, then close.
    bool ended;
    // QUEUE_SIZE bytes, only while something is queued; the bytes are those from `start` to `end`.
    char *queue;
    size_t start;
    size_t end;
};

// One for the whole loop: it is empty again before the next read.
static char read_buffer[READ_SIZE];
static struct client *first_client;
static int epoll;
static int listener;
static int termination;
// Given up for a moment at the descriptor limit, so that a waiting client can be taken and sent away.
static int spare;

static int check(int result, const char *call) {
    if (result >= 0) return result;
    fprintf(stderr, "echo-epoll-c: %s: %s\n", call, strerror(errno));
    exit(1);
}

// MARK: Clients

__attribute__((noinline))
static void close_client(struct client *client) {
    // The kernel takes a closed descriptor out of the set: nobody else holds a copy of it.
    close(client->descriptor);
    if (client->previous != NULL) client->previous->next = client->next; else first_client = client->next;
    if (client->next != NULL) client->next->previous = client->previous;
    free(client->queue);
    free(client);
}

static void add_client(int descriptor) {
    int on = 1;
    // Nagle's algorithm would hold back the second of two small answers.
    setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL) abort();
    client->descriptor = descriptor;
    client->interest = EPOLLIN;
    client->next = first_client;
    if (first_client != NULL) first_client->previous = client;
    first_client = client;
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = client};
    if (epoll_ctl(epoll, EPOLL_CTL_ADD, descriptor, &event) != 0) close_client(client);
}

// Tells epoll what the client waits for now. Level-triggered: what nobody wants must leave the set, or it spins.
static void update_interest(struct client *client) {
    uint32_t interest = 0;
    if (!client->saturated && !client->ended) interest |= EPOLLIN;
    if (client->queue != NULL) interest |= EPOLLOUT;
    if (interest == client->interest) return;
    client->interest = interest;
    struct epoll_event event = {.events = interest, .data.ptr = client};
    check(epoll_ctl(epoll, EPOLL_CTL_MOD, client->descriptor, &event), "epoll_ctl");
}

// MARK: Bytes

// Not inlined, like the others of these: their registers would be saved for each message, and the yardstick be
// longer than need be.
__attribute__((noinline))
static void enqueue(struct client *client, const char *bytes, size_t count) {
    if (client->queue == NULL) {
        client->queue = malloc(QUEUE_SIZE);
        if (client->queue == NULL) abort();
        client->start = client->end = 0;
    }
    if (QUEUE_SIZE - client->end < count) {
        memmove(client->queue, client->queue + client->start, client->end - client->start);
        client->end -= client->start;
        client->start = 0;
    }
    memcpy(client->queue + client->end, bytes, count);
    client->end += count;
    // A peer that sends and never reads would otherwise take all memory.
    if (client->end - client->start >= HIGH_WATER_MARK) client->saturated = true;
    update_interest(client);
}

// Whether a failed call only has to be made again later.
static bool is_transient(void) {
    return errno == EAGAIN || errno == EINTR;
}

// Returns false when the client is closed.
__attribute__((noinline))
static bool flush(struct client *client) {
    size_t count = client->end - client->start;
    ssize_t sent = send(client->descriptor, client->queue + client->start, count, MSG_NOSIGNAL);
    if (sent < 0) {
        if (is_transient()) return true;
        close_client(client);
        return false;
    }
    client->start += (size_t)sent;
    count -= (size_t)sent;
    if (count == 0) {
        free(client->queue);
        client->queue = NULL;
        if (client->ended) {
            // All of the peer's data was read, so this sends FIN and no reset.
            close_client(client);
            return false;
        }
    }
    if (count <= LOW_WATER_MARK) client->saturated = false;
    update_interest(client);
    return true;
}

static void echo(struct client *client) {
    ssize_t count = recv(client->descriptor, read_buffer, sizeof read_buffer, 0);
    if (count <= 0) {
        if (count < 0 && is_transient()) return;
        client->ended = true;
        if (count < 0 || client->queue == NULL) return close_client(client);
        return update_interest(client);
    }
    ssize_t sent = 0;
    // Past a queue the bytes would overtake those in it.
    if (client->queue == NULL) {
        sent = send(client->descriptor, read_buffer, (size_t)count, MSG_NOSIGNAL);
        if (sent == count) return;
        if (sent < 0) {
            if (!is_transient()) return close_client(client);
            sent = 0;
        }
    }
    enqueue(client, read_buffer + sent, (size_t)(count - sent));
}

static void serve(struct client *client, uint32_t events) {
    // An error or a hang-up is both: the call that follows says which, also when neither was asked for.
    bool failed = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (client->queue != NULL && (failed || (events & EPOLLOUT) != 0) && !flush(client)) return;
    if (client->saturated || client->ended) return;
    if (failed || (events & EPOLLIN) != 0) echo(client);
}

// MARK: The loop

static void shed_one(void) {
    close(spare);
    int descriptor = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (descriptor >= 0) close(descriptor);
    spare = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

__attribute__((noinline))
static void accept_waiting(void) {
    for (int turn = 0; turn < ACCEPTS_PER_TURN; turn++) {
        int descriptor = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (descriptor >= 0) {
            add_client(descriptor);
        } else if (errno == EMFILE || errno == ENFILE) {
            // Left in the backlog, the client would wake the loop without end.
            shed_one();
        } else {
            // EAGAIN, or a client that has gone meanwhile (accept(2), "Error handling"): epoll says if more wait.
            return;
        }
    }
}

static int make_termination(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigprocmask(SIG_BLOCK, &set, NULL);
    return check(signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK), "signalfd");
}

static int listen_on(int port) {
    int descriptor = check(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), "socket");
    int on = 1;
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;
    check(bind(descriptor, (struct sockaddr *)&address, length), "bind");
    check(listen(descriptor, BACKLOG), "listen");
    check(getsockname(descriptor, (struct sockaddr *)&address, &length), "getsockname");
    printf("Listening on port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return descriptor;
}

static void watch(int *descriptor) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = descriptor};
    check(epoll_ctl(epoll, EPOLL_CTL_ADD, *descriptor, &event), "epoll_ctl");
}

static void run(void) {
    static struct epoll_event events[EVENTS_PER_TURN];
    for (;;) {
        int count = epoll_wait(epoll, events, EVENTS_PER_TURN, -1);
        if (count < 0) {
            if (errno == EINTR) continue;
            check(count, "epoll_wait");
        }
        for (int index = 0; index < count; index++) {
            void *who = events[index].data.ptr;
            if (who == &termination) return;
            // A client is closed only by its own event, of which a turn has one: none here is of a closed client.
            if (who == &listener) accept_waiting(); else serve(who, events[index].events);
        }
    }
}

int main(int count, char **arguments) {
    epoll = check(epoll_create1(EPOLL_CLOEXEC), "epoll_create1");
    spare = check(open("/dev/null", O_RDONLY | O_CLOEXEC), "open");
    // Before the line that says the server is there: whoever reads it may send the signal at once.
    termination = make_termination();
    listener = listen_on(count > 1 ? atoi(arguments[1]) : 0);
    watch(&termination);
    watch(&listener);
    run();
    while (first_client != NULL) close_client(first_client);
    return 0;
}
