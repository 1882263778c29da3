// A resolver that tests control: getaddrinfo(3) for names of their own, and libc's for all others.
//
//   held-…   waits until names_let_go of that name, then is 127.0.0.1
//   known-…  is 127.0.0.1
//   unknown-… is no name, EAI_NONAME
//   failing-… is a name server that does not answer, EAI_AGAIN
#ifndef CNAMES_H
#define CNAMES_H

#include <sys/types.h>

/// How often a name has been asked for; with NULL, how often any of the names above.
int names_asked(const char *name);

/// How many of the names above are being looked up now.
int names_under_way(void);

/// Lets all look-ups of a name return, those to come as well.
void names_let_go(const char *name);

/// fork(2), which Swift does not let a program call.
pid_t names_fork(void);

#endif
