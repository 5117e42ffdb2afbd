/* Concept: the client's side of a session: ClientHello, what EncryptedExtensions said, proofs,
 * CONFIRM (protocol.md, CLI). The decision itself is core/decision.c's. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

#include "../core/confirm.h"
#include "../net/announced.h"
#include "../net/route.h"
#include "gate.h"
#include "glue.h"

/* A literal is admissible for path 2 if somebody typed it [PATH-1]; SNI holds names alone, and a
 * program that puts its own look-up's answer there must not lead path 2. */
static int name_of(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    const char *typed = hs->given_name != NULL ? hs->given_name : s->hook->config.name;
    const char *name =
        typed[0] != '\0' ? typed : SSL_get_servername(s->ssl, TLSEXT_NAMETYPE_host_name);
    struct mtls_host host;

    if (name == NULL || name[0] == '\0')
        return 0;
    if (mtls_host_parse(&host, name) == 0 && host.addr.family != 0) {
        if (typed[0] == '\0')
            return 0;
        hs->name_literal =
            host.addr.family == hs->facts->path1.remote.family &&
            memcmp(host.addr.ip, hs->facts->path1.remote.ip, sizeof(host.addr.ip)) == 0;
        memcpy(hs->name, host.name, sizeof(hs->name));
        return 0;
    }
    return mtls_name_canonical(name, hs->name) == 0 ? 0 : MTLS_ERR_NAME_UNKNOWN;
}

static void timer(void *arg, mtls_tstamp now)
{
    mtls_session_wake(arg, now);
}

static int enter_engine(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_announced *announced = NULL;
    struct mtls_reactor *r;
    int err;

    mtls_engine_lock();
    r = mtls_reactor_get();
    err = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, s->hook->config.reactor_app);
    if (err == 0 && !hs->path1_later)
        announced = mtls_announced_take(hs->name, hs->port);
    if (announced != NULL)
        memcpy(hs->secret, announced->secret, sizeof(hs->secret));
    else if (err == 0)
        err = mtls_crypto_random(s->hook->crypto, hs->secret, sizeof(hs->secret));
    if (err == 0)
        err = mtls_crypto_join(s->hook->crypto, hs->secret, hs->join);
    if (err == 0)
        err = mtls_timer_new(&s->timer, r, timer, s);
    if (err == 0 && announced != NULL)
        mtls_client_paths_adopt(s, announced);
    if (err == 0 && s->hook->config.early && !hs->path1_later)
        mtls_client_paths_start(s, hs->record_offered);
    mtls_announced_free(announced);
    mtls_engine_unlock();
    return err;
}

static bool claims(const struct mtls_handshake *hs)
{
    uint8_t i;

    for (i = 0; i < hs->npaths; i++)
        if (hs->paths[i].claim != NULL)
            return true;
    return false;
}

static int offer(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_ext_ch ch = {.nver = 1, .versions = {MTLS_VERSION_1}};
    int n;

    if (mtls_resume_outlasts(s) && !claims(hs)) /* [RES-11] */
        ch.flags = MTLS_CH_RECORD_HELD;
    memcpy(ch.join, hs->join, sizeof(ch.join));
    n = mtls_ext_ch_encode(&ch, hs->hello_ext, sizeof(hs->hello_ext));
    if (n < 0)
        return n;
    hs->hello_ext_len = (size_t)n;
    s->offered = true;
    s->phase = MTLS_PHASE_HELLO;
    return 0;
}

/* No second path: nothing is offered. Whether that may go on as ordinary TLS is the policy's. [POL]
 */
static int not_offered(struct mtls_session *s, int why)
{
    if (s->hook->config.policy == MTLS_POLICY_REQUIRE)
        return why;
    if (s->hs->remembered)
        return MTLS_ERR_REMEMBERED;
    mtls_session_decide(s, MTLS_OUTCOME_PLAIN, why);
    return 0;
}

