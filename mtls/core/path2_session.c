/* Concept: the server's end of path 2, second half: claims and sessions, brought together by their
 * join, PROOF and CONFIRM. Connections are in path2_server.c. */
#include <stdlib.h>
#include <string.h>

#include "path2_internal.h"

/* ---- Claims ---- */

void mtls_p2s_claim_unwait(struct mtls_p2s_claim *claim)
{
    mtls_due_stop(&claim->wait);
    if (claim->source == NULL)
        return;
    mtls_pending_unwait(&claim->conn->server->pending, claim->source);
    claim->source = NULL;
}

int mtls_p2s_claim_attach(struct mtls_p2s_claim *claim, const uint8_t key[MTLS_JOIN_LEN],
                          mtls_tstamp now)
{
    struct mtls_p2s *s = claim->conn->server;
    struct mtls_join *join = mtls_pending_find(&s->pending, key, now);
    int rc;

    if (join == NULL && (rc = mtls_pending_add(&s->pending, key, &join)) < 0)
        return rc;
    if (join->nsessions == 0 && !claim->conn->guest) {
        rc = mtls_pending_wait(&s->pending, claim->conn->source->node.key, s->config.max_pending,
                               s->config.per_source, &claim->source);
        if (rc < 0) {
            mtls_pending_drop(&s->pending, join);
            return rc;
        }
        mtls_due_start(&s->wait, &claim->wait, now, s->config.claim_ttl);
    }
    claim->join = join;
    mtls_list_append(&join->claims, &claim->in_join);
    mtls_list_append(&claim->conn->claims, &claim->in_conn);
    join->nclaims++;
    claim->conn->nclaims++;
    s->stats.claims++;
    return 0;
}

static int enter_shared(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    return s->shared.claim_add != NULL ? s->shared.claim_add(s->shared_arg, join, now) : 0;
}

static void leave_shared(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    if (s->shared.claim_end != NULL)
        s->shared.claim_end(s->shared_arg, join, now);
}

enum mtls_ready_status mtls_p2s_claim_admit(struct mtls_p2s_conn *c, const struct mtls_frame *hello,
                                            const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                                            struct mtls_p2s_claim **out, uint8_t *fail)
{
    struct mtls_join *j = mtls_pending_find(&c->server->pending, join, now);
    struct mtls_p2s_claim *claim;
    int rc;

    *out = NULL;
    /* For the client a claim is over with its CONFIRM; here it stays until the session ends. */
    if (c->nclaims - c->nconfirmed >= MTLS_P2S_CLAIMS_MAX || c->nclaims >= MTLS_P2S_KEPT_MAX)
        return MTLS_READY_BUSY;
    if (j != NULL && (j->is_ended || j->nclaims >= MTLS_SLOTS_MAX)) {
        *fail = j->is_ended ? MTLS_FAIL_NO_SESSION : MTLS_FAIL_LIMIT;
        return MTLS_READY_OK;
    }
    if ((rc = enter_shared(c->server, join, now)) < 0) {
        *fail = rc == MTLS_ERR_JOIN_REUSED ? MTLS_FAIL_NO_SESSION : MTLS_FAIL_LIMIT;
        return rc == MTLS_ERR_NOMEM ? MTLS_READY_BUSY : MTLS_READY_OK;
    }
    claim = calloc(1, sizeof(*claim));
    if (claim == NULL) {
        leave_shared(c->server, join, now);
        return MTLS_READY_BUSY;
    }
    claim->conn = c;
    claim->id = hello->claim;
    claim->path = hello->u.hello.path;
    if (mtls_p2s_claim_attach(claim, join, now) < 0) {
        leave_shared(c->server, join, now);
        free(claim);
        return MTLS_READY_BUSY;
    }
    *out = claim;
    return MTLS_READY_OK;
}

