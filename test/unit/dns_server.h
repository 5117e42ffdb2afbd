/* Concept: a name server for tests, driven by hand: it answers, or forges, as the script says, when
 * the test lets it. One UDP socket, one listener for TCP, and a socket of another address for
 * forgeries. Included after cmocka.h. */
#ifndef MTLS_TEST_DNS_SERVER_H
#define MTLS_TEST_DNS_SERVER_H

#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mtls/net/route.h"

enum { TYPE_A = 1, TYPE_CNAME = 5, TYPE_AAAA = 28, SERVFAIL = 2, NXDOMAIN = 3 };

/* How the next questions are answered. */
static struct script {
    const char *a[12], *aaaa[12]; /* addresses, NULL-terminated; none: no data */
    int rcode;
    bool silent_a, silent_aaaa;
    bool truncated;                          /* over UDP the TC bit and nothing else */
    bool cname;                              /* by way of an alias */
    bool wrong_id, wrong_name, wrong_source; /* a forgery comes first ... */
    bool forged_only;                        /* ... and nothing after it */
    size_t cut; /* the forgery is the answer cut after so many bytes, 0 = whole */
} script;

static struct {
    int udp, tcp, conn, other; /* other: a socket of another address */
    struct mtls_addr addr;
    unsigned a, aaaa, tcp_questions;
    char name[300]; /* last one asked for */
    struct mtls_addr client;
    size_t answer_len;
} server;

struct packet {
    uint8_t bytes[2048];
    size_t len;
};

static void put(struct packet *p, const void *data, size_t len)
{
    assert_true(p->len + len <= sizeof(p->bytes));
    memcpy(p->bytes + p->len, data, len);
    p->len += len;
}

static void put16(struct packet *p, unsigned value)
{
    uint8_t b[2] = {(uint8_t)(value >> 8), (uint8_t)value};

    put(p, b, 2);
}

/* The name in the question as text; returns its type. */
static unsigned question(const uint8_t *q, size_t len, size_t *end)
{
    size_t at = 12, out = 0;

    while (at < len && q[at] != 0) {
        assert_true(at + 1 + q[at] < len && out + q[at] + 2 < sizeof(server.name));
        memcpy(server.name + out, q + at + 1, q[at]);
        out += q[at];
        server.name[out++] = '.';
        at += 1u + q[at];
    }
    server.name[out] = '\0';
    assert_true(at + 5 <= len);
    *end = at + 5;
    return (unsigned)(q[at + 1] << 8 | q[at + 2]);
}

static void put_record(struct packet *p, unsigned owner, unsigned type, const void *data,
                       size_t len)
{
    put16(p, 0xc000 | owner);
    put16(p, type);
    put16(p, 1);
    put16(p, 0);
    put16(p, 60);
    put16(p, (unsigned)len);
    put(p, data, len);
}

static void build(struct packet *p, const uint8_t *q, size_t end, unsigned type, bool truncate)
{
    const char *const *list = type == TYPE_A ? script.a : script.aaaa;
    unsigned n = 0, owner = 12;
    uint8_t ip[16];

    p->len = 0;
    while (list[n] != NULL)
        n++;
    n = truncate || script.rcode != 0 ? 0 : n;
    put(p, q, 2);
    put16(p, 0x8180u | (truncate ? 0x200u : 0) | (unsigned)script.rcode);
    put16(p, 1);
    put16(p, n + (script.cname && n > 0 ? 1 : 0));
    put16(p, 0);
    put16(p, 0);
    put(p, q + 12, end - 12);
    if (script.cname && n > 0) {
        unsigned target = (unsigned)p->len + 12;

        put_record(p, 12, TYPE_CNAME, "\5alias\4test", 12);
        owner = target;
    }
    for (unsigned i = 0; i < n; i++) {
        assert_int_equal(inet_pton(type == TYPE_A ? AF_INET : AF_INET6, list[i], ip), 1);
        put_record(p, owner, type, ip, type == TYPE_A ? 4 : 16);
    }
    server.answer_len = p->len;
}

