/* Concept: the configuration: words to a struct, in layers (doc/architecture.md). Pure: literals
 * are parsed, names are kept as text, no file, environment or interface is looked at. */
#ifndef MTLS_CORE_CONFIG_H
#define MTLS_CORE_CONFIG_H

#include "common.h"

enum mtls_policy {
    MTLS_POLICY_UNSET = -1,
    MTLS_POLICY_OFF,
    MTLS_POLICY_PREFER,
    MTLS_POLICY_REQUIRE
};
/* How a server is confirmed; the numbers are enum mtls_confirm_mode's. */
enum mtls_confirm_way { MTLS_WAY_EXPORTER, MTLS_WAY_RESUME, MTLS_WAY_AUTO };
enum { /* distinct=, and the scope of an outcome; bits */
       MTLS_DISTINCT_CLIENT = 1,
       MTLS_DISTINCT_SERVER = 2,
};
enum {
    MTLS_HOST_MAX = 255,
    MTLS_IF_MAX = 15,
    MTLS_FILE_MAX = 1023,
    MTLS_CONFIG_TEXT_MAX = 8192,
    MTLS_LISTEN_MAX = 8,
    MTLS_SHARE_NAME_MAX = 64,
    MTLS_TLS_PORTS_MAX = 16,
    MTLS_ALTERNATES_MAX = 8
};

/* A host: a literal address (addr.family != 0) or a name (canonical: lower case, no trailing dot).
 */
struct mtls_host {
    char name[MTLS_HOST_MAX + 1]; /* as text in both cases; empty = not given */
    struct mtls_addr addr;        /* port: 0 = not given */
};

struct mtls_path_spec {
    bool is_auto;
    struct mtls_addr local;    /* family 0 = not given */
    char dev[MTLS_IF_MAX + 1]; /* empty = not given */
    struct mtls_host remote;
    uint16_t port;             /* 0 = not given: remote's, else MTLS_PORT_DEFAULT */
    struct mtls_addr resolver; /* port 53 unless given */
    struct mtls_host proxy;    /* via=socks5h://HOST:PORT */
    bool tunnel;               /* tunnel=yes: proxy or device is a protected tunnel */
    uint8_t distinct;          /* bits; default MTLS_DISTINCT_CLIENT */
    char text[768];            /* canonical text: equal specs have equal text (pool key, reports) */
};

struct mtls_config {
    enum mtls_policy policy;
    uint8_t npath2, need;
    struct mtls_path_spec path2[MTLS_PATHS_MAX];
    char name[MTLS_HOST_MAX + 1];
    uint32_t deadline_ms, grace_ms;
    bool early, tfo, reuse, reactor_app, single_port;
    char hosts[MTLS_FILE_MAX + 1];    /* empty = none */
    char evidence[MTLS_FILE_MAX + 1]; /* folder for evidence bundles; empty = none */
    bool evidence_all;                /* of every session, not of failed ones alone */
    uint32_t resume_max_s;
    uint8_t nlisten, naddress, ntls_ports;
    struct mtls_addr listen[MTLS_LISTEN_MAX], address[MTLS_LISTEN_MAX];
    uint16_t tls_ports[MTLS_TLS_PORTS_MAX];
    int32_t advertise; /* -1 = port of the first listener */
    uint32_t memory_s;
    uint32_t max_pending, per_source;
    /* confirmation by resumption [RSM] */
    enum mtls_confirm_way confirm;
    bool accept_consistent, expose_certificate;
    uint8_t nalternate;
    uint8_t alternate[MTLS_ALTERNATES_MAX][MTLS_SHA256_LEN]; /* of SubjectPublicKeyInfo */
    char share[MTLS_SHARE_NAME_MAX + 1];                     /* empty = none */
};

/* Whether a server with this configuration answers path 2. */
static inline bool mtls_config_serves(const struct mtls_config *c)
{
    return c->nlisten > 0 || c->single_port;
}

void mtls_config_init(struct mtls_config *c); /* the defaults of doc/architecture.md */

/* Applies one layer. On an error *c is unchanged and, when msg is not NULL, msg (size msg_len)
 * names the word and what is wrong with it. NULL text is an empty layer. Errors:
 * MTLS_ERR_CONFIG_SYNTAX, _KEY, _VALUE, _CONFLICT (twice the same single-valued word in a layer;
 * too many paths; need over 8). */
MTLS_NODISCARD int mtls_config_apply(struct mtls_config *c, const char *text, char *msg,
                                     size_t msg_len);

/* After the last layer: fills the policy's default and checks that words agree (need <= number of
 * paths unless one is auto; require or prefer on a client with no path is legal: nothing is then
 * offered and require fails). Errors: MTLS_ERR_CONFIG_CONFLICT. */
MTLS_NODISCARD int mtls_config_finish(struct mtls_config *c, char *msg, size_t msg_len);

/* Writes the configuration as one canonical string that mtls_config_apply() understands. Returns
 * its length, or MTLS_ERR_ARG when cap is too small. */
MTLS_NODISCARD int mtls_config_format(const struct mtls_config *c, char *out, size_t cap);

/* Parsers that others need too. Literal "192.0.2.1:443", "[2001:db8::1]:443", "2001:db8::1",
 * "host:443". Errors: MTLS_ERR_CONFIG_VALUE. */
MTLS_NODISCARD int mtls_host_parse(struct mtls_host *h, const char *text);
/* "ADDR:PORT" or "[ADDR]:PORT" (port 0: "ADDR"); returns the length. cap 56 suffices. */
int mtls_addr_format(const struct mtls_addr *a, char *out, size_t cap);
/* Lower case, one trailing dot removed, LDH and underscore labels; an address literal becomes its
 * canonical text. A name whose last label is a number is neither. Returns 0 or
 * MTLS_ERR_CONFIG_VALUE. */
MTLS_NODISCARD int mtls_name_canonical(const char *name, char out[MTLS_HOST_MAX + 1]);

/* Fills spec->text from the other members, for specifications that are made and not parsed
 * (`auto`). Errors: MTLS_ERR_CONFIG_VALUE when it does not fit. */
MTLS_NODISCARD int mtls_path_spec_format(struct mtls_path_spec *spec);

#endif
