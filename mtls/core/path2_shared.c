/* Concept: path 2 of several processes (see path2_shared.h): what becomes of claims whose session
 * is elsewhere, guests, and connections that move. */
#include <stdlib.h>
#include <string.h>

#include "path2_internal.h"

/* Longer than any session waits [TIM-1]: after it an owner that never spoke is not waited for. */
enum { TOLD_TTL_US = 150 * 1000000 };

void mtls_p2s_set_shared(struct mtls_p2s *s, const struct mtls_p2s_shared *shared, void *arg)
{
    s->shared = *shared;
    s->shared_arg = arg;
}

static unsigned sessions_besides(const struct mtls_p2s *s, const struct mtls_join *join,
                                 mtls_member besides)
{
    return s->shared.sessions != NULL ? s->shared.sessions(s->shared_arg, join->node.key, besides)
                                      : 0;
}

unsigned mtls_p2s_sessions(const struct mtls_p2s *s, const struct mtls_join *join)
{
    return s->shared.sessions != NULL ? sessions_besides(s, join, 0) : join->nsessions;
}

/* ---- The holder ---- */

static struct mtls_p2s_claim *claim_of(const struct mtls_p2s_conn *c, uint32_t id)
{
    struct mtls_link *l;

    for (l = c->claims.next; l != &c->claims; l = l->next) {
        struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_conn);

        if (claim->id == id)
            return claim;
    }
    return NULL;
}

static void claim_state(const struct mtls_p2s_claim *claim, struct mtls_claim_state *out)
{
    memset(out, 0, sizeof(*out));
    out->id = claim->id;
    out->path = claim->path;
    out->proofs = claim->proofs;
    out->confirmed = claim->confirmed;
    out->confirmed_slot = claim->confirmed_slot;
    memcpy(out->join, claim->join->node.key, MTLS_JOIN_LEN);
    memcpy(out->p2, claim->p2, MTLS_SHA256_LEN);
}

bool mtls_p2s_conn_next_claim(const struct mtls_p2s_conn *c, uint32_t *id,
                              struct mtls_claim_state *out)
{
    struct mtls_link *l;

    for (l = c->claims.next; l != &c->claims; l = l->next) { /* in rising order [P2-3] */
        struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_conn);

        if (claim->id <= *id)
            continue;
        *id = claim->id;
        claim_state(claim, out);
        return true;
    }
    return false;
}

void mtls_p2s_each_holder(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now,
                          void (*fn)(void *arg, void *conn_user), void *arg)
{
    struct mtls_join *j = mtls_pending_find(&s->pending, join, now);
    void *users[MTLS_P2S_JOIN_CLAIMS_MAX];
    struct mtls_link *l;
    size_t n = 0, i;

    if (j == NULL)
        return;
    for (l = j->claims.next; l != &j->claims && n < MTLS_P2S_JOIN_CLAIMS_MAX; l = l->next) {
        struct mtls_p2s_conn *c = MTLS_OWNER(l, struct mtls_p2s_claim, in_join)->conn;

        for (i = 0; i < n && users[i] != c->user; i++)
            ;
        if (i == n && !c->guest) {
            users[n++] = c->user;
            mtls_p2s_conn_speak(c); /* its READY waited for a session here */
            mtls_p2s_conn_tell(c);
        }
    }
    for (i = 0; i < n; i++)
        fn(arg, users[i]);
}

void mtls_p2s_claim_leave_to_others(struct mtls_p2s_claim *claim, mtls_tstamp now)
{
    mtls_p2s_claim_unwait(claim);
    mtls_due_start(&claim->conn->server->told, &claim->wait, now, TOLD_TTL_US);
}

bool mtls_p2s_claim_tell(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner, uint8_t slots,
                         mtls_tstamp now)
{
    struct mtls_p2s_claim *claim = claim_of(c, id);
    unsigned i;

    if (claim == NULL || claim->ntold == MTLS_SLOTS_MAX)
        return false;
    for (i = 0; i < claim->ntold; i++) {
        if (claim->told[i] == owner)
            return false;
    }
    for (i = 0; i < MTLS_SLOTS_MAX; i++) {
        if ((claim->proofs & slots) >> i & 1)
            claim->via[i] = owner;
    }
    claim->told[claim->ntold++] = owner;
    if (claim->join->nsessions == 0)
        mtls_p2s_claim_leave_to_others(claim, now);
    return true;
}

