/* Concept: the provider "mtls": what it offers and how libmtls reaches the copy that is built in.
 * Owns everything in its provider context; no globals but the observer's thread-local slot.
 * libcrypto only. */
#ifndef MTLS_PROVIDER_PROVIDER_H
#define MTLS_PROVIDER_PROVIDER_H

#include <openssl/core.h>
#include <openssl/types.h>

/* EVP_MAC "MTLS1-PROOF": HMAC-SHA-256 over label || 00 || the data given to update. Key: 32 bytes.
 * Parameters: "role" (UTF-8 "server" | "client", required), "protocol" (UTF-8 "mtls1" (default) |
 * "smkex1"). Labels: "<protocol> server proof", "<protocol> client confirm". Size 32, never
 * truncated. */
#define MTLS_ALG_PROOF            "MTLS1-PROOF"
#define MTLS_PROOF_PARAM_ROLE     "role"
#define MTLS_PROOF_PARAM_PROTOCOL "protocol"

/* EVP_KDF "MTLS1-EK": the TLS 1.3 exporter (RFC 8446 section 7.5) with our label and the empty
 * context, from the exporter_master_secret. Parameters: "digest", "key" (exporter_master_secret),
 * "protocol" as above (the label is "EXPORTER-Multipath-TLS-1"; smkex1 has none and is refused).
 * Output: 64 bytes (k_s | k_c), other lengths are refused. */
#define MTLS_ALG_EK "MTLS1-EK"

/* The transcript observer: "TLS13-KDF" with the property mtls.observer=yes, a wrapper around
 * another provider's, which notes in a thread-local slot the derivation of "exp master": TH
 * (ClientHello .. server Finished) and the exporter_master_secret. Chosen for certain by the
 * property query "?mtls.observer=yes" on SSL_CTX_new_ex(); a query without properties may choose it
 * too (order of the providers), so it notes only while somebody in the library context holds an
 * EVP_KDF_CTX of "MTLS1-OBSERVED": make one BEFORE the handshake (one for all threads will do) and
 * keep it. Read back with that context, on the thread that ran the handshake: derive of exactly 2 +
 * 64 + 64 bytes: hash length (1), secret length (1), TH (64, zero-padded), exporter_master_secret
 * (64, zero-padded), and the slot is wiped; fails when the slot is empty. The slot holds the
 * thread's latest handshake of this library context, whosever it is: the reader recomputes the
 * exporter (MTLS1-EK) and compares it with SSL_export_keying_material() before it believes TH. */
#define MTLS_ALG_OBSERVED   "MTLS1-OBSERVED"
#define MTLS_OBSERVER_QUERY "?mtls.observer=yes"

/* Provider parameter (UTF-8 pointer): the configuration words of its openssl.cnf section as one
 * string. */
#define MTLS_PROV_PARAM_CONFIG "mtls-config"

/* For OSSL_PROVIDER_add_builtin(libctx, "mtls", mtls_provider_init). */
int mtls_provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                       const OSSL_DISPATCH **out, void **provctx);

/* For libmtls (not in the module): makes the provider available in libctx (NULL = default). Takes
 * the one that openssl.cnf or the application loaded, else the one that openssl.cnf names, else the
 * built-in copy, and never costs the application its default provider. Algorithms are then fetched
 * with the query "provider=mtls".
 * *prov: the caller's, OSSL_PROVIDER_unload(). *words: the words of its section, "" = none; the
 * caller's, OPENSSL_free(). In the default context they are read from the file itself where the
 * provider was not given them (a section for a module that is not installed): a policy for the
 * whole system is not lost in silence. Any thread; reads a file; the error queue is left as it was.
 * Errors: MTLS_ERR_PROVIDER (not loaded), MTLS_ERR_CONFIG_VALUE (a value is empty or not one word),
 * MTLS_ERR_CONFIG_SYNTAX (openssl.cnf is there and cannot be read), MTLS_ERR_NOMEM. */
__attribute__((warn_unused_result)) int mtls_provider_open(OSSL_LIB_CTX *libctx,
                                                           OSSL_PROVIDER **prov, char **words);

#endif
