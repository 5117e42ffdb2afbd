/* Concept: a server's sessions in the fuzz targets of path 2: begun, given keys, ended. */
#ifndef MTLS_FUZZ_PATH2_FUZZ_SESSIONS_H
#define MTLS_FUZZ_PATH2_FUZZ_SESSIONS_H

#include "mtls/core/path2_server.h"
#include "path2_fuzz.h"

struct fuzz_session {
    struct mtls_p2s_session *session; /* NULL: none */
    struct mtls_keys keys;
    uint8_t slot; /* where processes share */
    bool have_keys, confirmed;
};

static inline void session_begin(struct fuzz_session *x, struct mtls_p2s *server,
                                 const uint8_t join[MTLS_JOIN_LEN], mtls_tstamp now)
{
    int rc;

    memset(x, 0, sizeof(*x));
    rc = mtls_p2s_session_new(&x->session, server, join, x, now);
    check(rc == 0 || rc == MTLS_ERR_LIMIT || rc == MTLS_ERR_JOIN_REUSED);
}

static inline void session_keys(struct fuzz_session *x, uint8_t seed, mtls_tstamp now)
{
    if (x->session == NULL || x->have_keys)
        return;
    keys_of(seed, &x->keys);
    x->have_keys = true;
    check(mtls_p2s_session_keys(x->session, &x->keys, now) == 0);
}

static inline void session_finish(struct fuzz_session *x, uint8_t reason, mtls_tstamp now)
{
    mtls_p2s_session_free(x->session, reason, now);
    memset(x, 0, sizeof(*x));
}

#endif