static bool was_told(const struct mtls_p2s_claim *claim, mtls_member owner, unsigned *at)
{
    unsigned i;

    for (i = 0; i < claim->ntold && claim->told[i] != owner; i++)
        ;
    *at = i;
    return i < claim->ntold;
}

/* True: it was told, and there is nobody else to speak. */
static bool untell(struct mtls_p2s_claim *claim, mtls_member owner)
{
    unsigned i;

    if (!was_told(claim, owner, &i))
        return false;
    claim->told[i] = claim->told[--claim->ntold];
    return claim->ntold == 0 && claim->join->nsessions == 0 &&
           sessions_besides(claim->conn->server, claim->join, owner) == 0;
}

int mtls_p2s_claim_forward(struct mtls_p2s_claim *claim, uint8_t slot, const struct mtls_frame *f)
{
    struct mtls_p2s *s = claim->conn->server;

    s->shared.to_owner(s->shared_arg, claim->conn->user, claim->via[slot], claim->id, f->raw,
                       f->raw_len);
    return 0;
}

static int deliver_proof(struct mtls_p2s_conn *c, struct mtls_p2s_claim *claim, mtls_member owner,
                         const struct mtls_frame *f)
{
    uint8_t slot = f->u.proof.slot;
    int rc;

    if ((claim->proofs >> slot & 1) != 0 || claim->confirmed)
        return 0;
    if ((rc = mtls_p2s_conn_send(c, f->raw, f->raw_len)) < 0)
        return rc;
    claim->proofs |= (uint8_t)(1u << slot);
    claim->via[slot] = owner;
    return 0;
}

static void end_untold(struct mtls_p2s_claim *claim, mtls_member owner, int reason, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = claim->conn;
    uint32_t id = claim->id;

    if (!untell(claim, owner))
        return;
    mtls_p2s_claim_end(claim, now);
    if (reason >= 0)
        mtls_p2s_conn_fail(c, id, (uint8_t)reason, now);
}

/* [CNF-5] */
static void confirm_wrong(struct mtls_p2s_claim *claim, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = claim->conn;
    uint32_t id = claim->id;

    mtls_p2s_claim_end(claim, now);
    mtls_p2s_conn_fail(c, id, MTLS_FAIL_CONFIRM_WRONG, now);
    mtls_p2s_conn_close(c, MTLS_ERR_CONFIRM_WRONG, now);
}

int mtls_p2s_deliver(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner, const uint8_t *data,
                     size_t len, mtls_tstamp now)
{
    struct mtls_frame_reader reader;
    struct mtls_p2s_claim *claim;
    struct mtls_frame f;
    size_t pos = 0;
    unsigned at;
    int more;

    mtls_frame_reader_init(&reader, MTLS_ROLE_SERVER);
    reader.preface_done = true;
    while ((more = mtls_frame_reader_next(&reader, data, len, &pos, &f)) > 0) {
        if (f.claim != id || (f.type != MTLS_FRAME_PROOF && f.type != MTLS_FRAME_FAIL))
            return MTLS_ERR_FRAME_CLAIM;
        if ((claim = claim_of(c, id)) == NULL || !was_told(claim, owner, &at))
            return 0;
        if (f.type == MTLS_FRAME_FAIL && f.u.fail.reason == MTLS_FAIL_CONFIRM_WRONG) {
            confirm_wrong(claim, now);
            return 0;
        }
        if (f.type == MTLS_FRAME_FAIL) {
            end_untold(claim, owner, claim->confirmed ? -1 : f.u.fail.reason, now);
        } else if ((more = deliver_proof(c, claim, owner, &f)) < 0) {
            mtls_p2s_conn_close(c, more, now);
            return 0;
        }
    }
    if (more < 0 || reader.have > 0)
        return more < 0 ? more : MTLS_ERR_FRAME_LENGTH;
    mtls_p2s_conn_tell(c);
    return 0;
}

void mtls_p2s_claim_done(struct mtls_p2s_conn *c, uint32_t id, mtls_member owner, bool close,
                         mtls_tstamp now)
{
    struct mtls_p2s_claim *claim = claim_of(c, id);
    unsigned at;

    if (claim == NULL || !was_told(claim, owner, &at))
        return;
    if (!close) {
        end_untold(claim, owner, -1, now);
        return;
    }
    confirm_wrong(claim, now);
}

