"""Beside the table: the same attackers on other networks, further attacks, and what comes of it when
something that the table assumes does not hold."""

import pathlib

import attacks as a
from mtlslab import attack, netns, tools
from mtlslab.lab import Lab, net4
from scene import BOTH, LONG, SAFE
from victims import Multipath, Tls


class TwoAddresses(Multipath):
    """The server has an address for each path, in different prefixes."""

    def serve(self, scene):
        return tools.Server(scene.lab, scene.pki, www=scene.www, policy="prefer",
                            address=Lab.server_addr(1), path2_listen=[f"{Lab.server_addr(2)}:0"])

    def path2(self, scene):
        return [tools.spec(scene.lab, scene.server, address=Lab.server_addr(2))]


class TwoFamilies(Multipath):
    """Path 1 is IPv4, path 2 IPv6."""

    link = "[::]"

    def serve(self, scene):
        return tools.Server(scene.lab, scene.pki, www=scene.www, policy="prefer",
                            path2_listen=[f"[{Lab.addr6}]:0"])

    def path2(self, scene):
        return [tools.spec(scene.lab, scene.server, address=Lab.addr6)]


class Proxy(Multipath):
    """Path 2 goes through a SOCKS proxy in another network."""

    def serve(self, scene):
        self_port = scene.lab.port()
        scene.proxy_port = self_port
        proc = scene.lab.spawn(scene.lab.routers[2], [tools.which("microsocks"), "-i", "0.0.0.0", "-p",
                                                      self_port], name="microsocks")
        proc.wait_listening(self_port)
        return super().serve(scene)

    def path2(self, scene):
        via = f"socks5h://{Lab.router_addr(2)}:{scene.proxy_port}"
        return [tools.spec(scene.lab, scene.server, via=via)]


class OneNetworkBeforeServer(Multipath):
    """Both paths pass one network beside the server."""

    def lay(self, lab):
        lab.beside = lab.put_network_before_server()


class Late(Multipath):
    """The client knows no port of path 2: it waits for EncryptedExtensions. Path 2 is at the registered port."""

    def serve(self, scene):
        return tools.Server(scene.lab, scene.pki, www=scene.www, policy="prefer",
                            path2_listen=[f"{Lab.addr}:914"])

    def path2(self, scene):
        return [f"dev=p2,remote={Lab.addr}"]


class RentedConfigured(Late):
    """The user configured the attackers' port."""

    def path2(self, scene):
        return [f"dev=p2,remote={Lab.addr}:{scene.rented}"]


class Named(Multipath):
    """The client looks path 2's address up, by a resolver of path 2's own network. Path 1's lies."""

    def path2(self, scene):
        return [f"dev=p2,port={scene.server.path2_port},resolver={Lab.router_addr(2)}"]

    def hosts(self, scene):
        scene.lab.etc(scene.lab.client, "hosts", "127.0.0.1 localhost\n")
        scene.lab.etc(scene.lab.client, "nsswitch.conf", "hosts: dns\n")
        scene.lab.etc(scene.lab.client, "resolv.conf", f"nameserver {Lab.router_addr(1)}\n")
        if not getattr(scene, "resolvers", None):
            scene.resolvers = [attack.dns(scene.lab, scene.lab.routers[path], Lab.router_addr(path),
                                          server_example=answer)
                               for path, answer in ((1, ATTACKERS_ADDRESS), (2, Lab.addr))]


class Misconfigured(Named):
    """The client was told to use path 1's answer for path 2 as well."""

    def path2(self, scene):
        return [f"dev=p2,remote={ATTACKERS_ADDRESS}:{scene.server.path2_port}"]


class Unbound(TwoAddresses):
    """The path names the server's other address and no device."""

    def path2(self, scene):
        return [f"remote={scene.server.path2[0]}"]

    def serve(self, scene):
        netns.ip(scene.lab.client, "route", "add", net4(12), "via", Lab.router_addr(2), "dev", "p2")
        return super().serve(scene)


# ---- attacks on those ---------------------------------------------------------------------------

