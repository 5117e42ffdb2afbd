/* Concept: see outbuf.h. */
#include "outbuf.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

enum { FIRST_CAP = 256 };

/* Room for need bytes in all, by moving what waits to the front or into a larger block. */
static int make_room(struct mtls_outbuf *b, size_t need)
{
    size_t waiting = b->end - b->start, cap = b->cap ? b->cap : FIRST_CAP;
    uint8_t *data;

    if (need <= b->cap) {
        memmove(b->data, b->data + b->start, waiting);
    } else {
        while (cap < need)
            cap *= 2;
        data = malloc(cap);
        if (data == NULL)
            return MTLS_ERR_NOMEM;
        if (waiting > 0)
            memcpy(data, b->data + b->start, waiting);
        mtls_outbuf_clear(b);
        b->data = data;
        b->cap = cap;
    }
    b->start = 0;
    b->end = waiting;
    return 0;
}

int mtls_outbuf_add(struct mtls_outbuf *b, const uint8_t *data, size_t len, size_t max)
{
    size_t waiting = b->end - b->start;

    if (len > max || waiting > max - len)
        return MTLS_ERR_FRAME_OVERFLOW;
    if (len == 0)
        return 0;
    if (len > b->cap - b->end && make_room(b, waiting + len) < 0)
        return MTLS_ERR_NOMEM;
    memcpy(b->data + b->end, data, len);
    b->end += len;
    return 0;
}

const uint8_t *mtls_outbuf_get(const struct mtls_outbuf *b, size_t *len)
{
    *len = b->end - b->start;
    return *len > 0 ? b->data + b->start : NULL;
}

void mtls_outbuf_sent(struct mtls_outbuf *b, size_t n)
{
    size_t waiting = b->end - b->start;

    b->start += n < waiting ? n : waiting;
    if (b->start == b->end)
        mtls_outbuf_clear(b);
}

void mtls_outbuf_clear(struct mtls_outbuf *b)
{
    if (b->data != NULL)
        OPENSSL_cleanse(b->data, b->cap); /* HELLO shows the secret of a session under way */
    free(b->data);
    *b = (struct mtls_outbuf){0};
}
