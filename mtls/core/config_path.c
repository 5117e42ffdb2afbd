/* Concept: the parts of the configuration that name places: host names, addresses and path
 * specifications, from text and back to one canonical text. Only literals are interpreted; no name
 * is looked up and no interface asked for. */
#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>

#include "config_internal.h"

enum { NAME_TEXT_MAX = 253, LABEL_MAX = 63, RESOLVER_PORT = 53 };

/* ---- Names and addresses ---- */

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool label_char(char *c)
{
    if (*c >= 'A' && *c <= 'Z')
        *c = (char)(*c - 'A' + 'a');
    return (*c >= 'a' && *c <= 'z') || is_digit(*c) || *c == '-' || *c == '_';
}

/* One label at p, lower-cased in place; returns its length, 0 when it is none. */
static size_t label_canonical(char *p, bool *numeric)
{
    size_t n = 0;

    *numeric = true;
    for (; p[n] != '\0' && p[n] != '.'; n++) {
        if (n == LABEL_MAX || !label_char(&p[n]))
            return 0;
        *numeric = *numeric && is_digit(p[n]);
    }
    return n > 0 && p[0] != '-' && p[n - 1] != '-' ? n : 0;
}

/* An address literal; an IPv4-mapped IPv6 address becomes the IPv4 address that it is. */
static bool addr_from_text(struct mtls_addr *a, const char *text)
{
    static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
    struct mtls_addr r = {0};

    if (inet_pton(AF_INET, text, r.ip) == 1) {
        r.family = 4;
    } else if (inet_pton(AF_INET6, text, r.ip) == 1) {
        r.family = 6;
        if (memcmp(r.ip, mapped, sizeof(mapped)) == 0) {
            r.family = 4;
            memcpy(r.ip, r.ip + 12, 4);
            memset(r.ip + 4, 0, 12);
        }
    } else {
        return false;
    }
    *a = r;
    return true;
}

static void addr_to_text(const struct mtls_addr *a, char out[INET6_ADDRSTRLEN])
{
    if (inet_ntop(a->family == 6 ? AF_INET6 : AF_INET, a->ip, out, INET6_ADDRSTRLEN) == NULL)
        out[0] = '\0';
}

int mtls_name_canonical(const char *name, char out[MTLS_HOST_MAX + 1])
{
    char buf[MTLS_HOST_MAX + 1];
    struct mtls_addr addr;
    size_t len = name != NULL ? strnlen(name, sizeof(buf)) : 0;
    bool numeric = false;

    if (len == 0 || len == sizeof(buf))
        return MTLS_ERR_CONFIG_VALUE;
    memcpy(buf, name, len + 1);
    if (addr_from_text(&addr, buf)) {
        addr_to_text(&addr, out);
        return 0;
    }
    if (buf[len - 1] == '.')
        buf[--len] = '\0';
    if (len == 0 || len > NAME_TEXT_MAX)
        return MTLS_ERR_CONFIG_VALUE;
    for (char *p = buf;;) {
        size_t n = label_canonical(p, &numeric);

        if (n == 0)
            return MTLS_ERR_CONFIG_VALUE;
        p += n;
        if (*p++ == '\0')
            break;
    }
    if (numeric) /* "10.1" and "192.0.2.010": an address to some, a name to others */
        return MTLS_ERR_CONFIG_VALUE;
    memcpy(out, buf, len + 1);
    return 0;
}

static char *put_decimal(char *p, unsigned value)
{
    if (value >= 10)
        p = put_decimal(p, value / 10);
    *p = (char)('0' + value % 10);
    return p + 1;
}

/* Every client's report has some: twenty times as fast as by way of printf(). */
static int v4_format(const struct mtls_addr *a, char *out, size_t cap)
{
    char text[sizeof("255.255.255.255:65535")], *p = text;
    size_t len, fits;
    int i;

    for (i = 0; i < 4; i++) {
        p = put_decimal(p, a->ip[i]);
        *p++ = i < 3 ? '.' : ':';
    }
    if (a->port == 0)
        p--;
    else
        p = put_decimal(p, a->port);
    len = (size_t)(p - text);
    fits = len < cap ? len : cap - 1;
    if (cap > 0) {
        memcpy(out, text, fits);
        out[fits] = '\0';
    }
    return (int)len;
}