ATTACKERS_ADDRESS = "10.77.66.1"  # a machine of theirs that is reached over every path, as anyone may rent one


def _beside_the_server(scene):
    """one server of theirs for both paths, in the network beside the server"""
    scene.deadline = LONG
    scene.beside_the_server(scene.lab.beside)
    scene.fetch()


def third_party(scene):
    """sslsplit, with the rogue authority"""
    scene.sslsplit()
    scene.fetch()


def token_thief(scene):
    """end the client's TLS on path 1, extension carried over; hear the secret on path 2 and claim with it"""
    scene.carry()
    found = scene.spawn(2, "thief.py", "c", scene.server.path2_port, scene.server.host)
    scene._keep(found, "claimed", path=2)  # pylint: disable=protected-access
    scene.fetch()


def forced_retry(scene):
    """answer the first ClientHello with a HelloRetryRequest of their own"""
    scene.edit("--retry")
    scene.fetch()


def reset(scene):
    """reset path 1 in the middle of the answer"""
    scene.edit("--rst-down", 6000)
    scene.deadline = LONG
    scene.fetch()


def replayed(scene):
    """a HELLO recorded in an earlier session in the place of the client's"""
    recorded = scene.file("frames")
    scene.frames("--record", recorded)
    scene.deadline = LONG
    scene.fetch()
    scene.attackers.clear()
    scene.need.clear()
    scene.lab.flush(2)
    scene.frames("--replay", recorded)
    scene.carry()
    scene.deadline = 2000
    scene.fetch()


def copied_hello(scene):
    """copy the ClientHello onto a connection of their own"""
    scene._keep(attack.path1_copy(scene.lab, scene.server.port, "--copy"), "copied")  # pylint: disable=protected-access
    scene.deadline, scene.delivers = LONG, True
    scene.fetch()


def stolen_keys_prepared(scene):
    """a server of theirs with the real server's stolen private key on path 1, prepared proofs on path 2"""
    scene.own_server(cert=scene.pki.cert, key=scene.pki.key)
    scene.forge("--ek", "5a" * 64, "--th", "a5" * 32)
    scene.fetch()


def stolen_ticket_key(scene):
    """a server of theirs on path 1 with the real server's stolen ticket key"""
    scene.own_server(ticket_key=scene.ticket_key)
    scene.deadline = LONG
    scene.fetch()


def _rented(scene):
    """A port on the server's own address that leads to the attackers; returns it."""
    port = scene.lab.port()
    evil = scene.own_server(link="0.0.0.0", words=["--config", f"advertise={port}"])
    to = f"{Lab.router_out(1)}:{evil.path2_port}"
    relay = scene.spawn(scene.lab.server, "path2_relay.py", "--to", to)
    netns.nft(scene.lab.server, f"""
table inet rented {{
  chain before {{
    type nat hook prerouting priority -100;
    tcp dport {port} redirect to :{relay.port}
  }}
}}
""")
    return port


def rented_port(scene):
    """own path 1, and offer in EncryptedExtensions a port that they rented on the server's address"""
    _rented(scene)
    scene.fetch()


def rented_port_configured(scene):
    """own path 1, and the port on the server's address that the user configured for path 2"""
    scene.rented = _rented(scene)
    scene.deadline = LONG
    scene.fetch()


def own_machine(scene, words=(), path2_port=0):
    """The attackers' server on a machine of theirs that the client reaches over every path."""
    lab = scene.lab
    netns.ip(lab.routers[1], "addr", "add", f"{ATTACKERS_ADDRESS}/32", "dev", "lo")
    netns.ip(lab.routers[2], "route", "add", f"{ATTACKERS_ADDRESS}/32", "via", Lab.server_addr(2))
    netns.ip(lab.server, "route", "add", f"{ATTACKERS_ADDRESS}/32", "via", Lab.router_out(1))
    netns.ip(lab.routers[1], "route", "add", net4(2), "via", Lab.server_addr(1))
    netns.sysctl(lab.server, {"net.ipv4.ip_forward": 1})
    return scene.own_server(link=ATTACKERS_ADDRESS, words=words,
                            path2_port=path2_port or scene.server.path2_port)


