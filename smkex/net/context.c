/* Concept: a context: configuration, crypto objects, the server's key, path 2's listeners
 * (mtls/smkex.h). */
#include "internal.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/pem.h>

#include "mtls/net/hostfile.h"

static int say(char *msg, size_t msg_len, int code, const char *text)
{
    if (msg != NULL && msg_len > 0)
        snprintf(msg, msg_len, "%s", text);
    return code;
}

static int configure(struct smkex_ctx *ctx, const char *text, char *msg, size_t msg_len)
{
    char *rest = malloc(strlen(text) + 1);
    int rc =
        rest == NULL ? MTLS_ERR_NOMEM : smkex_words_parse(&ctx->words, text, rest, msg, msg_len);

    mtls_config_init(&ctx->config);
    if (rc == 0)
        rc = mtls_config_apply(&ctx->config, rest, msg, msg_len);
    if (rc == 0 && ctx->config.policy == MTLS_POLICY_UNSET) /* [SPO-1] */
        ctx->config.policy = MTLS_POLICY_REQUIRE;
    if (rc == 0)
        rc = mtls_config_finish(&ctx->config, msg, msg_len);
    free(rest);
    if (rc == 0 && ctx->words.mode == SMKEX_MODE_SINGLE &&
        (ctx->config.npath2 > 0 || ctx->config.nlisten > 0))
        rc = say(msg, msg_len, MTLS_ERR_CONFIG_CONFLICT, "mode=single has no path 2");
    return rc;
}

static int load_key(struct smkex_ctx *ctx, char *msg, size_t msg_len)
{
    FILE *f;

    if (ctx->words.key[0] == '\0')
        return 0;
    f = fopen(ctx->words.key, "re");
    if (f == NULL)
        return say(msg, msg_len, MTLS_ERR_IO, strerror(errno));
    setvbuf(f, NULL, _IONBF, 0);
    ctx->key = PEM_read_PrivateKey(f, NULL, NULL, NULL);
    fclose(f);
    if (ctx->key != NULL && EVP_PKEY_is_a(ctx->key, "ED25519"))
        return 0;
    return say(msg, msg_len, MTLS_ERR_CONFIG_VALUE, "key: not an Ed25519 private key in PEM");
}

static int enter_engine(struct smkex_ctx *ctx)
{
    int rc;

    mtls_engine_lock();
    rc = mtls_reactor_get() == NULL ? MTLS_ERR_STOPPED : mtls_engine_crypto(&ctx->proofs);
    if (rc == 0)
        rc = mtls_service_open(&ctx->config, ctx->bound);
    if (rc == 0 && (ctx->config.reactor_app || ctx->config.nlisten > 0))
        rc = mtls_reactor_start(mtls_reactor_get(), ctx->config.reactor_app);
    mtls_engine_unlock();
    for (int i = 0; rc == 0 && i < ctx->config.nlisten; i++)
        mtls_addr_format(&ctx->bound[i], ctx->bound_text[i], sizeof(ctx->bound_text[i]));
    return rc;
}

int smkex_ctx_new(struct smkex_ctx **out, const char *config, char *msg, size_t msg_len)
{
    struct smkex_ctx *ctx = calloc(1, sizeof(*ctx));
    int rc;

    *out = NULL;
    say(msg, msg_len, 0, "");
    if (ctx == NULL)
        return say(msg, msg_len, MTLS_ERR_NOMEM, mtls_error_string(MTLS_ERR_NOMEM));
    ctx->refs = 1;
    rc = configure(ctx, config != NULL ? config : "", msg, msg_len);
    if (rc == 0)
        rc = load_key(ctx, msg, msg_len);
    if (rc == 0)
        rc = smkex_crypto_new(&ctx->crypto, NULL);
    if (rc == 0)
        rc = enter_engine(ctx);
    if (rc != 0) {
        if (msg != NULL && msg_len > 0 && *msg == '\0')
            say(msg, msg_len, 0, mtls_error_string(rc));
        smkex_ctx_unref(ctx);
        return rc;
    }
    *out = ctx;
    return 0;
}

void smkex_ctx_unref(struct smkex_ctx *ctx)
{
    if (ctx == NULL || __atomic_sub_fetch(&ctx->refs, 1, __ATOMIC_ACQ_REL) > 0)
        return;
    EVP_PKEY_free(ctx->key);
    smkex_crypto_free(ctx->crypto);
    free(ctx);
}

void smkex_ctx_free(struct smkex_ctx *ctx)
{
    smkex_ctx_unref(ctx);
}

const char *smkex_ctx_get0_listener(const struct smkex_ctx *ctx, size_t index)
{
    return index < ctx->config.nlisten ? ctx->bound_text[index] : NULL;
}

int smkex_announce(struct smkex_ctx *ctx, const char *host, uint16_t port)
{
    struct mtls_path2_request req = {
        .port1 = port, .tfo = ctx->config.tfo, .reuse = ctx->config.reuse};
    char name[MTLS_HOST_MAX + 1];
    int rc = 0;

    if (host == NULL || port == 0 || mtls_name_canonical(host, name) != 0)
        return MTLS_ERR_ARG;
    if (ctx->words.over_mptcp) /* path 2 is to be no connection of its own */
        return 0;
    req.name = ctx->config.name[0] != '\0' ? ctx->config.name : name;
    mtls_engine_lock();
    if (mtls_reactor_get() == NULL)
        rc = MTLS_ERR_STOPPED;
    if (rc == 0)
        rc = mtls_reactor_start(mtls_reactor_get(), ctx->config.reactor_app);
    for (int i = 0; rc == 0 && ctx->config.early && i < ctx->config.npath2; i++) {
        req.spec = &ctx->config.path2[i];
        if (!req.spec->is_auto)
            rc = mtls_path2_warm(&req, mtls_now());
    }
    mtls_engine_unlock();
    return rc;
}

int smkex_forget_host(const char *file, const char *host, uint16_t port)
{
    int rc = mtls_hostfile_forget(file, host, port);

    return rc < 0 ? rc : 0;
}
