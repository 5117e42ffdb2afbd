/* Concept: what the preload library was told: the environment as the program was started with, kept
 * because programs empty it (nginx). Nothing of it is heeded in a privileged program. */
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include <mtls/mtls.h>

#include "preload.h"

struct preload_settings preload_settings = {.program = "?"};
/* mtlsize status looks for it in the file. */
__attribute__((used)) static const char version[] = "mtls-preload version " MTLS_VERSION_STRING;
__thread struct preload_thread preload_thread = {false, false, -1};

void *preload_find_next(void **where, const char *name)
{
    void *fn = dlsym(RTLD_NEXT, name);

    __atomic_store_n(where, fn, __ATOMIC_RELAXED);
    return fn;
}

static const char *word(const char *name)
{
    const char *value = secure_getenv(name);

    return value != NULL && value[0] != '\0' ? strdup(value) : NULL;
}

/* The last policy word holds; one layer has at most one. */
bool preload_says(const char *config, const char *what)
{
    const char *at = config, *space = " \t\n";
    size_t len = strlen(what);

    while (at != NULL && *at != '\0') {
        at += strspn(at, space);
        if (strncmp(at, what, len) == 0)
            return true;
        at += strcspn(at, space);
    }
    return false;
}

static void program_name(void)
{
    const char *name = program_invocation_short_name;

    if (name != NULL)
        strncpy(preload_settings.program, name, sizeof(preload_settings.program) - 1);
}

/* Go makes its system calls itself: nothing here sees them. */
static bool is_go(void)
{
    const ElfW(Phdr) *ph = (const void *)getauxval(AT_PHDR);
    size_t n = getauxval(AT_PHNUM), i;
    uintptr_t base = 0;
    bool found = false;

    for (i = 0; ph != NULL && i < n && !found; i++) {
        found = ph[i].p_type == PT_PHDR;
        base = found ? (uintptr_t)ph - ph[i].p_vaddr : 0;
    }
    for (i = 0; found && i < n; i++) {
        const ElfW(Nhdr) *note = (const void *)(base + ph[i].p_vaddr);

        if (ph[i].p_type == PT_NOTE && ph[i].p_memsz >= sizeof(*note) + 4 && note->n_namesz == 4 &&
            memcmp(note + 1, "Go", 3) == 0)
            return true;
    }
    return false;
}

bool preload_enforcing(void)
{
    return !preload_settings.allow && !preload_settings.off;
}

__attribute__((constructor)) static void start(void)
{
    struct preload_settings *s = &preload_settings;
    const char *unhooked = secure_getenv("MTLSIZE_UNHOOKED");
    Dl_info self;

    program_name();
    s->config = word("MTLS_CONFIG");
    s->log = word("MTLSIZE_LOG");
    s->library = word("MTLSIZE_LIBRARY");
    s->verbose = secure_getenv("MTLSIZE_VERBOSE") != NULL;
    s->allow = unhooked != NULL && strcmp(unhooked, "allow") == 0;
    s->refuse_exec = unhooked != NULL && strcmp(unhooked, "refuse-exec") == 0;
    s->off = s->config == NULL || preload_says(s->config, "policy=off");
    s->client = s->config != NULL && !s->off && preload_says(s->config, "path2=");
    if (dladdr((void *)(uintptr_t)&preload_settings, &self) != 0 && self.dli_fname[0] == '/')
        s->self = strdup(self.dli_fname);
    preload_log_start();
    preload_env_start();
    preload_probe_start();
    preload_hello_start();
    preload_connect_start();
    if (s->off)
        return;
    preload_guard_start();
    preload_accept_start();
    preload_log_loaded();
    if (is_go())
        preload_log_event("notice", "", "a Go program makes its system calls itself");
}
