/* smkex-server's protocol: SMKEX. */
#include "complain.h"
#include "link_smkex.h"
#include "options.h"
#include "server.h"

#define PROG "smkex-server"

const char server_prog[] = PROG;

int server_protocol_setup(struct server *s)
{
    char msg[256];

    if (smkex_ctx_new(&s->smkex, s->config.words.text, msg, sizeof msg) != 0) {
        complain(PROG, "%s", msg);
        return -1;
    }
    s->hooked = true;
    return 0;
}

/* The key stays what it was when the server started. */
int server_protocol_reload(struct server *s)
{
    return -1;
}

void server_protocol_free(struct server *s)
{
    smkex_ctx_free(s->smkex);
}

const char *server_protocol_listener(const struct server *s, size_t index)
{
    return smkex_ctx_get0_listener(s->smkex, index);
}

int server_protocol_path2(struct server *s, int fd)
{
    return 0;
}

struct link *server_protocol_accept(struct server *s, int fd)
{
    struct smkex *conn;

    return smkex_server_new(&conn, s->smkex, fd) == 0 ? link_smkex_new(conn) : NULL;
}
