/* Concept: claims made ahead of their ClientHello (see announced.h). */
#include "announced.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "engine.h"
#include "reactor.h"

static struct mtls_announced *oldest;
static unsigned kept;

void mtls_announced_free(struct mtls_announced *a)
{
    unsigned i;

    if (a == NULL)
        return;
    for (i = 0; i < MTLS_PATHS_MAX; i++) {
        if (a->claims[i] != NULL) /* the server need not wait */
            mtls_path2_claim_fail(a->claims[i], MTLS_FAIL_ABANDONED);
        mtls_path2_claim_free(a->claims[i]);
    }
    mtls_timer_free(a->timer);
    OPENSSL_cleanse(a->secret, sizeof(a->secret));
    free(a);
}

static void drop(struct mtls_announced **at)
{
    struct mtls_announced *a = *at;

    *at = a->next;
    kept--;
    mtls_announced_free(a);
}

static void expired(void *arg, mtls_tstamp now)
{
    struct mtls_announced **at = &oldest;

    while (*at != NULL && *at != arg)
        at = &(*at)->next;
    if (*at != NULL)
        drop(at);
}

/* 0: begun. A claim that failed at once is no claim. */
static int begin(struct mtls_announced *a, const struct mtls_path2_request *req, mtls_tstamp now)
{
    struct mtls_path_status st;
    struct mtls_path2_claim **claim = &a->claims[req->path];
    int err = mtls_path2_claim_new(claim, req, NULL, NULL, now);

    if (err != 0)
        return err;
    mtls_path2_claim_status(*claim, &st);
    if (st.state != MTLS_PATH_FAILED)
        return 0;
    mtls_path2_claim_free(*claim);
    *claim = NULL;
    return st.error;
}

static bool has_auto(const struct mtls_config *c)
{
    uint8_t i;

    for (i = 0; i < c->npath2; i++)
        if (c->path2[i].is_auto)
            return true;
    return false;
}

static struct mtls_announced *announced_new(const char *name, uint16_t port1)
{
    struct mtls_announced *a = calloc(1, sizeof(*a));
    struct mtls_crypto *crypto;

    if (a == NULL)
        return NULL;
    memcpy(a->name, name, strlen(name) + 1);
    a->port1 = port1;
    if (mtls_engine_crypto(&crypto) == 0 &&
        mtls_crypto_random(crypto, a->secret, sizeof(a->secret)) == 0 &&
        mtls_timer_new(&a->timer, mtls_reactor_current(), expired, a) == 0)
        return a;
    mtls_announced_free(a);
    return NULL;
}

void mtls_announced_keep(struct mtls_announced *a, mtls_tstamp now)
{
    struct mtls_announced **at = &oldest;

    while (*at != NULL)
        at = &(*at)->next;
    *at = a;
    kept++;
    mtls_timer_set(a->timer, now + MTLS_ANNOUNCED_MS * 1000u);
}

int mtls_announced_add(const struct mtls_config *config, const char *name, uint16_t port1,
                       const struct mtls_addr *path1, mtls_tstamp now)
{
    struct mtls_path2_request req = {
        .name = config->name[0] != '\0' ? config->name : name,
        .port1 = port1,
        .path1_remote = *path1,
        .tfo = config->tfo,
        .reuse = config->reuse,
    };
    bool only_warm = has_auto(config) || kept >= MTLS_ANNOUNCED_MAX, begun = false;
    struct mtls_announced *a;
    int err = 0;
    uint8_t i;

    if (!config->early || config->npath2 == 0)
        return 0;
    a = announced_new(req.name, port1);
    if (a == NULL)
        return MTLS_ERR_NOMEM;
    req.secret = a->secret;
    for (i = 0; i < config->npath2; i++) {
        int rc = 0;

        req.spec = &config->path2[i];
        req.path = i;
        if (!only_warm && (rc = begin(a, &req, now)) == 0)
            begun = true;
        else if (only_warm && !req.spec->is_auto)
            rc = mtls_path2_warm(&req, now);
        err = err != 0 ? err : rc;
    }
    if (begun)
        mtls_announced_keep(a, now);
    else
        mtls_announced_free(a);
    return err;
}

struct mtls_announced *mtls_announced_take(const char *name, uint16_t port1)
{
    struct mtls_announced **at, *a;

    for (at = &oldest; (a = *at) != NULL; at = &a->next) {
        if (a->port1 != port1 || strcmp(a->name, name) != 0)
            continue;
        *at = a->next;
        a->next = NULL;
        kept--;
        mtls_timer_set(a->timer, MTLS_TSTAMP_NEVER);
        return a;
    }
    return NULL;
}

/* The claims, their connections and the timers are the parent's. */
void mtls_announced_fork_child(void)
{
    struct mtls_announced *a;

    kept = 0;
    while ((a = oldest) != NULL) {
        oldest = a->next;
        OPENSSL_cleanse(a->secret, sizeof(a->secret));
        free(a);
    }
}
