/* Concept: what a confirmation by resumption answers when it is asked, and its JSON. */
#include "mtls/confirmation.h"

#include <stdio.h>
#include <string.h>

#include <openssl/bio.h>

#include "confirmation.h"

const char *mtls_verdict_name(enum mtls_confirm_verdict verdict)
{
    static const char *const names[] = {"none", "verified", "consistent", "unproven", "alarm"};

    return (unsigned)verdict <= MTLS_VERDICT_ALARM ? names[verdict] : "none";
}

/* NULL is what mtls_confirmation_new() gives where it fails: nothing was run. */
static enum mtls_rsm_reason reason_of(const struct mtls_confirmation *c)
{
    return c != NULL ? c->reason : (enum mtls_rsm_reason)0;
}

enum mtls_confirm_verdict mtls_confirmation_verdict(const struct mtls_confirmation *c)
{
    return (enum mtls_confirm_verdict)mtls_rsm_verdict_of(reason_of(c));
}

const char *mtls_confirmation_reason(const struct mtls_confirmation *c)
{
    return mtls_rsm_word(reason_of(c));
}

const char *mtls_confirmation_meaning(const struct mtls_confirmation *c)
{
    return mtls_rsm_meaning(reason_of(c));
}

unsigned mtls_confirmation_scope(const struct mtls_confirmation *c)
{
    return c != NULL ? c->scope : 0;
}

int mtls_confirmation_resumed(const struct mtls_confirmation *c)
{
    return reason_of(c) == MTLS_RSM_WHY_SPARE_TICKET;
}

SSL_SESSION *mtls_confirmation_get1_session(const struct mtls_confirmation *c)
{
    if (c == NULL)
        return NULL;
    if (c->spare != NULL)
        SSL_SESSION_up_ref(c->spare);
    return c->spare;
}

static void put_text_of(struct mtls_confirmation_text *t, const struct mtls_path_facts *f)
{
    if (f->local.family != 0)
        mtls_addr_format(&f->local, t->local, sizeof(t->local));
    if (f->remote.family != 0)
        mtls_addr_format(&f->remote, t->remote, sizeof(t->remote));
    if (f->proxied)
        mtls_addr_format(&f->proxy, t->via, sizeof(t->via));
}

void mtls_confirmation_put_texts(struct mtls_confirmation *c)
{
    put_text_of(&c->text[0], &c->path1);
    put_text_of(&c->text[1], &c->path2);
    if (c->path2.known)
        mtls_shared_words(mtls_paths_shared(&c->path1, &c->path2), c->shares, sizeof(c->shares));
}

int mtls_confirmation_get_path(const struct mtls_confirmation *c, size_t index,
                               struct mtls_path_info *info)
{
    bool made = c->main.end != MTLS_RSM_NOT_MADE;

    if (!c->ran || index > 1 || (index == 1 && c->spec.text[0] == '\0'))
        return 0;
    *info = (struct mtls_path_info){.local = c->text[index].local,
                                    .remote = c->text[index].remote,
                                    .device = index == 0 ? c->path1.dev : c->path2.dev,
                                    .via = c->text[index].via,
                                    .spec = "",
                                    .shares = "",
                                    .state = ""};
    if (index == 0)
        return 1;
    info->spec = c->spec.text;
    info->shares = c->shares;
    info->state = c->reason == MTLS_RSM_WHY_RESUMED ? "confirmed" : "failed";
    info->error = made ? 0 : c->main.error;
    return 1;
}

/* ---- JSON; what is written is ASCII: names, addresses, configuration words ---- */

static void put_text(BIO *out, const char *text)
{
    BIO_puts(out, "\"");
    for (; *text != '\0'; text++) {
        if (*text == '"' || *text == '\\')
            BIO_printf(out, "\\%c", *text);
        else if (*text >= ' ' && *text <= '~')
            BIO_printf(out, "%c", *text);
        else
            BIO_puts(out, "?");
    }
    BIO_puts(out, "\"");
}

static void put_addr(BIO *out, const char *key, const struct mtls_addr *a)
{
    char text[64] = "";

    if (a->family != 0)
        mtls_addr_format(a, text, sizeof(text));
    BIO_printf(out, ", \"%s\": \"%s\"", key, text);
}

static void put_path(BIO *out, int number, const struct mtls_path_facts *f, const char *spec)
{
    BIO_printf(out, "{\"path\": %d, \"spec\": ", number);
    put_text(out, spec);
    put_addr(out, "local", &f->local);
    put_addr(out, "remote", &f->remote);
    BIO_puts(out, ", \"device\": ");
    put_text(out, f->dev);
    if (f->proxied)
        put_addr(out, "via", &f->proxy);
}

