/* Concept: the report: paths and times frozen at the decision, and their JSON. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/buffer.h>

#include "../net/route.h"
#include "glue.h"

static char *addr_text(const struct mtls_addr *a)
{
    char text[64];

    if (a->family == 0)
        return NULL;
    mtls_addr_format(a, text, sizeof(text));
    return strdup(text);
}

static void path_of_facts(struct mtls_report_path *p, const struct mtls_path_facts *f)
{
    char text[64];

    if (!f->known)
        return;
    p->local = addr_text(&f->local);
    p->remote = addr_text(&f->remote);
    p->device = strdup(f->dev);
    if (f->proxied) {
        mtls_addr_format(&f->proxy, text, sizeof(text));
        p->via = strdup(text);
    }
}

static const char *state_word(const struct mtls_session *s, const struct mtls_path_status *st)
{
    if (st->proof_right)
        return s->outcome == MTLS_OUTCOME_VERIFIED ? "confirmed" : "proof-right";
    switch (st->state) {
    case MTLS_PATH_IDLE:
        return "idle";
    case MTLS_PATH_STARTING:
        return "starting";
    case MTLS_PATH_READY:
        return "ready";
    case MTLS_PATH_PROOF:
        return "proof";
    case MTLS_PATH_WRONG:
        return "wrong";
    default:
        return "failed";
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

/* The server judges nothing: addresses suffice, without a look-up of the route. */
static void server_path1(int fd, struct mtls_path_facts *facts)
{
    struct sockaddr_storage ss;
    socklen_t len = sizeof(ss);

    facts->known = getsockname(fd, (struct sockaddr *)&ss, &len) == 0 &&
                   mtls_addr_from_sockaddr(&facts->local, (struct sockaddr *)&ss, len) == 0;
    len = sizeof(ss);
    if (getpeername(fd, (struct sockaddr *)&ss, &len) == 0)
        (void)!mtls_addr_from_sockaddr(&facts->remote, (struct sockaddr *)&ss, len);
}

static void client_path(struct mtls_session *s, struct mtls_client_path *c,
                        const struct mtls_path_facts *path1, struct mtls_report_path *p)
{
    struct mtls_path_facts facts = {0};
    struct mtls_path_status st = {0};
    char words[128];

    p->spec = strdup(c->spec->text);
    p->why = c->why[0] != '\0' ? strdup(c->why) : NULL;
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
    if (st.state == MTLS_PATH_PROOF && s->keys_ready && !c->right)
        st.state = MTLS_PATH_WRONG;
    path_of_facts(p, &facts);
    if (facts.known && path1->known)
        p->shares =
            strdup(mtls_shared_words(mtls_paths_shared(path1, &facts), words, sizeof(words)));
    p->state = state_word(s, &st);
    p->error = st.error;
    p->rtt_us = st.rtt_us;
}

void mtls_report_make(struct mtls_session *s)
{
    size_t n = 1 + (s->server ? (s->path2_peer.family != 0 ? 1 : 0) : s->npaths), i;
    struct mtls_path_facts path1 = {0};
    struct mtls_report *r;
    int fd = mtls_session_fd(s);

    mtls_report_free(s);
    r = calloc(1, sizeof(*r) + n * sizeof(r->paths[0]));
    if (r == NULL)
        return; /* the outcome stands without its description */
    r->npaths = n;
    if (s->server)
        server_path1(fd, &path1);
    else
        path1 = s->path1_then;
    path_of_facts(&r->paths[0], &path1);
    r->paths[0].state = "";
    for (i = 1; !s->server && i < n; i++)
        client_path(s, &s->paths[i - 1], &path1, &r->paths[i]);
    if (s->server && n == 2) {
        r->paths[1].local = addr_text(&s->path2_local);
        r->paths[1].remote = addr_text(&s->path2_peer);
        r->paths[1].state = s->confirmed ? "confirmed" : "";
    }
    s->report = r;
}

void mtls_report_free(struct mtls_session *s)
{
    size_t i;

    for (i = 0; s->report != NULL && i < s->report->npaths; i++) {
        struct mtls_report_path *p = &s->report->paths[i];

        free(p->local);
        free(p->remote);
        free(p->device);
        free(p->via);
        free(p->spec);
        free(p->shares);
        free(p->why);
    }
    free(s->report);
    s->report = NULL;
}

/* ---- JSON ---- */

static void put_string(BIO *out, const char *text)
{
    const unsigned char *c = (const unsigned char *)(text != NULL ? text : "");

    BIO_puts(out, "\"");
    for (; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\')
            BIO_printf(out, "\\%c", *c);
        else if (*c < 0x20 || *c >= 0x7f)
            BIO_printf(out, "\\u%04x", *c);
        else
            BIO_printf(out, "%c", *c);
    }
    BIO_puts(out, "\"");
}

static void put_member(BIO *out, const char *name, const char *text)
{
    BIO_printf(out, ", \"%s\": ", name);
    put_string(out, text);
}

static void put_path(BIO *out, const struct mtls_report_path *p, size_t i)
{
    BIO_printf(out, "%s{\"path\": %zu", i > 0 ? ", " : "", i + 1);
    put_member(out, "local", p->local);
    put_member(out, "remote", p->remote);
    put_member(out, "device", p->device);
    put_member(out, "via", p->via);
    if (i > 0) {
        put_member(out, "spec", p->spec);
        put_member(out, "shares", p->shares);
        put_member(out, "state", p->state);
        put_member(out, "error", p->error != 0 ? mtls_error_name(p->error) : "");
        if (p->why != NULL)
            put_member(out, "why", p->why);
        BIO_printf(out, ", \"rtt_us\": %u", (unsigned)p->rtt_us);
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
        if (s->times[i] == 0)
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

static void put_report(BIO *out, const struct mtls_session *s, enum mtls_outcome outcome,
                       int reason)
{
    size_t i;

    BIO_puts(out, "{\"outcome\": ");
    put_string(out, mtls_outcome_name(outcome));
    put_member(out, "reason", reason != 0 ? mtls_error_name(reason) : "");
    put_member(out, "message", reason != 0 ? mtls_error_string(reason) : "");
    put_member(out, "role", s->server ? "server" : "client");
    put_member(out, "scope", scope_word(s->scope));
    BIO_printf(out, ", \"confirmed_paths\": %u", s->confirmed_paths);
    put_member(out, "name", s->name);
    BIO_puts(out, ", \"paths\": [");
    for (i = 0; s->report != NULL && i < s->report->npaths; i++)
        put_path(out, &s->report->paths[i], i);
    BIO_puts(out, "]");
    put_times(out, s);
    BIO_puts(out, "}");
}

char *mtls_report_text(const struct mtls_session *s, enum mtls_outcome outcome, int reason)
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
