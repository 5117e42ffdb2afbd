"""Which paths count: provenance (rule 5) and distinctness (rule 6), on networks that lie."""

import json

import pytest

from conftest import SECRET
from mtlslab import attack, check, netns, stock, tools
from mtlslab.lab import net4
from mtlslab.tools import client, spec

NOT_DISTINCT = ("paths-not-distinct", "proof-too-few")


def test_same_device_is_no_second_path(lab, pki, www, server):
    """Path 2 over path 1's own device."""
    check.refused(client(lab, pki, server, path2=[spec(lab, server, path=1)]), *NOT_DISTINCT)


def test_source_address_is_no_second_path(lab, pki, www, server):
    """A second address on path 1's device changes nothing: local= binds to the device."""
    netns.ip(lab.client, "addr", "add", "10.77.1.9/24", "dev", "p1")
    words = f"local=10.77.1.9,remote={tools.join(server.host, server.path2_port)}"
    check.refused(client(lab, pki, server, path2=[words]), *NOT_DISTINCT)


def test_server_distinct_needs_to_be_asked_for(lab, pki, www):
    """Two prefixes of the server over one client device: verified only with distinct=server."""
    server = tools.Server(lab, pki, www=www, address=lab.server_addr(1),
                          path2_listen=[f"{lab.server_addr(2)}:0"])
    words = spec(lab, server, path=1, address=lab.server_addr(2))
    check.refused(client(lab, pki, server, path2=[words]), *NOT_DISTINCT)
    result = check.verified(client(lab, pki, server, path2=[words + ",distinct=server"]), None,
                            (www / "file").read_bytes())
    assert check.scope(result) == {"server"}, result


def test_server_distinct_same_prefix(lab, pki, www, server):
    """distinct=server is not met by the same address over two devices; distinct=both neither."""
    for scope in ("server", "both"):
        words = spec(lab, server, distinct=scope)
        check.refused(client(lab, pki, server, path2=[words]), *NOT_DISTINCT)


def test_distinct_both(lab, pki, www):
    server = tools.Server(lab, pki, www=www, address=lab.server_addr(1),
                          path2_listen=[f"{lab.server_addr(2)}:0"])
    words = spec(lab, server, address=lab.server_addr(2), distinct="both")
    result = check.verified(client(lab, pki, server, path2=[words]), server)
    assert check.scope(result) == {"client", "server"}, result


def test_what_is_shared_is_reported(lab, pki, www, server):
    """The same server address over both paths: prefix and address are shared, and said."""
    result = check.verified(client(lab, pki, server), server)
    shares = str(result.paths[1]["shares"])
    assert "remote" in shares and "device" not in shares, result


# ---- names --------------------------------------------------------------------------------------

def resolvers(lab, path1=None, path2=None):
    """One resolver on each router; the client's system asks path 1's."""
    found = {1: attack.dns(lab, lab.routers[1], lab.router_addr(1),
                           server_example=path1 or lab.addr),
             2: attack.dns(lab, lab.routers[2], lab.router_addr(2),
                           server_example=path2 or lab.addr)}
    lab.etc(lab.client, "resolv.conf", f"nameserver {lab.router_addr(1)}\n")
    lab.etc(lab.client, "nsswitch.conf", "hosts: dns\n")
    return found


def test_name_looked_up_over_path_2(lab, pki, www, server):
    """Path 2 asks its own resolver for the name, over its own device."""
    found = resolvers(lab)
    words = f"dev=p2,port={server.path2_port},resolver={lab.router_addr(2)}"
    check.verified(client(lab, pki, server, path2=[words]), server, (www / "file").read_bytes())
    found[2].wait("question")
    asked = found[2].events("question")
    assert all(line["peer"] == lab.client_addr(2) for line in asked), asked
    assert {line["name"] for line in asked} == {pki.name}


def test_look_up_fails(lab, pki, server):
    """Path 2's resolver does not know the name: path 1's answer is no substitute."""
    attack.dns(lab, lab.routers[1], lab.router_addr(1), server_example=server.host)
    attack.dns(lab, lab.routers[2], lab.router_addr(2), other_example=server.host)
    lab.etc(lab.client, "resolv.conf", f"nameserver {lab.router_addr(1)}\n")
    words = f"dev=p2,port={server.path2_port},resolver={lab.router_addr(2)}"
    check.refused(client(lab, pki, server, "--deadline", "3000", path2=[words]), "path2-resolve",
                  "proof-too-few", "deadline")


