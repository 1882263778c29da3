// What a measurement needs of other processes, and Swift has no call for.
#pragma once

#include <sys/types.h>

/// Keeps this thread, and the processes that it starts, on one core from now on.
int process_pin(int core);

/// How many cores this process may use; `first` and `last` get the numbers of two of them.
int process_cores(int *first, int *last);

/// Starts a program on a core, its standard output a pipe that `output` reads. It is killed when this process ends.
/// 0, or an errno.
int process_start(char *const arguments[], int core, pid_t *process, int *output);

/// Processor time that all threads of a process have taken since it began, in nanoseconds; -1 if there is none such.
long long process_cpu_nanoseconds(pid_t process);

/// Raises the limit on open descriptors as far as is allowed, for this process and those it starts, and returns it.
long process_raise_descriptor_limit(void);
