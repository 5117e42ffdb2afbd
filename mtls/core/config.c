/* Concept: the words of the configuration (doc/architecture.md, "Configuration words"): one table
 * says what each word takes, where it is kept and how it is written back. Hosts and path
 * specifications are config_path.c's. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "config_internal.h"

enum { SHOWN_MAX = 80 /* bytes of a word that an error shows */ };

/* ---- Errors and numbers ---- */

static size_t say_text(const struct config_say *say, size_t at, const char *text, size_t max)
{
    for (size_t i = 0; text[i] != '\0' && i < max && at + 1 < say->cap; i++, at++)
        say->out[at] = text[i] >= ' ' && text[i] <= '~' ? text[i] : '?';
    say->out[at] = '\0';
    return at;
}

int config_fail(const struct config_say *say, int code, const char *word, const char *value,
                const char *fmt, ...)
{
    va_list ap;
    size_t at;

    if (say->out == NULL || say->cap == 0)
        return code;
    at = say_text(say, 0, word, SHOWN_MAX);
    if (value != NULL) {
        at = say_text(say, at, strchr(word, ':') == NULL && strcmp(word, "path2") == 0 ? ": " : "=",
                      2);
        at = say_text(say, at, value, SHOWN_MAX);
    }
    at = say_text(say, at, ": ", 2);
    va_start(ap, fmt);
    (void)vsnprintf(say->out + at, say->cap - at, fmt, ap);
    va_end(ap);
    return code;
}

bool config_number(const char *text, uint32_t min, uint32_t max, uint32_t *out)
{
    uint64_t n = 0;
    size_t i;

    for (i = 0; text[i] >= '0' && text[i] <= '9' && i < 11; i++)
        n = n * 10 + (uint64_t)(text[i] - '0');
    if (i == 0 || text[i] != '\0' || (i > 1 && text[0] == '0') || n < min || n > max)
        return false;
    *out = (uint32_t)n;
    return true;
}

/* ---- One setter for each kind of word ---- */

struct layer {
    struct mtls_config c;
    uint32_t seen; /* bit i: words[i] */
    struct config_say say;
};

struct word {
    const char *name;
    int (*set)(struct layer *l, const struct word *w, char *value);
    bool list;
    size_t offset; /* of the member of struct mtls_config */
    uint32_t min, max;
};

static void *member(struct layer *l, const struct word *w)
{
    return (char *)&l->c + w->offset;
}

static int bad(const struct layer *l, const struct word *w, const char *value, const char *what)
{
    return config_fail(&l->say, MTLS_ERR_CONFIG_VALUE, w->name, value, "%s", what);
}

static const char *unit_of(const char *name)
{
    if (strcmp(name, "deadline") == 0 || strcmp(name, "grace") == 0)
        return " (milliseconds)";
    return strcmp(name, "memory") == 0 || strcmp(name, "resume") == 0 ? " (seconds)" : "";
}

static int set_u32(struct layer *l, const struct word *w, char *value)
{
    uint32_t *to = member(l, w);

    if (!config_number(value, w->min, w->max, to))
        return config_fail(&l->say, MTLS_ERR_CONFIG_VALUE, w->name, value,
                           "must be a number from %u to %u%s", (unsigned)w->min, (unsigned)w->max,
                           unit_of(w->name));
    return 0;
}

