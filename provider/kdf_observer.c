/* Concept: the transcript observer. "TLS13-KDF" here is another provider's, unchanged in every
 * result, plus a note: when libssl derives "exp master" (RFC 8446 section 7.1), the context is the
 * transcript hash ClientHello .. server Finished and the output the exporter_master_secret. The
 * note waits in one slot per thread until "MTLS1-OBSERVED" takes it, or the next handshake of the
 * thread replaces it. A query without properties may choose this KDF too (the order of providers
 * decides), so it notes nothing unless somebody in this library context holds an MTLS1-OBSERVED
 * context. */
#include <string.h>
#include <strings.h>

#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/params.h>

#include "provider/internal.h"

#define EXP_MASTER "exp master"

static OSSL_FUNC_kdf_newctx_fn observer_new;
static OSSL_FUNC_kdf_dupctx_fn observer_dup;
static OSSL_FUNC_kdf_freectx_fn observer_free;
static OSSL_FUNC_kdf_reset_fn observer_reset;
static OSSL_FUNC_kdf_derive_fn observer_derive;
static OSSL_FUNC_kdf_gettable_params_fn observer_gettable_params;
static OSSL_FUNC_kdf_gettable_ctx_params_fn observer_gettable_ctx_params;
static OSSL_FUNC_kdf_get_ctx_params_fn observer_get_ctx_params;
static OSSL_FUNC_kdf_settable_ctx_params_fn observer_settable_ctx_params;
static OSSL_FUNC_kdf_set_ctx_params_fn observer_set_ctx_params;

static OSSL_FUNC_kdf_newctx_fn observed_new;
static OSSL_FUNC_kdf_dupctx_fn observed_dup;
static OSSL_FUNC_kdf_freectx_fn observed_free;
static OSSL_FUNC_kdf_reset_fn observed_reset;
static OSSL_FUNC_kdf_derive_fn observed_derive;
static OSSL_FUNC_kdf_gettable_params_fn observed_gettable_params;
static OSSL_FUNC_kdf_get_params_fn observed_get_params;

/* The only state outside of a context: libssl gives the KDF no handle of its SSL. */
static _Thread_local struct {
    const struct mtls_provctx *owner; /* NULL = empty */
    unsigned char hlen, slen;
    unsigned char th[PROV_HASH_MAX], secret[PROV_HASH_MAX];
} slot;

static void slot_wipe(void)
{
    OPENSSL_cleanse(&slot, sizeof(slot));
    slot.owner = NULL;
}

/* ---- TLS13-KDF, observed ------------------------------------------------------------------------
 */

struct observer {
    struct mtls_provctx *prov;
    EVP_KDF_CTX *inner;
    bool is_exp_master, is_expand;
    size_t hlen; /* 0: data is not a hash */
    unsigned char th[PROV_HASH_MAX];
};

static void *observer_new(void *provctx)
{
    EVP_KDF *kdf = prov_tls13_kdf(provctx);
    struct observer *ctx;

    if (kdf == NULL)
        return NULL;
    ctx = OPENSSL_zalloc(sizeof(*ctx));
    if (ctx == NULL)
        return NULL;
    ctx->prov = provctx;
    ctx->inner = EVP_KDF_CTX_new(kdf);
    if (ctx->inner == NULL) {
        OPENSSL_free(ctx);
        return NULL;
    }
    return ctx;
}

static void *observer_dup(void *vsrc)
{
    const struct observer *src = vsrc;
    struct observer *ctx = OPENSSL_memdup(src, sizeof(*src));

    if (ctx == NULL)
        return NULL;
    ctx->inner = EVP_KDF_CTX_dup(src->inner);
    if (ctx->inner == NULL) {
        OPENSSL_free(ctx);
        return NULL;
    }
    return ctx;
}

static void observer_free(void *vctx)
{
    struct observer *ctx = vctx;

    if (ctx == NULL)
        return;
    EVP_KDF_CTX_free(ctx->inner);
    OPENSSL_free(ctx);
}

