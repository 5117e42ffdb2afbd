/* Addresses as people write them: HOST:PORT and [V6]:PORT, looked up within a time limit. */
#ifndef APPS_ADDR_H
#define APPS_ADDR_H

#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

#define ADDR_TEXT 80 /* "[" address "%" interface "]:" port, NUL */
#define ADDR_MAX  16

struct host_port {
    char host[256]; /* a name, or an address without brackets */
    uint16_t port;
    int family; /* AF_INET, AF_INET6 for a literal address; AF_UNSPEC for a name */
};

struct addr {
    struct sockaddr_storage sa;
    socklen_t len;
};

struct addr_list {
    struct addr at[ADDR_MAX];
    size_t count;
};

/* "HOST:PORT" or "[ADDR]:PORT"; port at least min_port. 0 or -1. */
int host_port_parse(const char *text, unsigned min_port, struct host_port *out);
/* A literal address ("192.0.2.1", "2001:db8::1", "fe80::1%eth0"). 0 or -1. */
int addr_parse(const char *text, uint16_t port, struct addr *out);
void addr_set_port(struct addr *a, uint16_t port);
/* "ADDR:PORT" or "[ADDR]:PORT"; out has ADDR_TEXT bytes. */
void addr_text(const struct sockaddr *sa, socklen_t len, char *out);
/* Blocks for at most timeout_ms. family AF_UNSPEC: both. 0, or -1 and a text in *why (static). */
int addr_lookup(const char *host, uint16_t port, int family, unsigned timeout_ms,
                struct addr_list *out, const char **why);

/* A name that is used for a long time: looked up again, without blocking, once its answer is old.
 */
struct addr_name {
    struct host_port hp;
    int family;
    struct addr_list list; /* the latest answer */
    double looked_up_at;   /* the caller's clock, seconds */
    struct addr_query *query;
};

/* Takes over a finished look-up, starts the next one when the answer is older than a minute. */
void addr_name_refresh(struct addr_name *name, double now);

#endif
