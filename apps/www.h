/* Serves the regular files beneath one directory over HTTP/1.1: GET and HEAD, keep-alive, requests
 * of a pipeline one after the other. The kernel keeps a path from leading out (openat2,
 * RESOLVE_BENEATH):
 * "..", absolute symbolic links and races between look and open included. */
#ifndef APPS_WWW_H
#define APPS_WWW_H

#include "tls_conn.h"

struct www;

/* A descriptor of the directory for www_new(), or -1 and errno. ENOSYS: this kernel cannot. */
int www_open_root(const char *dir);
/* One connection's state; root stays the caller's. NULL: out of memory. */
struct www *www_new(struct tls_conn *c, int root);
void www_progress(struct www *w);
/* Ends after the answer that is being written; at once when there is none. */
void www_drain(struct www *w);
void www_free(struct www *w);

#endif
