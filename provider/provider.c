/* Concept: the provider's context: start, end, tables, parameters, and what it borrows from others.
 * Start does no fetch and no I/O: the methods underneath are looked up at the first use, in a child
 * library context, because a provider cannot see its own context before its start has returned. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <openssl/provider.h>

#include "provider/internal.h"

#define NOT_OURS "provider!=mtls"

#ifndef MTLS_PROVIDER_VERSION
#define MTLS_PROVIDER_VERSION "0.1.0"
#endif

static OSSL_FUNC_provider_teardown_fn teardown;
static OSSL_FUNC_provider_gettable_params_fn gettable_params;
static OSSL_FUNC_provider_get_params_fn get_params;
static OSSL_FUNC_provider_query_operation_fn query_operation;
static OSSL_FUNC_provider_get_reason_strings_fn get_reason_strings;
static OSSL_FUNC_provider_self_test_fn self_test;

/* ---- Errors -----------------------------------------------------------------------------------
 */

#define REASON_ITEM(symbol, number, text) {number, (void *)(text)},
static const OSSL_ITEM reasons[] = {MTLS_PROV_REASONS(REASON_ITEM){0, NULL}};

static const OSSL_ITEM *get_reason_strings(void *provctx)
{
    return reasons;
}

static void vset_error(const struct mtls_provctx *prov, uint32_t reason, const char *fmt, ...)
{
    va_list args;

    va_start(args, fmt);
    prov->core_vset_error(prov->handle, reason, fmt, args);
    va_end(args);
}

void prov_raise(const struct mtls_provctx *prov, enum prov_reason reason, const char *file,
                int line, const char *func)
{
    if (prov->core_new_error == NULL || prov->core_set_error_debug == NULL ||
        prov->core_vset_error == NULL)
        return;
    prov->core_new_error(prov->handle);
    prov->core_set_error_debug(prov->handle, file, line, func);
    vset_error(prov, (uint32_t)reason, NULL);
}

/* ---- Methods of other providers -----------------------------------------------------------------
 */

/* Under the lock. */
static OSSL_LIB_CTX *child_get(struct mtls_provctx *prov)
{
    if (prov->child == NULL)
        prov->child = OSSL_LIB_CTX_new_child(prov->handle, prov->core);
    return prov->child;
}

/* Under the lock. The dummy key makes the context one that can be duplicated. */
static EVP_MAC_CTX *hmac_make(struct mtls_provctx *prov)
{
    static const unsigned char dummy[PROV_PROOF_KEY_LEN];
    char digest[] = "SHA256";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
        OSSL_PARAM_construct_end(),
    };
    OSSL_LIB_CTX *child = child_get(prov);
    EVP_MAC_CTX *ctx = NULL;

    if (child == NULL)
        return NULL;
    if (prov->hmac_mac == NULL)
        prov->hmac_mac = EVP_MAC_fetch(child, OSSL_MAC_NAME_HMAC, NOT_OURS);
    if (prov->hmac_mac != NULL)
        ctx = EVP_MAC_CTX_new(prov->hmac_mac);
    if (ctx != NULL && EVP_MAC_init(ctx, dummy, sizeof(dummy), params) != 1) {
        EVP_MAC_CTX_free(ctx);
        ctx = NULL;
    }
    return ctx;
}

EVP_MAC_CTX *prov_hmac_template(struct mtls_provctx *prov)
{
    EVP_MAC_CTX *ctx = atomic_load_explicit(&prov->hmac, memory_order_acquire);

    if (ctx != NULL)
        return ctx;
    if (!CRYPTO_THREAD_write_lock(prov->lock))
        return NULL;
    ctx = atomic_load_explicit(&prov->hmac, memory_order_relaxed);
    if (ctx == NULL) {
        ctx = hmac_make(prov);
        atomic_store_explicit(&prov->hmac, ctx, memory_order_release);
    }
    CRYPTO_THREAD_unlock(prov->lock);
    if (ctx == NULL)
        PROV_RAISE(prov, NO_IMPLEMENTATION);
    return ctx;
}

EVP_KDF *prov_tls13_kdf(struct mtls_provctx *prov)
{
    EVP_KDF *kdf = atomic_load_explicit(&prov->tls13, memory_order_acquire);
    OSSL_LIB_CTX *child;

    if (kdf != NULL)
        return kdf;
    if (!CRYPTO_THREAD_write_lock(prov->lock))
        return NULL;
    kdf = atomic_load_explicit(&prov->tls13, memory_order_relaxed);
    child = child_get(prov);
    if (kdf == NULL && child != NULL) {
        kdf = EVP_KDF_fetch(child, OSSL_KDF_NAME_TLS1_3_KDF, NOT_OURS);
        atomic_store_explicit(&prov->tls13, kdf, memory_order_release);
    }
    CRYPTO_THREAD_unlock(prov->lock);
    if (kdf == NULL)
        PROV_RAISE(prov, NO_IMPLEMENTATION);
    return kdf;
}

