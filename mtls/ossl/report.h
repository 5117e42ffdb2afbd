/* Concept: what remains of a session after its decision: the paths, frozen as text, in one
 * allocation that is as small as they are. */
#ifndef MTLS_OSSL_REPORT_H
#define MTLS_OSSL_REPORT_H

#include "session.h"

struct mtls_report;

/* The session's, put into words now if it was not; NULL: none, or out of memory. */
const struct mtls_report *mtls_report_of(struct mtls_session *s);

/* 1 and the path's description, whose texts live as long as the report; 0: no such path, or report
 * is NULL. */
int mtls_report_path(const struct mtls_report *report, size_t index, struct mtls_path_info *info);

#endif
