// What needs a place of its own: a variable; weak symbols that no header may declare, since libdispatch's own declare
// them otherwise; and calls whose types glibc declares with _GNU_SOURCE alone, which no header here may define.
#define _GNU_SOURCE
#include "CLinux.h"
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

// libdispatch's main queue, for whoever waits in the place of dispatch_main(3): CoreFoundation's run loop uses these
// two. Weak: a program without libdispatch links all the same.
extern int _dispatch_get_main_queue_handle_4CF(void) __attribute__((weak));
extern void _dispatch_main_queue_callback_4CF(void *) __attribute__((weak));
extern const char *dispatch_queue_get_label(void *) __attribute__((weak));

static pid_t process;

// Before main: a child of fork(2) has one thread, whose number is the process's, and libdispatch does not serve it.
__attribute__((constructor)) static void note_process(void) {
    process = getpid();
}

bool linux_is_first_thread(void) {
    return getpid() == process && gettid() == process;
}

int linux_main_queue_descriptor(void) {
    if (!_dispatch_get_main_queue_handle_4CF || !_dispatch_main_queue_callback_4CF) {
        errno = ENOSYS;
        return -1;
    }
    // libdispatch aborts when there is none left for its own.
    int probe = linux_eventfd();
    if (probe < 0) return -1;
    close(probe);
    return _dispatch_get_main_queue_handle_4CF();
}

void linux_serve_main_queue(int descriptor) {
    uint64_t count;
    // First: what is queued from here on raises it again.
    ssize_t size = read(descriptor, &count, sizeof count);
    (void)size;
    _dispatch_main_queue_callback_4CF(NULL);
}

bool linux_is_on_main_queue(void) {
    if (getpid() != process || !dispatch_queue_get_label) return false;
    return strcmp(dispatch_queue_get_label(NULL), "com.apple.main-thread") == 0;
}

int linux_core_count(void) {
    cpu_set_t cores;
    // More cores than the set holds: EINVAL.
    if (sched_getaffinity(0, sizeof cores, &cores) != 0) return (int)sysconf(_SC_NPROCESSORS_ONLN);
    return CPU_COUNT(&cores);
}

void linux_name_loop_thread(int number) {
    // 16 bytes are the most that the kernel keeps.
    char name[16];
    snprintf(name, sizeof name, "loop %d", number);
    pthread_setname_np(pthread_self(), name);
}
