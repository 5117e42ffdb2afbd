/* Concept: the session object's life (see session.h): made at the ClientHello, decided once, freed
 * with the SSL. */
#include "session.h"

#include <stdlib.h>
#include <string.h>

#include <openssl/crypto.h>

#include "../net/engine.h"
#include "../net/route.h"
#include "confirming.h"
#include "evidence.h"
#include "gate.h"
#include "glue.h"

static CRYPTO_ONCE once = CRYPTO_ONCE_STATIC_INIT;
static int ssl_index = -1; /* atomic */

static struct mtls_handshake *handshake_new(struct mtls_crypto *crypto)
{
    struct mtls_handshake *hs = calloc(1, sizeof(*hs));

    if (hs != NULL && mtls_cond_init(&hs->changed) != 0) {
        free(hs);
        hs = NULL;
    }
    if (hs != NULL && mtls_transcript_new(&hs->transcript, crypto) != 0) {
        pthread_cond_destroy(&hs->changed);
        free(hs);
        hs = NULL;
    }
    return hs;
}

/* The engine holds nothing of it any more; what the reactor still does for a decided session asks
 * for s->hs under the lock. */
static void handshake_end(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;

    if (hs == NULL)
        return;
    mtls_engine_lock();
    s->hs = NULL;
    mtls_engine_unlock();
    mtls_transcript_free(hs->transcript);
    mtls_evidence_free(hs->evidence);
    pthread_cond_destroy(&hs->changed);
    OPENSSL_free(hs->given_name);
    free(hs->facts);
    OPENSSL_cleanse(hs->secret, sizeof(hs->secret)); /* the rest is no secret */
    mtls_keys_wipe(&hs->keys);
    free(hs);
}

static void session_clear(struct mtls_session *s)
{
    mtls_interpose_forget(s);
    mtls_engine_lock();
    mtls_late_forget(s);
    mtls_session_leave_engine(s, MTLS_FAIL_ABANDONED);
    mtls_engine_unlock();
    mtls_gate_free(s);
    handshake_end(s);
    mtls_report_free(s);
    mtls_remember_drop(s);
    free(s->evidence);
    s->evidence = NULL;
}

static void session_ex_free(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl,
                            void *argp)
{
    struct mtls_session *s = ptr;

    if (s == NULL)
        return;
    session_clear(s);
    mtls_hook_unref(s->hook);
    free(s);
}

/* SSL_dup: the copy begins without a session of ours. */
static int session_ex_dup(CRYPTO_EX_DATA *to, const CRYPTO_EX_DATA *from, void **from_d, int idx,
                          long argl, void *argp)
{
    *from_d = NULL;
    return 1;
}

static void index_make(void)
{
    int index = SSL_get_ex_new_index(0, NULL, NULL, session_ex_dup, session_ex_free);

    __atomic_store_n(&ssl_index, index, __ATOMIC_RELEASE);
}

struct mtls_session *mtls_session_find(const SSL *ssl)
{
    int index = __atomic_load_n(&ssl_index, __ATOMIC_ACQUIRE);

    if (index < 0 && CRYPTO_THREAD_run_once(&once, index_make) == 1)
        index = __atomic_load_n(&ssl_index, __ATOMIC_ACQUIRE);
    return ssl != NULL && index >= 0 ? SSL_get_ex_data(ssl, index) : NULL;
}

/* Until its handshake begins, the application may still choose the side or another SSL_CTX, or
 * fork. */
static void session_begin(struct mtls_session *s)
{
    s->generation = mtls_engine_generation();
    s->server = SSL_is_server(s->ssl);
    mtls_session_rebind(s);
}

static int session_init(struct mtls_session *s)
{
    session_begin(s);
    s->hs = handshake_new(s->hook->crypto);
    return s->hs != NULL ? 0 : MTLS_ERR_NOMEM;
}

struct mtls_session *mtls_session_get(SSL *ssl)
{
    struct mtls_session *s = mtls_session_find(ssl);
    struct mtls_hook *hook;

    if (s != NULL && s->phase == MTLS_PHASE_START && s->hs->hellos == 0)
        session_begin(s);
    if (s != NULL)
        return s;
    hook = mtls_hook_of(SSL_get_SSL_CTX(ssl));
    if (hook == NULL || ssl_index < 0)
        return NULL;
    s = calloc(1, sizeof(*s));
    if (s == NULL)
        return NULL;
    s->ssl = ssl;
    s->hook = hook;
    s->given_fd = -1;
    __atomic_add_fetch(&hook->refs, 1, __ATOMIC_ACQ_REL);
    if (session_init(s) != 0 || SSL_set_ex_data(ssl, ssl_index, s) != 1) {
        session_ex_free(NULL, s, NULL, 0, 0, NULL);
        return NULL;
    }
    return s;
}

/* The application, or an SNI call-back, chose another SSL_CTX: its words hold from here on. */
void mtls_session_rebind(struct mtls_session *s)
{
    struct mtls_hook *hook = mtls_hook_of(SSL_get_SSL_CTX(s->ssl));

    if (hook == NULL || hook == s->hook)
        return;
    __atomic_add_fetch(&hook->refs, 1, __ATOMIC_ACQ_REL);
    mtls_hook_unref(s->hook);
    s->hook = hook;
}

