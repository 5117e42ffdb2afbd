/* Concept: the key schedule and what it is fed with (keys.h). */
#include "keys.h"

#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/rand.h>

struct smkex_crypto {
    OSSL_LIB_CTX *libctx;
    EVP_KDF *hkdf;
    EVP_MD *sha256;
    EVP_CIPHER *aes128, *chacha20;
};

int smkex_crypto_new(struct smkex_crypto **out, OSSL_LIB_CTX *libctx)
{
    struct smkex_crypto *c = OPENSSL_zalloc(sizeof(*c));

    *out = c;
    if (c == NULL)
        return MTLS_ERR_NOMEM;
    c->libctx = libctx;
    c->hkdf = EVP_KDF_fetch(libctx, "HKDF", NULL);
    c->sha256 = EVP_MD_fetch(libctx, "SHA256", NULL);
    c->aes128 = EVP_CIPHER_fetch(libctx, "AES-128-GCM", NULL);
    c->chacha20 = EVP_CIPHER_fetch(libctx, "ChaCha20-Poly1305", NULL);
    if (c->hkdf != NULL && c->sha256 != NULL && c->aes128 != NULL && c->chacha20 != NULL)
        return 0;
    smkex_crypto_free(c);
    *out = NULL;
    return MTLS_ERR_CRYPTO;
}

void smkex_crypto_free(struct smkex_crypto *c)
{
    if (c == NULL)
        return;
    EVP_KDF_free(c->hkdf);
    EVP_MD_free(c->sha256);
    EVP_CIPHER_free(c->aes128);
    EVP_CIPHER_free(c->chacha20);
    OPENSSL_free(c);
}

const EVP_CIPHER *smkex_crypto_cipher(const struct smkex_crypto *c, uint8_t suite)
{
    if (suite == SMKEX_SUITE_AES128)
        return c->aes128;
    return suite == SMKEX_SUITE_CHACHA20 ? c->chacha20 : NULL;
}

