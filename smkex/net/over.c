/* Concept: path 2 as the second subflow of path 1's own MPTCP connection [MPC]: grown and steered
 * through mtls-mptcp-helper, and believed only if the subflows' byte counters say at both ends that
 * each byte travelled where it belongs. The wire is smkex/core/inband.h's, the judgement
 * mtls/core/subflows.h's. */
#include "internal.h"

#include <errno.h>
#include <net/if.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "mtls/net/mptcp.h"
#include "mtls/net/mptcp_helper.h"
#include "mtls/net/route.h"
#include "smkex/core/inband.h"

enum {
    LOOK_MIN_US = 100, /* between two looks at the subflows: a quarter of the time so far, */
    LOOK_MAX_US = 5000,
    UNSTEERED_US =
        500000 /* so long a server waits for the client's wish, then the counters judge */
};

enum step {
    STEP_BEGIN,
    STEP_EXCHANGE,
    STEP_CONFIRM,
    STEP_STEERED, /* client, decided; until the server's Finished all that is sent goes by path 2 */
    STEP_RELEASED
};

struct smkex_over {
    struct smkex_inband *band; /* L */
    struct mtls_mptcp_devices devices;
    struct mtls_mptcp_request request; /* client: JOIN */
    struct mtls_subflows then, now;
    enum step step;
    bool joined;
    mtls_tstamp look_at, since;
};

/* ---- The client's plan ---- */

static const char *helper(const struct smkex *s)
{
    return s->ctx->words.helper[0] != '\0' ? s->ctx->words.helper : MTLS_MPTCP_HELPER_SOCKET;
}

static int ask(struct smkex *s, enum mtls_mptcp_op op, bool *again)
{
    struct mtls_mptcp_request r = s->over->request;

    r.op = op;
    return mtls_mptcp_ask(helper(s), s->fd, &r, again);
}

/* [PATH-1] An address that somebody typed; its port is path 1's, the connection's own. */
static int plan_remote(const struct smkex *s, const struct mtls_path_spec *spec,
                       struct mtls_addr *remote)
{
    if (spec->remote.addr.family != 0)
        *remote = spec->remote.addr;
    else if (spec->remote.name[0] == '\0' && s->name_literal)
        *remote = s->path1.remote;
    else
        return MTLS_ERR_PATH_INADMISSIBLE;
    remote->port = s->path1.remote.port;
    return 0;
}

/* Where the second subflow leaves and arrives. */
static int plan(struct smkex *s)
{
    const struct mtls_path_spec *spec = s->paths[0].spec;
    struct mtls_mptcp_request *r = &s->over->request;
    struct mtls_path_facts facts;
    char dev[MTLS_IF_MAX + 1];
    int ifindex = 0, rc;

    if (s->npaths != 1 || s->ctx->config.need != 1 || spec->proxy.name[0] != '\0')
        return MTLS_ERR_CONFIG_CONFLICT;
    rc = plan_remote(s, spec, &r->remote);
    if (rc != 0)
        return rc;
    if (spec->dev[0] != '\0')
        ifindex = (int)if_nametoindex(spec->dev);
    else if (spec->local.family == 0 || mtls_device_of_address(&spec->local, dev, &ifindex) != 0)
        return MTLS_ERR_PATH_BIND;
    if (mtls_route_via(&r->remote, ifindex, spec->local.family != 0 ? &spec->local : NULL,
                       &facts) != 0 ||
        facts.local.family == 0)
        return MTLS_ERR_PATH_UNREACHABLE;
    r->ifindex = (uint32_t)ifindex;
    r->local = facts.local;
    r->local.port = 0;
    s->over->devices = (struct mtls_mptcp_devices){.first = s->path1.ifindex, .second = ifindex};
    return 0;
}

static int prepare(struct smkex *s)
{
    int rc;

    s->over = calloc(1, sizeof(*s->over));
    if (s->over == NULL)
        return MTLS_ERR_NOMEM;
    rc = mtls_mptcp_subflows(s->fd, NULL, &s->over->now);
    if (rc == 0)
        rc = plan(s);
    return rc == 0 ? ask(s, MTLS_MPTCP_CHECK, NULL) : rc;
}

/* What is missing is said by the first step, or makes room for two connections [MPC-8]. */
void smkex_over_begin(struct smkex *s)
{
    if (!s->ctx->words.over_mptcp)
        return;
    s->over_error = prepare(s);
    if (s->over_error == 0)
        return;
    smkex_over_free(s);
    if (!s->ctx->words.over_connections)
        s->over_missing = true;
}

