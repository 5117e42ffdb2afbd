"""A laboratory: one client, one server, and a router on each path, where an attacker sits.

    client  p1 -- 10.x.1.0/24 -- c  r1  s -- 10.x.11.0/24 -- s1  server  (service 10.x.100.1)
            p2 -- 10.x.2.0/24 -- c  r2  s -- 10.x.12.0/24 -- s2

The service address is reached over every path (one server address, two client devices); the
server's address of path i is reached best over path i (two server addresses). IPv6 likewise with
fdxx:: addresses. x is NET for all laboratories: namespaces keep them apart.
"""

import os
import re

from . import netns
from .proc import LIVE, Proc

NET = 77
_HOST = {
    "net.ipv4.conf.all.rp_filter": 0, "net.ipv4.conf.default.rp_filter": 0,
    "net.ipv6.conf.all.accept_dad": 0, "net.ipv6.conf.default.accept_dad": 0,
    "net.ipv4.tcp_fastopen": 3, "net.ipv4.ip_local_port_range": "32768 60999",
}
_ROUTER = {**_HOST, "net.ipv4.ip_forward": 1, "net.ipv6.conf.all.forwarding": 1,
           "net.ipv4.conf.all.send_redirects": 0, "net.ipv4.conf.default.send_redirects": 0}


def net4(segment, host=None):
    return f"10.{NET}.{segment}.{host}" if host else f"10.{NET}.{segment}.0/24"


def net6(segment, host=None):
    # One /48 for each segment, so that prefixes differ where rule 6 looks.
    return f"fd{NET}:0:{segment}::{host}" if host else f"fd{NET}:0:{segment}::/64"