@pytest.mark.parametrize("resolver", ["own", "none"])
def test_spoofed_dns_on_path_1(lab, pki, www, tmp_path, resolver):
    """Path 1's network answers the name with the attacker's own machine, which runs a whole Multipath TLS
    server with the rogue certificate. Path 2 must not be led there too."""
    real = tools.Server(lab, pki, www=www)
    evil_www = tmp_path / "evil"
    evil_www.mkdir()
    (evil_www / "file").write_bytes(b"from the attacker\n")
    # The attacker's server is reachable from both of the client's networks: anyone may rent one.
    netns.ip(lab.routers[1], "addr", "add", "10.77.66.1/32", "dev", "lo")
    netns.ip(lab.routers[2], "route", "add", "10.77.66.1/32", "via", lab.server_addr(2))
    netns.ip(lab.server, "route", "add", "10.77.66.1/32", "via", lab.router_out(1))
    netns.ip(lab.routers[1], "route", "add", net4(2), "via", lab.server_addr(1))
    forwards = lab.run(lab.server, ["sysctl", "-q", "-w", "net.ipv4.ip_forward=1"])
    assert forwards.wait() == 0, forwards.log()
    evil = tools.Server(lab, pki, www=evil_www, ns=lab.routers[1], cert=pki.rogue_cert,
                        key=pki.rogue_key, listen=f"10.77.66.1:{real.port}",
                        path2_listen=[f"10.77.66.1:{real.path2_port}"])
    resolvers(lab, path1="10.77.66.1")
    lab.etc(lab.client, "hosts", "127.0.0.1 localhost\n")
    # The twin: a client that believes path 1's resolver for both reaches the attacker twice.
    words = f"dev=p2,remote=10.77.66.1:{real.path2_port}"
    fooled = client(lab, pki, real, cafile=pki.bundle, path2=[words])
    check.verified(fooled, evil, b"from the attacker\n")
    # Path 2's own look-up leads to the real server, whose proof is for no session of ours; without a
    # resolver that belongs to path 2 no address is admissible at all.
    words = f"dev=p2,port={real.path2_port}"
    if resolver == "own":
        words += f",resolver={lab.router_addr(2)}"
    result = client(lab, pki, real, "--deadline", "2000", cafile=pki.bundle, path2=[words])
    check.refused(result, *(("proof-missing", "deadline") if resolver == "own" else
                            ("path2-inadmissible", "path2-resolve")))


def test_pushed_host_route(lab, pki, www, server):
    """A DHCP server on path 1's network pushes a host route for the server over its own link
    (CVE-2024-3661): path 2, bound to its device, does not follow."""
    netns.ip(lab.client, "route", "add", f"{lab.addr}/32", "via", lab.router_addr(1), "dev", "p1",
             "metric", "1")
    relay = attack.path2_relay(lab, server.path2_port, path=1)
    for words in (spec(lab, server),
                  f"local={lab.client_addr(2)},remote={tools.join(server.host, server.path2_port)}"):
        check.verified(client(lab, pki, server, path2=[words]), server)
    assert not relay.events("connection")


def test_pushed_host_route_without_a_device(lab, pki, www):
    """The same against a path that names only another address of the server: it is pulled onto path 1's
    device, which is seen on the live sockets at the decision."""
    server = tools.Server(lab, pki, www=www, address=lab.server_addr(1),
                          path2_listen=[f"{lab.server_addr(2)}:0"])
    netns.ip(lab.client, "route", "add", "10.77.12.0/24", "via", lab.router_addr(2), "dev", "p2")
    words = f"remote={server.path2[0]}"
    check.verified(client(lab, pki, server, path2=[words]), server)
    netns.ip(lab.client, "route", "add", f"{lab.server_addr(2)}/32", "via", lab.router_addr(1),
             "dev", "p1")
    check.refused(client(lab, pki, server, path2=[words]), *NOT_DISTINCT)


@pytest.mark.parametrize("pushed", [False, True], ids=["none", "withdrawn"])
def test_host_route_within_the_handshake(lab, pki, www, pushed):
    """[PATH-9] The host route is there when path 2 connects, and is withdrawn before the decision: the live
    socket leads over p2 then, but HELLO went by path 1. The twin: no route was pushed. In both READY and
    PROOF are lost on the router until HELLO has passed and the route is gone; the server sends them again."""
    server = tools.Server(lab, pki, www=www, address=lab.server_addr(1),
                          path2_listen=[f"{lab.server_addr(2)}:0"])
    netns.ip(lab.client, "route", "add", "10.77.12.0/24", "via", lab.router_addr(2), "dev", "p2")
    host_route = [f"{lab.server_addr(2)}/32", "via", lab.router_addr(1), "dev", "p1"]
    if pushed:
        netns.ip(lab.client, "route", "add", *host_route)
    by = 1 if pushed else 2
    lab.filter(by, f"tcp sport {server.path2_port} meta length > 100 drop")
    sniffer = attack.sniff(lab, lab.routers[by], "c", server.path2_port)
    running = tools.start_client(lab, pki, server, path2=[f"remote={server.path2[0]}"])
    sniffer.proc.wait_json("stdout", event="segment", flags=0x18)
    if pushed:
        netns.ip(lab.client, "route", "del", *host_route)
    assert json.loads(netns.ip(lab.client, "-j", "route", "get", lab.server_addr(2)))[0]["dev"] == "p2"
    lab.flush(by)
    result = tools.Result(running)
    if pushed:
        check.refused(result, "paths-not-distinct")
    else:
        check.verified(result, server, (www / "file").read_bytes())


