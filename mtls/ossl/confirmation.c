/* Concept: confirmation by resumption: the order of steps, from the configuration to the verdict
 * (protocol section 20). What is seen goes to core/resume_verdict.c, which judges. */
#include "mtls/confirmation.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/x509v3.h>

#include "../net/engine.h"
#include "../net/hostfile.h"
#include "../net/path2_socket.h"
#include "../net/route.h"
#include "confirmation.h"
#include "glue.h"

enum { TICKET_WAIT_US = 1000000, EVIDENCE_US = 3000000 };

int mtls_confirm_mode(const char *words)
{
    struct mtls_config *config = calloc(1, sizeof(*config));
    char msg[256] = "";
    int err = config == NULL ? MTLS_ERR_NOMEM : mtls_settings_load(config, words, msg, sizeof(msg));
    int mode = err == 0 ? (int)config->confirm : -1;

    if (err != 0)
        mtls_raise(err, msg);
    free(config);
    return mode;
}

/* ---- path 2's connection ---- */

static uint8_t wanted_scope(const struct mtls_config *c)
{
    uint8_t scope = 0;

    for (uint8_t i = 0; i < c->npath2; i++)
        scope |= c->path2[i].distinct;
    return scope;
}

/* The next specification after those that were tried; `auto` stands for several. */
static bool next_spec(struct mtls_confirmation *c)
{
    struct mtls_auto_choice choices[MTLS_PATHS_MAX];
    const struct mtls_path_spec *words;
    unsigned n;

    for (; c->spec_i < c->config.npath2; c->spec_i++, c->auto_i = 0) {
        words = &c->config.path2[c->spec_i];
        if (!words->is_auto) {
            c->spec = *words;
            c->spec_i++;
            return true;
        }
        n = (unsigned)mtls_path2_auto(&c->path1, choices, MTLS_PATHS_MAX);
        if (c->auto_i >= n)
            continue;
        c->spec = choices[c->auto_i].spec;
        memcpy(c->why, choices[c->auto_i].why, sizeof(c->why));
        c->spec.remote = words->remote;
        c->spec.resolver = words->resolver;
        c->spec.distinct = words->distinct;
        c->auto_i++;
        return true;
    }
    return false;
}

/* Opens path 2 as c->spec says. */
static int dial(struct mtls_confirmation *c, uint32_t timeout_ms)
{
    struct mtls_dial_request req = {.spec = &c->spec,
                                    .name = c->name,
                                    .port = c->port,
                                    .path1_remote = c->path1.remote,
                                    .timeout_ms = timeout_ms};
    struct mtls_reactor *r;
    int err;

    mtls_dial_free(c->dial);
    c->dial = NULL;
    mtls_engine_lock();
    r = mtls_reactor_get();
    err = r == NULL ? MTLS_ERR_STOPPED : mtls_reactor_start(r, c->config.reactor_app);
    if (err == 0)
        err = mtls_dial_new(&c->dial, &req, mtls_now());
    mtls_engine_unlock();
    return err;
}

/* ---- new ---- */

/* [RSM-14] */
static int exporter_known(const struct mtls_confirmation *c)
{
    struct mtls_host_record record;
    bool noted;
    int rc;

    mtls_engine_lock();
    noted = mtls_downgrade_known(c->name, c->port, mtls_now());
    mtls_engine_unlock();
    if (noted)
        return MTLS_ERR_REMEMBERED;
    if (c->config.hosts[0] == '\0')
        return 0;
    rc = mtls_hostfile_get(c->config.hosts, c->name, c->port, mtls_wallclock(), &record);
    return rc == 1 ? MTLS_ERR_REMEMBERED : rc;
}

static bool record_fits(const struct mtls_confirmation *c, const SSL_SESSION *session,
                        struct mtls_record *record)
{
    return session != NULL && mtls_resume_record_of(session, record) &&
           mtls_record_valid_resume(record, c->name, c->port, wanted_scope(&c->config),
                                    c->config.resume_max_s, mtls_wallclock());
}

