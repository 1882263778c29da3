// Linked into the test program, it comes before libc's, for the program's own code.
#define _GNU_SOURCE
#include "CNames.h"

#include <dlfcn.h>
#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { MOST_NAMES = 4096, LONGEST_NAME = 256 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static struct {
    char name[LONGEST_NAME];
    int asked;
    bool may_go;
} entries[MOST_NAMES];
static int count, asked, under_way;

/// The entry of a name, made if need be; the lock is held.
static int entry_of(const char *name) {
    for (int index = 0; index < count; index++) {
        if (strcmp(entries[index].name, name) == 0) return index;
    }
    if (count == MOST_NAMES) return 0;
    snprintf(entries[count].name, LONGEST_NAME, "%s", name);
    return count++;
}

int names_asked(const char *name) {
    pthread_mutex_lock(&lock);
    int times = name == NULL ? asked : entries[entry_of(name)].asked;
    pthread_mutex_unlock(&lock);
    return times;
}

int names_under_way(void) {
    pthread_mutex_lock(&lock);
    int now = under_way;
    pthread_mutex_unlock(&lock);
    return now;
}

void names_let_go(const char *name) {
    pthread_mutex_lock(&lock);
    entries[entry_of(name)].may_go = true;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&lock);
}

pid_t names_fork(void) { return fork(); }

static void look_up(const char *name, bool is_held) {
    pthread_mutex_lock(&lock);
    int index = entry_of(name);
    entries[index].asked += 1;
    asked += 1;
    under_way += 1;
    while (is_held && !entries[index].may_go) pthread_cond_wait(&changed, &lock);
    under_way -= 1;
    pthread_mutex_unlock(&lock);
}

static bool begins(const char *text, const char *start) { return strncmp(text, start, strlen(start)) == 0; }

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **list) {
    // Atomic: several threads may be the first. They find the same.
    static _Atomic(__typeof__(&getaddrinfo)) found;
    __typeof__(&getaddrinfo) real = found;
    if (real == NULL) {
        real = (__typeof__(&getaddrinfo))dlsym(RTLD_NEXT, "getaddrinfo");
        found = real;
    }
    if (node != NULL) {
        bool is_held = begins(node, "held-");
        bool is_failing = begins(node, "failing-");
        if (begins(node, "unknown-")) return EAI_NONAME;
        if (is_held || is_failing || begins(node, "known-")) {
            look_up(node, is_held);
            if (is_failing) return EAI_AGAIN;
            node = "127.0.0.1";
        }
    }
    return real(node, service, hints, list);
}