void mtls_p2s_claim_end(struct mtls_p2s_claim *claim, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = claim->conn;
    struct mtls_join *join = claim->join;
    struct mtls_link *l;

    mtls_p2s_claim_unwait(claim);
    mtls_p2s_claim_over(claim, now);
    for (l = join->sessions.next; l != &join->sessions; l = l->next) {
        struct mtls_p2s_session *x = MTLS_OWNER(l, struct mtls_p2s_session, in_join);

        for (size_t i = 0; i < x->nmembers; i++)
            if (x->members[i]->claim == claim)
                x->members[i]->claim = NULL;
    }
    mtls_list_remove(&claim->in_join);
    mtls_list_remove(&claim->in_conn);
    join->nclaims--;
    c->nclaims--;
    c->nconfirmed -= claim->confirmed;
    c->server->stats.claims--;
    free(claim);
    mtls_pending_drop(&c->server->pending, join);
    mtls_p2s_conn_rest(c, now);
}

/* ---- PROOF ---- */

/* The member that this very claim became when its connection was another process's. */
static struct mtls_p2s_member *member_again(struct mtls_p2s_session *x,
                                            const struct mtls_p2s_claim *claim)
{
    for (size_t i = 0; i < x->nmembers; i++) {
        struct mtls_p2s_member *m = x->members[i];

        if (memcmp(m->counted.p2, claim->p2, MTLS_SHA256_LEN) == 0 &&
            m->counted.path == claim->path) {
            m->claim = claim;
            return m;
        }
    }
    return NULL;
}

static int send_proof(struct mtls_p2s_session *x, struct mtls_p2s_claim *claim,
                      const struct mtls_p2s_member *m)
{
    struct mtls_p2s *s = x->server;
    uint8_t frame[MTLS_PROOF_LEN];
    int rc;

    mtls_frame_proof(frame, claim->id, x->slot, mtls_p2s_sessions(s, x->join) > 1 /* [PRF-3] */,
                     m->counted.tag_s);
    rc = mtls_p2s_conn_send(claim->conn, frame, sizeof(frame));
    if (rc < 0)
        return rc;
    claim->proofs |= (uint8_t)(1u << x->slot);
    s->stats.proofs++;
    return 0;
}

/* PROOF of x on claim, which joins x's members [PRF-1]. Nothing when x has its claims [SRV-5]. */
static int prove(struct mtls_p2s_session *x, struct mtls_p2s_claim *claim)
{
    struct mtls_p2s *s = x->server;
    struct mtls_p2s_member *m;
    int rc;

    m = member_again(x, claim);
    if (m != NULL && (claim->proofs >> x->slot & 1) != 0)
        return 0;
    if (m != NULL)
        return send_proof(x, claim, m);
    if (x->nmembers == MTLS_SLOTS_MAX)
        return 0;
    m = calloc(1, sizeof(*m));
    if (m == NULL)
        return MTLS_ERR_NOMEM;
    m->claim = claim;
    m->counted.path = claim->path;
    memcpy(m->counted.p2, claim->p2, sizeof(m->counted.p2));
    rc = mtls_confirm_server_tag(s->crypto, &x->keys, claim->p2, m->counted.tag_s);
    if (rc < 0)
        goto out;
    if ((claim->proofs >> x->slot & 1) == 0 && (rc = send_proof(x, claim, m)) < 0)
        goto out;
    x->members[x->nmembers++] = m;
    m = NULL;
out:
    free(m);
    return rc;
}

bool mtls_p2s_claim_awaits_keys(const struct mtls_p2s_claim *claim)
{
    const struct mtls_join *join = claim->join;
    const struct mtls_link *l;

    for (l = join->sessions.next; l != &join->sessions; l = l->next)
        if (MTLS_OWNER(l, struct mtls_p2s_session, in_join)->have_keys)
            return false;
    return mtls_p2s_sessions(claim->conn->server, join) == join->nsessions;
}