static void put_paths(BIO *out, const struct mtls_confirmation *c)
{
    char words[128];

    BIO_puts(out, ", \"paths\": [");
    put_path(out, 1, &c->path1, "");
    BIO_puts(out, "}");
    if (c->spec.text[0] != '\0') {
        BIO_puts(out, ", ");
        put_path(out, 2, &c->path2, c->spec.text);
        if (c->path2.known)
            BIO_printf(
                out, ", \"shares\": \"%s\"",
                mtls_shared_words(mtls_paths_shared(&c->path1, &c->path2), words, sizeof(words)));
        if (c->why[0] != '\0') {
            BIO_puts(out, ", \"why\": ");
            put_text(out, c->why);
        }
        if (c->main.end == MTLS_RSM_NOT_MADE && c->main.error != 0)
            BIO_printf(out, ", \"error\": \"%s\"", mtls_error_name(c->main.error));
        BIO_puts(out, "}");
    }
    BIO_puts(out, "]");
}

static void put_key(BIO *out, const char *key, bool known, const uint8_t hash[MTLS_SHA256_LEN])
{
    BIO_printf(out, ", \"%s\": \"", key);
    for (size_t i = 0; known && i < MTLS_SHA256_LEN; i++)
        BIO_printf(out, "%02x", (unsigned)hash[i]);
    BIO_puts(out, "\"");
}

static void put_try(BIO *out, const char *key, const struct mtls_try *t)
{
    BIO_printf(out, ", \"%s\": {\"end\": \"%s\", \"ticket\": %s, \"resumed\": %s", key,
               mtls_rsm_end_word(t->end), t->ticket ? "true" : "false", t->psk ? "true" : "false");
    if (t->end == MTLS_RSM_ALERTED)
        BIO_printf(out, ", \"alert\": %u", (unsigned)t->alert);
    put_key(out, "key", t->has_key, t->key);
    BIO_puts(out, "}");
}

static void put_time(BIO *out, const char *key, mtls_tstamp at, mtls_tstamp zero, const char *after)
{
    if (at == 0)
        BIO_printf(out, "\"%s\": null%s", key, after);
    else
        BIO_printf(out, "\"%s\": %lld%s", key, (long long)(at - zero), after);
}

static void put_tickets(BIO *out, const struct mtls_confirmation *c)
{
    BIO_printf(out, ", \"tickets\": {\"received\": %u, \"lifetime_s\": %lu, \"spare\": %s}",
               c->tickets.count,
               c->tickets.first != NULL ? SSL_SESSION_get_ticket_lifetime_hint(c->tickets.first)
                                        : 0ul,
               c->spare != NULL ? "true" : "false");
}

static const char *outcome(const struct mtls_confirmation *c)
{
    if (!c->ran)
        return "none";
    if (!c->allowed)
        return "failed";
    if (mtls_confirmation_resumed(c))
        return "resumed-verified";
    return mtls_confirmation_verdict(c) == MTLS_VERDICT_VERIFIED ? "verified" : "plain";
}

/* Times count from the end of path 1's handshake. */
static void put_all(BIO *out, const struct mtls_confirmation *c)
{
    static const char *const scopes[] = {"", "client", "server", "both"};

    BIO_printf(out,
               "{\"outcome\": \"%s\", \"mode\": \"resume\", \"verdict\": \"%s\", "
               "\"reason\": \"%s\", \"meaning\": ",
               outcome(c), mtls_verdict_name(mtls_confirmation_verdict(c)),
               mtls_confirmation_reason(c));
    put_text(out, mtls_confirmation_meaning(c));
    BIO_printf(out, ", \"scope\": \"%s\", \"name\": \"%s\", \"port\": %u", scopes[c->scope & 3],
               c->name, (unsigned)c->port);
    put_key(out, "key", c->has_key1, c->key1);
    put_paths(out, c);
    put_tickets(out, c);
    put_try(out, "path2", &c->main);
    if (c->has_evidence)
        put_try(out, "evidence", &c->evidence);
    if (c->bundle != NULL) {
        BIO_puts(out, ", \"evidence\": ");
        put_text(out, c->bundle);
    } else if (c->bundle_error != 0) {
        BIO_printf(out, ", \"evidence_error\": \"%s\"", mtls_error_name(c->bundle_error));
    }
    BIO_puts(out, ", \"times_us\": {");
    put_time(out, "path2_connected", c->connected_at, c->ready_at, ", ");
    put_time(out, "ticket", c->ticket_at, c->ready_at, ", ");
    put_time(out, "path2_handshake", c->path2_at, c->ready_at, ", ");
    put_time(out, "verdict", c->verdict_at, c->ready_at, "}}");
}

char *mtls_confirmation_json(const struct mtls_confirmation *c)
{
    BIO *out = c != NULL ? BIO_new(BIO_s_mem()) : NULL;
    char *data = NULL, *text = NULL;
    long len;

    if (out == NULL)
        return NULL;
    put_all(out, c);
    len = BIO_get_mem_data(out, &data);
    if (len > 0)
        text = OPENSSL_strndup(data, (size_t)len);
    BIO_free(out);
    return text;
}
