/* Concept: memory that is certainly readable, known without asking the kernel: what was loaded with
 * the program, and the stack that we stand on. Programs ask the kernel about other memory by
 * writing a few bytes from there into a pipe (libunwind); a sandbox may allow them write() alone.
 */
#include <link.h>
#include <unistd.h>

#include "preload.h"

enum { SEGMENTS = 8, PAGE = 4096, MAIN_STACK = 1 << 20 };

static struct {
    uintptr_t from, to;
} segments[SEGMENTS];
static unsigned nsegments;
static uintptr_t stack_top; /* the first thread's */

static int main_program(struct dl_phdr_info *info, size_t size, void *arg)
{
    ElfW(Half) i;

    for (i = 0; i < info->dlpi_phnum && nsegments < SEGMENTS; i++) {
        const ElfW(Phdr) *p = &info->dlpi_phdr[i];

        if (p->p_type != PT_LOAD || (p->p_flags & PF_R) == 0)
            continue;
        segments[nsegments].from = info->dlpi_addr + p->p_vaddr;
        segments[nsegments].to = segments[nsegments].from + p->p_memsz;
        nsegments++;
    }
    return 1; /* the first object is the program */
}

void preload_probe_start(void)
{
    dl_iterate_phdr(main_program, NULL);
    stack_top = (uintptr_t)environ;
}

/* Above the latest frame there are those of its callers: to the end of its page on any stack. */
static bool on_stack(uintptr_t at, size_t len)
{
    uintptr_t frame = (uintptr_t)__builtin_frame_address(0), top = (frame | (PAGE - 1)) + 1;

    if (frame < stack_top && stack_top - frame < MAIN_STACK)
        top = stack_top;
    return at >= frame && at <= top && len <= top - at;
}

bool preload_is_readable(const void *data, size_t len)
{
    uintptr_t at = (uintptr_t)data;
    unsigned i;

    if (on_stack(at, len))
        return true;
    for (i = 0; i < nsegments; i++)
        if (at >= segments[i].from && at <= segments[i].to && len <= segments[i].to - at)
            return true;
    return false;
}
