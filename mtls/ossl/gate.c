/* Concept: the filter BIO (see gate.h). It cuts both streams into records, asks gate_hold.c when a
 * record may not pass yet, and takes itself off the SSL after the decision. No state number of
 * libssl is looked at: they differ between releases. */
#include "gate.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/bio.h>

#include "../net/engine.h"
#include "glue.h"

enum { CTRL_SET_KTLS = 72, CTRL_SET_KTLS_CTRL_MSG = 74, CTRL_CLEAR_KTLS_CTRL_MSG = 75 };

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static BIO_METHOD *method;

static struct mtls_session *session_of(BIO *b)
{
    return BIO_get_data(b);
}

static int pass_read(BIO *b, char *out, int len)
{
    struct mtls_session *s = session_of(b);
    int n;

    if (len > 0 && s != NULL && s->gate != NULL && s->gate->stashed) {
        s->gate->stashed = false;
        *out = s->gate->stash;
        return 1;
    }
    n = BIO_read(BIO_next(b), out, len);

    BIO_clear_retry_flags(b);
    BIO_copy_next_retry(b);
    return n;
}

static int pass_write(BIO *b, const char *in, int len)
{
    int n = mtls_interpose_write(session_of(b), BIO_next(b), in, len);

    BIO_clear_retry_flags(b);
    BIO_copy_next_retry(b);
    return n;
}

/* libssl turns a read that fails at "end of file" into a fatal error of its own and sends an alert.
 */
static int fail_read(struct mtls_session *s, int reason)
{
    SSL_clear_options(s->ssl, SSL_OP_IGNORE_UNEXPECTED_EOF);
    if (s->phase != MTLS_PHASE_FAILED)
        mtls_session_fail(s, reason);
    else
        mtls_raise(s->reason, NULL);
    return -1;
}

/* The handshake is the parent's: the child writes nothing into it, no alert either. */
static bool forked(const struct mtls_session *s)
{
    return s->generation != mtls_engine_generation();
}

enum { ALERT_MAX = 2 + 1 + 16 + 64 }; /* level and description, type, tag, a little padding */

/* libssl has failed on its own and says so to the peer: this one record, and nothing that lay in
 * its buffer before. */
static bool own_alert(const struct mtls_session *s, const char *in, int len)
{
    const uint8_t *head = (const uint8_t *)in;

    return strcmp(SSL_state_string_long(s->ssl), "error") == 0 && len > 5 && len <= 5 + ALERT_MAX &&
           (head[0] == TYPE_ALERT || head[0] == TYPE_DATA) && (head[3] << 8 | head[4]) == len - 5;
}

/* ---- reads ---- */

static enum mtls_hold server_read(struct mtls_session *s, struct mtls_decision *d)
{
    uint8_t own[1];
    int err;

    if (s->phase == MTLS_PHASE_HELLO) {
        if (SSL_get_finished(s->ssl, own, sizeof(own)) == 0)
            return MTLS_HOLD_PASS; /* before our flight, or after a HelloRetryRequest */
        /* The flight is out without our answer: an SNI call-back chose an SSL_CTX that is not
         * hooked. */
        d->reason = MTLS_ERR_NOT_PROTECTED_CTX;
        if (s->hook->config.policy == MTLS_POLICY_REQUIRE)
            return MTLS_HOLD_FAIL;
        mtls_session_decide(s, MTLS_OUTCOME_PLAIN, d->reason);
        return MTLS_HOLD_PASS;
    }
    if (s->phase == MTLS_PHASE_ANSWERED) {
        err = mtls_server_arm(s);
        if (err != 0) {
            d->reason = err;
            return MTLS_HOLD_FAIL;
        }
    }
    if (s->phase == MTLS_PHASE_CONFIRMED)
        mtls_session_settle(s);
    if (s->phase == MTLS_PHASE_CONFIRMED || s->phase == MTLS_PHASE_DECIDED)
        return MTLS_HOLD_PASS;
    if (mtls_gate_hold(s, false, d) != MTLS_HOLD_PASS)
        return d->verdict == MTLS_FAILED ? MTLS_HOLD_FAIL : MTLS_HOLD_RETRY;
    s->confirmed_paths = s->hs->confirmed_n;
    s->phase = MTLS_PHASE_CONFIRMED;
    mtls_resume_store(
        s); /* the tickets are made as soon as libssl has taken the client's Finished */
    return MTLS_HOLD_PASS;
}

