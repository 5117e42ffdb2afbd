/* Concept: the verdict of a confirmation by resumption [RSM]: what was seen on both paths in, one
 * verdict, one reason and what a policy makes of it out. Pure: no time, no sockets, no libssl. */
#ifndef MTLS_CORE_RESUME_VERDICT_H
#define MTLS_CORE_RESUME_VERDICT_H

#include "common.h"
#include "config.h"

/* The numbers are enum mtls_confirm_verdict's of the public header. */
enum mtls_rsm_verdict {
    MTLS_RSM_NONE,
    MTLS_RSM_VERIFIED,
    MTLS_RSM_CONSISTENT,
    MTLS_RSM_UNPROVEN,
    MTLS_RSM_ALARM
};

/* clang-format off */
/* X(symbol, verdict, "word", "what it proves and what not") */
#define MTLS_RSM_REASONS(X)                                                                        \
    X(NONE, NONE, "none", "nothing was looked at yet")                                             \
    X(RESUMED, VERIFIED, "resumed",                                                                \
      "the server on path 2 resumed this very session, so it holds path 1's keys; an attacker "    \
      "with the server's ticket key, or two who shared one beforehand, would pass too")            \
    X(SPARE_TICKET, VERIFIED, "spare-ticket",                                                      \
      "path 1 resumed a session that was verified over two paths before; it is as good as that "   \
      "verification, within its age and while the server's ticket key is secret")                  \
    X(NO_TICKET, CONSISTENT, "no-ticket",                                                          \
      "path 1 sent no ticket in time, and path 2 shows the same public key; whoever stole the "    \
      "certificate's key could still sit on path 1")                                               \
    X(NOT_RESUMED, CONSISTENT, "not-resumed",                                                      \
      "path 2's server does not know path 1's ticket (another node of a farm?), but shows the "    \
      "same public key; whoever stole the certificate's key could still sit on path 1")            \
    X(TLS_VERSION, UNPROVEN, "tls-version",                                                        \
      "path 1 speaks TLS below 1.3, which has no ticket that binds the handshake: nothing is "     \
      "proved, a man in the middle can force this")                                                \
    X(PATH2_TLS_VERSION, UNPROVEN, "path2-tls-version",                                            \
      "path 2's server speaks TLS below 1.3 only: nothing is proved")                              \
    X(PATH2_FAILED, UNPROVEN, "path2-failed",                                                      \
      "path 2 could not be opened: nothing is proved; whoever can cut a path can cause this")      \
    X(PATH2_SILENT, UNPROVEN, "path2-silent",                                                      \
      "path 2 was opened and then silent until the deadline: nothing is proved")                   \
    X(PATH2_CLOSED, UNPROVEN, "path2-closed",                                                      \
      "path 2 was closed without a TLS alert: nothing is proved")                                  \
    X(PATH2_ALERT, UNPROVEN, "path2-alert",                                                        \
      "path 2's server refused the handshake with an alert that does not concern the session: "    \
      "nothing is proved")                                                                         \
    X(PATH2_FOREIGN, UNPROVEN, "path2-foreign",                                                    \
      "path 2 is answered by something that does not speak TLS as it should: nothing is proved")   \
    X(NOT_DISTINCT, UNPROVEN, "paths-not-distinct",                                                \
      "path 2 agrees, but it does not differ from path 1: one attacker could own both")            \
    X(ALTERNATE_KEY, UNPROVEN, "alternate-key",                                                    \
      "path 2 shows another public key, which the configuration names as one of this service's: "  \
      "nothing is proved about path 1's")                                                          \
    X(UNCHECKED, UNPROVEN, "certificate-unchecked",                                                \
      "the same public key on both paths, but this client does not check certificates: anybody "   \
      "could have made it")                                                                        \
    X(PATH1_CLOSED, UNPROVEN, "path1-closed",                                                      \
      "path 1 ended before its verdict: nothing is proved")                                        \
    X(LOCAL, UNPROVEN, "local-error", "this client could not do its part: nothing is proved")      \
    X(TICKET_REFUSED, ALARM, "ticket-refused",                                                     \
      "path 2's server knows the ticket that path 1 gave us, but not with our secret: somebody "   \
      "on path 1 passed a ticket on that is not his; or path 2 is attacked")                       \
    X(OTHER_KEY, ALARM, "other-key",                                                               \
      "path 2's server has another public key than path 1's: somebody on path 1 has a "            \
      "certificate of his own; or path 2 is attacked, or this is a farm with several keys")        \
    X(PATH2_CERTIFICATE, ALARM, "path2-certificate",                                               \
      "path 2's certificate is not valid for this server: path 2 is intercepted, or path 1 is by " \
      "somebody who holds a valid one")                                                            \
    X(SHOWS_LESS, ALARM, "shows-less",                                                             \
      "this host was verified before and now shows less than that: somebody may be hiding it")
