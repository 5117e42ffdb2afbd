/* Concept: the client's side of a handshake (doc/smkex.md section 6): OFFER, ANSWER, the decision.
 * The decision itself is mtls/core/decision.h's. */
#include "internal.h"

#include <poll.h>
#include <string.h>

#include "mtls/net/route.h"

enum { WRITE_WAIT_US = 50000 /* keys are there and no byte is left to wait for */ };

/* ---- OFFER ---- */

static int path1_facts(struct smkex *s)
{
    return s->path1.known || mtls_route_of_socket(s->fd, &s->path1) == 0 ? 0
                                                                         : MTLS_ERR_PATH_UNKNOWN;
}

/* What is between its ends. Without an answer it stays not known: the decision asks again.
 * [PATH-13]
 */
static void path1_note(struct smkex *s)
{
    struct mtls_path_facts facts = {0};

    if (!s->path1.known && mtls_route_of_socket(s->fd, &facts) == 0)
        s->path1 = facts;
}

/* Whether the choice of paths depends on what path 1 is. */
static bool plan_needs_facts(const struct smkex *s)
{
    bool needed = s->ctx->words.over_mptcp;

    for (int i = 0; i < s->ctx->config.npath2; i++)
        needed = needed || s->ctx->config.path2[i].is_auto;
    return needed && s->ctx->words.mode == SMKEX_MODE_MULTIPATH;
}

/* Its ends; what is between them is asked while ANSWER travels, if it can be. */
static int path1_ends(struct smkex *s)
{
    int rc = plan_needs_facts(s) ? MTLS_ERR_IO : mtls_route_ends(s->fd, &s->path1);

    return rc == MTLS_ERR_IO ? path1_facts(s) : rc;
}

/* The name is admissible for path 2 because somebody typed it [PATH-1]. */
static int take_name(struct smkex *s, const char *name)
{
    const char *given = s->ctx->config.name[0] != '\0' ? s->ctx->config.name : name;
    struct mtls_host host;

    if (given == NULL || *given == '\0')
        return 0;
    if (mtls_host_parse(&host, given) != 0 || host.addr.port != 0)
        return MTLS_ERR_NAME_UNKNOWN;
    memcpy(s->name, host.name, sizeof(s->name));
    s->name_literal = host.addr.family != 0 && host.addr.family == s->path1.remote.family &&
                      memcmp(host.addr.ip, s->path1.remote.ip, sizeof(host.addr.ip)) == 0;
    return 0;
}

static int draw_join(struct smkex *s, uint8_t join[MTLS_JOIN_LEN])
{
    int rc;

    if (s->ctx->words.mode == SMKEX_MODE_SINGLE) /* [SPM-1] */
        return smkex_crypto_random(s->ctx->crypto, join, MTLS_JOIN_LEN);
    rc = smkex_crypto_random(s->ctx->crypto, s->secret, sizeof(s->secret));
    return rc == 0 ? smkex_crypto_join(s->ctx->crypto, s->secret, join) : rc;
}

static int make_machine(struct smkex *s)
{
    const struct smkex_words *w = &s->ctx->words;
    struct smkex_params p = {.mode = w->mode,
                             .nsuites = w->nsuites,
                             .ngroups = w->ngroups,
                             .pad = w->pad,
                             .over = s->over != NULL};
    int rc = draw_join(s, p.join);

    memcpy(p.suites, w->suites, sizeof(p.suites));
    memcpy(p.groups, w->groups, sizeof(p.groups));
    return rc == 0 ? smkex_machine_new(&s->m, s->ctx->crypto, &p) : rc;
}

int smkex_client_begin(struct smkex *s, const char *name)
{
    bool two = s->ctx->words.mode == SMKEX_MODE_MULTIPATH;
    int rc = path1_ends(s);

    if (rc != 0)
        return rc;
    s->port = s->path1.remote.port;
    rc = take_name(s, name);
    if (rc == 0)
        rc = smkex_known_look(s);
    if (rc == 0 && two)
        rc = smkex_paths_plan(s);
    if (rc == 0 && two)
        smkex_over_begin(s);
    if (rc == 0)
        rc = make_machine(s);
    if (rc == 0 && !s->over_missing)
        (void)!smkex_flush_out(s); /* before the lock, which path 2's connect may hold just now; the
                                      handshake tells what comes of it */
    return rc;
}

