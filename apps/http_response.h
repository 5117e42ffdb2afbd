/* An HTTP/1.x response, parsed as it comes, in pieces of any size. Pure: no sockets, no files. */
#ifndef APPS_HTTP_RESPONSE_H
#define APPS_HTTP_RESPONSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HTTP_RESPONSE_LINE_MAX 8192
#define HTTP_RESPONSE_HEAD_MAX 65536 /* all header and trailer lines together */

enum http_response_state {
    HTTP_STATUS_LINE,
    HTTP_FIELD,
    HTTP_BODY_LENGTH, /* left bytes */
    HTTP_BODY_CLOSE,  /* until the connection ends */
    HTTP_CHUNK_SIZE,
    HTTP_CHUNK_DATA,
    HTTP_CHUNK_END,
    HTTP_TRAILER,
    HTTP_DONE,
    HTTP_BROKEN /* sticky */
};

struct http_response {
    enum http_response_state state;
    int status; /* of the final response, once its line was read */
    bool head;  /* the request was HEAD: no body whatever the fields say */
    bool chunked, has_length;
    uint64_t left;
    size_t line_len, head_len;
    char line[HTTP_RESPONSE_LINE_MAX];
};

void http_response_init(struct http_response *r, bool head);
/* Takes data up to the end of the next piece of body, or all of it. Returns how much was taken; of
 * that the last *body_len bytes are body. Look at r->state afterwards. */
size_t http_response_feed(struct http_response *r, const uint8_t *data, size_t len,
                          size_t *body_len);
/* The connection ended in order: whether the response is complete. */
bool http_response_end(struct http_response *r);

#endif
