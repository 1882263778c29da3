// The calls themselves, found before libc's. Each asks the plan, then hands on.
#define _GNU_SOURCE
#include "plan.h"

#include <dlfcn.h>
#include <poll.h>
#include <stdatomic.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

/// The call behind this one, looked up at its first use: other libraries begin before this one may have.
#define REAL(name)                                                                                                     \
    static _Atomic(__typeof__(&name)) found;                                                                           \
    __typeof__(&name) real = atomic_load_explicit(&found, memory_order_relaxed);                                       \
    if (real == NULL) {                                                                                                \
        real = (__typeof__(&name))dlsym(RTLD_NEXT, #name);                                                             \
        atomic_store_explicit(&found, real, memory_order_relaxed);                                                     \
    }

// MARK: - Transfers

/// Flags whose calls are left alone: they look, or speak of the one urgent byte.
enum { SPECIAL = MSG_PEEK | MSG_OOB };

/// A fault counts only when it has shown: what was cut is as long as the cut let it be.
static ssize_t noted(enum call call, ssize_t count, size_t size, size_t wanted) {
    if (size < wanted && count == (ssize_t)size) injected(call, FAULT_SHORT);
    return count;
}

ssize_t read(int descriptor, void *bytes, size_t wanted) {
    REAL(read)
    size_t size = wanted;
    if (size > 0 && meets_failure(CALL_READ, descriptor, &size, 0)) return -1;
    return noted(CALL_READ, real(descriptor, bytes, size), size, wanted);
}

ssize_t write(int descriptor, const void *bytes, size_t wanted) {
    REAL(write)
    size_t size = wanted;
    if (size > 0 && meets_failure(CALL_WRITE, descriptor, &size, 0)) return -1;
    return noted(CALL_WRITE, real(descriptor, bytes, size), size, wanted);
}

ssize_t recvfrom(int descriptor, void *bytes, size_t wanted, int flags, struct sockaddr *address, socklen_t *length) {
    REAL(recvfrom)
    size_t size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_READ, descriptor, &size, flags)) return -1;
    return noted(CALL_READ, real(descriptor, bytes, size, flags, address, length), size, wanted);
}

ssize_t recv(int descriptor, void *bytes, size_t wanted, int flags) {
    REAL(recv)
    size_t size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_READ, descriptor, &size, flags)) return -1;
    return noted(CALL_READ, real(descriptor, bytes, size, flags), size, wanted);
}

ssize_t sendto(
    int descriptor, const void *bytes, size_t wanted, int flags, const struct sockaddr *address, socklen_t length) {
    REAL(sendto)
    size_t size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_WRITE, descriptor, &size, flags)) return -1;
    return noted(CALL_WRITE, real(descriptor, bytes, size, flags, address, length), size, wanted);
}

ssize_t send(int descriptor, const void *bytes, size_t wanted, int flags) {
    REAL(send)
    size_t size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_WRITE, descriptor, &size, flags)) return -1;
    return noted(CALL_WRITE, real(descriptor, bytes, size, flags), size, wanted);
}

// MARK: - Transfers of several pieces

/// So many pieces of a call that is cut are handed on; fewer only cut it shorter.
enum { PIECES = 64 };

static size_t total(const struct iovec *pieces, size_t count) {
    size_t sum = 0;
    for (size_t index = 0; index < count; index++) sum += pieces[index].iov_len;
    return sum;
}

/// The first `*size` bytes of `pieces`, into `cut`; how many pieces they are.
static size_t trim(struct iovec *cut, const struct iovec *pieces, size_t *size) {
    size_t left = *size, count = 0;
    for (; left > 0 && count < PIECES; count++) {
        cut[count] = pieces[count];
        if (cut[count].iov_len > left) cut[count].iov_len = left;
        left -= cut[count].iov_len;
    }
    *size -= left;
    return count;
}

ssize_t readv(int descriptor, const struct iovec *pieces, int count) {
    REAL(readv)
    struct iovec cut[PIECES];
    size_t wanted = total(pieces, count > 0 ? (size_t)count : 0), size = wanted;
    if (size > 0 && meets_failure(CALL_READ, descriptor, &size, 0)) return -1;
    if (size == wanted) return real(descriptor, pieces, count);
    count = (int)trim(cut, pieces, &size);
    return noted(CALL_READ, real(descriptor, cut, count), size, wanted);
}

ssize_t writev(int descriptor, const struct iovec *pieces, int count) {
    REAL(writev)
    struct iovec cut[PIECES];
    size_t wanted = total(pieces, count > 0 ? (size_t)count : 0), size = wanted;
    if (size > 0 && meets_failure(CALL_WRITE, descriptor, &size, 0)) return -1;
    if (size == wanted) return real(descriptor, pieces, count);
    count = (int)trim(cut, pieces, &size);
    return noted(CALL_WRITE, real(descriptor, cut, count), size, wanted);
}

ssize_t recvmsg(int descriptor, struct msghdr *message, int flags) {
    REAL(recvmsg)
    struct iovec cut[PIECES], *pieces = message->msg_iov;
    size_t count = message->msg_iovlen, wanted = total(pieces, count), size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_READ, descriptor, &size, flags)) return -1;
    if (size == wanted) return real(descriptor, message, flags);
    // The other fields of the message are answers.
    message->msg_iovlen = trim(cut, pieces, &size);
    message->msg_iov = cut;
    ssize_t answer = real(descriptor, message, flags);
    message->msg_iov = pieces;
    message->msg_iovlen = count;
    return noted(CALL_READ, answer, size, wanted);
}