static int begin(struct mtls_confirmation *c, const char *name, SSL_SESSION *offered)
{
    int err = 0;

    if (c->config.name[0] != '\0')
        name = c->config.name;
    if (name == NULL || c->port == 0 || mtls_name_canonical(name, c->name) != 0)
        err = MTLS_ERR_ARG;
    if (err == 0 && c->config.need > 1)
        err = MTLS_ERR_CONFIG_CONFLICT;
    if (err == 0 && c->config.npath2 == 0)
        err = MTLS_ERR_PATH_NONE;
    if (err == 0)
        err = exporter_known(c);
    if (err != 0)
        return err;
    c->begun_at = mtls_now();
    c->offered_valid = record_fits(c, offered, &c->record);
    /* `auto` needs path 1's live socket. A failure is the verdict's affair. */
    if (!c->offered_valid && !c->config.path2[0].is_auto && c->config.early && next_spec(c))
        c->main.error = dial(c, c->config.deadline_ms);
    return 0;
}

struct mtls_confirmation *mtls_confirmation_new(const char *config, const char *name, uint16_t port,
                                                SSL_SESSION *offered)
{
    struct mtls_config *own = calloc(1, sizeof(*own));
    struct mtls_confirmation *c = NULL;
    char msg[256] = "";
    int err = own == NULL ? MTLS_ERR_NOMEM : mtls_settings_load(own, config, msg, sizeof(msg));

    if (err != 0)
        mtls_raise(err, msg);
    else
        c = mtls_confirmation_make(own, name, port, offered);
    free(own);
    return c;
}

struct mtls_confirmation *mtls_confirmation_make(const struct mtls_config *config, const char *name,
                                                 uint16_t port, SSL_SESSION *offered)
{
    struct mtls_confirmation *c = calloc(1, sizeof(*c));
    int err = MTLS_ERR_NOMEM;

    if (c != NULL) {
        c->config = *config;
        c->port = port;
        c->given_fd = -1;
        err = begin(c, name, offered);
    }
    if (err == 0)
        return c;
    mtls_raise(err, err == MTLS_ERR_CONFIG_CONFLICT ? "need: one path" : NULL);
    mtls_confirmation_free(c);
    return NULL;
}

/* ---- run ---- */

static int path1_fd(const struct mtls_confirmation *c, SSL *ssl)
{
    return c->given_fd >= 0 ? c->given_fd : SSL_get_fd(ssl);
}

static void attempt(struct mtls_confirmation *c, SSL *ssl, SSL_SESSION *ticket,
                    struct mtls_try *out, struct mtls_rsm_facts *f, mtls_tstamp until)
{
    int fd = -1;

    out->end = MTLS_RSM_NOT_MADE;
    out->error = c->dial != NULL ? mtls_dial_wait(c->dial, until, &fd) : out->error;
    if (fd < 0)
        return;
    mtls_try_run(out, ssl, c->name, ticket, fd, until);
    if (f != NULL) { /* [PATH-9] on the live sockets, now */
        c->connected_at = mtls_dial_connected_at(c->dial);
        if (mtls_route_of_socket(path1_fd(c, ssl), &c->path1) != 0)
            c->path1.known = false;
        mtls_dial_facts(c->dial, fd, &c->path2);
        c->scope = mtls_paths_scope(&c->path1, &c->path2);
        f->distinct = c->spec.distinct != 0 && (c->scope & c->spec.distinct) == c->spec.distinct;
    }
    mtls_try_end(out, fd);
}

static enum mtls_rsm_key compare(const struct mtls_confirmation *c, const struct mtls_try *t)
{
    if (!t->has_key || !c->has_key1)
        return MTLS_RSM_KEY_UNKNOWN;
    if (memcmp(t->key, c->key1, sizeof(t->key)) == 0) /* public, not secret */
        return MTLS_RSM_KEY_SAME;
    for (uint8_t i = 0; i < c->config.nalternate; i++)
        if (memcmp(t->key, c->config.alternate[i], sizeof(t->key)) == 0) /* public, not secret */
            return MTLS_RSM_KEY_ALTERNATE;
    return MTLS_RSM_KEY_OTHER;
}

/* One path after the other until one is open; the ticket goes out once. */
static void ask_path2(struct mtls_confirmation *c, SSL *ssl, struct mtls_rsm_facts *f,
                      mtls_tstamp until)
{
    SSL_SESSION *ticket = c->tickets.first;
    mtls_tstamp now;

    if (c->dial != NULL || c->main.error != 0)
        attempt(c, ssl, ticket, &c->main, f, until);
    else
        c->main.error = MTLS_ERR_PATH_NONE;
    while (c->main.end == MTLS_RSM_NOT_MADE && (now = mtls_now()) < until && next_spec(c)) {
        c->main.error = dial(c, (uint32_t)((until - now) / 1000 + 1));
        attempt(c, ssl, ticket, &c->main, f, until);
    }
    f->ticket = c->main.ticket;
    f->end = c->main.end;
    f->alert = c->main.alert;
    f->psk = c->main.psk;
    f->chain_valid = c->main.chain_valid;
    f->key = compare(c, &c->main);
    c->path2_at = mtls_now();
}

