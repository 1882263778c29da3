// Faults in system calls on stream sockets, for LD_PRELOAD (ld.so(8)): what a kernel may answer and seldom does.
//
// A plan says which:
//
//     soft seed=7 every=4                 what must change nothing: short reads and writes, EINTR, EAGAIN, waits cut
//                                         to one event, ECONNABORTED from accept; about every fourth call
//     hard call=write errno=ENOMEM at=3   the third write fails, once
//     hard call=write errno=ENOMEM at=3 for-ever
//     off
//
// The calls are read, write, accept, socket, bind, listen and epoll_ctl (but to delete), each with its relatives (recv,
// sendmsg, accept4, ...).
// Whatever is no stream socket is left alone: a fault on a pipe of the program's own would prove nothing.
//
// EAGAIN and a wait cut to one event are only fair to a program that waits level-triggered (epoll(7)); once epoll_ctl
// has been asked for EPOLLET or EPOLLONESHOT, waits are not cut.
//
// Children of the program are not hit: LD_PRELOAD is taken out of its environment.
//
// Environment:
//
//     FAULTS=PLAN             from the start; otherwise "off"
//     FAULTS_THREADS=armed    only threads that have called faults_arm; otherwise all
//     FAULTS_REPORT=PATH      at exit the counts are written there
#ifndef CFAULTS_H
#define CFAULTS_H

#include <stddef.h>
#include <stdint.h>

/// Replaces the plan and sets its count of calls, not the count of faults, back to zero. Answers 0, or -1 if it is no
/// plan. No armed thread may be inside a system call meanwhile.
int faults_set(const char *plan);

/// Whether the calls of this thread are to be hit, with FAULTS_THREADS=armed.
void faults_arm(int is_armed);

/// How many faults have been injected by this process.
uint64_t faults_injected(void);

/// Writes a line "CALL FAULT COUNT" for each kind that has been injected, with a terminating zero, cut to `size`
/// bytes; answers the length.
size_t faults_report(char *text, size_t size);

#endif
