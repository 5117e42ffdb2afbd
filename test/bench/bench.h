/* Concept: what the benchmark's programs share: addresses, pinning, CPU time, and the two SSL_CTXs.
 * A program of a benchmark ends with a message at the first thing that goes wrong. */
#ifndef MTLS_BENCH_H
#define MTLS_BENCH_H

#include <arpa/inet.h>
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include <mtls/mtls.h>

#define BENCH_NAME "server.example" /* in the certificate, and the SNI */

enum { BENCH_RECORD = 16384, BENCH_ORDER_LEN = 9 };
/* What a client asks for after its handshake, in one byte, with a 64-bit number of bytes behind it.
 */
enum { BENCH_ECHO = 'E', BENCH_UP = 'U', BENCH_DOWN = 'D' };

_Noreturn static inline void bench_die(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno != 0 ? strerror(errno) : "failed");
    ERR_print_errors_fp(stderr);
    exit(1);
}

static inline void bench_check(bool good, const char *what)
{
    if (!good)
        bench_die(what);
}

static inline uint64_t bench_clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Before any thread starts: threads inherit it. Negative: anywhere. */
static inline void bench_pin(int cpu)
{
    cpu_set_t set;

    if (cpu < 0)
        return;
    CPU_ZERO(&set);
    CPU_SET((unsigned)cpu, &set);
    bench_check(sched_setaffinity(0, sizeof(set), &set) == 0, "sched_setaffinity");
}

static inline struct sockaddr_in bench_addr(const char *host, unsigned port)
{
    struct sockaddr_in sin = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

    bench_check(inet_pton(AF_INET, host, &sin.sin_addr) == 1, host);
    return sin;
}

static inline void bench_nodelay(int fd)
{
    int one = 1;

    bench_check(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)) == 0, "TCP_NODELAY");
}

/* bench_bare.c: the server's end on a thread of its own, returns its port; the client's, over a
 * device or NULL: a new connection, its first message, the answer, and the last word; keep: the
 * connection stays for the next one, or else it is closed. */
unsigned bench_bare_serve(const char *host);
int bench_bare_connect(const char *host, unsigned port, const char *device);
void bench_bare_begin(int fd);
void bench_bare_await(int fd);
void bench_bare_confirm(int fd, bool keep);

/* bench_gated.c: a server that waits for path 2 as a gate does, one session at a time: PROOF is
 * sent when the server's flight has left, and nothing is served until CONFIRM has come. */
int bench_gated(void); /* from now on; readable when CONFIRM has come after bench_gated_waits() */
void bench_gated_flight(void);
bool bench_gated_began(void); /* the flight has left */
bool bench_gated_waits(void); /* false: CONFIRM came already, or nothing is gated */
bool bench_gated_hello(int fd);
void bench_gated_confirm(void);
bool bench_gated_over(void);
void bench_bare_proof(int fd);

/* bench_hollow.c: the call-backs of a hook, with nothing in them. */
void bench_hollow(SSL_CTX *ctx);
/* Client: cb before the second flight leaves, which waits for path 2. */
void bench_hollow_flight(void (*cb)(SSL *ssl));

/* bench_needs.c: at the end of a plain handshake, by either side. */
enum { BENCH_KEYS = 64 };
void bench_exporter(SSL *ssl, uint8_t key[BENCH_KEYS]);
void bench_needs(SSL *ssl);

/* words NULL: plain TLS. */
static inline SSL_CTX *bench_ctx(bool server, const char *words)
{
    SSL_CTX *ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());

    bench_check(ctx != NULL && SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) == 1 &&
                    SSL_CTX_set1_groups_list(ctx, "X25519") == 1,
                "SSL_CTX");
    if (words != NULL)
        bench_check(mtls_ssl_ctx_hook(ctx, words) == 1, words);
    return ctx;
}

static inline SSL_CTX *bench_server_ctx(const char *words, const char *cert, const char *key)
{
    SSL_CTX *ctx = bench_ctx(true, words);

    bench_check(SSL_CTX_use_certificate_chain_file(ctx, cert) == 1 &&
                    SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM) == 1 &&
                    SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"b", 1) == 1,
                "certificate");
    return ctx;
}

static inline SSL_CTX *bench_client_ctx(const char *words, const char *cafile)
{
    SSL_CTX *ctx = bench_ctx(false, words);

    bench_check(SSL_CTX_load_verify_locations(ctx, cafile, NULL) == 1, cafile);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ctx;
}

static inline void bench_put64(uint8_t *out, uint64_t v)
{
    for (int i = 7; i >= 0; i--, v >>= 8)
        out[i] = (uint8_t)v;
}

static inline uint64_t bench_get64(const uint8_t *in)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = v << 8 | in[i];
    return v;
}

#endif