OSSL_LIB_CTX *prov_libctx(const struct mtls_provctx *prov)
{
    return prov->child;
}

/* ---- Parameters shared by the algorithms --------------------------------------------------------
 */

static const char *const protocol_names[] = {[PROV_MTLS1] = "mtls1", [PROV_SMKEX1] = "smkex1"};

const char *prov_protocol_name(enum prov_protocol protocol)
{
    return protocol_names[protocol];
}

/* A UTF8_STRING need not end in a zero byte: its size counts. */
static bool text_equal(const OSSL_PARAM *p, const char *value, const char *name)
{
    size_t len = strlen(name);

    if (p->data_type == OSSL_PARAM_UTF8_PTR)
        return strcmp(value, name) == 0;
    return OPENSSL_strnlen(value, p->data_size) == len && strncmp(value, name, len) == 0;
}

int prov_param_choice(const struct mtls_provctx *prov, const OSSL_PARAM *p,
                      const char *const names[], size_t n, enum prov_reason unknown)
{
    const char *value = NULL;

    if (!prov_get_text(p, &value) || value == NULL) {
        PROV_RAISE(prov, PARAM_TYPE);
        return -1;
    }
    for (size_t i = 0; i < n; i++)
        if (text_equal(p, value, names[i]))
            return (int)i;
    prov_raise(prov, unknown, __FILE__, __LINE__, __func__);
    return -1;
}

int prov_get_protocol(const struct mtls_provctx *prov, const OSSL_PARAM params[],
                      enum prov_protocol *protocol)
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, MTLS_PROOF_PARAM_PROTOCOL);
    int choice;

    if (p == NULL)
        return 1;
    choice = prov_param_choice(prov, p, protocol_names, 2, PROV_R_PROTOCOL_INVALID);
    if (choice < 0)
        return 0;
    *protocol = (enum prov_protocol)choice;
    return 1;
}

/* ---- The section of openssl.cnf -----------------------------------------------------------------
 */

/* Asks the core for one key; NULL: not there. */
static const char *core_get(const void *arg, const char *key)
{
    const struct mtls_provctx *prov = arg;
    char *value = NULL;
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_ptr(key, &value, 0),
        OSSL_PARAM_construct_end(),
    };

    if (prov->core_get_params == NULL || !prov->core_get_params(prov->handle, params))
        return NULL;
    return value;
}

static char *config_make(const struct mtls_provctx *prov)
{
    char *text = NULL;

    switch (prov_section_words(core_get, prov, &text)) {
    case PROV_SECTION_OK:
        return text;
    case PROV_SECTION_VALUE:
        PROV_RAISE(prov, CONFIG_VALUE);
        return NULL;
    default:
        PROV_RAISE(prov, NO_MEMORY);
        return NULL;
    }
}

/* Lives as long as the provider. NULL with a reason raised. */
static const char *config_get(struct mtls_provctx *prov)
{
    char *text = atomic_load_explicit(&prov->config, memory_order_acquire), *seen = NULL;

    if (text != NULL)
        return text;
    text = config_make(prov);
    if (text == NULL)
        return NULL;
    if (!atomic_compare_exchange_strong(&prov->config, &seen, text)) {
        OPENSSL_free(text); /* another thread was first */
        text = seen;
    }
    return text;
}

/* ---- Provider functions -------------------------------------------------------------------------
 */

static const OSSL_PARAM *gettable_params(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_NAME, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_VERSION, NULL, 0),
        OSSL_PARAM_utf8_ptr(OSSL_PROV_PARAM_BUILDINFO, NULL, 0),
        OSSL_PARAM_int(OSSL_PROV_PARAM_STATUS, NULL),
        OSSL_PARAM_utf8_ptr(MTLS_PROV_PARAM_CONFIG, NULL, 0),
        OSSL_PARAM_END,
    };

    return list;
}

static int get_params(void *provctx, OSSL_PARAM params[])
{
    static const char *const texts[][2] = {
        {OSSL_PROV_PARAM_NAME, "Multipath TLS"},
        {OSSL_PROV_PARAM_VERSION, MTLS_PROVIDER_VERSION},
        {OSSL_PROV_PARAM_BUILDINFO, MTLS_PROVIDER_VERSION " for " OPENSSL_VERSION_TEXT},
    };
    OSSL_PARAM *p;

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        p = OSSL_PARAM_locate(params, texts[i][0]);
        if (p != NULL && !OSSL_PARAM_set_utf8_ptr(p, texts[i][1]))
            return 0;
    }
    p = OSSL_PARAM_locate(params, OSSL_PROV_PARAM_STATUS);
    if (p != NULL && !OSSL_PARAM_set_int(p, 1))
        return 0;
    p = OSSL_PARAM_locate(params, MTLS_PROV_PARAM_CONFIG);
    if (p != NULL) {
        const char *config = config_get(provctx);

        if (config == NULL || !OSSL_PARAM_set_utf8_ptr(p, config))
            return 0;
    }
    return 1;
}

