/* Concept: libmtls-preload.so: loaded before an unmodified program (LD_PRELOAD), it hooks every
 * SSL_CTX that the program makes, shows libmtls the descriptors that it cannot see itself, and
 * refuses TLS that it cannot hook. It needs libc alone; libmtls is loaded with the first SSL_CTX,
 * so that a program without TLS has nothing of it.
 *
 * Rule for every file here: an interposed function costs one load while nothing of ours is under
 * way; nothing here calls an interposed function (the real one, or a system call, instead); errno
 * is the program's. */
#ifndef MTLS_PRELOAD_H
#define MTLS_PRELOAD_H

#include <dlfcn.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "record.h"

#define PRELOAD_PUBLIC __attribute__((visibility("default")))

/* The next definition of an interposed function: name's own type. */
#define REAL(name)                                                                                 \
    ({                                                                                             \
        static void *real_##name;                                                                  \
        (__typeof__(&name))preload_next(&real_##name, #name);                                      \
    })
void *preload_find_next(void **where, const char *name);
static inline void *preload_next(void **where, const char *name)
{
    void *fn = __atomic_load_n(where, __ATOMIC_RELAXED);

    return fn != NULL ? fn : preload_find_next(where, name);
}

/* ---- settings.c: the environment that the program was started with -------------------------- */

struct preload_settings {
    const char *config;  /* MTLS_CONFIG, NULL */
    const char *log;     /* MTLSIZE_LOG, NULL */
    const char *library; /* MTLSIZE_LIBRARY, NULL; never in a privileged program */
    const char *self;    /* our own path */
    char program[64];
    bool allow;       /* MTLSIZE_UNHOOKED=allow */
    bool refuse_exec; /* MTLSIZE_UNHOOKED=refuse-exec */
    bool verbose;
    bool off;    /* policy=off, or no words at all */
    bool client; /* a secondary path is configured */
};
extern struct preload_settings preload_settings;
/* Once, from the one constructor. */
void preload_log_start(void);
void preload_env_start(void);
void preload_hello_start(void);
void preload_connect_start(void);
void preload_guard_start(void);
void preload_accept_start(void);
/* single-port=on without tls-port=: on which connections path 2 would come is not known. */
bool preload_accept_lacks_port(void);
void preload_probe_start(void);
/* Whether a program file brings TLS of its own; go: it is one of Go. */
bool preload_brings_tls(int fd, bool go);
/* TLS that is not hooked is to be refused. */
bool preload_enforcing(void);
/* Whether a word of the configuration begins so. NULL: none does. */
bool preload_says(const char *config, const char *what);

/* ---- env.c: the environment of a program that is started; in a vfork child too ----------------
 */

/* How that program will have less protection than we; NULL: it will not. refused: it must not be
 * started. */
const char *preload_env_lost(char *const envp[], bool *refused);
/* The environment to start it with: envp where that is right, else a mended copy, until it is given
 * back. 0, -1: no memory. */
struct preload_room {
    char *small[128];
    bool mapped;
};
int preload_env_take(struct preload_room *room, char *const envp[], char *const **out);
void preload_env_give(struct preload_room *room);
/* This process's own, for libc's ways to start a shell. 0, -1: no memory. */
int preload_environ_mend(void);

/* ---- log.c ------------------------------------------------------------------------------------
 */

/* Opens the log while the program may. */
void preload_log_open(void);
/* Says that this process is under our eyes: mtlsize misses it where the loader ignored us. */
void preload_log_loaded(void);
/* A session's report, JSON as libmtls makes it. */
void preload_log_session(const char *json, const char *peer);
/* A server's session; true: that is all that the log wants of it. */
bool preload_log_count(enum preload_counted what);
/* "unhooked", "refused", or "notice", which says nothing of a connection; peer may be "". */
void preload_log_event(const char *event, const char *peer, const char *why);
/* A text member of libmtls's JSON, "" where there is none. */
void preload_log_member(const char *json, const char *name, char *out, size_t size);
/* The other end of fd as text: "ADDR:PORT", "" where there is none; also before it is connected. */
void preload_peer_text(int fd, char *out, size_t size);
void preload_addr_text(const struct sockaddr *sa, char *out, size_t size);

/* ---- this thread -------------------------------------------------------------------------------
 */

struct preload_thread {
    bool marked, again;
    int fd; /* used since marked, -1 */
};
extern __thread struct preload_thread preload_thread
    __attribute__((tls_model("initial-exec"), visibility("hidden")));

/* ---- libmtls.c: libmtls, once it is loaded ----------------------------------------------------
 */

struct sockaddr;
/* Whether code at this address is libmtls's. */
bool preload_is_library(const void *address);
/* libmtls is there; load: or can be had for a program that has libssl. */
bool preload_library_ready(bool load);
extern unsigned preload_copies; /* atomic: descriptors that libmtls has copies of */
void preload_library_closed(int fd);
void preload_library_connect(int fd, const struct sockaddr *to, socklen_t len, const char *name);
void preload_library_accepted(int fd);

/* ---- hello.c: ClientHello and ServerHello in what is sent --------------------------------------
 */

void preload_hello_expect(const uint8_t random[32], void *who);
void preload_hello_forget(void *who);
enum preload_hello {
    PRELOAD_HELLO_NONE,    /* not the beginning of a TLS handshake */
    PRELOAD_HELLO_HOOKED,  /* one of an SSL that libmtls knows */
    PRELOAD_HELLO_UNHOOKED /* another TLS library's */
};
/* whose: where one has been found, what preload_identity() says of fd. */
enum preload_hello preload_hello_look(int fd, const struct iovec *iov, size_t n, uint64_t *whose);
extern unsigned preload_hellos; /* sockets on which one has begun; atomic */
bool preload_hello_begun(int fd);
void preload_hello_unsent(int fd); /* what was looked at last has not left */

/* ---- guard.c: what may be sent ----------------------------------------------------------------
 */

/* Somewhere a verification failed less than a minute ago. */
bool preload_guard_watches(void);
/* Whether it was at this socket's peer (to: where it is about to be connected, else NULL), and no
 * TLS of ours has come about on it. */
bool preload_guard_is_on(int fd, const struct sockaddr *to);
/* 0, or -1 with errno: the connection is shut. code: the caller's address. */
int preload_guard_send(int fd, const struct sockaddr *to, const struct iovec *iov, size_t n,
                       const void *code);
int preload_guard_refuse(int fd); /* -1 with errno */
/* Whether the first len bytes are a preamble, or none. */
bool preload_is_preamble(const struct iovec *iov, size_t n, size_t len);
/* A verification of a connection to this address ("ADDR:PORT") failed; fd: this one's, -1. */
void preload_guard_failed(const char *address, int fd);
/* The handshake on fd has come to a good end. */
void preload_guard_decided(int fd);

/* confirm.c: the verdict of a confirmation by resumption; interpose.h. */
void preload_confirmed(const char *json, int fd, bool failed);

/* probe.c: false: it is not known */
bool preload_is_readable(const void *data, size_t len);

/* connect.c */
bool preload_is_stream(int fd);
/* What tells a socket from another that has its number later (fclose() and the kernel's own closing
 * are not seen here); never 0. */
uint64_t preload_identity(int fd);

/* ---- hold.c: reads that are left in the kernel -------------------------------------------------
 */

extern unsigned preload_holds; /* descriptors that are held; atomic */
bool preload_hold(int fd, int how);
/* How many bytes of a read may be handed out: want, less, or -1 with errno = EAGAIN. */
ssize_t preload_hold_limit(int fd, size_t want);
void preload_hold_close(int fd);

#endif
