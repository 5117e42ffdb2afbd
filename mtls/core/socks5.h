/* Concept: a SOCKS5 CONNECT by host name or address (RFC 1928; RFC 1929 not offered), client side,
 * sans-I/O. */
#ifndef MTLS_CORE_SOCKS5_H
#define MTLS_CORE_SOCKS5_H

#include "common.h"
#include "config.h"

struct mtls_socks5 {
    uint8_t state;
    int err; /* sticky */
    uint16_t out_len, in_len, in_need;
    uint16_t port;
    uint8_t in[262];
    uint8_t out[262];
    char host[MTLS_HOST_MAX + 1];
    struct mtls_addr addr;
};

/* Asks for host (a name the proxy resolves, or a literal) and port (1..65535). Errors:
 * MTLS_ERR_ARG. */
MTLS_NODISCARD int mtls_socks5_init(struct mtls_socks5 *s, const struct mtls_host *host,
                                    uint16_t port);
/* Bytes to write next; mtls_socks5_sent() takes them away. */
const uint8_t *mtls_socks5_out(const struct mtls_socks5 *s, size_t *len);
void mtls_socks5_sent(struct mtls_socks5 *s, size_t n);
/* Consumes from data[*pos..len). 1: connected (bytes after *pos belong to the tunnel), 0: wants
 * more, or an error (sticky): MTLS_ERR_SOCKS_REPLY (malformed, or ahead of our bytes), _AUTH,
 * _REFUSED (reply code 5: a definite negative), _FAILED. */
MTLS_NODISCARD int mtls_socks5_input(struct mtls_socks5 *s, const uint8_t *data, size_t len,
                                     size_t *pos);

#endif
