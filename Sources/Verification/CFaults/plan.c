#define _GNU_SOURCE
#include "plan.h"
#include "CFaults.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/// EX_USAGE of sysexits.h.
enum { BAD_USAGE = 64 };

enum mode { MODE_OFF, MODE_SOFT, MODE_HARD };

struct plan {
    enum mode mode;
    // Soft.
    uint64_t seed;
    uint64_t every;
    // Hard.
    enum call call;
    int error;
    uint64_t at;
    bool is_for_ever;
};

static struct plan plan;
/// Calls since the plan was set: of its kind when it is hard, numbers drawn when it is soft.
static atomic_uint_fast64_t calls;
static atomic_uint_fast64_t counts[CALLS][FAULTS];
static atomic_bool has_edges;
static bool hits_all_threads = true;
static _Thread_local bool is_armed;

static const char *const call_names[CALLS] = {"read", "write", "accept", "socket", "bind", "listen", "epoll_ctl", "wait"};
static const char *const fault_names[FAULTS] = {"short", "EINTR", "EAGAIN", "ECONNABORTED", "one-event", "hard"};

static const struct { const char *name; int number; } errors[] = {
    {"ECONNRESET", ECONNRESET}, {"ETIMEDOUT", ETIMEDOUT}, {"EPIPE", EPIPE},   {"ENOMEM", ENOMEM},
    {"ENOBUFS", ENOBUFS},       {"EMFILE", EMFILE},       {"ENFILE", ENFILE}, {"EPROTO", EPROTO},
    {"EADDRINUSE", EADDRINUSE}, {"ENOSPC", ENOSPC},
};

// MARK: - The plan

static bool read_call(const char *name, enum call *call) {
    for (int index = 0; index < CALL_WAIT; index++) {
        if (strcmp(name, call_names[index]) == 0) return *call = (enum call)index, true;
    }
    return false;
}

static bool read_error(const char *name, int *error) {
    for (size_t index = 0; index < sizeof errors / sizeof *errors; index++) {
        if (strcmp(name, errors[index].name) == 0) return *error = errors[index].number, true;
    }
    return false;
}

static bool read_number(const char *text, uint64_t least, uint64_t *number) {
    char *end;
    errno = 0;
    *number = strtoull(text, &end, 10);
    return errno == 0 && *text >= '0' && *text <= '9' && *end == 0 && *number >= least;
}

static bool read_word(char *word, struct plan *next) {
    if (strcmp(word, "for-ever") == 0) return next->is_for_ever = true;
    char *value = strchr(word, '=');
    if (value == NULL) return false;
    *value++ = 0;
    if (next->mode == MODE_SOFT && strcmp(word, "seed") == 0) return read_number(value, 0, &next->seed);
    if (next->mode == MODE_SOFT && strcmp(word, "every") == 0) return read_number(value, 2, &next->every);
    if (next->mode != MODE_HARD) return false;
    if (strcmp(word, "call") == 0) return read_call(value, &next->call);
    if (strcmp(word, "errno") == 0) return read_error(value, &next->error);
    return strcmp(word, "at") == 0 && read_number(value, 1, &next->at);
}

int faults_set(const char *text) {
    struct plan next = {.seed = 1, .every = 4, .call = CALLS};
    char copy[128], *rest;
    if (strlen(text) >= sizeof copy) return -1;
    strcpy(copy, text);
    const char *mode = strtok_r(copy, " ", &rest);
    if (mode == NULL) return -1;
    if (strcmp(mode, "soft") == 0) next.mode = MODE_SOFT;
    else if (strcmp(mode, "hard") == 0) next.mode = MODE_HARD;
    else if (strcmp(mode, "off") != 0) return -1;
    for (char *word; (word = strtok_r(NULL, " ", &rest)) != NULL;) {
        if (!read_word(word, &next)) return -1;
    }
    if (next.mode == MODE_HARD && (next.call == CALLS || next.error == 0 || next.at == 0)) return -1;
    plan = next;
    atomic_store(&calls, 0);
    return 0;
}

void faults_arm(int now_armed) {
    is_armed = now_armed != 0;
}

/// What is asked first, so that others are not slowed.
static bool is_hit(enum mode mode) {
    return (is_armed || hits_all_threads) && plan.mode == mode;
}

// MARK: - The counts

void injected(enum call call, enum fault fault) {
    atomic_fetch_add_explicit(&counts[call][fault], 1, memory_order_relaxed);
}

uint64_t faults_injected(void) {
    uint64_t sum = 0;
    for (int call = 0; call < CALLS; call++) {
        for (int fault = 0; fault < FAULTS; fault++) sum += atomic_load(&counts[call][fault]);
    }
    return sum;
}