/* What the records and messages read so far say of the server. */
static void client_learn(struct mtls_session *s, struct mtls_transcript_facts *facts)
{
    struct mtls_handshake *hs = s->hs;
    struct mtls_gate *g = s->gate;

    mtls_transcript_facts(hs->transcript, facts);
    mtls_engine_lock(); /* the reactor may evaluate since the last call */
    hs->old_tls = (facts->server_hello && !facts->tls13) ||
                  (g->saw_handshake && SSL_version(s->ssl) < TLS1_3_VERSION);
    /* Records tell only where the message call-back was taken: EncryptedExtensions may be cut over
     * two. */
    if (hs->answered == MTLS_OFFER_UNKNOWN &&
        (g->extensions_read || (g->saw_encrypted && !facts->server_hello)))
        hs->answered = MTLS_OFFER_NO;
    mtls_engine_unlock();
}

static void before_flight(struct mtls_session *s, bool on)
{
    mtls_engine_lock();
    s->hs->before_flight = on;
    mtls_engine_unlock();
}

/* ServerHello is here, the encrypted flight is not: see wait_before_flight() in client.c. */
static enum mtls_hold hold_before_flight(struct mtls_session *s,
                                         const struct mtls_transcript_facts *facts,
                                         struct mtls_decision *d)
{
    enum mtls_hold hold;

    if (s->gate->flight_open || !facts->server_hello || !s->hs->paths_started ||
        (s->hs->record_offered && facts->psk) || !mtls_gate_is_nonblocking(s))
        return MTLS_HOLD_PASS;
    before_flight(s, true);
    hold = mtls_gate_hold(s, false, d);
    before_flight(s, hold == MTLS_HOLD_RETRY);
    s->gate->flight_open = hold == MTLS_HOLD_PASS;
    return hold;
}

static enum mtls_hold client_read(struct mtls_session *s, struct mtls_decision *d)
{
    struct mtls_gate *g = s->gate;
    struct mtls_transcript_facts facts;
    enum mtls_hold hold;

    if (g->rbody > 0 || g->rhave > 0 || g->read_open)
        return MTLS_HOLD_PASS;
    mtls_client_routes_ask(s);
    client_learn(s, &facts);
    if (mtls_gate_holds_reads(s))
        return MTLS_HOLD_PASS; /* the end of what is in the kernel stays there */
    if (s->hs->answered == MTLS_OFFER_UNKNOWN && !s->hs->old_tls) {
        mtls_gate_keep_flight(s, facts.server_hello);
        return hold_before_flight(s, &facts, d);
    }
    if (s->hs->answered != MTLS_OFFER_YES)
        mtls_client_answered(s);
    hold = mtls_gate_hold(s, false, d);
    if (hold == MTLS_HOLD_PASS && d->verdict == MTLS_PLAIN)
        mtls_session_decide(s, MTLS_OUTCOME_PLAIN, d->reason);
    g->read_open = hold == MTLS_HOLD_PASS;
    return hold;
}

/* What path 2 lacked, if path 1 was in time. */
static int late_reason(struct mtls_session *s)
{
    struct mtls_decision d = {MTLS_WAIT, 0, 0};

    mtls_engine_lock();
    if (s->gate->kept)
        s->hs->before_flight = true;
    if (s->gate->kept || (!s->server && s->hs->answered == MTLS_OFFER_YES))
        d = mtls_session_evaluate(s, false, mtls_now());
    mtls_engine_unlock();
    return d.verdict == MTLS_FAILED && d.reason != 0 ? d.reason : MTLS_ERR_DEADLINE;
}