bool smkex_over_server(struct smkex *s)
{
    struct mtls_subflows now;

    return s->ctx->words.over_mptcp && mtls_mptcp_subflows(s->fd, NULL, &now) == 0;
}

const struct mtls_subflows *smkex_over_subflows(const struct smkex *s)
{
    return s->over != NULL && s->over->now.n > 0 ? &s->over->now : NULL;
}

void smkex_over_free(struct smkex *s)
{
    if (s->over == NULL)
        return;
    smkex_inband_free(s->over->band);
    free(s->over);
    s->over = NULL;
}

/* ---- The second subflow ---- */

static int look(struct smkex *s)
{
    int rc = mtls_mptcp_subflows(s->fd, &s->over->devices, &s->over->now);

    return rc == 0 ? mtls_subflows_pair(&s->over->now) : rc;
}

mtls_tstamp smkex_over_sleeps(const struct smkex *s)
{
    return s->over->look_at;
}

static void wake_up(struct smkex *s)
{
    mtls_engine_lock();
    smkex_unhold(s, false);
    if (s->timer != NULL)
        mtls_timer_set(s->timer, s->deadline_at);
    mtls_engine_unlock();
}

/* Until the next look; the socket is silent meanwhile. */
static int sleep_a_little(struct smkex *s)
{
    mtls_tstamp now = mtls_now(), pause;
    int rc;

    if (s->over->since == 0)
        s->over->since = now;
    pause = (now - s->over->since) / 4;
    pause = pause < LOOK_MIN_US ? LOOK_MIN_US : pause > LOOK_MAX_US ? LOOK_MAX_US : pause;
    mtls_engine_lock();
    s->over->look_at = now + pause;
    rc = smkex_hold(s, s->over->look_at);
    mtls_engine_unlock();
    return rc;
}

static int grow_step(struct smkex *s)
{
    bool again = false;
    int rc;

    if (!s->over->joined) {
        rc = ask(s, MTLS_MPTCP_JOIN, &again);
        s->over->joined = rc == 0;
        return rc != 0 && !again ? rc : MTLS_ERR_SUBFLOW_MISSING;
    }
    return look(s);
}

/* [MPC-3] ANSWER's last byte waits in the kernel until the second subflow can carry data. */
int smkex_over_grow(struct smkex *s)
{
    int rc;

    wake_up(s);
    while ((rc = grow_step(s)) == MTLS_ERR_SUBFLOW_MISSING) {
        if (mtls_now() >= s->deadline_at)
            return rc;
        rc = sleep_a_little(s);
        if (rc != 0)
            return rc;
    }
    wake_up(s);
    return rc;
}

/* ---- Judgement ---- */

/* [MPC-5]; more: the peer has decided, and goes on behind its last word. */
static int counters(struct smkex *s, bool more)
{
    struct mtls_subflow_bytes expected[2];
    size_t sent, received;
    int rc = mtls_mptcp_subflows(s->fd, NULL, &s->over->now);

    smkex_machine_lengths(s->m, &sent, &received);
    expected[0] = (struct mtls_subflow_bytes){.received = received, .sent = sent};
    expected[1] = (struct mtls_subflow_bytes){.more = more};
    if (s->over->band != NULL)
        smkex_inband_bytes(s->over->band, &expected[1].sent, &expected[1].received);
    return rc == 0 ? mtls_subflows_check(&s->over->then, &s->over->now, expected) : rc;
}

/* [PATH-7] The subflows leave by different links, now. */
static int distinct(struct smkex *s)
{
    const struct mtls_subflow *second = &s->over->then.at[1];
    struct mtls_secondary *p = &s->paths[0];
    bool known =
        mtls_route_of_socket(s->fd, &s->path1) == 0 &&
        mtls_route_via(&second->remote, s->over->devices.second, &second->local, &p->facts) == 0;

    s->path1.multi = false; /* these are its first subflow's facts */
    s->path1.ndevices = 0;
    s->path1.known = s->path1.known && known;
    p->facts.local.port = second->local.port;
    s->selected =
        known ? mtls_paths_select(&s->path1, &p->facts, &p->spec->distinct, 1, &s->scope) : 0;
    return s->selected != 0 ? 0 : MTLS_ERR_PATH_NOT_DISTINCT;
}

