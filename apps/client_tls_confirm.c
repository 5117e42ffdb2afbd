/* mtls-client's protocol: --confirm resume and --confirm auto. */
#include "client_tls_confirm.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <openssl/err.h>

#include "client_confirm.h"
#include "link_ssl.h"
#include "options.h"

/* One connection's: freed with its link. */
struct confirming {
    struct link *link;
    struct client_confirm *cc;
    client_confirmed *done;
    void *arg;
};

static struct client_confirm *announced; /* path 2 connects already; the next connection's */
static int announced_code;

/* confirm=auto: the exporter proof as `prefer` has it; what that leaves plain is confirmed by
 * resumption, as the user's own policy says. */
static int auto_words(const struct words *from, struct words *to)
{
    char text[sizeof from->text], *at = text;

    memcpy(text, from->text, sizeof text);
    memset(to, 0, sizeof *to);
    for (char *w; (w = strsep(&at, " ")) != NULL;)
        if (*w != '\0' && strncmp(w, "policy=", 7) != 0 && strncmp(w, "confirm=", 8) != 0 &&
            words_add(to, NULL, w) < 0)
            return -1;
    return words_add(to, "policy", "prefer") < 0 ? -1 : words_add(to, "confirm", "exporter");
}

int client_tls_confirm_setup(struct client *c, struct words *words)
{
    const char *text = c->config.words.text;

    c->confirm = mtls_confirm_mode(text);
    if (c->confirm < 0)
        return tls_setup_error(client_prog, "Multipath TLS");
    if (c->confirm == MTLS_CONFIRM_EXPORTER)
        return 0;
    if (c->config.cert != NULL && strstr(text, "expose-certificate=on") == NULL)
        return usage_error(client_prog,
                           "--cert with --confirm %s shows the certificate before the verdict; "
                           "--config expose-certificate=on allows it",
                           c->confirm == MTLS_CONFIRM_AUTO ? "auto" : "resume");
    if (c->confirm == MTLS_CONFIRM_AUTO && auto_words(&c->config.words, words) < 0)
        return usage_error(client_prog, "too many words");
    return 0;
}

static struct client_confirm *begin(const struct client *c, int *code)
{
    return client_confirm_new(c->config.words.text, client_host_name(c), c->config.server.port,
                              c->resume, code);
}

void client_tls_confirm_announce(struct client *c)
{
    if (announced == NULL)
        announced = begin(c, &announced_code);
}

void client_tls_confirm_free(void)
{
    client_confirm_free(announced);
    announced = NULL;
}

static void confirming_free(void *arg)
{
    struct confirming *k = arg;

    client_confirm_free(k->cc);
    free(k);
}

void client_tls_confirm_open(struct client *c, struct link *link)
{
    struct confirming *k = c->confirm != MTLS_CONFIRM_EXPORTER ? calloc(1, sizeof *k) : NULL;
    int code = announced_code;

    if (c->confirm == MTLS_CONFIRM_EXPORTER)
        return;
    if (k == NULL) {
        link_ssl_refuse(link, MTLS_ERR_NOMEM);
        return;
    }
    k->link = link;
    k->cc = announced;
    announced = NULL;
    link_ssl_own(link, k, confirming_free);
    if (c->confirm == MTLS_CONFIRM_RESUME && k->cc == NULL && (k->cc = begin(c, &code)) == NULL)
        link_ssl_refuse(link, code); /* before anything is sent */
}

static void set_failure(struct tls_failure *why, int code, const char *text)
{
    why->kind = TLS_FAILURE_MTLS;
    why->code = code;
    snprintf(why->text, sizeof why->text, "%s", text);
}

/* What is not to be used further: the server hears of it in order. */
static void say_goodbye(struct link *link)
{
    struct tls_failure ignored = {0};

    (void)link_shutdown(link, &ignored);
}

static void on_done(void *arg)
{
    struct confirming *k = arg;
    const struct mtls_confirmation *confirmation = client_confirm_get0(k->cc);
    SSL_SESSION *spare = mtls_confirmation_get1_session(confirmation);
    struct tls_failure why = {0};
    int code = client_confirm_code(k->cc);
    bool judged = mtls_confirmation_verdict(confirmation) != MTLS_VERDICT_NONE;

    if (spare != NULL)
        client_tls_keep(spare);
    SSL_SESSION_free(spare);
    if (judged)
        link_ssl_judged(k->link, confirmation, code);
    if (code == 0) {
        k->done(k->arg, NULL);
        return;
    }
    say_goodbye(k->link);
    set_failure(&why, code,
                judged ? mtls_confirmation_meaning(confirmation) : mtls_error_string(code));
    k->done(k->arg, &why);
}

int client_protocol_confirm(struct client *c, struct link *link, client_confirmed *done, void *arg,
                            struct tls_failure *why)
{
    SSL *ssl = link_get0_ssl(link);
    struct confirming *k = link_get0_owner(link);
    int code = 0;

    /* With `auto` only what the exporter proof left plain. */
    if (c->confirm == MTLS_CONFIRM_EXPORTER ||
        (c->confirm == MTLS_CONFIRM_AUTO && mtls_ssl_ctx_is_hooked(c->ctx) == 1 &&
         mtls_get_outcome(ssl) != MTLS_OUTCOME_PLAIN))
        return 0;
    if (k != NULL && k->cc == NULL)
        k->cc = begin(c, &code);
    if (k == NULL || k->cc == NULL) {
        say_goodbye(link);
        set_failure(why, code != 0 ? code : MTLS_ERR_NOMEM,
                    mtls_error_string(code != 0 ? code : MTLS_ERR_NOMEM));
        return -1;
    }
    k->done = done;
    k->arg = arg;
    if (client_confirm_run(k->cc, c->loop, ssl, on_done, k) == 0)
        return 1;
    set_failure(why, MTLS_ERR_LIMIT, mtls_error_string(MTLS_ERR_LIMIT));
    return -1;
}
