/* Concept: the bytes of TLS extension 0xFF4D in ClientHello and EncryptedExtensions.
 * Encodes and parses; keeps nothing. */
#ifndef MTLS_CORE_WIRE_EXT_H
#define MTLS_CORE_WIRE_EXT_H

#include "common.h"

enum {
    MTLS_EXT_TYPE = 0xFF4D,
    MTLS_EXT_VERSIONS_MAX = 16,
    MTLS_EXT_ADDRS_MAX = 8,
    MTLS_EXT_CH_MAX = 4 + 1 + MTLS_EXT_VERSIONS_MAX + 1 + MTLS_JOIN_LEN,
    MTLS_EXT_EE_MAX = 4 + 1 + 1 + 2 + 4 + 1 + MTLS_EXT_ADDRS_MAX * 19,
    MTLS_CH_RECORD_HELD = 0x01, /* [RES-11] */
    MTLS_EE_CONFIRM_NEEDED = 0x01,
    MTLS_EE_OTHER_PORTS = 0x02,
};

struct mtls_ext_ch {
    uint8_t nver; /* 1 .. MTLS_EXT_VERSIONS_MAX */
    uint8_t versions[MTLS_EXT_VERSIONS_MAX];
    uint8_t flags; /* MTLS_CH_*; a sender sets no other bit, a receiver ignores unknown ones */
    uint8_t join[MTLS_JOIN_LEN];
};

struct mtls_ext_ee {
    uint8_t version;
    uint8_t flags;
    uint16_t port;    /* path-2 port, 0 = none said */
    uint32_t max_age; /* seconds the client may remember this host, 0 = forget */
    uint8_t naddr;
    struct mtls_addr addrs[MTLS_EXT_ADDRS_MAX];
};

/* Both encoders return the number of bytes written (> 0), or MTLS_ERR_ARG (counts over the bound,
 * bad family, cap too small; MTLS_EXT_*_MAX always suffices). */
MTLS_NODISCARD int mtls_ext_ch_encode(const struct mtls_ext_ch *ext, uint8_t *out, size_t cap);
MTLS_NODISCARD int mtls_ext_ee_encode(const struct mtls_ext_ee *ext, uint8_t *out, size_t cap);

/* Parsers take exactly the extension_data. Errors: MTLS_ERR_EXT_NOT_OURS (no magic: a server
 * ignores it, a client fails), MTLS_ERR_EXT_MALFORMED (a server answers decode_error).
 * mtls_ext_ee_parse: MTLS_ERR_EXT_VERSION when the version is not 1 (not the offered one). */
MTLS_NODISCARD int mtls_ext_ch_parse(const uint8_t *data, size_t len, struct mtls_ext_ch *out);
MTLS_NODISCARD int mtls_ext_ee_parse(const uint8_t *data, size_t len, struct mtls_ext_ee *out);

/* Whether version is in the list. */
bool mtls_ext_ch_offers(const struct mtls_ext_ch *ext, uint8_t version);

#endif
