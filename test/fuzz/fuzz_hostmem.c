/* Fuzz target: the text of the memory of verified hosts, as it comes and with its checksum put
 * right. There is one spelling of everything: what is accepted is written again byte for byte. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/evp.h>

#include "mtls/core/hostmem.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_text(const char *text, size_t len)
{
    const struct mtls_host_record rec = {.verified_at = 5, .expires_at = 50, .k = 1};
    struct mtls_host_record got;
    struct mtls_hostmem *m;
    char *again;
    size_t again_len;

    if (mtls_hostmem_parse(&m, text, len) != 0)
        return;
    check(mtls_hostmem_format(m, &again, &again_len) == 0);
    check(again_len == len && memcmp(again, text, len) == 0);
    free(again);
    check(mtls_hostmem_put(m, "host.example", 443, &rec, 10) == 0);
    check(mtls_hostmem_get(m, "host.example", 443, 10, &got) == 1 && got.verified_at == 5);
    check(mtls_hostmem_forget(m, "host.example", 443) == 1);
    mtls_hostmem_free(m);
}

/* Replaces what follows the last space, as if it were the checksum. */
static void check_with_sum(const char *text, size_t len)
{
    uint8_t md[MTLS_SHA256_LEN];
    char *right = malloc(len + 2 * sizeof(md) + 2);
    size_t n = len;

    while (n > 0 && text[n - 1] != ' ')
        n--;
    if (right != NULL && EVP_Q_digest(NULL, "SHA256", NULL, text, n, md, NULL) == 1) {
        memcpy(right, text, n);
        for (size_t i = 0; i < sizeof(md); i++)
            (void)snprintf(right + n + 2 * i, 3, "%02x", md[i]);
        right[n + 2 * sizeof(md)] = '\n';
        check_text(right, n + 2 * sizeof(md) + 1);
    }
    free(right);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    check_text((const char *)data, size);
    check_with_sum((const char *)data, size);
    return 0;
}
