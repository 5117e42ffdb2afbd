/* Concept: network devices as the kernel knows them: what they are and what they stand on [PATH-7].
 */
#ifndef MTLS_NET_DEVICE_H
#define MTLS_NET_DEVICE_H

#include "../core/distinct.h"

/* A network device. */
struct mtls_device {
    int ifindex;
    char name[MTLS_IF_MAX + 1];
    bool up, loopback; /* up: and running */
    bool tunnel; /* its packets leave inside others' (tun, tap, WireGuard, PPP, GRE, ...), as far as
                    can be seen */
    bool vrf;    /* stands for routes through other devices */
    int lower;   /* index of the device beneath (VLAN, macvlan), or a veth's other end, 0 = none */
    int master;  /* index of the bridge, bond, team or VRF that it is a port of, 0 = none */
};
/* Errors: MTLS_ERR_PATH_BIND (no such device), MTLS_ERR_IO. */
MTLS_NODISCARD int mtls_device_get(int ifindex, struct mtls_device *d);

/* lower and dev_tunnel of the facts of a path that leaves by d. */
void mtls_device_stack(const struct mtls_device *d, struct mtls_path_facts *facts);
/* By index, or by name when ifindex is 0. 0 or a negative errno. */
MTLS_NODISCARD int mtls_device_ask(int ifindex, const char *name, struct mtls_device *d);
bool mtls_device_is_loopback(const char *dev);

#endif
