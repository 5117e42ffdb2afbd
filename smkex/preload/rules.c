/* Concept: the rules of the preloaded library (rules.h). */
#include "rules.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

static int parse_one(struct smkexize_rule *r, const char *text)
{
    char kind[4], addr[INET6_ADDRSTRLEN], loop[INET_ADDRSTRLEN];
    unsigned port;
    int end = 0;

    if (sscanf(text, "%3s %45s %u %15s%n", kind, addr, &port, loop, &end) != 4 ||
        text[end] != '\0' || port == 0 || port > 65535)
        return -1;
    memset(r, 0, sizeof(*r));
    r->in = strcmp(kind, "IN") == 0;
    if (!r->in && strcmp(kind, "OUT") != 0)
        return -1;
    r->addr.port = htons((uint16_t)port);
    r->addr.family = strchr(addr, ':') != NULL ? AF_INET6 : AF_INET;
    return inet_pton(r->addr.family, addr, r->addr.addr) == 1 &&
                   inet_pton(AF_INET, loop, &r->loop) == 1
               ? 0
               : -1;
}

int smkexize_rules_parse(struct smkexize_rules *rules, const char *text)
{
    char one[128];

    memset(rules, 0, sizeof(*rules));
    while (*text != '\0') {
        size_t len = strcspn(text, ";");

        if (text[len] != ';' || len >= sizeof(one))
            return -1;
        memcpy(one, text, len);
        one[len] = '\0';
        text += len + 1;
        if (strcmp(one, "PLAIN") == 0)
            rules->plain = true;
        else if (rules->count == SMKEXIZE_RULES_MAX ||
                 parse_one(&rules->rule[rules->count++], one) != 0)
            return -1;
    }
    return 0;
}
