// What the files of the load share.
#pragma once

#include "load.h"
#include "tls-client.h"

#include <stddef.h>

enum {
    // A stream repeats itself after so many bytes: lines of 16, so that servers of lines can be asked the same, and no
    // power of two, so that a buffer of 64 KiB that is sent twice does not fit.
    LINE = 16,
    PERIOD = 4099 * LINE,
    // At most so much is sent or read in one call.
    PIECE = 256 * 1024,
    EVENTS = 512,
};

/// A stream's bytes from its position `at` on, PIECE of them.
const unsigned char *stream_bytes(uint64_t at);

/// A connection. In clear, `ssl` is NULL.
struct stream {
    int descriptor;
    SSL *ssl;
    // Its handshake has to be a resumed one.
    bool resumes;
};

/// What no connection has been made for.
static const struct stream no_stream = {.descriptor = -1};

/// Connects; without `clients`, in clear.
int stream_open(struct stream *stream, int port, uint64_t source, struct tls_clients *clients, bool resumes);

/// Goes on with the handshake: 1 when there is no more to do, 0 when bytes have to come, or -1.
int stream_handshake(struct stream *stream);

/// Waits until there is something to read; -1 when there is not for too long. `what` is what has not come then.
int stream_await(struct stream *stream, const char *what);

/// Receives what is there, at most `limit` bytes, and compares it with the stream. How many came; 0 for none now, and
/// for the end, which `*ended` tells.
ptrdiff_t receive(struct stream *stream, uint64_t at, uint64_t limit, bool *ended);

/// Sends as many as the kernel takes now of the `count` bytes from `at` on: how many.
ptrdiff_t transmit(struct stream *stream, uint64_t at, uint64_t count);

/// Ends what this side sends: with FIN, or with close_notify.
int stream_end(struct stream *stream);

void stream_close(struct stream *stream);

// The same for a stream with TLS; `tls_receive` and `tls_transmit` return 0 when they had to wait.
int tls_begin(struct stream *stream, struct tls_clients *clients, bool resumes);
int tls_handshake(struct stream *stream);
ptrdiff_t tls_receive(struct stream *stream, unsigned char *bytes, size_t room, bool *ended);
ptrdiff_t tls_transmit(struct stream *stream, const unsigned char *bytes, size_t size);
int tls_end(struct stream *stream);

/// The clients' TLS for servers with this certificate. False with what went wrong noted; none without a certificate.
bool make_clients(const char *certificate, struct tls_clients **clients);

/// Whether a failed call only has to be made again later.
bool is_transient(void);

/// Notes what went wrong, with the errno behind it unless that is 0; -1.
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

double seconds_now(void);
double patience(void);
