/* Concept: the report: paths and times frozen at the decision, and their JSON. */
#include "report.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/buffer.h>

#include "../net/route.h"
#include "glue.h"

enum text { LOCAL, REMOTE, DEVICE, VIA, SPEC, SHARES, WHY, TEXTS };
enum state { NONE, IDLE, STARTING, READY, PROOF, PROOF_RIGHT, CONFIRMED, WRONG, FAILED };

static const char *const state_words[] = {
    "", "idle", "starting", "ready", "proof", "proof-right", "confirmed", "wrong", "failed"};

struct path {
    uint16_t text[TEXTS]; /* where it begins; 0 = "" */
    enum state state : 16;
    int error;
    uint32_t rtt_us;
};

struct mtls_report {
    uint16_t name;
    uint16_t npaths;     /* path 1 and the secondary ones */
    struct path paths[]; /* and behind them the texts, the first of them "" */
};

enum { TEXT_MAX = 16384 };

/* While it is made. */
struct draft {
    size_t npaths, len; /* of the texts */
    char name[MTLS_HOST_MAX + 1];
    struct path paths[1 + MTLS_PATHS_MAX];
    char texts[TEXT_MAX];
};

static const char *texts_of(const struct mtls_report *r)
{
    return (const char *)&r->paths[r->npaths];
}

/* What does not fit is left out. */
static uint16_t put(struct draft *d, const char *text)
{
    size_t len = strlen(text) + 1;
    uint16_t at = (uint16_t)d->len;

    if (len == 1 || len > sizeof(d->texts) - d->len)
        return 0;
    memcpy(d->texts + d->len, text, len);
    d->len += len;
    return at;
}

static uint16_t put_addr(struct draft *d, const struct mtls_addr *a)
{
    char text[64];

    if (a->family == 0)
        return 0;
    mtls_addr_format(a, text, sizeof(text));
    return put(d, text);
}

static void path_of_facts(struct draft *d, struct path *p, const struct mtls_path_facts *f)
{
    if (!f->known)
        return;
    p->text[LOCAL] = put_addr(d, &f->local);
    p->text[REMOTE] = put_addr(d, &f->remote);
    p->text[DEVICE] = put(d, f->dev);
    if (f->proxied)
        p->text[VIA] = put_addr(d, &f->proxy);
}

static enum state state_of(const struct mtls_session *s, const struct mtls_path_status *st)
{
    if (st->proof_right)
        return s->outcome == MTLS_OUTCOME_VERIFIED ? CONFIRMED : PROOF_RIGHT;
    switch (st->state) {
    case MTLS_PATH_IDLE:
        return IDLE;
    case MTLS_PATH_STARTING:
        return STARTING;
    case MTLS_PATH_READY:
        return READY;
    case MTLS_PATH_PROOF:
        return PROOF;
    case MTLS_PATH_WRONG:
        return WRONG;
    default:
        return FAILED;
    }
}

static void times_of(struct mtls_session *s, struct mtls_path2_claim *claim)
{
    struct mtls_path2_times t;

    mtls_path2_claim_times(claim, &t);
    if (s->times[MTLS_STEP_READY] != 0 && t.ready_at == 0)
        return;
    s->times[MTLS_STEP_PATH2_CONNECTED] = t.connected_at;
    s->times[MTLS_STEP_HELLO] = t.hello_at;
    s->times[MTLS_STEP_READY] = t.ready_at;
    s->times[MTLS_STEP_PROOF] = t.proof_at;
}

/* A server judges nothing, so addresses suffice; and most servers never ask, so they are not put
 * into words before. */
struct mtls_seen {
    struct mtls_addr local[2], remote[2]; /* path 1, path 2; family 0: unknown */
    bool confirmed;
    char name[];
};