/* What is known of the host before anything is offered. */
static int remember(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    int err = name_of(s);

    if (err != 0)
        return err;
    mtls_remember_look(s, &hs->facts->stored);
    if (hs->memory_error != 0)
        return hs->memory_error;
    mtls_resume_client_hello(s);
    mtls_engine_lock();
    /* A ticket of a verified session remembers the host as well. [POL-3] */
    hs->remembered |= hs->record_offered || mtls_downgrade_known(hs->name, hs->port, mtls_now());
    mtls_engine_unlock();
    return 0;
}

static bool has_auto(const struct mtls_config *c)
{
    for (uint8_t i = 0; i < c->npath2; i++)
        if (c->path2[i].is_auto)
            return true;
    return false;
}

/* Only `auto` is chosen by path 1's route. Else its question waits until the ClientHello has left,
 * unless there may be no answer: then nothing is offered. */
static bool path1_learn(struct mtls_session *s, int fd)
{
    struct mtls_path_facts *f = &s->hs->facts->path1;
    const struct mtls_config *c = &s->hook->config;
    int err = c->npath2 == 0 || has_auto(c) ? MTLS_ERR_IO : mtls_route_ends(fd, f);

    s->hs->path1_asked = err != 0;
    if (err == MTLS_ERR_IO)
        err = mtls_route_of_socket(fd, f);
    if (err != 0)
        memset(f, 0, sizeof(*f));
    return err == 0;
}

/* Without an answer path 1 stays not known; the decision asks again, and fails without. [PATH-13]
 */
void mtls_client_routes_ask(struct mtls_session *s)
{
    struct mtls_path_facts facts = {0};
    struct mtls_handshake *hs = s->hs;

    if (hs->routes_asked || hs->path1_later)
        return;
    hs->routes_asked = true;
    if (!hs->path1_asked && mtls_route_of_socket(mtls_session_fd(s), &facts) == 0)
        hs->facts->path1 = facts;
    mtls_engine_lock();
    for (uint8_t i = 0; i < hs->npaths; i++)
        if (hs->paths[i].claim != NULL)
            mtls_path2_claim_note(hs->paths[i].claim);
    mtls_engine_unlock();
}

int mtls_client_hello(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    const struct mtls_config *c = &s->hook->config;
    mtls_tstamp now = mtls_now();
    int fd = mtls_session_fd(s), err;
    bool known;

    hs->facts = calloc(1, sizeof(*hs->facts));
    if (hs->facts == NULL)
        return MTLS_ERR_NOMEM;
    known = path1_learn(s, fd);
    s->times[MTLS_STEP_CLIENT_HELLO] = now;
    hs->deadline_at = now + c->deadline_ms * 1000ull;
    hs->grace_from = now;
    hs->grace_end_at = now + c->grace_ms * 1000ull;
    hs->port = hs->facts->path1.remote.port;
    if (fd < 0 && c->npath2 > 0 && mtls_interposed()) {
        hs->path1_later = true;
        err = enter_engine(s);
        return err == 0 ? offer(s) : err;
    }
    err = remember(s);
    if (err != 0)
        return err;
    if (c->npath2 > 0 && !known)
        return not_offered(s, MTLS_ERR_PATH_UNKNOWN);
    err = mtls_client_paths_plan(s);
    if (err != 0)
        return err;
    if (hs->npaths == 0)
        return not_offered(s, MTLS_ERR_PATH_NONE);
    err = enter_engine(s);
    return err == 0 ? offer(s) : err;
}

/* The extension is in the ClientHello already: a host that nothing can be offered to fails. */
int mtls_client_path1(struct mtls_session *s)
{
    int err;

    if (!path1_learn(s, s->given_fd))
        return MTLS_ERR_PATH_UNKNOWN;
    s->hs->port = s->hs->facts->path1.remote.port;
    err = remember(s);
    if (err == 0)
        err = mtls_client_paths_plan(s);
    /* Under `prefer` a server that does not answer the offer is ordinary TLS without a path, too.
     */
    if (err == 0 && s->hs->npaths == 0 && s->hs->remembered)
        err = MTLS_ERR_REMEMBERED;
    if (err == 0 && s->hs->npaths == 0 && s->hook->config.policy == MTLS_POLICY_REQUIRE)
        err = MTLS_ERR_PATH_NONE;
    if (err != 0)
        return err;
    mtls_engine_lock();
    s->hs->path1_later = false;
    if (s->hook->config.early)
        mtls_client_paths_start(s, s->hs->record_offered);
    mtls_engine_unlock();
    return 0;
}