/* The name of shared memory, too: nothing that leads elsewhere. */
static int set_share(struct layer *l, const struct word *w, char *value)
{
    static const char legal[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";
    size_t len = strlen(value);

    if (len == 0 || len > MTLS_SHARE_NAME_MAX || strspn(value, legal) != len)
        return bad(l, w, value, "must be none, or 1 to 64 letters, digits, _ and -");
    memset(l->c.share, 0, sizeof(l->c.share));
    if (strcmp(value, "none") != 0)
        memcpy(l->c.share, value, len);
    return 0;
}

static int set_advertise(struct layer *l, const struct word *w, char *value)
{
    uint32_t n;

    if (!config_number(value, 0, UINT16_MAX, &n))
        return bad(l, w, value, "must be a number from 0 to 65535");
    l->c.advertise = (int32_t)n;
    return 0;
}

static int set_need(struct layer *l, const struct word *w, char *value)
{
    uint32_t n;

    if (!config_number(value, 1, UINT32_MAX, &n))
        return bad(l, w, value, "must be a number from 1 to 8");
    if (n > MTLS_PATHS_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, value,
                           "there are at most 8 paths");
    l->c.need = (uint8_t)n;
    return 0;
}

/* A bool that two words stand for. */
static int set_choice(struct layer *l, const struct word *w, const char *value, const char *no,
                      const char *yes)
{
    bool *to = member(l, w);

    *to = strcmp(value, yes) == 0;
    if (!*to && strcmp(value, no) != 0)
        return config_fail(&l->say, MTLS_ERR_CONFIG_VALUE, w->name, value, "must be %s or %s", yes,
                           no);
    return 0;
}

static int set_switch(struct layer *l, const struct word *w, char *value)
{
    return set_choice(l, w, value, "off", "on");
}

static int set_reactor(struct layer *l, const struct word *w, char *value)
{
    return set_choice(l, w, value, "thread", "app");
}

static const char *const policy_names[] = {
    [MTLS_POLICY_OFF] = "off", [MTLS_POLICY_PREFER] = "prefer", [MTLS_POLICY_REQUIRE] = "require"};

static int set_policy(struct layer *l, const struct word *w, char *value)
{
    for (int i = MTLS_POLICY_OFF; i <= MTLS_POLICY_REQUIRE; i++)
        if (strcmp(value, policy_names[i]) == 0) {
            l->c.policy = (enum mtls_policy)i;
            return 0;
        }
    return bad(l, w, value, "must be off, prefer or require");
}

static const char *const confirm_names[] = {
    [MTLS_WAY_EXPORTER] = "exporter", [MTLS_WAY_RESUME] = "resume", [MTLS_WAY_AUTO] = "auto"};

static int set_confirm(struct layer *l, const struct word *w, char *value)
{
    for (int i = MTLS_WAY_EXPORTER; i <= MTLS_WAY_AUTO; i++)
        if (strcmp(value, confirm_names[i]) == 0) {
            l->c.confirm = (enum mtls_confirm_way)i;
            return 0;
        }
    return bad(l, w, value, "must be exporter, resume or auto");
}

static int set_accept(struct layer *l, const struct word *w, char *value)
{
    return set_choice(l, w, value, "verified", "consistent");
}

static int set_name(struct layer *l, const struct word *w, char *value)
{
    if (mtls_name_canonical(value, l->c.name) != 0)
        return bad(l, w, value, "must be a host name or an address");
    return 0;
}

static int set_hosts(struct layer *l, const struct word *w, char *value)
{
    size_t len = strlen(value);

    if (len > MTLS_FILE_MAX)
        return bad(l, w, value, "file name too long");
    if (value[len - 1] == '/')
        return bad(l, w, value, "must be a file or none");
    if (strcmp(value, "none") == 0)
        l->c.hosts[0] = '\0';
    else
        memcpy(l->c.hosts, value, len + 1);
    return 0;
}

static int set_evidence(struct layer *l, const struct word *w, char *value)
{
    size_t len = strlen(value);

    if (len > MTLS_FILE_MAX)
        return bad(l, w, value, "folder name too long");
    if (strcmp(value, "none") == 0)
        l->c.evidence[0] = '\0';
    else
        memcpy(l->c.evidence, value, len + 1);
    return 0;
}

static int set_evidence_of(struct layer *l, const struct word *w, char *value)
{
    if (strcmp(value, "failed") != 0 && strcmp(value, "all") != 0)
        return bad(l, w, value, "must be failed or all");
    l->c.evidence_all = value[0] == 'a';
    return 0;
}

static int set_path2(struct layer *l, const struct word *w, char *value)
{
    int r;

    if (l->c.npath2 == MTLS_PATHS_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, NULL, "more than 8");
    r = config_path_parse(&l->c.path2[l->c.npath2], value, &l->say);
    if (r == 0)
        l->c.npath2++;
    return r;
}

static bool hex_byte(const char *text, uint8_t *out)
{
    static const char digits[] = "0123456789abcdef";
    const char *hi = text[0] != '\0' ? strchr(digits, text[0]) : NULL;
    const char *lo = hi != NULL && text[1] != '\0' ? strchr(digits, text[1]) : NULL;

    if (lo == NULL)
        return false;
    *out = (uint8_t)((hi - digits) << 4 | (lo - digits));
    return true;
}

static int set_alternate(struct layer *l, const struct word *w, char *value)
{
    uint8_t *to = l->c.alternate[l->c.nalternate];

    if (l->c.nalternate == MTLS_ALTERNATES_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, NULL, "more than 8");
    for (size_t i = 0; i < MTLS_SHA256_LEN; i++)
        if (!hex_byte(value + 2 * i, &to[i]))
            return bad(l, w, value, "must be 64 hexadecimal digits");
    if (value[2 * MTLS_SHA256_LEN] != '\0')
        return bad(l, w, value, "must be 64 hexadecimal digits");
    l->c.nalternate++;
    return 0;
}

/* Lists of the server: comma-separated here, or the word again. */

static int add_tls_port(struct layer *l, const struct word *w, const char *item)
{
    uint32_t n;

    if (!config_number(item, 1, UINT16_MAX, &n))
        return bad(l, w, item, "must be a number from 1 to 65535");
    if (l->c.ntls_ports == MTLS_TLS_PORTS_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, item, "more than 16");
    l->c.tls_ports[l->c.ntls_ports++] = (uint16_t)n;
    return 0;
}

static int add_listen(struct layer *l, const struct word *w, const char *item)
{
    struct mtls_host h;
    bool has_port;

    if (!config_host(&h, item, &has_port) || h.addr.family == 0 || !has_port)
        return bad(l, w, item, "must be ADDR:PORT");
    if (l->c.nlisten == MTLS_LISTEN_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, item, "more than 8");
    l->c.listen[l->c.nlisten++] = h.addr;
    return 0;
}

static int add_address(struct layer *l, const struct word *w, const char *item)
{
    struct mtls_host h;

    if (mtls_host_parse(&h, item) != 0 || h.addr.family == 0 || h.addr.port == 0 ||
        !config_addr_is_unicast(&h.addr))
        return bad(l, w, item, "must be ADDR:PORT");
    if (l->c.naddress == MTLS_LISTEN_MAX)
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, w->name, item, "more than 8");
    l->c.address[l->c.naddress++] = h.addr;
    return 0;
}

