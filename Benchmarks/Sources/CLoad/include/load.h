// The load on an echo server, over raw epoll: fast enough that the server is what is measured, and it compares every
// byte that comes back with the one that was sent.
//
// Each function answers 0, or -1 with what went wrong in `load_error`. None waits for ever: a server that makes no
// progress for so long as `load_set_patience` says has failed.
#pragma once

#include <stdbool.h>
#include <stdint.h>

/// Connections to one server, each in the midst of a stream of bytes of its own.
struct load;

/// What the last call that answered -1 or NULL met: one sentence.
const char *load_error(void);

/// In seconds; 20 unless set.
void load_set_patience(double seconds);

/// Connects so many times to 127.0.0.1; NULL if that fails. With a certificate, the path of a file, it does so over
/// TLS, and the server must have this one; with NULL, in clear.
struct load *load_open(int port, int connections, const char *certificate);

/// So many connections more.
int load_add(struct load *load, int connections);

/// Ends each stream, waits for the server's end of it, which must come with no byte more, and closes. Frees `load`
/// in any case.
int load_close(struct load *load);

/// Closes without a look at what comes, and frees `load`: after an error.
void load_abandon(struct load *load);

/// Closed loop: each of the first `connections` sends `size` bytes, and again when they have come back, until
/// `seconds` are over; then what is under way comes back, too. With 0 seconds each sends once.
int load_echo(struct load *load, int connections, uint64_t size, double seconds, uint64_t *messages);

/// Open loop: `messages` messages, the connections in turn, each at its time whether the server has answered or not.
/// `latencies` gets the nanoseconds from when a message was to be sent to when all of it was back, so that a message
/// that had to wait for its turn counts with its wait.
int load_echo_at_rate(
    struct load *load, uint64_t size, double messages_per_second, uint64_t messages, int64_t *latencies);

/// The first connection sends `size` bytes, the server sends them to all; and again when all have them, until
/// `seconds` are over. `messages` counts the sent ones.
int load_fan_out(struct load *load, uint64_t size, double seconds, uint64_t *messages);

/// Connects, sends `size` bytes, has them back, ends, sees the server's end and closes; so many at a time, until
/// `seconds` are over. `connections` counts those that came to their end. With a certificate over TLS, as in
/// `load_open`; then `resumes` says whether each resumes the newest session that one before it was given, the first one
/// that of a connection that is not counted, or none does.
int load_connect(
    int port, int at_a_time, uint64_t size, double seconds, const char *certificate, bool resumes,
    uint64_t *connections);
