/* Concept: the kernel's MPTCP path manager, for one connection (generic netlink, userspace path
 * manager). Needs CAP_NET_ADMIN: for mtls-mptcp-helper alone. */
#ifndef MTLS_NET_MPTCP_PM_H
#define MTLS_NET_MPTCP_PM_H

#include "../core/subflows.h"

/* All return 0 or a negative errno of the kernel. */
MTLS_NODISCARD int mtls_mptcp_pm_family(uint16_t *family);
/* A further subflow, as backup, bound to a device. */
MTLS_NODISCARD int mtls_mptcp_pm_join(uint16_t family, uint32_t token, int ifindex,
                                      const struct mtls_addr *local,
                                      const struct mtls_addr *remote);
/* Sets or clears backup of one subflow, at both ends (MP_PRIO). */
MTLS_NODISCARD int mtls_mptcp_pm_backup(uint16_t family, uint32_t token,
                                        const struct mtls_subflow *s, bool backup);

#endif
