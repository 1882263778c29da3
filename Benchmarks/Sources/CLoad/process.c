#define _GNU_SOURCE
#include "process.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

int process_pin(int core) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(core, &set);
    return sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
}

int process_cores(int *first, int *last) {
    cpu_set_t set;
    int count = 0;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 0;
    for (int core = 0; core < CPU_SETSIZE; core++) {
        if (!CPU_ISSET(core, &set)) continue;
        if (count == 0) *first = core;
        *last = core;
        count++;
    }
    return count;
}

// In the child, where only calls that are safe in a signal handler are allowed: the parent has other threads perhaps.
static void become(char *const arguments[], int core, int output, int failures, pid_t parent) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    // The parent may have ended before that.
    if (getppid() != parent) _exit(127);
    process_pin(core);
    // A thread of whatever started this process may have blocked SIGTERM.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    dup2(output, STDOUT_FILENO);
    execvp(arguments[0], arguments);
    int error = errno;
    ssize_t told = write(failures, &error, sizeof error);
    _exit(told == sizeof error ? 127 : 126);
}

int process_start(char *const arguments[], int core, pid_t *process, int *output) {
    int lines[2], failures[2], error = 0;
    if (pipe2(lines, O_CLOEXEC) != 0) return errno;
    if (pipe2(failures, O_CLOEXEC) != 0) {
        error = errno;
        close(lines[0]);
        close(lines[1]);
        return error;
    }
    pid_t parent = getpid();
    *process = fork();
    if (*process == 0) become(arguments, core, lines[1], failures[1], parent);
    if (*process < 0) error = errno;
    close(lines[1]);
    close(failures[1]);
    // A program that was started has closed this pipe, and it says nothing.
    if (*process > 0 && read(failures[0], &error, sizeof error) <= 0) error = 0;
    close(failures[0]);
    if (error != 0) close(lines[0]);
    *output = lines[0];
    return error;
}

long long process_cpu_nanoseconds(pid_t process) {
    clockid_t clock;
    struct timespec time;
    if (clock_getcpuclockid(process, &clock) != 0 || clock_gettime(clock, &time) != 0) return -1;
    return (long long)time.tv_sec * 1000000000 + time.tv_nsec;
}

long process_raise_descriptor_limit(void) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) return -1;
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    return (long)limit.rlim_cur;
}
