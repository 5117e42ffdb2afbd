/* The configuration words that a command line gives, checked before a program starts with them. */
#ifndef APPS_MTLSIZE_SETTINGS_H
#define APPS_MTLSIZE_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>

#include "../mtls/core/config.h"

struct settings {
    char text[MTLS_CONFIG_TEXT_MAX + 1]; /* the words, one space between */
    size_t len;
};

/* Adds key=value; key NULL: value is words. -1: white space in the value, or too long. */
int settings_add(struct settings *s, const char *key, const char *value);
/* Adds words from a file: lines, # begins a comment. -1: said why in msg, with file and line. */
int settings_add_file(struct settings *s, const char *file, char *msg, size_t msg_len);
/* --config: a value with "=" is words, any other a file. -1: said why in msg. */
int settings_add_config(struct settings *s, const char *value, char *msg, size_t msg_len);
/* Puts the words of an earlier layer before, without those that ours replace. -1: too long. */
int settings_merge(struct settings *s, const char *under);
/* The same with the words of openssl.cnf, which the preloaded library has to know before libcrypto
 * reads them. -1: they cannot be read, or too long; why in msg. */
int settings_merge_cnf(struct settings *s, char *msg, size_t msg_len);
/* What comes of openssl.cnf, MTLS_CONFIG in the environment and these words together. 0, or -1 and
 * why in msg: they are wrong, or there is nothing that could be confirmed (no path, no listener, or
 * policy off). for_unit: the caller's MTLS_CONFIG does not count, and is not named. */
int settings_check(const struct settings *s, bool for_unit, struct mtls_config *out, char *msg,
                   size_t msg_len);
/* Adds share=, made of the name of a systemd unit, unless the words have one: the programs of its
 * ExecReload= are started with the same words beside the running server, and must be able to open
 * its listeners. -1: too long. */
int settings_share(struct settings *s, const char *unit);

#endif