int mtls_p2s_claim_prove(struct mtls_p2s_claim *claim, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = claim->conn;
    struct mtls_join *join = claim->join;
    uint8_t frame[MTLS_FAIL_LEN];
    /* of a PROOF, now or later, of this process or another */
    bool hope =
        join->nsessions == 0 || (!c->guest && mtls_p2s_sessions(c->server, join) > join->nsessions);
    struct mtls_link *l;
    int rc;

    for (l = join->sessions.next; l != &join->sessions; l = l->next) {
        struct mtls_p2s_session *x = MTLS_OWNER(l, struct mtls_p2s_session, in_join);

        if (x->have_keys && (rc = prove(x, claim)) < 0)
            return rc;
        if (!x->have_keys)
            hope = true;
    }
    if (hope || claim->proofs != 0)
        return 0;
    mtls_frame_fail(frame, claim->id, MTLS_FAIL_LIMIT);
    mtls_p2s_claim_end(claim, now);
    return mtls_p2s_conn_send(c, frame, sizeof(frame));
}

/* ---- CONFIRM ---- */

/* x's members in the order of their paths; returns which of them is claim's. */
static size_t sort_members(const struct mtls_p2s_session *x, const struct mtls_p2s_claim *claim,
                           const struct mtls_p2s_member *sorted[MTLS_SLOTS_MAX])
{
    size_t self = 0;

    for (size_t i = 0; i < x->nmembers; i++) {
        size_t at = i;

        for (; at > 0 && sorted[at - 1]->counted.path > x->members[i]->counted.path; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = x->members[i];
    }
    for (size_t i = 0; i < x->nmembers; i++)
        if (memcmp(sorted[i]->counted.p2, claim->p2, MTLS_SHA256_LEN) == 0)
            self = i;
    return self;
}

/* The members in mask, if they are n with pairwise different paths. */
static bool pick(const struct mtls_p2s_member *const sorted[MTLS_SLOTS_MAX], unsigned mask,
                 size_t n, struct mtls_counted counted[MTLS_SLOTS_MAX])
{
    size_t have = 0;

    for (size_t i = 0; mask >> i != 0; i++) {
        if ((mask >> i & 1) == 0)
            continue;
        if (have == n || (have > 0 && counted[have - 1].path == sorted[i]->counted.path))
            return false;
        counted[have++] = sorted[i]->counted;
    }
    return have == n;
}

/* 1 if the tag is right for some set of n members with claim among them, 0 if not, or an error. The
 * server is not told which paths the client counted; D tells it whether a guess is right [CNF-2].
 */
static int check_confirm(struct mtls_p2s_session *x, const struct mtls_p2s_claim *claim,
                         const struct mtls_frame *f)
{
    const struct mtls_p2s_member *sorted[MTLS_SLOTS_MAX];
    size_t self = sort_members(x, claim, sorted), n = f->u.confirm.n;
    struct mtls_crypto *crypto = x->server->crypto;
    struct mtls_counted counted[MTLS_SLOTS_MAX];
    uint8_t d[MTLS_SHA256_LEN], tag[MTLS_TAG_LEN];
    int rc;

    for (unsigned mask = 1; mask < 1u << x->nmembers; mask++) {
        if ((mask >> self & 1) == 0 || !pick(sorted, mask, n, counted))
            continue;
        if ((rc = mtls_confirm_d(crypto, counted, n, d)) < 0)
            return rc;
        rc = mtls_confirm_client_tag(crypto, &x->keys, claim->p2, sorted[self]->counted.tag_s,
                                     f->u.confirm.k, f->u.confirm.n, d, tag);
        if (rc < 0)
            return rc;
        if (!mtls_tag_equal(tag, f->u.confirm.tag))
            continue;
        memcpy(x->d, d, sizeof(x->d));
        return 1;
    }
    return 0;
}

static struct mtls_p2s_session *session_in(struct mtls_join *join, uint8_t slot)
{
    struct mtls_link *l;

    for (l = join->sessions.next; l != &join->sessions; l = l->next) {
        struct mtls_p2s_session *x = MTLS_OWNER(l, struct mtls_p2s_session, in_join);

        if (x->slot == slot)
            return x;
    }
    return NULL;
}

int mtls_p2s_claim_confirm(struct mtls_p2s_claim *claim, const struct mtls_frame *f)
{
    struct mtls_p2s *s = claim->conn->server;
    uint8_t slot = f->u.confirm.slot, frame[MTLS_FAIL_LEN];
    struct mtls_p2s_session *x;
    int rc;

    if (claim->confirmed) /* [P2-6] */
        return MTLS_ERR_FRAME_REPEATED;
    if ((claim->proofs >> slot & 1) == 0) /* [P2-5] */
        return MTLS_ERR_FRAME_CLAIM;
    claim->confirmed = true;
    claim->confirmed_slot = slot;
    claim->conn->nconfirmed++;
    if (claim->via[slot] != 0)
        return mtls_p2s_claim_forward(claim, slot, f);
    x = session_in(claim->join, slot);
    if (x == NULL || x->confirmed) /* it ended while CONFIRM was under way; [CNF-4] */
        return 0;
    rc = check_confirm(x, claim, f);
    if (rc < 0)
        return rc;
    if (rc == 0) { /* [CNF-5] */
        s->stats.confirm_wrong++;
        mtls_frame_fail(frame, claim->id, MTLS_FAIL_CONFIRM_WRONG);
        rc = mtls_p2s_conn_send(claim->conn, frame, sizeof(frame));
        return rc < 0 ? rc : MTLS_ERR_CONFIRM_WRONG;
    }
    x->confirmed = true;
    s->stats.confirmed++;
    if (s->events.confirmed != NULL)
        s->events.confirmed(s->arg, x->user, claim->conn->user, f->u.confirm.k, f->u.confirm.n);
    return 0;
}

/* ---- Sessions ---- */

void mtls_p2s_session_d(const struct mtls_p2s_session *x, uint8_t d[MTLS_SHA256_LEN])
{
    memcpy(d, x->d, sizeof(x->d));
}

int mtls_p2s_session_new(struct mtls_p2s_session **out, struct mtls_p2s *s,
                         const uint8_t join[MTLS_JOIN_LEN], void *user, mtls_tstamp now)
{
    struct mtls_join *j = mtls_pending_find(&s->pending, join, now);
    struct mtls_p2s_session *x;
    struct mtls_link *l;
    int rc;

    if (j != NULL && j->is_ended) /* [SRV-8] */
        return MTLS_ERR_JOIN_REUSED;
    if (s->stats.sessions >= s->config.max_pending ||
        (j != NULL && j->slots_used == MTLS_SLOTS_MAX))
        return MTLS_ERR_LIMIT;
    x = calloc(1, sizeof(*x));
    if (x == NULL)
        return MTLS_ERR_NOMEM;
    if (j == NULL && mtls_pending_add(&s->pending, join, &j) < 0) {
        free(x);
        return MTLS_ERR_NOMEM;
    }
    if (s->shared.session_add != NULL) {
        rc = s->shared.session_add(s->shared_arg, join, now, &x->slot);
        if (rc < 0) {
            mtls_pending_drop(&s->pending, j);
            free(x);
            return rc;
        }
    } else {
        x->slot = j->slots_used++;
    }
    x->server = s;
    x->user = user;
    x->join = j;
    mtls_list_append(&j->sessions, &x->in_join);
    j->nsessions++;
    s->stats.sessions++;
    for (l = j->claims.next; l != &j->claims; l = l->next)
        mtls_p2s_claim_unwait(MTLS_OWNER(l, struct mtls_p2s_claim, in_join));
    *out = x;
    return 0;
}

int mtls_p2s_session_keys(struct mtls_p2s_session *x, const struct mtls_keys *keys, mtls_tstamp now)
{
    struct mtls_p2s_conn *failed[MTLS_P2S_JOIN_CLAIMS_MAX];
    int errors[MTLS_P2S_JOIN_CLAIMS_MAX], result = 0;
    struct mtls_link *l;
    size_t n = 0;

    if (x->have_keys)
        return MTLS_ERR_ARG;
    x->keys = *keys;
    x->have_keys = true;
    for (l = x->join->claims.next; l != &x->join->claims; l = l->next) {
        struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_join);
        int rc = prove(x, claim);

        if (rc == 0) {
            mtls_p2s_conn_speak(claim->conn); /* also of a READY that no PROOF follows */
            mtls_p2s_conn_tell(claim->conn);
            continue;
        }
        errors[n] = rc;
        failed[n++] = claim->conn;
        if (rc != MTLS_ERR_FRAME_OVERFLOW) /* the claimant's own fault */
            result = rc;
    }
    /* Only now: a connection that closes takes other claims of this join with it. */
    for (size_t i = 0; i < n; i++)
        mtls_p2s_conn_close(failed[i], errors[i], now);
    return result;
}

