/* Concept: the entry of the loadable module mtls.so; the built-in copy has none. */
#include <openssl/core.h>
#include <openssl/core_dispatch.h>

#include "provider/provider.h"

#define EXPORT __attribute__((visibility("default")))

EXPORT OSSL_provider_init_fn OSSL_provider_init;

int OSSL_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
    return mtls_provider_init(handle, in, out, provctx);
}
