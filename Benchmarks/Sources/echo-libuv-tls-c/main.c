// The yardstick of TLS: an echo server as one writes it in C over libuv and OpenSSL 3, with nothing left out that
// correctness needs, since a wrong baseline is a fast one. TLS 1.3 and 1.2, resumption by session tickets.
//
//   echo-libuv-tls-c CERTIFICATE KEY      on a free port of 127.0.0.1. SIGTERM ends it with status 0.
//
// OpenSSL reads the bytes where libuv has put them, and writes into one buffer of the loop. Memory BIOs would copy
// once more each way, and keep what their largest message took: 57 KiB a connection after 16 kB.

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
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
    // Four full records: what a read brings is mostly answered with one call each of SSL_write and write(2).
    PLAINTEXT_SIZE = 64 * 1024,
    // Those four encrypted, and what the handshake adds.
    OUTPUT_SIZE = PLAINTEXT_SIZE + 4 * 1024,
    // Of ciphertext. Reading stops at the first mark and goes on at the second: the marks of the server that is
    // compared.
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
    SSL *ssl;
    bool reading;
    // Nothing more is read: the peer has said close_notify, or TLS has failed. What is queued is sent, then it closes.
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

// One of each for the whole loop: all are empty again before the next read.
static char read_buffer[READ_SIZE];
static char plaintext[PLAINTEXT_SIZE];
static char output[OUTPUT_SIZE];
static size_t output_count;
// What of the read buffer OpenSSL has not taken, and whose it is.
static const char *input;
static size_t input_count;
static struct client *current;

static uv_tcp_t listener;
static uv_signal_t termination;
static SSL_CTX *context;
static BIO_METHOD *method;
// Each client holds a reference.
static BIO *shared_bio;

static void check(int status, const char *call) {
    if (status == 0) return;
    fprintf(stderr, "echo-libuv-tls-c: %s: %s\n", call, uv_strerror(status));
    exit(1);
}

// For OpenSSL's calls, which return 1 or a pointer.
static void check_ssl(bool succeeded, const char *what) {
    if (succeeded) return;
    fprintf(stderr, "echo-libuv-tls-c: %s: %s\n", what, ERR_reason_error_string(ERR_peek_last_error()));
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
    SSL_free(client->ssl);
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
        if (client->ended) return close_client(client);
    }
    // No plaintext waits inside OpenSSL: all of a read is decrypted before reading stops.
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

// Sends what OpenSSL has written for this client, and queues what the kernel does not take.
static void send_output(struct client *client) {
    size_t count = output_count, sent = 0;
    output_count = 0;
    if (count == 0 || uv_is_closing((uv_handle_t *)client)) return;
    // Past a queue the bytes would overtake those in it.
    if (client->queue == NULL) {
        uv_buf_t buffer = {.base = output, .len = count};
        int result = uv_try_write((uv_stream_t *)client, &buffer, 1);
        if (result == (int)count) return;
        if (result < 0 && result != UV_EAGAIN) return close_client(client);
        if (result > 0) sent = (size_t)result;
    }
    enqueue(client, output + sent, count - sent);
}

// MARK: What OpenSSL reads from and writes to

static int bio_read(BIO *bio, char *bytes, size_t size, size_t *count) {
    BIO_clear_retry_flags(bio);
    if (input_count == 0) {
        BIO_set_retry_read(bio);
        return 0;
    }
    *count = size < input_count ? size : input_count;
    memcpy(bytes, input, *count);
    input += *count;
    input_count -= *count;
    return 1;
}

static int bio_write(BIO *bio, const char *bytes, size_t size, size_t *count) {
    BIO_clear_retry_flags(bio);
    for (*count = 0; *count < size;) {
        // A client that was closed by this is still there: libuv frees it later.
        if (output_count == sizeof output) send_output(current);
        size_t room = sizeof output - output_count, left = size - *count, piece = left < room ? left : room;
        memcpy(output + output_count, bytes + *count, piece);
        output_count += piece;
        *count += piece;
    }
    return 1;
}

static long bio_control(BIO *bio, int command, long number, void *pointer) {
    (void)bio;
    (void)number;
    (void)pointer;
    // All others ask for what this one has not: an end, sizes, the kernel's TLS.
    return command == BIO_CTRL_FLUSH;
}

static void make_bio(void) {
    method = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "libuv");
    check_ssl(method != NULL, "BIO_meth_new");
    BIO_meth_set_read_ex(method, bio_read);
    BIO_meth_set_write_ex(method, bio_write);
    BIO_meth_set_ctrl(method, bio_control);
    shared_bio = BIO_new(method);
    check_ssl(shared_bio != NULL, "BIO_new");
    BIO_set_init(shared_bio, 1);
}

// MARK: Reading

