/* Concept: memory across connections: the file of verified hosts (rule 12), and the ten minutes
 * after a late downgrade, in memory only (rule 7). */
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
static unsigned noted_next;

void mtls_downgrade_note(const char *name, uint16_t port, mtls_tstamp now)
{
    unsigned i = noted_next++ % NOTED_MAX; /* the oldest goes */

    memcpy(noted[i].name, name, strlen(name) + 1);
    noted[i].port = port;
    noted[i].until = now + NOTED_US;
}

bool mtls_downgrade_known(const char *name, uint16_t port, mtls_tstamp now)
{
    unsigned i;

    for (i = 0; i < NOTED_MAX; i++) {
        if ((noted[i].port == port || port == 0) && noted[i].until > now &&
            strcmp(noted[i].name, name) == 0)
            return true;
    }
    return false;
}

static const char *memory_file(const struct mtls_session *s)
{
    return s->hook->config.hosts[0] != '\0' && s->name[0] != '\0' ? s->hook->config.hosts : NULL;
}

void mtls_remember_look(struct mtls_session *s, struct mtls_host_record *record)
{
    const char *file = memory_file(s);
    int rc = file != NULL ? mtls_hostfile_get(file, s->name, s->port, mtls_wallclock(), record) : 0;

    /* The file knows names with their port only: an unknown port cannot be ruled out. */
    s->remembered = rc != 0 || (file != NULL && s->port == 0);
    s->memory_error = 0;
    if (rc < 0) {
        memset(record, 0, sizeof(*record));
        /* An unreadable memory is never an empty one: prefer then treats every host as remembered.
         * [MEM] */
        if (s->hook->config.policy == MTLS_POLICY_REQUIRE)
            s->memory_error = rc;
    }
}

/* Only where the certificate was accepted and the name was checked, by libssl or by the
 * application's word. [MEM] */
static bool certificate_checked(const struct mtls_session *s)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(s->ssl);
    bool name = s->name_checked || X509_VERIFY_PARAM_get0_host(param, 0) != NULL ||
                X509_VERIFY_PARAM_get0_email(param) != NULL;
    char *ip = X509_VERIFY_PARAM_get1_ip_asc(param);

    name = name || ip != NULL;
    OPENSSL_free(ip);
    return name && (SSL_get_verify_mode(s->ssl) & SSL_VERIFY_PEER) != 0 &&
           SSL_get_verify_result(s->ssl) == X509_V_OK;
}

void mtls_remember_verified(struct mtls_session *s)
{
    const char *file = memory_file(s);
    struct mtls_host_record record = {0}, before;
    int64_t now_at = mtls_wallclock();
    uint8_t i;
    int rc;

    if (file == NULL || !certificate_checked(s))
        return;
    if (s->ee.max_age == 0) {
        (void)!mtls_hostfile_forget(file, s->name, s->port);
        return;
    }
    rc = mtls_hostfile_get(file, s->name, s->port, now_at, &before);
    if (rc < 0 || (rc == 1 && now_at - before.verified_at < REFRESH_S))
        return;
    record.verified_at = now_at;
    record.expires_at = now_at + s->ee.max_age;
    record.k = (uint8_t)s->confirmed_paths;
    record.scope = (uint8_t)s->scope;
    record.naddr = s->ee.naddr < MTLS_HOSTMEM_ADDRS_MAX ? s->ee.naddr : MTLS_HOSTMEM_ADDRS_MAX;
    memcpy(record.addrs, s->ee.addrs, record.naddr * sizeof(record.addrs[0]));
    for (i = 0; i < record.naddr; i++) { /* 0 stands for the port beside them */
        if (record.addrs[i].port == 0)
            record.addrs[i].port = s->ee.port != 0 ? s->ee.port : MTLS_PORT_DEFAULT;
    }
    (void)!mtls_hostfile_put(file, s->name, s->port, &record, now_at);
}
