"""The rows of the table: what runs on both ends. Each knows how to start its server, what it has to have
from before the attack, and how its client asks for a page."""

import os

from mtlslab import stock, tools

from scene import LONG, PAGE


class Row:
    """paths: how many the laboratory needs. missing: what is not there to run it."""

    paths, missing = 2, None
    bytes_on_one_path = False  # [P2-9]: what it makes for one path is never seen on the other
    path_2_bytes = None  # so many of path 2 are the protocol's (None: all)
    link = "0.0.0.0"  # where the attackers' own path 2 listens
    onward = ["--plain-in"]  # from the attackers' own server to the real one

    def __init__(self, key, title):
        self.key, self.title = key, title

    def lay(self, lab):
        """Changes the laboratory's networks, before anything runs in them."""

    def hosts(self, scene):
        """The client's /etc/hosts (starting another server changes it)."""
        scene.lab.hosts(scene.lab.client, **{scene.pki.name.replace(".", "_"): scene.server.host})

    def prepare(self, scene):
        self.hosts(scene)


class Served:
    """A stock server as the attacks see it; nobody listens on its path-2 port."""

    def __init__(self, lab, port):
        self.host, self.port, self.path2_port = lab.addr, port, lab.port()


class PlainTcp(Row):
    def serve(self, scene):
        served = Served(scene.lab, scene.lab.port())
        proc = scene.lab.spawn(scene.lab.server, ["/usr/bin/python3", "-m", "http.server", "--bind", served.host,
                                                  "--directory", scene.www, str(served.port)],
                               name="http.server")
        proc.wait_listening(served.port)
        return served

    def fetch(self, scene):
        done = scene.lab.run(scene.lab.client, ["curl", "-sS", "--noproxy", "*", "--max-time", "20",
                                                f"http://{scene.pki.name}:{scene.server.port}{PAGE}"],
                             name="curl")
        return done.stdout, {"exit": done.wait()}


class Tls(Row):
    """curl and OpenSSL's own server."""

    def serve(self, scene):
        return Served(scene.lab, stock.s_server(scene.lab, scene.pki, www=scene.www).port)

    def fetch(self, scene):
        done = tools.curl(scene.lab, scene.pki, scene.server.host, scene.server.port, PAGE,
                          cafile=scene.cafile)
        return done.stdout, {"exit": done.wait()}


class Multipath(Row):
    """mtls-client and mtls-server. The server's policy is prefer, so that an attacker that speaks plain
    TLS to it is served and gets the most that there is to get."""

    bytes_on_one_path = True
    server_options = ()

    def __init__(self, key, title, policy="require", before=None, options=(), paths=2, ticket_key=False):
        super().__init__(key, title)
        self.policy, self.before, self.options = policy, before, list(options)
        self.paths, self.ticket_key = paths, ticket_key

    def serve(self, scene):
        words = list(self.server_options)
        if self.ticket_key:
            scene.ticket_key = scene.file("ticket-key")
            with open(os.open(scene.ticket_key, os.O_CREAT | os.O_WRONLY, 0o600), "wb") as file:
                file.write(os.urandom(80))
            words += ["--ticket-key", scene.ticket_key]
        return tools.Server(scene.lab, scene.pki, *words, www=scene.www, policy="prefer")

    @staticmethod
    def attackers_server(scene, ns, words, cert, key, path2):
        """The attackers' own server of the same protocol, on the port of the real one."""
        return tools.Server(scene.lab, scene.pki, *words, ns=ns, cert=cert, key=key, policy="prefer",
                            listen=f"0.0.0.0:{scene.server.port}", path2_listen=[path2])

    def path2(self, scene):
        return [tools.spec(scene.lab, scene.server, path=i) for i in range(2, self.paths + 1)]

    def start(self, scene, *options, deadline):
        return tools.start_client(scene.lab, scene.pki, scene.server, *self.options, *options,
                                  "--deadline", deadline, cafile=scene.cafile, policy=self.policy,
                                  get=PAGE, path2=self.path2(scene))

    def run(self, scene, *options, deadline):
        return tools.Result(self.start(scene, *options, deadline=deadline))

    @staticmethod
    def words(result):
        """What the client says of itself."""
        said = {key: result.line.get(key) for key in ("outcome", "reason", "scope") if result.line.get(key)}
        return {"exit": result.code, **said}

    def prepare(self, scene):
        super().prepare(scene)
        if self.before:
            result = self.run(scene, self.before[0], scene.file("kept"), deadline=LONG)
            assert result.outcome == tools.VERIFIED, result

    def fetch(self, scene):
        options = [self.before[1], scene.file("kept")] if self.before else []
        result = self.run(scene, *options, deadline=scene.deadline)
        return result.body, self.words(result)


class Missing(Row):
    """A protocol whose tools are not there (yet): its cells are not run, and never safe."""

    def __init__(self, key, title, missing):
        super().__init__(key, title)
        self.missing = missing
