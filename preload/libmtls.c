/* Concept: finding libmtls and libssl at run time. libmtls lies beside this library; it is loaded
 * when the program has libssl and makes its first SSL_CTX, and must work on that very libssl. */
#include "libmtls.h"

#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct preload_libmtls preload_libmtls;

static pthread_once_t once = PTHREAD_ONCE_INIT;
static void *handle; /* libmtls, atomic */
static struct text {
    uintptr_t at, from, to;
} texts[2];           /* of libmtls, and of libcares, which works for it */
static void *its_new; /* SSL_CTX_new as libmtls has it */
static char error[256];

/* ---- what libmtls may ask (interpose.h) ---- */

static void begin(void)
{
    preload_thread.marked = true;
    preload_thread.fd = -1;
}

static int end(void)
{
    preload_thread.marked = false;
    return preload_thread.fd;
}

static void again(bool on)
{
    preload_thread.again = on;
}

static bool hold(int fd, enum mtls_interpose_hold how)
{
    return preload_hold(fd, how);
}

unsigned preload_copies;

static struct mtls_interpose operations = {.size = sizeof(operations),
                                           .begin = begin,
                                           .end = end,
                                           .again = again,
                                           .hello = preload_hello_expect,
                                           .forget = preload_hello_forget,
                                           .copies = &preload_copies,
                                           .hold = hold,
                                           .confirmed = preload_confirmed,
                                           .outcome = preload_outcome,
                                           .counts = preload_counts};

/* ---- loading ---- */

static void *open_at(const char *folder, size_t len, const char *below)
{
    char path[1024];
    int n = snprintf(path, sizeof(path), "%.*s%s", (int)len, folder, below);

    return n > 0 && (size_t)n < sizeof(path) ? dlopen(path, RTLD_NOW | RTLD_LOCAL) : NULL;
}

/* Installed: LIBDIR/mtls/ below libmtls; in a build folder: preload/ beside mtls/. */
static void *open_library(void)
{
    const char *self = preload_settings.self, *slash = self != NULL ? strrchr(self, '/') : NULL;
    void *found = NULL;

    if (preload_settings.library != NULL)
        return preload_settings.library[0] == '/'
                   ? dlopen(preload_settings.library, RTLD_NOW | RTLD_LOCAL)
                   : NULL;
    if (slash != NULL)
        found = open_at(self, (size_t)(slash - self), "/../" MTLS_SONAME);
    if (found == NULL && slash != NULL)
        found = open_at(self, (size_t)(slash - self), "/../mtls/" MTLS_SONAME);
    return found != NULL ? found : dlopen(MTLS_SONAME, RTLD_NOW | RTLD_LOCAL);
}

static int find_text(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct text *text = arg;
    ElfW(Half) i;

    for (i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + p->p_vaddr;

        if (p->p_type == PT_LOAD && (p->p_flags & PF_X) != 0 && text->at >= from &&
            text->at < from + p->p_memsz) {
            text->from = from;
            text->to = from + p->p_memsz;
            return 1;
        }
    }
    return 0;
}

static bool take(void *lib)
{
    struct preload_libmtls *m = &preload_libmtls;
    const struct {
        void *where;
        const char *name;
    } wanted[] = {
        {&m->attach, "mtls_interpose_attach"},
        {&m->learned, "mtls_interpose_learned"},
        {&m->closed, "mtls_interpose_closed"},
        {&m->ctx_msg_callback, "mtls_interpose_ctx_msg_callback"},
        {&m->ssl_msg_callback, "mtls_interpose_ssl_msg_callback"},
        {&m->connect, "mtls_interpose_connect"},
        {&m->accepted, "mtls_interpose_accepted"},
        {&m->hook, "mtls_ssl_ctx_hook"},
        {&m->is_hooked, "mtls_ssl_ctx_is_hooked"},
        {&m->set_outcome_callback, "mtls_ssl_ctx_set_outcome_callback"},
        {&m->descriptor, "mtls_interpose_descriptor"},
        {&m->confirm, "mtls_interpose_confirm"},
        {&m->has_fd, "mtls_interpose_has_fd"},
        {&m->session_callback, "mtls_interpose_session_callback"},
    };
    size_t i;
    void *fn;

    for (i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        fn = dlsym(lib, wanted[i].name);
        if (fn == NULL)
            return false;
        memcpy(wanted[i].where, &fn, sizeof(fn));
    }
    operations.config = preload_settings.config;
    return m->attach(&operations) == 1;
}

