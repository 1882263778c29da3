// What Swift cannot import from the system headers: macros that take arguments, and calls that glibc hides
// behind _GNU_SOURCE. One line each, no logic.
#ifndef CLINUX_H
#define CLINUX_H

#include <errno.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/types.h>

// Declared here rather than by _GNU_SOURCE, which would change structures that other modules import too.
extern int accept4(int, struct sockaddr *, socklen_t *, int);

/// accept4(2) with SOCK_CLOEXEC and SOCK_NONBLOCK: no moment in which a forked child could inherit the socket.
static inline int linux_accept4(int descriptor, struct sockaddr *address, socklen_t *length) {
    return accept4(descriptor, address, length, SOCK_CLOEXEC | SOCK_NONBLOCK);
}

/// Ignores SIGPIPE: SIG_IGN is a macro that casts.
static inline void linux_ignore_sigpipe(void) {
    signal(SIGPIPE, SIG_IGN);
}

#endif
