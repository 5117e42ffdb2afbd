/* mtls-client's use of confirmation by resumption. */
#include "client_confirm.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

#include <openssl/err.h>

struct client_confirm {
    struct mtls_confirmation *confirmation;
    struct ev_loop *loop;
    SSL *ssl;
    void (*done)(void *arg);
    void *arg;
    ev_async wake;
    pthread_t thread;
    bool running;
    int code;
};

struct client_confirm *client_confirm_new(const char *words, const char *name, uint16_t port,
                                          SSL_SESSION *offered, int *code)
{
    struct client_confirm *cc = calloc(1, sizeof *cc);

    *code = MTLS_ERR_NOMEM;
    if (cc == NULL)
        return NULL;
    cc->confirmation = mtls_confirmation_new(words, name, port, offered);
    if (cc->confirmation != NULL)
        return cc;
    *code = mtls_last_error();
    ERR_clear_error();
    free(cc);
    return NULL;
}

static void *work(void *arg)
{
    struct client_confirm *cc = arg;

    if (mtls_confirmation_run(cc->confirmation, cc->ssl) != 1)
        cc->code = mtls_last_error();
    ERR_clear_error();
    ev_async_send(cc->loop, &cc->wake);
    return NULL;
}

static void end(struct client_confirm *cc)
{
    if (!cc->running)
        return;
    pthread_join(cc->thread, NULL);
    ev_async_stop(cc->loop, &cc->wake);
    cc->running = false;
}

static void on_wake(struct ev_loop *loop, ev_async *w, int events)
{
    struct client_confirm *cc = w->data;

    end(cc);
    cc->done(cc->arg);
}

int client_confirm_run(struct client_confirm *cc, struct ev_loop *loop, SSL *ssl,
                       void (*done)(void *arg), void *arg)
{
    sigset_t all, before;
    int rv;

    cc->loop = loop;
    cc->ssl = ssl;
    cc->done = done;
    cc->arg = arg;
    ev_async_init(&cc->wake, on_wake);
    cc->wake.data = cc;
    ev_async_start(loop, &cc->wake);
    sigfillset(&all); /* signals are the loop's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rv = pthread_create(&cc->thread, NULL, work, cc);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    cc->running = rv == 0;
    if (rv != 0)
        ev_async_stop(loop, &cc->wake);
    return rv == 0 ? 0 : -1;
}

int client_confirm_code(const struct client_confirm *cc)
{
    return cc->code;
}

const struct mtls_confirmation *client_confirm_get0(const struct client_confirm *cc)
{
    return cc->confirmation;
}

void client_confirm_free(struct client_confirm *cc)
{
    if (cc == NULL)
        return;
    end(cc);
    mtls_confirmation_free(cc->confirmation);
    free(cc);
}