void mtls_p2s_session_wipe(struct mtls_p2s_session *x)
{
    for (size_t i = 0; i < x->nmembers; i++)
        free(x->members[i]);
    mtls_keys_wipe(&x->keys);
    free(x);
}

/* A claim that has nothing to wait for when the join's last session here ends. */
static struct mtls_p2s_claim *ends_with(struct mtls_join *join, bool elsewhere)
{
    struct mtls_link *l;

    for (l = join->claims.next; l != &join->claims; l = l->next) {
        struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_join);

        if (!elsewhere || claim->conn->guest)
            return claim;
    }
    return NULL;
}

/* Claims that have nothing to wait for once x is gone: all if it is the last, else those that
 * confirmed it. */
static void end_claims(struct mtls_p2s_session *x, uint8_t fail_reason, mtls_tstamp now)
{
    struct mtls_join *join = x->join;
    struct mtls_p2s_claim *claim;
    struct mtls_link *l, *next;
    bool elsewhere;

    for (l = join->claims.next; l != &join->claims; l = next) {
        claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_join);
        next = l->next;
        if (claim->confirmed && claim->confirmed_slot == x->slot)
            mtls_p2s_claim_end(claim, now);
    }
    elsewhere =
        !mtls_list_empty(&join->claims) && mtls_p2s_sessions(x->server, join) > join->nsessions;
    while (join->nsessions == 1 && (claim = ends_with(join, elsewhere)) != NULL) {
        struct mtls_p2s_conn *c = claim->conn;
        bool silent = x->confirmed || claim->confirmed;
        uint32_t id = claim->id;

        mtls_p2s_claim_end(claim, now);
        if (!silent)
            mtls_p2s_conn_fail(c, id, fail_reason, now);
    }
    for (l = join->claims.next; join->nsessions == 1 && l != &join->claims; l = l->next)
        mtls_p2s_claim_leave_to_others(MTLS_OWNER(l, struct mtls_p2s_claim, in_join), now);
}

void mtls_p2s_session_free(struct mtls_p2s_session *x, uint8_t fail_reason, mtls_tstamp now)
{
    struct mtls_join *join;
    struct mtls_p2s *s;

    if (x == NULL)
        return;
    join = x->join;
    s = x->server;
    end_claims(x, fail_reason, now);
    mtls_list_remove(&x->in_join);
    if (s->shared.session_end != NULL)
        s->shared.session_end(s->shared_arg, join->node.key, x->slot, now);
    mtls_p2s_session_wipe(x);
    s->stats.sessions--;
    if (--join->nsessions > 0)
        return;
    if (s->shared.session_end != NULL) /* who remembers it, too */
        mtls_pending_drop(&s->pending, join);
    else
        mtls_pending_end(&s->pending, join, now, s->config.ended_ttl);
}