static void lend_buffer(uv_handle_t *handle, size_t suggested, uv_buf_t *buffer) {
    (void)handle;
    (void)suggested;
    buffer->base = read_buffer;
    buffer->len = sizeof read_buffer;
}

// Behind the last byte that the peer gets: an answer, an alert or close_notify.
__attribute__((noinline))
static void finish(struct client *client) {
    send_output(client);
    client->ended = true;
    client->reading = false;
    if (uv_is_closing((uv_handle_t *)client)) return;
    uv_read_stop((uv_stream_t *)client);
    if (client->queue == NULL) close_client(client);
}

// Decrypts all of the input, and answers it; the handshake is a part of SSL_read. False when nothing more is to come.
static bool echo(SSL *ssl) {
    for (;;) {
        size_t gathered = 0, count;
        // SSL_get_error takes what an earlier call has left there for this one's. To look is cheaper than to clear.
        if (ERR_peek_error() != 0) ERR_clear_error();
        int reason = SSL_ERROR_NONE;
        while (gathered < sizeof plaintext) {
            if (!SSL_read_ex(ssl, plaintext + gathered, sizeof plaintext - gathered, &count)) {
                reason = SSL_get_error(ssl, 0);
                break;
            }
            gathered += count;
            // Mostly so. One more SSL_read would say the same, for a sixth of what a small message costs.
            if (input_count == 0 && !SSL_has_pending(ssl)) {
                reason = SSL_ERROR_WANT_READ;
                break;
            }
        }
        // After these SSL may not be used any more, not even to answer what came before.
        if (reason == SSL_ERROR_SSL || reason == SSL_ERROR_SYSCALL) return false;
        if (gathered > 0 && !SSL_write_ex(ssl, plaintext, gathered, &count)) return false;
        if (reason == SSL_ERROR_WANT_READ) return true;
        if (reason == SSL_ERROR_NONE) continue;
        if (reason == SSL_ERROR_ZERO_RETURN) SSL_shutdown(ssl);
        return false;
    }
}

static void did_read(uv_stream_t *stream, ssize_t count, const uv_buf_t *buffer) {
    struct client *client = (struct client *)stream;
    // 0: EAGAIN, nothing was there after all.
    if (count == 0) return;
    // Also at UV_EOF: without close_notify the stream was cut off, perhaps by somebody else.
    if (count < 0) return close_client(client);
    current = client;
    input = buffer->base;
    input_count = (size_t)count;
    bool goes_on = echo(client->ssl);
    // What is left after a failure would be the next client's.
    input_count = 0;
    if (goes_on) send_output(client); else finish(client);
}

static void start_reading(struct client *client) {
    client->reading = true;
    if (uv_read_start((uv_stream_t *)client, lend_buffer, did_read) != 0) close_client(client);
}

// MARK: Accepting and ending

static void did_connect(uv_stream_t *stream, int status) {
    if (status != 0) return;
    struct client *client = allocate(sizeof *client);
    client->queue = NULL;
    client->ended = false;
    client->reading = false;
    client->ssl = SSL_new(context);
    if (client->ssl == NULL) abort();
    // One reference for both directions, if they are the same.
    BIO_up_ref(shared_bio);
    SSL_set_bio(client->ssl, shared_bio, shared_bio);
    SSL_set_accept_state(client->ssl);
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

static void make_context(const char *certificate, const char *key) {
    context = SSL_CTX_new(TLS_server_method());
    check_ssl(context != NULL, "SSL_CTX_new");
    check_ssl(SSL_CTX_set_min_proto_version(context, TLS1_2_VERSION), "SSL_CTX_set_min_proto_version");
    check_ssl(SSL_CTX_use_certificate_chain_file(context, certificate), certificate);
    check_ssl(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM), key);
    // An idle client keeps no buffers of 16 KiB.
    SSL_CTX_set_mode(context, SSL_MODE_RELEASE_BUFFERS);
    // Headers and records with one call of the BIO for as much as there is room.
    SSL_CTX_set_read_ahead(context, 1);
    // A peer could have the server compute for nothing.
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION);
    // Clients keep their sessions themselves, in tickets.
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
}

static void listen_on_free_port(uv_loop_t *loop) {
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
}

int main(int count, char **arguments) {
    if (count != 3) {
        fprintf(stderr, "usage: echo-libuv-tls-c CERTIFICATE KEY\n");
        return 64;
    }
    // libuv writes with write(2), which raises it for a peer that has gone.
    signal(SIGPIPE, SIG_IGN);
    make_context(arguments[1], arguments[2]);
    make_bio();
    uv_loop_t *loop = uv_default_loop();
    listen_on_free_port(loop);
    uv_run(loop, UV_RUN_DEFAULT);
    check(uv_loop_close(loop), "uv_loop_close");
    BIO_free(shared_bio);
    BIO_meth_free(method);
    SSL_CTX_free(context);
    return 0;
}
