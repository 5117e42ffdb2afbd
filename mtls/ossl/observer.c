/* Concept: the second source of the transcript hash: the provider's TLS13-KDF observer, for
 * applications that take the message call-back for themselves. A reader per library context must
 * exist before the handshake. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "../../provider/provider.h"
#include "glue.h"

enum { READERS_MAX = 8, OBSERVED_LEN = 2 + 64 + 64 };

static struct { /* engine lock; kept as long as the process */
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *provider;
    EVP_KDF_CTX *reader;
} observers[READERS_MAX];
static unsigned nobservers;

static int reader_add(OSSL_LIB_CTX *libctx, OSSL_PROVIDER *provider)
{
    EVP_KDF *kdf = EVP_KDF_fetch(libctx, MTLS_ALG_OBSERVED, "provider=mtls");
    EVP_KDF_CTX *reader = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;

    EVP_KDF_free(kdf);
    if (reader == NULL)
        return MTLS_ERR_PROVIDER;
    observers[nobservers].libctx = libctx;
    observers[nobservers].provider = provider;
    observers[nobservers++].reader = reader;
    return 0;
}

static bool known(const OSSL_LIB_CTX *libctx)
{
    unsigned i;

    for (i = 0; i < nobservers; i++) {
        if (observers[i].libctx == libctx)
            return true;
    }
    return false;
}

/* openssl.cnf activated the provider for everybody: its observer can be read. */
void mtls_observer_attach(void)
{
    int active = OSSL_PROVIDER_available(NULL, "mtls");

    mtls_engine_lock();
    if (active == 1 && !known(NULL) && nobservers < READERS_MAX) {
        ERR_set_mark();
        (void)!reader_add(NULL, NULL);
        ERR_pop_to_mark();
    }
    mtls_engine_unlock();
}

int mtls_observer_enable(OSSL_LIB_CTX *libctx)
{
    OSSL_PROVIDER *provider = NULL;
    char *words = NULL;
    int err = 0;

    mtls_engine_lock();
    if (!known(libctx)) {
        err = nobservers == READERS_MAX ? MTLS_ERR_LIMIT
                                        : mtls_provider_open(libctx, &provider, &words);
        if (err == 0 && EVP_set_default_properties(libctx, MTLS_OBSERVER_QUERY) != 1)
            err = MTLS_ERR_PROVIDER;
        if (err == 0)
            err = reader_add(libctx, provider);
        if (err != 0)
            OSSL_PROVIDER_unload(provider);
    }
    mtls_engine_unlock();
    OPENSSL_free(words);
    if (err != 0)
        mtls_raise(err, NULL);
    return err == 0;
}

static bool ek_of(const uint8_t *secret, size_t len, uint8_t ek[MTLS_EK_LEN])
{
    EVP_KDF *kdf = EVP_KDF_fetch(mtls_engine_libctx(), MTLS_ALG_EK, NULL);
    EVP_KDF_CTX *ctx = kdf != NULL ? EVP_KDF_CTX_new(kdf) : NULL;
    char sha256[] = "SHA2-256", sha384[] = "SHA2-384";
    OSSL_PARAM params[3];
    bool ok;

    params[0] =
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, len == 32 ? sha256 : sha384, 0);
    params[1] =
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, len);
    params[2] = OSSL_PARAM_construct_end();
    ok = ctx != NULL && EVP_KDF_derive(ctx, ek, MTLS_EK_LEN, params) == 1;
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return ok;
}

/* The slot is the thread's, not the SSL's: it counts only if its secret gives this SSL's exporter.
 * [KEY] */
static bool slot_fits(const uint8_t slot[OBSERVED_LEN], const uint8_t ek[MTLS_EK_LEN])
{
    uint8_t again[MTLS_EK_LEN];
    bool fits = slot[0] == slot[1] && (slot[0] == 32 || slot[0] == 48) &&
                ek_of(slot + 2 + MTLS_HASH_MAX, slot[1], again) &&
                CRYPTO_memcmp(again, ek, MTLS_EK_LEN) == 0;

    OPENSSL_cleanse(again, sizeof(again));
    return fits;
}

int mtls_observer_hash(const uint8_t ek[MTLS_EK_LEN], uint8_t *th, size_t *hlen)
{
    uint8_t slot[OBSERVED_LEN];
    int err = MTLS_ERR_TRANSCRIPT;
    unsigned i;

    mtls_engine_lock();
    ERR_set_mark();
    for (i = 0; err != 0 && i < nobservers; i++) {
        if (EVP_KDF_derive(observers[i].reader, slot, sizeof(slot), NULL) == 1 &&
            slot_fits(slot, ek)) {
            memcpy(th, slot + 2, slot[0]);
            *hlen = slot[0];
            err = 0;
        }
    }
    ERR_pop_to_mark();
    mtls_engine_unlock();
    OPENSSL_cleanse(slot, sizeof(slot));
    return err;
}
