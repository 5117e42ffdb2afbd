/* Concept: the evidence bundle of an SMKEX session: OFFER and ANSWER, which hold no secret, their
 * hash, what each path showed, addresses and times. `mtls-client explain` puts it into words. */
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>

#include "mtls/mtls.h"
#include "mtls/net/evidence_file.h"

static void put_hex(BIO *out, const uint8_t *data, size_t len)
{
    if (len == 0)
        BIO_puts(out, "-");
    for (size_t i = 0; i < len; i++)
        BIO_printf(out, "%02x", data[i]);
}

static void put_bytes(BIO *out, const char *key, const uint8_t *data, size_t len)
{
    BIO_printf(out, "%s ", key);
    put_hex(out, data, len);
    BIO_puts(out, "\n");
}

/* What both ends can compare: the join, and the hash that all keys come from. */
static void put_exchange(BIO *out, const struct smkex *s)
{
    struct mtls_bytes sent, received;
    size_t len;
    const uint8_t *hash = smkex_machine_hash(s->m, &len);

    smkex_machine_messages(s->m, &sent, &received);
    put_bytes(out, "join", smkex_machine_join(s->m), MTLS_JOIN_LEN);
    put_bytes(out, "transcript-hash", hash, len);
    put_bytes(out, s->server ? "answer" : "offer", sent.data, sent.len);
    put_bytes(out, s->server ? "offer" : "answer", received.data, received.len);
}

static const char *word(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void put_paths(BIO *out, struct smkex *s)
{
    struct mtls_path_info p;

    for (size_t i = 0; smkex_get_path(s, i, &p) == 0; i++)
        BIO_printf(out, "path %zu %s %s %s %s %s\n", i + 1, word(p.local), word(p.remote),
                   word(p.device), word(p.state), p.error != 0 ? mtls_error_name(p.error) : "-");
}

static void put_bundle(BIO *out, struct smkex *s)
{
    time_t now = time(NULL);
    struct tm tm;
    char when[32] = "-", *report = smkex_report_json(s);

    if (gmtime_r(&now, &tm) != NULL)
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    BIO_printf(out, "mtls-evidence 1\nwritten-at %s\nlibrary %s\nopenssl %s\nrole %s\nmode smkex\n",
               when, mtls_version(), OpenSSL_version(OPENSSL_VERSION),
               s->server ? "server" : "client");
    BIO_printf(out, "outcome %s\nreason %s\nmeaning %s\nname %s\nport %u\n",
               smkex_outcome_name(s->outcome), s->reason != 0 ? mtls_error_name(s->reason) : "-",
               s->reason != 0 ? mtls_error_string(s->reason) : "-", word(s->name), s->port);
    if (s->m != NULL)
        put_exchange(out, s);
    put_paths(out, s);
    BIO_printf(out, "report %s\nend\n", report != NULL ? report : "{}");
    OPENSSL_free(report);
}

void smkex_evidence_write(struct smkex *s)
{
    const struct mtls_config *c = &s->ctx->config;
    BIO *out;
    char *data;
    long len;

    if (c->evidence[0] == '\0' || s->generation != mtls_engine_generation() ||
        (s->outcome != SMKEX_OUTCOME_FAILED && !c->evidence_all))
        return;
    out = BIO_new(BIO_s_mem());
    s->evidence_error = MTLS_ERR_NOMEM;
    if (out == NULL)
        return;
    put_bundle(out, s);
    len = BIO_get_mem_data(out, &data);
    s->evidence_error = len <= 0 || len > MTLS_EVIDENCE_FILE_MAX
                            ? MTLS_ERR_LIMIT
                            : mtls_evidence_file(c->evidence, s->server ? "server" : "client", data,
                                                 (size_t)len, &s->evidence);
    BIO_free(out);
}
