/* Concept: what is to be known of a connection: queries and its JSON. */
#include "internal.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <sys/socket.h>

#include <openssl/buffer.h>
#include <openssl/crypto.h>

#include "mtls/net/route.h"

enum smkex_outcome smkex_get_outcome(const struct smkex *s)
{
    return s->outcome;
}

const char *smkex_outcome_name(enum smkex_outcome outcome)
{
    static const char *const names[] = {"none", "verified", "single-path", "plain", "failed"};

    return (unsigned)outcome < sizeof(names) / sizeof(names[0]) ? names[outcome] : "none";
}

int smkex_get_reason(const struct smkex *s)
{
    return s->reason;
}

unsigned smkex_get_scope(const struct smkex *s)
{
    return s->outcome == SMKEX_OUTCOME_VERIFIED ? s->scope : 0;
}

enum smkex_key smkex_get_key(const struct smkex *s)
{
    return s->key;
}

unsigned smkex_get_confirmed(const struct smkex *s)
{
    return s->confirmed_paths;
}

int smkex_get_memory_error(const struct smkex *s)
{
    return s->memory_error;
}

/* ---- Paths ---- */

static const char *state_word(const struct smkex *s, const struct mtls_secondary *p, unsigned i)
{
    static const char *const words[] = {"idle", "starting", "ready", "proof", "wrong", "failed"};

    if (s->outcome == SMKEX_OUTCOME_VERIFIED && (s->selected & 1u << i) != 0)
        return "confirmed";
    if (p->status.state == MTLS_PATH_PROOF && s->times[SMKEX_STEP_ANSWER] != 0)
        return p->right ? "proof-right" : "wrong";
    return words[p->status.state];
}