def test_path_2_pulls_path_1_over(lab, pki, www, server):
    """The other way round: a route pushed onto path 2's link for the server's address. Both paths then
    leave by p2, and that is no second path."""
    netns.ip(lab.client, "route", "add", f"{lab.addr}/32", "via", lab.router_addr(2), "dev", "p2",
             "metric", "1")
    check.refused(client(lab, pki, server), *NOT_DISTINCT)


# ---- proxies ------------------------------------------------------------------------------------

def socks(lab, path=2):
    """A SOCKS5 proxy on the router of a path; its address on the client's network."""
    port = lab.port()
    lab.hosts(lab.routers[path], server_example=lab.addr)
    proc = lab.spawn(lab.routers[path], [tools.which("microsocks"), "-i", "0.0.0.0", "-p",
                                         str(port)], name="microsocks")
    proc.wait_listening(port)
    return f"{lab.router_addr(path)}:{port}"


@pytest.mark.parametrize("remote", ["literal", "name"])
def test_socks_over_the_second_device(lab, pki, www, server, remote):
    """path 2 by a proxy over the other device; with a name, the proxy resolves it."""
    words = f"dev=p2,via=socks5h://{socks(lab)}"
    words += (f",remote={tools.join(server.host, server.path2_port)}" if remote == "literal"
              else f",remote={pki.name}:{server.path2_port}")
    result = check.verified(client(lab, pki, server, path2=[words]), server,
                            (www / "file").read_bytes())
    assert result.paths[1]["via"], result


def test_protected_tunnel_on_one_device(lab, pki, www, server):
    """tunnel=yes names the proxy as protected: then it is a path of its own, though over p1. Without
    the word it is not."""
    via = socks(lab, path=1)
    target = tools.join(server.host, server.path2_port)
    words = f"via=socks5h://{via},remote={target}"
    check.refused(client(lab, pki, server, path2=[words]), *NOT_DISTINCT)
    check.verified(client(lab, pki, server, path2=[words + ",tunnel=yes"]), server)


def test_socks_refused(lab, pki, server):
    """The proxy says that the server refused."""
    words = f"dev=p2,via=socks5h://{socks(lab)},remote={tools.join(server.host, lab.port())}"
    check.refused(client(lab, pki, server, path2=[words]), "socks-refused", "path2-refused",
                  "path2-proxy", "socks-failed")


def test_no_proxy_there(lab, pki, server):
    words = (f"dev=p2,via=socks5h://{lab.router_addr(2)}:{lab.port()},"
             f"remote={tools.join(server.host, server.path2_port)}")
    check.refused(client(lab, pki, server, path2=[words]), "path2-proxy", "path2-refused")


# ---- several paths ------------------------------------------------------------------------------

def test_two_of_two(lab3, pki, www):
    server = tools.Server(lab3, pki, www=www)
    both = [spec(lab3, server, path=2), spec(lab3, server, path=3)]
    result = check.verified(client(lab3, pki, server, "--config", "need=2", path2=both), server,
                            (www / "file").read_bytes())
    assert [path["device"] for path in result.paths] == ["p1", "p2", "p3"]


def test_one_of_two_is_enough(lab3, pki, www):
    """need=1: a blocked path does not matter."""
    server = tools.Server(lab3, pki, www=www)
    lab3.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    both = [spec(lab3, server, path=2), spec(lab3, server, path=3)]
    check.verified(client(lab3, pki, server, path2=both), server)


def test_one_of_two_is_too_few(lab3, pki, www):
    """need=2 and one path blocked, or wrong, or not distinct."""
    server = tools.Server(lab3, pki, www=www)
    both = [spec(lab3, server, path=2), spec(lab3, server, path=3)]
    twice = [spec(lab3, server, path=2), spec(lab3, server, path=2)]
    refusals = ("proof-too-few", "path2-refused", "paths-not-distinct", "deadline", "proof-wrong")
    options = ["--config", "need=2", "--deadline", "2000"]
    check.refused(client(lab3, pki, server, *options, path2=twice), *refusals)
    relay = attack.path2_relay(lab3, server.path2_port, "--modify", "proof:2")
    check.refused(client(lab3, pki, server, *options, path2=both), *refusals)
    assert relay.events("frame")
    lab3.flush(2)
    lab3.filter(2, f"tcp dport {server.path2_port} reject with tcp reset")
    check.refused(client(lab3, pki, server, *options, path2=both), *refusals)
    lab3.flush(2)
    check.verified(client(lab3, pki, server, *options, path2=both), None)


