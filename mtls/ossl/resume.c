/* Concept: the resumption record in tickets (rule 9): kept in SSL_SESSION's ticket_appdata on both
 * sides, so that it travels in the server's ticket and in the client's stored session. */
#include <string.h>

#include "glue.h"

bool mtls_resume_record_of(const SSL_SESSION *session, struct mtls_record *record)
{
    void *data = NULL;
    size_t len = 0;

    return session != NULL &&
           SSL_SESSION_get0_ticket_appdata((SSL_SESSION *)(uintptr_t)session, &data, &len) == 1 &&
           data != NULL && mtls_record_parse(data, len, record) == 0;
}

static uint8_t wanted_scope(const struct mtls_config *c)
{
    uint8_t i, scope = 0;

    for (i = 0; i < c->npath2; i++)
        scope |= c->path2[i].distinct;
    return scope;
}

/* At a time, in seconds from now. */
static bool record_fits_in(const struct mtls_session *s, int64_t seconds)
{
    struct mtls_record record;
    const struct mtls_config *c = &s->hook->config;
    /* A server's own needs are its age limit and the name; how many paths are enough is the
     * client's policy. */
    uint8_t k = s->server ? 1 : c->need, scope = s->server ? 0 : wanted_scope(c);

    return mtls_resume_record_of(SSL_get_session(s->ssl), &record) &&
           mtls_record_valid(&record, s->hs->name, s->hs->port, k, scope, c->resume_max_s,
                             mtls_wallclock() + seconds);
}

static bool record_fits(const struct mtls_session *s)
{
    return record_fits_in(s, 0);
}

bool mtls_resume_outlasts(const struct mtls_session *s)
{
    return s->hs->record_offered && record_fits_in(s, s->hook->config.deadline_ms / 1000 + 1);
}

void mtls_resume_client_hello(struct mtls_session *s)
{
    s->hs->record_offered = record_fits(s);
}

/* psk_dhe_ke only: without a key exchange whoever has the ticket key reads on. [RES] A client whose
 * message call-back was taken asks libssl instead: having said that it needs no PROOF, it gets none
 * [RES-11]. */
static bool resumed_with_key_share(struct mtls_session *s)
{
    struct mtls_transcript_facts facts;
    EVP_PKEY *share = NULL;

    mtls_transcript_facts(s->hs->transcript, &facts);
    if (SSL_session_reused(s->ssl) != 1)
        return false;
    if (facts.server_hello || s->server)
        return facts.psk && facts.key_share && facts.tls13;
    if (SSL_version(s->ssl) != TLS1_3_VERSION)
        return false;
    if ((SSL_get_options(s->ssl) & SSL_OP_ALLOW_NO_DHE_KEX) == 0)
        return true; /* libssl takes nothing else; of a KEM (ML-KEM) there is no peer's key */
    if (SSL_get_peer_tmp_key(s->ssl, &share) != 1)
        return false;
    EVP_PKEY_free(share);
    return true;
}

/* The session that was selected, not the one that was offered: an external PSK is "reused" too.
 * [RES-2] */
void mtls_resume_client_answer(struct mtls_session *s)
{
    struct mtls_handshake *hs = s->hs;

    hs->resumed_ok = hs->record_offered && resumed_with_key_share(s) && record_fits(s) &&
                     (hs->facts->ee.flags & MTLS_EE_CONFIRM_NEEDED) == 0;
}

void mtls_resume_server_answer(struct mtls_session *s)
{
    s->hs->resumed_ok = resumed_with_key_share(s) && record_fits(s);
}

void mtls_resume_store(struct mtls_session *s)
{
    struct mtls_record r = {.mode = MTLS_MODE_EXPORTER,
                            .verified_at = mtls_wallclock(),
                            .max_age_s = s->hook->config.resume_max_s,
                            .port = s->hs->port};
    SSL_SESSION *session = SSL_get_session(s->ssl);
    uint8_t out[MTLS_RECORD_MAX];
    int len;

    /* A reused SSL_SESSION may be shared with other handshakes of the application: it keeps what it
     * has, and verified_at is never renewed by resumption. [RES] */
    if (session == NULL || s->hook->config.resume_max_s == 0 || SSL_session_reused(s->ssl) == 1)
        return;
    r.k = (uint8_t)s->confirmed_paths;
    r.scope = s->server ? MTLS_DISTINCT_CLIENT
                        : (uint8_t)s->scope; /* a server cannot judge; it never asks */
    memcpy(r.name, s->hs->name, sizeof(r.name));
    len = mtls_record_encode(&r, out, sizeof(out));
    if (len > 0)
        (void)SSL_SESSION_set1_ticket_appdata(session, out,
                                              (size_t)len); /* without it: confirmed anew */
}

void mtls_resume_forget(struct mtls_session *s)
{
    SSL_SESSION *session = SSL_get_session(s->ssl);

    /* Before the server's answer a client still has the session that it offered. It may be offered
     * by other handshakes at this moment, and failed in none; one of this handshake's own has no
     * ticket yet. */
    if (session == NULL ||
        (!s->server && SSL_session_reused(s->ssl) == 0 && SSL_SESSION_is_resumable(session) == 1))
        return;
    if (SSL_session_reused(s->ssl) == 0)
        (void)SSL_SESSION_set1_ticket_appdata(session, NULL, 0);
    (void)SSL_CTX_remove_session(SSL_get_SSL_CTX(s->ssl), session);
}