static struct mtls_p2s_claim *told_claim(struct mtls_p2s *s, mtls_member owner)
{
    struct mtls_link *c, *l;

    for (c = s->conns.next; c != &s->conns; c = c->next) {
        struct mtls_p2s_conn *conn = MTLS_OWNER(c, struct mtls_p2s_conn, all);

        for (l = conn->claims.next; l != &conn->claims; l = l->next) {
            struct mtls_p2s_claim *claim = MTLS_OWNER(l, struct mtls_p2s_claim, in_conn);

            for (unsigned i = 0; i < claim->ntold; i++)
                if (claim->told[i] == owner)
                    return claim;
        }
    }
    return NULL;
}

void mtls_p2s_owner_lost(struct mtls_p2s *s, mtls_member owner, mtls_tstamp now)
{
    struct mtls_p2s_claim *claim;

    while ((claim = told_claim(s, owner)) != NULL)
        end_untold(claim, owner, claim->confirmed ? -1 : MTLS_FAIL_ABANDONED, now);
}

void mtls_p2s_claim_over(struct mtls_p2s_claim *claim, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = claim->conn;
    struct mtls_p2s *s = c->server;
    unsigned i;

    if (c->guest && s->shared.done == NULL)
        return;
    if (c->guest) {
        s->shared.done(s->shared_arg, c->user);
        return;
    }
    for (i = 0; s->shared.gone != NULL && i < claim->ntold; i++)
        s->shared.gone(s->shared_arg, c->user, claim->told[i], claim->id);
    if (s->shared.claim_end != NULL && !c->moving)
        s->shared.claim_end(s->shared_arg, claim->join->node.key, now);
}

void mtls_p2s_has(struct mtls_p2s *s, const uint8_t join[MTLS_JOIN_LEN], uint8_t *slots,
                  uint8_t *nclaims)
{
    struct mtls_hash_node *node = mtls_hash_find(&s->pending.joins, join);
    struct mtls_join *j = node != NULL ? MTLS_OWNER(node, struct mtls_join, node) : NULL;
    struct mtls_link *l;

    *slots = *nclaims = 0;
    for (l = j != NULL ? j->sessions.next : NULL; l != NULL && l != &j->sessions; l = l->next)
        *slots |= (uint8_t)(1u << MTLS_OWNER(l, struct mtls_p2s_session, in_join)->slot);
    for (l = j != NULL ? j->claims.next : NULL; l != NULL && l != &j->claims; l = l->next)
        *nclaims =
            (uint8_t)(*nclaims + !MTLS_OWNER(l, struct mtls_p2s_claim, in_join)->conn->guest);
}

/* ---- Guests and moved connections ---- */

static int claim_import(struct mtls_p2s_conn *c, const struct mtls_claim_state *state,
                        mtls_tstamp now)
{
    struct mtls_join *j = mtls_pending_find(&c->server->pending, state->join, now);
    struct mtls_p2s_claim *claim;
    int rc;

    if (j != NULL && j->nclaims >= MTLS_P2S_JOIN_CLAIMS_MAX)
        return MTLS_ERR_LIMIT;
    claim = calloc(1, sizeof(*claim));
    if (claim == NULL)
        return MTLS_ERR_NOMEM;
    claim->conn = c;
    claim->id = state->id;
    claim->path = state->path;
    claim->proofs = state->proofs;
    claim->confirmed = state->confirmed;
    claim->confirmed_slot = state->confirmed_slot;
    memcpy(claim->p2, state->p2, MTLS_SHA256_LEN);
    if ((rc = mtls_p2s_claim_attach(claim, state->join, now)) < 0)
        free(claim);
    else
        c->nconfirmed = (uint16_t)(c->nconfirmed + state->confirmed);
    return rc;
}

