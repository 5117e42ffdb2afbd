/* Concept: the KDF "MTLS1-EK": the TLS 1.3 exporter (RFC 8446 section 7.5) with our label and the
 * empty context, computed from an exporter_master_secret with another provider's TLS13-KDF. */
#include <string.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "provider/internal.h"

#define EK_LABEL "EXPORTER-Multipath-TLS-1" /* [KEY-3] */

static OSSL_FUNC_kdf_newctx_fn ek_new;
static OSSL_FUNC_kdf_dupctx_fn ek_dup;
static OSSL_FUNC_kdf_freectx_fn ek_free;
static OSSL_FUNC_kdf_reset_fn ek_reset;
static OSSL_FUNC_kdf_derive_fn ek_derive;
static OSSL_FUNC_kdf_gettable_params_fn ek_gettable_params;
static OSSL_FUNC_kdf_get_params_fn ek_get_params;
static OSSL_FUNC_kdf_gettable_ctx_params_fn ek_gettable_ctx_params;
static OSSL_FUNC_kdf_get_ctx_params_fn ek_get_ctx_params;
static OSSL_FUNC_kdf_settable_ctx_params_fn ek_settable_ctx_params;
static OSSL_FUNC_kdf_set_ctx_params_fn ek_set_ctx_params;

struct ek {
    struct mtls_provctx *prov;
    EVP_MD *md;
    unsigned char key[PROV_HASH_MAX];
    size_t keylen; /* 0 = none yet */
    enum prov_protocol protocol;
};

static void *ek_new(void *provctx)
{
    struct ek *ctx;

    if (prov_tls13_kdf(provctx) == NULL)
        return NULL;
    ctx = OPENSSL_zalloc(sizeof(*ctx));
    if (ctx != NULL)
        ctx->prov = provctx;
    return ctx;
}

static void *ek_dup(void *vsrc)
{
    const struct ek *src = vsrc;
    struct ek *ctx = OPENSSL_memdup(src, sizeof(*src));

    if (ctx != NULL && ctx->md != NULL && !EVP_MD_up_ref(ctx->md)) {
        OPENSSL_clear_free(ctx, sizeof(*ctx));
        return NULL;
    }
    return ctx;
}

static void ek_reset(void *vctx)
{
    struct ek *ctx = vctx;
    struct mtls_provctx *prov = ctx->prov;

    EVP_MD_free(ctx->md);
    OPENSSL_cleanse(ctx, sizeof(*ctx));
    memset(ctx, 0, sizeof(*ctx));
    ctx->prov = prov;
}

static void ek_free(void *vctx)
{
    if (vctx == NULL)
        return;
    ek_reset(vctx);
    OPENSSL_free(vctx);
}

/* HKDF-Expand-Label(secret, label, data, outlen); secret and data are as long as the digest. */
static int expand_label(const struct ek *ctx, const unsigned char *secret, const char *label,
                        const unsigned char *data, unsigned char *out, size_t outlen)
{
    size_t hlen = (size_t)EVP_MD_get_size(ctx->md);
    int mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY;
    char prefix[] = "tls13 ";
    OSSL_PARAM params[] = {
        OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, &mode),
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                         (char *)(uintptr_t)EVP_MD_get0_name(ctx->md), 0),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY, (void *)(uintptr_t)secret, hlen),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_PREFIX, prefix, sizeof(prefix) - 1),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_LABEL, (void *)(uintptr_t)label,
                                          strlen(label)),
        OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_DATA, (void *)(uintptr_t)data, hlen),
        OSSL_PARAM_construct_end(),
    };
    EVP_KDF_CTX *kctx = EVP_KDF_CTX_new(prov_tls13_kdf(ctx->prov));
    int ok = kctx != NULL && EVP_KDF_derive(kctx, out, outlen, params) == 1;

    EVP_KDF_CTX_free(kctx);
    return ok;
}

static int ek_ready(const struct ek *ctx, size_t outlen)
{
    if (ctx->protocol != PROV_MTLS1)
        PROV_RAISE(ctx->prov, NO_EXPORTER);
    else if (ctx->md == NULL)
        PROV_RAISE(ctx->prov, DIGEST_MISSING);
    else if (ctx->keylen == 0)
        PROV_RAISE(ctx->prov, KEY_MISSING);
    else if (ctx->keylen != (size_t)EVP_MD_get_size(ctx->md))
        PROV_RAISE(ctx->prov, KEY_LENGTH);
    else if (outlen != PROV_EK_LEN)
        PROV_RAISE(ctx->prov, OUTPUT_LENGTH);
    else
        return 1;
    return 0;
}

static int ek_derive(void *vctx, unsigned char *out, size_t outlen, const OSSL_PARAM params[])
{
    struct ek *ctx = vctx;
    unsigned char empty[EVP_MAX_MD_SIZE], secret[EVP_MAX_MD_SIZE];
    size_t hlen;
    int ok;

    if (!ek_set_ctx_params(ctx, params) || !ek_ready(ctx, outlen))
        return 0;
    hlen = ctx->keylen;
    ok = EVP_Digest("", 0, empty, NULL, ctx->md, NULL) &&
         expand_label(ctx, ctx->key, EK_LABEL, empty, secret, hlen) &&
         expand_label(ctx, secret, "exporter", empty, out, outlen);
    OPENSSL_cleanse(secret, sizeof(secret));
    if (!ok)
        OPENSSL_cleanse(out, outlen);
    return ok;
}