/* [RSM-6] */
static void gather_evidence(struct mtls_confirmation *c, SSL *ssl, mtls_tstamp until)
{
    mtls_tstamp limit = mtls_now() + EVIDENCE_US;

    if (c->reason != MTLS_RSM_WHY_TICKET_REFUSED || dial(c, EVIDENCE_US / 1000) != 0)
        return;
    attempt(c, ssl, NULL, &c->evidence, NULL, limit < until ? limit : until);
    c->has_evidence = true;
}

/* Chain and name; where libssl was not told the name (curl checks it itself, later), here. The mode
 * is not asked: libssl judges the chain in SSL_VERIFY_NONE, too, and newer curls look at its result
 * themselves. */
static bool checked(const struct mtls_confirmation *c, SSL *ssl, X509 *cert)
{
    return cert != NULL && SSL_get_verify_result(ssl) == X509_V_OK &&
           (mtls_checks_name(ssl) || mtls_name_fits(cert, c->name));
}

static mtls_tstamp ticket_limit(int fd, mtls_tstamp now, mtls_tstamp until)
{
    mtls_tstamp wait = 4ull * mtls_path2_rtt_us(fd);
    mtls_tstamp limit = now + (wait > TICKET_WAIT_US ? wait : TICKET_WAIT_US);

    return limit < until ? limit : until;
}

/* What path 1 says by itself; false: path 2 is not asked. */
static bool look_at_path1(struct mtls_confirmation *c, SSL *ssl, struct mtls_rsm_facts *f)
{
    X509 *cert = SSL_get1_peer_certificate(ssl);
    struct mtls_record record;
    int fd = path1_fd(c, ssl);

    c->ready_at = mtls_now();
    c->has_key1 = mtls_key_of(cert, c->key1);
    if (c->config.evidence[0] != '\0')
        mtls_chain_keep(&c->chain1, ssl);
    f->checked = checked(c, ssl, cert);
    X509_free(cert);
    if (mtls_route_of_socket(fd, &c->path1) != 0)
        c->path1.known = false;
    f->tls13 = SSL_version(ssl) >= TLS1_3_VERSION;
    f->remembered = c->offered_valid;
    f->path1_open = true;
    if (!f->tls13)
        return false;
    f->record = SSL_session_reused(ssl) == 1 && mtls_has_key_exchange(ssl) &&
                record_fits(c, SSL_get_session(ssl), &record);
    if (f->record) {
        c->record = record;
        return false;
    }
    if (c->dial == NULL && c->main.error == 0 && next_spec(c))
        c->main.error = dial(c, c->config.deadline_ms);
    mtls_tickets_begin(&c->tickets, ssl, fd, c->fed);
    return true;
}

/* The steps of section 20 in their order; false: to be called again once ssl was fed. */
static bool confirm(struct mtls_confirmation *c, SSL *ssl, struct mtls_rsm_facts *f)
{
    if (c->ready_at == 0 && !look_at_path1(c, ssl, f))
        return true;
    if (!mtls_tickets_take(&c->tickets, ssl, true,
                           ticket_limit(c->tickets.fd, c->ready_at, c->until)))
        return false;
    c->ticket_at = mtls_now();
    f->path1_open = !c->tickets.closed;
    if (f->path1_open)
        ask_path2(c, ssl, f, c->until);
    return true;
}

/* ---- what becomes of the verdict ---- */

static bool put_record(SSL_SESSION *session, const struct mtls_record *record)
{
    uint8_t out[MTLS_RECORD_MAX];
    int len = mtls_record_encode(record, out, sizeof(out));

    return len > 0 && SSL_SESSION_set1_ticket_appdata(session, out, (size_t)len) == 1;
}

/* [RSM-15]: into the spare ticket, and into path 1's session, from which later tickets inherit it.
 */
