/* Concept: the first page of the record of a run (apps/mtlsize_record.h), which every process of
 * the tree maps and mtlsize reads. Lines begin behind it. */
#ifndef MTLS_PRELOAD_RECORD_H
#define MTLS_PRELOAD_RECORD_H

#include <stdint.h>

#define PRELOAD_RECORD_HEAD 4096

/* What a server's sessions came to. A line for each would say no more: their peers are not the
 * program's choice, nor its doing. */
enum preload_counted {
    PRELOAD_COUNTED_VERIFIED,
    PRELOAD_COUNTED_RESUMED,
    PRELOAD_COUNTED_PLAIN,
    PRELOAD_COUNTED_FAILED,
    PRELOAD_COUNTED
};
enum { PRELOAD_PLAIN_LINES = 16 }; /* the first so many of the plain ones have lines as well */

/* All of it rises and is atomic. */
struct preload_record {
    uint64_t lost; /* lines that could not be written */
    uint64_t counted[PRELOAD_COUNTED];
};

#endif
