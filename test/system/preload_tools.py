"""Unmodified programs under libmtls-preload.so, and what they wrote into the log."""

import json
import os
import time

from mtlslab import tools
from mtlslab.proc import DEADLINE

LIBRARY = os.path.join(tools.BUILD, "preload", "libmtls-preload.so")


class Wrap:
    """The environment of a wrapped program and its log."""

    def __init__(self, folder, config, name="log", **words):
        self.log = os.path.join(folder, f"{name}.jsonl")
        with open(self.log, "w", encoding="utf-8"):
            pass
        os.chmod(self.log, 0o666)  # programs that change their user
        self.config = config
        self.env = {"LD_PRELOAD": LIBRARY, "MTLS_CONFIG": config, "MTLSIZE_LOG": self.log, **words}

    def argv(self, words):
        """The command line; env(1) keeps the library out of what starts the program."""
        return ["env", *(f"{key}={value}" for key, value in self.env.items()),
                *(str(word) for word in words)]

    def lines(self, event=None):
        with open(self.log, encoding="utf-8") as file:
            found = [json.loads(line) for line in file.read().splitlines()]
        return [line for line in found
                if (line["event"] == event if event else line["event"] != "loaded")]

    def wait(self, count=1, event="session", **match):
        """Waits for so many lines; returns them."""
        limit = time.monotonic() + DEADLINE
        while True:
            found = [line for line in self.lines(event)
                     if all(line.get(key) == value for key, value in match.items())]
            if len(found) >= count:
                return found
            assert time.monotonic() < limit, f"{count} x {event} {match} in {self.lines()}"
            time.sleep(0.01)


def client_words(lab, server=None, path=2, policy="require", host=None, port=None, **words):
    """MTLS_CONFIG of a client whose path 2 leaves by a device of its own."""
    remote = tools.join(host or server.host, port or server.path2_port)
    more = "".join(f" {key}={value}" for key, value in words.items())
    return f"policy={policy} path2=dev=p{path},remote={remote}{more}"


def server_words(lab, port, policy="require", **words):
    """MTLS_CONFIG of a server with its path-2 listener on the service address."""
    more = "".join(f" {key.replace('_', '-')}={value}" for key, value in words.items())
    return f"policy={policy} listen={tools.join(lab.addr, port)}{more}"



class Service:
    """A wrapped server: what mtlslab's clients ask of one."""

    def __init__(self, lab, pki, proc, port, path2_port, wrap):
        self.proc, self.port, self.path2_port, self.wrap = proc, port, path2_port, wrap
        self.host = lab.addr
        lab.hosts(lab.client, **{pki.name.replace(".", "_"): self.host})


def wrapped_server(lab, pki, folder, start, policy="require", **words):
    """start(port, wrap) spawns the server under wrap and returns its process."""
    port, path2 = lab.port(), lab.port()
    wrap = Wrap(folder, server_words(lab, path2, policy, **words), name="server")
    proc = start(port, wrap)
    proc.wait_listening(port)
    return Service(lab, pki, proc, port, path2, wrap)


NGINX = """
daemon off; {processes}; pid {folder}/pid; error_log stderr notice; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen {address}:{port}{tls}; server_name {name}; root {www};
           ssl_certificate {cert}; ssl_certificate_key {key}; client_max_body_size 64m;
           ssl_protocols TLSv1.2 TLSv1.3;
           {location} }}
}}
"""


def nginx_argv(lab, pki, folder, www, port, wrap, workers=0, tls=" ssl http2", location="",
               address=None):
    """The command line of nginx under wrap. workers=0: a single process."""
    processes = f"worker_processes {workers}" if workers else "master_process off"
    conf = os.path.join(folder, f"nginx{port}.conf")
    with open(conf, "w", encoding="utf-8") as file:
        file.write(NGINX.format(folder=folder, address=address or lab.addr, port=port,
                                name=pki.name, www=www, cert=pki.cert, key=pki.key, tls=tls,
                                processes=processes, location=location))
    return wrap.argv([tools.which("nginx"), "-c", conf, "-e", "stderr"])


def nginx(lab, *args, ns=None, **words):
    """nginx under wrap; returns its process."""
    return lab.spawn(ns or lab.server, nginx_argv(lab, *args, **words), name="nginx")


def curl_argv(pki, host, port, *options, path="/file", cafile=None):
    return ["curl", "-sS", "--noproxy", "*", "--max-time", "20", "--cacert", cafile or pki.cafile,
            "--resolve", f"{pki.name}:{port}:{host}", *options, f"https://{pki.name}:{port}{path}"]
