/* Concept: the engine: what one process owns for path 2 beside the reactor: the crypto objects in a
 * library context of their own, and the generation that tells a fork child from its parent. Engine
 * lock held for every call. */
#ifndef MTLS_NET_ENGINE_H
#define MTLS_NET_ENGINE_H

#include "../core/crypto.h"

/* Made on first use, with the built-in provider. Errors: MTLS_ERR_PROVIDER, _CRYPTO, _NOMEM. The
 * object is the engine's. */
MTLS_NODISCARD int mtls_engine_crypto(struct mtls_crypto **out);
/* The library context of the above (for the exporter check of the transcript observer). NULL before
 * the first use. */
OSSL_LIB_CTX *mtls_engine_libctx(void);
/* One function more that runs in a fork child, as fork.h says. */
void mtls_engine_on_fork_child(void (*fn)(void));
/* Rises with every fork: what was made under another generation belongs to the parent. */
unsigned mtls_engine_generation(void);

#endif
