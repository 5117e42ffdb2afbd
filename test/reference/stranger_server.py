"""The server of the peer that is written from doc/protocol.md alone: section 7, with an echo
service behind it. One thread, one selector; the rules are cited where they are kept.
"""

import collections
import hashlib
import os
import selectors
import socket
import struct
import threading
import time

from stranger_peer import (ABANDONED, BUSY, CONFIRM_NEEDED, CONFIRM_WRONG, FAIL, HANDSHAKE_FAILURE,
                           HELLO, ILLEGAL_PARAMETER, INTERNAL_ERROR, LIMIT, NO_SESSION, OK, PREFACE,
                           PROOF, READY, BadStream, Claim, Reader, claim_of, client_hello_exts,
                           frame, keys_of, parse_client_ext, server_ext)
from stranger_tls import SSL, Failed, Tls

Session = collections.namedtuple("Session", "sock tls by facts claims")


class Server(threading.Thread):
    """One thread, an echo service behind `require`. events holds (name, detail) in order, wait()
    waits for one. answer, ready and proof are what a test replaces to misbehave."""

    def __init__(self, context, path2=("127.0.1.1",), deadline=10, max_age=3600):
        super().__init__(daemon=True)
        self.context, self.deadline, self.max_age = context, deadline, max_age
        self.events, self.news = [], threading.Condition()
        self.sessions, self.claims, self.ended, self.conns = [], [], {}, set()
        self.flags = []  # of each ClientHello that takes part
        self.poll = selectors.DefaultSelector()
        self.stopper, stopped = socket.socketpair()
        self.poll.register(stopped, selectors.EVENT_READ, lambda: True)
        self.listener = self._listen("127.0.0.1", self._accept1)
        self.path2 = [self._listen(host, self._accept2) for host in path2]
        self.address = self.listener.getsockname()
        self.path2_addresses = [each.getsockname() for each in self.path2]

    def _listen(self, host, accept):
        sock = socket.create_server((host, 0))
        self.poll.register(sock, selectors.EVENT_READ, lambda: accept(*sock.accept()))
        return sock

    def note(self, name, detail=None):
        with self.news:
            self.events.append((name, detail))
            self.news.notify_all()

    def wait(self, name, count=1, wait=20):
        """The details of at least so many events of this name."""
        def found():
            return [detail for each, detail in self.events if each == name]
        with self.news:
            assert self.news.wait_for(lambda: len(found()) >= count, wait), self.events
            return found()

    def stop(self):
        if self.is_alive():
            self.stopper.send(b"x")
        self.join(20)

    def run(self):
        stopping = False
        while not stopping:
            timers = [s.by for s in self.sessions if not s.facts["verified"]]
            timers += [claim.by for claim in self.claims if not claim.ended]
            timeout = max(0, min(timers) - time.monotonic()) if timers else None
            for key, _ in self.poll.select(timeout):
                stopping = key.data() or stopping
            self._expire(time.monotonic())
        for session in list(self.sessions):
            self._end(session, "stopped")
        for each in [*self.conns, *self.path2, self.listener]:
            each.close()

    def _expire(self, now):
        for session in [s for s in self.sessions if s.by <= now and not s.facts["verified"]]:
            self._end(session, "deadline")  # [SRV-2]
        self.claims = [claim for claim in self.claims if not claim.ended]
        for claim in [c for c in self.claims if c.by <= now]:
            claim.by = float("inf")
            if not self._with(claim.join):
                claim.send(FAIL, bytes([NO_SESSION]))  # [TIM-4]

    def _with(self, join):
        return [s for s in self.sessions if s.facts["join"] == join]

    # path 1

    def _accept1(self, sock, _peer):
        tls = Tls(self.context, True, self.answer, parse_client_ext)
        session = Session(sock, tls, time.monotonic() + self.deadline,
                          {"join": None, "keys": None, "slot": None, "confirmed": False,
                           "verified": False, "resumed": False}, [])
        self.sessions.append(session)
        self._watch(session)

    def _watch(self, session):
        self.poll.register(session.sock, selectors.EVENT_READ,
                           lambda: self._guard(session, self._read1))

    def answer(self, tls):
        """EncryptedExtensions; CONFIRM_NEEDED unless the ticket's record is good [RES-5]."""
        record = tls.appdata() if SSL.SSL_session_reused(tls.ssl) else b""
        good = len(record) == 23 and record[:7] == b"MTLr\1\1\1" and \
            sum(struct.unpack("!QI", record[8:20])) > time.time()
        tls.record = record if good else None
        return server_ext(0 if good else CONFIRM_NEEDED, self.path2_addresses[0][1], 3600)

    def _guard(self, session, work):
        try:
            work(session)
        except (Failed, OSError) as error:
            self._end(session, str(error), getattr(error, "alert", None))

    def _read1(self, session):
        data = session.sock.recv(16384)
        if not data:
            raise Failed("path 1 closed")
        session.tls.feed(data)
        if session.tls.done:
            return self._echo(session)
        session.tls.handshake()
        return self._progress(session)

    def _progress(self, session):
        """After each step of the handshake: register, flight, then stop reading [SRV-1]."""
        tls, facts = session.tls, session.facts
        offers = client_hello_exts(tls.messages)
        if offers and not facts["join"]:
            self.flags.append(parse_client_ext(offers[0])[1])
            self._register(session, parse_client_ext(offers[0]))
        if len(set(offers)) > 1:
            raise Failed("another extension", ILLEGAL_PARAMETER)  # [EXT-3]
        session.sock.sendall(tls.take())
        if tls.flight_written() and not facts["keys"]:
            facts["keys"], facts["resumed"] = keys_of(tls), tls.record is not None
            if not facts["resumed"]:
                self.poll.unregister(session.sock)
            self.note("flight", offers)
            for claim in session.claims:
                self._prove(session, claim)
        if tls.done:
            facts["verified"] = True
            self.note("resumed-verified" if facts["resumed"] else "verified",
                      len(session.claims))
            self._echo(session)

    def _register(self, session, offer):
        if offer is None or 1 not in offer[0]:
            raise Failed("no extension", HANDSHAKE_FAILURE)
        join = offer[2]
        if time.monotonic() < self.ended.get(join, 0):
            raise Failed("join of ended sessions", ILLEGAL_PARAMETER)  # [SRV-8]
        used = {slot for claim in self.claims if claim.join == join for slot in claim.proofs}
        free = set(range(8)) - used - {each.facts["slot"] for each in self._with(join)}  # [PRF-2]
        if not free:
            raise Failed("too many sessions", INTERNAL_ERROR)  # [SRV-6]
        session.facts.update(join=join, slot=min(free))
        for claim in self.claims:
            if claim.join == join and not claim.ended:
                self._attach(session, claim)

    def _echo(self, session):
        while (data := session.tls.read()) is not None:
            if not data:
                SSL.SSL_shutdown(session.tls.ssl)
                session.sock.sendall(session.tls.take())
                raise Failed("closed")
            session.sock.sendall(session.tls.write(data))
        session.sock.sendall(session.tls.take())  # tickets

    def _end(self, session, reason, alert=None):
        facts = session.facts
        self.note("end", reason)
        self.note("unread", b"" if facts["verified"] else self._unread(session))
        self.sessions.remove(session)
        if alert and not facts["keys"]:
            session.sock.send(bytes([21, 3, 3, 0, 2, 2, alert]))
        if facts["join"] and not self._with(facts["join"]):  # the last of its join [SRV-8]
            self.ended[facts["join"]] = time.monotonic() + 60
            for claim in session.claims:
                if not claim.ended and not facts["confirmed"]:
                    claim.send(FAIL, bytes([ABANDONED]))  # [SRV-9]
        if session.sock in self.poll.get_map():
            self.poll.unregister(session.sock)
        session.sock.close()
        session.tls.free()

    @staticmethod
    def _unread(session):
        """What the client sent behind its ClientHello and nobody has read."""
        session.sock.setblocking(False)
        try:
            return session.sock.recv(65536)
        except OSError:
            return b""

    # path 2

    def _accept2(self, sock, _peer):
        conn = Conn(sock)
        self.conns.add(conn)
        self.poll.register(sock, selectors.EVENT_READ, lambda: self._read2(conn))

    def _read2(self, conn):
        try:
            data = conn.sock.recv(4096)
            for raw in conn.reader.feed(data):
                self._frame(conn, raw)
        except (BadStream, OSError) as error:
            self.note("path2 bad", str(error))
            data = b""
        if not data:
            self.poll.unregister(conn.sock)
            self.conns.remove(conn)
            conn.close()

    def _frame(self, conn, raw):
        if raw[0] == HELLO:
            return self._hello(conn, raw)
        claim = conn.claims.get(claim_of(raw))
        if claim is None:
            raise BadStream("a claim that was never opened")
        if claim.ended:
            return None  # [P2-6]
        if raw[0] == FAIL:
            self.note("fail", raw[8])
            return claim.end(raw[8])
        return self._confirm(claim, raw)

    def ready(self, conn, raw):
        """The body of the answer to a HELLO."""
        status = BUSY if sum(not c.ended for c in conn.claims.values()) >= 64 else OK  # [TIM-9]
        return bytes([status]) + os.urandom(32) + hashlib.sha256(raw).digest()  # [RDY-4]

    def _hello(self, conn, raw):
        if claim_of(raw) <= max(conn.claims, default=0):
            raise BadStream("claim number")  # [P2-3]
        claim = Claim(conn, raw, frame(READY, claim_of(raw), self.ready(conn, raw)))
        conn.send(claim.ready if conn.claims else PREFACE + claim.ready)
        conn.claims[claim.number] = claim
        claim.by = time.monotonic() + 10
        self.note("hello", claim)
        if claim.ready[8] != OK:
            claim.end()
        elif time.monotonic() < self.ended.get(claim.join, 0):
            claim.send(FAIL, bytes([NO_SESSION]))
        elif sum(c.join == claim.join and not c.ended for c in self.claims) >= 8:
            claim.send(FAIL, bytes([LIMIT]))  # [SRV-5]
        else:
            self.claims.append(claim)
            for session in self._with(claim.join):
                self._attach(session, claim)

    def _attach(self, session, claim):
        if len(session.claims) >= 8:
            return claim.send(FAIL, bytes([LIMIT]))
        session.claims.append(claim)
        return self._prove(session, claim)

    def _prove(self, session, claim):
        if session.facts["keys"] and not claim.ended:
            slot = session.facts["slot"]
            claim.proofs[slot] = session
            more = len(self._with(claim.join)) > 1
            self.proof(claim, slot, more, session.facts["keys"].tag_s(claim.p2()))

    def proof(self, claim, slot, more, tag):
        claim.send(PROOF, bytes([slot, more]) + tag)

    def _confirm(self, claim, raw):
        session = claim.proofs.get(raw[8])
        if session is None:
            raise BadStream("CONFIRM without PROOF")  # [P2-5]
        claim.end()
        facts = session.facts
        if facts["confirmed"] or session not in self.sessions:
            return  # [CNF-4]
        claims = [(each.path, each.p2()) for each in session.claims if each.proofs]
        counted = facts["keys"].search(raw[8:], claims.index((claim.path, claim.p2())), claims)
        if counted is None:
            claim.send(FAIL, bytes([CONFIRM_WRONG]))
            raise BadStream("CONFIRM wrong")  # [CNF-5]
        facts["confirmed"] = True
        self.note("confirmed", (raw[9], raw[10]))
        if not facts["verified"]:
            self._release(session, raw[9])

    def _release(self, session, k):
        """Path 1 is read again; a resumed session is now a verified one of its own [RES-3]."""
        session.tls.record = struct.pack("!4s4BQIHB", b"MTLr", 1, 1, k, 2, int(time.time()),
                                         self.max_age, self.address[1], 0)
        if not session.facts["resumed"]:
            self._watch(session)
        session.facts["resumed"] = False


class Conn:
    """The server's end of a secondary connection; it holds nothing unsent [P2-8]."""

    def __init__(self, sock):
        sock.settimeout(5)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock, self.reader, self.claims = sock, Reader("client"), {}

    def send(self, data):
        try:
            self.sock.sendall(data)
        except OSError:
            self.close()

    def close(self):
        for claim in self.claims.values():
            claim.end(claim.reason)
        self.sock.close()
