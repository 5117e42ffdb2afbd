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

static void put_addr(struct text *t, const char *name, const struct mtls_addr *a)
{
    char out[64] = "";

    if (a->family != 0)
        mtls_addr_format(a, out, sizeof(out));
    put_member(t, name, out);
}

static const char *state_word(const struct smkex *s, const struct smkex_path *p, unsigned i)
{
    static const char *const words[] = {"idle", "starting", "ready", "proof", "wrong", "failed"};

    if (s->outcome == SMKEX_OUTCOME_VERIFIED && (s->selected & 1u << i) != 0)
        return "confirmed";
    if (p->status.state == MTLS_PATH_PROOF && s->times[SMKEX_STEP_ANSWER] != 0)
        return p->right ? "proof-right" : "wrong";
    return words[p->status.state];
}

static void put_client_path(struct text *t, const struct smkex *s, unsigned i)
{
    const struct smkex_path *p = &s->paths[i];
    int error = p->error != 0 ? p->error : p->status.error;
    char words[128] = "";

    if (p->facts.known && s->path1.known)
        mtls_shared_words(mtls_paths_shared(&s->path1, &p->facts), words, sizeof(words));
    put(t, ", {\"path\": %u", i + 2);
    put_addr(t, "local", &p->facts.local);
    put_addr(t, "remote", &p->facts.remote);
    put_member(t, "device", p->facts.dev);
    put_member(t, "spec", p->spec.text);
    put_member(t, "shares", words);
    put_member(t, "state", state_word(s, p, i));
    put_member(t, "error", error != 0 ? mtls_error_name(error) : "");
    if (p->why[0] != '\0')
        put_member(t, "why", p->why);
    put(t, ", \"rtt_us\": %u}", (unsigned)p->status.rtt_us);
}

static void addresses(const struct smkex *s, struct mtls_addr *local, struct mtls_addr *remote)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    memset(local, 0, sizeof(*local));
    memset(remote, 0, sizeof(*remote));
    if (getsockname(s->fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(local, (struct sockaddr *)&ss, len);
    len = sizeof(ss);
    if (getpeername(s->fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(remote, (struct sockaddr *)&ss, len);
}

static void put_paths(struct text *t, const struct smkex *s)
{
    struct mtls_addr local, remote;

    addresses(s, &local, &remote);
    put(t, ", \"paths\": [{\"path\": 1");
    put_addr(t, "local", s->path1.known ? &s->path1.local : &local);
    put_addr(t, "remote", s->path1.known ? &s->path1.remote : &remote);
    put_member(t, "device", s->path1.dev);
    put(t, "}");
    for (unsigned i = 0; i < s->npaths; i++)
        put_client_path(t, s, i);
    if (s->path2_peer.family != 0) {
        put(t, ", {\"path\": 2");
        put_addr(t, "local", &s->path2_local);
        put_addr(t, "remote", &s->path2_peer);
        put_member(t, "state", "confirmed");
        put(t, "}");
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

char *smkex_report_json(const struct smkex *s)
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
    put_times(&t, s);
    put(&t, "}");
    if (!t.failed)
        out = OPENSSL_strndup(t.mem->data, t.mem->length);
    BUF_MEM_free(t.mem);
    return out;
}
