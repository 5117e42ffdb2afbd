/* mtls-client's use of confirmation by resumption: the call, which waits, on a thread of its own.
 */
#ifndef APPS_CLIENT_CONFIRM_H
#define APPS_CLIENT_CONFIRM_H

#include <ev.h>
#include <stdbool.h>

#include <mtls/confirmation.h>

struct client_confirm;

/* Begins: path 2's connect runs in parallel with path 1's. NULL: *code is the MTLS_ERR_* why. */
struct client_confirm *client_confirm_new(const char *words, const char *name, uint16_t port,
                                          SSL_SESSION *offered, int *code);
/* Runs it; done is called from the loop, once. Nobody else touches ssl until then. 0, or -1: no
 * thread could be made. */
int client_confirm_run(struct client_confirm *cc, struct ev_loop *loop, SSL *ssl,
                       void (*done)(void *arg), void *arg);
/* After done: 0, or the MTLS_ERR_* of the refusal. */
int client_confirm_code(const struct client_confirm *cc);
const struct mtls_confirmation *client_confirm_get0(const struct client_confirm *cc);
/* Waits for a run that is under way; done is not called then. NULL is fine. */
void client_confirm_free(struct client_confirm *cc);

#endif