int smkex_crypto_sha256(const struct smkex_crypto *c, const struct mtls_bytes *pieces, size_t n,
                        uint8_t out[MTLS_SHA256_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    int ok = ctx != NULL && EVP_DigestInit_ex2(ctx, c->sha256, NULL) == 1;

    for (size_t i = 0; ok && i < n; i++)
        ok = EVP_DigestUpdate(ctx, pieces[i].data, pieces[i].len) == 1;
    ok = ok && EVP_DigestFinal_ex(ctx, out, NULL) == 1;
    EVP_MD_CTX_free(ctx);
    return ok ? 0 : MTLS_ERR_CRYPTO;
}

int smkex_crypto_join(const struct smkex_crypto *c, const uint8_t secret[MTLS_SECRET_LEN],
                      uint8_t join[MTLS_JOIN_LEN])
{
    static const char label[] = "mtls1 join"; /* with its 00 */
    struct mtls_bytes pieces[] = {{(const uint8_t *)label, sizeof(label)},
                                  {secret, MTLS_SECRET_LEN}};
    uint8_t digest[MTLS_SHA256_LEN];
    int rc = smkex_crypto_sha256(c, pieces, 2, digest);

    if (rc == 0)
        memcpy(join, digest, MTLS_JOIN_LEN);
    return rc;
}

int smkex_crypto_random(const struct smkex_crypto *c, uint8_t *out, size_t len)
{
    return RAND_bytes_ex(c->libctx, out, len, 0) == 1 ? 0 : MTLS_ERR_CRYPTO;
}

/* ---- Diffie-Hellman ---- */

int smkex_dh_new(const struct smkex_crypto *c, uint8_t group, EVP_PKEY **key,
                 struct smkex_share *share)
{
    unsigned char *encoded = NULL;
    size_t len;

    *key = NULL;
    if (smkex_share_len(group) == 0)
        return MTLS_ERR_ARG;
    *key = group == SMKEX_GROUP_X25519 ? EVP_PKEY_Q_keygen(c->libctx, NULL, "X25519")
                                       : EVP_PKEY_Q_keygen(c->libctx, NULL, "EC", "P-256");
    if (*key == NULL)
        return MTLS_ERR_CRYPTO;
    len = EVP_PKEY_get1_encoded_public_key(*key, &encoded);
    if (len != smkex_share_len(group)) {
        OPENSSL_free(encoded);
        EVP_PKEY_free(*key);
        *key = NULL;
        return MTLS_ERR_CRYPTO;
    }
    share->group = group;
    share->len = (uint8_t)len;
    memcpy(share->bytes, encoded, len);
    OPENSSL_free(encoded);
    return 0;
}

static EVP_PKEY *peer_key(const struct smkex_crypto *c, EVP_PKEY *own,
                          const struct smkex_share *peer)
{
    EVP_PKEY *key;

    if (peer->group == SMKEX_GROUP_X25519)
        return EVP_PKEY_new_raw_public_key_ex(c->libctx, "X25519", NULL, peer->bytes, peer->len);
    if (peer->bytes[0] != 4) /* uncompressed */
        return NULL;
    key = EVP_PKEY_new();
    if (key != NULL && EVP_PKEY_copy_parameters(key, own) == 1 &&
        EVP_PKEY_set1_encoded_public_key(key, peer->bytes, peer->len) == 1)
        return key;
    EVP_PKEY_free(key);
    return NULL;
}

int smkex_dh_derive(const struct smkex_crypto *c, EVP_PKEY *key, const struct smkex_share *own,
                    const struct smkex_share *peer, uint8_t dh[32])
{
    static const uint8_t zero[32];
    EVP_PKEY *other = NULL;
    EVP_PKEY_CTX *ctx = NULL;
    size_t len = 32;
    int rc = MTLS_ERR_SMKEX_SHARE;

    if (peer->group != own->group || peer->len != smkex_share_len(own->group) ||
        CRYPTO_memcmp(peer->bytes, own->bytes, own->len) == 0)
        return rc;
    other = peer_key(c, key, peer);
    if (other == NULL)
        return rc;
    ctx = EVP_PKEY_CTX_new_from_pkey(c->libctx, key, NULL);
    if (ctx == NULL || EVP_PKEY_derive_init(ctx) != 1)
        rc = MTLS_ERR_CRYPTO;
    else if (EVP_PKEY_derive_set_peer_ex(ctx, other, 1) == 1 &&
             EVP_PKEY_derive(ctx, dh, &len) == 1 && len == 32 && CRYPTO_memcmp(dh, zero, 32) != 0)
        rc = 0;
    EVP_PKEY_CTX_free(ctx);
    EVP_PKEY_free(other);
    if (rc != 0)
        OPENSSL_cleanse(dh, 32);
    return rc;
}

/* ---- The server's long-term key ---- */

enum { SIGNED_MAX = 64 };

static size_t signed_text(enum smkex_mode mode, const uint8_t digest[MTLS_SHA256_LEN],
                          uint8_t out[SIGNED_MAX])
{
    const char *label = mode == SMKEX_MODE_SINGLE ? "spdh1 server key" : "smkex1 server key";
    size_t n = strlen(label) + 1; /* with the 00 */

    memcpy(out, label, n);
    memcpy(out + n, digest, MTLS_SHA256_LEN);
    return n + MTLS_SHA256_LEN;
}

int smkex_sign(const struct smkex_crypto *c, enum smkex_mode mode, EVP_PKEY *key,
               const uint8_t digest[MTLS_SHA256_LEN], uint8_t signature[SMKEX_SIG_LEN])
{
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t text[SIGNED_MAX];
    size_t n = signed_text(mode, digest, text), len = SMKEX_SIG_LEN;
    int ok = ctx != NULL &&
             EVP_DigestSignInit_ex(ctx, NULL, NULL, c->libctx, NULL, key, NULL) == 1 &&
             EVP_DigestSign(ctx, signature, &len, text, n) == 1 && len == SMKEX_SIG_LEN;

    EVP_MD_CTX_free(ctx);
    return ok ? 0 : MTLS_ERR_CRYPTO;
}

int smkex_verify(const struct smkex_crypto *c, enum smkex_mode mode,
                 const uint8_t key[SMKEX_KEY_LEN], const uint8_t digest[MTLS_SHA256_LEN],
                 const uint8_t signature[SMKEX_SIG_LEN])
{
    EVP_PKEY *pkey = EVP_PKEY_new_raw_public_key_ex(c->libctx, "ED25519", NULL, key, SMKEX_KEY_LEN);
    EVP_MD_CTX *ctx = EVP_MD_CTX_new();
    uint8_t text[SIGNED_MAX];
    size_t n = signed_text(mode, digest, text);
    int ok = ctx != NULL && pkey != NULL &&
             EVP_DigestVerifyInit_ex(ctx, NULL, NULL, c->libctx, NULL, pkey, NULL) == 1 &&
             EVP_DigestVerify(ctx, signature, SMKEX_SIG_LEN, text, n) == 1;

    EVP_MD_CTX_free(ctx);
    EVP_PKEY_free(pkey);
    return ok ? 0 : MTLS_ERR_SMKEX_SIGNATURE;
}

/* ---- HKDF ---- */

static int hkdf(const struct smkex_crypto *c, int how, const uint8_t key[32], const uint8_t *second,
                size_t second_len, uint8_t *out, size_t len)
{
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(c->hkdf);
    const char *name =
        how == EVP_KDF_HKDF_MODE_EXTRACT_ONLY ? OSSL_KDF_PARAM_SALT : OSSL_KDF_PARAM_INFO;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &how),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)"SHA256", 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)key, 32),
        OSSL_PARAM_construct_octet_string(name, (void *)(uintptr_t)second, second_len),
        OSSL_PARAM_construct_end(),
    };
    int ok = ctx != NULL && EVP_KDF_derive(ctx, out, len, params) == 1;

    EVP_KDF_CTX_free(ctx);
    return ok ? 0 : MTLS_ERR_CRYPTO;
}