/* Lock held. */
void smkex_client_claim(struct smkex *s)
{
    if (s->ctx->words.mode == SMKEX_MODE_MULTIPATH && s->over == NULL && !s->over_missing)
        smkex_paths_start(s);
}

/* ---- What is known, to the decision ---- */

static enum mtls_offer answered(const struct smkex *s)
{
    return s->phase == SMKEX_PHASE_NEGATIVE ? MTLS_OFFER_NO : MTLS_OFFER_YES;
}

struct mtls_decision smkex_client_evaluate(struct smkex *s, bool at_write, mtls_tstamp now)
{
    const struct mtls_keys *keys = s->phase == SMKEX_PHASE_DECIDE ? smkex_machine_keys(s->m) : NULL;
    struct mtls_decision_input in = {.policy = s->ctx->config.policy,
                                     .need = s->ctx->config.need,
                                     .offered = true,
                                     .answered = answered(s),
                                     .remembered = s->remembered,
                                     .at_write = at_write,
                                     .npaths = s->npaths,
                                     .started_at = s->grace_from,
                                     .deadline_at = s->deadline_at,
                                     .grace_end_at = s->grace_end_at};
    bool some_right = false;

    for (uint8_t i = 0; i < s->npaths; i++) {
        mtls_secondary_status(&s->paths[i], s->ctx->proofs, keys, &in.paths[i]);
        some_right = some_right || s->paths[i].right;
    }
    if (at_write && some_right) {
        smkex_paths_select(s);
        in.selected = (uint8_t)__builtin_popcount(s->selected);
    }
    return mtls_decide(&in, now);
}

/* ---- The decision ---- */

static int open_as(struct smkex *s, enum smkex_outcome outcome, const uint8_t *d, uint8_t k,
                   uint8_t n)
{
    int rc = smkex_machine_decide(s->m, d, k, n);

    if (rc != 0)
        return rc;
    s->phase = SMKEX_PHASE_OPEN;
    smkex_decided(s, outcome, 0);
    smkex_known_store(s);
    rc = smkex_flush_out(s); /* Finished; later with the first data, if the socket is full */
    return rc == SMKEX_WANT_WRITE ? 0 : rc;
}

static int decide_single(struct smkex *s)
{
    int rc = smkex_known_check(s, false);

    return rc != 0 ? rc : open_as(s, SMKEX_OUTCOME_SINGLE, NULL, 0, 0);
}

/* Lock held; given up in the end. */
static int decide_verified(struct smkex *s)
{
    uint8_t d[MTLS_SHA256_LEN], k = 0, n = 0;
    int rc = smkex_known_check(s, true);

    if (rc == 0)
        rc = smkex_paths_confirm(s, d, &k, &n);
    mtls_engine_unlock();
    return rc != 0 ? rc : open_as(s, SMKEX_OUTCOME_VERIFIED, d, k, n);
}

static int decide(struct smkex *s)
{
    mtls_tstamp began = mtls_now(), until = began + WRITE_WAIT_US;
    bool blocking = smkex_is_blocking(s);
    struct mtls_decision d;

    if (s->ctx->words.mode == SMKEX_MODE_SINGLE)
        return decide_single(s);
    if (s->over != NULL)
        return smkex_over_client(s);
    mtls_engine_lock();
    for (;;) {
        d = smkex_client_evaluate(s, true, mtls_now());
        if (d.verdict == MTLS_VERIFIED)
            return decide_verified(s);
        if (d.verdict != MTLS_WAIT)
            break;
        if (blocking && (d.reason = smkex_hold(s, d.next)) == 0)
            continue;
        /* Not blocking: every proof so far was another session's. */
        if (!blocking && (mtls_reactor_get() == NULL || mtls_now() >= until))
            d.reason = MTLS_ERR_PROOF_MISSING;
        if (d.reason != 0)
            break;
        mtls_reactor_wait(mtls_reactor_get(), &s->changed, until > d.next ? d.next : until);
    }
    mtls_engine_unlock();
    return d.reason != 0 ? d.reason : MTLS_ERR_INTERNAL;
}

/* ---- Path 1 does not speak SMKEX [SPO-3] ---- */

