"""One run of the hostile lab: a laboratory, a victim (client and server of one protocol), attackers, and
what the attackers themselves recorded. The verdict comes from that record; what the victim says is
kept beside it and must not contradict it."""

from mtlslab import attack, netns, tools

PAGE = "/account-4711"  # asked for by the client: whoever reads this has read its request
BALANCE = b"balance 1,000,000"
FORGED = b"balance 9,999,999"
ALTER = f"{BALANCE.decode()}={FORGED.decode()}"
ANSWER = b"for the eyes of this customer alone: " + BALANCE + b"\n" + b"a line of the account\n" * 400

SHORT, LONG = 2000, 10000  # ms; a client that is refused anyhow need not wait long for that
SAFE, READ, ALTERED, BOTH = "safe", "read", "altered", "read, altered"


class NoAttack(AssertionError):
    """The attack did not take place, so its failure would prove nothing."""


class NotServed(AssertionError):
    """Nobody disturbed the client, and it did not get what it asked for."""


class Stranger:
    """An attacker that is not one of ours: it has a record and reports no events."""

    path = 1

    def __init__(self, proc, record):
        self.proc, self.record_file = proc, record

    @property
    def record(self):
        with open(self.record_file, "rb") as file:
            return file.read()

    def events(self, _):
        return []


