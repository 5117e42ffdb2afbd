/* Concept: from a handshake to the session's keys: the exporter's output and the transcript hash. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "../../provider/provider.h"
#include "../net/engine.h"
#include "glue.h"

static const char label[] = "EXPORTER-Multipath-TLS-1";

/* What the provider's observer noted: hash length, secret length, TH, exporter_master_secret. */
enum { OBSERVED_LEN = 2 + 64 + 64 };

static int observed_read(uint8_t *out)
{
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, MTLS_ALG_OBSERVED, NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    int ok = ctx != NULL && EVP_KDF_derive(ctx, out, OBSERVED_LEN, NULL) == 1;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

static int ek_of(const uint8_t *secret, size_t len, uint8_t ek[MTLS_EK_LEN])
{
    EVP_KDF *kdf = EVP_KDF_fetch(mtls_engine_libctx(), MTLS_ALG_EK, NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    char digest[] = "SHA2-384";
    OSSL_PARAM params[3];
    int ok;

    if (len == 32)
        memcpy(digest, "SHA2-256", sizeof(digest));
    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, len);
    params[2] = OSSL_PARAM_construct_end();
    ok = ctx != NULL && EVP_KDF_derive(ctx, ek, MTLS_EK_LEN, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

/* The slot is the thread's, not the SSL's: it counts only if its secret gives this SSL's exporter. [KEY] */
static int observed_hash(const uint8_t ek[MTLS_EK_LEN], uint8_t *th, size_t *hlen)
{
    uint8_t slot[OBSERVED_LEN], again[MTLS_EK_LEN];
    int err = MTLS_ERR_TRANSCRIPT;

    ERR_set_mark();
    if (observed_read(slot) && slot[0] == slot[1] && (slot[0] == 32 || slot[0] == 48) &&
        ek_of(slot + 2 + 64, slot[1], again) && CRYPTO_memcmp(again, ek, MTLS_EK_LEN) == 0) {
        memcpy(th, slot + 2, slot[0]);
        *hlen = slot[0];
        err = 0;
    }
    ERR_pop_to_mark();
    OPENSSL_cleanse(slot, sizeof(slot));
    OPENSSL_cleanse(again, sizeof(again));
    return err;
}

int mtls_keys_compute(struct mtls_session *s, struct mtls_keys *keys)
{
    uint8_t ek[MTLS_EK_LEN], th[MTLS_HASH_MAX];
    size_t hlen = 0;
    const SSL_CIPHER *cipher = SSL_get_current_cipher(s->ssl);
    const EVP_MD *md = cipher != NULL ? SSL_CIPHER_get_handshake_digest(cipher) : NULL;
    int err = MTLS_ERR_EXPORTER;

    ERR_set_mark();
    if (md != NULL && SSL_version(s->ssl) == TLS1_3_VERSION &&
        SSL_export_keying_material(s->ssl, ek, sizeof(ek), label, sizeof(label) - 1,
                                   (const unsigned char *)"", 0, 1) == 1)
        err = 0;
    ERR_pop_to_mark();
    if (err == 0) {
        err = mtls_transcript_get(s->transcript, th, &hlen);
        if (err != 0)
            err = observed_hash(ek, th, &hlen);
    }
    if (err == 0 && (int)hlen != EVP_MD_get_size(md))
        err = MTLS_ERR_TRANSCRIPT;
    if (err == 0)
        err = mtls_keys_init(keys, ek, th, hlen);
    OPENSSL_cleanse(ek, sizeof(ek));
    return err;
}