def test_rogue_attacker_owns_path_1_and_2(lab3, pki, www, tmp_path, mitm_ext):
    """An attacker with a rogue certificate on path 1 who also controls path 2's network sends the client's
    claim to a server of its own. One secondary path is not enough then; with need=2 the third
    path, which is not the attacker's, saves the client."""
    server = tools.Server(lab3, pki, www=www, policy="prefer")
    mitm = attack.tls_mitm(lab3, pki, tmp_path, server.port)
    lab3.filter(2, f"tcp dport {server.path2_port} drop")
    both = [spec(lab3, server, path=2), spec(lab3, server, path=3)]
    result = client(lab3, pki, server, "--config", "need=2", "--deadline", "2000", cafile=pki.bundle,
                    path2=both)
    check.refused(result, "downgrade", "not-offered")
    check.nothing_stolen(mitm)


# ---- auto ---------------------------------------------------------------------------------------

def test_auto_picks_the_other_device(lab, pki, www):
    """path2=auto finds p2 and its link's own resolver by itself, and reports what it chose and why."""
    server = tools.Server(lab, pki, www=www, path2_listen=[f"{lab.addr}:914"])
    found = resolvers(lab)
    index = json.loads(netns.ip(lab.client, "-j", "link", "show", "p2"))[0]["ifindex"]
    argv = tools.client_argv(lab, pki, server, path2=["auto"])
    running = lab.spawn(lab.client, lab.with_link_resolver(argv, index, lab.router_addr(2)),
                        name="mtls-client")
    result = check.verified(tools.Result(running), server, (www / "file").read_bytes())
    assert result.paths[1]["device"] == "p2" and "p2" in result.paths[1]["why"], result
    assert found[2].events("question")


def test_auto_without_a_resolver(lab, pki, www):
    """The twin: the system's resolver is path 1's, and no other is known for p2."""
    server = tools.Server(lab, pki, www=www, path2_listen=[f"{lab.addr}:914"])
    resolvers(lab)
    check.refused(client(lab, pki, server, path2=["auto"]), "path2-resolve", "path2-inadmissible")


def test_auto_with_one_network(lab, pki, www):
    """With one device left there is nothing to choose."""
    server = tools.Server(lab, pki, www=www, path2_listen=[f"{lab.addr}:914"])
    netns.ip(lab.client, "link", "set", "p2", "down")
    result = client(lab, pki, server, path2=["auto"])
    check.refused(result, "no-path2", "path2-inadmissible", *NOT_DISTINCT)


# ---- injection ----------------------------------------------------------------------------------

@pytest.mark.parametrize("by", ["dev", "local"])
def test_weak_host_injection(lab, pki, www, tmp_path, by):
    """Path 1's network writes garbage with the right sequence numbers into path 2. (The twin, a socket
    bound to the address alone that does take it in, is in test_lab.py.)"""
    server = tools.Server(lab, pki, www=www)
    opened = tmp_path / "open"
    relay = attack.path2_relay(lab, server.path2_port, "--gate", f"ready:{opened}")
    sniffer = attack.sniff(lab, lab.routers[2], "c", server.path2_port)
    words = spec(lab, server) if by == "dev" else \
        f"local={lab.client_addr(2)},remote={tools.join(server.host, server.path2_port)}"
    running = tools.start_client(lab, pki, server, path2=[words])
    relay.wait("held", type="ready")
    attack.inject(lab, sniffer.at(), b"\xff" * 80)
    opened.touch()
    check.verified(tools.Result(running), server, (www / "file").read_bytes())


def test_one_network_down(lab, pki, server):
    """Path 2's link is down: require refuses."""
    netns.ip(lab.client, "link", "set", "p2", "down")
    check.refused(client(lab, pki, server, "--deadline", "2000"), "path2-unreachable", "path2-bind",
                  "path2-timeout", "deadline")


def test_plain_tls_would_have_worked(lab, pki, www):
    """The control of the refusals here: the server answers curl over path 1 in all these networks."""
    server = stock.s_server(lab, pki, www=www)
    netns.ip(lab.client, "link", "set", "p2", "down")
    assert SECRET in tools.curl(lab, pki, lab.addr, server.port).stdout
    routes = json.loads(netns.ip(lab.client, "-j", "route", "get", lab.addr))
    assert routes[0]["dev"] == "p1"