/* The answer is known. A path that waited for it (late mode, a resumption that did not come about)
 * starts now; the port it said is used only if rule [PATH] lets it: it equals path 1's own or the
 * registered default. */
void mtls_client_answered(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    mtls_tstamp now = mtls_now(), end = now + s->hook->config.grace_ms * 1000ull;
    uint8_t i;

    if (hs->answered == MTLS_OFFER_YES)
        mtls_resume_client_answer(s);
    if (hs->resumed_ok || hs->paths_started)
        return;
    mtls_engine_lock();
    for (i = 0; i < hs->npaths && hs->facts->ee.port != 0; i++) {
        struct mtls_secondary *p = &hs->paths[i];

        if (p->spec->port == 0 && p->spec->remote.addr.port == 0 &&
            (hs->facts->ee.port == hs->port || hs->facts->ee.port == MTLS_PORT_DEFAULT))
            p->error = mtls_client_path_port(p, hs->facts->ee.port);
    }
    mtls_client_paths_start(s, false);
    hs->grace_from =
        now; /* [DWN-5] path 2 begins now: whoever delayed path 1 has not used its grace up */
    hs->grace_end_at = end > hs->grace_end_at ? end : hs->grace_end_at;
    mtls_engine_unlock();
}

/* Resumed, and path 2 was not asked: there is no proof that keys could be needed for, and no claim
 * begins any more. */
static bool keyless(const struct mtls_handshake *hs)
{
    struct mtls_transcript_facts facts;

    mtls_transcript_facts(hs->transcript, &facts);
    return hs->resumed_ok && facts.complete && !claims(hs);
}

int mtls_client_arm(struct mtls_session *s)
{
    struct mtls_keys keys;
    int err;

    if (s->hs->keys_ready || keyless(s->hs))
        return 0;
    if (s->times[MTLS_STEP_FINISHED] == 0)
        s->times[MTLS_STEP_FINISHED] = mtls_now();
    err = mtls_keys_compute(s, &keys);
    if (err == 0) {
        mtls_engine_lock();
        s->hs->keys = keys;
        s->hs->keys_ready = true;
        s->phase = MTLS_PHASE_ARMED;
        mtls_engine_unlock();
    }
    mtls_keys_wipe(&keys);
    return err;
}

/* ---- proofs; engine lock held ---- */

/* Judged on the live sockets, now. [PATH] */
static void select_paths(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    unsigned scope = 0;

    hs->selected =
        mtls_secondary_judge(hs->paths, hs->npaths, mtls_session_fd(s), &hs->facts->path1, &scope);
    s->scope = (uint8_t)scope;
}

static uint8_t count_bits(unsigned mask)
{
    return (uint8_t)__builtin_popcount(mask);
}

static void grace(struct mtls_session *s, const struct mtls_decision_input *in)
{
    uint8_t i;

    for (i = 0; i < in->npaths; i++) {
        mtls_tstamp end = s->hs->grace_from + 4ull * in->paths[i].rtt_us;

        if (end > s->hs->grace_end_at)
            s->hs->grace_end_at = end;
    }
}

enum { PROOF_AFTER_READY_US = 100000 };

/* Until when PROOF of a path is worth waiting for: one that is READY has its server's flight in the
 * making. */
