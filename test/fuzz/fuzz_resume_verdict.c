/* Fuzz target: the verdict of a confirmation by resumption. Whatever was seen, verified needs a
 * completed resumption of path 1's ticket over distinct paths, or a valid record; and what a policy
 * lets pass it says nowhere else. [RSM-8] to [RSM-13] */
#include <stdint.h>
#include <stdlib.h>

#include "mtls/core/resume_verdict.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
    if (!ok)
        abort();
}

static void check_facts(const struct mtls_rsm_facts *f)
{
    enum mtls_rsm_reason reason = mtls_rsm_judge(f);
    enum mtls_rsm_verdict verdict = mtls_rsm_verdict_of(reason);

    check(verdict != MTLS_RSM_NONE && mtls_rsm_word(reason)[0] != '\0' &&
          mtls_rsm_meaning(reason)[0] != '\0' && mtls_rsm_end_word(f->end)[0] != '\0');
    if (verdict == MTLS_RSM_VERIFIED)
        check(f->tls13 && !f->broken &&
              (f->record || (f->path1_open && f->ticket && f->distinct && f->psk &&
                             f->end == MTLS_RSM_COMPLETED)));
    if (verdict == MTLS_RSM_CONSISTENT)
        check(f->tls13 && !f->remembered && f->checked && f->chain_valid && f->distinct &&
              f->key == MTLS_RSM_KEY_SAME && f->end == MTLS_RSM_COMPLETED);
    check(mtls_rsm_allows(MTLS_POLICY_REQUIRE, false, f->remembered, verdict) ==
          (verdict == MTLS_RSM_VERIFIED));
    check(!mtls_rsm_allows(MTLS_POLICY_PREFER, true, f->remembered, verdict) ||
          verdict != MTLS_RSM_ALARM);
    check(!f->remembered || verdict == MTLS_RSM_VERIFIED ||
          !mtls_rsm_allows(MTLS_POLICY_PREFER, true, true, verdict));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mtls_rsm_facts f = {0};
    unsigned bits;

    if (size < 5)
        return 0;
    bits = (unsigned)(data[0] << 8 | data[1]);
    f.tls13 = bits & 1;
    f.path1_open = bits & 2;
    f.broken = bits & 4;
    f.checked = bits & 8;
    f.ticket = bits & 16;
    f.record = bits & 32;
    f.remembered = bits & 64;
    f.distinct = bits & 128;
    f.psk = bits & 256;
    f.chain_valid = bits & 512;
    f.end = (enum mtls_rsm_end)(data[2] % (MTLS_RSM_BROKEN + 1));
    f.key = (enum mtls_rsm_key)(data[3] % (MTLS_RSM_KEY_OTHER + 1));
    f.alert = data[4];
    check_facts(&f);
    return 0;
}
