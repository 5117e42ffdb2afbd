/* Concept: the evidence bundle: what a session saw, kept so that a person can find out afterwards
 * what happened (`mtls-client explain`). It holds the server's handshake messages, hashes, path-2
 * tags, addresses and times; never a key, an exporter's output, a ticket, or application data.
 *
 * While the handshake runs, a bounded copy of what passes is kept if the configuration asks for it;
 * at the decision it becomes one file, or is thrown away. All functions are fine without one. */
#ifndef MTLS_OSSL_EVIDENCE_H
#define MTLS_OSSL_EVIDENCE_H

#include "../net/evidence_file.h"
#include "session.h"

enum {
    MTLS_EVIDENCE_MESSAGES = 16,  /* handshake messages noted */
    MTLS_EVIDENCE_BYTES = 1 << 15 /* of them kept whole, all together */
};

/* A handshake message passed, header included. Of a ClientHello that offers a PSK only the hash is
 * kept. */
void mtls_evidence_message(struct mtls_session *s, bool from_server, const uint8_t *msg,
                           size_t len);
/* The claims, before they are given back. Engine lock held. */
void mtls_evidence_claims(struct mtls_session *s);
/* At the decision, without the engine lock: writes the bundle if the outcome asks for one.
 * s->evidence then names the file, or s->evidence_error says why there is none. */
void mtls_evidence_write(struct mtls_session *s);
void mtls_evidence_free(struct mtls_evidence *e);

#endif
