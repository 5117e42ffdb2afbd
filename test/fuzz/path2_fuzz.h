/* Concept: what the fuzz targets of path 2's state machines share: the primitives, and the input as
 * a sequence of steps. */
#ifndef MTLS_FUZZ_PATH2_FUZZ_H
#define MTLS_FUZZ_PATH2_FUZZ_H

#include <stdlib.h>
#include <string.h>

#include <openssl/provider.h>

#include "mtls/core/confirm.h"
#include "mtls/core/crypto.h"
#include "mtls/core/wire_frame.h"
#include "provider/provider.h"

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mtls_crypto *crypto;

static inline void check(bool ok)
{
    if (!ok)
        abort();
}

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
    (void)argc;
    (void)argv;
    check(OSSL_PROVIDER_add_builtin(NULL, "mtls", mtls_provider_init) == 1);
    check(OSSL_PROVIDER_load(NULL, "default") != NULL);
    check(OSSL_PROVIDER_load(NULL, "mtls") != NULL);
    check(mtls_crypto_new(&crypto, NULL, NULL) == 0);
    return 0;
}

struct input {
    const uint8_t *data;
    size_t size;
};

static inline bool more(const struct input *in)
{
    return in->size > 0;
}

/* The next byte, 0 at the end. */
static inline uint8_t next(struct input *in)
{
    if (in->size == 0)
        return 0;
    in->size--;
    return *in->data++;
}

/* A length byte and so many bytes, or what is left. */
static inline const uint8_t *next_bytes(struct input *in, size_t *len)
{
    const uint8_t *at;

    *len = next(in);
    if (*len > in->size)
        *len = in->size;
    at = in->data;
    in->data += *len;
    in->size -= *len;
    return at;
}

static inline void echo_of(const uint8_t hello[MTLS_HELLO_LEN], uint8_t echo[MTLS_SHA256_LEN])
{
    const struct mtls_bytes whole = {hello, MTLS_HELLO_LEN};

    check(mtls_crypto_sha256(crypto, &whole, 1, echo) == 0);
}

static inline void keys_of(uint8_t seed, struct mtls_keys *keys)
{
    uint8_t ek[MTLS_EK_LEN], th[48];

    memset(ek, seed, sizeof(ek));
    memset(th, seed ^ 0xff, sizeof(th));
    check(mtls_keys_init(keys, ek, th, seed % 2 ? 48 : 32) == 0);
}

#endif
