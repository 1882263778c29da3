// A peer of a group of loops: the yardstick on several threads, each with a loop and a listening socket of its own. The
// kernel spreads the clients (SO_REUSEPORT, socket(7)).
//
//   echo-libuv-loops-c MODE LOOPS      with the modes of echo-libuv-c, on a free port of 127.0.0.1. SIGTERM ends it with status 0.

#define OF_A_LOOP _Thread_local
#define SEVERAL_LOOPS
#include "../echo-libuv-c/main.c"

enum { MOST_LOOPS = 64 };

// The port of the first loop; 0 until it listens.
static int shared_port;
static uv_barrier_t all_listen;

static void bind_shared(uv_loop_t *loop) {
    struct sockaddr_in address;
    uv_os_fd_t descriptor;
    int on = 1;
    check(uv_ip4_addr("127.0.0.1", shared_port, &address), "uv_ip4_addr");
    // With a family, so that the socket is there before it is bound.
    check(uv_tcp_init_ex(loop, &listener, AF_INET), "uv_tcp_init_ex");
    check(uv_fileno((uv_handle_t *)&listener, &descriptor), "uv_fileno");
    if (setsockopt(descriptor, SOL_SOCKET, SO_REUSEPORT, &on, sizeof on) != 0) check(-errno, "setsockopt");
    check(uv_tcp_bind(&listener, (const struct sockaddr *)&address, 0), "uv_tcp_bind");
}

static void run(uv_loop_t *loop) {
    // Clients that came before would all be the first loop's.
    if (uv_barrier_wait(&all_listen) > 0) announce(shared_port);
    uv_run(loop, UV_RUN_DEFAULT);
    check(uv_loop_close(loop), "uv_loop_close");
}

static void run_another(void *unused) {
    (void)unused;
    uv_loop_t loop;
    check(uv_loop_init(&loop), "uv_loop_init");
    bind_shared(&loop);
    begin(&loop);
    run(&loop);
}

int main(int count, char **arguments) {
    int loops = count > 2 ? atoi(arguments[2]) : 0;
    if (loops < 1 || loops > MOST_LOOPS) {
        fprintf(stderr, "usage: echo-libuv-loops-c MODE LOOPS, from 1 to %d\n", MOST_LOOPS);
        return 64;
    }
    choose_mode(count, arguments);
    signal(SIGPIPE, SIG_IGN);
    uv_thread_t threads[MOST_LOOPS];
    check(uv_barrier_init(&all_listen, (unsigned)loops), "uv_barrier_init");
    bind_shared(uv_default_loop());
    shared_port = begin(uv_default_loop());
    for (int index = 1; index < loops; index++) check(uv_thread_create(&threads[index], run_another, NULL), "thread");
    run(uv_default_loop());
    for (int index = 1; index < loops; index++) uv_thread_join(&threads[index]);
    return 0;
}