static void observer_reset(void *vctx)
{
    struct observer *ctx = vctx;

    EVP_KDF_CTX_reset(ctx->inner);
    ctx->is_exp_master = ctx->is_expand = false;
    ctx->hlen = 0;
}

static void note_mode(struct observer *ctx, const OSSL_PARAM *p)
{
    const char *text = NULL;
    int mode = 0;

    if (p->data_type == OSSL_PARAM_UTF8_STRING)
        ctx->is_expand =
            prov_get_text(p, &text) && text != NULL && strcasecmp(text, "EXPAND_ONLY") == 0;
    else
        ctx->is_expand = OSSL_PARAM_get_int(p, &mode) && mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY;
}

/* Reads along in parameters that the KDF underneath has accepted. */
static void note_params(struct observer *ctx, const OSSL_PARAM params[])
{
    const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_MODE);
    const void *data = NULL;
    size_t len = 0;

    if (p != NULL)
        note_mode(ctx, p);
    p = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_LABEL);
    if (p != NULL)
        ctx->is_exp_master = prov_get_bytes(p, &data, &len) && len == sizeof(EXP_MASTER) - 1 &&
                             strncmp(data, EXP_MASTER, len) == 0;
    p = OSSL_PARAM_locate_const(params, OSSL_KDF_PARAM_DATA);
    if (p == NULL)
        return;
    ctx->hlen = 0;
    if (prov_get_bytes(p, &data, &len) && data != NULL && len <= sizeof(ctx->th)) {
        memcpy(ctx->th, data, len);
        ctx->hlen = len;
    }
}

static int observer_set_ctx_params(void *vctx, const OSSL_PARAM params[])
{
    struct observer *ctx = vctx;

    if (params == NULL)
        return 1;
    if (!EVP_KDF_CTX_set_params(ctx->inner, params))
        return 0;
    note_params(ctx, params);
    return 1;
}

static int observer_derive(void *vctx, unsigned char *out, size_t outlen, const OSSL_PARAM params[])
{
    struct observer *ctx = vctx;

    if (EVP_KDF_derive(ctx->inner, out, outlen, params) != 1)
        return 0;
    if (params != NULL)
        note_params(ctx, params);
    if (!ctx->is_exp_master || !ctx->is_expand || ctx->hlen == 0 || outlen > PROV_HASH_MAX ||
        atomic_load_explicit(&ctx->prov->readers, memory_order_relaxed) == 0)
        return 1;
    slot_wipe();
    /* [KEY-1]: the hash that exporter_master_secret is derived with is TH. */
    memcpy(slot.th, ctx->th, ctx->hlen);
    memcpy(slot.secret, out, outlen);
    slot.hlen = (unsigned char)ctx->hlen;
    slot.slen = (unsigned char)outlen;
    slot.owner = ctx->prov;
    return 1;
}

static const OSSL_PARAM *observer_gettable_params(void *provctx)
{
    EVP_KDF *kdf = prov_tls13_kdf(provctx);

    return kdf != NULL ? EVP_KDF_gettable_params(kdf) : NULL;
}

static const OSSL_PARAM *observer_gettable_ctx_params(void *vctx, void *provctx)
{
    EVP_KDF *kdf = prov_tls13_kdf(provctx);

    return kdf != NULL ? EVP_KDF_gettable_ctx_params(kdf) : NULL;
}

static const OSSL_PARAM *observer_settable_ctx_params(void *vctx, void *provctx)
{
    EVP_KDF *kdf = prov_tls13_kdf(provctx);

    return kdf != NULL ? EVP_KDF_settable_ctx_params(kdf) : NULL;
}

static int observer_get_ctx_params(void *vctx, OSSL_PARAM params[])
{
    struct observer *ctx = vctx;

    return EVP_KDF_CTX_get_params(ctx->inner, params);
}

