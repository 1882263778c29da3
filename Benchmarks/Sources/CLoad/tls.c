#define _GNU_SOURCE
#include "internal.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>

// A record's most. One that is shorter is mostly the last that has come.
enum { RECORD = 16 * 1024 };

static int complain(const char *call) {
    // Without a reason of OpenSSL's it is the socket's, or the server has ended without close_notify.
    return ERR_peek_error() != 0 ? fail(0, "%s: %s", call, tls_complaint()) : fail(errno, "%s on the socket", call);
}

// OpenSSL looks for the reason there, and would take an older one.
static void forget_complaints(void) {
    ERR_clear_error();
    errno = 0;
}

int tls_begin(struct stream *stream, struct tls_clients *clients, bool resumes) {
    // OpenSSL's write(2) raises it for a server that has gone. Blocked, not ignored: servers would inherit the latter.
    sigset_t pipe;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    int flags = fcntl(stream->descriptor, F_GETFL);
    if (flags < 0 || fcntl(stream->descriptor, F_SETFL, flags | O_NONBLOCK) != 0) return fail(errno, "fcntl");
    forget_complaints();
    stream->ssl = tls_client_new(clients, stream->descriptor, resumes);
    stream->resumes = resumes;
    if (stream->ssl != NULL) return 0;
    return ERR_peek_error() != 0 ? complain("SSL_new") : fail(0, "the server has given no session to resume");
}

int tls_handshake(struct stream *stream) {
    forget_complaints();
    int result = SSL_do_handshake(stream->ssl);
    if (result != 1) return SSL_get_error(stream->ssl, result) == SSL_ERROR_WANT_READ ? 0 : complain("handshake");
    if (stream->resumes && !SSL_session_reused(stream->ssl)) return fail(0, "the server has not resumed the session");
    return 1;
}

// After close_notify: the connection must end too.
static ptrdiff_t await_fin(struct stream *stream, bool *ended) {
    char byte;
    ssize_t count = recv(stream->descriptor, &byte, 1, MSG_DONTWAIT);
    *ended = count == 0;
    if (count > 0) return fail(0, "bytes behind close_notify");
    return count == 0 || is_transient() ? 0 : fail(errno, "recv");
}

ptrdiff_t tls_receive(struct stream *stream, unsigned char *bytes, size_t room, bool *ended) {
    size_t total = 0, count = RECORD;
    *ended = false;
    while (total < room && count >= RECORD) {
        forget_complaints();
        if (SSL_read_ex(stream->ssl, bytes + total, room - total, &count)) {
            total += count;
            continue;
        }
        int reason = SSL_get_error(stream->ssl, 0);
        if (reason == SSL_ERROR_ZERO_RETURN) return total > 0 ? (ptrdiff_t)total : await_fin(stream, ended);
        if (reason != SSL_ERROR_WANT_READ) return complain("SSL_read");
        break;
    }
    return (ptrdiff_t)total;
}

ptrdiff_t tls_transmit(struct stream *stream, const unsigned char *bytes, size_t size) {
    size_t count;
    forget_complaints();
    if (SSL_write_ex(stream->ssl, bytes, size, &count)) return (ptrdiff_t)count;
    return SSL_get_error(stream->ssl, 0) == SSL_ERROR_WANT_WRITE ? 0 : complain("SSL_write");
}

int tls_end(struct stream *stream) {
    forget_complaints();
    return SSL_shutdown(stream->ssl) >= 0 ? 0 : complain("SSL_shutdown");
}
