/* Concept: what smkexize tells its preloaded library: which connections and listeners go through
 * its helpers. Text in the environment; no sockets here. */
#ifndef SMKEX_PRELOAD_RULES_H
#define SMKEX_PRELOAD_RULES_H

#include <netinet/in.h>
#include <stdbool.h>

/* "OUT ADDR PORT LOOP;..." for connections to ADDR:PORT, which go to LOOP:PORT; "IN ADDR PORT
 * LOOP;..." for listeners on PORT, which are moved to LOOP:PORT and stand for ADDR:PORT; "PLAIN;"
 * lets other connections pass. ADDR: IPv4 or IPv6, LOOP: in 127.0.0.0/8. */
#define SMKEXIZE_RULES_ENV "SMKEXIZE_RULES"
/* File of a struct smkexize_shared. */
#define SMKEXIZE_PEERS_ENV "SMKEXIZE_PEERS"

enum { SMKEXIZE_RULES_MAX = 32, SMKEXIZE_PORTS = 65536 };

struct smkexize_peer { /* who is behind it; family 0: nobody */
    uint16_t family;   /* AF_INET, AF_INET6 */
    uint16_t port;     /* network order */
    uint8_t addr[16];  /* IPv4: the first 4 */
};

enum { SMKEXIZE_OPEN = 0, SMKEXIZE_MADE = 1 }; /* any other outcome is an errno */

struct smkexize_shared {
    struct smkexize_peer peer[SMKEXIZE_PORTS]; /* by the port of the helper's connection to the
                                                  program */
    uint32_t outcome[SMKEXIZE_PORTS];          /* by the port of the program's connection to the
                                                  helper; a futex */
};

struct smkexize_rule {
    bool in;
    struct smkexize_peer addr; /* as asked for by the user */
    struct in_addr loop;
};

struct smkexize_rules {
    unsigned count;
    bool plain;
    struct smkexize_rule rule[SMKEXIZE_RULES_MAX];
};

/* 0, or -1: not understood. */
int smkexize_rules_parse(struct smkexize_rules *rules, const char *text);

#endif
