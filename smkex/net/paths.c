/* Concept: a client's secondary paths: their claims from OFFER to the decision. Which ones there
 * are, and what counts, is mtls/net/secondary.h's, for both protocols. */
#include "internal.h"

int smkex_paths_plan(struct smkex *s)
{
    int rc = mtls_secondary_plan(&s->paths, &s->npaths, &s->ctx->config, &s->path1,
                                 s->name_literal ? &s->path1.remote : NULL);

    return rc == 0 && s->npaths == 0 ? MTLS_ERR_PATH_NONE : rc;
}

static void changed(void *arg, struct mtls_path2_claim *claim, mtls_tstamp now)
{
    smkex_wake(arg, now);
}

void smkex_paths_start(struct smkex *s)
{
    const struct mtls_config *c = &s->ctx->config;
    mtls_tstamp now = mtls_now();

    for (uint8_t i = 0; i < s->npaths; i++) {
        struct mtls_path2_request req = {.name = s->name,
                                         .port1 = s->port,
                                         .spec = s->paths[i].spec,
                                         .path = i,
                                         .path1_remote = s->path1.remote,
                                         .tfo = c->tfo,
                                         .reuse = c->reuse,
                                         .secret = s->secret};

        s->paths[i].error = mtls_path2_claim_new(&s->paths[i].claim, &req, changed, s, now);
    }
}

void smkex_paths_select(struct smkex *s)
{
    s->selected = mtls_secondary_judge(s->paths, s->npaths, s->fd, &s->path1, &s->scope);
}

int smkex_paths_confirm(struct smkex *s, uint8_t d[MTLS_SHA256_LEN], uint8_t *k, uint8_t *n)
{
    int rc;

    *k = s->ctx->config.need;
    rc = mtls_secondary_confirm(s->paths, s->npaths, s->selected, *k, s->ctx->proofs,
                                smkex_machine_keys(s->m), d, n);
    s->confirmed_paths = rc == 0 ? *n : 0;
    return rc;
}

/* ---- The end ---- */

static void note_times(struct smkex *s, const struct mtls_path2_claim *claim)
{
    struct mtls_path2_times t;

    mtls_path2_claim_times(claim, &t);
    if (s->times[SMKEX_STEP_READY] != 0 && t.ready_at == 0)
        return;
    s->times[SMKEX_STEP_CONNECTED] = t.connected_at;
    s->times[SMKEX_STEP_HELLO] = t.hello_at;
    s->times[SMKEX_STEP_READY] = t.ready_at;
    s->times[SMKEX_STEP_PROOF] = t.proof_at;
}

void smkex_paths_leave(struct smkex *s, uint8_t fail_reason)
{
    for (uint8_t i = 0; i < s->npaths; i++) {
        struct mtls_secondary *p = &s->paths[i];
        bool counted = s->outcome == SMKEX_OUTCOME_VERIFIED && (s->selected & 1u << i) != 0;

        if (p->claim == NULL)
            continue;
        mtls_path2_claim_status(p->claim, &p->status);
        if (!p->facts.known)
            mtls_path2_claim_facts(p->claim, &p->facts);
        note_times(s, p->claim);
        if (!counted)
            mtls_path2_claim_fail(p->claim, s->outcome == SMKEX_OUTCOME_VERIFIED
                                                ? MTLS_FAIL_NOT_COUNTED
                                                : fail_reason);
        mtls_path2_claim_free(p->claim);
        p->claim = NULL;
    }
}
