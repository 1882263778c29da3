// What the interposed calls ask: which fault this call is to meet.
#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stddef.h>

enum call { CALL_READ, CALL_WRITE, CALL_ACCEPT, CALL_SOCKET, CALL_BIND, CALL_LISTEN, CALL_EPOLL_CTL, CALL_WAIT, CALLS };

enum fault { FAULT_SHORT, FAULT_EINTR, FAULT_EAGAIN, FAULT_ECONNABORTED, FAULT_ONE_EVENT, FAULT_HARD, FAULTS };

/// Whether this call on `descriptor` fails; then `errno` is set. A transfer that is to be short has its `size` cut.
/// `size` is null for calls that transfer nothing, `flags` is of recv(2) and send(2).
bool meets_failure(enum call call, int descriptor, size_t *size, int flags);

/// The same for socket(2), which has no descriptor yet.
bool meets_failure_of_socket(int type);

/// Whether this wait is interrupted; then `errno` is set. `is_cut` says whether it is to tell one event at most.
bool meets_interruption(bool *is_cut);

/// The program waits edge-triggered: an event that is not told would be lost.
void forbid_cut_waits(void);

/// Notes that a call has met a fault.
void injected(enum call call, enum fault fault);

/// A number below `bound`.
size_t draw(size_t bound);

#endif
