/* Fuzz target: the resumption record in a ticket, of both modes. There is one spelling of each:
 * what is accepted is written again byte for byte, and no record vouches for both modes, after its
 * age, or for another name or port. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "mtls/core/record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { CLOCK_SKEW_S = 300 };

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_use(const struct mtls_record *r, int64_t now)
{
    bool exporter = mtls_record_valid(r, r->name, r->port, 1, 0, 604800, now);
    bool resume = mtls_record_valid_resume(r, r->name, r->port, 0, 604800, now);

    check(!(exporter && resume));
    check(!exporter || r->mode == MTLS_MODE_EXPORTER);
    check(!resume || r->mode == MTLS_MODE_RESUME);
    if (!exporter && !resume)
        return;
    check(r->verified_at <= now + CLOCK_SKEW_S);
    check(now - r->verified_at <= (int64_t)r->max_age_s);
    check(!mtls_record_valid_resume(r, r->name, r->port, 0, 0, now));
    check(!mtls_record_valid_resume(r, r->name, (uint16_t)(r->port + 1), 0, 604800, now));
    check(!mtls_record_valid_resume(r, "another.example.name", r->port, 0, 604800, now) ||
          strcmp(r->name, "another.example.name") == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mtls_record r;
    uint8_t again[MTLS_RECORD_MAX];
    int64_t now;

    if (mtls_record_parse(data, size, &r) != 0)
        return 0;
    check(mtls_record_encode(&r, again, sizeof(again)) == (int)size);
    check(memcmp(again, data, size) == 0);
    check(memchr(r.name, '\0', sizeof(r.name)) != NULL);
    now = r.verified_at > INT64_MAX - 700000 ? INT64_MAX - 700000 : r.verified_at;
    check_use(&r, now);
    check_use(&r, now + (int64_t)r.max_age_s / 2);
    check_use(&r, now + (int64_t)r.max_age_s + 1);
    if (now > INT64_MIN + 1000)
        check_use(&r, now - CLOCK_SKEW_S - 1);
    return 0;
}
