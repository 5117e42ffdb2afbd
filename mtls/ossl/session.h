/* Concept: the session object: everything of ours that belongs to one SSL, from its ClientHello to
 * SSL_free. It is in two parts: what only the handshake needs is freed when the session is decided;
 * what stays is the outcome's record.
 *
 * It lives in the SSL's ex_data. Two threads touch it: the one that drives the handshake, and the
 * reactor. What both touch (marked L) is protected by the engine lock; the rest belongs to the
 * handshake's thread. The engine's references (claims, service session, timer) are taken away under
 * the lock before the object is freed. */
#ifndef MTLS_OSSL_SESSION_H
#define MTLS_OSSL_SESSION_H

#include <pthread.h>

#include <openssl/ssl.h>

#include "mtls/mtls.h"

#include "../core/config.h"
#include "../core/confirm.h"
#include "../core/decision.h"
#include "../core/hostmem.h"
#include "../core/record.h"
#include "../core/transcript.h"
#include "../core/wire_ext.h"
#include "../net/engine.h"
#include "../net/path2_pool.h"
#include "../net/path2_service.h"
#include "../net/reactor.h"
#include "../net/secondary.h"

/* What a hooked SSL_CTX carries (its ex_data); sessions hold a reference. */
struct mtls_hook {
    int refs; /* atomic */
    struct mtls_config config;
    struct mtls_crypto *crypto; /* the engine's */
    unsigned generation;        /* L: the engine's, when path 2 was last seen to be served */
    struct mtls_addr bound[MTLS_LISTEN_MAX];
    char bound_text[MTLS_LISTEN_MAX][64];
    mtls_msg_cb *msg_cb;
    void *msg_arg;
    mtls_msg_cb *chained_cb; /* atomic: interpose.h; its argument is the SSL's */
    mtls_outcome_cb *outcome_cb;
    void *outcome_arg;
    int (*security_cb)(const SSL *s, const SSL_CTX *ctx, int op, int bits, int nid, void *other,
                       void *ex);
};

/* Moved by events only, never read off libssl's state numbers. */
enum mtls_phase {
    MTLS_PHASE_START,    /* no ClientHello yet */
    MTLS_PHASE_HELLO,    /* our extension was sent (client) or parsed (server) */
    MTLS_PHASE_ANSWERED, /* the extension in EncryptedExtensions was parsed (client) or added
                            (server) */
    MTLS_PHASE_ARMED,    /* server: keys are with path 2, reads are held. client: keys are there, at
                            the write */
    MTLS_PHASE_CONFIRMED, /* server: CONFIRM is here, the client's Finished is not yet [SRV-2] */
    MTLS_PHASE_DECIDED,
    MTLS_PHASE_FAILED, /* sticky */
};

struct mtls_report;   /* report.h: what is shown of the session after the decision */
struct mtls_seen;     /* report.c */
struct mtls_gate;     /* gate.h: the filter BIO's state, gone after the decision */
struct mtls_evidence; /* evidence.h: what passed, for a bundle */
struct mtls_verified; /* remember.c: what the memory gets once the name is known to be checked */

/* What a client knows, apart from the rest so that a server's pending sessions are small. */
struct mtls_client_facts {
    struct mtls_path_facts path1; /* its ends at the ClientHello, all of it right behind that, and
                                     again at the decision */
    struct mtls_host_record stored;
    struct mtls_ext_ee ee; /* what the server said */
};

/* What only the handshake needs. There from the ClientHello (or the first thing that the
 * application tells) to the decision, then wiped and freed. */
struct mtls_handshake {
    struct mtls_transcript *transcript;
    struct mtls_evidence *evidence; /* evidence.h; NULL: not asked for */
    unsigned hellos, hellos_parsed; /* server: ClientHellos seen, and those with our extension */
    char *given_name;               /* mtls_set_name(), or NULL */
    bool path1_later; /* client: path 1's socket is learned when the ClientHello leaves */
    int later_error;  /* what came of it then */
    mtls_tstamp deadline_at;
    pthread_cond_t changed; /* on the engine lock */

    /* the extension */
    uint8_t hello_ext[MTLS_EXT_CH_MAX];
    size_t hello_ext_len;
    uint8_t secret[MTLS_SECRET_LEN], join[MTLS_JOIN_LEN];
    enum mtls_offer answered;
    bool resumed_ok;     /* [RES] the record vouches for this session */
    bool record_held;    /* server: the client says that it needs no PROOF then [RES-11] */
    bool record_offered; /* client: the session offered has a valid record */

