/* What most flags of the clients and servers do to a configuration, as a table beside the one of
 * options.h; and the rows that several of these programs have in both tables. A row's id is the
 * program's own. */
#ifndef APPS_OPTION_SETTINGS_H
#define APPS_OPTION_SETTINGS_H

#include <stddef.h>

#include "options.h"
#include "tls_setup.h"

enum option_kind {
    OPTION_TEXT,   /* field is a const char * */
    OPTION_ON,     /* field is a bool */
    OPTION_NUMBER, /* field is an unsigned long, from min to max */
    OPTION_WORD    /* no field; max > 0: a number from min to max */
};

struct option_setting {
    int id; /* 0: the end */
    enum option_kind kind;
    size_t field; /* its offset in the configuration */
    unsigned long min, max;
    const char *key;     /* a configuration word key=value is added; WORD without: value is words */
    const char *choices; /* the values that there are: "off, prefer or require" */
};

struct option_target {
    const char *prog;
    const struct option_def *defs;
    const struct option_setting *settings;
    void *config;
    struct words *words;
};

/* 0: done; 1: the table does not have it; -1: after a message. */
int option_set(const struct option_target *t, int id, const char *value);
/* Parses; --help and --version are answered. 1: go on; 0: answered; -1: after a message. */
int options_start(struct options *o, int argc, char **argv, option_handler *handle, void *arg,
                  const char *usage, int help, int version);

/* clang-format off */
#define OTHER_ROWS(verbose_text)                                                                   \
    {0, 0, "Other:", NULL, NULL, 0},                                                               \
    {O_JSON, 0, "json", NULL, "standard error is JSON, one object a line", 0},                     \
    {O_VERBOSE, 'v', "verbose", NULL, verbose_text, 0},                                            \
    {O_HELP, 'h', "help", NULL, "this text", 0},                                                   \
    {O_VERSION, 'V', "version", NULL, "the version", 0},                                           \
    {0, 0, NULL, NULL, NULL, 0}
#define OTHER_SETTINGS(type)                                                                       \
    {O_POLICY, OPTION_WORD, 0, 0, 0, "policy", "off, prefer or require"},                          \
    {O_DEADLINE, OPTION_NUMBER, offsetof(type, deadline_ms), 100, 120000, "deadline", NULL},       \
    {O_CONFIG, OPTION_WORD, 0, 0, 0, NULL, NULL},                                                  \
    {O_IDLE_TIMEOUT, OPTION_NUMBER, offsetof(type, idle_s), 1, 604800, NULL, NULL},                \
    {O_MPTCP, OPTION_ON, offsetof(type, mptcp), 0, 0, NULL, NULL},                                 \
    {O_JSON, OPTION_ON, offsetof(type, json), 0, 0, NULL, NULL},                                   \
    {O_VERBOSE, OPTION_ON, offsetof(type, verbose), 0, 0, NULL, NULL},                             \
    {0, OPTION_ON, 0, 0, 0, NULL, NULL}

#define CLIENT_WHAT_ROWS(by)                                                                       \
    {0, 0, "What to do (default: standard input and output are the connection):", NULL, NULL, 0},  \
    {O_GET, 0, "get", "PATH", "fetch PATH by HTTP; the body alone on standard output", 0},         \
    {O_HEAD, 0, "head", "PATH", "ask for PATH by HTTP HEAD; the exit code is the answer", 0},      \
    {O_FORWARD, 0, "forward", "ADDR:PORT",                                                         \
     "accept plain connections here and pass each on to\nHOST:PORT by " by "; port 0: any free port", 0}
#define CLIENT_PATH2_ROWS                                                                          \
    {O_PATH2, 0, "path2", "SPEC",                                                                  \
     "a second path: auto, or of local=ADDR,dev=IFNAME,\nremote=HOST:PORT,port=N,resolver=ADDR,\n" \
     "via=socks5h://HOST:PORT,tunnel=yes,\ndistinct=client|server|both; repeatable", OPT_MANY},    \
    {O_NEED, 0, "need", "K", "so many second paths must confirm (default 1)", 0}
#define CLIENT_PATH1_ROWS                                                                          \
    {0, 0, "Path 1:", NULL, NULL, 0},                                                              \
    {O_CONNECT, 0, "connect", "ADDR", "connect to this address; HOST is not looked up", 0},        \
    {O_PATH1_DEV, 0, "path1-dev", "IFNAME", "bind path 1 to this network device", 0},              \
    {O_PATH1_LOCAL, 0, "path1-local", "ADDR", "path 1's source address", 0},                       \
    {O_MPTCP, 0, "mptcp", NULL, "path 1 by Multipath TCP", 0},                                     \
    {O_IPV4, '4', "ipv4", NULL, "IPv4 only", 0},                                                   \
    {O_IPV6, '6', "ipv6", NULL, "IPv6 only", 0},                                                   \
    {O_TIMEOUT, 0, "timeout", "S", "for look-up and connect, each (default 15)", 0},               \
    {O_IDLE_TIMEOUT, 0, "idle-timeout", "S",                                                       \
     "an open connection without a byte (default 3600;\nwith --get and --head 60)", 0}
#define CLIENT_SETTINGS                                                                            \
    {O_NEED, OPTION_WORD, 0, 1, CLIENT_PATHS, "need", NULL},                                       \
    {O_HOSTS, OPTION_TEXT, offsetof(struct client_config, hosts), 0, 0, "hosts", NULL},            \
    {O_TIMEOUT, OPTION_NUMBER, offsetof(struct client_config, timeout_s), 1, 600, NULL, NULL},     \
    OTHER_SETTINGS(struct client_config)

#define SERVER_SERVICE_ROWS                                                                        \
    {0, 0, "Service, exactly one:", NULL, NULL, 0},                                                \
    {O_WWW, 0, "www", "DIR", "serve the files beneath DIR (HTTP/1.1 GET and HEAD)", 0},            \
    {O_FORWARD, 0, "forward", "HOST:PORT", "pass the plain bytes to HOST:PORT", 0},                \
    {O_ECHO, 0, "echo", NULL, "send back what comes", 0}
#define SERVER_LIMIT_ROWS                                                                          \
    {0, 0, "Limits:", NULL, NULL, 0},                                                              \
    {O_MAX_CONNECTIONS, 0, "max-connections", "N", "at the same time; more wait (default 8192)", 0}, \
    {O_IDLE_TIMEOUT, 0, "idle-timeout", "S", "an open connection without a byte (default 300)", 0}, \
    {O_DRAIN_TIMEOUT, 0, "drain-timeout", "S", "for open connections after SIGTERM (default 10)", 0}
#define SERVER_SETTINGS                                                                            \
    {O_PATH2_LISTEN, OPTION_WORD, 0, 0, 0, "listen", NULL},                                        \
    {O_MAX_CONNECTIONS, OPTION_NUMBER, offsetof(struct server_config, max_connections), 1,         \
     10000000, NULL, NULL},                                                                        \
    {O_DRAIN_TIMEOUT, OPTION_NUMBER, offsetof(struct server_config, drain_s), 0, 86400, NULL, NULL}, \
    OTHER_SETTINGS(struct server_config)
/* clang-format on */

#endif
