// The yardstick of `crossing`: a list behind a mutex, and uv_async_send. The same work, a counter that the loop raises.
//
//     crossing-libuv-c COUNT
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <uv.h>

struct body {
    struct body *next;
    void (*run)(void *);
    void *argument;
};

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static struct body *first, **last = &first;
static uv_async_t async;
static long wanted, counter;

static void execute(void (*run)(void *), void *argument) {
    struct body *body = malloc(sizeof *body);
    if (!body) abort();
    *body = (struct body){NULL, run, argument};
    pthread_mutex_lock(&mutex);
    *last = body;
    last = &body->next;
    pthread_mutex_unlock(&mutex);
    uv_async_send(&async);
}

static void woken(uv_async_t *handle) {
    pthread_mutex_lock(&mutex);
    struct body *body = first;
    first = NULL;
    last = &first;
    pthread_mutex_unlock(&mutex);
    while (body) {
        struct body *next = body->next;
        body->run(body->argument);
        free(body);
        body = next;
    }
    if (counter == wanted) uv_stop(handle->loop);
}

static void raise_counter(void *argument) { ++*(long *)argument; }

static void *ask(void *unused) {
    (void)unused;
    for (long index = 0; index < wanted; index++) execute(raise_counter, &counter);
    return NULL;
}

static long processor_time(void) {
    struct timespec time;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
    return time.tv_sec * 1000000000L + time.tv_nsec;
}

int main(int count, char **arguments) {
    wanted = count == 2 ? atol(arguments[1]) : 0;
    if (wanted <= 0) {
        fprintf(stderr, "usage: crossing-libuv-c COUNT\n");
        return 64;
    }
    uv_loop_t *loop = uv_default_loop();
    if (uv_async_init(loop, &async, woken) != 0) return 1;
    long before = processor_time();
    pthread_t thread;
    if (pthread_create(&thread, NULL, ask, NULL) != 0) return 1;
    uv_run(loop, UV_RUN_DEFAULT);
    long time = processor_time() - before;
    pthread_join(thread, NULL);
    printf("%ld\n", time / wanted);
    return 0;
}