static const OSSL_ALGORITHM *query_operation(void *provctx, int operation_id, int *no_store)
{
    static const OSSL_ALGORITHM macs[] = {
        {MTLS_ALG_PROOF, "provider=mtls", prov_proof_functions,
         "Multipath TLS proof and confirmation"},
        {NULL, NULL, NULL, NULL},
    };
    static const OSSL_ALGORITHM kdfs[] = {
        {MTLS_ALG_EK, "provider=mtls", prov_ek_functions, "Multipath TLS confirmation keys"},
        {MTLS_ALG_OBSERVED, "provider=mtls", prov_observed_functions,
         "last observed TLS 1.3 transcript"},
        {"TLS13-KDF", "provider=mtls,mtls.observer=yes", prov_observer_functions,
         "TLS13-KDF of another provider, observed"},
        {NULL, NULL, NULL, NULL},
    };

    *no_store = 0;
    switch (operation_id) {
    case OSSL_OP_MAC:
        return macs;
    case OSSL_OP_KDF:
        return kdfs;
    default:
        return NULL;
    }
}

/* One known answer through our own functions: key 00 .. 1f, role server, message "Multipath TLS".
 */
static int self_test(void *provctx)
{
    static const unsigned char want[PROV_PROOF_TAG_LEN] = {
        0x04, 0x7d, 0x6c, 0xe9, 0x98, 0x53, 0x2f, 0x88, 0xee, 0xd9, 0x24,
        0x05, 0x0c, 0x45, 0x0e, 0xa6, 0x85, 0x20, 0x5f, 0x29, 0xa0, 0xd4,
        0xe3, 0x30, 0xa4, 0x10, 0x45, 0xce, 0xd6, 0xa7, 0xbc, 0x36,
    };
    struct mtls_provctx *prov = provctx;
    unsigned char key[PROV_PROOF_KEY_LEN], tag[PROV_PROOF_TAG_LEN] = {0};
    int ok;

    for (unsigned char i = 0; i < sizeof(key); i++)
        key[i] = i;
    ok = prov_proof_once(prov, "server", key, "Multipath TLS", tag) &&
         CRYPTO_memcmp(tag, want, sizeof(want)) == 0;
    if (!ok)
        PROV_RAISE(prov, SELF_TEST);
    return ok;
}

static void teardown(void *provctx)
{
    struct mtls_provctx *prov = provctx;

    EVP_MAC_CTX_free(atomic_load(&prov->hmac));
    EVP_MAC_free(prov->hmac_mac);
    EVP_KDF_free(atomic_load(&prov->tls13));
    OSSL_LIB_CTX_free(prov->child);
    OPENSSL_free(atomic_load(&prov->config));
    CRYPTO_THREAD_lock_free(prov->lock);
    OPENSSL_free(prov->core);
    OPENSSL_free(prov);
}

static const OSSL_DISPATCH functions[] = {
    {OSSL_FUNC_PROVIDER_TEARDOWN, (void (*)(void))teardown},
    {OSSL_FUNC_PROVIDER_GETTABLE_PARAMS, (void (*)(void))gettable_params},
    {OSSL_FUNC_PROVIDER_GET_PARAMS, (void (*)(void))get_params},
    {OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query_operation},
    {OSSL_FUNC_PROVIDER_GET_REASON_STRINGS, (void (*)(void))get_reason_strings},
    {OSSL_FUNC_PROVIDER_SELF_TEST, (void (*)(void))self_test},
    {0, NULL},
};

/* Takes what we call from the core's table and keeps a copy of the whole for the child context. */
static int core_take(struct mtls_provctx *prov, const OSSL_DISPATCH *in)
{
    size_t n = 0;

    for (; in[n].function_id != 0; n++) {
        switch (in[n].function_id) {
        case OSSL_FUNC_CORE_GET_PARAMS:
            prov->core_get_params = OSSL_FUNC_core_get_params(&in[n]);
            break;
        case OSSL_FUNC_CORE_NEW_ERROR:
            prov->core_new_error = OSSL_FUNC_core_new_error(&in[n]);
            break;
        case OSSL_FUNC_CORE_SET_ERROR_DEBUG:
            prov->core_set_error_debug = OSSL_FUNC_core_set_error_debug(&in[n]);
            break;
        case OSSL_FUNC_CORE_VSET_ERROR:
            prov->core_vset_error = OSSL_FUNC_core_vset_error(&in[n]);
            break;
        default:
            break;
        }
    }
    prov->core = OPENSSL_memdup(in, (n + 1) * sizeof(*in));
    return prov->core != NULL;
}

int mtls_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx)
{
    struct mtls_provctx *prov = OPENSSL_zalloc(sizeof(*prov));

    if (prov == NULL)
        return 0;
    prov->handle = handle;
    prov->lock = CRYPTO_THREAD_lock_new();
    if (prov->lock == NULL || !core_take(prov, in)) {
        teardown(prov);
        return 0;
    }
    *out = functions;
    *provctx = prov;
    return 1;
}
