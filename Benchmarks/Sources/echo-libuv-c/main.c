// A yardstick: an echo server as one writes it in C over libuv, with nothing left out that correctness needs,
// since a wrong baseline is a fast one.
//
//   echo-libuv-c [echo | lines | batched-lines]      on a free port of 127.0.0.1. SIGTERM ends it with status 0.
//
// The latter two write each line of what they got on its own: with one uv_write for each, or gathered by hand.

#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

enum {
    BACKLOG = 511,
    // 64 KiB, what libuv suggests to its allocation callback.
    READ_SIZE = 64 * 1024,
    // Reading stops at the first mark and goes on at the second: the marks of the server that is compared.
    HIGH_WATER_MARK = 64 * 1024,
    LOW_WATER_MARK = 16 * 1024,
};

// Bytes that the kernel did not take at once.
struct chunk {
    struct chunk *next;
    size_t count;
    char bytes[];
};

struct client {
    uv_tcp_t tcp;
    bool reading;
    // The peer has sent FIN: answer what is queued, then close.
    bool ended;
    // Set only while something is queued, so that an idle client does not pay for it.
    struct queue *queue;
};

struct queue {
    uv_write_t write;
    struct chunk *first;
    struct chunk *last;
    size_t byte_count;
};

// echo-libuv-loops-c includes this file and gives each of its threads these of its own.
#ifndef OF_A_LOOP
#define OF_A_LOOP
#endif

// One for the whole loop: libuv calls back with what it read before it reads again.
static OF_A_LOOP char read_buffer[READ_SIZE];
static OF_A_LOOP uv_tcp_t listener;
static OF_A_LOOP uv_signal_t termination;

static void check(int status, const char *call) {
    if (status == 0) return;
    fprintf(stderr, "echo-libuv-c: %s: %s\n", call, uv_strerror(status));
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) abort();
    return memory;
}

// MARK: Closing

static void free_queue(struct client *client) {
    if (client->queue == NULL) return;
    while (client->queue->first != NULL) {
        struct chunk *chunk = client->queue->first;
        client->queue->first = chunk->next;
        free(chunk);
    }
    free(client->queue);
    client->queue = NULL;
}

// The callback of a write in flight comes before this one, so nobody uses the queue any more.
static void did_close(uv_handle_t *handle) {
    struct client *client = (struct client *)handle;
    free_queue(client);
    free(client);
}

static void close_client(struct client *client) {
    // A second uv_close aborts the process.
    if (!uv_is_closing((uv_handle_t *)client)) uv_close((uv_handle_t *)client, did_close);
}

// MARK: Writing what the kernel did not take

static void start_reading(struct client *client);
static void write_first(struct client *client);

static void did_write(uv_write_t *request, int status) {
    struct client *client = (struct client *)request->handle;
    // Comes also after uv_close; did_close gives the queue back then.
    if (uv_is_closing((uv_handle_t *)client)) return;
    // After a failure nothing more may be sent: the peer would get a stream with a hole.
    if (status != 0) return close_client(client);
    struct queue *queue = client->queue;
    struct chunk *sent = queue->first;
    queue->first = sent->next;
    queue->byte_count -= sent->count;
    free(sent);
    size_t left = queue->byte_count;
    if (queue->first != NULL) {
        write_first(client);
    } else {
        free_queue(client);
        // All of the peer's data was read, so this sends FIN and no reset.
        if (client->ended) return close_client(client);
    }
    if (!client->reading && !client->ended && left <= LOW_WATER_MARK) start_reading(client);
}

// One uv_write in flight: libuv sends the next one even when this one fails.
static void write_first(struct client *client) {
    struct chunk *chunk = client->queue->first;
    uv_buf_t buffer = uv_buf_init(chunk->bytes, (unsigned)chunk->count);
    int status = uv_write(&client->queue->write, (uv_stream_t *)client, &buffer, 1, did_write);
    if (status != 0) close_client(client);
}

// Not inlined: its registers would be saved for each message, and the yardstick be longer than need be.
__attribute__((noinline))
static void enqueue(struct client *client, const char *bytes, size_t count) {
    struct chunk *chunk = allocate(sizeof *chunk + count);
    chunk->next = NULL;
    chunk->count = count;
    memcpy(chunk->bytes, bytes, count);
    if (client->queue == NULL) {
        client->queue = allocate(sizeof *client->queue);
        client->queue->first = client->queue->last = chunk;
        client->queue->byte_count = count;
        write_first(client);
    } else {
        client->queue->last->next = chunk;
        client->queue->last = chunk;
        client->queue->byte_count += count;
    }
    // A peer that sends and never reads would otherwise take all memory.
    if (client->queue->byte_count >= HIGH_WATER_MARK) {
        uv_read_stop((uv_stream_t *)client);
        client->reading = false;
    }
}

// MARK: Reading

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    buffer->base = read_buffer;
    buffer->len = sizeof read_buffer;
}

__attribute__((noinline))
static void read_ended(struct client *client, ssize_t status) {
    // EAGAIN: nothing was there after all.
    if (status == 0) return;
    if (status != UV_EOF) return close_client(client);
    client->ended = true;
    client->reading = false;
    if (client->queue == NULL) close_client(client);
}

