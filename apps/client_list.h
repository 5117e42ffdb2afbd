/* mtls-client --list-paths HOST: the second paths that this machine could take to a server, what
 * each shares with path 1, and how long its round trip is. It connects by TCP and sends nothing. */
#ifndef APPS_CLIENT_LIST_H
#define APPS_CLIENT_LIST_H

#include <stdbool.h>
#include <stdint.h>

#include "addr.h"
#include "mtls/core/config.h"
#include "mtls/core/distinct.h"

enum { LIST_MAX = 96, LIST_WHY = 192 };

enum list_kind { LIST_PATH1, LIST_DEVICE, LIST_CONFIGURED, LIST_SUBFLOW };

struct list_row {
    enum list_kind kind;
    struct mtls_path_facts facts; /* as planned; local of the live socket where it connected */
    struct mtls_path_spec spec;   /* how its socket is bound */
    struct mtls_addr target;      /* what is connected to: the server, or the proxy */
    unsigned scope;               /* MTLS_DISTINCT_*: how it differs from path 1 */
    bool counts, chosen;          /* chosen: `auto` would take it */
    char why[LIST_WHY];
    const char *error; /* why it did not connect, or could not even be tried; NULL: it did */
    uint64_t rtt_us;   /* 0: not measured */
    int fd;
};

struct list {
    struct mtls_path_facts path1;
    struct mtls_config config;
    struct addr_list servers;
    struct list_row rows[LIST_MAX];
    int count;
    const char *mptcp; /* what became of Multipath TCP: "no", "yes", ... */
};

/* client_list.c: rows without a connection. 0, or -1: there is no path 1. */
int list_plan(struct list *l, const char *path1_dev);
/* client_list_try.c: connects every row, at most timeout_ms; then by Multipath TCP on path 1. */
void list_measure(struct list *l, unsigned timeout_ms);
/* One more row, or NULL: the list is full. */
struct list_row *list_add(struct list *l, enum list_kind kind);
/* scope, counts and why of a row whose facts are known. */
void list_judge(const struct list *l, struct list_row *r);
/* The command; its exit code. */
int client_list(int argc, char **argv);

#endif
