/* What the bundle of an SMKEX session shows, see explain.h. */
#include <string.h>

#include "explain.h"

static const struct verdict {
    const char *reason, *what, *rules, *who;
} verdicts[] = {
    {"proof-wrong",
     "The server of path 2 took part in another key exchange than the one that this client saw on "
     "path 1.",
     "[PRF-5], [TAG-3]",
     "Somebody between the two on path 1, who did an exchange with each. Or somebody on path 2 who "
     "changed the\n"
     "proof: that can only make sessions fail."},
    {"proof-missing", "Path 2 was there, and no proof came over it.", "[PRF-5], [TIM-1]",
     "Path 2 led to another machine than path 1; or path 1's peer is not the server; or somebody "
     "on path 2\n"
     "dropped the proof."},
    {"downgrade",
     "The server says on path 2 that it speaks SMKEX, and whoever answered on path 1 did not.",
     "[DWN-1]", "Somebody on path 1 who answered in the server's place."},
    {"smkex-not-spoken", "Whoever answered on path 1 does not speak SMKEX.", "[POL-2]",
     "A server without it; or somebody on path 1 who answered in its place."},
    {"server-key-changed", "The server shows another key than the one that is remembered.",
     "[TOF-4]",
     "A server with a new key; or somebody who owns every path that was asked. Ask for the key "
     "over a third way."},
    {"server-key-unproven", "The answer on path 1 shows a key that did not sign it.", "[TOF-4]",
     "Somebody on path 1 who changed the answer and passed the server's key on."},
    {"subflow-bytes",
     "Bytes travelled on another subflow than their own, or twice: what belongs to path 2 may have "
     "been seen,\n"
     "or sent, by path 1.",
     "[MPC-5]",
     "Somebody on path 1 who forged mappings; or a loss that made the kernel send bytes again "
     "elsewhere."},
    {"subflow-changed", "The subflows are not the two that the exchange began with.", "[MPC-2]",
     "Somebody on path 1, where the connection's keys cross in clear, who joined it or ended a "
     "subflow."},
    {"subflow-missing", "The second subflow did not come up.", "[MPC-3]",
     "A network that lets none through; or somebody on path 1 who ends the connection himself: at "
     "the other\n"
     "end of path 2 nobody knows it."},
    {"peer-closed", "The peer left before it was decided: nothing of it was read.", "[SRV-1]",
     "The client refused (its own bundle says why), or a cut network. A man in the middle of path "
     "1 looks like\n"
     "this from the server, for the client never confirms."},
    {"confirm-missing", "The client's confirmation did not come: nothing of it was read.",
     "[SRV-2]",
     "The client refused (its own bundle says why), lost path 2, or somebody on path 2 dropped "
     "CONFIRM. A man\n"
     "in the middle of path 1 looks like this from the server."},
};

static void show_verdict(FILE *out, const struct bundle *b)
{
    for (size_t i = 0; i < sizeof verdicts / sizeof verdicts[0]; i++)
        if (bundle_is(b, "reason", verdicts[i].reason)) {
            fprintf(out,
                    "What happened\n%s\nRules of doc/smkex.md and doc/protocol.md: %s\n\n"
                    "Who could have done it\n%s\n\n",
                    verdicts[i].what, verdicts[i].rules, verdicts[i].who);
            return;
        }
    if (bundle_is(b, "outcome", "failed"))
        fprintf(out,
                "What happened\nThe session failed: %s (%s). It is no sign of an interception by "
                "itself.\n\n",
                bundle_value(b, "reason"), bundle_value(b, "meaning"));
    else
        fprintf(out, "What happened\nNothing: the outcome was %s.\n\n", bundle_value(b, "outcome"));
}

static void show_paths(FILE *out, const struct bundle *b)
{
    for (size_t i = 0; i < b->nlines; i++) {
        char number[8], local[64], remote[64], device[64], state[24], error[48];

        if (sscanf(b->lines[i], "path %7s %63s %63s %63s %23s %47s", number, local, remote, device,
                   state, error) == 6)
            fprintf(out, "Path %s\n  %s -> %s by %s%s%s%s%s\n", number, local, remote, device,
                    strcmp(state, "-") != 0 ? ": " : "", strcmp(state, "-") != 0 ? state : "",
                    strcmp(error, "-") != 0 ? ", " : "", strcmp(error, "-") != 0 ? error : "");
    }
}

void bundle_explain_smkex(FILE *out, const struct bundle *b)
{
    show_verdict(out, b);
    show_paths(out, b);
    fprintf(out,
            "\nWhat it does not prove\n"
            "Who it was: only which path. SMKEX knows no names, and nothing in a bundle is signed "
            "for a third party:\n"
            "whoever is shown it has to believe you. Beside the other end's bundle it shows "
            "whether both took part\n"
            "in one exchange (mtls-client explain BUNDLE OTHER).\n");
}
