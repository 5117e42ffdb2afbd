/* Concept: a client's secondary paths: which ones, their claims, proofs, and CONFIRM. */
#include "internal.h"

#include <stdlib.h>
#include <string.h>

#include "mtls/net/path2_socket.h"
#include "mtls/net/route.h"

/* ---- The plan ---- */

static void add(struct smkex *s, const struct mtls_path_spec *spec, const char *why)
{
    struct smkex_path *p = &s->paths[s->npaths];

    if (s->npaths == MTLS_PATHS_MAX)
        return;
    p->spec = *spec;
    strncpy(p->why, why, sizeof(p->why) - 1);
    s->npaths++;
}

/* `auto` stands for as many devices as are needed; the words beside it hold for each of them. */
static int add_auto(struct smkex *s, const struct mtls_path_spec *spec)
{
    struct mtls_auto_choice choices[MTLS_PATHS_MAX];
    int n = mtls_path2_auto(&s->path1, choices, MTLS_PATHS_MAX), rc = 0;

    for (int i = 0; rc == 0 && i < n && i < s->ctx->config.need; i++) {
        struct mtls_path_spec *c = &choices[i].spec;

        c->port = spec->port;
        c->resolver = spec->resolver;
        c->distinct = spec->distinct;
        if (s->name_literal) {
            c->remote.addr = s->path1.remote;
            c->remote.addr.port = 0; /* path 1's port is not path 2's */
            mtls_addr_format(&c->remote.addr, c->remote.name, sizeof(c->remote.name));
        }
        rc = mtls_path_spec_format(c);
        if (rc == 0)
            add(s, c, choices[i].why);
    }
    return rc;
}

int smkex_paths_plan(struct smkex *s)
{
    const struct mtls_config *c = &s->ctx->config;
    int rc = 0;

    s->paths = calloc(MTLS_PATHS_MAX, sizeof(*s->paths));
    if (s->paths == NULL)
        return MTLS_ERR_NOMEM;
    for (int i = 0; rc == 0 && i < c->npath2; i++) {
        if (c->path2[i].is_auto)
            rc = add_auto(s, &c->path2[i]);
        else
            add(s, &c->path2[i], "");
    }
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
                                         .spec = &s->paths[i].spec,
                                         .path = i,
                                         .path1_remote = s->path1.remote,
                                         .tfo = c->tfo,
                                         .reuse = c->reuse,
                                         .secret = s->secret};

        s->paths[i].error = mtls_path2_claim_new(&s->paths[i].claim, &req, changed, s, now);
    }
}

/* ---- Proofs ---- */

static int check_proofs(struct smkex *s, struct smkex_path *p)
{
    const struct mtls_p2c_claim *w = mtls_path2_claim_wire(p->claim);
    uint8_t tag[MTLS_TAG_LEN];
    int rc = 0;

    p->right = false;
    p->wrong_only = w != NULL && w->nproof > 0;
    for (uint8_t i = 0; w != NULL && rc == 0 && i < w->nproof && !p->right; i++) {
        p->wrong_only = p->wrong_only && w->proofs[i].more == 0;
        rc = mtls_confirm_server_tag(s->ctx->proofs, smkex_machine_keys(s->m), w->p2, tag);
        if (rc == 0 && mtls_tag_equal(tag, w->proofs[i].tag)) { /* [PRF-4] */
            p->right = true;
            p->slot = w->proofs[i].slot;
            memcpy(p->tag, tag, sizeof(p->tag));
            memcpy(p->p2, w->p2, sizeof(p->p2));
        }
    }
    return rc;
}

void smkex_path_status(struct smkex *s, struct smkex_path *p, struct mtls_path_status *st)
{
    memset(st, 0, sizeof(*st));
    if (p->claim == NULL) {
        st->state = p->error != 0 ? MTLS_PATH_FAILED : MTLS_PATH_IDLE;
        st->error = p->error;
        return;
    }
    mtls_path2_claim_status(p->claim, st);
    if (s->phase != SMKEX_PHASE_DECIDE || st->state != MTLS_PATH_PROOF)
        return;
    if (check_proofs(s, p) != 0) {
        st->state = MTLS_PATH_FAILED;
        st->error = MTLS_ERR_CRYPTO;
        return;
    }
    st->proof_right = p->right;
    st->only_session = p->wrong_only;
    if (!p->right)
        st->state = MTLS_PATH_WRONG;
}

/* Judged on the live sockets, now [PATH-9]. */
void smkex_paths_select(struct smkex *s)
{
    struct mtls_path_facts facts[MTLS_PATHS_MAX];
    uint8_t wanted[MTLS_PATHS_MAX], index[MTLS_PATHS_MAX];
    unsigned mask;
    size_t n = 0;

    s->selected = 0;
    if (mtls_route_again(s->fd, &s->path1) != 0)
        s->path1.known = false;
    for (uint8_t i = 0; i < s->npaths; i++) {
        struct smkex_path *p = &s->paths[i];

        if (!p->right || p->claim == NULL)
            continue;
        mtls_path2_claim_facts(p->claim, &p->facts);
        facts[n] = p->facts;
        wanted[n] = p->spec.distinct;
        index[n++] = i;
    }
    mask = mtls_paths_select(&s->path1, facts, wanted, n, &s->scope);
    for (size_t i = 0; i < n; i++)
        if ((mask & 1u << i) != 0)
            s->selected |= 1u << index[i];
}

/* [CNF-1] */
int smkex_paths_confirm(struct smkex *s, uint8_t d[MTLS_SHA256_LEN], uint8_t *k, uint8_t *n)
{
    struct mtls_counted counted[MTLS_PATHS_MAX];
    const struct mtls_keys *keys = smkex_machine_keys(s->m);
    uint8_t tag[MTLS_TAG_LEN];
    int rc, sent = 0;

    *k = s->ctx->config.need;
    *n = 0;
    for (uint8_t i = 0; i < s->npaths; i++) {
        struct smkex_path *p = &s->paths[i];

        if ((s->selected & 1u << i) == 0)
            continue;
        counted[*n].path = i;
        memcpy(counted[*n].p2, p->p2, sizeof(p->p2));
        memcpy(counted[(*n)++].tag_s, p->tag, sizeof(p->tag));
    }
    if (*n < *k)
        return MTLS_ERR_PATH_NOT_DISTINCT;
    rc = mtls_confirm_d(s->ctx->proofs, counted, *n, d);
    for (uint8_t i = 0; rc == 0 && i < s->npaths; i++) {
        struct smkex_path *p = &s->paths[i];

        if ((s->selected & 1u << i) == 0)
            continue;
        rc = mtls_confirm_client_tag(s->ctx->proofs, keys, p->p2, p->tag, *k, *n, d, tag);
        if (rc == 0 && mtls_path2_claim_confirm(p->claim, p->slot, *k, *n, tag) == 0)
            sent++;
    }
    s->confirmed_paths = *n;
    return rc != 0 ? rc : sent > 0 ? 0 : MTLS_ERR_PATH_CLOSED;
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
        struct smkex_path *p = &s->paths[i];
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
