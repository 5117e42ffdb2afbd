/* A link that is SMKEX's. */
#ifndef APPS_LINK_SMKEX_H
#define APPS_LINK_SMKEX_H

#include <mtls/smkex.h>

#include "link.h"

/* Takes s, also when it fails: NULL, out of memory. */
struct link *link_smkex_new(struct smkex *s);
struct smkex *link_get0_smkex(const struct link *l); /* NULL for NULL */

#endif
