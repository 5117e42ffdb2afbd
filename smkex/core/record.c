/* Concept: the protection of records in one direction (record.h). */
#include "record.h"

#include <string.h>

#include <openssl/crypto.h>

static int rekey(struct smkex_direction *d, bool sending)
{
    const EVP_CIPHER *cipher = smkex_crypto_cipher(d->crypto, d->suite);
    uint8_t key[32];
    size_t len;
    int rc;

    if (cipher == NULL)
        return MTLS_ERR_ARG;
    len = (size_t)EVP_CIPHER_get_key_length(cipher);
    rc = len <= sizeof(key) ? smkex_schedule_record(d->crypto, d->mode, d->secret, key, len, d->iv)
                            : MTLS_ERR_INTERNAL;
    if (rc == 0 && EVP_CipherInit_ex2(d->cipher, cipher, key, NULL, sending, NULL) != 1)
        rc = MTLS_ERR_CRYPTO;
    OPENSSL_cleanse(key, sizeof(key));
    d->number = 0;
    return rc;
}

int smkex_direction_init(struct smkex_direction *d, const struct smkex_crypto *c,
                         enum smkex_mode mode, uint8_t suite, const uint8_t secret[32],
                         bool sending)
{
    memset(d, 0, sizeof(*d));
    d->crypto = c;
    d->mode = mode;
    d->suite = suite;
    memcpy(d->secret, secret, sizeof(d->secret));
    d->cipher = EVP_CIPHER_CTX_new();
    return d->cipher != NULL ? rekey(d, sending) : MTLS_ERR_NOMEM;
}

int smkex_direction_update(struct smkex_direction *d, bool sending)
{
    int rc = smkex_schedule_update(d->crypto, d->mode, d->secret, d->secret);

    return rc == 0 ? rekey(d, sending) : rc;
}

void smkex_direction_wipe(struct smkex_direction *d)
{
    EVP_CIPHER_CTX_free(d->cipher);
    OPENSSL_cleanse(d, sizeof(*d));
}

/* The nonce of the next record, and its number is used up. */
static int next_nonce(struct smkex_direction *d, uint8_t nonce[12])
{
    if (d->cipher == NULL)
        return MTLS_ERR_INTERNAL;
    if (d->number == UINT64_MAX)
        return MTLS_ERR_LIMIT;
    memcpy(nonce, d->iv, 12);
    for (int i = 0; i < 8; i++)
        nonce[4 + i] ^= (uint8_t)(d->number >> (56 - 8 * i));
    d->number++;
    return 0;
}

int smkex_seal(struct smkex_direction *d, uint8_t type, const uint8_t *data, size_t len, size_t pad,
               uint8_t out[SMKEX_RECORD_MAX])
{
    size_t inner = len + 1;
    uint8_t *body = out + SMKEX_RECORD_HEAD, nonce[12];
    int n = 0, rc;

    if (len > SMKEX_RECORD_DATA_MAX)
        return MTLS_ERR_ARG;
    if (pad > 1 && (inner = (len + pad) / pad * pad) > SMKEX_RECORD_INNER_MAX)
        inner = SMKEX_RECORD_INNER_MAX; /* [REC-7] */
    rc = next_nonce(d, nonce);
    if (rc != 0)
        return rc;
    if (len > 0)
        memcpy(body, data, len);
    body[len] = type;
    memset(body + len + 1, 0, inner - len - 1);
    memcpy(out, "\x17\x03\x03", 3);
    out[3] = (uint8_t)((inner + SMKEX_RECORD_TAG) >> 8);
    out[4] = (uint8_t)(inner + SMKEX_RECORD_TAG);
    if (EVP_CipherInit_ex2(d->cipher, NULL, NULL, nonce, -1, NULL) != 1 ||
        EVP_CipherUpdate(d->cipher, NULL, &n, out, SMKEX_RECORD_HEAD) != 1 ||
        EVP_CipherUpdate(d->cipher, body, &n, body, (int)inner) != 1 || n != (int)inner ||
        EVP_CipherFinal_ex(d->cipher, body + inner, &n) != 1 || n != 0 ||
        EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_GET_TAG, SMKEX_RECORD_TAG, body + inner) != 1)
        return MTLS_ERR_CRYPTO;
    return (int)(SMKEX_RECORD_HEAD + inner + SMKEX_RECORD_TAG);
}

int smkex_record_length(const uint8_t head[SMKEX_RECORD_HEAD])
{
    size_t len = (size_t)(head[3] << 8 | head[4]);

    /* [REC-1] */
    if (head[0] != 0x17 || head[1] != 3 || head[2] != 3 || len < 1 + SMKEX_RECORD_TAG ||
        len > SMKEX_RECORD_INNER_MAX + SMKEX_RECORD_TAG)
        return MTLS_ERR_SMKEX_RECORD;
    return (int)(SMKEX_RECORD_HEAD + len);
}

int smkex_open(struct smkex_direction *d, uint8_t *record, size_t record_len, uint8_t *type,
               size_t *len)
{
    size_t inner = record_len - SMKEX_RECORD_HEAD - SMKEX_RECORD_TAG;
    uint8_t *body = record + SMKEX_RECORD_HEAD, nonce[12];
    int n = 0, rc;

    if (record_len < SMKEX_RECORD_HEAD + 1 + SMKEX_RECORD_TAG || record_len > SMKEX_RECORD_MAX)
        return MTLS_ERR_SMKEX_RECORD;
    rc = next_nonce(d, nonce);
    if (rc != 0)
        return rc;
    if (EVP_CipherInit_ex2(d->cipher, NULL, NULL, nonce, -1, NULL) != 1 ||
        EVP_CipherUpdate(d->cipher, NULL, &n, record, SMKEX_RECORD_HEAD) != 1 ||
        EVP_CIPHER_CTX_ctrl(d->cipher, EVP_CTRL_AEAD_SET_TAG, SMKEX_RECORD_TAG, body + inner) != 1)
        return MTLS_ERR_CRYPTO;
    if (EVP_CipherUpdate(d->cipher, body, &n, body, (int)inner) != 1 || n != (int)inner ||
        EVP_CipherFinal_ex(d->cipher, body + inner, &n) != 1) {
        OPENSSL_cleanse(body, inner);
        return MTLS_ERR_SMKEX_RECORD;
    }
    while (inner > 0 && body[inner - 1] == 0)
        inner--;
    if (inner == 0)
        return MTLS_ERR_SMKEX_RECORD;
    *type = body[inner - 1];
    *len = inner - 1;
    return 0;
}
