/* Concept: bytes that wait to be written: a queue with a bound. Holds no memory while it is empty.
 */
#ifndef MTLS_CORE_OUTBUF_H
#define MTLS_CORE_OUTBUF_H

#include "common.h"

struct mtls_outbuf { /* all zero = empty */
    uint8_t *data;
    size_t start, end, cap;
};

/* Appends len bytes, or nothing. Errors: MTLS_ERR_FRAME_OVERFLOW (more than max bytes would wait),
 * MTLS_ERR_NOMEM. */
MTLS_NODISCARD int mtls_outbuf_add(struct mtls_outbuf *b, const uint8_t *data, size_t len,
                                   size_t max);
/* What waits; valid until the next call on b. NULL with *len = 0 when nothing does. */
const uint8_t *mtls_outbuf_get(const struct mtls_outbuf *b, size_t *len);
/* n bytes (at most what waits) went out. */
void mtls_outbuf_sent(struct mtls_outbuf *b, size_t n);
void mtls_outbuf_clear(struct mtls_outbuf *b);

#endif
