/* The flags that mtlsize run and mtlsize enable share. */
#include "mtlsize_words.h"

#include <limits.h>

int words_flag(struct settings *s, const char *prog, int id, const char *value)
{
    static const char *const keys[] = {[O_POLICY] = "policy",
                                       [O_PATH2] = "path2",
                                       [O_LISTEN] = "listen",
                                       [O_TLS_PORT] = "tls-port",
                                       [O_CONFIRM] = "confirm"};
    char why[PATH_MAX + 64];

    if (id == O_CONFIG) {
        if (settings_add_config(s, value, why, sizeof why) < 0)
            return usage_error(prog, "--config: %s", why);
        return 0;
    }
    if (settings_add(s, keys[id], value) < 0)
        return usage_error(prog, "--%s: white space or too long", keys[id]);
    return 0;
}