size_t faults_report(char *text, size_t size) {
    size_t length = 0;
    if (size > 0) *text = 0;
    for (int call = 0; call < CALLS; call++) {
        for (int fault = 0; fault < FAULTS; fault++) {
            unsigned long long count = atomic_load(&counts[call][fault]);
            if (count == 0 || length >= size) continue;
            const char *names[2] = {call_names[call], fault_names[fault]};
            length += (size_t)snprintf(text + length, size - length, "%s %s %llu\n", names[0], names[1], count);
        }
    }
    return length < size ? length : size == 0 ? 0 : size - 1;
}

__attribute__((constructor)) static void begin(void) {
    const char *threads = getenv("FAULTS_THREADS"), *text = getenv("FAULTS");
    // The program's children, such as a sanitizer's symbolizer, are not hit.
    unsetenv("LD_PRELOAD");
    hits_all_threads = threads == NULL || strcmp(threads, "armed") != 0;
    if (text == NULL || faults_set(text) == 0) return;
    dprintf(STDERR_FILENO, "FAULTS=\"%s\" is no plan, such as \"soft seed=7 every=4\"\n", text);
    _exit(BAD_USAGE);
}

__attribute__((destructor)) static void end(void) {
    const char *path = getenv("FAULTS_REPORT");
    if (path == NULL) return;
    char text[4096];
    faults_report(text, sizeof text);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0 || dprintf(file, "%s", text) < 0) dprintf(STDERR_FILENO, "%s: %s\n", path, strerror(errno));
    if (file >= 0) close(file);
}

// MARK: - What a call meets

/// SplitMix64: the mixing of a counter, so that one seed gives one series.
size_t draw(size_t bound) {
    uint64_t z = plan.seed * 0xD1342543DE82EF95u + (atomic_fetch_add(&calls, 1) + 1) * 0x9E3779B97F4A7C15u;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return (size_t)((z ^ (z >> 31)) % bound);
}

static bool fails_with(int error, enum call call, enum fault fault) {
    injected(call, fault);
    errno = error;
    return true;
}

static bool is_stream(int descriptor) {
    int type;
    socklen_t length = sizeof type;
    return getsockopt(descriptor, SOL_SOCKET, SO_TYPE, &type, &length) == 0 && type == SOCK_STREAM;
}

static bool blocks(int descriptor, int flags) {
    return !(flags & MSG_DONTWAIT) && !(fcntl(descriptor, F_GETFL) & O_NONBLOCK);
}

/// The call's turn has come, once or since.
static bool is_due(void) {
    uint64_t number = atomic_fetch_add(&calls, 1) + 1;
    return number == plan.at || (plan.is_for_ever && number > plan.at);
}

/// Small cuts as often as large ones: at least 1 byte, since 0 would be the end.
static size_t shorter(size_t size) {
    size_t bound = (size_t)2 << draw(16);
    return 1 + draw(bound < size ? bound : size - 1);
}

bool meets_failure(enum call call, int descriptor, size_t *size, int flags) {
    if (is_hit(MODE_HARD)) {
        if (plan.call != call || !is_stream(descriptor) || !is_due()) return false;
        return fails_with(plan.error, call, FAULT_HARD);
    }
    if (!is_hit(MODE_SOFT) || (size == NULL && call != CALL_ACCEPT)) return false;
    if (draw(plan.every) != 0 || !is_stream(descriptor)) return false;
    switch (draw(3)) {
    case 0: return fails_with(EINTR, call, FAULT_EINTR);
    case 1: return !blocks(descriptor, flags) && fails_with(EAGAIN, call, FAULT_EAGAIN);
    default: break;
    }
    if (call == CALL_ACCEPT) return fails_with(ECONNABORTED, call, FAULT_ECONNABORTED);
    if (*size > 1) *size = shorter(*size);
    return false;
}

bool meets_failure_of_socket(int type) {
    if (!is_hit(MODE_HARD) || plan.call != CALL_SOCKET) return false;
    if ((type & ~(SOCK_CLOEXEC | SOCK_NONBLOCK)) != SOCK_STREAM || !is_due()) return false;
    return fails_with(plan.error, CALL_SOCKET, FAULT_HARD);
}

bool meets_interruption(bool *is_cut) {
    *is_cut = false;
    if (!is_hit(MODE_SOFT) || draw(plan.every) != 0) return false;
    if (draw(2) == 0) return fails_with(EINTR, CALL_WAIT, FAULT_EINTR);
    *is_cut = !atomic_load(&has_edges);
    return false;
}

void forbid_cut_waits(void) {
    atomic_store(&has_edges, true);
}