static void keep(struct mtls_confirmation *c, SSL *ssl)
{
    SSL_SESSION *session;

    if (!c->leave_rest)
        (void)mtls_tickets_take(&c->tickets, ssl, false, 0); /* each is another session object */
    session = SSL_get_session(ssl);
    if (c->config.resume_max_s == 0)
        return;
    c->record = (struct mtls_record){.mode = MTLS_MODE_RESUME,
                                     .k = 1,
                                     .scope = (uint8_t)c->scope,
                                     .verified_at = mtls_wallclock(),
                                     .max_age_s = c->config.resume_max_s,
                                     .port = c->port};
    memcpy(c->record.name, c->name, sizeof(c->record.name));
    if (session != NULL)
        (void)put_record(session, &c->record);
    if (c->tickets.spare != NULL && put_record(c->tickets.spare, &c->record)) {
        c->spare = c->tickets.spare;
        SSL_SESSION_up_ref(c->spare);
    }
}

/* [RSM-13] */
static void forget(SSL *ssl)
{
    SSL_SESSION *session = SSL_get_session(ssl);

    if (session == NULL)
        return;
    (void)SSL_SESSION_set1_ticket_appdata(session, NULL, 0);
    (void)SSL_CTX_remove_session(SSL_get_SSL_CTX(ssl), session);
}

static int refusal(enum mtls_rsm_verdict verdict)
{
    return verdict == MTLS_RSM_ALARM        ? MTLS_ERR_CONFIRM_ALARM
           : verdict == MTLS_RSM_CONSISTENT ? MTLS_ERR_CONFIRM_CONSISTENT
                                            : MTLS_ERR_CONFIRM_UNPROVEN;
}

static void judge(struct mtls_confirmation *c, SSL *ssl, const struct mtls_rsm_facts *f,
                  mtls_tstamp until)
{
    enum mtls_rsm_verdict verdict;

    c->reason = mtls_rsm_judge(f);
    verdict = mtls_rsm_verdict_of(c->reason);
    c->allowed =
        mtls_rsm_allows(c->config.policy, c->config.accept_consistent, f->remembered, verdict);
    c->verdict_at = mtls_now();
    if (c->reason == MTLS_RSM_WHY_RESUMED)
        keep(c, ssl);
    else if (f->record)
        c->scope = c->record.scope;
    if (verdict != MTLS_RSM_VERIFIED)
        c->scope = 0;
    if (!c->allowed)
        forget(ssl);
    mtls_confirmation_put_texts(c);
    gather_evidence(c, ssl, until);
    mtls_confirmation_keep_evidence(c, ssl);
}

/* Errors of the caller, before anything is done. */
static int refuse(const struct mtls_confirmation *c, SSL *ssl)
{
    if (c->ran || ssl == NULL || SSL_is_server(ssl) || !SSL_is_init_finished(ssl) ||
        path1_fd(c, ssl) < 0)
        return MTLS_ERR_ARG;
    return SSL_get_privatekey(ssl) != NULL && !c->config.expose_certificate ? MTLS_ERR_CLIENT_CERT
                                                                            : 0;
}

int mtls_confirmation_run(struct mtls_confirmation *c, SSL *ssl)
{
    if (c == NULL) {
        mtls_raise(MTLS_ERR_ARG, NULL);
        return 0;
    }
    return mtls_confirmation_go_on(c, ssl) == 1;
}

int mtls_confirmation_go_on(struct mtls_confirmation *c, SSL *ssl)
{
    struct mtls_rsm_facts *f = &c->facts;
    int err = c->hungry ? 0 : refuse(c, ssl), fd, flags;

    if (err != 0) {
        mtls_raise(err, NULL);
        return 0;
    }
    if (!c->ran)
        c->until = mtls_now() + c->config.deadline_ms * 1000ull;
    c->ran = true;
    fd = path1_fd(c, ssl);
    flags = fcntl(fd, F_GETFL);
    f->broken = flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0;
    ERR_clear_error();
    c->hungry = !f->broken && !confirm(c, ssl, f);
    if (!c->hungry)
        judge(c, ssl, f, c->until);
    if (flags >= 0)
        (void)fcntl(fd, F_SETFL, flags);
    if (c->hungry)
        return -1;
    ERR_clear_error();
    if (!c->allowed)
        mtls_raise(refusal(mtls_rsm_verdict_of(c->reason)), mtls_rsm_word(c->reason));
    return c->allowed;
}

void mtls_confirmation_free(struct mtls_confirmation *c)
{
    if (c == NULL)
        return;
    mtls_dial_free(c->dial);
    mtls_tickets_free(&c->tickets);
    SSL_SESSION_free(c->spare);
    sk_X509_pop_free(c->chain1, X509_free);
    sk_X509_pop_free(c->main.chain, X509_free);
    sk_X509_pop_free(c->evidence.chain, X509_free);
    free(c->bundle);
    free(c);
}
