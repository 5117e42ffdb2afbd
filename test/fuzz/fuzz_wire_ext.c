/* Fuzz target: extension_data of ClientHello and EncryptedExtensions. What is accepted must encode
 * to the very bytes it came from: there is one encoding of each value. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mtls/core/wire_ext.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void client_hello(const uint8_t *data, size_t size)
{
    uint8_t out[MTLS_EXT_CH_MAX];
    struct mtls_ext_ch ch;
    int rc = mtls_ext_ch_parse(data, size, &ch);

    check(rc == 0 || rc == MTLS_ERR_EXT_NOT_OURS || rc == MTLS_ERR_EXT_MALFORMED);
    if (rc != 0)
        return;
    check(mtls_ext_ch_encode(&ch, out, sizeof out) == (int)size);
    check(memcmp(out, data, size) == 0);
    check(mtls_ext_ch_offers(&ch, ch.versions[ch.nver - 1]));
}

static void encrypted_extensions(const uint8_t *data, size_t size)
{
    uint8_t out[MTLS_EXT_EE_MAX];
    struct mtls_ext_ee ee;
    int rc = mtls_ext_ee_parse(data, size, &ee);

    check(rc == 0 || rc == MTLS_ERR_EXT_NOT_OURS || rc == MTLS_ERR_EXT_MALFORMED ||
          rc == MTLS_ERR_EXT_VERSION);
    if (rc != 0)
        return;
    check(mtls_ext_ee_encode(&ee, out, sizeof out) == (int)size);
    check(memcmp(out, data, size) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    client_hello(data, size);
    encrypted_extensions(data, size);
    return 0;
}
