/* Concept: the layers of the configuration: the provider's section in openssl.cnf, MTLS_CONFIG, the call's words. */
#include <stdlib.h>
#include <string.h>

#include <openssl/conf.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "../../provider/provider.h"
#include "glue.h"

/* Whether openssl.cnf names our provider: libcrypto skips a missing module in silence, we do not. */
static bool cnf_names_us(void)
{
    char *file = CONF_get1_default_config_file();
    CONF *conf = NCONF_new(NULL);
    const char *init = NULL, *providers = NULL;
    bool named = false;

    ERR_set_mark();
    if (file != NULL && conf != NULL && NCONF_load(conf, file, NULL) == 1) {
        init = NCONF_get_string(conf, NULL, "openssl_conf");
        if (init != NULL)
            providers = NCONF_get_string(conf, init, "providers");
        if (providers != NULL)
            named = NCONF_get_string(conf, providers, "mtls") != NULL;
    }
    ERR_pop_to_mark();
    NCONF_free(conf);
    OPENSSL_free(file);
    return named;
}

static int layer_cnf(struct mtls_config *config, char *msg, size_t msg_len)
{
    OSSL_PROVIDER *provider;
    char *words = NULL;
    OSSL_PARAM params[] = {OSSL_PARAM_utf8_ptr(MTLS_PROV_PARAM_CONFIG, &words, 0), OSSL_PARAM_END};
    int err = 0;

    if (OSSL_PROVIDER_available(NULL, "mtls") != 1)
        return cnf_names_us() ? MTLS_ERR_PROVIDER : 0;
    provider = OSSL_PROVIDER_try_load(NULL, "mtls", 1);
    if (provider == NULL)
        return MTLS_ERR_PROVIDER;
    ERR_set_mark();
    if (OSSL_PROVIDER_get_params(provider, params) == 1 && words != NULL)
        err = mtls_config_apply(config, words, msg, msg_len);
    ERR_pop_to_mark();
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
        err = mtls_config_apply(config, secure_getenv("MTLS_CONFIG"), msg, msg_len);
    if (err == 0)
        err = mtls_config_apply(config, text, msg, msg_len);
    if (err == 0)
        err = mtls_config_finish(config, msg, msg_len);
    return err;
}
