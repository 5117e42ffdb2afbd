/* A bounded byte queue between two non-blocking ends. */
#include "buf.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

size_t buf_len(const struct buf *b)
{
    return b->end - b->start;
}

size_t buf_space(const struct buf *b)
{
    return BUF_SIZE - buf_len(b);
}

const uint8_t *buf_head(const struct buf *b)
{
    return b->data + b->start;
}

uint8_t *buf_reserve(struct buf *b, size_t *room)
{
    *room = 0;
    if (buf_space(b) == 0)
        return NULL;
    if (b->data == NULL && (b->data = malloc(BUF_SIZE)) == NULL)
        return NULL;
    if (b->end > BUF_SIZE / 2 && b->start > 0) {
        memmove(b->data, b->data + b->start, buf_len(b));
        b->end -= b->start;
        b->start = 0;
    }
    *room = BUF_SIZE - b->end;
    return b->data + b->end;
}

void buf_commit(struct buf *b, size_t len)
{
    b->end += len;
}

void buf_consume(struct buf *b, size_t len)
{
    b->start += len;
    if (b->start == b->end)
        buf_clear(b);
}

int buf_put(struct buf *b, const void *data, size_t len)
{
    size_t room;

    if (len > buf_space(b))
        return -1;
    if (len == 0)
        return 0;
    if (buf_reserve(b, &room) == NULL)
        return -1;
    if (room < len) {
        memmove(b->data, b->data + b->start, buf_len(b));
        b->end -= b->start;
        b->start = 0;
    }
    memcpy(b->data + b->end, data, len);
    b->end += len;
    return 0;
}

void buf_clear(struct buf *b)
{
    if (b->data != NULL)
        OPENSSL_cleanse(b->data, b->end);
    free(b->data);
    b->data = NULL;
    b->start = b->end = 0;
}
