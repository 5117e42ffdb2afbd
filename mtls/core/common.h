/* Concept: the few types and sizes that every pure room shares. */
#ifndef MTLS_CORE_COMMON_H
#define MTLS_CORE_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "mtls/error.h"

#define MTLS_NODISCARD __attribute__((warn_unused_result))

/* Microseconds of a monotonic clock; the caller's, passed in. */
typedef uint64_t mtls_tstamp;
#define MTLS_TSTAMP_NEVER UINT64_MAX

enum {
    MTLS_JOIN_LEN = 16,   /* [EXT-2] hash of the secret, in the ClientHello */
    MTLS_SECRET_LEN = 32, /* shown by HELLO */
    MTLS_NONCE_LEN = 32,
    MTLS_TAG_LEN = 32,
    MTLS_KEY_LEN = 32,
    MTLS_SHA256_LEN = 32,
    MTLS_HASH_MAX = 64, /* room for TH; SHA-384 needs 48 */
    MTLS_EK_LEN = 64,   /* exporter output: k_s | k_c */
    MTLS_PATHS_MAX = 8, /* secondary paths of a session */
    MTLS_SLOTS_MAX = 8, /* sessions of one join value, claims of one session */
    MTLS_VERSION_1 = 1,
    MTLS_PORT_DEFAULT = 914,
};

/* An IP address; port in host byte order, 0 = none. family: 0 none, 4 or 6 as on the wire. */
struct mtls_addr {
    uint8_t family;
    uint8_t ip[16]; /* the first 4 bytes for IPv4, the rest zero */
    uint16_t port;
};

#endif
