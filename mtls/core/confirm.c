/* Concept: the confirmation (confirm.h): P2, D and both tags. */
#include "confirm.h"

#include <string.h>

#include <openssl/crypto.h>

int mtls_keys_init(struct mtls_keys *keys, const uint8_t ek[MTLS_EK_LEN], const uint8_t *th,
                   size_t hlen)
{
    if (hlen != 32 && hlen != 48)
        return MTLS_ERR_ARG;
    memset(keys, 0, sizeof *keys);
    keys->version = MTLS_VERSION_1;
    keys->hlen = (uint8_t)hlen;
    memcpy(keys->th, th, hlen);
    memcpy(keys->k_s, ek, MTLS_KEY_LEN);
    memcpy(keys->k_c, ek + MTLS_KEY_LEN, MTLS_KEY_LEN);
    return 0;
}

void mtls_keys_wipe(struct mtls_keys *keys)
{
    OPENSSL_cleanse(keys, sizeof *keys);
}

int mtls_confirm_p2(struct mtls_crypto *c, const uint8_t hello[75], const uint8_t ready[73],
                    uint8_t p2[MTLS_SHA256_LEN])
{
    struct mtls_bytes pieces[] = {{hello, 75}, {ready, 73}};

    return mtls_crypto_sha256(c, pieces, 2, p2);
}

int mtls_confirm_server_tag(struct mtls_crypto *c, const struct mtls_keys *keys,
                            const uint8_t p2[MTLS_SHA256_LEN], uint8_t tag_s[MTLS_TAG_LEN])
{
    struct mtls_bytes pieces[] = {
        {&keys->version, 1}, {&keys->hlen, 1}, {keys->th, keys->hlen}, {p2, MTLS_SHA256_LEN}};

    return mtls_crypto_proof_of(c, keys->protocol, MTLS_ROLE_SERVER, keys->k_s, pieces, 4, tag_s);
}

int mtls_confirm_d(struct mtls_crypto *c, const struct mtls_counted *counted, size_t n,
                   uint8_t d[MTLS_SHA256_LEN])
{
    struct mtls_bytes pieces[3 * MTLS_PATHS_MAX];

    if (n == 0 || n > MTLS_PATHS_MAX)
        return MTLS_ERR_ARG;
    for (size_t i = 0; i < n; i++) {
        if (i > 0 && counted[i].path <= counted[i - 1].path)
            return MTLS_ERR_ARG;
        pieces[3 * i] = (struct mtls_bytes){&counted[i].path, 1};
        pieces[3 * i + 1] = (struct mtls_bytes){counted[i].p2, MTLS_SHA256_LEN};
        pieces[3 * i + 2] = (struct mtls_bytes){counted[i].tag_s, MTLS_TAG_LEN};
    }
    return mtls_crypto_sha256(c, pieces, 3 * n, d);
}

int mtls_confirm_client_tag(struct mtls_crypto *c, const struct mtls_keys *keys,
                            const uint8_t p2[MTLS_SHA256_LEN], const uint8_t tag_s[MTLS_TAG_LEN],
                            uint8_t k, uint8_t n, const uint8_t d[MTLS_SHA256_LEN],
                            uint8_t tag_c[MTLS_TAG_LEN])
{
    struct mtls_bytes pieces[] = {{&keys->version, 1},
                                  {&keys->hlen, 1},
                                  {keys->th, keys->hlen},
                                  {p2, MTLS_SHA256_LEN},
                                  {tag_s, MTLS_TAG_LEN},
                                  {&k, 1},
                                  {&n, 1},
                                  {d, MTLS_SHA256_LEN}};

    if (k == 0 || k > n || n > MTLS_PATHS_MAX)
        return MTLS_ERR_ARG;
    return mtls_crypto_proof_of(c, keys->protocol, MTLS_ROLE_CLIENT, keys->k_c, pieces, 8, tag_c);
}

bool mtls_tag_equal(const uint8_t a[MTLS_TAG_LEN], const uint8_t b[MTLS_TAG_LEN])
{
    return CRYPTO_memcmp(a, b, MTLS_TAG_LEN) == 0;
}