int mtls_p2s_guest_new(struct mtls_p2s_conn **out, struct mtls_p2s *s,
                       const struct mtls_claim_state *state, void *user, mtls_tstamp now)
{
    struct mtls_p2s_conn *c = calloc(1, sizeof(*c));
    struct mtls_p2s_claim *claim;
    int rc;

    if (c == NULL)
        return MTLS_ERR_NOMEM;
    c->server = s;
    c->user = user;
    c->guest = true;
    c->last_id = state->id;
    c->preface_sent = true;
    mtls_list_init(&c->claims);
    mtls_frame_reader_init(&c->reader, MTLS_ROLE_CLIENT);
    c->reader.preface_done = true;
    if ((rc = claim_import(c, state, now)) < 0) {
        free(c);
        return rc;
    }
    mtls_list_append(&s->conns, &c->all);
    s->stats.guests++;
    *out = c;
    claim = MTLS_OWNER(c->claims.next, struct mtls_p2s_claim, in_conn);
    if (claim->join->nsessions == 0) {
        mtls_p2s_claim_end(claim, now);
        mtls_p2s_conn_fail(c, state->id, MTLS_FAIL_ABANDONED, now);
    } else if ((rc = mtls_p2s_claim_prove(claim, now)) < 0) {
        mtls_p2s_conn_close(c, rc, now);
    }
    mtls_p2s_conn_tell(c);
    return 0;
}

bool mtls_p2s_conn_export(const struct mtls_p2s_conn *c, struct mtls_conn_state *out)
{
    uint32_t id = 0;
    size_t unsent;

    mtls_outbuf_get(&c->out, &unsent); /* also what waits for a session's keys */
    if (c->err < 0 || c->busy || c->guest || unsent > 0 || c->reader.err < 0 ||
        c->nclaims > MTLS_HANDOVER_CLAIMS_MAX)
        return false;
    memset(out, 0, sizeof(*out));
    out->last_id = c->last_id;
    out->preface_done = c->reader.preface_done;
    out->preface_sent = c->preface_sent;
    out->have = c->reader.have;
    memcpy(out->buf, c->reader.buf, c->reader.have);
    while (out->nclaims < MTLS_HANDOVER_CLAIMS_MAX &&
           mtls_p2s_conn_next_claim(c, &id, &out->claims[out->nclaims]))
        out->nclaims++;
    return true;
}

void mtls_p2s_conn_moved(struct mtls_p2s_conn *c)
{
    c->moving = true;
    mtls_p2s_conn_free(c);
}

/* What another process has read of a frame is read again: its word is not taken for the bytes. */
static int reader_import(struct mtls_frame_reader *r, const struct mtls_conn_state *state)
{
    struct mtls_frame f;
    size_t pos = 0;
    int more;

    r->preface_done = state->preface_done;
    if (!r->preface_done) {
        r->have = state->have; /* of the preface: known bytes */
        return r->have < MTLS_PREFACE_LEN ? 0 : MTLS_ERR_FRAME_PREFACE;
    }
    more = mtls_frame_reader_next(r, state->buf, state->have, &pos, &f);
    return more == 1 ? MTLS_ERR_FRAME_LENGTH : more;
}

int mtls_p2s_conn_import(struct mtls_p2s_conn **out, struct mtls_p2s *s,
                         const struct mtls_addr *peer, const struct mtls_conn_state *state,
                         void *user, mtls_tstamp now)
{
    struct mtls_p2s_conn *c;
    uint32_t id = 0;
    struct mtls_claim_state each;
    int rc = mtls_p2s_conn_new(&c, s, peer, user, now);
    unsigned i;

    if (rc < 0)
        return rc;
    c->last_id = state->last_id;
    c->preface_sent = state->preface_sent;
    rc = reader_import(&c->reader, state);
    if (rc == 0 && c->busy)
        rc = MTLS_ERR_LIMIT;
    for (i = 0; rc == 0 && i < state->nclaims; i++)
        rc = claim_import(c, &state->claims[i], now);
    if (rc < 0) {
        mtls_p2s_conn_moved(c);
        return rc;
    }
    if (state->last_id > 0)
        mtls_p2s_conn_rest(c, now);
    while (rc == 0 && mtls_p2s_conn_next_claim(c, &id, &each)) {
        struct mtls_p2s_claim *claim = claim_of(c, id);

        if (claim->join->nsessions > 0)
            rc = mtls_p2s_claim_prove(claim, now);
    }
    if (rc < 0) {
        mtls_p2s_conn_moved(c);
        return rc;
    }
    *out = c;
    return 0;
}
