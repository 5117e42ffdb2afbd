/* What the rows of --list-paths are: path 1, each device by each of the server's addresses, and the
 * configured paths. */
#include "client_list.h"

#include <net/if.h>
#include <stdio.h>
#include <string.h>

#include "mtls/net/path2_socket.h"
#include "mtls/net/route.h"

struct list_row *list_add(struct list *l, enum list_kind kind)
{
    struct list_row *r = l->count < LIST_MAX ? &l->rows[l->count++] : NULL;

    if (r != NULL)
        *r = (struct list_row){.kind = kind, .fd = -1};
    return r;
}

static struct mtls_addr server(const struct list *l, size_t i)
{
    struct mtls_addr a = {0};

    if (mtls_addr_from_sockaddr(&a, (const struct sockaddr *)&l->servers.at[i].sa,
                                l->servers.at[i].len) != 0)
        a.family = 0;
    return a;
}

/* ---- Judgement ---- */

static void say(struct list_row *r, const char *text)
{
    snprintf(r->why, sizeof r->why, "%s", text);
}

void list_judge(const struct list *l, struct list_row *r)
{
    unsigned wanted = r->spec.distinct != 0 ? r->spec.distinct : MTLS_DISTINCT_CLIENT;

    r->scope = mtls_paths_scope(&l->path1, &r->facts);
    r->counts = r->kind != LIST_PATH1 && (r->scope & wanted) == wanted;
    if (r->counts || r->why[0] != '\0')
        return;
    if (!r->facts.known)
        say(r, "not known where it leads");
    else if (r->facts.proxied && !r->facts.tunnel)
        say(r, "a proxy that nothing protects the way to: tunnel=yes says otherwise");
    else if (r->facts.ifindex == l->path1.ifindex)
        say(r, "path 1's device");
    else if (r->facts.dev_tunnel)
        say(r, "a tunnel, which may run over path 1: tunnel=yes says otherwise");
    else if (l->path1.dev_tunnel)
        say(r, "path 1 is a tunnel, which may run over it");
    else if (mtls_paths_same_link(&l->path1, &r->facts))
        say(r, "stands on path 1's device");
    else
        say(r, "not distinct from path 1");
}

/* ---- Devices ---- */

static void add_device(struct list *l, int ifindex, const struct mtls_auto_choice *choices, int n)
{
    struct mtls_device d;

    if (mtls_device_get(ifindex, &d) != 0 || !d.up || d.loopback)
        return;
    for (size_t i = 0; i < l->servers.count; i++) {
        struct mtls_addr to = server(l, i);
        struct mtls_path_facts f = {0};
        struct list_row *r;

        if (to.family == 0 || !mtls_path2_way_out(&d, &to, &f) ||
            (r = list_add(l, LIST_DEVICE)) == NULL)
            continue;
        r->facts = f;
        mtls_device_stack(&d, &r->facts);
        r->target = to;
        r->spec.local = f.local;
        r->spec.local.port = 0;
        memcpy(r->spec.dev, d.name, sizeof r->spec.dev);
        for (int k = 0; k < n; k++)
            if (strcmp(choices[k].spec.dev, d.name) == 0 &&
                choices[k].spec.local.family == f.local.family) {
                r->chosen = k < l->config.need;
                snprintf(r->why, sizeof r->why, "%s", choices[k].why);
            }
        list_judge(l, r);
    }
}

static void add_devices(struct list *l)
{
    struct mtls_auto_choice choices[MTLS_PATHS_MAX];
    int n = mtls_path2_auto(&l->path1, choices, MTLS_PATHS_MAX);
    struct if_nameindex *devices = if_nameindex();

    for (size_t i = 0; devices != NULL && devices[i].if_index != 0; i++)
        if ((int)devices[i].if_index != l->path1.ifindex)
            add_device(l, (int)devices[i].if_index, choices, n);
    if (devices != NULL)
        if_freenameindex(devices);
}

/* ---- Configured paths ---- */

/* What path 2's socket will connect to, as far as it is known without a look-up of its own. */
static struct mtls_addr configured_target(const struct list *l, const struct mtls_path_spec *s)
{
    struct mtls_addr to = s->proxy.name[0] != '\0'    ? s->proxy.addr
                          : s->remote.name[0] != '\0' ? s->remote.addr
                                                      : server(l, 0);

    for (size_t i = 0; s->proxy.name[0] == '\0' && s->remote.name[0] == '\0' &&
                       s->local.family != 0 && s->local.family != to.family && i < l->servers.count;
         i++)
        to = server(l, i);
    if (to.family != 0 && to.port == 0)
        to.port = s->port != 0 ? s->port : MTLS_PORT_DEFAULT;
    return to;
}

static int spec_device(const struct mtls_path_spec *s)
{
    char name[MTLS_IF_MAX + 1];
    int ifindex = 0;

    if (s->dev[0] != '\0')
        return (int)if_nametoindex(s->dev);
    return s->local.family != 0 && mtls_device_of_address(&s->local, name, &ifindex) == 0 ? ifindex
                                                                                          : 0;
}

static void add_configured(struct list *l, const struct mtls_path_spec *s)
{
    struct list_row *r = list_add(l, LIST_CONFIGURED);
    bool bound = s->dev[0] != '\0' || s->local.family != 0;
    int rc;

    if (r == NULL)
        return;
    r->spec = *s;
    r->target = configured_target(l, s);
    if (r->target.family == 0) {
        r->error = "its name is looked up over the path itself, which is not done here";
        return;
    }
    rc = bound ? mtls_route_via(&r->target, spec_device(s), s->local.family != 0 ? &s->local : NULL,
                                &r->facts)
               : mtls_route_to(&r->target, &r->facts);
    if (rc != 0)
        r->error = mtls_error_string(rc);
    r->facts.tunnel = s->tunnel;
    if (s->proxy.name[0] != '\0') {
        r->facts.proxied = true;
        r->facts.proxy = r->target;
        r->facts.remote = (struct mtls_addr){0};
    }
    list_judge(l, r);
}

/* ---- All ---- */

static int find_path1(struct list *l, const char *dev)
{
    struct list_row *r;

    for (size_t i = 0; i < l->servers.count; i++) {
        struct mtls_addr to = server(l, i);
        struct mtls_device d;
        int rc;

        if (to.family == 0)
            continue;
        rc = dev != NULL ? mtls_route_via(&to, (int)if_nametoindex(dev), NULL, &l->path1)
                         : mtls_route_to(&to, &l->path1);
        if (rc != 0 || mtls_device_get(l->path1.ifindex, &d) != 0)
            continue;
        mtls_device_stack(&d, &l->path1);
        r = list_add(l, LIST_PATH1);
        r->facts = l->path1;
        r->target = to;
        if (dev != NULL)
            memcpy(r->spec.dev, d.name, sizeof r->spec.dev);
        return 0;
    }
    return -1;
}

int list_plan(struct list *l, const char *path1_dev)
{
    if (find_path1(l, path1_dev) < 0)
        return -1;
    add_devices(l);
    for (int i = 0; i < l->config.npath2; i++)
        if (!l->config.path2[i].is_auto)
            add_configured(l, &l->config.path2[i]);
    return 0;
}