/* ---- Bytes ---- */

static int flush_band(struct smkex *s)
{
    const uint8_t *out;
    size_t len;
    ssize_t n;
    int rc = 0;

    while (rc == 0 && (out = smkex_inband_out(s->over->band, &len)) != NULL && len > 0) {
        n = send(s->fd, out, len, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n > 0)
            smkex_inband_sent(s->over->band, (size_t)n);
        else if (errno == EAGAIN)
            rc = mtls_now() >= s->deadline_at ? MTLS_ERR_DEADLINE
                                              : smkex_await(s, POLLOUT, s->deadline_at);
        else if (errno != EINTR)
            rc = MTLS_ERR_PEER_CLOSED;
    }
    return rc;
}

/* 0: something came; SMKEX_WANT_READ: nothing yet. */
static int receive(struct smkex *s, uint8_t *to, size_t len, ssize_t *got)
{
    *got = recv(s->fd, to, len, MSG_DONTWAIT);
    if (*got > 0)
        return 0;
    if (mtls_now() >= s->deadline_at)
        return MTLS_ERR_DEADLINE;
    if (*got == 0)
        return MTLS_ERR_PEER_CLOSED;
    if (errno == EAGAIN || errno == EINTR)
        return errno == EAGAIN ? smkex_await(s, POLLIN, s->deadline_at) : 0;
    return MTLS_ERR_PEER_CLOSED;
}

/* Until so many of path 2's bytes are here; never beyond. */
static int read_band(struct smkex *s, size_t until)
{
    uint8_t bytes[SMKEX_INBAND_PROOF];
    uint64_t sent, have;
    ssize_t n;
    int rc = 0;

    for (;;) {
        smkex_inband_bytes(s->over->band, &sent, &have);
        if (rc != 0 || have >= until)
            return rc;
        rc = receive(s, bytes, until - (size_t)have, &n);
        if (rc != 0 || n <= 0)
            continue;
        mtls_engine_lock();
        rc = smkex_inband_input(s->over->band, bytes, (size_t)n, mtls_now());
        mtls_engine_unlock();
    }
}

/* ---- Client ---- */

static int steer(struct smkex *s)
{
    struct smkex_over *o = s->over;
    int rc = smkex_machine_over(s->m) ? look(s) : MTLS_ERR_SMKEX_NOT_OVER;

    o->then = o->now;
    if (rc == 0)
        rc = distinct(s);
    if (rc == 0)
        rc = counters(s, false);
    if (rc == 0)
        rc = ask(s, MTLS_MPTCP_STEER, NULL);
    if (rc != 0)
        return rc;
    s->times[SMKEX_STEP_CONNECTED] = mtls_now();
    mtls_engine_lock();
    rc = smkex_inband_client(&o->band, s->ctx->proofs, s->port, s->secret, mtls_now());
    mtls_engine_unlock();
    o->step = STEP_EXCHANGE;
    s->times[SMKEX_STEP_HELLO] = mtls_now();
    return rc;
}

/* All of READY and PROOF is here [MPC-6]. */
static int prove(struct smkex *s)
{
    const struct mtls_keys *keys = smkex_machine_keys(s->m);
    uint8_t d[MTLS_SHA256_LEN];
    int rc;

    s->times[SMKEX_STEP_READY] = s->times[SMKEX_STEP_PROOF] = mtls_now();
    mtls_engine_lock();
    rc = smkex_inband_check(s->over->band, keys);
    mtls_engine_unlock();
    s->paths[0].right = rc == 0;
    if (rc == 0)
        rc = counters(s, false);
    if (rc == 0)
        rc = distinct(s);
    if (rc == 0)
        rc = smkex_known_check(s, true);
    if (rc == 0) {
        mtls_engine_lock();
        rc = smkex_inband_confirm(s->over->band, keys, d);
        mtls_engine_unlock();
    }
    if (rc == 0)
        rc = smkex_machine_decide(s->m, d, 1, 1);
    s->over->step = STEP_CONFIRM;
    return rc;
}

bool smkex_over_steered(struct smkex *s)
{
    if (s->over == NULL || s->over->step != STEP_STEERED)
        return false;
    if (!smkex_machine_peer_finished(s->m))
        return true;
    s->over->step = STEP_RELEASED;
    s->over_error = ask(s, MTLS_MPTCP_RELEASE, NULL); /* no failure: slower at worst */
    return false;
}

