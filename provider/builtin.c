/* Concept: how libmtls comes by the provider: the one openssl.cnf loaded or names, else the
 * built-in copy; and by the words of its section. Reads openssl.cnf; not part of the module. */
#include <string.h>

#include <openssl/conf.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "mtls/error.h"
#include "provider/internal.h"

#define NAME "mtls"
/* Where openssl.cnf names a module "mtls" that is not installed, that entry hides a built-in copy
 * of the same name. */
#define NAME_BESIDE "mtls-builtin"

static OSSL_PROVIDER *load_builtin(OSSL_LIB_CTX *libctx, const char *name)
{
    if (OSSL_PROVIDER_add_builtin(libctx, name, mtls_provider_init) != 1)
        return NULL;
    return OSSL_PROVIDER_try_load(libctx, name, 1);
}

/* libcrypto takes the first provider that fits a query without properties. Asking for the default
 * one activates it where that is automatic: it comes before ours then and its TLS13-KDF stays
 * everybody's choice. */
static OSSL_PROVIDER *load(OSSL_LIB_CTX *libctx)
{
    OSSL_PROVIDER *prov;

    (void)OSSL_PROVIDER_available(libctx, "default");
    prov = OSSL_PROVIDER_try_load(libctx, NAME, 1);
    if (prov == NULL)
        prov = load_builtin(libctx, NAME);
    if (prov == NULL)
        prov = OSSL_PROVIDER_try_load(libctx, NAME_BESIDE, 1);
    if (prov == NULL)
        prov = load_builtin(libctx, NAME_BESIDE);
    return prov;
}

/* ---- openssl.cnf itself -------------------------------------------------------------------------
 */

/* Only what stands in this section: NCONF_get_string() would also look in others and in the
 * environment. */
static const char *values_get(const void *arg, const char *key)
{
    const STACK_OF(CONF_VALUE) *values = arg;

    for (int i = 0; i < sk_CONF_VALUE_num(values); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(values, i);

        if (strcmp(v->name, key) == 0)
            return v->value;
    }
    return NULL;
}

/* The values of the provider's section; NULL: there is none. As libcrypto reads it, a name may
 * begin with a prefix and a dot. */
static const STACK_OF(CONF_VALUE) * find_section(const CONF *conf)
{
    const char *init = NCONF_get_string(conf, NULL, "openssl_conf");
    const char *list = init != NULL ? NCONF_get_string(conf, init, "providers") : NULL;
    const STACK_OF(CONF_VALUE) *providers = list != NULL ? NCONF_get_section(conf, list) : NULL;

    for (int i = 0; i < sk_CONF_VALUE_num(providers); i++) {
        const CONF_VALUE *v = sk_CONF_VALUE_value(providers, i);
        const char *dot = strchr(v->name, '.');

        if (strcmp(dot != NULL ? dot + 1 : v->name, NAME) == 0)
            return NCONF_get_section(conf, v->value);
    }
    return NULL;
}

static int section_error(enum prov_section rc)
{
    switch (rc) {
    case PROV_SECTION_OK:
        return 0;
    case PROV_SECTION_VALUE:
        return MTLS_ERR_CONFIG_VALUE;
    default:
        return MTLS_ERR_NOMEM;
    }
}

static int words_of_file(char **words)
{
    char *file = CONF_get1_default_config_file();
    CONF *conf = file != NULL ? NCONF_new(NULL) : NULL;
    const STACK_OF(CONF_VALUE) *values = NULL;
    int rc = MTLS_ERR_NOMEM;

    if (conf == NULL)
        goto out;
    if (file[0] != '\0' && NCONF_load(conf, file, NULL) <= 0) {
        rc = MTLS_ERR_CONFIG_SYNTAX;
        if (ERR_GET_LIB(ERR_peek_last_error()) != ERR_LIB_CONF ||
            ERR_GET_REASON(ERR_peek_last_error()) != CONF_R_NO_SUCH_FILE)
            goto out;
    } else {
        values = find_section(conf);
    }
    rc = section_error(prov_section_words(values_get, values, words));
out:
    NCONF_free(conf);
    OPENSSL_free(file);
    return rc;
}

/* ---- Both
 * ---------------------------------------------------------------------------------------- */

static int words_of_provider(const OSSL_PROVIDER *prov, char **words)
{
    char *text = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_ptr(MTLS_PROV_PARAM_CONFIG, &text, 0),
        OSSL_PARAM_construct_end(),
    };

    if (OSSL_PROVIDER_get_params(prov, params) != 1)
        return ERR_GET_REASON(ERR_peek_last_error()) == PROV_R_CONFIG_VALUE ? MTLS_ERR_CONFIG_VALUE
                                                                            : MTLS_ERR_NOMEM;
    if (text == NULL) /* a provider of our name that is not ours */
        return MTLS_ERR_PROVIDER;
    *words = OPENSSL_strdup(text);
    return *words != NULL ? 0 : MTLS_ERR_NOMEM;
}

/* The default context: asked of libcrypto, whose NULL context may be another one on this thread. */
static bool is_default(OSSL_LIB_CTX *libctx)
{
    OSSL_LIB_CTX *current = OSSL_LIB_CTX_set0_default(NULL);

    return libctx == NULL ? current == OSSL_LIB_CTX_get0_global_default()
                          : libctx == OSSL_LIB_CTX_get0_global_default();
}

int mtls_provider_open(OSSL_LIB_CTX *libctx, OSSL_PROVIDER **out, char **words)
{
    OSSL_PROVIDER *prov;
    char *text = NULL;
    int rc = MTLS_ERR_PROVIDER;

    ERR_set_mark();
    OPENSSL_init_crypto(OPENSSL_INIT_LOAD_CONFIG, NULL); /* first: it may name the provider */
    prov = load(libctx);
    if (prov == NULL)
        goto out;
    rc = words_of_provider(prov, &text);
    if (rc == 0 && text[0] == '\0' && is_default(libctx)) {
        OPENSSL_free(text);
        text = NULL;
        rc = words_of_file(&text);
    }
out:
    ERR_pop_to_mark();
    if (rc != 0) {
        OSSL_PROVIDER_unload(prov);
        OPENSSL_free(text);
        return rc;
    }
    *out = prov;
    *words = text;
    return 0;
}
