/* Concept: the MAC "MTLS1-PROOF": HMAC-SHA-256 whose first input is the role's label and a zero
 * byte, so that a server's proof is never a client's confirmation. Full-length tags only. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/params.h>

#include "provider/internal.h"

static OSSL_FUNC_mac_newctx_fn proof_new;
static OSSL_FUNC_mac_dupctx_fn proof_dup;
static OSSL_FUNC_mac_freectx_fn proof_free;
static OSSL_FUNC_mac_init_fn proof_init;
static OSSL_FUNC_mac_update_fn proof_update;
static OSSL_FUNC_mac_final_fn proof_final;
static OSSL_FUNC_mac_gettable_params_fn proof_gettable_params;
static OSSL_FUNC_mac_get_params_fn proof_get_params;
static OSSL_FUNC_mac_gettable_ctx_params_fn proof_gettable_ctx_params;
static OSSL_FUNC_mac_get_ctx_params_fn proof_get_ctx_params;
static OSSL_FUNC_mac_settable_ctx_params_fn proof_settable_ctx_params;
static OSSL_FUNC_mac_set_ctx_params_fn proof_set_ctx_params;

enum role { ROLE_NONE, ROLE_SERVER, ROLE_CLIENT };

struct proof {
    struct mtls_provctx *prov;
    EVP_MAC_CTX *hmac; /* one for life, keyed again by each init */
    unsigned char key[PROV_PROOF_KEY_LEN];
    enum role role;
    enum prov_protocol protocol;
    bool keyed;
    bool running; /* between init and final, nothing changed since */
};

static const char *const role_names[] = {"", "server", "client"};

struct label {
    const char *text;
    size_t len; /* with the zero byte */
};
#define LABEL(s)                                                                                   \
    {                                                                                              \
        s, sizeof(s)                                                                               \
    }
/* [TAG-3] [TAG-5] */
static const struct label labels[][3] = {
    [PROV_MTLS1] = {{NULL, 0}, LABEL("mtls1 server proof"), LABEL("mtls1 client confirm")},
    [PROV_SMKEX1] = {{NULL, 0}, LABEL("smkex1 server proof"), LABEL("smkex1 client confirm")},
};

static void *proof_new(void *provctx)
{
    struct mtls_provctx *prov = provctx;
    EVP_MAC_CTX *template = prov_hmac_template(prov);
    struct proof *ctx;

    if (template == NULL)
        return NULL;
    ctx = OPENSSL_zalloc(sizeof(*ctx));
    if (ctx == NULL)
        return NULL;
    ctx->prov = prov;
    ctx->hmac = EVP_MAC_CTX_dup(template);
    if (ctx->hmac == NULL) {
        proof_free(ctx);
        return NULL;
    }
    return ctx;
}

static void *proof_dup(void *vsrc)
{
    const struct proof *src = vsrc;
    struct proof *ctx = OPENSSL_memdup(src, sizeof(*src));

    if (ctx == NULL)
        return NULL;
    ctx->hmac = EVP_MAC_CTX_dup(src->hmac);
    if (ctx->hmac == NULL) {
        proof_free(ctx);
        return NULL;
    }
    return ctx;
}

static void proof_free(void *vctx)
{
    struct proof *ctx = vctx;

    if (ctx == NULL)
        return;
    EVP_MAC_CTX_free(ctx->hmac);
    OPENSSL_clear_free(ctx, sizeof(*ctx));
}

static int set_key(struct proof *ctx, const void *key, size_t len)
{
    ctx->running = false;
    if (key == NULL || len != PROV_PROOF_KEY_LEN) {
        PROV_RAISE(ctx->prov, KEY_LENGTH);
        return 0;
    }
    memcpy(ctx->key, key, PROV_PROOF_KEY_LEN);
    ctx->keyed = true;
    return 1;
}

static int set_role(struct proof *ctx, const OSSL_PARAM *p)
{
    int choice = prov_param_choice(ctx->prov, p, role_names + 1, 2, PROV_R_ROLE_INVALID);

    if (choice < 0)
        return 0;
    ctx->role = choice == 0 ? ROLE_SERVER : ROLE_CLIENT;
    return 1;
}

/* A change in the middle of an operation ends it: no tag is made from two settings. */
static int proof_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct proof *ctx = vctx;
    const OSSL_PARAM *p;

    if (params == NULL || params->key == NULL)
        return 1;
    ctx->running = false;
    if (!prov_get_protocol(ctx->prov, params, &ctx->protocol))
        return 0;
    p = OSSL_PARAM_locate_const(params, MTLS_PROOF_PARAM_ROLE);
    if (p != NULL && !set_role(ctx, p))
        return 0;
    p = OSSL_PARAM_locate_const(params, OSSL_MAC_PARAM_KEY);
    if (p != NULL) {
        const void *key = NULL;
        size_t len = 0;

        if (!prov_get_bytes(p, &key, &len)) {
            PROV_RAISE(ctx->prov, PARAM_TYPE);
            return 0;
        }
        return set_key(ctx, key, len);
    }
    return 1;
}