    /* L: the reactor's side */
    bool confirmed; /* server */
    uint8_t confirmed_k, confirmed_n;
    mtls_tstamp confirmed_at;
    struct mtls_addr path2_local, path2_peer; /* server: of the confirming claim */
    struct mtls_keys keys;
    bool keys_ready;

    char name[MTLS_HOST_MAX + 1]; /* the server's */
    uint16_t port;                /* path 1's */
    struct mtls_addr path1_local; /* server */

    /* client */
    bool name_literal, remembered;
    int memory_error;
    uint8_t npaths;
    struct mtls_secondary *paths;
    mtls_tstamp grace_from, grace_end_at; /* from: ClientHello, or path 2's late start [DWN-5] */
    bool old_tls;                         /* ServerHello chose TLS below 1.3 */
    bool before_flight;                   /* L: holding before the first encrypted record */
    struct mtls_client_facts *facts;      /* from the ClientHello on */
    bool path1_asked;                     /* before the ClientHello */
    bool routes_asked;                    /* behind it */
    unsigned selected; /* L: mask of the paths that the last evaluation counted */
    bool paths_started;
};

struct mtls_session {
    SSL *ssl;
    struct mtls_hook *hook;
    struct mtls_handshake *hs; /* L to write; NULL exactly when it is decided or has failed */
    struct mtls_gate *gate;    /* L to write; NULL: not there yet, or gone */
    BIO *filters[2];           /* the gate's, taken off the SSL: freed with it, since libssl may be
                                  inside one, and the application may have kept SSL_get_rbio() */
    struct mtls_report *report;
    struct mtls_seen *seen; /* server: what the report is made of as soon as somebody asks */
    struct mtls_verified *verified;
    struct mtls_late *late;               /* L: after a plain outcome */
    struct mtls_timer *timer;             /* L: deadline, grace */
    struct mtls_service_session *service; /* L: server; a resumed session's answers claims until its
                                             deadline */
    uint64_t times[MTLS_STEP_COUNT];
    uint8_t hello_random[32]; /* of the first ClientHello: tells its second from the next
                                 handshake's */
    unsigned generation;      /* of the engine (fork) */
    int reason;
    int given_fd; /* mtls_set_fd(), -1 */
    enum mtls_phase phase : 8;
    enum mtls_outcome outcome : 8;
    char *evidence;         /* the bundle's file, or NULL */
    int16_t evidence_error; /* why there is none, or 0 */
    int16_t memory_error;   /* why a verified host could not be written to the memory, or 0 */
    uint8_t scope, confirmed_paths;
    bool server, offered; /* offered: our extension is in the ClientHello */
    bool name_checked;    /* mtls_name_checked() */
};

/* The hook of the SSL's current SSL_CTX, NULL if not hooked. */
struct mtls_hook *mtls_hook_of(const SSL_CTX *ctx);
void mtls_hook_unref(struct mtls_hook *hook);
void mtls_hook_serve(struct mtls_hook *hook);

/* The SSL's session object; get makes one (NULL: out of memory, or ctx not hooked or policy off).
 */
struct mtls_session *mtls_session_find(const SSL *ssl);
struct mtls_session *mtls_session_get(SSL *ssl);
/* A new handshake begins on the same SSL: everything but what the application gave is forgotten. */
int mtls_session_reset(struct mtls_session *s);
void mtls_session_rebind(struct mtls_session *s);
/* Takes the session's references out of the engine. */
void mtls_session_leave_engine(struct mtls_session *s, uint8_t fail_reason);

/* Decided: sets outcome, leaves the engine, makes the report, calls back. Idempotent; failed is
 * sticky. */
void mtls_session_decide(struct mtls_session *s, enum mtls_outcome outcome, int reason);
/* Server: confirmed, and libssl has taken the client's Finished: verified. Not inside a BIO call.
 */
void mtls_session_settle(struct mtls_session *s);
/* Fails it with an entry on the error queue. */
void mtls_session_fail(struct mtls_session *s, int reason);

/* From the reactor (lock held): something changed, wake whoever waits in the gate. */
void mtls_session_wake(struct mtls_session *s, mtls_tstamp now);

/* What the gate asks (engine lock held): WAIT, READ_ON, or a verdict. */
struct mtls_decision mtls_session_evaluate(struct mtls_session *s, bool at_write, mtls_tstamp now);

int mtls_session_fd(const struct mtls_session *s); /* path 1's socket, -1 */

#endif
