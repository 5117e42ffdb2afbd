/* Listening TCP sockets in a libev loop. When accepting must pause (too many connections, no free
 * descriptor) the kernel's queue holds the newcomers; nobody is dropped. */
#ifndef APPS_LISTENER_H
#define APPS_LISTENER_H

#include <ev.h>

#include "addr.h"

#define LISTENER_MAX 16

struct listeners;

/* A new connection: non-blocking, the owner's from now on. */
typedef void listener_accept(void *arg, int fd, const struct sockaddr *peer, socklen_t len);

/* NULL: out of memory. */
struct listeners *listeners_new(struct ev_loop *loop, listener_accept *accept, void *arg);
/* Those added from now on accept Multipath TCP too. */
void listeners_set_mptcp(struct listeners *l);
/* Binds "ADDR:PORT" (port 0: any free one) and listens. 0, or -1 with a text in *why (static or
 * strerror's). */
int listeners_add(struct listeners *l, const char *text, const char **why);
size_t listeners_count(const struct listeners *l);
/* The real address: "ADDR:PORT". */
const char *listeners_get0_text(const struct listeners *l, size_t index);
/* Starts (again) or pauses accepting. */
void listeners_run(struct listeners *l, bool on);
/* Closes them. NULL is allowed. */
void listeners_free(struct listeners *l);

#endif
