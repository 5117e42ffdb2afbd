/* Concept: the beginning of a TLS handshake in a stream of bytes, up to the hello's random, however
 * the bytes are cut into calls and records, also behind alerts. Pure. */
#ifndef MTLS_PRELOAD_HELLO_SCAN_H
#define MTLS_PRELOAD_HELLO_SCAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PRELOAD_RANDOM_AT = 1 + 3 + 2, PRELOAD_HELLO_HEAD = PRELOAD_RANDOM_AT + 32 };

struct preload_hello_scan { /* all zero: nothing has come */
    uint8_t header[5], have;
    uint8_t head[PRELOAD_HELLO_HEAD], got; /* of the ClientHello or ServerHello */
    uint16_t left;                         /* of the record under way */
};

enum preload_scan { PRELOAD_SCAN_OTHER, PRELOAD_SCAN_MORE, PRELOAD_SCAN_HELLO };
/* OTHER: it is no handshake; the scan is of no more use. HELLO: head is complete. */
enum preload_scan preload_hello_scan(struct preload_hello_scan *scan, const uint8_t *data,
                                     size_t len);
/* False: a scan from at on would find OTHER. len: at least 1. Looks no further than the head. */
bool preload_hello_may_begin(const uint8_t *at, size_t len);
/* Of a complete head: it is in one record, and their lengths agree. */
bool preload_hello_fits(const struct preload_hello_scan *scan);

#endif