/* clang-format on */

enum mtls_rsm_reason {
#define MTLS_RSM_ENUM(sym, verdict, word, text) MTLS_RSM_WHY_##sym,
    MTLS_RSM_REASONS(MTLS_RSM_ENUM)
#undef MTLS_RSM_ENUM
        MTLS_RSM_WHY_COUNT
};

enum mtls_rsm_verdict mtls_rsm_verdict_of(enum mtls_rsm_reason reason);
const char *mtls_rsm_word(enum mtls_rsm_reason reason);    /* static, never NULL */
const char *mtls_rsm_meaning(enum mtls_rsm_reason reason); /* static, never NULL */

/* One TLS handshake on path 2, and how it ended. */
enum mtls_rsm_end {
    MTLS_RSM_NOT_MADE, /* no connection: path2_error */
    MTLS_RSM_COMPLETED,
    MTLS_RSM_ALERTED, /* alert */
    MTLS_RSM_CLOSED,  /* FIN or reset, no alert */
    MTLS_RSM_SILENT,
    MTLS_RSM_BELOW_13, /* a ServerHello of TLS below 1.3, or alert protocol_version */
    MTLS_RSM_FOREIGN,  /* any other error of the protocol */
    MTLS_RSM_BROKEN,   /* ours: memory, libcrypto */
};
const char *mtls_rsm_end_word(enum mtls_rsm_end end); /* static, never NULL */
enum mtls_rsm_key {
    MTLS_RSM_KEY_UNKNOWN,
    MTLS_RSM_KEY_SAME,
    MTLS_RSM_KEY_ALTERNATE,
    MTLS_RSM_KEY_OTHER
};

struct mtls_rsm_facts {
    bool tls13;      /* path 1 speaks it */
    bool path1_open; /* still, when the ticket was awaited */
    bool broken;     /* something of ours failed on path 1's side */
    bool checked;    /* path 1's chain and name were checked and are valid */
    bool ticket;     /* of path 1; it was the PSK on path 2 */
    bool record;     /* path 1 resumed a session with a valid record: path 2 is not asked */
    bool remembered; /* a session with a valid record was offered on path 1 */
    bool distinct;   /* the paths are, on their live sockets, as the configuration wants */
    enum mtls_rsm_end end;
    uint8_t alert;
    bool psk;              /* COMPLETED: the PSK was selected, with a key exchange */
    bool chain_valid;      /* COMPLETED without PSK: chain and name, by path 1's trust */
    enum mtls_rsm_key key; /* COMPLETED without PSK: compared with path 1's */
};

/* [RSM-8] to [RSM-12]. */
enum mtls_rsm_reason mtls_rsm_judge(const struct mtls_rsm_facts *f);

/* [RSM-13]: whether the connection may go on. policy off: always. accept_consistent: the user named
 * it, for require. */
bool mtls_rsm_allows(enum mtls_policy policy, bool accept_consistent, bool remembered,
                     enum mtls_rsm_verdict verdict);

#endif