int smkex_over_client(struct smkex *s)
{
    int rc = 0;

    if (s->over->step == STEP_BEGIN)
        rc = steer(s);
    if (rc == 0 && s->over->step == STEP_EXCHANGE) {
        rc = flush_band(s);
        if (rc == 0)
            rc = read_band(s, SMKEX_INBAND_PROOF);
        if (rc == 0)
            rc = prove(s);
    }
    if (rc == 0)
        rc = flush_band(s);
    if (rc != 0)
        return rc;
    s->over->step = STEP_STEERED;
    s->confirmed_paths = 1;
    s->paths[0].status.state = MTLS_PATH_PROOF;
    s->phase = SMKEX_PHASE_OPEN;
    smkex_decided(s, SMKEX_OUTCOME_VERIFIED, 0);
    smkex_known_store(s);
    rc = smkex_flush_out(s);
    return rc == SMKEX_WANT_WRITE ? 0 : rc;
}

/* ---- Server ---- */

int smkex_over_answered(struct smkex *s)
{
    struct mtls_addr peer = {.family = 4};
    int rc;

    s->over = calloc(1, sizeof(*s->over));
    if (s->over == NULL)
        return MTLS_ERR_NOMEM;
    mtls_engine_lock();
    rc = smkex_inband_server(&s->over->band, s->ctx->proofs, smkex_machine_join(s->m),
                             smkex_machine_keys(s->m), &peer, mtls_now());
    mtls_engine_unlock();
    return rc;
}

/* [MPC-4] READY must not leave before the client's wish is here, or the scheduler may choose path 1
 * for it. Where the kernel does not tell, and after a while, the counters alone judge. */
static int await_steering(struct smkex *s)
{
    struct smkex_over *o = s->over;
    int rc;

    if (o->since == 0)
        o->since = mtls_now();
    for (;;) {
        rc = look(s);
        if (rc != 0 && rc != MTLS_ERR_SUBFLOW_MISSING)
            return rc;
        if (rc == 0 && (!o->now.at[0].flags_known || o->now.at[0].by_peer ||
                        mtls_now() >= o->since + UNSTEERED_US))
            break;
        if (mtls_now() >= s->deadline_at)
            return MTLS_ERR_SUBFLOW_MISSING;
        rc = sleep_a_little(s);
        if (rc != 0)
            return rc;
    }
    wake_up(s);
    o->then = o->now;
    s->path2_local = o->then.at[1].local;
    s->path2_peer = o->then.at[1].remote;
    o->step = STEP_EXCHANGE;
    return 0;
}

static int decide(struct smkex *s)
{
    uint8_t d[MTLS_SHA256_LEN], k = 0, n = 0;
    bool confirmed;
    int rc;

    mtls_engine_lock();
    confirmed = smkex_inband_confirmed(s->over->band, d, &k, &n);
    mtls_engine_unlock();
    if (!confirmed || k != 1 || n != 1)
        return MTLS_ERR_CONFIRM_WRONG;
    s->times[SMKEX_STEP_PROOF] = mtls_now();
    rc = counters(s, true);
    if (rc == 0)
        rc = smkex_machine_decide(s->m, d, k, n);
    if (rc != 0)
        return rc;
    s->confirmed_paths = n;
    s->phase = SMKEX_PHASE_OPEN;
    smkex_decided(s, SMKEX_OUTCOME_VERIFIED, 0);
    rc = smkex_flush_out(s);
    return rc == SMKEX_WANT_WRITE ? 0 : rc;
}

int smkex_over_serve(struct smkex *s)
{
    struct smkex_over *o = s->over;
    int rc = 0;

    if (o->step == STEP_BEGIN) {
        rc = read_band(s, SMKEX_INBAND_HELLO - 1);
        if (rc == 0)
            rc = await_steering(s);
    }
    if (rc == 0 && o->step == STEP_EXCHANGE) {
        rc = read_band(s, SMKEX_INBAND_HELLO);
        if (rc == 0)
            rc = counters(s, false);
        if (rc == 0)
            o->step = STEP_CONFIRM;
    }
    if (rc == 0)
        rc = flush_band(s);
    if (rc == 0)
        rc = read_band(s, SMKEX_INBAND_HELLO + MTLS_CONFIRM_LEN);
    return rc == 0 ? decide(s) : rc;
}