int mtls_addr_format(const struct mtls_addr *a, char *out, size_t cap)
{
    char ip[INET6_ADDRSTRLEN];

    if (a->family != 4 && a->family != 6) {
        if (cap > 0)
            out[0] = '\0';
        return 0;
    }
    if (a->family == 4)
        return v4_format(a, out, cap);
    addr_to_text(a, ip);
    if (a->port == 0)
        return snprintf(out, cap, "%s", ip);
    return snprintf(out, cap, "[%s]:%u", ip, (unsigned)a->port);
}

bool config_addr_is_unicast(const struct mtls_addr *a)
{
    static const uint8_t zero[16];
    static const uint8_t broadcast[4] = {255, 255, 255, 255};

    if (memcmp(a->ip, zero, sizeof(zero)) == 0)
        return false;
    if (a->family == 6)
        return a->ip[0] != 0xff;
    return (a->ip[0] & 0xf0) != 0xe0 && memcmp(a->ip, broadcast, sizeof(broadcast)) != 0;
}

/* Splits "HOST", "HOST:PORT", "[ADDR]", "[ADDR]:PORT" or a bare IPv6 address; *port is NULL without
 * one. */
static bool host_split(char *text, char **host, const char **port)
{
    char *end, *colon = strchr(text, ':');

    *host = text;
    *port = NULL;
    if (text[0] == '[') {
        *host = text + 1;
        end = strchr(text, ']');
        if (end == NULL || memchr(text, ':', (size_t)(end - text)) == NULL)
            return false;
        *end++ = '\0';
        if (*end != '\0' && *end != ':')
            return false;
        *port = *end == ':' ? end + 1 : NULL;
    } else if (colon != NULL && strchr(colon + 1, ':') == NULL) {
        *colon = '\0';
        *port = colon + 1;
    }
    return true;
}

bool config_host(struct mtls_host *h, const char *text, bool *has_port)
{
    char buf[MTLS_HOST_MAX + 16], *host;
    const char *port;
    struct mtls_host r = {0};
    uint32_t number = 0;
    size_t len = text != NULL ? strnlen(text, sizeof(buf)) : 0;

    if (len == 0 || len == sizeof(buf))
        return false;
    memcpy(buf, text, len + 1);
    if (!host_split(buf, &host, &port) || mtls_name_canonical(host, r.name) != 0)
        return false;
    if (port != NULL && !config_number(port, 0, UINT16_MAX, &number))
        return false;
    (void)addr_from_text(&r.addr, r.name); /* a name leaves family 0 */
    r.addr.port = (uint16_t)number;
    *has_port = port != NULL;
    *h = r;
    return true;
}

int mtls_host_parse(struct mtls_host *h, const char *text)
{
    struct mtls_host r;
    bool has_port;

    if (!config_host(&r, text, &has_port) || (has_port && r.addr.port == 0))
        return MTLS_ERR_CONFIG_VALUE;
    *h = r;
    return 0;
}

/* "HOST:PORT" of a name or a literal; port 0: "HOST". */
static int host_format(const struct mtls_host *h, char *out, size_t cap)
{
    if (h->addr.family != 0)
        return mtls_addr_format(&h->addr, out, cap);
    if (h->addr.port == 0)
        return snprintf(out, cap, "%s", h->name);
    return snprintf(out, cap, "%s:%u", h->name, (unsigned)h->addr.port);
}

/* ---- The words of a path specification ---- */

struct spec_parse {
    struct mtls_path_spec *spec;
    const struct config_say *say;
    unsigned seen; /* bit i: spec_words[i] */
};

static int bad(const struct spec_parse *p, const char *word, const char *value, const char *what)
{
    return config_fail(p->say, MTLS_ERR_CONFIG_VALUE, word, value, "%s", what);
}

static int set_local(const struct spec_parse *p, const char *value)
{
    struct mtls_host h;

    if (mtls_host_parse(&h, value) != 0 || h.addr.family == 0 || h.addr.port != 0 ||
        !config_addr_is_unicast(&h.addr))
        return bad(p, "path2: local", value, "must be an address of this machine");
    p->spec->local = h.addr;
    return 0;
}

static int set_dev(const struct spec_parse *p, const char *value)
{
    size_t len = strlen(value);

    if (len > MTLS_IF_MAX || strcspn(value, "/:") != len || strcmp(value, ".") == 0 ||
        strcmp(value, "..") == 0)
        return bad(p, "path2: dev", value, "must be the name of an interface");
    for (size_t i = 0; i < len; i++)
        if (value[i] < '!' || value[i] > '~')
            return bad(p, "path2: dev", value, "must be the name of an interface");
    memcpy(p->spec->dev, value, len + 1);
    return 0;
}

