/* One HTTP/1.1 request over a connection; the body of a 2xx answer goes to a descriptor. */
#ifndef APPS_HTTP_GET_H
#define APPS_HTTP_GET_H

#include "tls_conn.h"

struct http_get;

/* host as the Host field wants it. NULL: out of memory. fd stays the caller's. */
struct http_get *http_get_new(struct tls_conn *c, bool head, const char *host, const char *path,
                              int fd);
void http_get_progress(struct http_get *g);
/* The connection ended, in order or not. The status of a complete answer; 0: incomplete or
 * malformed. */
int http_get_end(struct http_get *g, bool clean);
void http_get_free(struct http_get *g);

#endif
