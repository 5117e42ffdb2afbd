/* An HTTP/1.x request head, parsed from memory. Pure: no sockets, no files. */
#ifndef APPS_HTTP_REQUEST_H
#define APPS_HTTP_REQUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_LINE_MAX 4096  /* request line; beyond it 414 */
#define HTTP_HEAD_MAX 16384 /* the whole head; beyond it 431 */
#define HTTP_PATH_MAX 4096

struct http_request {
    bool head; /* HEAD, otherwise GET */
    bool keep_alive;
    char path[HTTP_PATH_MAX]; /* percent-decoded, without the query, begins with '/' */
};

/* 0: the head is not complete; 200: parsed, *used bytes belong to it; else the status to refuse it
 * with (400, 405, 414, 431, 505) - the connection must end then, since where the next request
 * begins is not known. */
int http_request_parse(const uint8_t *data, size_t len, struct http_request *out, size_t *used);

#endif
