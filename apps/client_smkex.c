/* smkex-client's protocol: SMKEX. */
#include "client.h"
#include "complain.h"
#include "link_smkex.h"

#define PROG "smkex-client"

const char client_prog[] = PROG;
const unsigned client_http_port = 80;

bool client_protocol_command(int argc, char **argv, int *rv)
{
    return false;
}

int client_protocol_setup(struct client *c)
{
    char msg[256];

    if (smkex_ctx_new(&c->smkex, c->config.words.text, msg, sizeof msg) != 0) {
        complain(PROG, "%s", msg);
        return -1;
    }
    c->hooked = true;
    return 0;
}

void client_protocol_free(struct client *c)
{
    smkex_ctx_free(c->smkex);
}

int client_protocol_forget(const struct client_config *config)
{
    int rc = smkex_forget_host(config->hosts, config->server.host, config->server.port);

    if (rc != 0)
        complain(PROG, "%s: %s", config->hosts, mtls_error_string(rc));
    return rc != 0 ? -1 : 0;
}

/* What is wrong with path 2 shows in the handshake. */
int client_protocol_check(struct client *c)
{
    return EXIT_USAGE; /* no flag of this program asks for it */
}

void client_protocol_announce(struct client *c)
{
    (void)!smkex_announce(c->smkex, client_host_name(c), c->config.server.port);
}

/* Where it is not permitted the library still judges. */
void client_protocol_pin(void *arg, int fd, const struct addr *to)
{
    (void)!mtls_pin_socket_to(fd, (const struct sockaddr *)&to->sa, to->len);
}

struct link *client_protocol_open(struct client *c, int fd)
{
    struct smkex *s;
    int rc;

    if (c->config.device == NULL && c->config.has_local)
        (void)!mtls_pin_socket(fd);
    rc = smkex_client_new(&s, c->smkex, fd, client_host_name(c));
    if (rc == 0)
        return link_smkex_new(s);
    output_message(&c->out, "error", "%s", mtls_error_string(rc));
    c->exit_code = EXIT_VERIFY;
    return NULL;
}

int client_protocol_confirm(struct client *c, struct link *link, client_confirmed *done, void *arg,
                            struct tls_failure *why)
{
    return 0; /* SMKEX's own exchange has done it */
}

int client_protocol_reopen(struct client *c, struct link *link, int fd)
{
    return smkex_set_plain_fd(link_get0_smkex(link), fd) == 0 ? 0 : -1;
}
