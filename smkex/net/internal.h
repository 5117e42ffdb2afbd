/* Concept: SMKEX's objects over sockets: what a context and a connection hold. The connection's
 * thread and the reactor meet in what is marked L, under the engine lock. Nobody else includes it.
 */
#ifndef SMKEX_NET_INTERNAL_H
#define SMKEX_NET_INTERNAL_H

#include <pthread.h>

#include "mtls/smkex.h"

#include "mtls/core/decision.h"
#include "mtls/core/distinct.h"
#include "mtls/core/hostmem.h"
#include "mtls/core/subflows.h"
#include "mtls/net/engine.h"
#include "mtls/net/path2_pool.h"
#include "mtls/net/path2_service.h"
#include "mtls/net/reactor.h"
#include "mtls/net/secondary.h"
#include "smkex/core/machine.h"
#include "smkex/core/words.h"

struct smkex_ctx {
    int refs; /* atomic; connections hold one */
    struct mtls_config config;
    struct smkex_words words;
    struct mtls_crypto *proofs;  /* the engine's: L */
    struct smkex_crypto *crypto; /* any thread */
    EVP_PKEY *key;
    struct mtls_addr bound[MTLS_LISTEN_MAX];
    char bound_text[MTLS_LISTEN_MAX][64];
};
void smkex_ctx_unref(struct smkex_ctx *ctx);

enum smkex_step {
    SMKEX_STEP_OFFER,
    SMKEX_STEP_CONNECTED, /* path 2 */
    SMKEX_STEP_HELLO,
    SMKEX_STEP_READY,
    SMKEX_STEP_PROOF,
    SMKEX_STEP_ANSWER,
    SMKEX_STEP_DECIDED,
    SMKEX_STEPS
};

struct smkex_text { /* of a path, for queries */
    char local[56], remote[56], via[56], shares[128];
};

enum smkex_phase {
    SMKEX_PHASE_EXCHANGE,  /* OFFER and ANSWER */
    SMKEX_PHASE_NEGATIVE,  /* client: path 1 does not speak SMKEX; path 2 and the policy decide */
    SMKEX_PHASE_DECIDE,    /* keys are there */
    SMKEX_PHASE_OPEN,      /* decided: encrypted */
    SMKEX_PHASE_RECONNECT, /* decided: plain, but this connection is used up */
    SMKEX_PHASE_PLAIN,
    SMKEX_PHASE_FAILED,
};

struct smkex {
    struct smkex_ctx *ctx;
    bool server, wrote_end;
    int fd;
    unsigned generation;
    enum smkex_phase phase;
    enum smkex_outcome outcome;
    int reason, negative; /* negative: why path 1 does not speak SMKEX */
    unsigned scope, confirmed_paths;
    enum smkex_key key;
    int memory_error, evidence_error;
    char *evidence; /* the bundle's file */
    struct smkex_machine *m;
    uint64_t times[SMKEX_STEPS];
    mtls_tstamp deadline_at, grace_from, grace_end_at;
    pthread_cond_t changed;   /* on the engine lock */
    struct mtls_timer *timer; /* L */

    /* L: the wait for path 2 */
    bool waiting, gated, silent; /* silent: the client's grace runs */
    int saved_lowat;

    struct smkex_text text[1 + MTLS_PATHS_MAX];

    /* client */
    char name[MTLS_HOST_MAX + 1];
    uint16_t port;
    bool name_literal, remembered;
    struct mtls_host_record record; /* of the memory, if remembered */
    uint8_t secret[MTLS_SECRET_LEN];
    struct mtls_path_facts path1;
    uint8_t npaths;
    struct mtls_secondary *paths;
    unsigned selected; /* L: of the last evaluation */

    /* path 2 in the same connection: over.c */
    struct smkex_over *over;
    int over_error;    /* why it could not be had, or was not given back */
    bool over_missing; /* and nothing else will do */

    /* server */
    struct mtls_service_session *service; /* L */
    bool confirmed;                       /* L */
    uint8_t d[MTLS_SHA256_LEN], k, n;     /* L */
    struct mtls_addr path2_local, path2_peer;
};

/* conn.c */
int smkex_fail(struct smkex *s, int reason);
/* Decided, not failed: leaves the engine. */
void smkex_decided(struct smkex *s, enum smkex_outcome outcome, int reason);
/* From the reactor, lock held: look again. */
void smkex_wake(struct smkex *s, mtls_tstamp now);
/* The handshake's bytes: reads until missing bytes of the message are left, or it is whole. 0:
 * done; SMKEX_WANT_READ; an error. */
int smkex_fill(struct smkex *s, size_t leave);
/* Writes what waits. 0, SMKEX_WANT_WRITE or an error. */
int smkex_flush_out(struct smkex *s);
/* Waits for the socket, if it is a blocking one, until a time. 0: ready or again; SMKEX_WANT_*. */
int smkex_await(struct smkex *s, short events, mtls_tstamp until);
bool smkex_is_blocking(const struct smkex *s);

/* client.c, server.c: one step of the handshake: 0 done, SMKEX_WANT_*, an error. */
int smkex_client_begin(struct smkex *s, const char *name);
void smkex_client_claim(struct smkex *s); /* lock held: path 2 begins */
int smkex_client_step(struct smkex *s);
/* What a waiting client would be told now (lock held). */
struct mtls_decision smkex_client_evaluate(struct smkex *s, bool at_write, mtls_tstamp now);
int smkex_server_begin(struct smkex *s);
int smkex_server_step(struct smkex *s);

/* paths.c; lock held but for plan and free_plan */
int smkex_paths_plan(struct smkex *s);
void smkex_paths_start(struct smkex *s);
/* Which paths count, judged now: s->selected and s->scope [PATH-9]. */
void smkex_paths_select(struct smkex *s);
int smkex_paths_confirm(struct smkex *s, uint8_t d[MTLS_SHA256_LEN], uint8_t *k, uint8_t *n);
void smkex_paths_leave(struct smkex *s, uint8_t fail_reason);

/* hold.c: path 2 has not decided. Lock held. 0: look again; SMKEX_WANT_READ; an error. */
int smkex_hold(struct smkex *s, mtls_tstamp until);
void smkex_unhold(struct smkex *s, bool fail);

/* over.c: path 2 as the second subflow of path 1's own connection [MPC]. begin: s->over says
 * whether; server: whether this connection could. grow, client, serve: 0 done, SMKEX_WANT_*, an
 * error. */
void smkex_over_begin(struct smkex *s);
bool smkex_over_server(struct smkex *s);
int smkex_over_grow(struct smkex *s);
int smkex_over_client(struct smkex *s);
int smkex_over_answered(struct smkex *s);
int smkex_over_serve(struct smkex *s);
/* Client, decided: whether the server's Finished has yet to come. Once it is here, the scheduler is
 * given the connection back [MPC-7]. */
bool smkex_over_steered(struct smkex *s);
mtls_tstamp smkex_over_sleeps(const struct smkex *s); /* until when */
/* Of the last look; NULL: there was none. */
const struct mtls_subflows *smkex_over_subflows(const struct smkex *s);
void smkex_over_free(struct smkex *s);

/* evidence.c: at the decision, without the lock: a bundle if the configuration asks for one. */
void smkex_evidence_write(struct smkex *s);

/* known.c */
int smkex_known_look(struct smkex *s);
/* At the decision [TOF-4]: sets s->key. 0, or why the key is refused. */
int smkex_known_check(struct smkex *s, bool verified);
void smkex_known_store(struct smkex *s);

#endif
