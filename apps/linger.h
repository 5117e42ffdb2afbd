/* Closing a TCP socket without losing what was just sent: closing with unread input makes the
 * kernel reset the connection, and the peer may then never see our last bytes (an alert, an error
 * page). */
#ifndef APPS_LINGER_H
#define APPS_LINGER_H

#include <ev.h>

/* Takes fd: sends FIN, throws away what comes, closes at the peer's FIN or after two seconds. */
void linger_close(struct ev_loop *loop, int fd);
/* At the end of the program: closes all of them now. */
void linger_end_all(struct ev_loop *loop);

#endif