static int gate_read(BIO *b, char *out, int len)
{
    struct mtls_session *s = session_of(b);
    struct mtls_decision d = {MTLS_WAIT, MTLS_ERR_INTERNAL, 0};
    enum mtls_hold hold = MTLS_HOLD_PASS;
    int n;

    BIO_clear_retry_flags(b);
    if (s == NULL || s->gate == NULL || !s->gate->linked ||
        b != s->gate->rfilter) /* SSL_get_wbio()'s reader */
        return pass_read(b, out, len);
    if (s->phase == MTLS_PHASE_FAILED || forked(s))
        return fail_read(s, MTLS_ERR_FORKED);
    if (s->hs != NULL && s->hs->later_error != 0)
        return fail_read(s, s->hs->later_error);
    if (s->phase < MTLS_PHASE_CONFIRMED && !mtls_gate_stands(s))
        return fail_read(s, MTLS_ERR_GATE_DISPLACED);
    if (s->phase != MTLS_PHASE_DECIDED)
        hold = s->server ? server_read(s, &d) : client_read(s, &d);
    if (hold == MTLS_HOLD_FAIL)
        return fail_read(s, d.reason);
    if (hold == MTLS_HOLD_RETRY) {
        BIO_set_retry_read(b);
        return -1;
    }
    if (s->phase == MTLS_PHASE_DECIDED) {
        if (s->gate == NULL || !s->gate->stashed)
            mtls_gate_unlink(s);
        /* The record under way, if any, was cut by us alone: the bytes are libssl's either way. */
        return pass_read(b, out, len);
    }
    len = s->server ? len : mtls_gate_record_part(s->gate, len);
    if (!mtls_gate_await_data(s, (size_t)len)) /* [TIM] one deadline, for a silent peer too */
        return fail_read(s, late_reason(s));
    n = pass_read(b, out, len);
    if (n > 0 && !s->server)
        mtls_gate_record_got(s->gate, out, n);
    else if (n <= 0 && !BIO_should_retry(b))
        mtls_interpose_peer_ended(s);
    return n;
}

/* ---- writes ---- */

void mtls_gate_alert(struct mtls_session *s, int alert)
{
    const uint8_t record[7] = {TYPE_ALERT, 3, 3, 0, 2, SSL3_AL_FATAL, (uint8_t)alert};

    if (!s->gate->alert_sent && mtls_session_fd(s) >= 0)
        (void)BIO_write(BIO_next(s->gate->wfilter), record, sizeof(record));
    s->gate->alert_sent = true;
}

static int fail_write(BIO *b, struct mtls_session *s, int reason)
{
    if (!s->server && !forked(s))
        mtls_gate_alert(s, SSL_AD_ACCESS_DENIED); /* a nicety: the peer learns why */
    if (s->phase != MTLS_PHASE_FAILED)
        mtls_session_fail(s, reason);
    else
        mtls_raise(s->reason, NULL);
    mtls_interpose_shut(s);
    return -1;
}

/* After a failure libssl may still say so to the peer; programs that print the last error get the
 * reason again. */
static int failed_write(BIO *b, struct mtls_session *s, const char *in, int len)
{
    int n;

    if (s->gate->alert_sent || !own_alert(s, in, len))
        return fail_write(b, s, s->reason);
    n = pass_write(b, in, len);
    if (n == len) {
        s->gate->alert_sent = true;
        mtls_raise(s->reason, NULL);
    }
    mtls_interpose_shut(s);
    return n;
}

/* The verdicts with which the second flight may leave; any other is a failure. */
static enum mtls_outcome outcome_of(enum mtls_verdict verdict)
{
    switch (verdict) {
    case MTLS_VERIFIED:
        return MTLS_OUTCOME_VERIFIED;
    case MTLS_RESUMED:
        return MTLS_OUTCOME_RESUMED_VERIFIED;
    case MTLS_PLAIN:
        return MTLS_OUTCOME_PLAIN;
    default:
        return MTLS_OUTCOME_FAILED;
    }
}

