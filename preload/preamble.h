/* Concept: what a program says before TLS on a connection that is to become TLS: the preambles of
 * the STARTTLS-like protocols and of proxies. Pure. */
#ifndef MTLS_PRELOAD_PREAMBLE_H
#define MTLS_PRELOAD_PREAMBLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PRELOAD_PREAMBLE_MAX = 16384 };

/* Whether these bytes, all of them, are such a preamble, or a TLS alert in the clear: nothing that
 * carries what a user wants kept. */
bool preload_preamble(const uint8_t *data, size_t len);

#endif
