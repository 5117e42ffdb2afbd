/* A bounded byte queue between two non-blocking ends. Its memory exists only while it holds bytes,
 * so that an idle connection costs none. */
#ifndef APPS_BUF_H
#define APPS_BUF_H

#include <stddef.h>
#include <stdint.h>

#define BUF_SIZE 32768 /* the bound: a full queue is the back-pressure */

struct buf {
    uint8_t *data;     /* NULL while empty */
    size_t start, end; /* the bytes are data[start..end) */
};

size_t buf_len(const struct buf *b);
/* How many more bytes fit. */
size_t buf_space(const struct buf *b);
const uint8_t *buf_head(const struct buf *b);
/* Room at the end for *room (> 0) bytes; NULL: full or out of memory. Follow with buf_commit(). */
uint8_t *buf_reserve(struct buf *b, size_t *room);
void buf_commit(struct buf *b, size_t len);
void buf_consume(struct buf *b, size_t len);
/* Appends all of it: 0, or -1 when it does not fit or memory is out. */
int buf_put(struct buf *b, const void *data, size_t len);
void buf_clear(struct buf *b);

#endif
