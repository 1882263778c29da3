// What the files of the load share.
#pragma once

#include "load.h"

#include <stdbool.h>
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

/// Connects; a descriptor, or -1.
int connect_to(int port, uint64_t source);

/// Receives what is there, at most `limit` bytes, and compares it with the stream. How many came; 0 for none now, and
/// for the end, which `*ended` tells.
ptrdiff_t receive(int descriptor, uint64_t at, uint64_t limit, bool *ended);

/// Sends as many as the kernel takes now of the `count` bytes from `at` on: how many.
ptrdiff_t transmit(int descriptor, uint64_t at, uint64_t count);

/// Notes what went wrong, with the errno behind it unless that is 0; -1.
int fail(int error, const char *format, ...) __attribute__((format(printf, 2, 3)));

double seconds_now(void);
double patience(void);
