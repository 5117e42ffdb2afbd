/* A link that is SMKEX's. */
#include "link_smkex.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

struct link {
    struct smkex *s;
};

struct link *link_smkex_new(struct smkex *s)
{
    struct link *l = calloc(1, sizeof *l);

    if (l != NULL)
        l->s = s;
    else
        smkex_free(s);
    return l;
}

struct smkex *link_get0_smkex(const struct link *l)
{
    return l != NULL ? l->s : NULL;
}

void link_free(struct link *l)
{
    if (l == NULL)
        return;
    smkex_free(l->s);
    free(l);
}

static enum link_result result(const struct link *l, int rc, struct tls_failure *why)
{
    bool net = rc == MTLS_ERR_SMKEX_TRUNCATED || rc == MTLS_ERR_PEER_CLOSED || rc == MTLS_ERR_IO;

    if (rc >= 0)
        return LINK_OK;
    if (rc == SMKEX_WANT_READ)
        return LINK_WANT_READ;
    if (rc == SMKEX_WANT_WRITE)
        return LINK_WANT_WRITE;
    if (rc == SMKEX_RECONNECT)
        why->kind = TLS_FAILURE_RECONNECT;
    else if (smkex_get_outcome(l->s) == SMKEX_OUTCOME_FAILED)
        why->kind = TLS_FAILURE_MTLS;
    else
        why->kind = net ? TLS_FAILURE_NET : TLS_FAILURE_TLS;
    why->code = why->kind == TLS_FAILURE_MTLS ? rc : 0;
    snprintf(why->text, sizeof why->text, "%s", mtls_error_string(rc));
    return LINK_FAILED;
}

enum link_result link_handshake(struct link *l, struct tls_failure *why)
{
    return result(l, smkex_handshake(l->s), why);
}

enum link_result link_read(struct link *l, void *buf, size_t room, size_t *got,
                           struct tls_failure *why)
{
    int rc = smkex_read(l->s, buf, room);

    *got = rc > 0 ? (size_t)rc : 0;
    return rc == 0 ? LINK_END : result(l, rc, why);
}

enum link_result link_write(struct link *l, const void *data, size_t len, size_t *put,
                            struct tls_failure *why)
{
    int rc = smkex_write(l->s, data, len);

    *put = rc > 0 ? (size_t)rc : 0;
    return result(l, rc, why);
}

enum link_result link_flush(struct link *l, struct tls_failure *why)
{
    return result(l, smkex_flush(l->s), why);
}

enum link_result link_shutdown(struct link *l, struct tls_failure *why)
{
    return result(l, smkex_shutdown(l->s), why);
}