const OSSL_DISPATCH prov_observer_functions[] = {
    {OSSL_FUNC_KDF_NEWCTX, (void (*)(void))observer_new},
    {OSSL_FUNC_KDF_DUPCTX, (void (*)(void))observer_dup},
    {OSSL_FUNC_KDF_FREECTX, (void (*)(void))observer_free},
    {OSSL_FUNC_KDF_RESET, (void (*)(void))observer_reset},
    {OSSL_FUNC_KDF_DERIVE, (void (*)(void))observer_derive},
    {OSSL_FUNC_KDF_GETTABLE_PARAMS, (void (*)(void))observer_gettable_params},
    {OSSL_FUNC_KDF_GETTABLE_CTX_PARAMS, (void (*)(void))observer_gettable_ctx_params},
    {OSSL_FUNC_KDF_GET_CTX_PARAMS, (void (*)(void))observer_get_ctx_params},
    {OSSL_FUNC_KDF_SETTABLE_CTX_PARAMS, (void (*)(void))observer_settable_ctx_params},
    {OSSL_FUNC_KDF_SET_CTX_PARAMS, (void (*)(void))observer_set_ctx_params},
    {0, NULL},
};

/* ---- MTLS1-OBSERVED -----------------------------------------------------------------------------
 */

struct observed {
    struct mtls_provctx *prov;
};

static void *observed_new(void *provctx)
{
    struct observed *ctx = OPENSSL_zalloc(sizeof(*ctx));

    if (ctx == NULL)
        return NULL;
    ctx->prov = provctx;
    atomic_fetch_add(&ctx->prov->readers, 1);
    return ctx;
}

static void *observed_dup(void *vsrc)
{
    const struct observed *src = vsrc;

    return observed_new(src->prov);
}

/* The last reader leaves no secret behind on its thread. */
static void observed_free(void *vctx)
{
    struct observed *ctx = vctx;

    if (ctx == NULL)
        return;
    if (atomic_fetch_sub(&ctx->prov->readers, 1) == 1 && slot.owner == ctx->prov)
        slot_wipe();
    OPENSSL_free(ctx);
}

static void observed_reset(void *vctx)
{
}

static int observed_derive(void *vctx, unsigned char *out, size_t outlen, const OSSL_PARAM params[])
{
    const struct observed *ctx = vctx;

    if (outlen != PROV_OBSERVED_LEN) {
        PROV_RAISE(ctx->prov, OUTPUT_LENGTH);
        return 0;
    }
    if (slot.owner != ctx->prov) {
        PROV_RAISE(ctx->prov, NOTHING_OBSERVED);
        return 0;
    }
    out[0] = slot.hlen;
    out[1] = slot.slen;
    memcpy(out + 2, slot.th, PROV_HASH_MAX);
    memcpy(out + 2 + PROV_HASH_MAX, slot.secret, PROV_HASH_MAX);
    slot_wipe();
    return 1;
}

static const OSSL_PARAM *observed_gettable_params(void *provctx)
{
    static const OSSL_PARAM list[] = {
        OSSL_PARAM_size_t(OSSL_KDF_PARAM_SIZE, NULL),
        OSSL_PARAM_END,
    };

    return list;
}

static int observed_get_params(OSSL_PARAM params[])
{
    OSSL_PARAM *p = OSSL_PARAM_locate(params, OSSL_KDF_PARAM_SIZE);

    return p == NULL || OSSL_PARAM_set_size_t(p, PROV_OBSERVED_LEN);
}

const OSSL_DISPATCH prov_observed_functions[] = {
    {OSSL_FUNC_KDF_NEWCTX, (void (*)(void))observed_new},
    {OSSL_FUNC_KDF_DUPCTX, (void (*)(void))observed_dup},
    {OSSL_FUNC_KDF_FREECTX, (void (*)(void))observed_free},
    {OSSL_FUNC_KDF_RESET, (void (*)(void))observed_reset},
    {OSSL_FUNC_KDF_DERIVE, (void (*)(void))observed_derive},
    {OSSL_FUNC_KDF_GETTABLE_PARAMS, (void (*)(void))observed_gettable_params},
    {OSSL_FUNC_KDF_GET_PARAMS, (void (*)(void))observed_get_params},
    {0, NULL},
};
