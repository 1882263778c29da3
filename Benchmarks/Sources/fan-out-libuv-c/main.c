// A yardstick: what one client sends, sent to all, as one writes it in C over libuv. A message is stored once, however
// many it goes to, until the last of them has it.
//
//   fan-out-libuv-c      on a free port of 127.0.0.1. SIGTERM ends it with status 0.

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
    // Whoever lets so much wait is sent away: the others would pay for it with the server's memory.
    MOST_QUEUED = 1024 * 1024,
};

// Bytes that some clients have yet to get.
struct payload {
    size_t users;
    size_t count;
    char bytes[];
};

struct client {
    uv_tcp_t tcp;
    struct client *next;
    struct client *previous;
};

struct write {
    uv_write_t request;
    struct payload *payload;
};

// One for the whole loop: libuv calls back with what it read before it reads again.
static char read_buffer[READ_SIZE];
static struct client *first_client;
static uv_tcp_t listener;
static uv_signal_t termination;

static void check(int status, const char *call) {
    if (status == 0) return;
    fprintf(stderr, "fan-out-libuv-c: %s: %s\n", call, uv_strerror(status));
    exit(1);
}

static void *allocate(size_t size) {
    void *memory = malloc(size);
    if (memory == NULL) abort();
    return memory;
}

// MARK: Clients

static void did_close(uv_handle_t *handle) {
    free(handle);
}

static void close_client(struct client *client) {
    // A second uv_close aborts the process.
    if (uv_is_closing((uv_handle_t *)client)) return;
    if (client->previous != NULL) client->previous->next = client->next; else first_client = client->next;
    if (client->next != NULL) client->next->previous = client->previous;
    uv_close((uv_handle_t *)client, did_close);
}

static void did_shut_down(uv_shutdown_t *request, int status) {
    (void)status;
    close_client((struct client *)request->handle);
    free(request);
}

// Closes behind what is queued.
static void end_client(struct client *client) {
    uv_shutdown_t *request = allocate(sizeof *request);
    if (uv_shutdown(request, (uv_stream_t *)client, did_shut_down) == 0) return;
    free(request);
    close_client(client);
}

// MARK: Messages

static void release(struct payload *payload) {
    if (--payload->users == 0) free(payload);
}

static void did_write(uv_write_t *request, int status) {
    struct write *write = (struct write *)request;
    release(write->payload);
    if (status != 0) close_client((struct client *)request->handle);
    free(write);
}

static void enqueue(struct client *client, struct payload *payload, size_t sent) {
    uv_stream_t *stream = (uv_stream_t *)client;
    if (uv_stream_get_write_queue_size(stream) > MOST_QUEUED) return close_client(client);
    struct write *write = allocate(sizeof *write);
    write->payload = payload;
    payload->users++;
    uv_buf_t rest = uv_buf_init(payload->bytes + sent, (unsigned)(payload->count - sent));
    if (uv_write(&write->request, stream, &rest, 1, did_write) == 0) return;
    release(payload);
    free(write);
    close_client(client);
}

static void send_to(struct client *client, struct payload *payload) {
    uv_buf_t all = uv_buf_init(payload->bytes, (unsigned)payload->count);
    // libuv takes none of it, with UV_EAGAIN, while something is queued.
    int sent = uv_try_write((uv_stream_t *)client, &all, 1);
    if (sent == (int)payload->count) return;
    if (sent < 0 && sent != UV_EAGAIN) return close_client(client);
    enqueue(client, payload, sent > 0 ? (size_t)sent : 0);
}

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    buffer->base = read_buffer;
    buffer->len = sizeof read_buffer;
}

static void did_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    // EAGAIN: nothing was there after all.
    if (count == 0) return;
    if (count == UV_EOF) return end_client((struct client *)stream);
    if (count < 0) return close_client((struct client *)stream);
    struct payload *payload = allocate(sizeof *payload + (size_t)count);
    payload->users = 1;
    payload->count = (size_t)count;
    memcpy(payload->bytes, buffer->base, payload->count);
    struct client *next;
    for (struct client *client = first_client; client != NULL; client = next) {
        next = client->next;
        send_to(client, payload);
    }
    release(payload);
}

// MARK: Accepting and ending

static void did_connect(uv_stream_t *stream, int status) {
    if (status != 0) return;
    struct client *client = allocate(sizeof *client);
    check(uv_tcp_init(stream->loop, &client->tcp), "uv_tcp_init");
    client->previous = NULL;
    client->next = first_client;
    if (first_client != NULL) first_client->previous = client;
    first_client = client;
    if (uv_accept(stream, (uv_stream_t *)client) != 0) return close_client(client);
    uv_tcp_nodelay(&client->tcp, 1);
    if (uv_read_start((uv_stream_t *)client, lend_buffer, did_read) != 0) close_client(client);
}

static void did_get_signal(uv_signal_t *handle, int number) {
    (void)number;
    while (first_client != NULL) close_client(first_client);
    uv_close((uv_handle_t *)&listener, NULL);
    uv_close((uv_handle_t *)handle, NULL);
}

int main(void) {
    uv_loop_t *loop = uv_default_loop();
    // libuv writes with write(2), which raises it for a peer that has gone.
    signal(SIGPIPE, SIG_IGN);
    struct sockaddr_in address;
    check(uv_ip4_addr("127.0.0.1", 0, &address), "uv_ip4_addr");
    check(uv_tcp_init(loop, &listener), "uv_tcp_init");
    check(uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0), "uv_tcp_bind");
    check(uv_listen((uv_stream_t *)&listener, BACKLOG, did_connect), "uv_listen");
    check(uv_signal_init(loop, &termination), "uv_signal_init");
    check(uv_signal_start(&termination, did_get_signal, SIGTERM), "uv_signal_start");
    int length = sizeof address;
    check(uv_tcp_getsockname(&listener, (struct sockaddr *)&address, &length), "uv_tcp_getsockname");
    printf("Listening on port %d\n", ntohs(address.sin_port));
    fflush(stdout);
    uv_run(loop, UV_RUN_DEFAULT);
    check(uv_loop_close(loop), "uv_loop_close");
    return 0;
}