static int set_each(struct layer *l, const struct word *w, char *value,
                    int (*add)(struct layer *l, const struct word *w, const char *item))
{
    int r = 0;

    for (char *item = value, *next; item != NULL && r == 0; item = next) {
        next = strchr(item, ',');
        if (next != NULL)
            *next++ = '\0';
        r = add(l, w, item);
    }
    return r;
}

static int set_tls_ports(struct layer *l, const struct word *w, char *value)
{
    return set_each(l, w, value, add_tls_port);
}

static int set_listen(struct layer *l, const struct word *w, char *value)
{
    return set_each(l, w, value, add_listen);
}

static int set_address(struct layer *l, const struct word *w, char *value)
{
    return set_each(l, w, value, add_address);
}

/* ---- The table ---- */

#define AT(m) offsetof(struct mtls_config, m)
/* The offset of a list is that of its count. */
static const struct word words[] = {
    {"policy", set_policy, false, AT(policy), 0, 0},
    {"path2", set_path2, true, AT(npath2), 0, 0},
    {"need", set_need, false, AT(need), 0, 0},
    {"name", set_name, false, AT(name), 0, 0},
    {"deadline", set_u32, false, AT(deadline_ms), 100, 120000},
    {"grace", set_u32, false, AT(grace_ms), 1000, 60000},
    {"early", set_switch, false, AT(early), 0, 0},
    {"tfo", set_switch, false, AT(tfo), 0, 0},
    {"reuse", set_switch, false, AT(reuse), 0, 0},
    {"hosts", set_hosts, false, AT(hosts), 0, 0},
    {"evidence", set_evidence, false, AT(evidence), 0, 0},
    {"evidence-of", set_evidence_of, false, AT(evidence_all), 0, 0},
    {"resume", set_u32, false, AT(resume_max_s), 0, 604800},
    {"reactor", set_reactor, false, AT(reactor_app), 0, 0},
    {"listen", set_listen, true, AT(nlisten), 0, 0},
    {"advertise", set_advertise, false, AT(advertise), 0, 0},
    {"address", set_address, true, AT(naddress), 0, 0},
    {"tls-port", set_tls_ports, true, AT(ntls_ports), 0, 0},
    {"memory", set_u32, false, AT(memory_s), 0, 315360000},
    {"max-pending", set_u32, false, AT(max_pending), 1, 1048576},
    {"per-source", set_u32, false, AT(per_source), 1, 1048576},
    {"share", set_share, false, AT(share), 0, 0},
    {"confirm", set_confirm, false, AT(confirm), 0, 0},
    {"accept", set_accept, false, AT(accept_consistent), 0, 0},
    {"expose-certificate", set_switch, false, AT(expose_certificate), 0, 0},
    {"alternate", set_alternate, true, AT(nalternate), 0, 0},
    {"single-port", set_switch, false, AT(single_port), 0, 0},
};
#undef AT
enum { NWORDS = sizeof(words) / sizeof(words[0]) };