static int set_remote(const struct spec_parse *p, const char *value)
{
    struct mtls_host h;

    if (mtls_host_parse(&h, value) != 0 || (h.addr.family != 0 && !config_addr_is_unicast(&h.addr)))
        return bad(p, "path2: remote", value, "must be HOST or HOST:PORT");
    p->spec->remote = h;
    return 0;
}

static int set_port(const struct spec_parse *p, const char *value)
{
    uint32_t n;

    if (!config_number(value, 1, UINT16_MAX, &n))
        return bad(p, "path2: port", value, "must be a number from 1 to 65535");
    p->spec->port = (uint16_t)n;
    return 0;
}

static int set_resolver(const struct spec_parse *p, const char *value)
{
    struct mtls_host h;

    if (mtls_host_parse(&h, value) != 0 || h.addr.family == 0 || !config_addr_is_unicast(&h.addr))
        return bad(p, "path2: resolver", value, "must be ADDR or ADDR:PORT");
    p->spec->resolver = h.addr;
    if (h.addr.port == 0)
        p->spec->resolver.port = RESOLVER_PORT;
    return 0;
}

static int set_via(const struct spec_parse *p, const char *value)
{
    static const char scheme[] = "socks5h://";
    const size_t n = sizeof(scheme) - 1;
    struct mtls_host h;

    if (strncmp(value, scheme, n) != 0 || mtls_host_parse(&h, value + n) != 0 || h.addr.port == 0 ||
        (h.addr.family != 0 && !config_addr_is_unicast(&h.addr)))
        return bad(p, "path2: via", value, "must be socks5h://HOST:PORT");
    p->spec->proxy = h;
    return 0;
}

static int set_tunnel(const struct spec_parse *p, const char *value)
{
    p->spec->tunnel = strcmp(value, "yes") == 0;
    if (!p->spec->tunnel && strcmp(value, "no") != 0)
        return bad(p, "path2: tunnel", value, "must be yes or no");
    return 0;
}

static const char *const distinct_names[] = {
    [MTLS_DISTINCT_CLIENT] = "client",
    [MTLS_DISTINCT_SERVER] = "server",
    [MTLS_DISTINCT_CLIENT | MTLS_DISTINCT_SERVER] = "both",
};

static int set_distinct(const struct spec_parse *p, const char *value)
{
    for (uint8_t i = MTLS_DISTINCT_CLIENT; i < sizeof(distinct_names) / sizeof(*distinct_names);
         i++)
        if (strcmp(value, distinct_names[i]) == 0) {
            p->spec->distinct = i;
            return 0;
        }
    return bad(p, "path2: distinct", value, "must be client, server or both");
}

static const struct spec_word {
    const char *name;
    int (*set)(const struct spec_parse *p, const char *value);
} spec_words[] = {
    {"local", set_local},   {"dev", set_dev},           {"remote", set_remote},
    {"port", set_port},     {"resolver", set_resolver}, {"via", set_via},
    {"tunnel", set_tunnel}, {"distinct", set_distinct},
};

static int spec_apply_word(struct spec_parse *p, char *word)
{
    char *value = strchr(word, '=');

    if (value == NULL || value == word)
        return config_fail(p->say, MTLS_ERR_CONFIG_SYNTAX, "path2", word,
                           "not of the form word=value");
    *value++ = '\0';
    for (size_t i = 0; i < sizeof(spec_words) / sizeof(*spec_words); i++) {
        if (strcmp(word, spec_words[i].name) != 0)
            continue;
        if (*value == '\0')
            return config_fail(p->say, MTLS_ERR_CONFIG_VALUE, "path2", word, "has no value");
        if ((p->seen & 1u << i) != 0)
            return config_fail(p->say, MTLS_ERR_CONFIG_CONFLICT, "path2", word, "is given twice");
        p->seen |= 1u << i;
        return spec_words[i].set(p, value);
    }
    return config_fail(p->say, MTLS_ERR_CONFIG_KEY, "path2", word, "unknown word");
}

/* ---- The specification as a whole ---- */

