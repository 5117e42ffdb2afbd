/* Concept: the evidence bundle of a confirmation by resumption (evidence.h has the one of the
 * exporter proof): both paths' certificates, what path 2 answered, addresses and times; no ticket
 * and no key. */
#include <string.h>
#include <time.h>

#include <openssl/bio.h>
#include <openssl/crypto.h>
#include <openssl/x509.h>

#include "mtls/confirmation.h"

#include "confirmation.h"
#include "evidence.h"

enum { CERTS_MAX = 8, CERTS_BYTES = 1 << 15 };

void mtls_chain_keep(STACK_OF(X509) * *out, SSL *ssl)
{
    STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);

    sk_X509_pop_free(*out, X509_free);
    *out = chain != NULL ? X509_chain_up_ref(chain) : NULL;
}

static void put_hex(BIO *out, const unsigned char *data, size_t len)
{
    for (size_t i = 0; i < len; i++)
        BIO_printf(out, "%02x", (unsigned)data[i]);
}

/* "certificate CONNECTION NUMBER HEX", the server's own first; what is too much is left out. */
static void put_chain(BIO *out, const char *connection, STACK_OF(X509) * chain)
{
    int used = 0;

    for (int i = 0; i < sk_X509_num(chain) && i < CERTS_MAX; i++) {
        unsigned char *der = NULL;
        int len = i2d_X509(sk_X509_value(chain, i), &der);

        used += len;
        if (len > 0 && used <= CERTS_BYTES) {
            BIO_printf(out, "certificate %s %d ", connection, i);
            put_hex(out, der, (size_t)len);
            BIO_puts(out, "\n");
        }
        OPENSSL_free(der);
    }
}

static const char *word(const char *text)
{
    return text[0] != '\0' ? text : "-";
}

static void put_path(BIO *out, unsigned number, const struct mtls_path_facts *f, const char *state,
                     int error)
{
    char local[64] = "-", remote[64] = "-";

    if (f->local.family != 0)
        mtls_addr_format(&f->local, local, sizeof(local));
    if (f->remote.family != 0)
        mtls_addr_format(&f->remote, remote, sizeof(remote));
    BIO_printf(out, "path %u %s %s %s %s %s\n", number, local, remote, word(f->dev), state,
               error != 0 ? mtls_error_name(error) : "-");
}

static void put_try(BIO *out, const char *connection, const struct mtls_try *t)
{
    BIO_printf(out, "try %s %s %s %s ", connection, mtls_rsm_end_word(t->end),
               t->ticket ? "ticket" : "no-ticket", t->psk ? "resumed" : "not-resumed");
    if (t->end == MTLS_RSM_ALERTED)
        BIO_printf(out, "alert-%u\n", (unsigned)t->alert);
    else
        BIO_puts(out, "-\n");
}

static void put_bundle(BIO *out, const struct mtls_confirmation *c, SSL *ssl)
{
    time_t now = time(NULL);
    struct tm tm;
    char when[32] = "-", *report = mtls_confirmation_json(c);

    if (gmtime_r(&now, &tm) != NULL)
        strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
    BIO_printf(out, "mtls-evidence 1\nwritten-at %s\nlibrary %s\nopenssl %s\nrole client\n", when,
               mtls_version(), OpenSSL_version(OPENSSL_VERSION));
    BIO_printf(out, "mode resume\noutcome %s\nverdict %s\nreason %s\nmeaning %s\n",
               c->allowed ? "allowed" : "failed", mtls_verdict_name(mtls_confirmation_verdict(c)),
               mtls_confirmation_reason(c), mtls_confirmation_meaning(c));
    BIO_printf(out, "name %s\nport %u\ntls %s %s\n", c->name, (unsigned)c->port,
               SSL_get_version(ssl), SSL_get_cipher_name(ssl));
    put_path(out, 1, &c->path1, "-", 0);
    put_chain(out, "1", c->chain1);
    put_path(out, 2, &c->path2, mtls_rsm_end_word(c->main.end), c->main.error);
    put_try(out, "2", &c->main);
    put_chain(out, "2", c->main.chain);
    if (c->has_evidence) {
        put_try(out, "2-without-ticket", &c->evidence);
        put_chain(out, "2-without-ticket", c->evidence.chain);
    }
    BIO_printf(out, "report %s\nend\n", report != NULL ? report : "{}");
    OPENSSL_free(report);
}

void mtls_confirmation_keep_evidence(struct mtls_confirmation *c, SSL *ssl)
{
    BIO *out;
    char *data = NULL;
    long len;

    if (c->config.evidence[0] == '\0' || (c->allowed && !c->config.evidence_all))
        return;
    out = BIO_new(BIO_s_mem());
    c->bundle_error = MTLS_ERR_NOMEM;
    if (out == NULL)
        return;
    put_bundle(out, c, ssl);
    len = BIO_get_mem_data(out, &data);
    c->bundle_error =
        len <= 0 || len > MTLS_EVIDENCE_FILE_MAX
            ? MTLS_ERR_LIMIT
            : mtls_evidence_file(c->config.evidence, "client", data, (size_t)len, &c->bundle);
    BIO_free(out);
}