static int proof_init(void *vctx, const unsigned char *key, size_t keylen,
                      const OSSL_PARAM params[])
{
    struct proof *ctx = vctx;
    const struct label *label;

    ctx->running = false;
    if (!proof_set_ctx_params(ctx, params))
        return 0;
    if (key != NULL && !set_key(ctx, key, keylen))
        return 0;
    if (ctx->role == ROLE_NONE) {
        PROV_RAISE(ctx->prov, ROLE_MISSING);
        return 0;
    }
    if (!ctx->keyed) {
        PROV_RAISE(ctx->prov, KEY_MISSING);
        return 0;
    }
    label = &labels[ctx->protocol][ctx->role];
    ctx->running = EVP_MAC_init(ctx->hmac, ctx->key, sizeof(ctx->key), NULL) &&
                   EVP_MAC_update(ctx->hmac, (const unsigned char *)label->text, label->len);
    return ctx->running;
}

static int proof_update(void *vctx, const unsigned char *data, size_t len)
{
    struct proof *ctx = vctx;

    if (!ctx->running) {
        PROV_RAISE(ctx->prov, NOT_INITIALISED);
        return 0;
    }
    return len == 0 || EVP_MAC_update(ctx->hmac, data, len);
}

static int proof_final(void *vctx, unsigned char *out, size_t *outl, size_t outsize)
{
    struct proof *ctx = vctx;

    if (!ctx->running) {
        PROV_RAISE(ctx->prov, NOT_INITIALISED);
        return 0;
    }
    if (outsize < PROV_PROOF_TAG_LEN) { /* [TAG-1] */
        PROV_RAISE(ctx->prov, OUTPUT_LENGTH);
        return 0;
    }
    ctx->running = false;
    return EVP_MAC_final(ctx->hmac, out, outl, outsize);
}

int prov_proof_once(struct mtls_provctx *prov, const char *role,
                    const unsigned char key[PROV_PROOF_KEY_LEN], const char *text,
                    unsigned char tag[PROV_PROOF_TAG_LEN])
{
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_utf8_string(MTLS_PROOF_PARAM_ROLE, (char *)(uintptr_t)role, 0),
        OSSL_PARAM_construct_end(),
    };
    struct proof *ctx = proof_new(prov);
    size_t len = 0;
    int ok = ctx != NULL && proof_init(ctx, key, PROV_PROOF_KEY_LEN, params) &&
             proof_update(ctx, (const unsigned char *)text, strlen(text)) &&
             proof_final(ctx, tag, &len, PROV_PROOF_TAG_LEN);

    proof_free(ctx);
    return ok && len == PROV_PROOF_TAG_LEN;
}

/* ---- Parameters ---------------------------------------------------------------------------------
 */

static const OSSL_PARAM *proof_gettable_params(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, NULL),
        OSSL_PARAM_size_t(OSSL_MAC_PARAM_BLOCK_SIZE, NULL),
        OSSL_PARAM_END,
    };

    return list;
}

static int proof_get_params(OSSL_PARAM params[])
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_SIZE);

    if (p != NULL && !OSSL_PARAM_set_size_t(p, PROV_PROOF_TAG_LEN))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_MAC_PARAM_BLOCK_SIZE);
    return p == NULL || OSSL_PARAM_set_size_t(p, 64);
}

static const OSSL_PARAM *proof_gettable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_size_t(OSSL_MAC_PARAM_SIZE, NULL),
        OSSL_PARAM_size_t(OSSL_MAC_PARAM_BLOCK_SIZE, NULL),
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_ROLE, NULL, 0),
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_PROTOCOL, NULL, 0),
        OSSL_PARAM_END,
    };

    return list;
}

static int proof_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    const struct proof *ctx = vctx;
    OSSL_PARAM *p;

    if (!proof_get_params(params))
        return 0;
    p = OSSL_PARAM_locate(params, MTLS_PROOF_PARAM_ROLE);
    if (p != NULL && !OSSL_PARAM_set_utf8_string(p, role_names[ctx->role]))
        return 0;
    p = OSSL_PARAM_locate(params, MTLS_PROOF_PARAM_PROTOCOL);
    return p == NULL || OSSL_PARAM_set_utf8_string(p, prov_protocol_name(ctx->protocol));
}

static const OSSL_PARAM *proof_settable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_ROLE, NULL, 0),
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_PROTOCOL, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_MAC_PARAM_KEY, NULL, 0),
        OSSL_PARAM_END,
    };

    return list;
}

const OSSL_DISPATCH prov_proof_functions[] = {
    {OSSL_FUNC_MAC_NEWCTX, (void (*)(void))proof_new},
    {OSSL_FUNC_MAC_DUPCTX, (void (*)(void))proof_dup},
    {OSSL_FUNC_MAC_FREECTX, (void (*)(void))proof_free},
    {OSSL_FUNC_MAC_INIT, (void (*)(void))proof_init},
    {OSSL_FUNC_MAC_UPDATE, (void (*)(void))proof_update},
    {OSSL_FUNC_MAC_FINAL, (void (*)(void))proof_final},
    {OSSL_FUNC_MAC_GETTABLE_PARAMS, (void (*)(void))proof_gettable_params},
    {OSSL_FUNC_MAC_GET_PARAMS, (void (*)(void))proof_get_params},
    {OSSL_FUNC_MAC_GETTABLE_CTX_PARAMS, (void (*)(void))proof_gettable_ctx_params},
    {OSSL_FUNC_MAC_GET_CTX_PARAMS, (void (*)(void))proof_get_ctx_params},
    {OSSL_FUNC_MAC_SETTABLE_CTX_PARAMS, (void (*)(void))proof_settable_ctx_params},
    {OSSL_FUNC_MAC_SET_CTX_PARAMS, (void (*)(void))proof_set_ctx_params},
    {0, NULL},
};