class Lab:
    """Use it as a context manager; everything it started ends with it."""

    def __init__(self, paths=2):
        self.paths = range(1, paths + 1)
        self.prefix = netns.new_prefix()
        self.client, self.server = f"{self.prefix}-cli", f"{self.prefix}-srv"
        self.routers = {i: f"{self.prefix}-r{i}" for i in self.paths}
        self.procs = []
        self._port = 10000
        self._made = []

    # ---- addresses ----------------------------------------------------------------------------

    addr = net4(100, 1)
    addr6 = net6(100, 1)

    @staticmethod
    def client_addr(path, family=4):
        return (net4 if family == 4 else net6)(path, 2)

    @staticmethod
    def router_addr(path, family=4):
        """The router's address on the client's network: the place of a path's own resolver."""
        return (net4 if family == 4 else net6)(path, 1)

    @staticmethod
    def router_out(path, family=4):
        return (net4 if family == 4 else net6)(10 + path, 1)

    @staticmethod
    def server_addr(path, family=4):
        return (net4 if family == 4 else net6)(10 + path, 2)

    @classmethod
    def all_server_addresses_of(cls, paths):
        """Every address that the server of a laboratory with so many paths has."""
        found = [cls.addr, cls.addr6]
        for i in range(1, paths + 1):
            found += [cls.server_addr(i), cls.server_addr(i, 6)]
        return found

    def port(self):
        """A port that nobody in this laboratory uses: the namespaces are ours alone."""
        self._port += 1
        return self._port

    # ---- building -----------------------------------------------------------------------------

    def __enter__(self):
        try:
            self._build()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def _namespace(self, name, sysctls):
        self._made.append(name)
        netns.create(name, sysctls)

    def _build(self):
        self._namespace(self.client, _HOST)
        self._namespace(self.server, _HOST)
        client, server = [], [f"addr add {self.addr}/32 dev lo", f"addr add {self.addr6}/128 dev lo"]
        for i, router in self.routers.items():
            self._namespace(router, _ROUTER)
            netns.ip_batch(router, [
                f"link add c type veth peer name p{i} netns {self.client}",
                f"link add s type veth peer name s{i} netns {self.server}",
                f"addr add {net4(i, 1)}/24 dev c", f"addr add {net6(i, 1)}/64 dev c nodad",
                f"addr add {net4(10 + i, 1)}/24 dev s",
                f"addr add {net6(10 + i, 1)}/64 dev s nodad",
                "link set c up", "link set s up"])
            client += [f"addr add {net4(i, 2)}/24 dev p{i}",
                       f"addr add {net6(i, 2)}/64 dev p{i} nodad", f"link set p{i} up",
                       f"route add default via {net4(i, 1)} dev p{i} metric {100 * i}",
                       f"route add default via {net6(i, 1)} dev p{i} metric {100 * i}"]
            server += [f"addr add {net4(10 + i, 2)}/24 dev s{i}",
                       f"addr add {net6(10 + i, 2)}/64 dev s{i} nodad", f"link set s{i} up",
                       f"route add {net4(i)} via {net4(10 + i, 1)} dev s{i}",
                       f"route add {net6(i)} via {net6(10 + i, 1)} dev s{i}"]
        netns.ip_batch(self.client, client)
        netns.ip_batch(self.server, server)
        for i, router in self.routers.items():
            routes = [f"route add {self.addr}/32 via {net4(10 + i, 2)} dev s",
                      f"route add {self.addr6}/128 via {net6(10 + i, 2)} dev s"]
            for j in self.paths:
                if j != i:  # the server's other addresses, for those who take the wrong path
                    routes += [f"route add {net4(10 + j)} via {net4(10 + i, 2)} dev s",
                               f"route add {net6(10 + j)} via {net6(10 + i, 2)} dev s"]
            netns.ip_batch(router, routes)

    def __exit__(self, *_):
        self.stop_all()
        for name in reversed(self._made):
            netns.delete(name)
        self._made = []

    def stop_all(self):
        for proc in reversed(self.procs):
            proc.stop(timeout=2)
            if proc in LIVE:
                LIVE.remove(proc)
        self.procs = []

    # ---- processes ----------------------------------------------------------------------------

    def spawn(self, ns, argv, **options):
        """Starts a process inside a namespace; it ends with the test at the latest."""
        proc = Proc(argv, ns=ns, **options)
        self.procs.append(proc)
        return proc

    def run(self, ns, argv, timeout=None, **options):
        """Starts a process and waits for its end; returns it."""
        proc = self.spawn(ns, argv, **options)
        proc.wait(timeout)
        return proc

    def etc(self, ns, name, text):
        """Puts a file over /etc/NAME for processes that are started in ns afterwards. It goes
        away with the namespace."""
        path = os.path.join(netns.ETC, ns, name)
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)

    @staticmethod
    def with_link_resolver(argv, ifindex, resolver):
        """The command line, under a /run of its own in which systemd-networkd has noted the resolver
        of a link. (`ip netns exec` gives each process a mount namespace of its own.)"""
        script = ("mount -t tmpfs none /run; mkdir -p /run/systemd/netif/links; "
                  f"echo DNS={resolver} >/run/systemd/netif/links/{ifindex}; exec \"$@\"")
        return ["sh", "-ec", script, "sh", *argv]

    def hosts(self, ns, **names):
        """Names that /etc/hosts answers inside ns ('_' stands for '.')."""
        rows = ["127.0.0.1 localhost"]
        rows += [f"{addr} {name.replace('_', '.')}" for name, addr in names.items()]
        self.etc(ns, "hosts", "\n".join(rows) + "\n")

    # ---- what an attacker's router does ---------------------------------------------------------

    def redirect(self, path, port, to):
        """TCP from the client to this port is taken by a program on the router itself."""
        netns.nft(self.routers[path], f"""
table inet redirect{port} {{
  chain before {{
    type nat hook prerouting priority -100;
    iifname "c" tcp dport {port} counter redirect to :{to}
  }}
}}
""")

    def redirected(self, path, port):
        """How many connections the redirect of this port has taken."""
        shown = netns.nft(self.routers[path], f"list table inet redirect{port}\n")
        return int(re.search(r"counter packets (\d+)", shown).group(1))

    def filter(self, path, rule, hook="forward"):
        """One filter rule on the router of a path, e.g. "tcp dport 914 drop"."""
        netns.nft(self.routers[path], f"""
table inet filtered {{
  chain passing {{
    type filter hook {hook} priority 0;
    {rule}
  }}
}}
""")

    def link_routers(self, first, second):
        """A network of their own for the attackers on two paths (no such network: they cannot talk
        during a session). Returns the first one's addresses on it, IPv4 and IPv6; it knows the way
        back to the second one's clients."""
        segment = 30 + second
        netns.ip_batch(self.routers[first], [
            f"link add x{second} type veth peer name x{first} netns {self.routers[second]}",
            f"addr add {net4(segment, 1)}/24 dev x{second}",
            f"addr add {net6(segment, 1)}/64 dev x{second} nodad", f"link set x{second} up"])
        netns.ip_batch(self.routers[second], [
            f"addr add {net4(segment, 2)}/24 dev x{first}",
            f"addr add {net6(segment, 2)}/64 dev x{first} nodad", f"link set x{first} up"])
        netns.ip_batch(self.routers[first], [f"route add {net4(second)} via {net4(segment, 2)}",
                                             f"route add {net6(second)} via {net6(segment, 2)}"])
        return net4(segment, 1), net6(segment, 1)

    def put_network_before_server(self):
        """Both paths end in one network before the server: a router that all of them pass. Before any
        server is started. Returns its namespace."""
        last, behind = self.server, f"{self.prefix}-end"
        self._namespace(behind, _HOST)
        netns.ip_batch(last, [
            f"addr del {self.addr}/32 dev lo", f"addr del {self.addr6}/128 dev lo",
            f"link add e type veth peer name u netns {behind}", f"addr add {net4(60, 1)}/24 dev e",
            "link set e up", f"route add {self.addr}/32 via {net4(60, 2)}"])
        netns.ip_batch(behind, [
            f"addr add {net4(60, 2)}/24 dev u", "link set u up", f"addr add {self.addr}/32 dev lo",
            f"route add default via {net4(60, 1)}"])
        netns.sysctl(last, {"net.ipv4.ip_forward": 1})
        self.server = behind
        return last

    def flush(self, path):
        """Removes redirects and filters of a path."""
        netns.nft(self.routers[path], "flush ruleset\n")