void mtls_config_init(struct mtls_config *c)
{
    memset(c, 0, sizeof(*c));
    c->policy = MTLS_POLICY_UNSET;
    c->need = 1;
    c->deadline_ms = 10000;
    c->grace_ms = 1000;
    c->early = c->tfo = c->reuse = true;
    c->resume_max_s = 86400;
    c->advertise = -1;
    c->memory_s = 15552000;
    c->max_pending = 65536;
    c->per_source = 256;
}

/* ---- A layer ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static int apply_word(struct layer *l, char *text)
{
    char *value = strchr(text, '=');
    const struct word *w = words;

    for (const char *p = text; *p != '\0'; p++)
        if ((unsigned char)*p < ' ' || *p == 0x7f)
            return config_fail(&l->say, MTLS_ERR_CONFIG_SYNTAX, text, NULL, "control character");
    if (value == NULL || value == text)
        return config_fail(&l->say, MTLS_ERR_CONFIG_SYNTAX, text, NULL,
                           "not of the form word=value");
    *value++ = '\0';
    while (w < words + NWORDS && strcmp(w->name, text) != 0)
        w++;
    if (w == words + NWORDS)
        return config_fail(&l->say, MTLS_ERR_CONFIG_KEY, text, NULL, "unknown word");
    if (*value == '\0')
        return config_fail(&l->say, MTLS_ERR_CONFIG_VALUE, text, NULL, "has no value");
    if ((l->seen & 1u << (w - words)) == 0) {
        if (w->list)
            *(uint8_t *)member(l, w) = 0;
    } else if (!w->list) {
        return config_fail(&l->say, MTLS_ERR_CONFIG_CONFLICT, text, NULL, "is given twice");
    }
    l->seen |= 1u << (w - words);
    return w->set(l, w, value);
}

int mtls_config_apply(struct mtls_config *c, const char *text, char *msg, size_t msg_len)
{
    struct layer l = {.c = *c, .say = {.out = msg, .cap = msg_len}};
    char buf[MTLS_CONFIG_TEXT_MAX + 1];
    size_t len = text != NULL ? strnlen(text, sizeof(buf)) : 0;
    int r;

    if (len == sizeof(buf))
        return config_fail(&l.say, MTLS_ERR_CONFIG_SYNTAX, "configuration", NULL,
                           "longer than %u bytes", (unsigned)MTLS_CONFIG_TEXT_MAX);
    if (len > 0)
        memcpy(buf, text, len);
    buf[len] = '\0';
    for (char *p = buf, *end; *p != '\0'; p = end) {
        while (is_space(*p))
            p++;
        for (end = p; *end != '\0' && !is_space(*end);)
            end++;
        if (end == p)
            break;
        if (*end != '\0')
            *end++ = '\0';
        r = apply_word(&l, p);
        if (r != 0)
            return r;
    }
    *c = l.c;
    return 0;
}

int mtls_config_finish(struct mtls_config *c, char *msg, size_t msg_len)
{
    const struct config_say say = {.out = msg, .cap = msg_len};
    bool is_auto = false;

    for (uint8_t i = 0; i < c->npath2; i++)
        is_auto = is_auto || c->path2[i].is_auto;
    if (!is_auto && c->need > 1 && c->need > c->npath2)
        return config_fail(&say, MTLS_ERR_CONFIG_CONFLICT, "need", NULL,
                           "%u, but path2 stands %u time%s", (unsigned)c->need, (unsigned)c->npath2,
                           c->npath2 == 1 ? "" : "s");
    if (c->policy == MTLS_POLICY_UNSET)
        c->policy = c->npath2 > 0 || mtls_config_serves(c) ? MTLS_POLICY_REQUIRE : MTLS_POLICY_OFF;
    return 0;
}

/* ---- Canonical text: what differs from the defaults, in the order of the table ---- */

struct text_out {
    char *text;
    size_t len, cap;
    bool full;
};

