/* Concept: the small pieces of glue that several files of this room share: OpenSSL's error queue,
 * configuration layers, keys, resumption record, memory of hosts. */
#ifndef MTLS_OSSL_GLUE_H
#define MTLS_OSSL_GLUE_H

#include "../core/hostmem.h"
#include "../net/announced.h"
#include "session.h"

/* errors.c: raises MTLS_ERR_code on OpenSSL's queue; detail may be NULL. */
void mtls_raise(int code, const char *detail);

/* settings.c: openssl.cnf, then MTLS_CONFIG, then text. msg gets the offending word. */
MTLS_NODISCARD int mtls_settings_load(struct mtls_config *config, const char *text, char *msg,
                                      size_t msg_len);

/* keys.c: exporter and transcript hash, from the callback's transcript or the provider's observer.
 * Only once the handshake has got there (see protocol.md, KEY rules). */
MTLS_NODISCARD int mtls_keys_compute(struct mtls_session *s, struct mtls_keys *keys);

/* observer.c: TH where our message call-back was displaced. Errors: MTLS_ERR_TRANSCRIPT. */
void mtls_observer_attach(void);
MTLS_NODISCARD int mtls_observer_hash(const uint8_t ek[MTLS_EK_LEN], uint8_t *th, size_t *hlen);

/* resume.c */
bool mtls_resume_record_of(const SSL_SESSION *session, struct mtls_record *record);
void mtls_resume_client_hello(
    struct mtls_session *s); /* reads the record of the session that is offered */
/* Client: that record is valid to the end of this handshake, however long it takes. */
bool mtls_resume_outlasts(const struct mtls_session *s);
void mtls_resume_client_answer(
    struct mtls_session *s); /* EncryptedExtensions is here: is it resumed_ok? */
void mtls_resume_server_answer(
    struct mtls_session *s);                    /* the same for the server, before it answers */
void mtls_resume_store(struct mtls_session *s); /* verified: the record goes into the SSL_SESSION */
void mtls_resume_forget(struct mtls_session *s); /* failed: the session is not resumable */

/* remember.c. These run without the engine lock: they read the disk. */
void mtls_remember_look(struct mtls_session *s,
                        struct mtls_host_record *record); /* sets remembered, memory_error */
/* At the decision, and when the application has said that it checked the name: into the file. */
void mtls_remember_verified(struct mtls_session *s);
void mtls_remember_checked(struct mtls_session *s);
void mtls_remember_drop(struct mtls_session *s);
/* The 10 minutes after a late downgrade. Engine lock held. */
void mtls_downgrade_note(const char *name, uint16_t port, mtls_tstamp now);
bool mtls_downgrade_known(const char *name, uint16_t port, mtls_tstamp now);

/* client.c */
MTLS_NODISCARD int
mtls_client_hello(struct mtls_session *s); /* the first ClientHello is being made */
void mtls_client_answered(
    struct mtls_session *s); /* EncryptedExtensions was parsed, or passed without us */
/* Path 1's socket became known only when the ClientHello left. */
MTLS_NODISCARD int mtls_client_path1(struct mtls_session *s);
/* The ClientHello has left: the routes that nothing needed before. Idempotent. */
void mtls_client_routes_ask(struct mtls_session *s);
/* At the write of the second flight: keys, then CONFIRM once mtls_session_evaluate() says verified.
 */
MTLS_NODISCARD int mtls_client_arm(struct mtls_session *s);
MTLS_NODISCARD int mtls_client_confirm(struct mtls_session *s); /* lock held */
struct mtls_decision mtls_client_evaluate(struct mtls_session *s, bool at_write,
                                          mtls_tstamp now); /* lock held */
/* client_paths.c */
MTLS_NODISCARD int mtls_client_paths_plan(struct mtls_session *s);
/* The server said this port for path 2: the path gets words of its own. Errors: MTLS_ERR_NOMEM,
 * _CONFIG_VALUE. */
MTLS_NODISCARD int mtls_client_path_port(struct mtls_secondary *p, uint16_t port);
/* Claims that were begun before the ClientHello and still stand. Lock held. */
void mtls_client_paths_adopt(struct mtls_session *s, struct mtls_announced *announced);
void mtls_client_paths_start(struct mtls_session *s, bool only_warm);
void mtls_client_paths_free(struct mtls_session *s, uint8_t fail_reason); /* lock held */
void mtls_client_request(struct mtls_session *s, struct mtls_secondary *p, uint8_t index,
                         struct mtls_path2_request *req);

/* late.c: after a plain outcome READY may still come. Lock held; takes the open claims over. */
void mtls_late_fork_child(void);
void mtls_late_watch(struct mtls_session *s, mtls_tstamp now);
bool mtls_late_failed(struct mtls_session *s); /* lock held */
void mtls_late_forget(struct mtls_session *s); /* lock held: the SSL goes */

/* server.c */
MTLS_NODISCARD int mtls_server_hello(struct mtls_session *s, const uint8_t *data, size_t len,
                                     int *alert);
MTLS_NODISCARD int mtls_server_answer(struct mtls_session *s, uint8_t *out,
                                      size_t cap); /* length, or error */
MTLS_NODISCARD int mtls_server_arm(struct mtls_session *s);

/* ext.c */
MTLS_NODISCARD int mtls_ext_register(SSL_CTX *ctx);
void mtls_message(int write_p, int version, int content_type, const void *buf, size_t len, SSL *ssl,
                  void *arg);

/* interpose.c: the preload library's part (interpose.h); without one they do nothing. */
bool mtls_interposed(void);
const char *mtls_interpose_config(void); /* MTLS_CONFIG, NULL: none */
int mtls_interpose_write(struct mtls_session *s, BIO *next, const char *in, int len);
void mtls_interpose_hello(struct mtls_session *s, const uint8_t *msg, size_t len);
void mtls_interpose_forget(struct mtls_session *s); /* not under the engine lock */
void mtls_interpose_again(struct mtls_session *s);
void mtls_interpose_copies(int more); /* descriptors that are duplicated */
bool mtls_interpose_hold(struct mtls_session *s, int how);
/* A client's failure is decided; and later: the peer has been told, nothing more is to pass on path
 * 1. */
void mtls_interpose_failing(struct mtls_session *s);
/* The peer has ended the handshake: in a wrapped client under require that is a failure, so that
 * the program does not go on in plaintext. */
void mtls_interpose_peer_ended(struct mtls_session *s);
void mtls_interpose_shut(struct mtls_session *s);
bool mtls_interpose_idle(const struct mtls_session *s);
void mtls_interpose_message(int write_p, int version, int content_type, const void *buf, size_t len,
                            SSL *ssl, void *arg);
void mtls_interpose_announce(const uint8_t *msg, size_t len, void *who);
void mtls_interpose_forget_who(void *who);
/* From begin to end this thread's bytes are one SSL's; end: the descriptor, -1. */
void mtls_interpose_begin(void);
int mtls_interpose_end(void);
void mtls_interpose_confirmed(const char *json, int fd, bool failed); /* interpose.h */
bool mtls_interpose_counts(mtls_outcome_cb *cb, enum mtls_outcome outcome);

/* report.c: freezes what the queries answer. Lock held, s->hs still there. */
void mtls_report_make(struct mtls_session *s);
void mtls_report_free(struct mtls_session *s);
char *mtls_report_text(struct mtls_session *s, enum mtls_outcome outcome,
                       int reason); /* OPENSSL_malloc'ed JSON */

#endif
