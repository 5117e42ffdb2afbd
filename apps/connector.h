/* Connecting a TCP socket, without blocking, to the first of a list of addresses that answers. */
#ifndef APPS_CONNECTOR_H
#define APPS_CONNECTOR_H

#include <ev.h>

#include "addr.h"

struct connector;

struct connector_params {
    bool mptcp;               /* Multipath TCP, where the kernel has it */
    const char *device;       /* egress device to bind to, NULL: none */
    const struct addr *local; /* source address, NULL: any */
    double timeout_s;         /* for all addresses together */
    void (*prepare)(void *arg, int fd, const struct addr *to); /* before connect(); NULL: nothing */
    void *prepare_arg;
};

/* Once: a connected, non-blocking socket that the owner closes, or -1 and the last error's text.
 * The connector is gone when this is called. */
typedef void connector_done(void *arg, int fd, const char *error);

/* Copies list and params (but not the device's name). NULL: out of memory; done is never called
 * from within. */
struct connector *connector_start(struct ev_loop *loop, const struct addr_list *list,
                                  const struct connector_params *params, connector_done *done,
                                  void *arg);
/* Ends it; done is not called. NULL is allowed. */
void connector_cancel(struct connector *c);

#endif
