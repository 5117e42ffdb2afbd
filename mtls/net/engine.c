/* Concept: the engine (see engine.h). */
#include "engine.h"

#include <openssl/provider.h>

#include "../../provider/provider.h"
#include "announced.h"
#include "fork.h"
#include "path2_pool.h"
#include "path2_service.h"
#include "reactor.h"

static struct {
    OSSL_LIB_CTX *libctx;
    OSSL_PROVIDER *own, *base;
    struct mtls_crypto *crypto;
    unsigned generation;
    void (*fork_child)(void);
} engine;

/* The crypto objects hold no descriptor and no lock of ours: they live on in the child. */
static void engine_fork_child(void)
{
    engine.generation++;
    mtls_announced_fork_child();
    mtls_pool_fork_child();
    mtls_service_fork_child();
    if (engine.fork_child != NULL)
        engine.fork_child();
}

void mtls_engine_on_fork_child(void (*fn)(void))
{
    engine.fork_child = fn;
}

static void engine_crypto_free(void)
{
    mtls_crypto_free(engine.crypto);
    engine.crypto = NULL;
    OSSL_PROVIDER_unload(engine.own);
    OSSL_PROVIDER_unload(engine.base);
    OSSL_LIB_CTX_free(engine.libctx);
    engine.own = engine.base = NULL;
    engine.libctx = NULL;
}

int mtls_engine_crypto(struct mtls_crypto **out)
{
    int err = MTLS_ERR_PROVIDER;

    if (engine.crypto != NULL) {
        *out = engine.crypto;
        return 0;
    }
    mtls_reactor_on_fork_child(engine_fork_child);
    mtls_reactor_on_exit(mtls_service_exit);
    engine.libctx = OSSL_LIB_CTX_new();
    if (engine.libctx == NULL)
        return MTLS_ERR_NOMEM;
    engine.base = OSSL_PROVIDER_load(engine.libctx, "default");
    if (engine.base != NULL &&
        OSSL_PROVIDER_add_builtin(engine.libctx, "mtls", mtls_provider_init) == 1)
        engine.own = OSSL_PROVIDER_load(engine.libctx, "mtls");
    if (engine.own != NULL)
        err = mtls_crypto_new(&engine.crypto, engine.libctx, NULL);
    if (err != 0) {
        engine_crypto_free();
        return err;
    }
    *out = engine.crypto;
    return 0;
}

OSSL_LIB_CTX *mtls_engine_libctx(void)
{
    return engine.libctx;
}

unsigned mtls_engine_generation(void)
{
    return engine.generation;
}
