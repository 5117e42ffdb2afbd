/* The flags that mtlsize run and mtlsize enable share: configuration words. */
#ifndef APPS_MTLSIZE_WORDS_H
#define APPS_MTLSIZE_WORDS_H

#include "mtlsize_settings.h"
#include "options.h"

enum { O_POLICY = 1, O_PATH2, O_LISTEN, O_TLS_PORT, O_CONFIRM, O_CONFIG, O_ALLOW_UNHOOKED, O_OWN };

/* clang-format off */
#define WORDS_DEFS                                                                                 \
    {O_POLICY, 0, "policy", "POLICY",                                                              \
     "require: no verification, no connection (the default\nwith a path or listener); prefer", 0}, \
    {O_PATH2, 0, "path2", "SPEC", "a second path of a client, see mtls.conf(5); repeatable",       \
     OPT_MANY},                                                                                    \
    {O_LISTEN, 0, "listen", "ADDR:PORT", "where a server accepts path 2; repeatable", OPT_MANY},   \
    {O_TLS_PORT, 0, "tls-port", "PORT",                                                            \
     "a server's own TLS port: path 2 does not answer for\nothers of this host; repeatable",         \
     OPT_MANY},                                                                                    \
    {O_CONFIRM, 0, "confirm", "WAY",                                                               \
     "how a client confirms servers. exporter (default): by\n"                                     \
     "their own proof; resume: any TLS 1.3 server with\ntickets, weaker; auto: either", 0},        \
    {O_CONFIG, 0, "config", "WORDS|FILE",                                                          \
     "further configuration words, or a file of them, which\nis read now; repeatable", OPT_MANY},  \
    {O_ALLOW_UNHOOKED, 0, "allow-unhooked", NULL,                                                  \
     "let it run although it cannot be protected, and let TLS\npass that cannot be hooked", 0}
/* clang-format on */

/* One of these flags that has a value: 0, or -1 after a message. */
int words_flag(struct settings *s, const char *prog, int id, const char *value);

#endif
