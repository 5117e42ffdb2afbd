"""Unmodified programs as TLS clients under `mtlsize run`: a verified session, a man in the middle with a rogue
certificate refused where he reads everything without it, also one who carries the extension over, and a peer that knows
nothing of it under prefer."""

import json
import os
import subprocess

import pytest

import programs
import programs_lab as under
from mtlslab import attack, check


@pytest.mark.parametrize("program", programs.CLIENTS, ids=lambda program: program.name)
def test_client(lab, pki, open_www, tmp_path, kit, postgres, mitm_ext, program):
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www, local=lab.port())
    peer = under.start_peer(place, lab, pki, kit, program, open_www, postgres, plain=False)
    place.port = peer.port

    def wrapped(policy):
        return lambda argv: kit.argv(under.client_words(peer, policy), argv)

    run = under.run_client(lab, program, place, wrapped("require"))
    assert under.delivered(run, program), run
    assert run.summary["verified"] >= 1 and run.summary["plain"] == run.summary["failed"] == 0, run
    assert run.summary["exit"] == run.summary["program_exit"], run

    relay = attack.path2_relay(lab, peer.path2_port, "--hold", f"proof:{under.LATE_MS}")
    run = under.run_client(lab, program, place, wrapped("require"))
    assert under.delivered(run, program) and run.summary["verified"] >= 1, run
    assert [line for line in relay.events("frame") if line["type"] == "proof"], relay.proc.log()
    lab.flush(2)

    mitm = under.intercept(lab, pki, tmp_path, peer.port, program.protocol)
    bare = under.run_client(lab, program, place)
    assert under.delivered(bare, program) and mitm.record, bare
    under.empty(mitm)
    run = under.run_client(lab, program, place, wrapped("require"))
    assert not under.delivered(run, program), run
    assert run.summary["failed"] >= 1 and run.summary["verified"] == run.summary["plain"] == 0, run
    assert run.code != 0, run
    check.nothing_stolen(mitm)
    lab.flush(1)

    if program.protocol != "postgres":  # he does not speak its first words
        mitm = attack.ext_mitm(lab, pki, tmp_path, mitm_ext, peer.port)
        run = under.run_client(lab, program, place, wrapped("prefer"))
        assert not under.delivered(run, program) and run.summary["failed"] >= 1, run
        check.nothing_stolen(mitm)
        lab.flush(1)

    plain = under.start_peer(place, lab, pki, kit, program, open_www, postgres, plain=True)
    place.port, peer.path2_port = plain.port, lab.port()
    run = under.run_client(lab, program, place, wrapped("prefer"))
    assert under.delivered(run, program), run
    assert run.summary["plain"] >= 1 and run.summary["verified"] == run.summary["failed"] == 0, run
    programs.measured(program, "client", programs.WORKS)


@pytest.mark.parametrize("program", programs.REFUSED, ids=lambda program: program.name)
def test_refused(lab, pki, open_www, tmp_path, kit, program):
    """Debian's wget and git link GnuTLS: not started, and started by somebody else, their TLS is refused."""
    place = programs.Place(str(tmp_path), lab.addr, 0, pki, pki.bundle, open_www)
    server = under.tools.Server(lab, pki, www=open_www, policy="prefer")
    place.port = server.port
    argv = [str(word) for word in program.start(place)]
    words = under.client_words(server, "require")
    run = lab.run(lab.client, kit.argv(words, argv))
    assert run.wait() == 1 and run.stdout == b"" and b"GnuTLS" in run.stderr, run.log()
    run = lab.run(lab.client, kit.argv(words, ["sh", "-c", '"$@"; exit 0', "sh", *argv]))
    assert run.wait() == 2 and b"cannot be protected" in run.stderr, run.log()
    assert under.SECRET_TEXT not in run.stdout and not server.sessions(), run.log()
    if program.name == "wget":  # there is something to refuse
        run = lab.run(lab.client, argv)
        assert under.SECRET_TEXT in run.stdout, run.log()
    run = lab.run(lab.client, kit.argv([*words, "--allow-unhooked"], argv))
    assert b"NOT protected" in run.stderr and (program.name != "wget" or under.SECRET_TEXT in run.stdout), run.log()
    programs.measured(program, "client", "refused: uses GnuTLS, not libssl")


def test_check_knows_them(kit):
    """What `mtlsize check` says of Debian's: plug-ins, helpers and notes of its tables."""
    names = ["curl", "wget", "/usr/bin/python3", "nginx", "psql", "git", "apache2", "lighttpd", "redis-server", "bash"]
    run = subprocess.run([kit.mtlsize, "check", "--json", *names], capture_output=True, text=True, check=False,
                         env={**os.environ, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"})
    assert run.returncode == 2, run
    found = {line["program"]: line for line in map(json.loads, run.stdout.splitlines())}
    assert [found[name]["verdict"] for name in names] == [
        "works", "no", "works", "works", "works", "no", "works", "works", "works", "no-tls"], found
    assert found["wget"]["reason"] == found["git"]["reason"] == "gnutls"
    assert "_ssl" in found["/usr/bin/python3"]["judged"] and found["psql"]["judged"].endswith("/bin/psql")
    assert found["apache2"]["judged"].endswith("mod_ssl.so")
    assert any("plain text" in note for note in found["psql"]["notes"])
    assert any("share=NAME" in note for note in found["nginx"]["notes"])
    assert not any("plain text" in note for note in found["curl"]["notes"])
