/* Concept: the gate: a filter BIO on the SSL's own rbio and wbio that holds the handshake until
 * path 2 has decided, and goes away then (protocol rule 4). Not in the data path after the
 * decision. */
#ifndef MTLS_OSSL_GATE_H
#define MTLS_OSSL_GATE_H

#include "copy.h"
#include "session.h"

/* Installs it; called from an extension call-back, where libssl is not inside a BIO call.
 * Idempotent. Errors: MTLS_ERR_NOMEM, MTLS_ERR_GATE_DISPLACED (no BIO). */
MTLS_NODISCARD int mtls_gate_install(struct mtls_session *s);
/* Whether it is still on the SSL: the application may have set other BIOs in mid-handshake. */
bool mtls_gate_stands(const struct mtls_session *s);
/* If it is not: fails the session with gate-displaced and puts it over the new BIOs, so that the
 * failure holds. true: all is well, or there is no gate (yet, any more). Not inside a BIO call. */
bool mtls_gate_enforce(struct mtls_session *s);
/* The handshake has ended: takes the filters off the SSL if they are there still. Safe inside their
 * own calls. */
void mtls_gate_unlink(struct mtls_session *s);
/* Frees it with the session (before libssl frees the BIOs) or for a new handshake. */
void mtls_gate_free(struct mtls_session *s);
/* A fatal alert in the clear, once, where path 1 is a socket: before the keys, or where libssl can
 * send none any more. */
void mtls_gate_alert(struct mtls_session *s, int alert);
/* Lock held, any thread: readiness for the application (SO_RCVLOWAT back, ASYNC descriptor,
 * condition variable). fail: also end the peer's silence with shutdown(SHUT_RD). */
void mtls_gate_release(struct mtls_session *s, bool fail);
/* Lock held: something changed; if the gate waits and need not any more, release it, else set the
 * session's timer. */
void mtls_session_wake(struct mtls_session *s, mtls_tstamp now);

/* Events that only messages and records show. */
void mtls_gate_allow_hello(
    struct mtls_session *s); /* client: one more ClientHello may be written */
void mtls_gate_note_extensions(struct mtls_session *s); /* client: EncryptedExtensions was read */

/* gate_hold.c: holds until the decision. at_write: the second flight is about to be written, the
 * wait can only block. */
enum mtls_hold { MTLS_HOLD_PASS, MTLS_HOLD_RETRY, MTLS_HOLD_FAIL };
enum mtls_hold mtls_gate_hold(struct mtls_session *s, bool at_write,
                              struct mtls_decision *decision);
/* Before a read of len bytes that may pass: false when the deadline is over. On a blocking socket
 * it waits for data until then. */
bool mtls_gate_await_data(struct mtls_session *s, size_t len);
/* Whether path 1's socket is known and non-blocking. */
bool mtls_gate_is_nonblocking(const struct mtls_session *s);
/* Path 1's descriptor was learned, the program has memory BIOs: what comes is held in the kernel.
 */
void mtls_gate_hold_reads(struct mtls_session *s);
/* Whether it is; brings the hold to its end if the session need not wait any more. */
bool mtls_gate_holds_reads(struct mtls_session *s);
/* Client, not inside another record: keeps the server's flight in the kernel until path 2 has
 * answered, where the application would take it out and could not be woken again. */
void mtls_gate_keep_flight(struct mtls_session *s, bool server_hello);
/* Lock held: nothing is owed any more; SO_RCVLOWAT back, descriptor closed. */
void mtls_gate_settle(struct mtls_session *s);

/* gate.c and gate_hold.c only. */
struct mtls_gate {
    BIO *rfilter, *wfilter; /* the same object when the application had one BIO; a reference of ours
                               to each */
    bool linked;
    bool failed_told; /* the reason was raised once more beside libssl's alert */
    /* client: cutting the streams into records */
    uint8_t rhead[5], rhave;
    size_t rbody;
    size_t arrived; /* in the socket, not yet read, when it was last asked */
    bool saw_handshake, saw_encrypted, extensions_read, read_open;
    bool flight_open; /* the wait before the encrypted flight is over */
    struct mtls_record_scan {
        uint8_t head[9], have; /* record header and the handshake header behind it */
        size_t body;           /* of the record under way, still to come */
        size_t message;        /* of the plaintext handshake message under way, still to come */
    } wscan;
    unsigned hellos; /* ClientHellos that may be written */
    bool alert_sent;
    bool flight_out; /* server: its Finished was flushed */
    /* holding; L */
    bool waiting; /* readiness is owed to the application */
    bool keeping; /* the server's flight has not been read, and stays in the kernel */
    bool kept;    /* it has come while it was kept */
    bool looking; /* what came first is not known yet */
    bool gated;   /* SO_RCVLOWAT is raised on the copy */
    int lowat, saved_lowat, async_fd;
    struct mtls_copy copy; /* of path 1's descriptor */
    uint64_t cookie;       /* server: of its socket, shut_fd, where no copy was needed; 0: none */
    int shut_fd;
    unsigned naps;
    int junk; /* server: bytes in the read BIO when its flight was out, -1 = not looked yet */
    mtls_tstamp last_call;
    bool held;    /* the preload library holds reads of given_fd */
    bool writing; /* inside the next BIO's write */
    bool direct;  /* given_fd was learned there: the next BIO is the application's way to it */
    ino_t doomed; /* path 1's socket, to be shut; 0: none */
    bool stashed; /* a byte read by mtls_interpose_again() */
    char stash;
};

enum { TYPE_CCS = 20, TYPE_ALERT = 21, TYPE_HANDSHAKE = 22, TYPE_DATA = 23 };

/* gate_records.c: what the server's first bytes are. */
enum { MTLS_HELLO_PEEK = 5 + 4 + 2 + 32 };
enum mtls_peek { MTLS_PEEK_MORE, MTLS_PEEK_SERVER_HELLO, MTLS_PEEK_OTHER };
enum mtls_peek mtls_gate_peek(const uint8_t *head, size_t len);
/* gate_records.c: how many bytes of a read belong to the record under way; what came of it; whether
 * what is about to be written may pass before the decision (0), or needs it (1). */
int mtls_gate_record_part(const struct mtls_gate *g, int len);
void mtls_gate_record_got(struct mtls_gate *g, const char *data, int n);
int mtls_gate_scan_write(struct mtls_record_scan *scan, unsigned *hellos, const uint8_t *in,
                         size_t len);

#endif