// In did_read itself, for the same reason that enqueue is not.
__attribute__((always_inline))
static inline void answer(struct client *client, const char *bytes, size_t count) {
    size_t sent = 0;
    // Past a queue the bytes would overtake those in it.
    if (client->queue == NULL) {
        uv_buf_t buffer = {.base = (char *)bytes, .len = count};
        int result = uv_try_write((uv_stream_t *)client, &buffer, 1);
        if (result == (int)count) return;
        if (result < 0 && result != UV_EAGAIN) return close_client(client);
        if (result > 0) sent = (size_t)result;
    }
    enqueue(client, bytes + sent, count - sent);
}

static void did_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct client *client = (struct client *)stream;
    if (count <= 0) return read_ended(client, count);
    answer(client, buffer->base, (size_t)count);
}

// MARK: Lines

// How long the first line of some bytes is; all of them, if none ends there.
static size_t first_line(const char *bytes, size_t count) {
    const char *newline = memchr(bytes, '\n', count);
    return newline != NULL ? (size_t)(newline - bytes) + 1 : count;
}

static void did_read_gathering_lines(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    static OF_A_LOOP char batch[READ_SIZE];
    struct client *client = (struct client *)stream;
    if (count <= 0) return read_ended(client, count);
    size_t total = (size_t)count;
    for (size_t start = 0, length; start < total; start += length) {
        length = first_line(buffer->base + start, total - start);
        memcpy(batch + start, buffer->base + start, length);
    }
    answer(client, batch, total);
}

struct line {
    uv_write_t write;
    char bytes[];
};

static void did_write_line(uv_write_t *request, int status) {
    struct client *client = (struct client *)request->handle;
    free(request);
    if (uv_is_closing((uv_handle_t *)client)) return;
    if (status != 0) return close_client(client);
    size_t left = uv_stream_get_write_queue_size((uv_stream_t *)client);
    if (client->ended && left == 0) return close_client(client);
    if (!client->reading && !client->ended && left <= LOW_WATER_MARK) start_reading(client);
}

static void did_read_lines(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct client *client = (struct client *)stream;
    if (count == UV_EOF && uv_stream_get_write_queue_size(stream) > 0) {
        // The last line's callback closes.
        client->ended = true;
        return;
    }
    if (count <= 0) return read_ended(client, count);
    size_t total = (size_t)count;
    for (size_t start = 0, length; start < total; start += length) {
        length = first_line(buffer->base + start, total - start);
        struct line *line = allocate(sizeof *line + length);
        memcpy(line->bytes, buffer->base + start, length);
        uv_buf_t bytes = uv_buf_init(line->bytes, (unsigned)length);
        if (uv_write(&line->write, stream, &bytes, 1, did_write_line) == 0) continue;
        free(line);
        return close_client(client);
    }
    if (uv_stream_get_write_queue_size(stream) < HIGH_WATER_MARK) return;
    uv_read_stop(stream);
    client->reading = false;
}

static uv_read_cb read_callback = did_read;

static void start_reading(struct client *client) {
    client->reading = true;
    if (uv_read_start((uv_stream_t *)client, lend_buffer, read_callback) != 0) close_client(client);
}

// MARK: Accepting and ending

static void did_connect(uv_stream_t *stream, int status) {
    if (status != 0) return;
    struct client *client = allocate(sizeof *client);
    client->queue = NULL;
    client->ended = false;
    check(uv_tcp_init(stream->loop, &client->tcp), "uv_tcp_init");
    if (uv_accept(stream, (uv_stream_t *)client) != 0) return close_client(client);
    // Nagle's algorithm would hold back the second of two small answers.
    uv_tcp_nodelay(&client->tcp, 1);
    start_reading(client);
}

static void close_any(uv_handle_t *handle, void *unused) {
    (void)unused;
    if (uv_is_closing(handle)) return;
    bool is_ours = handle == (uv_handle_t *)&listener || handle == (uv_handle_t *)&termination;
    uv_close(handle, is_ours ? NULL : did_close);
}

static void did_get_signal(uv_signal_t *handle, int number) {
    (void)number;
    uv_walk(handle->loop, close_any, NULL);
}

static void choose_mode(int count, char **arguments) {
    if (count > 1 && strcmp(arguments[1], "lines") == 0) read_callback = did_read_lines;
    if (count > 1 && strcmp(arguments[1], "batched-lines") == 0) read_callback = did_read_gathering_lines;
}

// Listens on `listener`, which is bound, and returns the port.
static int begin(uv_loop_t *loop) {
    struct sockaddr_in address;
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, did_connect), "uv_listen");
    check(uv_signal_init(loop, &termination), "uv_signal_init");
    check(uv_signal_start(&termination, did_get_signal, SIGTERM), "uv_signal_start");
    int length = sizeof address;
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length), "uv_tcp_getsockname");
    return ntohs(address.sin_port);
}

static void announce(int port) {
    printf("Listening on port %d\n", port);
    fflush(stdout);
}

#ifndef SEVERAL_LOOPS
int main(int count, char **arguments) {
    choose_mode(count, arguments);
    uv_loop_t *loop = uv_default_loop();
    // libuv writes with write(2), which raises it for a peer that has gone.
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address;
    check(uv_ip4_addr("127.0.0.1", 0, &address), "uv_ip4_addr");
    check(uv_tcp_init(loop, &listener), "uv_tcp_init");
    check(uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0), "uv_tcp_bind");
    announce(begin(loop));
    uv_run(loop, UV_RUN_DEFAULT);
    check(uv_loop_close(loop), "uv_loop_close");
    return 0;
}
#endif