/* The second flight is about to leave: the decision, now. 0, or why it may not leave. */
static int client_decide(struct mtls_session *s)
{
    struct mtls_decision d = {MTLS_WAIT, MTLS_ERR_INTERNAL, 0};
    struct mtls_transcript_facts facts;
    enum mtls_outcome outcome;
    uint8_t peer[1];
    int err;

    if (s->hs->path1_later || s->hs->later_error != 0)
        return s->hs->later_error != 0 ? s->hs->later_error : MTLS_ERR_PATH_UNKNOWN;
    client_learn(s, &facts);
    if (s->hs->answered == MTLS_OFFER_YES) {
        if (SSL_get_peer_finished(s->ssl, peer, sizeof(peer)) == 0)
            return MTLS_ERR_EARLY_DATA;
        err = mtls_client_arm(s);
        if (err != 0)
            return err;
    } else {
        if (s->hs->answered == MTLS_OFFER_UNKNOWN && !s->gate->saw_handshake)
            return MTLS_ERR_EARLY_DATA; /* nothing was read yet: this is 0-RTT data */
        mtls_client_answered(s);
    }
    if (mtls_gate_hold(s, true, &d) != MTLS_HOLD_PASS)
        return d.reason != 0 ? d.reason : MTLS_ERR_INTERNAL;
    outcome = outcome_of(d.verdict);
    if (outcome == MTLS_OUTCOME_FAILED)
        return MTLS_ERR_INTERNAL;
    mtls_session_decide(s, outcome, d.reason);
    return 0;
}

static int client_write(BIO *b, struct mtls_session *s, const char *in, int len)
{
    struct mtls_record_scan scan = s->gate->wscan;
    unsigned hellos = s->gate->hellos;
    int err, n;

    if (mtls_gate_scan_write(&scan, &hellos, (const uint8_t *)in, (size_t)len) == 0) {
        n = pass_write(b, in, len);
        if (n > 0)
            (void)mtls_gate_scan_write(&s->gate->wscan, &s->gate->hellos, (const uint8_t *)in,
                                       (size_t)n);
        return n;
    }
    if (own_alert(s, in, len))
        return pass_write(b, in, len);
    err =
        strcmp(SSL_state_string_long(s->ssl), "error") == 0 ? MTLS_ERR_ABANDONED : client_decide(s);
    if (err != 0)
        return fail_write(b, s, err);
    mtls_gate_unlink(s);
    return pass_write(b, in, len);
}

/* After the flight nothing but an alert, until CONFIRM and the client's Finished are both here:
 * half-RTT data is refused. What comes then are the tickets, or application data. [SRV-1] */
static int server_write(BIO *b, struct mtls_session *s, const char *in, int len)
{
    uint8_t peer[1];

    if (!s->gate->flight_out || own_alert(s, in, len))
        return pass_write(b, in, len);
    if (s->phase != MTLS_PHASE_CONFIRMED || SSL_get_peer_finished(s->ssl, peer, sizeof(peer)) == 0)
        return fail_write(b, s, MTLS_ERR_EARLY_DATA);
    mtls_session_decide(s, MTLS_OUTCOME_VERIFIED, 0);
    mtls_gate_unlink(s);
    return pass_write(b, in, len);
}

static int gate_write(BIO *b, const char *in, int len)
{
    struct mtls_session *s = session_of(b);

    BIO_clear_retry_flags(b);
    if (s == NULL || s->gate == NULL || !s->gate->linked || len <= 0 || b != s->gate->wfilter)
        return pass_write(b, in, len);
    if (forked(s))
        return fail_write(b, s, MTLS_ERR_FORKED);
    if (s->phase == MTLS_PHASE_FAILED)
        return failed_write(b, s, in, len);
    if (s->phase == MTLS_PHASE_DECIDED) {
        mtls_gate_unlink(s);
        return pass_write(b, in, len);
    }
    if (!s->server)
        return client_write(b, s, in, len);
    return server_write(b, s, in, len);
}

static BIO *filter_on(BIO *next, struct mtls_session *s);
static void filter_drop(BIO *f);