ssize_t sendmsg(int descriptor, const struct msghdr *message, int flags) {
    REAL(sendmsg)
    struct iovec cut[PIECES];
    struct msghdr shorter = *message;
    size_t wanted = total(message->msg_iov, message->msg_iovlen), size = wanted;
    if (size > 0 && !(flags & SPECIAL) && meets_failure(CALL_WRITE, descriptor, &size, flags)) return -1;
    if (size == wanted) return real(descriptor, message, flags);
    shorter.msg_iovlen = trim(cut, message->msg_iov, &size);
    shorter.msg_iov = cut;
    return noted(CALL_WRITE, real(descriptor, &shorter, flags), size, wanted);
}

// MARK: - Sockets

int accept(int descriptor, struct sockaddr *address, socklen_t *length) {
    REAL(accept)
    return meets_failure(CALL_ACCEPT, descriptor, NULL, 0) ? -1 : real(descriptor, address, length);
}

int accept4(int descriptor, struct sockaddr *address, socklen_t *length, int flags) {
    REAL(accept4)
    return meets_failure(CALL_ACCEPT, descriptor, NULL, 0) ? -1 : real(descriptor, address, length, flags);
}

int socket(int family, int type, int protocol) {
    REAL(socket)
    return meets_failure_of_socket(type) ? -1 : real(family, type, protocol);
}

int bind(int descriptor, const struct sockaddr *address, socklen_t length) {
    REAL(bind)
    return meets_failure(CALL_BIND, descriptor, NULL, 0) ? -1 : real(descriptor, address, length);
}

int listen(int descriptor, int backlog) {
    REAL(listen)
    return meets_failure(CALL_LISTEN, descriptor, NULL, 0) ? -1 : real(descriptor, backlog);
}

// MARK: - Waits

int epoll_ctl(int set, int operation, int descriptor, struct epoll_event *event) {
    REAL(epoll_ctl)
    if (event != NULL && event->events & (EPOLLET | EPOLLONESHOT)) forbid_cut_waits();
    // Never what only takes away: no kernel refuses that.
    if (operation != EPOLL_CTL_DEL && meets_failure(CALL_EPOLL_CTL, descriptor, NULL, 0)) return -1;
    return real(set, operation, descriptor, event);
}

/// Leaves one of the events; the kernel tells the others again, as long as they last.
static int one_event(struct epoll_event *events, int count) {
    if (count < 2) return count;
    injected(CALL_WAIT, FAULT_ONE_EVENT);
    events[0] = events[draw((size_t)count)];
    return 1;
}

int epoll_wait(int set, struct epoll_event *events, int most, int milliseconds) {
    REAL(epoll_wait)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(set, events, most, milliseconds);
    return is_cut ? one_event(events, count) : count;
}

int epoll_pwait(int set, struct epoll_event *events, int most, int milliseconds, const sigset_t *mask) {
    REAL(epoll_pwait)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(set, events, most, milliseconds, mask);
    return is_cut ? one_event(events, count) : count;
}

/// Leaves one of the entries that are ready.
static int one_entry(struct pollfd *entries, nfds_t size, int count) {
    if (count < 2) return count;
    injected(CALL_WAIT, FAULT_ONE_EVENT);
    size_t chosen = draw((size_t)count);
    for (nfds_t index = 0, ready = 0; index < size; index++) {
        if (entries[index].revents != 0 && ready++ != chosen) entries[index].revents = 0;
    }
    return 1;
}

int poll(struct pollfd *entries, nfds_t size, int milliseconds) {
    REAL(poll)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(entries, size, milliseconds);
    return is_cut ? one_entry(entries, size, count) : count;
}

int ppoll(struct pollfd *entries, nfds_t size, const struct timespec *time, const sigset_t *mask) {
    REAL(ppoll)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(entries, size, time, mask);
    return is_cut ? one_entry(entries, size, count) : count;
}

/// Leaves one of the bits.
static int one_bit(int size, fd_set *sets[3], int count) {
    if (count < 2) return count;
    injected(CALL_WAIT, FAULT_ONE_EVENT);
    size_t chosen = draw((size_t)count), ready = 0;
    for (int index = 0; index < 3; index++) {
        for (int descriptor = 0; sets[index] != NULL && descriptor < size; descriptor++) {
            if (FD_ISSET(descriptor, sets[index]) && ready++ != chosen) FD_CLR(descriptor, sets[index]);
        }
    }
    return 1;
}

int select(int size, fd_set *reading, fd_set *writing, fd_set *others, struct timeval *time) {
    REAL(select)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(size, reading, writing, others, time);
    return is_cut ? one_bit(size, (fd_set *[]){reading, writing, others}, count) : count;
}

int pselect(
    int size, fd_set *reading, fd_set *writing, fd_set *others, const struct timespec *time, const sigset_t *mask) {
    REAL(pselect)
    bool is_cut;
    if (meets_interruption(&is_cut)) return -1;
    int count = real(size, reading, writing, others, time, mask);
    return is_cut ? one_bit(size, (fd_set *[]){reading, writing, others}, count) : count;
}
