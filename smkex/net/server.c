/* Concept: the server's side of a handshake (doc/smkex.md section 6): OFFER, ANSWER, the wait for
 * CONFIRM. */
#include "internal.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>

int smkex_server_begin(struct smkex *s)
{
    const struct smkex_words *w = &s->ctx->words;
    struct smkex_params p = {.server = true,
                             .mode = w->mode,
                             .nsuites = w->nsuites,
                             .ngroups = w->ngroups,
                             .key = s->ctx->key,
                             .max_age = s->ctx->config.memory_s,
                             .pad = w->pad,
                             .over = smkex_over_server(s)};

    memcpy(p.suites, w->suites, sizeof(p.suites));
    memcpy(p.groups, w->groups, sizeof(p.groups));
    return smkex_machine_new(&s->m, s->ctx->crypto, &p);
}

static void confirmed(void *arg, uint8_t k, uint8_t n, const struct mtls_addr *local,
                      const struct mtls_addr *peer, mtls_tstamp now)
{
    struct smkex *s = arg;

    if (s->confirmed)
        return;
    s->confirmed = true;
    s->k = k;
    s->n = n;
    mtls_service_session_d(s->service, s->d);
    s->path2_local = *local;
    s->path2_peer = *peer;
    s->times[SMKEX_STEP_PROOF] = now;
    smkex_wake(s, now);
}

/* [SPO-2] 0: SMKEX; 1: plain. */
static int look_at_first_byte(struct smkex *s)
{
    uint8_t first;
    ssize_t n;
    int rc = 0;

    while (rc == 0) {
        n = recv(s->fd, &first, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n == 1)
            return first == 0xF0 ? 0 : 1;
        if (n == 0)
            return MTLS_ERR_PEER_CLOSED;
        if (errno != EAGAIN && errno != EINTR)
            return MTLS_ERR_PEER_CLOSED;
        if (mtls_now() >= s->deadline_at)
            return MTLS_ERR_DEADLINE;
        rc = smkex_await(s, POLLIN, s->deadline_at);
    }
    return rc;
}

static int read_offer(struct smkex *s)
{
    int rc = 0;

    while (rc == 0 && smkex_machine_state(s->m) == SMKEX_STATE_WAIT) {
        rc = smkex_fill(s, 0);
        if (rc == SMKEX_WANT_READ)
            rc = smkex_await(s, POLLIN, s->deadline_at);
    }
    return rc;
}

static int enter_table(struct smkex *s)
{
    int rc;

    if (s->ctx->words.mode == SMKEX_MODE_SINGLE || smkex_machine_over(s->m))
        return 0;
    if (!s->ctx->words.over_connections) {
        smkex_machine_refuse(s->m, SMKEX_REFUSE_VERSION, MTLS_ERR_SMKEX_CHOICE);
        return MTLS_ERR_SMKEX_CHOICE;
    }
    mtls_engine_lock();
    rc = mtls_service_session_new(&s->service, smkex_machine_join(s->m), confirmed, s, mtls_now());
    mtls_engine_unlock();
    if (rc == MTLS_ERR_LIMIT || rc == MTLS_ERR_JOIN_REUSED)
        smkex_machine_refuse(s->m, SMKEX_REFUSE_ROOM, rc);
    return rc;
}

/* [SPA-2] */
static int prove(struct smkex *s)
{
    int rc;

    if (s->ctx->words.mode == SMKEX_MODE_SINGLE)
        return 0;
    if (smkex_machine_over(s->m))
        return smkex_over_answered(s);
    mtls_engine_lock();
    rc = mtls_service_session_keys(s->service, smkex_machine_keys(s->m), mtls_now());
    mtls_engine_unlock();
    return rc;
}

static int answer(struct smkex *s)
{
    int rc = enter_table(s);

    if (rc == 0)
        rc = smkex_machine_answer(s->m);
    if (rc != 0)
        return rc;
    (void)!smkex_flush_out(s); /* the client makes its keys while PROOF is made; decide() tells */
    rc = prove(s);
    if (rc != 0)
        return rc;
    s->times[SMKEX_STEP_ANSWER] = mtls_now();
    s->phase = SMKEX_PHASE_DECIDE;
    return 0;
}

static int await_confirm(struct smkex *s)
{
    int rc = 0;

    mtls_engine_lock();
    s->waiting = false;
    while (rc == 0 && !s->confirmed) {
        if (mtls_now() >= s->deadline_at)
            rc = MTLS_ERR_CONFIRM_MISSING;
        else
            rc = smkex_hold(s, s->deadline_at);
    }
    if (rc == 0)
        smkex_unhold(s, false);
    mtls_engine_unlock();
    return rc;
}

static int decide(struct smkex *s)
{
    bool single = s->ctx->words.mode == SMKEX_MODE_SINGLE;
    int rc = smkex_flush_out(s);

    if (rc == 0 && s->over != NULL)
        return smkex_over_serve(s);
    if (rc == 0 && !single)
        rc = await_confirm(s);
    if (rc == 0)
        rc = smkex_machine_decide(s->m, single ? NULL : s->d, s->k, s->n);
    if (rc != 0)
        return rc;
    s->confirmed_paths = s->n;
    s->phase = SMKEX_PHASE_OPEN;
    smkex_decided(s, single ? SMKEX_OUTCOME_SINGLE : SMKEX_OUTCOME_VERIFIED, 0);
    rc = smkex_flush_out(s);
    return rc == SMKEX_WANT_WRITE ? 0 : rc;
}

int smkex_server_step(struct smkex *s)
{
    int rc = 0;

    if (s->phase == SMKEX_PHASE_EXCHANGE) {
        if (s->ctx->config.policy == MTLS_POLICY_PREFER &&
            smkex_machine_missing(s->m) == SMKEX_MESSAGE_MIN)
            rc = look_at_first_byte(s);
        if (rc == 1) {
            s->phase = SMKEX_PHASE_PLAIN;
            smkex_decided(s, SMKEX_OUTCOME_PLAIN, MTLS_ERR_SMKEX_FOREIGN);
            return 0;
        }
        if (rc == 0)
            rc = read_offer(s);
        if (rc == 0)
            rc = answer(s);
    }
    return rc == 0 ? decide(s) : rc;
}
