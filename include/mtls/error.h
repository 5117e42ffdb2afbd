/* Multipath TLS: every error, once. Code, name (as in JSON and logs) and text come from one list.
 * Codes are stable; new ones are added at the end of a band. */
#ifndef MTLS_ERROR_H
#define MTLS_ERROR_H

#ifdef __cplusplus
extern "C" {
#endif

/* clang-format off */
/* X(symbol, code, "name", "text") */
#define MTLS_ERROR_LIST(X)                                                                        \
    /* general */                                                                                 \
    X(NOMEM, -1, "out-of-memory", "out of memory")                                                \
    X(ARG, -2, "invalid-argument", "invalid argument")                                            \
    X(INTERNAL, -3, "internal-error", "internal error")                                           \
    X(IO, -4, "system-error", "a system call failed")                                             \
    X(CRYPTO, -5, "crypto-error", "libcrypto failed")                                             \
    X(LIMIT, -6, "limit-reached", "a limit of this process was reached")                          \
    X(FORKED, -7, "forked", "the handshake was begun in another process")                         \
    X(STOPPED, -8, "stopped", "the library is shutting down")                                     \
    X(NOT_HOOKED, -9, "not-hooked", "this SSL_CTX is not hooked")                                 \
    /* configuration and files */                                                                 \
    X(CONFIG_SYNTAX, -100, "config-syntax", "configuration: syntax error")                        \
    X(CONFIG_KEY, -101, "config-unknown-word", "configuration: unknown word")                     \
    X(CONFIG_VALUE, -102, "config-value", "configuration: bad value")                             \
    X(CONFIG_CONFLICT, -103, "config-conflict", "configuration: words contradict each other")     \
    X(HOSTS_FILE, -104, "hosts-file-unreadable", "memory of verified hosts cannot be read or written")       \
    X(HOSTS_CORRUPT, -105, "hosts-file-corrupt", "memory of verified hosts is corrupt")           \
    X(LISTEN, -106, "listen-failed", "path-2 listener could not be opened")                       \
    X(PROVIDER, -107, "provider-missing", "the mtls provider could not be loaded")                \
    X(SHARE, -108, "share-refused", "share=NAME: that memory in /dev/shm is another user's, or not what it should be") \
    X(SHARE_ROOM, -109, "share-room", "share=NAME: there is no room in /dev/shm")                 \
    /* wire */                                                                                    \
    X(EXT_NOT_OURS, -200, "ext-not-ours", "extension 0xFF4D is not Multipath TLS's")              \
    X(EXT_MALFORMED, -201, "ext-malformed", "malformed Multipath TLS extension")                  \
    X(EXT_VERSION, -202, "ext-version", "no common Multipath TLS version")                        \
    X(EXT_CHANGED, -203, "ext-changed", "extension differs in the second ClientHello")            \
    X(FRAME_PREFACE, -204, "frame-preface", "path 2 does not begin with our preface")             \
    X(FRAME_TYPE, -205, "frame-type", "path-2 frame of unknown type or wrong direction")          \
    X(FRAME_VERSION, -206, "frame-version", "path-2 frame of unknown version")                    \
    X(FRAME_LENGTH, -207, "frame-length", "path-2 frame of wrong length")                         \
    X(FRAME_VALUE, -208, "frame-value", "path-2 frame with a bad field")                          \
    X(FRAME_CLAIM, -209, "frame-claim", "path-2 frame for a claim that is not open")              \
    X(FRAME_REPEATED, -210, "frame-repeated", "path-2 frame repeated")                            \
    X(FRAME_OVERFLOW, -211, "frame-overflow", "too much unparsed or unsent path-2 data")          \
    X(READY_MISMATCH, -212, "ready-mismatch", "READY does not echo our HELLO")                    \
    X(TRANSCRIPT_ORDER, -213, "transcript-order", "handshake messages out of order")              \
    X(TRANSCRIPT_SUITE, -214, "transcript-suite", "unknown cipher suite or hash")                 \
    X(SOCKS_REPLY, -215, "socks-reply", "malformed SOCKS5 reply")                                 \
    X(SOCKS_AUTH, -216, "socks-auth", "SOCKS5 proxy wants authentication")                        \
    X(SOCKS_REFUSED, -217, "socks-refused", "SOCKS5 proxy: connection refused by the server")     \
    X(SOCKS_FAILED, -218, "socks-failed", "SOCKS5 proxy could not connect")                       \
    X(RECORD, -219, "resumption-record", "malformed resumption record")                           \
    /* paths */                                                                                   \
    X(PATH_NONE, -300, "no-path2", "no second path is configured or found")                       \
    X(PATH_INADMISSIBLE, -301, "path2-inadmissible", "path 2's address is of no admissible origin") \
    X(PATH_NOT_DISTINCT, -302, "paths-not-distinct", "path 2 is not distinct from path 1")        \
    X(PATH_UNKNOWN, -303, "path1-unknown", "path 1's socket is not known, paths cannot be judged") \
    X(PATH_RESOLVE, -304, "path2-resolve", "look-up over path 2 failed")                          \
    X(PATH_BIND, -305, "path2-bind", "path 2 could not be bound to its device or address")        \
    X(PATH_REFUSED, -306, "path2-refused", "path 2 was refused")                                  \
    X(PATH_UNREACHABLE, -307, "path2-unreachable", "path 2 is unreachable")                       \
    X(PATH_TIMEOUT, -308, "path2-timeout", "path 2 did not answer in time")                       \
    X(PATH_CLOSED, -309, "path2-closed", "path 2 was closed")                                     \
    X(PATH_FOREIGN, -310, "path2-foreign", "path 2 is answered by something else")                \
    X(PATH_BUSY, -311, "path2-busy", "the server is too busy to verify")                          \
    X(PATH_NOT_HERE, -312, "path2-not-here", "the server says this TLS port is not hooked")       \
    X(PATH_PROXY, -313, "path2-proxy", "path 2's proxy failed")                                   \
    X(MPTCP_NONE, -314, "mptcp-none", "the connection is not Multipath TCP's, or has fallen back to TCP") \
    X(MPTCP_KERNEL, -315, "mptcp-kernel", "this kernel does not tell the subflows' bytes (Linux 6.5 does)") \
    X(MPTCP_MANAGER, -316, "mptcp-path-manager", "subflows can be steered per connection only with net.mptcp.pm_type=1") \
    X(MPTCP_HELPER, -317, "mptcp-helper", "mtls-mptcp-helper cannot be reached")                  \
    X(MPTCP_STEER, -318, "mptcp-steer", "the kernel refuses to make or steer the second subflow") \
    X(SUBFLOW_MISSING, -319, "subflow-missing", "the second subflow did not come up")             \
    X(SUBFLOW_CHANGED, -320, "subflow-changed", "the subflows are not the two that the exchange began with") \
    X(SUBFLOW_BYTES, -321, "subflow-bytes", "bytes travelled on another subflow than their own: forged or sent twice") \
    /* verification */                                                                            \
    X(PROOF_WRONG, -400, "proof-wrong", "proof is wrong: path 1 is intercepted")                  \
    X(PROOF_MISSING, -401, "proof-missing", "no proof came: path 1 intercepted, or path 2 reached another node") \
    X(PROOF_TOO_FEW, -402, "proof-too-few", "fewer distinct paths confirmed than needed")         \
    X(CONFIRM_WRONG, -403, "confirm-wrong", "client's confirmation is wrong")                     \
    X(CONFIRM_MISSING, -404, "confirm-missing", "client's confirmation did not come in time")     \
    X(DEADLINE, -405, "deadline", "the handshake's deadline is over")                             \
    X(DOWNGRADE, -406, "downgrade", "path 2 says the server speaks Multipath TLS, path 1 hides it (or another service of this host has path 2 without tls-port=)") \
    X(DOWNGRADE_LATE, -407, "downgrade-late", "path 2 showed too late that path 1 was downgraded; data was exposed") \
    X(NOT_OFFERED, -408, "not-offered", "peer does not offer Multipath TLS")                   \
    X(REMEMBERED, -409, "remembered", "host was verified before and does not offer Multipath TLS now") \
    X(TLS_VERSION, -410, "tls-version", "TLS below 1.3")                                          \
    X(TRANSCRIPT, -411, "transcript-lost", "application took the message callback: no transcript hash") \
    X(EARLY_DATA, -412, "early-data", "0-RTT or half-RTT data before verification")               \
    X(GATE_DISPLACED, -413, "gate-displaced", "the BIO was replaced in mid-handshake")            \
    X(PEER_CLOSED, -414, "peer-closed", "peer closed before it was confirmed")                    \
    X(GATE_FLOOD, -415, "gate-flood", "too much data while gated")                                \
    X(JOIN_REUSED, -416, "join-reused", "ClientHello repeats the join value of an ended session") \
    X(NOT_PROTECTED_CTX, -417, "context-not-hooked", "switched to an SSL_CTX that is not hooked") \
    X(EXPORTER, -418, "exporter", "TLS exporter failed")                                          \
    X(PSK_MODE, -419, "psk-mode", "session resumed without a key exchange")                       \
    X(NAME_UNKNOWN, -420, "name-unknown", "no server name: set SNI or name=")                     \
    X(ABANDONED, -421, "abandoned", "the connection ended before the decision")                   \
    X(CONFIRM_ALARM, -440, "confirm-alarm", "path 2 contradicts path 1: interception")             \
    X(CONFIRM_UNPROVEN, -441, "confirm-unproven", "path 2 could not confirm this server")           \
    X(CONFIRM_CONSISTENT, -442, "confirm-consistent", "path 2 shows the same key but did not resume the session") \
    X(CONFIRM_MODE, -443, "confirm-mode", "confirm=resume and auto are for mtls_confirmation_new() and mtlsize run") \
    X(CLIENT_CERT, -444, "client-certificate", "client certificate would be shown before the verdict: expose-certificate=on allows it") \
    /* SMKEX */                                                                                   \
    X(SMKEX_FOREIGN, -500, "smkex-not-spoken", "peer does not speak SMKEX")                       \
    X(SMKEX_REFUSED, -501, "smkex-refused", "server refused the exchange")                        \
    X(SMKEX_MALFORMED, -502, "smkex-malformed", "malformed OFFER or ANSWER")                      \
    X(SMKEX_CHOICE, -503, "smkex-choice", "no common version, suite or group, or one that was not offered") \
    X(SMKEX_SHARE, -504, "smkex-share", "peer's Diffie-Hellman share is unusable")                \
    X(SMKEX_SIGNATURE, -505, "server-key-unproven", "server does not hold the key that it shows") \
    X(SMKEX_KEY_CHANGED, -506, "server-key-changed", "server's key is another one than remembered") \
    X(SMKEX_KEY_MISSING, -507, "server-key-missing", "server shows no key although one is remembered") \
    X(SMKEX_RECORD, -508, "record-wrong", "a record was forged or damaged")                       \
    X(SMKEX_UNEXPECTED, -509, "record-unexpected", "a record that must not come now")             \
    X(SMKEX_TRUNCATED, -510, "truncated", "connection was cut off: no close_notify")              \
    X(SMKEX_ALERT, -511, "alert", "peer ended the connection with an alert")                      \
    X(SMKEX_NOT_OVER, -512, "smkex-not-over-mptcp", "server does not exchange over one MPTCP connection")
/* clang-format on */

enum mtls_error {
    MTLS_OK = 0,
#define MTLS_ERROR_ENUM(sym, code, name, text) MTLS_ERR_##sym = code,
    MTLS_ERROR_LIST(MTLS_ERROR_ENUM)
#undef MTLS_ERROR_ENUM
};

/* The name ("proof-wrong"; "ok" for 0; "unknown" for a code that is none). Static storage. */
__attribute__((visibility("default"))) const char *mtls_error_name(int code);

/* One plain English clause. Static storage, never NULL. */
__attribute__((visibility("default"))) const char *mtls_error_string(int code);

#ifdef __cplusplus
}
#endif
#endif