static void see(struct mtls_session *s)
{
    const struct mtls_handshake *hs = s->hs;
    size_t name = strlen(hs->name) + 1;
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    s->seen = calloc(1, sizeof(*s->seen) + name);
    if (s->seen == NULL)
        return; /* the outcome stands without its description */
    memcpy(s->seen->name, hs->name, name);
    s->seen->local[0] = hs->path1_local;
    if (getpeername(mtls_session_fd(s), (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(&s->seen->remote[0], (struct sockaddr *)&ss, len);
    s->seen->local[1] = hs->path2_local;
    s->seen->remote[1] = hs->path2_peer;
    s->seen->confirmed = hs->confirmed;
}

static void client_path(struct mtls_session *s, const struct mtls_secondary *c,
                        const struct mtls_path_facts *path1, struct draft *d, struct path *p)
{
    struct mtls_path_facts facts = {0};
    struct mtls_path_status st = {0};
    char words[128];

    p->text[SPEC] = put(d, c->spec->text);
    p->text[WHY] = put(d, c->why != NULL ? c->why : "");
    st.state = c->error != 0 ? MTLS_PATH_FAILED : MTLS_PATH_IDLE;
    st.error = c->error;
    if (c->claim != NULL) {
        mtls_path2_claim_status(c->claim, &st);
        facts = c->facts;
        if (!facts.known)
            mtls_path2_claim_facts(c->claim, &facts);
        times_of(s, c->claim);
    }
    st.proof_right = c->right;
    if (st.state == MTLS_PATH_PROOF && s->hs->keys_ready && !c->right)
        st.state = MTLS_PATH_WRONG;
    path_of_facts(d, p, &facts);
    if (facts.known && path1->known)
        p->text[SHARES] =
            put(d, mtls_shared_words(mtls_paths_shared(path1, &facts), words, sizeof(words)));
    p->state = state_of(s, &st);
    p->error = st.error;
    p->rtt_us = st.rtt_us;
}

static void draft_server(const struct mtls_session *s, struct draft *d)
{
    const struct mtls_seen *seen = s->seen;
    size_t i;

    d->npaths = seen->remote[1].family == 0 ? 1 : 2;
    for (i = 0; i < d->npaths; i++) {
        d->paths[i].text[LOCAL] = put_addr(d, &seen->local[i]);
        d->paths[i].text[REMOTE] = put_addr(d, &seen->remote[i]);
    }
    d->paths[1].state = seen->confirmed ? CONFIRMED : NONE;
}

static void draft_client(struct mtls_session *s, struct draft *d)
{
    const struct mtls_handshake *hs = s->hs;
    uint8_t i;

    if (hs->facts == NULL) /* failed before a ClientHello */
        return;
    path_of_facts(d, &d->paths[0], &hs->facts->path1);
    for (i = 0; i < hs->npaths; i++)
        client_path(s, &hs->paths[i], &hs->facts->path1, d, &d->paths[d->npaths++]);
}

static void put_into_words(struct mtls_session *s)
{
    struct draft *d = malloc(sizeof(*d));
    size_t paths;
    uint16_t name;

    if (d == NULL)
        return;
    memset(d, 0, offsetof(struct draft, texts) + 1);
    d->npaths = d->len = 1;
    name = put(d, s->server ? s->seen->name : s->hs->name);
    if (s->server)
        draft_server(s, d);
    else
        draft_client(s, d);
    paths = d->npaths * sizeof(d->paths[0]);
    s->report = malloc(sizeof(*s->report) + paths + d->len);
    if (s->report != NULL) {
        s->report->name = name;
        s->report->npaths = (uint16_t)d->npaths;
        memcpy(s->report->paths, d->paths, paths);
        memcpy((char *)s->report->paths + paths, d->texts, d->len);
    }
    free(d);
}

void mtls_report_make(struct mtls_session *s)
{
    mtls_report_free(s);
    if (s->server)
        see(s);
    else
        put_into_words(s);
}

void mtls_report_free(struct mtls_session *s)
{
    free(s->report);
    free(s->seen);
    s->report = NULL;
    s->seen = NULL;
}

const struct mtls_report *mtls_report_of(struct mtls_session *s)
{
    if (s->report == NULL && s->seen != NULL)
        put_into_words(s);
    return s->report;
}

int mtls_report_path(const struct mtls_report *r, size_t index, struct mtls_path_info *info)
{
    const struct path *p;
    const char *texts;

    if (r == NULL || index >= r->npaths)
        return 0;
    p = &r->paths[index];
    texts = texts_of(r);
    info->local = texts + p->text[LOCAL];
    info->remote = texts + p->text[REMOTE];
    info->device = texts + p->text[DEVICE];
    info->via = texts + p->text[VIA];
    info->spec = texts + p->text[SPEC];
    info->shares = texts + p->text[SHARES];
    info->state = state_words[p->state];
    info->error = p->error;
    info->rtt_us = p->rtt_us;
    return 1;
}

/* ---- JSON ---- */

/* Whole stretches at a time: formatting costs more than all else in a report. */
static void put_string(BIO *out, const char *text)
{
    const char *from = text != NULL ? text : "", *at;

    BIO_puts(out, "\"");
    for (at = from; *at != '\0'; at++) {
        unsigned char c = (unsigned char)*at;

        if (c != '"' && c != '\\' && c >= 0x20 && c < 0x7f)
            continue;
        if (at > from)
            BIO_write(out, from, (int)(at - from));
        if (c == '"' || c == '\\')
            BIO_printf(out, "\\%c", c);
        else
            BIO_printf(out, "\\u%04x", c);
        from = at + 1;
    }
    if (at > from)
        BIO_write(out, from, (int)(at - from));
    BIO_puts(out, "\"");
}

static void put_member(BIO *out, const char *name, const char *text)
{
    BIO_puts(out, ", \"");
    BIO_puts(out, name);
    BIO_puts(out, "\": ");
    put_string(out, text);
}

static void put_path(BIO *out, const struct mtls_report *r, size_t i)
{
    struct mtls_path_info p;
    const char *why = texts_of(r) + r->paths[i].text[WHY];

    if (mtls_report_path(r, i, &p) == 0)
        return;
    BIO_printf(out, "%s{\"path\": %zu", i > 0 ? ", " : "", i + 1);
    put_member(out, "local", p.local);
    put_member(out, "remote", p.remote);
    put_member(out, "device", p.device);
    put_member(out, "via", p.via);
    if (i > 0) {
        put_member(out, "spec", p.spec);
        put_member(out, "shares", p.shares);
        put_member(out, "state", p.state);
        put_member(out, "error", p.error != 0 ? mtls_error_name(p.error) : "");
        if (why[0] != '\0')
            put_member(out, "why", why);
        BIO_printf(out, ", \"rtt_us\": %u", (unsigned)p.rtt_us);
    }
    BIO_puts(out, "}");
}

static void put_times(BIO *out, const struct mtls_session *s)
{
    static const char *const names[MTLS_STEP_COUNT] = {
        "client_hello", "path2_connected", "hello", "ready", "proof", "finished", "decided"};
    uint64_t zero = s->times[MTLS_STEP_CLIENT_HELLO];
    int i;

    BIO_puts(out, ", \"times_us\": {");
    for (i = 0; i < MTLS_STEP_COUNT; i++) {
        BIO_printf(out, "%s\"%s\": ", i > 0 ? ", " : "", names[i]);
        if (s->times[i] == 0 || zero == 0)
            BIO_puts(out, "null");
        else /* negative: path 2 was there before the ClientHello */
            BIO_printf(out, "%lld", (long long)(s->times[i] - zero));
    }
    BIO_puts(out, "}");
}

static const char *scope_word(unsigned scope)
{
    static const char *const words[] = {"", "client", "server", "both"};

    return words[scope & 3u];
}

static void put_report(BIO *out, struct mtls_session *s, enum mtls_outcome outcome, int reason)
{
    const struct mtls_report *report = mtls_report_of(s);
    size_t i;

    BIO_puts(out, "{\"outcome\": ");
    put_string(out, mtls_outcome_name(outcome));
    put_member(out, "reason", reason != 0 ? mtls_error_name(reason) : "");
    put_member(out, "message", reason != 0 ? mtls_error_string(reason) : "");
    put_member(out, "role", s->server ? "server" : "client");
    put_member(out, "scope", scope_word(s->scope));
    BIO_printf(out, ", \"confirmed_paths\": %u", s->confirmed_paths);
    put_member(out, "name", report != NULL ? texts_of(report) + report->name : "");
    BIO_puts(out, ", \"paths\": [");
    for (i = 0; report != NULL && i < report->npaths; i++)
        put_path(out, report, i);
    BIO_puts(out, "]");
    put_times(out, s);
    if (s->memory_error != 0)
        put_member(out, "memory_error", mtls_error_name(s->memory_error));
    if (s->evidence != NULL)
        put_member(out, "evidence", s->evidence);
    else if (s->evidence_error != 0)
        put_member(out, "evidence_error", mtls_error_name(s->evidence_error));
    BIO_puts(out, "}");
}

char *mtls_report_text(struct mtls_session *s, enum mtls_outcome outcome, int reason)
{
    BIO *out = BIO_new(BIO_s_mem());
    char *data, *text = NULL;
    long len;

    if (out == NULL)
        return NULL;
    put_report(out, s, outcome, reason);
    len = BIO_get_mem_data(out, &data);
    if (len > 0)
        text = OPENSSL_strndup(data, (size_t)len);
    BIO_free(out);
    return text;
}