static void forge(const struct packet *right, const struct sockaddr *to, socklen_t to_len)
{
    struct packet p = *right;
    int fd = script.wrong_source ? server.other : server.udp;

    if (script.wrong_id)
        p.bytes[0] ^= 0xff;
    if (script.wrong_name)
        p.bytes[13] ^= 1;
    if (script.cut > 0)
        p.len = script.cut < p.len ? script.cut : p.len;
    for (size_t i = p.len > 4 ? p.len - 4 : 0; i < p.len && script.cut == 0; i++)
        p.bytes[i] ^= 0x55; /* another address, were it believed */
    assert_int_equal(sendto(fd, p.bytes, p.len, 0, to, to_len), p.len);
}

static void serve_udp(void)
{
    uint8_t q[600];
    struct sockaddr_storage ss;
    socklen_t ss_len = sizeof(ss);
    struct packet p;
    size_t end;
    ssize_t n = recvfrom(server.udp, q, sizeof(q), 0, (struct sockaddr *)&ss, &ss_len);
    unsigned type;

    assert_true(n > 12);
    type = question(q, (size_t)n, &end);
    assert_true(type == TYPE_A || type == TYPE_AAAA);
    assert_int_equal(mtls_addr_from_sockaddr(&server.client, (struct sockaddr *)&ss, ss_len), 0);
    *(type == TYPE_A ? &server.a : &server.aaaa) += 1;
    if (type == TYPE_A ? script.silent_a : script.silent_aaaa)
        return;
    build(&p, q, end, type, script.truncated);
    if (script.wrong_id || script.wrong_name || script.wrong_source || script.cut > 0)
        forge(&p, (struct sockaddr *)&ss, ss_len);
    if (!script.forged_only)
        assert_int_equal(sendto(server.udp, p.bytes, p.len, 0, (struct sockaddr *)&ss, ss_len),
                         p.len);
}

static void read_all(int fd, uint8_t *buf, size_t len)
{
    for (size_t at = 0; at < len;) {
        ssize_t n = recv(fd, buf + at, len - at, 0);

        assert_true(n > 0);
        at += (size_t)n;
    }
}

/* One question of the connection that stands; its end closes it. */
static void serve_tcp(void)
{
    uint8_t q[600], head[2];
    struct packet p;
    size_t len, end;
    unsigned type;
    ssize_t n = recv(server.conn, head, 1, 0);

    if (n <= 0) {
        close(server.conn);
        server.conn = -1;
        return;
    }
    read_all(server.conn, head + 1, 1);
    len = (size_t)(head[0] << 8 | head[1]);
    assert_true(len > 12 && len <= sizeof(q));
    read_all(server.conn, q, len);
    server.tcp_questions++;
    type = question(q, len, &end);
    build(&p, q, end, type, false);
    head[0] = (uint8_t)(p.len >> 8);
    head[1] = (uint8_t)p.len;
    assert_int_equal(send(server.conn, head, 2, MSG_NOSIGNAL), 2);
    assert_int_equal(send(server.conn, p.bytes, p.len, MSG_NOSIGNAL), p.len);
}

static int bound_socket(int type, const char *ip, uint16_t port)
{
    struct mtls_host h;
    struct sockaddr_storage ss;
    socklen_t len;
    int fd = socket(strchr(ip, ':') != NULL ? AF_INET6 : AF_INET, type | SOCK_CLOEXEC, 0), one = 1;

    assert_int_equal(mtls_host_parse(&h, ip), 0);
    h.addr.port = port;
    mtls_addr_to_sockaddr(&h.addr, &ss, &len);
    assert_true(fd >= 0);
    assert_int_equal(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one)), 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&ss, len), 0);
    return fd;
}

static void server_open(const char *ip, const char *other_ip, uint16_t port)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    memset(&server, 0, sizeof(server));
    server.conn = -1;
    memset(&script, 0, sizeof(script));
    server.udp = bound_socket(SOCK_DGRAM, ip, port);
    assert_int_equal(getsockname(server.udp, (struct sockaddr *)&ss, &len), 0);
    assert_int_equal(mtls_addr_from_sockaddr(&server.addr, (struct sockaddr *)&ss, len), 0);
    server.tcp = bound_socket(SOCK_STREAM, ip, server.addr.port);
    assert_int_equal(listen(server.tcp, 8), 0);
    server.other = bound_socket(SOCK_DGRAM, other_ip, server.addr.port);
}

#endif
