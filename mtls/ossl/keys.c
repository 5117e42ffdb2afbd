/* Concept: from a handshake to the session's keys: the exporter's output and the transcript hash.
 */
#include <string.h>

#include <openssl/err.h>

#include "glue.h"

static const char label[] = "EXPORTER-Multipath-TLS-1";

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
        err = mtls_transcript_get(s->hs->transcript, th, &hlen);
        if (err != 0)
            err = mtls_observer_hash(ek, th, &hlen);
    }
    if (err == 0 && (int)hlen != EVP_MD_get_size(md))
        err = MTLS_ERR_TRANSCRIPT;
    if (err == 0)
        err = mtls_keys_init(keys, ek, th, hlen);
    OPENSSL_cleanse(ek, sizeof(ek));
    return err;
}
