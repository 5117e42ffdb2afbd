/* Concept: the layers of the configuration: the provider's section in openssl.cnf, MTLS_CONFIG, the
 * call's words. */
#include <openssl/crypto.h>
#include <openssl/provider.h>

#include "../../provider/provider.h"
#include "glue.h"

static int layer_cnf(struct mtls_config *config, char *msg, size_t msg_len)
{
    OSSL_PROVIDER *provider = NULL;
    char *words = NULL;
    int err = mtls_provider_open(NULL, &provider, &words);

    if (err == 0)
        err = mtls_config_apply(config, words, msg, msg_len);
    OPENSSL_free(words);
    OSSL_PROVIDER_unload(provider);
    return err;
}

int mtls_settings_load(struct mtls_config *config, const char *text, char *msg, size_t msg_len)
{
    int err;

    mtls_config_init(config);
    if (msg_len > 0)
        msg[0] = '\0';
    err = layer_cnf(config, msg, msg_len);
    if (err == 0)
        err = mtls_config_apply(config, mtls_interpose_config(), msg, msg_len);
    if (err == 0)
        err = mtls_config_apply(config, text, msg, msg_len);
    if (err == 0)
        err = mtls_config_finish(config, msg, msg_len);
    return err;
}
