/* Concept: what the kernel knows of a Multipath TCP connection's subflows: addresses, counters
 * (MPTCP_FULL_INFO), and the flags that only socket diagnosis tells. Needs no privilege. */
#ifndef MTLS_NET_MPTCP_H
#define MTLS_NET_MPTCP_H

#include "../core/subflows.h"

/* The devices that subflows are bound to, 0: none. */
struct mtls_mptcp_devices {
    int first, second;
};

/* Of a connected MPTCP socket; devices (NULL: not wanted): the flags full, backup and by_peer too,
 * by one question to the kernel for each subflow. Errors: MTLS_ERR_MPTCP_NONE (TCP, or fallen back
 * to it), MTLS_ERR_MPTCP_KERNEL, MTLS_ERR_SUBFLOW_CHANGED (more than MTLS_SUBFLOWS_MAX). */
MTLS_NODISCARD int mtls_mptcp_subflows(int fd, const struct mtls_mptcp_devices *devices,
                                       struct mtls_subflows *out);
/* The connection's token, by which the path manager names it. Errors: MTLS_ERR_MPTCP_NONE. */
MTLS_NODISCARD int mtls_mptcp_token(int fd, uint32_t *token);

#endif