static int decide_negative(struct smkex *s)
{
    struct mtls_decision d;
    int rc;

    for (;;) {
        mtls_engine_lock();
        d = smkex_client_evaluate(s, false, mtls_now());
        if (d.verdict == MTLS_WAIT) /* the socket is readable: a short sleep, whoever asks */
            mtls_reactor_wait(mtls_reactor_get(), &s->changed,
                              smkex_is_blocking(s) ? d.next : mtls_now() + WRITE_WAIT_US / 5);
        mtls_engine_unlock();
        if (d.verdict != MTLS_WAIT)
            break;
        if (!smkex_is_blocking(s))
            return SMKEX_WANT_READ;
    }
    rc = d.reason == MTLS_ERR_NOT_OFFERED ? s->negative : d.reason;
    if (d.verdict != MTLS_PLAIN)
        return rc;
    s->phase = SMKEX_PHASE_RECONNECT;
    smkex_decided(s, SMKEX_OUTCOME_PLAIN, rc);
    return SMKEX_RECONNECT;
}

static bool means_no(const struct smkex *s, int rc)
{
    return rc == MTLS_ERR_SMKEX_FOREIGN || rc == MTLS_ERR_PEER_CLOSED;
}

/* ---- ANSWER ---- */

/* All but the last byte of ANSWER is here. A socket that is polled for path 2 leaves it in the
 * kernel until path 2 has proofs; a blocking one waits behind it, and the keys are made meanwhile.
 */
static int hold_tail(struct smkex *s)
{
    struct mtls_decision d;
    int rc = 0;

    if (s->ctx->words.mode == SMKEX_MODE_SINGLE || smkex_machine_is_refused(s->m))
        return 0;
    if (s->over != NULL)
        return smkex_over_grow(s);
    if (smkex_is_blocking(s))
        return 0;
    mtls_engine_lock();
    s->waiting = false;
    for (;;) {
        d = smkex_client_evaluate(s, false, mtls_now());
        if (d.verdict != MTLS_WAIT)
            break;
        rc = smkex_hold(s, d.next);
        if (rc != 0)
            break;
    }
    if (rc == 0 && d.verdict == MTLS_FAILED)
        rc = d.reason;
    if (rc == 0)
        smkex_unhold(s, false);
    mtls_engine_unlock();
    return rc;
}

/* Silence: for a blocking socket until the grace or the deadline is over. */
static int await_answer(struct smkex *s)
{
    bool prefer = s->ctx->config.policy == MTLS_POLICY_PREFER && !s->remembered;
    mtls_tstamp until = prefer ? s->grace_end_at : s->deadline_at;

    if (prefer && mtls_now() >= s->grace_end_at)
        return MTLS_ERR_SMKEX_FOREIGN;
    if (prefer && s->timer != NULL) {
        mtls_engine_lock();
        s->silent = true;
        mtls_timer_set(s->timer, until);
        mtls_engine_unlock();
    }
    return smkex_await(s, POLLIN, until);
}

static int exchange(struct smkex *s)
{
    int rc = smkex_flush_out(s);

    if (s->silent) {
        mtls_engine_lock();
        s->silent = false;
        mtls_engine_unlock();
    }
    if (rc == 0)
        path1_note(s);
    while (rc == 0) {
        rc = smkex_fill(s, 1);
        if (rc == SMKEX_WANT_READ)
            rc = await_answer(s);
        else if (rc == 0)
            break;
    }
    if (rc == 0)
        rc = hold_tail(s);
    while (rc == 0 && smkex_machine_state(s->m) == SMKEX_STATE_WAIT) {
        rc = smkex_fill(s, 0);
        if (rc == SMKEX_WANT_READ)
            rc = smkex_await(s, POLLIN, s->deadline_at);
    }
    if (rc != 0)
        return rc;
    s->times[SMKEX_STEP_ANSWER] = mtls_now();
    s->phase = SMKEX_PHASE_DECIDE;
    return 0;
}

int smkex_client_step(struct smkex *s)
{
    int rc = s->over_missing ? s->over_error : 0;

    if (rc == 0 && s->phase == SMKEX_PHASE_EXCHANGE) {
        rc = exchange(s);
        if (means_no(s, rc) && s->ctx->config.policy == MTLS_POLICY_PREFER) {
            s->negative = MTLS_ERR_SMKEX_FOREIGN;
            s->phase = SMKEX_PHASE_NEGATIVE;
            rc = 0;
        }
    }
    if (rc == 0 && s->phase == SMKEX_PHASE_NEGATIVE)
        return decide_negative(s);
    return rc == 0 ? decide(s) : rc;
}