/* libssl's buffer lets go of the write side. With another BIO on the read side by then it is the
 * application setting other BIOs in mid-handshake, noticed here even where it has taken our
 * call-backs too: from now on every read fails. With ours still there it may be libssl itself,
 * after SSL_read_early_data(); the next read looks at the write side. */
static void popped(struct mtls_session *s)
{
    struct mtls_gate *g = s->gate;
    BIO *r = SSL_get_rbio(s->ssl), *f;

    if (r == g->rfilter || s->phase >= MTLS_PHASE_CONFIRMED || SSL_in_before(s->ssl) == 1 ||
        strcmp(SSL_state_string_long(s->ssl), "error") == 0)
        return;
    if (r != NULL && (f = filter_on(r, s)) != NULL) {
        if (g->rfilter != g->wfilter)
            filter_drop(g->rfilter);
        g->rfilter = f;
        BIO_up_ref(f);
        SSL_set0_rbio(s->ssl, f);
    } else { /* without a BIO nothing is read */
        SSL_set0_rbio(s->ssl, NULL);
    }
    mtls_session_fail(s, MTLS_ERR_GATE_DISPLACED);
}

/* NULL: no more, or the filter is off. */
static struct mtls_session *linked_session(BIO *b)
{
    struct mtls_session *s = session_of(b);

    return s != NULL && s->gate != NULL && s->gate->linked ? s : NULL;
}

static long gate_ctrl(BIO *b, int cmd, long num, void *ptr)
{
    struct mtls_session *s;
    uint8_t own[1];
    long rc;

    switch (cmd) {
    case BIO_CTRL_POP:
        s = linked_session(b);
        if (s != NULL && b == s->gate->wfilter)
            popped(s);
        return 0;
    case BIO_CTRL_PUSH:
    case BIO_CTRL_GET_KTLS_SEND:
    case BIO_CTRL_GET_KTLS_RECV:
    case CTRL_SET_KTLS:
    case CTRL_SET_KTLS_CTRL_MSG:
    case CTRL_CLEAR_KTLS_CTRL_MSG:
        return 0; /* the kernel must not encrypt beside libssl */
    case BIO_CTRL_EOF:
        s = linked_session(b);
        if (s != NULL && s->phase == MTLS_PHASE_FAILED)
            return 1;
        break;
    case BIO_CTRL_DUP:
        return 0;
    default:
        break;
    }
    rc = BIO_ctrl(BIO_next(b), cmd, num, ptr);
    if (cmd == BIO_CTRL_FLUSH) {
        BIO_clear_retry_flags(b);
        BIO_copy_next_retry(b);
        s = rc > 0 ? linked_session(b) : NULL;
        if (s != NULL && s->server && SSL_get_finished(s->ssl, own, sizeof(own)) > 0)
            s->gate->flight_out = true;
    }
    return rc;
}

static int gate_create(BIO *b)
{
    BIO_set_init(b, 1);
    return 1;
}

static void method_make(void)
{
    int type = BIO_get_new_index();

    method = type == -1 ? NULL : BIO_meth_new(type | BIO_TYPE_FILTER, "Multipath TLS gate");
    if (method == NULL)
        return;
    BIO_meth_set_create(method, gate_create);
    BIO_meth_set_read(method, gate_read);
    BIO_meth_set_write(method, gate_write);
    BIO_meth_set_ctrl(method, gate_ctrl);
}

/* ---- on and off ---- */

static BIO *filter_on(BIO *next, struct mtls_session *s)
{
    BIO *f = BIO_new(method);

    if (f == NULL)
        return NULL;
    BIO_set_data(f, s);
    BIO_up_ref(next);
    BIO_push(f, next);
    return f;
}

