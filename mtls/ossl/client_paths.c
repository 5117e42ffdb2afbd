/* Concept: which secondary paths a client session takes: the configured ones, `auto` worked out,
 * one claim each. */
#include <stdlib.h>
#include <string.h>

#include "../net/path2_socket.h"
#include "../net/route.h"
#include "glue.h"

int mtls_client_paths_plan(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;

    return mtls_secondary_plan(&hs->paths, &hs->npaths, &s->hook->config, &hs->facts->path1,
                               hs->name_literal ? &hs->facts->path1.remote : NULL);
}

int mtls_client_path_port(struct mtls_secondary *p, uint16_t port)
{
    if (p->own == NULL) {
        p->own = malloc(sizeof(*p->own));
        if (p->own == NULL)
            return MTLS_ERR_NOMEM;
        *p->own = *p->spec;
        p->spec = p->own;
    }
    p->own->port = port;
    return mtls_path_spec_format(p->own); /* its text is the pool's key */
}

static void changed(void *arg, struct mtls_path2_claim *claim, mtls_tstamp now)
{
    mtls_session_wake(arg, now);
}

void mtls_client_request(struct mtls_session *s, struct mtls_secondary *p, uint8_t index,
                         struct mtls_path2_request *req)
{
    struct mtls_handshake *hs = s->hs;

    memset(req, 0, sizeof(*req));
    req->name = hs->name;
    req->port1 = hs->port;
    req->spec = p->spec;
    req->path = index;
    req->path1_remote = hs->facts->path1.remote;
    req->tfo = s->hook->config.tfo;
    req->reuse = s->hook->config.reuse;
    req->secret = hs->secret;
}

/* [PATH-1] (c); a clock that was set back makes nothing younger. */
static bool fresh(const struct mtls_host_record *stored)
{
    int64_t age = mtls_wallclock() - stored->verified_at;

    return age >= 0 && age <= MTLS_HOSTMEM_ADDR_TTL_S;
}

void mtls_client_paths_adopt(struct mtls_session *s, struct mtls_announced *announced)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_path_status st;
    uint8_t i;

    for (i = 0; i < hs->npaths; i++) {
        struct mtls_path2_claim *claim = announced->claims[i];

        if (claim == NULL ||
            strcmp(mtls_path2_claim_spec(claim)->text, hs->paths[i].spec->text) != 0)
            continue;
        mtls_path2_claim_status(claim, &st);
        if (st.state == MTLS_PATH_FAILED) {                            /* the session tries anew */
            hs->paths[i].ready_before = st.ready_seen && !st.not_here; /* [DWN-1] */
            continue;
        }
        mtls_path2_claim_set_fn(claim, changed, s);
        hs->paths[i].claim = claim;
        announced->claims[i] = NULL;
        hs->paths_started = true;
    }
}

/* only_warm: kept connections alone, for a session that is resumed from a verified one. Lock held.
 */
void mtls_client_paths_start(struct mtls_session *s, bool only_warm)
{
    struct mtls_handshake *hs = s->hs;
    mtls_tstamp now = mtls_now();
    uint8_t i;

    for (i = 0; i < hs->npaths; i++) {
        struct mtls_secondary *p = &hs->paths[i];
        struct mtls_path2_request req;

        if (p->claim != NULL || p->error != 0)
            continue;
        mtls_client_request(s, p, i, &req);
        if (fresh(&hs->facts->stored)) {
            req.stored = hs->facts->stored.addrs;
            req.nstored = hs->facts->stored.naddr;
        }
        if (only_warm && !mtls_path2_is_warm(&req, now))
            continue;
        p->error = mtls_path2_claim_new(&p->claim, &req, changed, s, now);
    }
    hs->paths_started = hs->paths_started || !only_warm;
}

void mtls_client_paths_free(struct mtls_session *s, uint8_t fail_reason)
{
    struct mtls_handshake *hs = s->hs;
    uint8_t i;

    for (i = 0; hs != NULL && i < hs->npaths; i++) {
        struct mtls_secondary *p = &hs->paths[i];

        if (p->claim != NULL && s->generation == mtls_engine_generation()) {
            if (s->outcome != MTLS_OUTCOME_VERIFIED) /* the server need not wait for its deadline */
                mtls_path2_claim_fail(p->claim, fail_reason);
            mtls_path2_claim_free(p->claim);
        }
    }
    if (hs != NULL) {
        mtls_secondary_free(hs->paths, hs->npaths);
        hs->paths = NULL;
        hs->npaths = 0;
    }
}