static int spec_conflict(const struct mtls_path_spec *s, const char **what)
{
    const struct mtls_addr *first_hop = s->proxy.name[0] != '\0' ? &s->proxy.addr : &s->remote.addr;

    *what = NULL;
    if (s->is_auto && (s->local.family != 0 || s->dev[0] != '\0' || s->remote.name[0] != '\0' ||
                       s->proxy.name[0] != '\0'))
        *what = "auto chooses: not together with local, dev, remote or via";
    else if (s->port != 0 && s->remote.addr.port != 0 && s->port != s->remote.addr.port)
        *what = "port and remote name different ports";
    else if (s->local.family != 0 && first_hop->family != 0 && s->local.family != first_hop->family)
        *what = s->proxy.name[0] != '\0' ? "local and via are of different address families"
                                         : "local and remote are of different address families";
    else if (s->tunnel && s->proxy.name[0] == '\0' && s->dev[0] == '\0' && s->local.family == 0)
        *what = "tunnel=yes needs via, dev or local";
    return *what == NULL ? 0 : MTLS_ERR_CONFIG_CONFLICT;
}

/* "remote=H,port=N" and "remote=H:N" are one specification: the port stands at the remote. */
static void spec_normalize(struct mtls_path_spec *s)
{
    if (s->remote.name[0] == '\0' || s->port == 0)
        return;
    s->remote.addr.port = s->port;
    s->port = 0;
}

int config_path_parse(struct mtls_path_spec *spec, char *value, const struct config_say *say)
{
    struct mtls_path_spec s = {.distinct = MTLS_DISTINCT_CLIENT};
    struct spec_parse p = {.spec = &s, .say = say};
    const char *what;
    int r = 0;

    for (char *word = value, *next; word != NULL; word = next) {
        next = strchr(word, ',');
        if (next != NULL)
            *next++ = '\0';
        if (word == value && strcmp(word, "auto") == 0)
            s.is_auto = true;
        else if ((r = spec_apply_word(&p, word)) != 0)
            return r;
    }
    r = spec_conflict(&s, &what);
    if (r != 0)
        return config_fail(say, r, "path2", NULL, "%s", what);
    spec_normalize(&s);
    r = mtls_path_spec_format(&s);
    if (r != 0)
        return config_fail(say, r, "path2", NULL, "too long");
    *spec = s;
    return 0;
}

/* ---- Canonical text ---- */

struct spec_out {
    char *text;
    size_t len, cap;
    bool full;
};

static void put_word(struct spec_out *o, const char *key, const char *value)
{
    int n =
        snprintf(o->text + o->len, o->cap - o->len, "%s%s%s", o->len > 0 ? "," : "", key, value);

    if (n < 0 || (size_t)n >= o->cap - o->len)
        o->full = true;
    else
        o->len += (size_t)n;
}

static void put_addr(struct spec_out *o, const char *key, struct mtls_addr a, uint16_t default_port)
{
    char text[64];

    if (a.family == 0)
        return;
    if (a.port == default_port)
        a.port = 0;
    (void)mtls_addr_format(&a, text, sizeof(text));
    put_word(o, key, text);
}

static void put_host(struct spec_out *o, const char *key, const struct mtls_host *h)
{
    char text[MTLS_HOST_MAX + 16];

    if (h->name[0] == '\0')
        return;
    (void)host_format(h, text, sizeof(text));
    put_word(o, key, text);
}

int mtls_path_spec_format(struct mtls_path_spec *s)
{
    struct spec_out o = {.text = s->text, .cap = sizeof(s->text)};
    char port[8];

    s->text[0] = '\0';
    if (s->is_auto)
        put_word(&o, "auto", "");
    put_addr(&o, "local=", s->local, 0);
    if (s->dev[0] != '\0')
        put_word(&o, "dev=", s->dev);
    put_host(&o, "remote=", &s->remote);
    if (s->port != 0) {
        (void)snprintf(port, sizeof(port), "%u", (unsigned)s->port);
        put_word(&o, "port=", port);
    }
    put_addr(&o, "resolver=", s->resolver, RESOLVER_PORT);
    put_host(&o, "via=socks5h://", &s->proxy);
    if (s->tunnel)
        put_word(&o, "tunnel=", "yes");
    /* A specification of defaults alone must not have an empty text: that is no value. */
    if (s->distinct != MTLS_DISTINCT_CLIENT || o.len == 0)
        put_word(&o, "distinct=",
                 distinct_names[s->distinct & 3] != NULL ? distinct_names[s->distinct & 3]
                                                         : "client");
    return o.full ? MTLS_ERR_CONFIG_VALUE : 0;
}