/* Puts filters over the BIOs that the SSL has now. */
static int filters_link(struct mtls_session *s, struct mtls_gate *g)
{
    BIO *r = SSL_get_rbio(s->ssl), *w = SSL_get_wbio(s->ssl);

    if (r == NULL || w == NULL)
        return MTLS_ERR_GATE_DISPLACED;
    g->rfilter = filter_on(r, s);
    g->wfilter = r == w ? g->rfilter : filter_on(w, s);
    if (g->rfilter == NULL || g->wfilter == NULL) {
        BIO_free_all(g->rfilter);
        g->rfilter = g->wfilter = NULL;
        return MTLS_ERR_NOMEM;
    }
    BIO_up_ref(g->rfilter);
    SSL_set0_rbio(s->ssl, g->rfilter);
    BIO_up_ref(g->wfilter);
    SSL_set0_wbio(s->ssl, g->wfilter);
    g->linked = true;
    return 0;
}

int mtls_gate_install(struct mtls_session *s)
{
    struct mtls_gate *g;
    int err;

    if (s->gate != NULL)
        return 0;
    if (CRYPTO_THREAD_run_once(&once, method_make) != 1 || method == NULL)
        return MTLS_ERR_GATE_DISPLACED;
    g = calloc(1, sizeof(*g));
    if (g == NULL)
        return MTLS_ERR_NOMEM;
    g->copy.fd = g->async_fd = g->junk = -1;
    err = filters_link(s, g);
    if (err != 0) {
        free(g);
        return err;
    }
    mtls_engine_lock();
    s->gate = g;
    mtls_engine_unlock();
    return 0;
}

static void filter_drop(BIO *f)
{
    if (f == NULL)
        return;
    BIO_set_data(f, NULL);
    BIO_free_all(f); /* our reference; with the last one its reference to the next BIO goes too */
}

static void gate_end(struct mtls_session *s, struct mtls_gate *g)
{
    mtls_engine_lock();
    mtls_gate_settle(s);
    s->gate = NULL;
    mtls_engine_unlock();
    s->filters[0] = g->rfilter;
    s->filters[1] = g->wfilter != g->rfilter ? g->wfilter : NULL;
    free(g);
}

void mtls_gate_unlink(struct mtls_session *s)
{
    struct mtls_gate *g = s->gate;
    BIO *next;

    if (g == NULL || !g->linked)
        return;
    g->linked = false;
    if (SSL_get_wbio(s->ssl) == g->wfilter) {
        next = BIO_next(g->wfilter);
        BIO_up_ref(next);
        SSL_set0_wbio(s->ssl, next);
    }
    if (SSL_get_rbio(s->ssl) == g->rfilter) {
        next = BIO_next(g->rfilter);
        BIO_up_ref(next);
        SSL_set0_rbio(s->ssl, next);
    }
    gate_end(s, g);
}

void mtls_gate_free(struct mtls_session *s)
{
    mtls_gate_unlink(s);
    if (s->gate != NULL) /* it could not be put over other BIOs */
        gate_end(s, s->gate);
    filter_drop(s->filters[0]);
    filter_drop(s->filters[1]);
    s->filters[0] = s->filters[1] = NULL;
}

bool mtls_gate_stands(const struct mtls_session *s)
{
    const struct mtls_gate *g = s->gate;

    return g != NULL && g->linked && SSL_get_rbio(s->ssl) == g->rfilter &&
           SSL_get_wbio(s->ssl) == g->wfilter;
}

bool mtls_gate_enforce(struct mtls_session *s)
{
    struct mtls_gate *g = s->gate;

    if (g == NULL || !g->linked || mtls_gate_stands(s))
        return true;
    if (g->wfilter != g->rfilter)
        filter_drop(g->wfilter);
    filter_drop(g->rfilter);
    g->rfilter = g->wfilter = NULL;
    g->linked = false;
    if (filters_link(s, g) != 0) { /* without a BIO nothing can leave */
        SSL_set0_rbio(s->ssl, NULL);
        SSL_set0_wbio(s->ssl, NULL);
    }
    mtls_session_fail(s, MTLS_ERR_GATE_DISPLACED);
    return false;
}

void mtls_gate_allow_hello(struct mtls_session *s)
{
    if (s->gate != NULL)
        s->gate->hellos++;
}

void mtls_gate_note_extensions(struct mtls_session *s)
{
    if (s->gate != NULL)
        s->gate->extensions_read = true;
}
