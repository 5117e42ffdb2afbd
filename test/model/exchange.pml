/* The exchange of doc/protocol.md over path 1 and up to two secondary paths, with an attacker on each, as a
 * state machine for Spin. One run is one cell of the threat table; the claim is that no data is released under keys
 * that the attackers know. Cryptography is perfect: a handshake is a name, and a proof is the name of the handshake
 * whose keys made it. Switches, all 0 or 1 unless said otherwise, come from model.py:
 *
 *   A1, A2, A3   the attacker on path 1, 2, 3 is active     LINK   the attackers talk to each other
 *   PRE          they share secrets made before             ROGUE  the client accepts their certificate
 *   PATHS        secondary paths (1, 2)                     NEED   so many must confirm
 *   MODE         0 TLS alone, 1 require, 2 prefer, 3 confirm=resume (verified only), 4 the same, unproven allowed,
 *                5 require, with the ticket of a verified session, 6 plain TCP
 *   STOLEN       the attackers have the server's ticket key
 *   SLOW         path 2 is slower than the grace by itself
 *   REACH        the claim is that nothing is ever released
 *   BUG          0; a rule that is left out: 1 the comparison, 2 READY without extension fails, 3 k
 */
mtype = {ready, proof, refused};

/* Handshakes, by the two ends that share their keys. */
#define NONE     0
#define DIRECT   1 /* client and server */
#define TO_US    2 /* client and attacker */
#define ONWARD   3 /* attacker and server */
#define PREPARED 4 /* the attackers' own, from before */

byte client_th = NONE, server_th = NONE; /* server_th: the session with the client's join, or the ticket's domain */
bool path1_done = false, extension = false, resumed = false;
bool released = false, ended = false;

#if REACH
#define RELEASE released = true; assert(false) /* must be found: else "safe" would say nothing */
#elif MODE == 6
#define RELEASE released = true; assert(false) /* without keys */
#else
#define RELEASE released = true; assert(client_th != TO_US)
#endif

chan to_client[2] = [3] of {mtype, byte};
chan to_server[2] = [1] of {bit};
chan from_server[2] = [3] of {mtype, byte};

/* What becomes of path 1. Without a certificate that the client accepts its handshake fails. */
proctype Path1()
{
    if
    :: client_th = DIRECT; server_th = DIRECT; extension = (MODE != 0); resumed = (MODE == 5)
    :: A1 && STOLEN && MODE == 5 -> client_th = TO_US; extension = true; resumed = true
    :: A1 && STOLEN && ROGUE && MODE >= 3 -> client_th = TO_US; extension = true;
        server_th = TO_US /* their ticket opens at the server */
    :: A1 && ROGUE -> client_th = TO_US;
        if
        :: extension = false
        :: MODE != 0 -> extension = true; server_th = ONWARD /* the client's join, carried over */
        :: MODE != 0 -> extension = true                     /* a server of their own, or none */
        fi
    :: A1 && !ROGUE -> ended = true
    fi;
    path1_done = true
}

/* Path 2 at the server: READY at once, a proof when there is a session with this join. */
proctype Server(byte i)
{
    to_server[i]?_;
    from_server[i]!ready, NONE;
    path1_done;
    if
    :: server_th != NONE -> from_server[i]!proof, server_th
    :: else
    fi
}

/* What the attacker on a secondary path can make: whatever it was told, or had before. */
inline forge(i)
{
    if
    :: to_client[i]!proof, PREPARED
    :: LINK && path1_done && client_th == TO_US -> to_client[i]!proof, TO_US
    :: LINK && path1_done && server_th == ONWARD -> to_client[i]!proof, ONWARD
    /* a ticket of theirs opens under a key that they shared before [RSM] */
    :: PRE && (MODE == 3 || MODE == 4) && path1_done && client_th == TO_US -> to_client[i]!proof, TO_US
    fi
}

proctype Network(byte i; bool acts)
{
    mtype kind;
    byte th;
    bool said = false;

    to_server[i]!1;
    do
    :: from_server[i]?kind, th ->
        if
        :: to_client[i]!kind, th
        :: acts && kind == ready -> to_client[i]!refused, NONE; break
        :: acts                                                /* dropped */
        fi
    :: acts && !said -> said = true; to_client[i]!ready, NONE
    :: acts && said -> forge(i); break
    :: ended || released -> break
    od;
end: skip
}

proctype Client()
{
    mtype kind;
    byte th, i, right = 0;
    bool seen_ready[2], seen_proof[2], gone[2];

    path1_done;
    do
    :: ended -> break
    :: (MODE == 0 || MODE == 6) && !ended -> RELEASE; break
    :: resumed && !ended -> RELEASE; break /* needs no path 2 [RES-2] */
    :: MODE != 0 && MODE != 6 && !ended ->
        if
        :: to_client[0]?kind, th -> i = 0
        :: PATHS > 1 && to_client[1]?[kind, th] -> to_client[1]?kind, th; i = 1
        /* nobody answers in time; on a path without an attacker READY does, unless it is slow */
        :: (A2 || (PATHS > 1 && A3) || SLOW) && !seen_ready[0] && !seen_ready[1] ->
            if
            :: MODE == 2 && !extension -> RELEASE
            :: MODE == 4 -> RELEASE
            :: else -> ended = true
            fi;
            break
        :: timeout -> ended = true; break /* the deadline */
        fi;
        if
        :: kind == ready -> seen_ready[i] = true
        :: kind == refused -> gone[i] = true
        :: kind == proof && seen_ready[i] && !seen_proof[i] -> seen_proof[i] = true;
            if
            :: th == client_th || BUG == 1 -> right++
            :: else -> gone[i] = true
            fi
        :: else
        fi;
        if
        :: !extension && (MODE <= 2 || MODE == 5) && (seen_ready[0] || seen_ready[1]) && BUG != 2 -> ended = true; break
        :: !extension && MODE == 2 && (BUG == 2 || (gone[0] && (PATHS == 1 || gone[1]))) ->
            RELEASE; break
        :: (extension || MODE == 3 || MODE == 4) && (right >= NEED || (BUG == 3 && right > 0)) -> RELEASE; break
        :: else
        fi
    od
}

init {
    atomic {
        run Path1();
        run Client();
        run Server(0);
        run Network(0, A2);
        if
        :: PATHS > 1 -> run Server(1); run Network(1, A3)
        :: else
        fi
    }
}