static mtls_tstamp worth_waiting(const struct mtls_session *s, const struct mtls_decision_input *in,
                                 uint8_t i)
{
    struct mtls_path2_times times;
    mtls_tstamp end;

    if (in->paths[i].state == MTLS_PATH_STARTING)
        return in->grace_end_at;
    /* A failure that says nothing about the server: `prefer` waits for the grace, better here than
     * at the write. */
    if (in->paths[i].state == MTLS_PATH_FAILED && in->policy == MTLS_POLICY_PREFER &&
        !in->remembered && !mtls_path_definitely_negative(&in->paths[i]))
        return in->grace_end_at;
    if (in->paths[i].state != MTLS_PATH_READY || s->hs->paths[i].claim == NULL)
        return 0;
    mtls_path2_claim_times(s->hs->paths[i].claim, &times);
    end = times.ready_at + 2ull * in->paths[i].rtt_us +
          (s->gate->keeping ? s->hook->config.grace_ms * 1000ull : PROOF_AFTER_READY_US);
    return end < in->grace_end_at ? end : in->grace_end_at;
}

/* Before the first encrypted record, for a non-blocking application: whatever the server packs into
 * that record, the answer of path 2 is here before the second flight, where a wait could only
 * block. Nothing is decided here. */
static struct mtls_decision wait_before_flight(const struct mtls_session *s,
                                               const struct mtls_decision_input *in,
                                               mtls_tstamp now)
{
    struct mtls_decision d = {MTLS_WAIT, 0, 0};
    unsigned proofs = 0;
    uint8_t i;

    for (i = 0; i < in->npaths; i++) {
        mtls_tstamp end = worth_waiting(s, in, i);

        proofs += in->paths[i].state == MTLS_PATH_PROOF;
        d.next = end > d.next ? end : d.next;
    }
    if (proofs >= in->need || now >= d.next)
        d.verdict = MTLS_READ_ON;
    return d;
}

struct mtls_decision mtls_client_evaluate(struct mtls_session *s, bool at_write, mtls_tstamp now)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_decision_input in = {.policy = s->hook->config.policy,
                                     .need = s->hook->config.need,
                                     .offered = s->offered,
                                     .answered = hs->answered,
                                     .resumed_ok = hs->resumed_ok,
                                     .remembered = hs->remembered,
                                     .at_write = at_write,
                                     .npaths = hs->npaths,
                                     .started_at = hs->grace_from,
                                     .deadline_at = hs->deadline_at};
    struct mtls_transcript_facts facts = {0};
    bool some_right = false;
    uint8_t i;

    mtls_transcript_facts(hs->transcript, &facts);
    in.tls_below_13 = hs->old_tls || (facts.server_hello && !facts.tls13);
    for (i = 0; i < hs->npaths; i++) {
        mtls_secondary_status(&hs->paths[i], s->hook->crypto, hs->keys_ready ? &hs->keys : NULL,
                              &in.paths[i]);
        some_right = some_right || hs->paths[i].right;
    }
    if (at_write && some_right) {
        select_paths(s);
        in.selected = count_bits(hs->selected);
    }
    grace(s, &in);
    in.grace_end_at = hs->grace_end_at;
    if (s->gate != NULL && s->gate->keeping && (in.remembered || in.policy == MTLS_POLICY_REQUIRE))
        in.grace_end_at =
            hs->deadline_at; /* without path 2 nothing comes of it, and none is blocked */
    if (hs->before_flight && !at_write) {
        if (now < hs->deadline_at)
            return wait_before_flight(s, &in, now);
        in.answered = MTLS_OFFER_YES; /* too late for either answer: what path 2 lacks is said */
    }
    return mtls_decide(&in, now);
}

/* [CNF] on every counted path, after all of them were counted. */
int mtls_client_confirm(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;
    uint8_t d[MTLS_SHA256_LEN], n = 0;
    /* selected: of the evaluation just made, under the same lock */
    int err = mtls_secondary_confirm(hs->paths, hs->npaths, hs->selected, s->hook->config.need,
                                     s->hook->crypto, &hs->keys, d, &n);

    s->confirmed_paths = err == 0 ? n : 0;
    return err;
}