/* Where path 1 was never judged: a server, or plain. */
static void path1_addresses(struct smkex *s)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    if (s->path1.local.family != 0)
        return;
    if (getsockname(s->fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(&s->path1.local, (struct sockaddr *)&ss, len);
    len = sizeof(ss);
    if (getpeername(s->fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(&s->path1.remote, (struct sockaddr *)&ss, len);
}

static void describe(struct smkex_text *t, const struct mtls_path_facts *f,
                     struct mtls_path_info *info)
{
    t->local[0] = t->remote[0] = t->via[0] = '\0';
    if (f->local.family != 0)
        mtls_addr_format(&f->local, t->local, sizeof(t->local));
    if (f->remote.family != 0)
        mtls_addr_format(&f->remote, t->remote, sizeof(t->remote));
    if (f->proxied)
        mtls_addr_format(&f->proxy, t->via, sizeof(t->via));
    *info = (struct mtls_path_info){.local = t->local,
                                    .remote = t->remote,
                                    .device = f->dev,
                                    .via = t->via,
                                    .spec = "",
                                    .shares = "",
                                    .state = ""};
}

int smkex_get_path(struct smkex *s, size_t index, struct mtls_path_info *info)
{
    struct smkex_text *t = &s->text[index <= MTLS_PATHS_MAX ? index : 0];
    struct mtls_path_facts facts = {0};
    struct mtls_secondary *p;

    if (index == 0) {
        path1_addresses(s);
        describe(t, &s->path1, info);
        return 0;
    }
    if (s->server && index == 1 && s->path2_peer.family != 0) {
        facts.local = s->path2_local;
        facts.remote = s->path2_peer;
        describe(t, &facts, info);
        info->device = "";
        info->state = "confirmed";
        return 0;
    }
    if (index > s->npaths)
        return MTLS_ERR_ARG;
    p = &s->paths[index - 1];
    describe(t, &p->facts, info);
    info->spec = p->spec->text;
    if (p->facts.known && s->path1.known)
        info->shares = mtls_shared_words(mtls_paths_shared(&s->path1, &p->facts), t->shares,
                                         sizeof(t->shares));
    info->state = state_word(s, p, (unsigned)index - 1);
    info->error = p->error != 0 ? p->error : p->status.error;
    info->rtt_us = p->status.rtt_us;
    return 0;
}

/* ---- JSON ---- */

struct text {
    BUF_MEM *mem;
    bool failed;
};

__attribute__((format(printf, 2, 3))) static void put(struct text *t, const char *fmt, ...)
{
    char piece[512];
    size_t at = t->mem->length;
    va_list ap;
    int n;

    va_start(ap, fmt);
    n = vsnprintf(piece, sizeof(piece), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(piece) ||
        BUF_MEM_grow_clean(t->mem, at + (size_t)n) != at + (size_t)n)
        t->failed = true;
    else
        memcpy(t->mem->data + at, piece, (size_t)n);
}

/* Device names and specifications are the configuration's: printable, but for quotes. */
static void put_member(struct text *t, const char *name, const char *value)
{
    put(t, ", \"%s\": \"", name);
    for (const char *p = value; *p != '\0'; p++) {
        if (*p == '"' || *p == '\\' || (unsigned char)*p < 0x20 || (unsigned char)*p >= 0x7f)
            put(t, "\\u%04x", (unsigned char)*p);
        else
            put(t, "%c", *p);
    }
    put(t, "\"");
}

static void put_path(struct text *t, struct smkex *s, size_t index)
{
    struct mtls_path_info p;

    (void)smkex_get_path(s, index, &p);
    put(t, "%s{\"path\": %zu", index > 0 ? ", " : "", index + 1);
    put_member(t, "local", p.local);
    put_member(t, "remote", p.remote);
    put_member(t, "device", p.device);
    if (index > 0) {
        put_member(t, "via", p.via);
        put_member(t, "spec", p.spec);
        put_member(t, "shares", p.shares);
        put_member(t, "state", p.state);
        put_member(t, "error", p.error != 0 ? mtls_error_name(p.error) : "");
        if (!s->server && s->paths[index - 1].why != NULL)
            put_member(t, "why", s->paths[index - 1].why);
        put(t, ", \"rtt_us\": %u", (unsigned)p.rtt_us);
    }
    put(t, "}");
}

static void put_paths(struct text *t, struct smkex *s)
{
    struct mtls_path_info p;

    put(t, ", \"paths\": [");
    for (size_t i = 0; smkex_get_path(s, i, &p) == 0; i++)
        put_path(t, s, i);
    put(t, "]");
}

/* [MPC-5] What the counters said at the last look. */
static void put_subflows(struct text *t, const struct smkex *s)
{
    const struct mtls_subflows *now = smkex_over_subflows(s);
    char local[56], remote[56];

    put_member(t, "over", now != NULL ? "mptcp" : "connections");
    put_member(t, "over_error", s->over_error != 0 ? mtls_error_name(s->over_error) : "");
    if (now == NULL)
        return;
    put(t, ", \"subflows\": [");
    for (uint8_t i = 0; i < now->n; i++) {
        mtls_addr_format(&now->at[i].local, local, sizeof(local));
        mtls_addr_format(&now->at[i].remote, remote, sizeof(remote));
        put(t,
            "%s{\"id\": %u, \"local\": \"%s\", \"remote\": \"%s\", \"received\": %llu, "
            "\"sent\": %llu}",
            i > 0 ? ", " : "", now->at[i].id, local, remote,
            (unsigned long long)now->at[i].received, (unsigned long long)now->at[i].sent);
    }
    put(t, "]");
}

static void put_times(struct text *t, const struct smkex *s)
{
    static const char *const names[SMKEX_STEPS] = {"offer", "path2_connected", "hello",  "ready",
                                                   "proof", "answer",          "decided"};

    put(t, ", \"times_us\": {");
    for (int i = 0; i < SMKEX_STEPS; i++) {
        put(t, "%s\"%s\": ", i > 0 ? ", " : "", names[i]);
        if (s->times[i] == 0)
            put(t, "null");
        else /* negative: path 2 was there before OFFER */
            put(t, "%lld", (long long)(s->times[i] - s->times[SMKEX_STEP_OFFER]));
    }
    put(t, "}");
}

static void put_choice(struct text *t, const struct smkex *s)
{
    static const char *const groups[] = {"", "x25519", "p256"};
    static const char *const suites[] = {"", "aes128", "chacha20"};
    static const char *const keys[] = {"none", "new", "known", "changed"};
    uint8_t group = s->m != NULL ? smkex_machine_group(s->m) : 0;
    uint8_t suite = s->m != NULL ? smkex_machine_suite(s->m) : 0;

    put_member(t, "mode", s->ctx->words.mode == SMKEX_MODE_SINGLE ? "single" : "multipath");
    put_member(t, "group", group < 3 ? groups[group] : "");
    put_member(t, "suite", suite < 3 ? suites[suite] : "");
    put_member(t, "key", keys[s->key]);
}

char *smkex_report_json(struct smkex *s)
{
    static const char *const scopes[] = {"", "client", "server", "both"};
    struct text t = {.mem = BUF_MEM_new()};
    char *out = NULL;

    if (t.mem == NULL)
        return NULL;
    put(&t, "{\"outcome\": \"%s\"", smkex_outcome_name(s->outcome));
    put_member(&t, "reason", s->reason != 0 ? mtls_error_name(s->reason) : "");
    put_member(&t, "message", s->reason != 0 ? mtls_error_string(s->reason) : "");
    put_member(&t, "role", s->server ? "server" : "client");
    put_member(&t, "scope", scopes[smkex_get_scope(s) & 3u]);
    put(&t, ", \"confirmed_paths\": %u", s->confirmed_paths);
    put_member(&t, "name", s->name);
    put_choice(&t, s);
    put_paths(&t, s);
    put_subflows(&t, s);
    put_times(&t, s);
    if (s->evidence != NULL)
        put_member(&t, "evidence", s->evidence);
    else if (s->evidence_error != 0)
        put_member(&t, "evidence_error", mtls_error_name(s->evidence_error));
    put(&t, "}");
    if (!t.failed)
        out = OPENSSL_strndup(t.mem->data, t.mem->length);
    BUF_MEM_free(t.mem);
    return out;
}
