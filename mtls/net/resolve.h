/* Concept: the look-up of a name over path 2: c-ares channels bound to path 2's device and address,
 * asking only path 2's own resolver [PATH-3]; absolute names, no search list, no hosts file, no
 * mDNS, no cache shared between paths. */
#ifndef MTLS_NET_RESOLVE_H
#define MTLS_NET_RESOLVE_H

#include "../core/config.h"
#include "reactor.h"

struct mtls_resolve;

enum { MTLS_RESOLVE_MAX = 8 };

/* Runs once, with the engine lock held, from the reactor, never inside mtls_resolve_new(). error 0:
 * n > 0 addresses (port 0) of spec->local's family alone when that is given, else of both, the
 * first of a family that path 2 has a route for. error: MTLS_ERR_PATH_RESOLVE (no such name, no
 * address, silence), MTLS_ERR_PATH_BIND, MTLS_ERR_NOMEM. */
typedef void mtls_resolve_fn(void *arg, int error, const struct mtls_addr *addrs, size_t n,
                             const struct mtls_addr *resolver, mtls_tstamp now);

/* Looks name up (A and AAAA) over spec's device/address. The resolver is spec->resolver, else the
 * resolver that belongs to path 2's own link (systemd-networkd's state of spec's device). A
 * loopback resolver is never path 2's own, unless spec's own device is a loopback. Errors:
 * MTLS_ERR_PATH_RESOLVE (no resolver, bad name; at once), MTLS_ERR_PATH_BIND, MTLS_ERR_NOMEM,
 * MTLS_ERR_LIMIT (more than 256 look-ups under way). timeout_ms bounds the whole look-up. */
MTLS_NODISCARD int mtls_resolve_new(struct mtls_resolve **out, struct mtls_reactor *r,
                                    const struct mtls_path_spec *spec, const char *name,
                                    uint32_t timeout_ms, mtls_resolve_fn *fn, void *arg);
/* Cancels (fn will not run) or frees after fn ran; may be called inside fn. NULL is fine. */
void mtls_resolve_free(struct mtls_resolve *q);
/* The same in a fork child, whose parent owns the reactor: closes the inherited sockets and frees,
 * the watches and the timer apart, which are leaked. NULL is fine. */
void mtls_resolve_forget(struct mtls_resolve *q);

/* The first resolver that systemd-networkd's state names for a link: the line "DNS=" of the file
 * DIR/IFINDEX. A loopback address is passed over. Errors: MTLS_ERR_PATH_RESOLVE. */
MTLS_NODISCARD int mtls_link_resolver(const char *dir, int ifindex, struct mtls_addr *out);

#endif