__attribute__((format(printf, 3, 4))) static void put(struct text_out *o, const char *word,
                                                      const char *fmt, ...)
{
    va_list ap;
    int n = 0, m = 0;

    if (!o->full)
        n = snprintf(o->text + o->len, o->cap - o->len, "%s%s=", o->len > 0 ? " " : "", word);
    o->full = o->full || n < 0 || (size_t)n >= o->cap - o->len;
    if (o->full)
        return;
    o->len += (size_t)n;
    va_start(ap, fmt);
    m = vsnprintf(o->text + o->len, o->cap - o->len, fmt, ap);
    va_end(ap);
    o->full = m < 0 || (size_t)m >= o->cap - o->len;
    if (!o->full)
        o->len += (size_t)m;
}

static void put_addr(struct text_out *o, const char *word, struct mtls_addr a)
{
    char ip[64];
    unsigned port = a.port;

    a.port = 0;
    (void)mtls_addr_format(&a, ip, sizeof(ip));
    put(o, word, a.family == 6 ? "[%s]:%u" : "%s:%u", ip, port);
}

static void put_u32(struct text_out *o, const char *word, uint32_t value, uint32_t standard)
{
    if (value != standard)
        put(o, word, "%lu", (unsigned long)value);
}

static void put_key(struct text_out *o, const char *word, const uint8_t key[MTLS_SHA256_LEN])
{
    char text[2 * MTLS_SHA256_LEN + 1];

    for (size_t i = 0; i < MTLS_SHA256_LEN; i++)
        (void)snprintf(text + 2 * i, 3, "%02x", (unsigned)key[i]);
    put(o, word, "%s", text);
}

static void put_client(struct text_out *o, const struct mtls_config *c, const struct mtls_config *d)
{
    if (c->policy != MTLS_POLICY_UNSET)
        put(o, "policy", "%s", policy_names[c->policy]);
    for (uint8_t i = 0; i < c->npath2; i++)
        put(o, "path2", "%s", c->path2[i].text);
    put_u32(o, "need", c->need, d->need);
    if (c->name[0] != '\0')
        put(o, "name", "%s", c->name);
    put_u32(o, "deadline", c->deadline_ms, d->deadline_ms);
    put_u32(o, "grace", c->grace_ms, d->grace_ms);
    if (!c->early)
        put(o, "early", "off");
    if (!c->tfo)
        put(o, "tfo", "off");
    if (!c->reuse)
        put(o, "reuse", "off");
    if (c->hosts[0] != '\0')
        put(o, "hosts", "%s", c->hosts);
    if (c->evidence[0] != '\0')
        put(o, "evidence", "%s", c->evidence);
    if (c->evidence_all)
        put(o, "evidence-of", "all");
    put_u32(o, "resume", c->resume_max_s, d->resume_max_s);
    if (c->reactor_app)
        put(o, "reactor", "app");
    if (c->confirm != d->confirm)
        put(o, "confirm", "%s", confirm_names[c->confirm]);
    if (c->accept_consistent)
        put(o, "accept", "consistent");
    if (c->expose_certificate)
        put(o, "expose-certificate", "on");
    for (uint8_t i = 0; i < c->nalternate; i++)
        put_key(o, "alternate", c->alternate[i]);
}

int mtls_config_format(const struct mtls_config *c, char *out, size_t cap)
{
    struct text_out o = {.text = out, .cap = cap, .full = cap == 0};
    struct mtls_config d;

    mtls_config_init(&d);
    if (cap > 0)
        out[0] = '\0';
    put_client(&o, c, &d);
    for (uint8_t i = 0; i < c->nlisten; i++)
        put_addr(&o, "listen", c->listen[i]);
    if (c->advertise >= 0)
        put(&o, "advertise", "%ld", (long)c->advertise);
    for (uint8_t i = 0; i < c->naddress; i++)
        put_addr(&o, "address", c->address[i]);
    for (uint8_t i = 0; i < c->ntls_ports; i++)
        put(&o, "tls-port", "%u", (unsigned)c->tls_ports[i]);
    put_u32(&o, "memory", c->memory_s, d.memory_s);
    put_u32(&o, "max-pending", c->max_pending, d.max_pending);
    put_u32(&o, "per-source", c->per_source, d.per_source);
    if (c->share[0] != '\0')
        put(&o, "share", "%s", c->share);
    if (c->single_port)
        put(&o, "single-port", "on");
    return o.full ? MTLS_ERR_ARG : (int)o.len;
}
