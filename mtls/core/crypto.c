/* Concept: the primitives the pure rooms compute with (crypto.h). Everything is fetched and
 * allocated in mtls_crypto_new(); the functions after it only re-initialise what is there. */
#include "crypto.h"

#include <string.h>

#include <openssl/crypto.h>
#include <openssl/params.h>
#include <openssl/rand.h>

#include "provider/provider.h"

struct mtls_crypto {
    OSSL_LIB_CTX *libctx;
    EVP_MD *sha256, *sha384;
    EVP_MD_CTX *hash;
    EVP_MAC_CTX *proof[MTLS_PROTOCOLS][2]; /* by enum mtls_role */
};

static const char *const role_names[] = {
    [MTLS_ROLE_SERVER] = "server",
    [MTLS_ROLE_CLIENT] = "client",
};

static const char *const protocol_names[] = {
    [MTLS_PROTOCOL_TLS] = "mtls1",
    [MTLS_PROTOCOL_SMKEX] = "smkex1",
};

static int proof_ctx_new(EVP_MAC_CTX **out, EVP_MAC *mac, enum mtls_protocol protocol,
                         enum mtls_role role)
{
    OSSL_PARAM params[3];

    *out = EVP_MAC_CTX_new(mac);
    if (*out == NULL)
        return MTLS_ERR_NOMEM;
    params[0] =
        OSSL_PARAM_construct_utf8_string(MTLS_PROOF_PARAM_ROLE, (char *)role_names[role], 0);
    params[1] = OSSL_PARAM_construct_utf8_string(MTLS_PROOF_PARAM_PROTOCOL,
                                                 (char *)protocol_names[protocol], 0);
    params[2] = OSSL_PARAM_construct_end();
    return EVP_MAC_CTX_set_params(*out, params) == 1 ? 0 : MTLS_ERR_CRYPTO;
}

static int proofs_new(struct mtls_crypto *c, const char *propq)
{
    EVP_MAC *mac = EVP_MAC_fetch(c->libctx, MTLS_ALG_PROOF, propq);
    int rc = 0;

    if (mac == NULL)
        return MTLS_ERR_PROVIDER;
    for (int i = 0; rc == 0 && i < 2 * MTLS_PROTOCOLS; i++)
        rc = proof_ctx_new(&c->proof[i / 2][i % 2], mac, (enum mtls_protocol)(i / 2),
                           (enum mtls_role)(i % 2));
    EVP_MAC_free(mac); /* each context holds a reference of its own */
    return rc;
}

int mtls_crypto_new(struct mtls_crypto **out, OSSL_LIB_CTX *libctx, const char *propq)
{
    struct mtls_crypto *c = OPENSSL_zalloc(sizeof *c);
    int rc;

    *out = NULL;
    if (c == NULL)
        return MTLS_ERR_NOMEM;
    c->libctx = libctx;
    c->sha256 = EVP_MD_fetch(libctx, "SHA256", propq);
    c->sha384 = EVP_MD_fetch(libctx, "SHA384", propq);
    c->hash = EVP_MD_CTX_new();
    if (c->sha256 == NULL || c->sha384 == NULL)
        rc = MTLS_ERR_CRYPTO;
    else if (c->hash == NULL)
        rc = MTLS_ERR_NOMEM;
    else
        rc = proofs_new(c, propq);
    if (rc != 0) {
        mtls_crypto_free(c);
        return rc;
    }
    *out = c;
    return 0;
}

void mtls_crypto_free(struct mtls_crypto *c)
{
    if (c == NULL)
        return;
    for (int i = 0; i < 2 * MTLS_PROTOCOLS; i++)
        EVP_MAC_CTX_free(c->proof[i / 2][i % 2]);
    EVP_MD_CTX_free(c->hash);
    EVP_MD_free(c->sha256);
    EVP_MD_free(c->sha384);
    OPENSSL_free(c);
}

const EVP_MD *mtls_crypto_md(const struct mtls_crypto *c, size_t hlen)
{
    if (hlen == MTLS_SHA256_LEN)
        return c->sha256;
    return hlen == 48 ? c->sha384 : NULL;
}

int mtls_crypto_sha256(struct mtls_crypto *c, const struct mtls_bytes *pieces, size_t n,
                       uint8_t out[MTLS_SHA256_LEN])
{
    if (EVP_DigestInit_ex2(c->hash, c->sha256, NULL) != 1)
        return MTLS_ERR_CRYPTO;
    for (size_t i = 0; i < n; i++)
        if (EVP_DigestUpdate(c->hash, pieces[i].data, pieces[i].len) != 1)
            return MTLS_ERR_CRYPTO;
    return EVP_DigestFinal_ex(c->hash, out, NULL) == 1 ? 0 : MTLS_ERR_CRYPTO;
}

int mtls_crypto_proof(struct mtls_crypto *c, enum mtls_role role, const uint8_t key[MTLS_KEY_LEN],
                      const struct mtls_bytes *pieces, size_t n, uint8_t tag[MTLS_TAG_LEN])
{
    return mtls_crypto_proof_of(c, MTLS_PROTOCOL_TLS, role, key, pieces, n, tag);
}

int mtls_crypto_proof_of(struct mtls_crypto *c, enum mtls_protocol protocol, enum mtls_role role,
                         const uint8_t key[MTLS_KEY_LEN], const struct mtls_bytes *pieces, size_t n,
                         uint8_t tag[MTLS_TAG_LEN])
{
    EVP_MAC_CTX *mac = c->proof[protocol][role];
    size_t len = 0;

    if (EVP_MAC_init(mac, key, MTLS_KEY_LEN, NULL) != 1)
        return MTLS_ERR_CRYPTO;
    for (size_t i = 0; i < n; i++)
        if (EVP_MAC_update(mac, pieces[i].data, pieces[i].len) != 1)
            return MTLS_ERR_CRYPTO;
    if (EVP_MAC_final(mac, tag, &len, MTLS_TAG_LEN) != 1 || len != MTLS_TAG_LEN)
        return MTLS_ERR_CRYPTO;
    return 0;
}

int mtls_crypto_random(struct mtls_crypto *c, uint8_t *out, size_t len)
{
    return RAND_bytes_ex(c->libctx, out, len, 0) == 1 ? 0 : MTLS_ERR_CRYPTO;
}

int mtls_crypto_join(struct mtls_crypto *c, const uint8_t secret[MTLS_SECRET_LEN],
                     uint8_t join[MTLS_JOIN_LEN])
{
    static const char label[] = "mtls1 join"; /* its final zero byte is the 00 of the rule */
    struct mtls_bytes pieces[] = {{label, sizeof label}, {secret, MTLS_SECRET_LEN}};
    uint8_t digest[MTLS_SHA256_LEN];
    int rc = mtls_crypto_sha256(c, pieces, 2, digest);

    if (rc == 0)
        memcpy(join, digest, MTLS_JOIN_LEN);
    return rc;
}