static int extract(const struct smkex_crypto *c, const uint8_t salt[32], const uint8_t ikm[32],
                   uint8_t out[32])
{
    return hkdf(c, EVP_KDF_HKDF_MODE_EXTRACT_ONLY, ikm, salt, 32, out, 32);
}

/* info: L || label || tail. */
static int expand(const struct smkex_crypto *c, enum smkex_mode mode, const uint8_t prk[32],
                  const char *label, const uint8_t *tail, size_t tail_len, uint8_t *out, size_t len)
{
    const char *l = mode == SMKEX_MODE_SINGLE ? "spdh1" : "smkex1";
    size_t n = strlen(l), m = strlen(label);
    uint8_t info[64];

    if (n + m + tail_len > sizeof(info))
        return MTLS_ERR_INTERNAL;
    memcpy(info, l, n);
    memcpy(info + n, label, m);
    if (tail_len > 0)
        memcpy(info + n + m, tail, tail_len);
    return hkdf(c, EVP_KDF_HKDF_MODE_EXPAND_ONLY, prk, info, n + m + tail_len, out, len);
}

/* ---- The schedule ---- */

int smkex_schedule_confirm(const struct smkex_crypto *c, enum smkex_mode mode, const uint8_t dh[32],
                           const uint8_t th[MTLS_SHA256_LEN], uint8_t es[32],
                           struct mtls_keys *keys)
{
    uint8_t ek[MTLS_EK_LEN];
    int rc = extract(c, th, dh, es);

    if (rc == 0)
        rc = expand(c, mode, es, " confirm", NULL, 0, ek, sizeof(ek));
    if (rc == 0)
        rc = mtls_keys_init(keys, ek, th, MTLS_SHA256_LEN);
    if (rc == 0)
        keys->protocol = MTLS_PROTOCOL_SMKEX;
    OPENSSL_cleanse(ek, sizeof(ek));
    return rc;
}

int smkex_schedule_data(const struct smkex_crypto *c, enum smkex_mode mode, const uint8_t es[32],
                        const uint8_t d[MTLS_SHA256_LEN], uint8_t k, uint8_t n, uint8_t client[32],
                        uint8_t server[32])
{
    const uint8_t tail[] = {0, k, n};
    uint8_t ds[32], ms[32];
    int rc = expand(c, mode, es, " data", NULL, 0, ds, sizeof(ds));

    if (rc == 0)
        rc = extract(c, d, ds, ms);
    if (rc == 0)
        rc = expand(c, mode, ms, " client data", tail, sizeof(tail), client, 32);
    if (rc == 0)
        rc = expand(c, mode, ms, " server data", tail, sizeof(tail), server, 32);
    OPENSSL_cleanse(ds, sizeof(ds));
    OPENSSL_cleanse(ms, sizeof(ms));
    return rc;
}

int smkex_schedule_record(const struct smkex_crypto *c, enum smkex_mode mode,
                          const uint8_t secret[32], uint8_t *key, size_t key_len, uint8_t iv[12])
{
    int rc = expand(c, mode, secret, " key", NULL, 0, key, key_len);

    return rc == 0 ? expand(c, mode, secret, " iv", NULL, 0, iv, 12) : rc;
}

int smkex_schedule_update(const struct smkex_crypto *c, enum smkex_mode mode,
                          const uint8_t secret[32], uint8_t next[32])
{
    uint8_t out[32];
    int rc = expand(c, mode, secret, " update", NULL, 0, out, sizeof(out));

    if (rc == 0)
        memcpy(next, out, sizeof(out));
    OPENSSL_cleanse(out, sizeof(out));
    return rc;
}
