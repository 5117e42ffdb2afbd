/* Concept: memory across connections: the file of verified hosts (rule 12), and the ten minutes
 * after a late downgrade, in memory only (rule 7). */
#include <stdlib.h>
#include <string.h>

#include <openssl/x509.h>

#include "../net/hostfile.h"
#include "glue.h"

enum { NOTED_MAX = 256, REFRESH_S = 3600 };
#define NOTED_US (600ull * 1000000)

static struct { /* engine lock */
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    mtls_tstamp until;
} noted[NOTED_MAX];
static unsigned noted_next, noted_used;

void mtls_downgrade_note(const char *name, uint16_t port, mtls_tstamp now)
{
    unsigned i = noted_next++ % NOTED_MAX; /* the oldest goes */

    if (noted_used < NOTED_MAX)
        noted_used++;
    memcpy(noted[i].name, name, strlen(name) + 1);
    noted[i].port = port;
    noted[i].until = now + NOTED_US;
}

bool mtls_downgrade_known(const char *name, uint16_t port, mtls_tstamp now)
{
    unsigned i;

    for (i = 0; i < noted_used; i++) {
        if ((noted[i].port == port || port == 0) && noted[i].until > now &&
            strcmp(noted[i].name, name) == 0)
            return true;
    }
    return false;
}

static const char *memory_file(const struct mtls_session *s)
{
    return s->hook->config.hosts[0] != '\0' && s->hs->name[0] != '\0' ? s->hook->config.hosts
                                                                      : NULL;
}

void mtls_remember_look(struct mtls_session *s, struct mtls_host_record *record)
{
    struct mtls_handshake *hs = s->hs;
    const char *file = memory_file(s);
    int rc =
        file != NULL ? mtls_hostfile_get(file, hs->name, hs->port, mtls_wallclock(), record) : 0;

    /* The file knows names with their port only: an unknown port cannot be ruled out. */
    hs->remembered = rc != 0 || (file != NULL && hs->port == 0);
    hs->memory_error = 0;
    if (rc < 0) {
        memset(record, 0, sizeof(*record));
        /* An unreadable memory is never an empty one: prefer then treats every host as remembered.
         * [MEM] */
        if (s->hook->config.policy == MTLS_POLICY_REQUIRE)
            hs->memory_error = rc;
    }
}

/* What a verified session has to say to the memory. It is kept where only the application's word
 * that the name was checked is missing. */
struct mtls_verified {
    struct mtls_host_record record;
    uint16_t port;
    char name[]; /* canonical */
};

static bool chain_checked(const SSL *ssl)
{
    return (SSL_get_verify_mode(ssl) & SSL_VERIFY_PEER) != 0 &&
           SSL_get_verify_result(ssl) == X509_V_OK;
}

/* By libssl, or by the application's word. */
static bool name_checked(const struct mtls_session *s)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
    bool name = s->name_checked || X509_VERIFY_PARAM_get0_host(param, 0) != NULL ||
                X509_VERIFY_PARAM_get0_email(param) != NULL;
    char *ip = X509_VERIFY_PARAM_get1_ip_asc(param);

    name = name || ip != NULL;
    OPENSSL_free(ip);
    return name;
}

static struct mtls_verified *verified_new(const struct mtls_session *s)
{
    const struct mtls_ext_ee *ee = &s->hs->facts->ee;
    size_t len = strlen(s->hs->name) + 1;
    struct mtls_verified *v = calloc(1, sizeof(*v) + len);
    struct mtls_host_record *r;
    uint8_t i;

    if (v == NULL)
        return NULL;
    memcpy(v->name, s->hs->name, len);
    v->port = s->hs->port;
    r = &v->record;
    r->verified_at = mtls_wallclock();
    r->expires_at = r->verified_at + ee->max_age;
    r->k = s->confirmed_paths;
    r->scope = s->scope;
    r->naddr = ee->naddr < MTLS_HOSTMEM_ADDRS_MAX ? ee->naddr : MTLS_HOSTMEM_ADDRS_MAX;
    memcpy(r->addrs, ee->addrs, r->naddr * sizeof(r->addrs[0]));
    for (i = 0; i < r->naddr; i++) { /* 0 stands for the port beside them */
        if (r->addrs[i].port == 0)
            r->addrs[i].port = ee->port != 0 ? ee->port : MTLS_PORT_DEFAULT;
    }
    return v;
}

static int verified_write(const char *file, const struct mtls_verified *v)
{
    const struct mtls_host_record *r = &v->record;
    struct mtls_host_record before;
    int64_t now_at = mtls_wallclock();
    int rc;

    if (r->expires_at == r->verified_at) /* the server wants to be forgotten */
        return mtls_hostfile_forget(file, v->name, v->port);
    rc = mtls_hostfile_get(file, v->name, v->port, now_at, &before);
    if (rc < 0 || (rc == 1 && r->verified_at - before.verified_at < REFRESH_S))
        return rc;
    return mtls_hostfile_put(file, v->name, v->port, r, now_at);
}

/* Only where the certificate was accepted and the name was checked. [MEM] */
void mtls_remember_verified(struct mtls_session *s)
{
    if (memory_file(s) == NULL || !chain_checked(s->ssl))
        return;
    s->verified = verified_new(s);
    mtls_remember_checked(s);
}

void mtls_remember_checked(struct mtls_session *s)
{
    int rc;

    if (s->verified == NULL || !name_checked(s))
        return;
    rc = verified_write(s->hook->config.hosts, s->verified);
    s->memory_error = (int16_t)(rc < 0 ? rc : 0);
    mtls_remember_drop(s);
}

void mtls_remember_drop(struct mtls_session *s)
{
    free(s->verified);
    s->verified = NULL;
}