static void load(void)
{
    void *lib = open_library();
    const char *why = lib == NULL ? dlerror() : NULL;

    if (lib == NULL || !take(lib)) {
        snprintf(error, sizeof(error), "Multipath TLS: %s",
                 why != NULL ? why : MTLS_SONAME " is of another release");
        return;
    }
    its_new = dlsym(lib, "SSL_CTX_new");
    texts[0].at = (uintptr_t)preload_libmtls.hook;
    texts[1].at = (uintptr_t)dlsym(lib, "ares_library_init");
    dl_iterate_phdr(find_text, &texts[0]);
    dl_iterate_phdr(find_text, &texts[1]);
    __atomic_store_n(&handle, lib, __ATOMIC_RELEASE);
}

static bool has_libssl(void)
{
    void *lib = dlopen(LIBSSL_SONAME, RTLD_LAZY | RTLD_NOLOAD);

    if (lib != NULL)
        dlclose(lib);
    return lib != NULL;
}

bool preload_library_ready(bool wanted)
{
    if (__atomic_load_n(&handle, __ATOMIC_ACQUIRE) != NULL)
        return true;
    if (!wanted || !has_libssl())
        return false;
    pthread_once(&once, load);
    return __atomic_load_n(&handle, __ATOMIC_ACQUIRE) != NULL;
}

const char *preload_library_error(void)
{
    return error[0] != '\0' ? error : "Multipath TLS: this program's libssl is not " LIBSSL_SONAME;
}

bool preload_is_library(const void *address)
{
    uintptr_t at = (uintptr_t)address;

    return (at >= texts[0].from && at < texts[0].to) || (at >= texts[1].from && at < texts[1].to);
}

void preload_library_closed(int fd)
{
    preload_libmtls.closed(fd);
}

void preload_library_connect(int fd, const struct sockaddr *to, socklen_t len, const char *name)
{
    preload_libmtls.connect(fd, to, len, name);
}

void preload_library_accepted(int fd)
{
    preload_libmtls.accepted(fd);
}

/* ---- libssl ---- */

static bool is_ours(const void *fn)
{
    Dl_info info, self;

    return dladdr(fn, &info) != 0 && dladdr((void *)(uintptr_t)is_ours, &self) != 0 &&
           info.dli_fbase == self.dli_fbase;
}

/* What the calling object itself would get without us: it may have been opened by itself, with a
 * libssl that is not in the global scope (CPython's _ssl), or that is another one. */
void *preload_libssl_symbol(const char *name, const void *code)
{
    Dl_info caller;
    void *lib, *fn = NULL;

    if (dladdr(code, &caller) != 0 && caller.dli_fname != NULL &&
        (lib = dlopen(caller.dli_fname, RTLD_LAZY | RTLD_NOLOAD)) != NULL) {
        fn = dlsym(lib, name);
        dlclose(lib);
    }
    if (fn == NULL || is_ours(fn))
        fn = dlsym(RTLD_NEXT, name);
    if (fn == NULL && (lib = dlopen(LIBSSL_SONAME, RTLD_LAZY | RTLD_NOLOAD)) != NULL) {
        fn = dlsym(lib, name);
        dlclose(lib);
    }
    return fn != NULL && !is_ours(fn) ? fn : NULL;
}

void *preload_library_symbol(const char *name)
{
    void *lib = __atomic_load_n(&handle, __ATOMIC_ACQUIRE);

    return lib != NULL ? dlsym(lib, name) : NULL;
}

bool preload_library_fits(void *real_new)
{
    return its_new != NULL && real_new != NULL && (its_new == real_new);
}
