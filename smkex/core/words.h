/* Concept: SMKEX's configuration words, taken out of a configuration string; what is left is
 * mtls/core/config.h's. Pure. */
#ifndef SMKEX_CORE_WORDS_H
#define SMKEX_CORE_WORDS_H

#include "mtls/core/config.h"
#include "wire.h"

struct smkex_words {
    enum smkex_mode mode;
    uint8_t ngroups, groups[SMKEX_GROUPS_MAX];
    uint8_t nsuites, suites[SMKEX_LIST_MAX];
    uint32_t pad;
    bool over_mptcp, over_connections; /* over=: the variants that are used, the first one first */
    char helper[MTLS_FILE_MAX + 1];    /* mptcp-helper=; empty: the default */
    char key[MTLS_FILE_MAX + 1];       /* empty = none */
    bool vouch;                        /* key-change=vouch [TOF-4] */
};

/* Fills *w (defaults where nothing is said) and writes the other words to rest (at least
 * strlen(text) + 1 bytes). msg as in mtls_config_apply(). Errors: MTLS_ERR_CONFIG_VALUE, _CONFLICT
 * (a word twice). */
MTLS_NODISCARD int smkex_words_parse(struct smkex_words *w, const char *text, char *rest, char *msg,
                                     size_t msg_len);

#endif
