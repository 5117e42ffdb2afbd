"""Unmodified programs as TLS servers under `mtlsize run`: a verified session, a man in the middle with a rogue
certificate refused by the client where he reads everything without it, and a plain client under prefer."""

import signal

import pytest

import programs
import programs_lab as under
from mtlslab import attack, check, tools

SERVERS = [program for program in programs.SERVERS if program.protocol != "postgres"]


class Served:
    """A server program under mtlsize, as the harness's clients want it."""

    def __init__(self, lab, pki, kit, program, place, policy):
        place.port, self.path2_port = lab.port(), lab.port()
        argv = kit.argv(["--policy", policy, "--listen", f"{lab.addr}:{self.path2_port}"], program.start(place))
        self.host, self.port = lab.addr, place.port
        self.proc = lab.spawn(lab.server, argv, name=program.name)
        self.proc.wait_listening(self.port)
        lab.hosts(lab.client, **{pki.name.replace(".", "_"): self.host})

    def stop(self):
        """mtlsize's summary."""
        self.proc.send(signal.SIGTERM)
        self.proc.wait()
        return [line for line in self.proc.jsons() if line.get("event") == "run"][-1]


def ask(lab, program, proc):
    """Sends the request and waits for the answer or the end."""
    proc.write(program.request)
    try:
        proc.wait_until(lambda: program.answer in proc.stdout, "answer")
        return True
    except AssertionError:
        return False
    finally:
        if not proc.popen.stdin.closed:
            proc.close_stdin()


def over_multipath_tls(lab, pki, program, server, answered):
    proc = tools.start_client(lab, pki, server, cafile=pki.bundle, get=None, stdin=True)
    if answered:
        assert ask(lab, program, proc), proc.log()
    result = tools.Result(proc)
    return result


def verified(result):
    """How the program ends its connection is its own affair: some do without close_notify."""
    assert result.outcome == tools.VERIFIED, result


def over_plain_tls(lab, pki, program, server):
    proc = lab.spawn(lab.client, ["openssl", "s_client", "-connect", f"{server.host}:{server.port}", "-servername",
                                  pki.name, "-CAfile", pki.bundle, "-verify_return_error", "-quiet"], stdin=True,
                     name="s_client")
    found = ask(lab, program, proc)
    proc.stop()
    assert found, f"{proc.log()}\n{server.proc.log()}"


@pytest.mark.parametrize("program", SERVERS, ids=lambda program: program.name)
def test_server(lab, pki, open_www, tmp_path, kit, program):
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www)
    place.backend = under.backend(lab, "http", open_www)
    server = Served(lab, pki, kit, program, place, "prefer")
    verified(over_multipath_tls(lab, pki, program, server, True))

    attack.path2_relay(lab, server.path2_port, "--hold", f"confirm:{under.LATE_MS}")
    verified(over_multipath_tls(lab, pki, program, server, True))
    lab.flush(2)

    mitm = under.intercept(lab, pki, tmp_path, server.port, "")
    over_plain_tls(lab, pki, program, server)
    assert program.request[:4] in mitm.record
    under.empty(mitm)
    check.refused(over_multipath_tls(lab, pki, program, server, False), "downgrade", "not-offered")
    check.nothing_stolen(mitm)
    lab.flush(1)

    over_plain_tls(lab, pki, program, server)
    summary = server.stop()
    assert summary["verified"] == 2 and summary["plain"] >= 2, server.proc.log()
    programs.measured(program, "server", programs.WORKS)


@pytest.mark.parametrize("program", [program for program in programs.SERVERS if program.protocol == "postgres"],
                         ids=lambda program: program.name)
def test_postgres(lab, pki, open_www, tmp_path, kit, postgres, program):
    """The same with psql, which asks for TLS in PostgreSQL's own words first."""
    client = next(one for one in programs.CLIENTS if one.name == "psql")
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www)
    peer = under.start_peer(place, lab, pki, kit, client, open_www, postgres, plain=False)
    place.port = peer.port

    def wrapped(argv):
        return kit.argv(under.client_words(peer, "require"), argv)

    assert under.delivered(under.run_client(lab, client, place, wrapped), client)
    mitm = under.intercept(lab, pki, tmp_path, peer.port, "postgres")
    assert under.delivered(under.run_client(lab, client, place), client) and mitm.record
    under.empty(mitm)
    assert not under.delivered(under.run_client(lab, client, place, wrapped), client)
    check.nothing_stolen(mitm)
    lab.flush(1)
    assert under.delivered(under.run_client(lab, client, place), client)
    peer.proc.send(signal.SIGTERM)
    peer.proc.wait()
    summary = [line for line in peer.proc.jsons() if line.get("event") == "run"][-1]
    assert summary["verified"] == 1 and summary["plain"] >= 2, peer.proc.log()
    programs.measured(program, "server", programs.WORKS)


def test_server_that_requires(lab, pki, open_www, tmp_path, kit):
    """policy=require: a plain client is refused, and that is not the server's failure: exit 0."""
    program = next(one for one in SERVERS if one.name.startswith("nginx"))
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www)
    server = Served(lab, pki, kit, program, place, "require")
    done = tools.curl(lab, pki, server.host, server.port)
    assert done.wait() != 0 and done.stdout == b"", done.log()
    verified(over_multipath_tls(lab, pki, program, server, True))
    summary = server.stop()
    assert summary["verified"] == 1 and summary["plain"] == 0 and summary["exit"] == 0, server.proc.log()


def test_http2_over_four_workers(lab, pki, open_www, tmp_path, kit):
    """curl and nginx, both unmodified, HTTP/2, whichever worker path 2 reaches."""
    program = next(one for one in SERVERS if one.name.startswith("nginx"))
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www)
    server = Served(lab, pki, kit, program, place, "require")
    place.port = server.port
    curl = ["curl", "-sS", "--noproxy", "*", "--http2", "--cacert", pki.cafile, "-w", "%{http_version}\n"]
    urls = [f"https://{pki.name}:{server.port}/file"] * 8
    argv = [*curl, "-Z", "--no-keepalive", *[word for url in urls for word in ("-o", "/dev/null", url)]]
    run = lab.run(lab.client, kit.argv(under.client_words(server, "require"), argv))
    assert run.wait() == 0 and run.stdout.split() == [b"2"] * 8, f"{run.log()}\n{server.proc.log()}"
    summary = server.stop()
    assert summary["verified"] + summary["resumed-verified"] >= 1 and summary["plain"] == 0, server.proc.log()