def strings(record, length=16):
    """Every piece of a record of this length that looks random: no padding, no text of the protocol's own."""
    found = (record[at:at + length] for at in range(len(record) - length + 1))
    return {piece for piece in found if len(set(piece)) > length // 2}


class Scene:
    """What an attack works with. rogue: the client trusts the authority of the attackers' certificate."""

    def __init__(self, lab, pki, folder, programs, row, rogue):
        self.lab, self.pki, self.folder = lab, pki, folder
        self.mitm_ext, self.mitm_ticket = programs["mitm_ext"], programs["mitm_ticket"]
        self.row, self.rogue = row, rogue
        self.cafile = pki.bundle if rogue else pki.cafile
        self.www = folder / "www"
        self.www.mkdir()
        (self.www / PAGE[1:]).write_bytes(ANSWER)
        self.attackers, self.recorders, self.need, self.redirects = [], [], [], []
        self.server = self.body = self.outcome = None
        self.deadline, self.delivers = SHORT, False

    # ---- the victims ----------------------------------------------------------------------------

    def serve(self):
        """The real server, and what the row needs from before the attack (a ticket, a memory)."""
        self.server = self.row.serve(self)
        self.row.prepare(self)

    def fetch(self):
        """The client asks the server for the page, through whatever is in between."""
        self.body, self.outcome = self.row.fetch(self)

    # ---- attackers ------------------------------------------------------------------------------

    def file(self, name):
        return str(self.folder / name)

    def _keep(self, attacker, *events, path=1):
        """events: one of them must have happened, or there was no attack."""
        attacker.path = path
        self.attackers.append(attacker)
        self.need.append((attacker, events))
        return attacker

    def spawn(self, where, name, *options, record=None):
        """An attacker of test/system/attackers, on the router of a path or in a namespace."""
        proc = self.lab.spawn(self.lab.routers.get(where, where), attack.program(name) + [str(o) for o in options],
                              name=name)
        return attack.Attacker(proc, record)

    def record(self, path):
        """A passive listener on the router of a path."""
        record = self.file(f"heard-{path}")
        # From a victim that has no second path nothing comes there.
        events = ["recording"] if path == 1 else []
        found = self.spawn(path, "recorder.py", "c", record, record=record)
        self.recorders.append(found)
        return self._keep(found, *events, path=path)

    def mitm(self, path=1, plain=False, options=()):
        """Ends the client's TLS (or sits in its plain TCP) and opens its own to the server."""
        record = self.file("stolen")
        words = ["--record", record, "--name", self.pki.name, "--alter", ALTER]
        words += ["--plain-in", "--plain-out"] if plain else [
            "--cert", self.pki.rogue_cert, "--key", self.pki.rogue_key]
        words += options
        found = self.spawn(path, "tls_mitm.py", *words, record=record)
        self.lab.redirect(path, self.server.port, found.port)
        return self._keep(found, "connection", path=path)

    def carry(self):
        """The same, with the client's extension carried over to the server and its answer back."""
        found = attack.ext_mitm(self.lab, self.pki, self.folder, self.mitm_ext, self.server.port)
        found.wait_for_end = True
        return self._keep(found, "connected", "refused")

    def answer(self, option="--answer", addresses=b""):
        """The same, but the extension is answered by themselves: no CONFIRM_NEEDED, no port, these addresses."""
        text = b"MTL1\1\0" + bytes(6) + (addresses or b"\0")
        found = attack.ext_mitm(self.lab, self.pki, self.folder, self.mitm_ext, self.server.port, option, text.hex())
        return self._keep(found, "answered")

    def edit(self, *options):
        """Changes bytes on path 1 without any key."""
        found = self.spawn(1, "path1_edit.py", *options)
        self.lab.redirect(1, self.server.port, found.port)
        return self._keep(found, "edited")

    def frames(self, *options, path=2):
        """Changes frames on path 2."""
        found = attack.path2_relay(self.lab, self.server.path2_port, *options, path=path)
        return self._keep(found, "connection", path=path)

    def forge(self, *options, path=2):
        """Answers path 2 in the server's place."""
        found = self.spawn(path, "path2_forge.py", *options)
        self.lab.redirect(path, self.server.path2_port, found.port)
        return self._keep(found, "forged", path=path)

    def cut(self, path=2):
        """Path 2 is refused by a router in the server's name."""
        self.lab.filter(path, f"tcp dport {self.server.path2_port} reject with tcp reset")

    def own_server(self, path=1, link=None, ticket_key=None, cert=None, key=None, ns=None, words=(),
                   path2_port=0):
        """The attackers' own Multipath TLS server on the router of path 1, with their certificate. With a
        link its path 2 is fed by the attacker on another path. What it decrypts goes through
        an interceptor, which alters it, to the real server."""
        lab, record = self.lab, self.file("stolen")
        elsewhere, ns = ns, ns or lab.routers[path]
        middle = self.spawn(ns, "tls_mitm.py", *self.row.onward, "--to",
                            tools.join(self.server.host, self.server.port), "--name", self.pki.name,
                            "--record", record, "--alter", ALTER, record=record)
        words = ["--forward", f"127.0.0.1:{middle.port}", *words]
        if ticket_key:
            words += ["--ticket-key", ticket_key]
        evil = self.row.attackers_server(
            self, ns, words, cert or self.pki.rogue_cert, key or self.pki.rogue_key,
            f"{link or '127.0.0.1'}:{path2_port}")
        self.row.hosts(self)
        if not elsewhere:
            lab.redirect(path, self.server.port, evil.port)
            self.redirects.append((path, self.server.port))
        self.attackers.append(middle)
        return evil

    def synchronised(self, *paths, ticket_key=None):
        """Attackers on path 1 and on these paths, with links between them: path 2 is answered by the same
        server of theirs that has path 1."""
        links = {path: self.lab.link_routers(1, path) for path in paths}
        evil = self.own_server(link=self.row.link, ticket_key=ticket_key)
        for path, (address, address6) in links.items():
            self.steer(self.lab.routers[path], self.server.path2_port, address, address6, evil.path2_port)
        return evil

    def steer_here(self, path, to):
        """What the client sends to the service over this path goes to a server of theirs on its router."""
        self.lab.redirect(path, self.server.path2_port, to)
        self.redirects.append((path, self.server.path2_port))

    @staticmethod
    def steer(ns, port, address, address6, to):
        """What passes a router (or leaves a proxy on it) for this port goes to the attackers' server."""
        for hook, priority in (("prerouting", -100), ("output", -100)):
            netns.nft(ns, f"""
table inet steer-{hook} {{
  chain steered {{
    type nat hook {hook} priority {priority};
    meta nfproto ipv4 tcp dport {port} dnat ip to {address}:{to}
    meta nfproto ipv6 tcp dport {port} dnat ip6 to [{address6}]:{to}
  }}
}}
""")
        netns.nft(ns, """
table inet steer-back {
  chain leaving {
    type nat hook postrouting priority 100;
    oifname "x1" masquerade
  }
}
""")

    def beside_the_server(self, ns):
        """The attackers in one network that every path passes: one server of theirs for both."""
        evil = self.own_server(ns=ns, link="0.0.0.0")
        netns.nft(ns, f"""
table inet beside {{
  chain before {{
    type nat hook prerouting priority -100;
    tcp dport {self.server.port} redirect to :{evil.port}
    tcp dport {self.server.path2_port} redirect to :{evil.path2_port}
  }}
}}
""")
        return evil

    def sslsplit(self):
        """Somebody else's man in the middle, which makes a certificate for each name by the rogue authority."""
        port, record = self.lab.port(), self.file("sslsplit-content")
        proc = self.lab.spawn(self.lab.routers[1], [
            tools.which("sslsplit"), "-k", self.pki.rogue_ca_key, "-c", self.pki.rogue.cafile, "-u", "root",
            "-L", record, "-l", "/dev/stdout", "ssl", "0.0.0.0", port], name="sslsplit")
        proc.wait_listening(port)
        self.lab.redirect(1, self.server.port, port)
        self.redirects.append((1, self.server.port))
        self.attackers.append(Stranger(proc, record))

    # ---- the verdict ----------------------------------------------------------------------------

    def check_attacked(self):
        for path, port in self.redirects:
            if self.lab.redirected(path, port) == 0:
                raise NoAttack(f"nobody came to port {port} on path {path}")
        for attacker, events in self.need:
            if self.outcome.get("outcome") == tools.RESUMED and attacker.path != 1:
                continue  # needs no second path
            if not events:
                continue
            try:  # its report may come after the client's end
                attacker.proc.wait_until(
                    lambda a=attacker, e=events: any(a.events(event) for event in e), events, 5)
            except AssertionError as error:
                raise NoAttack(str(error)) from None

    def _believed_by(self, attacker):
        """The outcome of the side that got what was carried over."""
        if any(line.get("way") == "c2s" for line in attacker.events("carried")):
            return self.server.session()["outcome"]
        return self.outcome.get("outcome")

    def rules_broken(self):
        """What the attackers saw that no side may show, whatever it was worth to them."""
        seen = []
        for attacker in self.attackers:
            if getattr(attacker, "wait_for_end", False):
                attacker.wait("end")
            if attacker.events("ticket"):
                seen.append("a ticket before CONFIRM")
            if self._believed_by(attacker) == tools.VERIFIED and (attacker.events("repeated") or attacker.events("carried")):
                seen.append("more bytes on path 1 than were sent there")
            if self.outcome.get("outcome") == tools.FAILED and any(
                    line["up"] and line["type"] == "confirm" for line in attacker.events("frame")):
                seen.append("CONFIRM without a decision")
        heard = {one.path: strings(one.record if one.path == 1 else one.record[:self.row.path_2_bytes])
                 for one in self.recorders}
        if self.row.bytes_on_one_path and any(
                heard[1] & heard[path] for path in heard if path > 1 and 1 in heard):
            seen.append("the same bytes on both paths")
        return seen

    def verdict(self):
        """(verdict, what was read, what was altered) by the attackers' own records."""
        self.check_attacked()
        for attacker in self.recorders:  # it takes down what it has heard, and ends
            attacker.proc.stop()
        broken = self.rules_broken()
        if broken:
            return "seen: " + ", ".join(broken), [], []
        stolen = b"".join(a.record for a in self.attackers if a.record_file)
        read = [text for mark, text in ((PAGE[1:].encode(), "request"), (BALANCE, "answer"))
                if mark in stolen]
        altered = ["answer"] if any(a.events("altered") for a in self.attackers) else []
        self._no_contradiction(altered)
        if self.delivers and self.body != ANSWER:
            raise NotServed(f"nobody disturbed the client, and it did not get the page: {self.body!r}")
        words = {(False, False): SAFE, (True, False): READ, (False, True): ALTERED, (True, True): BOTH}
        return words[bool(read), bool(altered)], read, altered

    def _no_contradiction(self, altered):
        """What the client took for the answer is the server's, unless the attackers say otherwise."""
        whole = self.outcome["exit"] == 0
        if altered or (self.body == ANSWER if whole else ANSWER.startswith(self.body)):
            return
        raise AssertionError(f"the client took {self.body!r} for the answer")

    def seen_by_attackers(self):
        """What each attacker reported, without what differs from run to run."""
        events = []
        for attacker in self.attackers:
            for line in attacker.proc.jsons("stdout"):
                word = " ".join(str(line[key]) for key in ("event", "by", "what", "type", "detail")
                                if key in line)
                if line.get("event") != "listening" and word not in events:
                    events.append(word)
        return events
