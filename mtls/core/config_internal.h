/* Concept: what the two halves of the configuration parser share: the words of a layer (config.c)
 * and hosts, addresses and path specifications (config_path.c). Nobody else includes it. */
#ifndef MTLS_CORE_CONFIG_INTERNAL_H
#define MTLS_CORE_CONFIG_INTERNAL_H

#include "config.h"

/* Where an error's text goes: out may be NULL. */
struct config_say {
    char *out;
    size_t cap;
};

/* Writes "WORD=VALUE: what is wrong" (value NULL: "WORD: ..."), cut to fit, unprintable bytes as
 * '?'. Returns code. */
__attribute__((format(printf, 5, 6))) int config_fail(const struct config_say *say, int code,
                                                      const char *word, const char *value,
                                                      const char *fmt, ...);

/* Decimal digits alone, no sign, no leading zero. */
bool config_number(const char *text, uint32_t min, uint32_t max, uint32_t *out);

/* As mtls_host_parse(), but tells port 0 (legal here) from no port. */
bool config_host(struct mtls_host *h, const char *text, bool *has_port);

/* Whether a is an address one can connect to or bind as one's own: not unspecified, not multicast,
 * not broadcast. */
bool config_addr_is_unicast(const struct mtls_addr *a);

/* Parses the value of one path2 word; value is changed. */
MTLS_NODISCARD int config_path_parse(struct mtls_path_spec *spec, char *value,
                                     const struct config_say *say);

#endif
