/* Concept: the protection of records in one direction [REC]: sealing and opening one record, the
 * number, the key and its update. Knows no types' meaning and no order. */
#ifndef SMKEX_CORE_RECORD_H
#define SMKEX_CORE_RECORD_H

#include "keys.h"

enum {
    SMKEX_RECORD_HEAD = 5,
    SMKEX_RECORD_TAG = 16,
    SMKEX_RECORD_DATA_MAX = 16384,
    SMKEX_RECORD_INNER_MAX = SMKEX_RECORD_DATA_MAX + 1,
    SMKEX_RECORD_MAX = SMKEX_RECORD_HEAD + SMKEX_RECORD_INNER_MAX + SMKEX_RECORD_TAG,
    SMKEX_UPDATE_AFTER = 1 << 23, /* [REC-4] */
};

enum smkex_content {
    SMKEX_CONTENT_ALERT = 21,
    SMKEX_CONTENT_HANDSHAKE = 22,
    SMKEX_CONTENT_DATA = 23,
};

struct smkex_direction {
    const struct smkex_crypto *crypto;
    enum smkex_mode mode;
    EVP_CIPHER_CTX *cipher; /* NULL: no key yet */
    uint8_t suite;
    uint8_t secret[32], iv[12];
    uint64_t number; /* of the next record under this key */
};

/* Errors: MTLS_ERR_CRYPTO, MTLS_ERR_NOMEM, MTLS_ERR_ARG (suite). */
MTLS_NODISCARD int smkex_direction_init(struct smkex_direction *d, const struct smkex_crypto *c,
                                        enum smkex_mode mode, uint8_t suite,
                                        const uint8_t secret[32], bool sending);
/* The next traffic secret. Errors: MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_direction_update(struct smkex_direction *d, bool sending);
void smkex_direction_wipe(struct smkex_direction *d);

/* One record of len <= SMKEX_RECORD_DATA_MAX bytes, with zeros up to a multiple of pad (0, 1:
 * none), into out, which has SMKEX_RECORD_MAX bytes. Returns its length. Errors: MTLS_ERR_ARG,
 * MTLS_ERR_CRYPTO, MTLS_ERR_LIMIT (the number is used up). */
int smkex_seal(struct smkex_direction *d, uint8_t type, const uint8_t *data, size_t len, size_t pad,
               uint8_t out[SMKEX_RECORD_MAX]);

/* The whole length of the record that begins with head. Errors: MTLS_ERR_SMKEX_RECORD. */
MTLS_NODISCARD int smkex_record_length(const uint8_t head[SMKEX_RECORD_HEAD]);
/* Opens a whole record in place: content is record + SMKEX_RECORD_HEAD .. *len. Errors:
 * MTLS_ERR_SMKEX_RECORD (forged, or without a type), MTLS_ERR_LIMIT, MTLS_ERR_CRYPTO. */
MTLS_NODISCARD int smkex_open(struct smkex_direction *d, uint8_t *record, size_t record_len,
                              uint8_t *type, size_t *len);

#endif