/* ---- Parameters ---------------------------------------------------------------------------------
 */

static int set_digest(struct ek *ctx, const OSSL_PARAM *p, const OSSL_PARAM *properties)
{
    const char *name = NULL, *query = NULL;
    EVP_MD *md;

    if (!prov_get_text(p, &name) || name == NULL ||
        (properties != NULL && !prov_get_text(properties, &query))) {
        PROV_RAISE(ctx->prov, PARAM_TYPE);
        return 0;
    }
    md = EVP_MD_fetch(prov_libctx(ctx->prov), name, query);
    if (md == NULL || (EVP_MD_get_flags(md) & EVP_MD_FLAG_XOF) != 0 || EVP_MD_get_size(md) <= 0 ||
        EVP_MD_get_size(md) > PROV_HASH_MAX) {
        EVP_MD_free(md);
        PROV_RAISE(ctx->prov, DIGEST_INVALID);
        return 0;
    }
    EVP_MD_free(ctx->md);
    ctx->md = md;
    return 1;
}

static int set_key(struct ek *ctx, const OSSL_PARAM *p)
{
    const void *key = NULL;
    size_t len = 0;

    if (!prov_get_bytes(p, &key, &len)) {
        PROV_RAISE(ctx->prov, PARAM_TYPE);
        return 0;
    }
    if (key == NULL || len == 0 || len > sizeof(ctx->key)) {
        PROV_RAISE(ctx->prov, KEY_LENGTH);
        return 0;
    }
    memcpy(ctx->key, key, len);
    ctx->keylen = len;
    return 1;
}

static int ek_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct ek *ctx = vctx;
    const OSSL_PARAM *p;

    if (params == NULL)
        return 1;
    p = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_DIGEST);
    if (p != NULL &&
        !set_digest(ctx, p, OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_PROPERTIES)))
        return 0;
    p = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_KEY);
    if (p != NULL && !set_key(ctx, p))
        return 0;
    return prov_get_protocol(ctx->prov, params, &ctx->protocol);
}

static const OSSL_PARAM *ek_settable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_PROPERTIES, NULL, 0),
        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_octet_string(OSSL_KDF_PARAM_KEY, NULL, 0),
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_PROTOCOL, NULL, 0),
        OSSL_PARAM_END,
    };

    return list;
}

static const OSSL_PARAM *ek_gettable_params(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, NULL),
        OSSL_PARAM_END,
    };

    return list;
}

static int ek_get_params(OSSL_PARAM params[])
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_SIZE);

    return p == NULL || OSSL_PARAM_set_size_t(p, PROV_EK_LEN);
}

static const OSSL_PARAM *ek_gettable_ctx_params(void *vctx, void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, NULL),
        OSSL_PARAM_utf8_string(OSSL_KDF_PARAM_DIGEST, NULL, 0),
        OSSL_PARAM_utf8_string(MTLS_PROOF_PARAM_PROTOCOL, NULL, 0),
        OSSL_PARAM_END,
    };

    return list;
}

static int ek_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    const struct ek *ctx = vctx;
    OSSL_PARAM *p;

    if (!ek_get_params(params))
        return 0;
    p = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_DIGEST);
    if (p != NULL &&
        !OSSL_PARAM_set_utf8_string(p, ctx->md != NULL ? EVP_MD_get0_name(ctx->md) : ""))
        return 0;
    p = OSSL_PARAM_locate(params, MTLS_PROOF_PARAM_PROTOCOL);
    return p == NULL || OSSL_PARAM_set_utf8_string(p, prov_protocol_name(ctx->protocol));
}

const OSSL_DISPATCH prov_ek_functions[] = {
    {OSSL_FUNC_KDF_NEWCTX, (void (*)(void))ek_new},
    {OSSL_FUNC_KDF_DUPCTX, (void (*)(void))ek_dup},
    {OSSL_FUNC_KDF_FREECTX, (void (*)(void))ek_free},
    {OSSL_FUNC_KDF_RESET, (void (*)(void))ek_reset},
    {OSSL_FUNC_KDF_DERIVE, (void (*)(void))ek_derive},
    {OSSL_FUNC_KDF_GETTABLE_PARAMS, (void (*)(void))ek_gettable_params},
    {OSSL_FUNC_KDF_GET_PARAMS, (void (*)(void))ek_get_params},
    {OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS, (void (*)(void))ek_gettable_ctx_params},
    {OSSL_FUNC_KDF_GET_CTX_PARAMS, (void (*)(void))ek_get_ctx_params},
    {OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, (void (*)(void))ek_settable_ctx_params},
    {OSSL_FUNC_KDF_SET_CTX_PARAMS, (void (*)(void))ek_set_ctx_params},
    {0, NULL},
};
