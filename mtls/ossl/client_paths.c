/* Concept: which secondary paths a client session takes: the configured ones, `auto` worked out,
 * one claim each. */
#include <stdlib.h>
#include <string.h>

#include "../net/path2_socket.h"
#include "../net/route.h"
#include "glue.h"

static int path_add(struct mtls_session *s, const struct mtls_path_spec *spec, const char *why)
{
    struct mtls_client_path *p;

    if (s->npaths == MTLS_PATHS_MAX)
        return 0;
    p = &s->paths[s->npaths];
    p->spec = malloc(sizeof(*p->spec));
    if (p->spec == NULL)
        return MTLS_ERR_NOMEM;
    *p->spec = *spec;
    strncpy(p->why, why, sizeof(p->why) - 1);
    s->npaths++;
    return 0;
}

/* `auto` stands for as many devices as are needed; the words beside it hold for each of them. */
static int auto_add(struct mtls_session *s, const struct mtls_path_spec *spec)
{
    struct mtls_auto_choice choices[MTLS_PATHS_MAX];
    int n = mtls_path2_auto(&s->path1_then, choices, MTLS_PATHS_MAX), i, err = 0;

    for (i = 0; err == 0 && i < n && i < s->hook->config.need; i++) {
        struct mtls_path_spec *c = &choices[i].spec;

        c->port = spec->port;
        c->resolver = spec->resolver;
        c->distinct = spec->distinct;
        if (s->name_literal) {
            c->remote.addr = s->path1_then.remote;
            c->remote.addr.port = 0; /* path 1's port is not path 2's */
            mtls_addr_format(&c->remote.addr, c->remote.name, sizeof(c->remote.name));
        }
        err = mtls_path_spec_format(c);
        if (err == 0)
            err = path_add(s, c, choices[i].why);
    }
    return err;
}

int mtls_client_paths_plan(struct mtls_session *s)
{
    const struct mtls_config *c = &s->hook->config;
    int err = 0, i;

    if (c->npath2 == 0)
        return 0;
    s->paths = calloc(MTLS_PATHS_MAX, sizeof(*s->paths));
    if (s->paths == NULL)
        return MTLS_ERR_NOMEM;
    for (i = 0; err == 0 && i < c->npath2; i++)
        err = c->path2[i].is_auto ? auto_add(s, &c->path2[i]) : path_add(s, &c->path2[i], "");
    return err;
}

static void changed(void *arg, struct mtls_path2_claim *claim, mtls_tstamp now)
{
    mtls_session_wake(arg, now);
}

void mtls_client_request(struct mtls_session *s, struct mtls_client_path *p, uint8_t index,
                         struct mtls_path2_request *req)
{
    memset(req, 0, sizeof(*req));
    req->name = s->name;
    req->port1 = s->port;
    req->spec = p->spec;
    req->path = index;
    req->path1_remote = s->path1_then.remote;
    req->tfo = s->hook->config.tfo;
    req->reuse = s->hook->config.reuse;
    req->secret = s->secret;
}

/* [PATH-1] (c); a clock that was set back makes nothing younger. */
static bool fresh(const struct mtls_host_record *stored)
{
    int64_t age = mtls_wallclock() - stored->verified_at;

    return age >= 0 && age <= MTLS_HOSTMEM_ADDR_TTL_S;
}

/* only_warm: kept connections alone, for a session that is resumed from a verified one. Lock held.
 */
void mtls_client_paths_start(struct mtls_session *s, bool only_warm)
{
    mtls_tstamp now = mtls_now();
    uint8_t i;

    for (i = 0; i < s->npaths; i++) {
        struct mtls_client_path *p = &s->paths[i];
        struct mtls_path2_request req;

        if (p->claim != NULL || p->error != 0)
            continue;
        mtls_client_request(s, p, i, &req);
        if (fresh(&s->stored)) {
            req.stored = s->stored.addrs;
            req.nstored = s->stored.naddr;
        }
        if (only_warm && !mtls_path2_is_warm(&req, now))
            continue;
        p->error = mtls_path2_claim_new(&p->claim, &req, changed, s, now);
    }
    s->paths_started = s->paths_started || !only_warm;
}

void mtls_client_paths_free(struct mtls_session *s, uint8_t fail_reason)
{
    uint8_t i;

    for (i = 0; s->paths != NULL && i < s->npaths; i++) {
        if (s->paths[i].claim != NULL && s->generation == mtls_engine_generation()) {
            if (s->outcome != MTLS_OUTCOME_VERIFIED) /* the server need not wait for its deadline */
                mtls_path2_claim_fail(s->paths[i].claim, fail_reason);
            mtls_path2_claim_free(s->paths[i].claim);
        }
        free(s->paths[i].spec);
    }
    free(s->paths);
    s->paths = NULL;
    s->npaths = 0;
}
