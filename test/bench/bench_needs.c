/* Concept: what the protocol asks of libssl and libcrypto for a handshake that it confirms, with
 * nothing of ours around it: the keys' exporter, the transcript hash, a proof made and one checked,
 * the hashes of join, path 2 and d, a nonce. Called beside a plain handshake. */
#include <openssl/core_names.h>
#include <openssl/rand.h>

#include "bench.h"

enum { TRANSCRIPT = 1100, HASH = 32 }; /* bytes of a handshake up to the server's Finished */

static _Thread_local EVP_MD_CTX *digest;
static _Thread_local EVP_MAC_CTX *hmac;
static _Thread_local EVP_MD *sha256;

static void fetch(void)
{
    char name[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                           OSSL_PARAM_construct_end()};
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

    sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    bench_check(sha256 != NULL && mac != NULL && (digest = EVP_MD_CTX_new()) != NULL &&
                    (hmac = EVP_MAC_CTX_new(mac)) != NULL &&
                    EVP_MAC_CTX_set_params(hmac, params) == 1,
                "fetch");
    EVP_MAC_free(mac);
}

static void hash(const uint8_t *data, size_t len, unsigned pieces, uint8_t out[HASH])
{
    bench_check(EVP_DigestInit_ex2(digest, sha256, NULL) == 1, "EVP_DigestInit_ex2");
    for (unsigned i = 0; i < pieces; i++)
        bench_check(EVP_DigestUpdate(digest, data, len / pieces) == 1, "EVP_DigestUpdate");
    bench_check(EVP_DigestFinal_ex(digest, out, NULL) == 1, "EVP_DigestFinal_ex");
}

static void proof(const uint8_t key[HASH], const uint8_t *data, unsigned pieces, uint8_t out[HASH])
{
    size_t len = 0;

    bench_check(EVP_MAC_init(hmac, key, HASH, NULL) == 1, "EVP_MAC_init");
    for (unsigned i = 0; i < pieces; i++)
        bench_check(EVP_MAC_update(hmac, data, i < pieces / 2 ? 1 : HASH) == 1, "EVP_MAC_update");
    bench_check(EVP_MAC_final(hmac, out, &len, HASH) == 1 && len == HASH, "EVP_MAC_final");
}

void bench_exporter(SSL *ssl, uint8_t key[BENCH_KEYS])
{
    bench_check(SSL_export_keying_material(ssl, key, BENCH_KEYS, "EXPORTER-bench", 14,
                                           (const unsigned char *)"", 0, 1) == 1,
                "exporter");
}

void bench_needs(SSL *ssl)
{
    uint8_t key[BENCH_KEYS], data[TRANSCRIPT] = {0}, out[HASH];

    if (digest == NULL)
        fetch();
    bench_exporter(ssl, key);
    hash(data, TRANSCRIPT, 5, out);
    hash(data, 43, 2, out);  /* join */
    hash(data, 148, 2, out); /* p2 */
    hash(data, 65, 3, out);  /* d */
    bench_check(RAND_bytes(out, sizeof(out)) == 1, "RAND_bytes");
    proof(key, data, 4, out);
    proof(key + HASH, data, 8, out);
    bench_check(CRYPTO_memcmp(out, data, HASH) != 0, "a proof of zeros");
}
