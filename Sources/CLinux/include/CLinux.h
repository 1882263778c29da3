// What Swift cannot import from the system headers: macros with arguments, variadic calls, and calls that glibc hides
// behind _GNU_SOURCE. One line each, no logic; what has more is in CLinux.c.
#ifndef CLINUX_H
#define CLINUX_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/epoll.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/select.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <unistd.h>

// Declared here rather than by _GNU_SOURCE, which would change structures that other modules import too.
extern int accept4(int, struct sockaddr *, socklen_t *, int);
extern int pipe2(int[2], int);

/// accept4(2) with SOCK_CLOEXEC and SOCK_NONBLOCK: no moment in which a forked child could inherit the socket.
static inline int linux_accept4(int descriptor, struct sockaddr *address, socklen_t *length) {
    return accept4(descriptor, address, length, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/// pipe2(2), both ends non-blocking and close-on-exec.
static inline int linux_pipe2(int *ends) {
    return pipe2(ends, O_CLOEXEC | O_NONBLOCK);
}

/// Another descriptor for the same socket, close-on-exec (F_DUPFD_CLOEXEC in fcntl(2)).
static inline int linux_duplicate(int descriptor) {
    return fcntl(descriptor, F_DUPFD_CLOEXEC, 0);
}

/// eventfd(2), non-blocking and close-on-exec.
static inline int linux_eventfd(void) {
    return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

static inline void linux_do_nothing(int number) {
    (void)number;
}

/// Replaces SIGPIPE's default action, which would end the process, and no action that the program has set itself. By a
/// handler, since children would inherit SIG_IGN (execve(2)) and go on writing into a broken pipe.
static inline void linux_disarm_sigpipe(void) {
    struct sigaction action;
    if (sigaction(SIGPIPE, NULL, &action) != 0 || action.sa_handler != SIG_DFL) return;
    action.sa_handler = linux_do_nothing;
    action.sa_flags = SA_RESTART;
    sigemptyset(&action.sa_mask);
    sigaction(SIGPIPE, &action, NULL);
}

/// The handler of a signal action: a macro names the member of a union (sigaction(2)).
static inline void linux_set_handler(struct sigaction *action, void (*handler)(int)) {
    action->sa_handler = handler;
}

/// The beginning of what TCP_INFO gives (struct tcp_info in linux/tcp.h, which never moves a field). glibc's
/// netinet/tcp.h ends before the last one, and cannot be included together with linux/tcp.h.
struct linux_tcp_info {
    uint8_t tcpi_state;
    uint8_t tcpi_ca_state;
    /// How often the oldest lost data was sent again without an acknowledgement.
    uint8_t tcpi_retransmits;
    uint8_t other_bytes[5];
    uint32_t other_words[9];
    /// Milliseconds ago.
    uint32_t tcpi_last_data_sent;
    uint32_t tcpi_last_ack_sent;
    uint32_t tcpi_last_data_recv;
    uint32_t tcpi_last_ack_recv;
    uint32_t more_words[11];
    uint64_t tcpi_rates[2];
    /// RFC 4898, tcpEStatsAppHCThruOctetsAcked; Linux 4.1.
    uint64_t tcpi_bytes_acked;
};
_Static_assert(offsetof(struct linux_tcp_info, tcpi_last_data_sent) == 44, "as in linux/tcp.h");
_Static_assert(offsetof(struct linux_tcp_info, tcpi_bytes_acked) == 120, "as in linux/tcp.h");

/// SIOCOUTQ: how many of the sent bytes are not acknowledged or, for a Unix socket, not read. ioctl(2) is variadic, and
/// linux/sockios.h defines SIOCOUTQ as TIOCOUTQ.
static inline int linux_outgoing_queue(int descriptor, int *count) {
    return ioctl(descriptor, TIOCOUTQ, count);
}

// select(2): the sets are handled by macros. A descriptor at or above FD_SETSIZE would write past the set.
static inline void linux_fd_zero(fd_set *set) { FD_ZERO(set); }
static inline void linux_fd_set(int descriptor, fd_set *set) { FD_SET(descriptor, set); }
static inline void linux_fd_clr(int descriptor, fd_set *set) { FD_CLR(descriptor, set); }
static inline int linux_fd_isset(int descriptor, const fd_set *set) { return FD_ISSET(descriptor, set); }

/// Whether the caller's thread is the one that main runs on, in the process that has loaded this library.
bool linux_is_first_thread(void);

/// The eventfd(2) that libdispatch raises when something is queued for the main actor; it stays libdispatch's. -1 and
/// errno: ENOSYS without libdispatch, else what eventfd(2) says. For the first thread.
int linux_main_queue_descriptor(void);

/// Lowers that descriptor and runs what was queued when this began; nothing inside another such call. For the first
/// thread.
void linux_serve_main_queue(int descriptor);

/// Whether the caller runs as the main queue: on the first thread, or on another once the first has left main.
bool linux_is_on_main_queue(void);

/// How many cores the process may run on (sched_getaffinity(2)).
int linux_core_count(void);

/// Names the caller's thread `loop 3` (pthread_setname_np(3)).
void linux_name_loop_thread(int number);

/// Closes a connected socket with RST in place of FIN, and drops what it holds (SO_LINGER, socket(7)).
static inline void linux_reset(int descriptor) {
    struct linger now = {.l_onoff = 1, .l_linger = 0};
    setsockopt(descriptor, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    close(descriptor);
}

#endif