int mtls_session_reset(struct mtls_session *s)
{
    struct mtls_session fresh = {.ssl = s->ssl, .hook = s->hook, .given_fd = -1};

    int err;

    session_clear(s);
    *s = fresh;
    err = session_init(s);
    if (err != 0) {
        s->phase = MTLS_PHASE_FAILED;
        s->outcome = MTLS_OUTCOME_FAILED;
        s->reason = err;
    }
    return err;
}

int mtls_session_fd(const struct mtls_session *s)
{
    int fd = s->given_fd >= 0 ? s->given_fd : SSL_get_rfd(s->ssl);

    return fd;
}

/* ---- engine ---- */

void mtls_session_leave_engine(struct mtls_session *s, uint8_t fail_reason)
{
    if (s->generation != mtls_engine_generation()) { /* the parent's, not ours to end */
        s->service = NULL;
        s->timer = NULL;
    }
    mtls_timer_free(s->timer);
    s->timer = NULL;
    mtls_service_session_free(s->service, fail_reason, mtls_now());
    s->service = NULL;
    mtls_client_paths_free(s, fail_reason);
}

struct mtls_decision mtls_session_evaluate(struct mtls_session *s, bool at_write, mtls_tstamp now)
{
    struct mtls_decision d = {MTLS_WAIT, 0, s->hs->deadline_at};

    if (!s->server)
        return mtls_client_evaluate(s, at_write, now);
    if (s->hs->confirmed) {
        d.verdict = MTLS_VERIFIED;
    } else if (now >= s->hs->deadline_at) { /* [SRV] both, or nothing is released */
        d.verdict = MTLS_FAILED;
        d.reason = MTLS_ERR_CONFIRM_MISSING;
    }
    return d;
}

/* ---- the decision ---- */

static void outcome_tell(struct mtls_session *s)
{
    char *json;

    /* confirm=auto: the verdict is still to come */
    if (s->hook->outcome_cb == NULL || (s->outcome == MTLS_OUTCOME_PLAIN && !s->server &&
                                        mtls_confirming_is(SSL_get_SSL_CTX(s->ssl))))
        return;
    if (s->server && mtls_interpose_counts(s->hook->outcome_cb, s->outcome))
        return;
    json = mtls_report_text(s, s->outcome, s->reason);
    s->hook->outcome_cb(s->ssl, s->outcome, s->reason, json != NULL ? json : "{}",
                        s->hook->outcome_arg);
    OPENSSL_free(json);
}

static uint8_t fail_reason_of(const struct mtls_session *s)
{
    if (s->reason == MTLS_ERR_PROOF_WRONG)
        return MTLS_FAIL_PROOF_WRONG;
    return s->outcome == MTLS_OUTCOME_VERIFIED ? MTLS_FAIL_NOT_COUNTED : MTLS_FAIL_ABANDONED;
}

void mtls_session_decide(struct mtls_session *s, enum mtls_outcome outcome, int reason)
{
    mtls_tstamp now = mtls_now();

    if (s->phase == MTLS_PHASE_DECIDED || s->phase == MTLS_PHASE_FAILED)
        return;
    s->phase = outcome == MTLS_OUTCOME_FAILED ? MTLS_PHASE_FAILED : MTLS_PHASE_DECIDED;
    s->outcome = outcome;
    s->reason = reason;
    s->times[MTLS_STEP_DECIDED] = now;
    mtls_engine_lock();
    if (s->server && outcome == MTLS_OUTCOME_VERIFIED)
        s->times[MTLS_STEP_PROOF] = s->hs->confirmed_at;
    mtls_report_make(s);
    mtls_evidence_claims(s);
    if (reason == MTLS_ERR_DOWNGRADE) /* [DWN-7] */
        mtls_downgrade_note(s->hs->name, s->hs->port, now);
    if (outcome == MTLS_OUTCOME_PLAIN && !s->server)
        mtls_late_watch(s, now);
    if (!(s->server &&
          outcome == MTLS_OUTCOME_RESUMED_VERIFIED)) /* claims are answered all the same */
        mtls_session_leave_engine(s, fail_reason_of(s));
    mtls_engine_unlock();
    if (outcome == MTLS_OUTCOME_FAILED)
        mtls_resume_forget(s);
    if (outcome == MTLS_OUTCOME_VERIFIED &&
        !s->server) /* a server's record went into the tickets before */
        mtls_resume_store(s);
    if (outcome == MTLS_OUTCOME_VERIFIED && !s->server)
        mtls_remember_verified(s);
    mtls_evidence_write(s);
    handshake_end(s);
    outcome_tell(s);
}

void mtls_session_settle(struct mtls_session *s)
{
    if (s->phase != MTLS_PHASE_CONFIRMED || SSL_is_init_finished(s->ssl) != 1)
        return;
    mtls_session_decide(s, MTLS_OUTCOME_VERIFIED, 0);
    if (s->gate == NULL || !s->gate->stashed) /* a byte that is still to be read */
        mtls_gate_unlink(s);
}

void mtls_session_fail(struct mtls_session *s, int reason)
{
    bool now = s->phase != MTLS_PHASE_DECIDED && s->phase != MTLS_PHASE_FAILED;

    mtls_session_decide(s, MTLS_OUTCOME_FAILED, reason);
    if (now)
        mtls_interpose_failing(s);
    mtls_raise(s->reason != 0 ? s->reason : reason, NULL);
}
