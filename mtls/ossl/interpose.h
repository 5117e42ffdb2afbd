/* Concept: the seam between libmtls and a library that is loaded before the program
 * (libmtls-preload.so) and sees its system calls: how libmtls learns path 1's descriptor where
 * libssl does not know it, and how reads of a program with memory BIOs are held. Private: symbol
 * version MTLS_PRIVATE, no promise between releases.
 *
 * Nothing here is needed by a program that links libmtls. */
#ifndef MTLS_OSSL_INTERPOSE_H
#define MTLS_OSSL_INTERPOSE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <openssl/ssl.h>

#include <mtls/mtls.h>

/* How the reads of a descriptor are held. */
enum mtls_interpose_hold {
    MTLS_INTERPOSE_FREE = 0,
    MTLS_INTERPOSE_TAIL, /* the last byte that is there is left in the kernel */
    MTLS_INTERPOSE_ALL   /* everything is */
};

/* What the preload library offers. Any thread; nothing may block, or call libssl or libmtls. */
struct mtls_interpose {
    size_t size;        /* of this structure */
    const char *config; /* MTLS_CONFIG as the program was started with; NULL: none */
    /* From begin() to end() what this thread sends or receives belongs to one SSL of ours; end()
     * returns the descriptor that was used, -1 for none. */
    void (*begin)(void);
    int (*end)(void);
    /* Until switched off this thread's reads fail with EAGAIN, unasked. */
    void (*again)(bool on);
    /* A ClientHello or ServerHello with this random may leave. who: mtls_interpose_learned() is
     * wanted from the thread that sends it, before it is sent; NULL: it is not. */
    void (*hello)(const uint8_t random[32], void *who);
    void (*forget)(void *who); /* waits for a running mtls_interpose_learned() */
    /* How many descriptors libmtls has copies of; atomic. While it is not 0 the library wants to
     * know what the program closes. */
    unsigned *copies;
    /* false: this descriptor cannot be held. */
    bool (*hold)(int fd, enum mtls_interpose_hold how);
    /* A confirmation by resumption has ended: its report, for the log, and path 1's socket, -1. */
    void (*confirmed)(const char *json, int fd, bool failed);
    /* The outcome call-back of the library, and whether it does without this outcome of a server's
     * session: its report need not be made then. */
    mtls_outcome_cb *outcome;
    bool (*counts)(enum mtls_outcome outcome);
};

/* Once, before the first hook; ops must live for ever. Errors: MTLS_ERR_ARG. */
MTLS_API int mtls_interpose_attach(const struct mtls_interpose *ops);

/* The descriptor on which the hello of who leaves. */
MTLS_API void mtls_interpose_learned(void *who, int fd);

/* The program is about to close this descriptor. Async-signal-safe; not in a vfork child. */
MTLS_API void mtls_interpose_closed(int fd);

/* Path 1's descriptor, in the outcome call-back; -1: unknown. */
MTLS_API int mtls_interpose_descriptor(const SSL *ssl);

/* 1: this SSL is in a handshake of ours and on this descriptor, both ways, by libssl's own socket
 * BIO, so that SSL_set_fd() would change nothing but take the gate away. 0: it is not. Raises
 * nothing. */
MTLS_API int mtls_interpose_has_fd(const SSL *ssl, int fd);

/* The program's own message call-back of a hooked SSL_CTX, or of an SSL made from one; its argument
 * stays in libssl. 1, or 0: not hooked, or cb is libmtls's own: to be passed on to libssl. Raises
 * nothing. */
typedef void mtls_interpose_msg_cb(int write_p, int version, int content_type, const void *buf,
                                   size_t len, SSL *ssl, void *arg);
MTLS_API int mtls_interpose_ctx_msg_callback(SSL_CTX *ctx, mtls_interpose_msg_cb *cb);
MTLS_API int mtls_interpose_ssl_msg_callback(SSL *ssl, mtls_interpose_msg_cb *cb);

/* The program is about to connect to this address, whose name (if not NULL) it has looked up:
 * binds the socket to the device that leads there, and opens path 2 if the host is one that the
 * configuration names or the memory knows. Only where the configuration (openssl.cnf, MTLS_CONFIG)
 * has a client path. Errno and the error queue stay as they were. */
MTLS_API void mtls_interpose_connect(int fd, const struct sockaddr *to, socklen_t len,
                                     const char *name);

/* A connection that the program has accepted on its TLS port, and that begins with path 2's
 * preface; takes fd. Errno stays as it was. */
MTLS_API void mtls_interpose_accepted(int fd);

typedef int mtls_interpose_session_cb(SSL *ssl, SSL_SESSION *session);
/* SSL_CTX_sess_set_new_cb() of the program. 1, or 0: to be passed on to libssl. */
MTLS_API int mtls_interpose_session_callback(SSL_CTX *ctx, mtls_interpose_session_cb *cb);

/* confirm=resume and auto: to be called before each of the program's calls that shakes hands or
 * moves data. 1: make the call. 0: return *rv (0 or less) instead; SSL_get_error() knows why.
 * Drives the handshake; blocks from its end to the verdict, for at most the deadline. */
enum mtls_interpose_call {
    MTLS_INTERPOSE_OTHER = 0,
    MTLS_INTERPOSE_CONNECTS, /* SSL_connect() */
    MTLS_INTERPOSE_EARLY     /* 0-RTT data */
};
MTLS_API int mtls_interpose_confirm(SSL *ssl, enum mtls_interpose_call call, int *rv);

#endif