def spoofed_name(scene):
    """path 1's resolver answers the server's name with a machine of theirs, reached over every path"""
    scene.deadline = LONG if isinstance(scene.row, Misconfigured) else 2000
    own_machine(scene)
    scene.fetch()


def pushed_route(scene):
    """path 1's network pushes a host route for path 2's address (DHCP), and has both connections then"""
    netns.ip(scene.lab.client, "route", "add", f"{tools.split(scene.server.path2[0])[0]}/32", "via",
             Lab.router_addr(1), "dev", "p1", "metric", "1")
    evil = scene.own_server(link="0.0.0.0")
    scene.lab.redirect(1, scene.server.path2_port, evil.path2_port)
    scene.fetch()


def unchecked(row):
    """The row with certificates not checked."""
    row.options = [*row.options, "--unsafe-no-verify"]
    return row


def weak_host(scene):
    """write a frame with the right sequence numbers into path 2, from path 1's network"""
    opened = pathlib.Path(scene.file("open"))
    relay = scene.frames("--gate", f"ready:{opened}")
    scene.need.clear()
    sniffer = attack.sniff(scene.lab, scene.lab.routers[2], "c", scene.server.path2_port)
    scene.record(1)
    running = scene.row.start(scene, deadline=LONG)
    relay.wait("held", type="ready")
    attack.inject(scene.lab, sniffer.at(), b"\xff" * 80)
    opened.touch()
    result = tools.Result(running)
    scene.body, scene.outcome = result.body, scene.row.words(result)
    scene.delivers = True


NETWORKS = [
    (TwoAddresses("two-addresses", "two addresses of the server, one for each path"),
     [(a.carried_over, True, SAFE), (a.carry_and_forge, True, SAFE),
      (a.synchronised_everywhere, True, BOTH)]),
    (TwoFamilies("two-families", "path 1 over IPv4, path 2 over IPv6"),
     [(a.carried_over, True, SAFE), (a.synchronised_everywhere, True, BOTH)]),
    (Proxy("proxy", "path 2 through a SOCKS proxy in another network"),
     [(a.carried_over, True, SAFE), (a.synchronised_everywhere, True, BOTH)]),
    (OneNetworkBeforeServer("beside-server", "one network before the server, which both paths pass"),
     [(_beside_the_server, False, SAFE), (_beside_the_server, True, BOTH)]),
]
FURTHER = [
    (Tls("tls", "TLS"), [(third_party, True, "read")]),
    (Multipath("require", "`require`"),
     [(third_party, True, SAFE), (token_thief, True, SAFE), (forced_retry, True, SAFE),
      (reset, True, SAFE), (replayed, True, SAFE), (copied_hello, True, SAFE),
      (stolen_keys_prepared, False, SAFE), (weak_host, True, SAFE), (pushed_route, True, SAFE)]),
    (Unbound("unbound", "`require`, path 2 by the server's other address, no device named"),
     [(pushed_route, True, SAFE)]),
    (Named("named", "`require`, path 2's address by its own look-up"), [(spoofed_name, True, SAFE)]),
    (Late("late", "`require`, path 2's port from EncryptedExtensions", options=["--config", "early=off"]), [(rented_port, True, SAFE)]),
]
ASSUMPTIONS = [
    (unchecked(Multipath("unchecked", "`require`, certificates not checked")),
     [(a.carried_over, False, SAFE), (a.synchronised_everywhere, False, BOTH)]),
    (Multipath("stolen-ticket-key", "resumed from verified, the server's ticket key stolen",
         before=("--sess-out", "--sess-in"), ticket_key=True), [(stolen_ticket_key, True, BOTH)]),
    (RentedConfigured("configured-port", "`require`, the user configured a rented port"),
     [(rented_port_configured, True, BOTH)]),
    (Misconfigured("configured-address", "`require`, the user took path 2's address from path 1's resolver"),
     [(spoofed_name, True, BOTH)]),
]
