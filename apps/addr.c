/* Addresses as people write them, looked up within a time limit. */
#include "addr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "options.h"

#define REFRESH_SECONDS 60.0

/* A look-up in glibc's resolver thread. Its memory belongs to that thread until it has ended. */
struct addr_query {
    struct gaicb cb;
    struct addrinfo hints;
    char host[256], service[8];
};

int host_port_parse(const char *text, unsigned min_port, struct host_port *out)
{
    const char *colon = strrchr(text, ':');
    size_t len;
    unsigned long port;
    struct addr literal;

    memset(out, 0, sizeof *out);
    if (colon == NULL || number_parse(colon + 1, min_port, 65535, &port) < 0)
        return -1;
    len = (size_t)(colon - text);
    if (len >= 2 && text[0] == '[' && text[len - 1] == ']') {
        text++;
        len -= 2;
        if (memchr(text, ':', len) == NULL)
            return -1;
    } else if (memchr(text, ':', len) != NULL) {
        return -1;
    }
    if (len == 0 || len >= sizeof out->host)
        return -1;
    memcpy(out->host, text, len);
    if (strpbrk(out->host, " \t\r\n/,[]") != NULL)
        return -1;
    out->port = (uint16_t)port;
    out->family =
        addr_parse(out->host, out->port, &literal) == 0 ? literal.sa.ss_family : AF_UNSPEC;
    return out->family == AF_UNSPEC && strchr(out->host, ':') != NULL ? -1 : 0;
}

static int parse6(const char *text, uint16_t port, struct addr *out)
{
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&out->sa;
    const char *percent = strchr(text, '%');
    char host[INET6_ADDRSTRLEN];
    size_t len = percent != NULL ? (size_t)(percent - text) : strlen(text);

    if (len >= sizeof host)
        return -1;
    memcpy(host, text, len);
    host[len] = '\0';
    if (inet_pton(AF_INET6, host, &in6->sin6_addr) != 1)
        return -1;
    if (percent != NULL && (in6->sin6_scope_id = if_nametoindex(percent + 1)) == 0)
        return -1;
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(port);
    out->len = sizeof *in6;
    return 0;
}

int addr_parse(const char *text, uint16_t port, struct addr *out)
{
    struct sockaddr_in *in = (struct sockaddr_in *)&out->sa;

    memset(out, 0, sizeof *out);
    if (inet_pton(AF_INET, text, &in->sin_addr) != 1)
        return parse6(text, port, out);
    in->sin_family = AF_INET;
    in->sin_port = htons(port);
    out->len = sizeof *in;
    return 0;
}

void addr_set_port(struct addr *a, uint16_t port)
{
    if (a->sa.ss_family == AF_INET6)
        ((struct sockaddr_in6 *)&a->sa)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *)&a->sa)->sin_port = htons(port);
}

void addr_text(const struct sockaddr *sa, socklen_t len, char *out)
{
    char host[64], service[8];

    if (getnameinfo(sa, len, host, sizeof host, service, sizeof service,
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        snprintf(out, ADDR_TEXT, "unknown");
    else
        snprintf(out, ADDR_TEXT, sa->sa_family == AF_INET6 ? "[%s]:%s" : "%s:%s", host, service);
}

static void query_free(struct addr_query *q)
{
    if (q->cb.ar_result != NULL)
        freeaddrinfo(q->cb.ar_result);
    free(q);
}

static struct addr_query *query_start(const char *host, uint16_t port, int family)
{
    struct addr_query *q = calloc(1, sizeof *q);
    struct gaicb *one;

    if (q == NULL)
        return NULL;
    snprintf(q->host, sizeof q->host, "%s", host);
    snprintf(q->service, sizeof q->service, "%u", port);
    q->hints.ai_family = family;
    q->hints.ai_socktype = SOCK_STREAM;
    q->hints.ai_flags = AI_NUMERICSERV;
    q->cb.ar_name = q->host;
    q->cb.ar_service = q->service;
    q->cb.ar_request = &q->hints;
    one = &q->cb;
    if (getaddrinfo_a(GAI_NOWAIT, &one, 1, NULL) != 0) {
        free(q);
        return NULL;
    }
    return q;
}

static void query_take(const struct addr_query *q, struct addr_list *out)
{
    out->count = 0;
    for (struct addrinfo *ai = q->cb.ar_result; ai != NULL && out->count < ADDR_MAX;
         ai = ai->ai_next) {
        if (ai->ai_addrlen > sizeof out->at[0].sa)
            continue;
        memcpy(&out->at[out->count].sa, ai->ai_addr, ai->ai_addrlen);
        out->at[out->count++].len = ai->ai_addrlen;
    }
}

static void query_wait(struct addr_query *q, unsigned timeout_ms)
{
    struct timespec start, now, left;
    const struct gaicb *const one[1] = {&q->cb};

    clock_gettime(CLOCK_MONOTONIC, &start);
    while (gai_error(&q->cb) == EAI_INPROGRESS) {
        long passed;

        clock_gettime(CLOCK_MONOTONIC, &now);
        passed = (now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1000000;
        if (passed >= (long)timeout_ms)
            return;
        left.tv_sec = ((long)timeout_ms - passed) / 1000;
        left.tv_nsec = ((long)timeout_ms - passed) % 1000 * 1000000;
        gai_suspend(one, 1, &left);
    }
}

int addr_lookup(const char *host, uint16_t port, int family, unsigned timeout_ms,
                struct addr_list *out, const char **why)
{
    struct addr_query *q;
    int rv;

    out->count = 0;
    if (addr_parse(host, port, &out->at[0]) == 0) {
        *why = "address of the other family";
        out->count = family == AF_UNSPEC || family == out->at[0].sa.ss_family;
        return out->count == 1 ? 0 : -1;
    }
    if ((q = query_start(host, port, family)) == NULL) {
        *why = "out of memory";
        return -1;
    }
    query_wait(q, timeout_ms);
    if (gai_error(&q->cb) == EAI_INPROGRESS && gai_cancel(&q->cb) != EAI_CANCELED) {
        *why = "look-up timed out";
        return -1; /* q stays with the resolver's thread */
    }
    rv = gai_error(&q->cb);
    if (rv == 0)
        query_take(q, out);
    *why = rv == EAI_CANCELED ? "look-up timed out" : rv != 0 ? gai_strerror(rv) : "no address";
    query_free(q);
    return rv == 0 && out->count > 0 ? 0 : -1;
}

void addr_name_refresh(struct addr_name *name, double now)
{
    if (name->hp.family != AF_UNSPEC)
        return;
    if (name->query != NULL && gai_error(&name->query->cb) != EAI_INPROGRESS) {
        if (gai_error(&name->query->cb) == 0 && name->query->cb.ar_result != NULL)
            query_take(name->query, &name->list);
        query_free(name->query);
        name->query = NULL;
    }
    if (name->query == NULL && now - name->looked_up_at > REFRESH_SECONDS) {
        name->looked_up_at = now;
        name->query = query_start(name->hp.host, name->hp.port, name->family);
    }
}
