"""Server CPU for each full handshake with servers that people run: nginx, HAProxy and stunnel with plain TLS, and nginx under
`mtlsize run`, with one worker and with two. The client is bench_client, the same for all; the servers take turns. Those with
one worker are driven by wrk as well, a connection for each request.

Time is that of the server's processes, all of their threads.
"""

import atexit
import os
import re
import shutil
import socket
import subprocess
import sys
import time

from common import CLIENT_CPU, PATH2, SERVER_CPU, client, progress, show, spread
from mtlslab import tools
from mtlslab.recorder import unused_port

NGINX = """daemon off; worker_processes {workers}; error_log stderr crit; pid {folder}/nginx-{port}.pid;
events {{ worker_connections 20000; }}
http {{
  access_log off; client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{
    listen 127.0.0.1:{port} ssl reuseport; ssl_certificate {cert}; ssl_certificate_key {key};
    ssl_protocols TLSv1.3; ssl_ecdh_curve X25519; ssl_session_cache off; return 204;
  }}
  server {{ listen 127.0.0.1:{backend}; return 204; }}
}}
"""
HAPROXY = """global
  nbthread 1
  maxconn 5000
  ssl-default-bind-options ssl-min-ver TLSv1.3
  ssl-default-bind-curves X25519
defaults
  mode http
  timeout client 30s
  timeout connect 5s
  timeout server 30s
frontend f
  bind 127.0.0.1:{port} ssl crt {pem}
  http-request return status 204
"""
STUNNEL = """foreground = yes
pid =
debug = 3
sslVersion = TLSv1.3
curves = X25519
[s]
accept = 127.0.0.1:{port}
connect = 127.0.0.1:{backend}
cert = {cert}
key = {key}
"""
# name, program, workers, hooked, compared with
SERVERS = (
    ("nginx", "nginx", 1, False, None),
    ("nginx under mtlsize", "nginx", 1, True, "nginx"),
    ("nginx, 2 workers", "nginx", 2, False, None),
    ("nginx under mtlsize, 2 workers", "nginx", 2, True, "nginx, 2 workers"),
    ("HAProxy", "haproxy", 1, False, "nginx"),
    ("stunnel", "stunnel4", 1, False, "nginx"),
)
START_S = 20
WRK_S, WRK_CONNECTIONS = 2, 8


def processes(pid):
    """A process and everything below it."""
    found = [pid]
    for task in os.listdir(f"/proc/{pid}/task"):
        try:
            with open(f"/proc/{pid}/task/{task}/children", encoding="ascii") as file:
                children = file.read().split()
        except FileNotFoundError:  # a thread that has just ended
            continue
        for child in children:
            found += processes(int(child))
    return found


def cpu_ns(pid):
    """CPU time of all of them, threads that have ended included: Linux builds a process's clock from its number."""
    return sum(time.clock_gettime_ns(~one << 3 | 2) for one in processes(pid))


def write(folder, name, text):
    path = os.path.join(folder, name)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    return path


class Program:
    """One of SERVERS, running; host, port and path2 as bench_client's driver wants them."""

    def __init__(self, row, pki, folder, backend=None):
        name, program, workers, hooked, _ = row
        self.host, self.port, self.path2_port = "127.0.0.1", unused_port(), unused_port()
        self.backend = backend or unused_port()  # nginx's own without TLS: stunnel's
        self.path2 = f"127.0.1.1:{self.path2_port}"
        self.log = os.path.join(folder, f"{self.port}.log")
        argv = getattr(self, f"_{program}")(pki, folder, workers)
        if hooked:
            argv = [tools.tool("mtlsize"), "run", "--config",
                    write(folder, f"{self.port}.words", f"policy=require listen={self.path2}\n"), "--", *argv]
        cpus = "0,1" if workers > 1 else str(SERVER_CPU)
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(["taskset", "-c", cpus, *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        atexit.register(self.stop)
        self._wait(name)

    def _nginx(self, pki, folder, workers):
        conf = NGINX.format(workers=workers, folder=folder, port=self.port, cert=pki.cert, key=pki.key,
                            backend=self.backend)
        return [tools.which("nginx"), "-e", "stderr", "-c", write(folder, f"nginx-{self.port}.conf", conf)]

    def _haproxy(self, pki, folder, _workers):
        pem = os.path.join(folder, "haproxy.pem")
        with open(pem, "wb") as out:
            for part in (pki.cert, pki.key):
                with open(part, "rb") as file:
                    shutil.copyfileobj(file, out)
        return [tools.which("haproxy"), "-f", write(folder, "haproxy.cfg", HAPROXY.format(port=self.port, pem=pem))]

    def _stunnel4(self, pki, folder, _workers):
        return [tools.which("stunnel4"), write(folder, "stunnel.conf", STUNNEL.format(
            port=self.port, backend=self.backend, cert=pki.cert, key=pki.key))]

    def _wait(self, name):
        limit = time.monotonic() + START_S
        while time.monotonic() < limit and self.process.poll() is None:
            try:
                socket.create_connection((self.host, self.port), timeout=1).close()
                return
            except OSError:
                time.sleep(0.05)
        with open(self.log, encoding="utf-8", errors="replace") as log:
            sys.exit(f"{name} does not start: {log.read()}")

    def cpu(self):
        """CPU time so far, once it rests."""
        before = -1
        while (now := cpu_ns(self.process.pid)) != before:
            before = now
            time.sleep(0.1)
        return now

    def stop(self):
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()


def sample(server, row, pki, batch):
    """Microseconds of CPU a handshake; handshakes a second of wall time."""
    words = PATH2 + " reuse=off" if row[3] else None
    cpu = CLIENT_CPU if row[2] == 1 else None
    before = server.cpu()
    result = client(server, pki.cafile, "handshakes", "--count", batch, *(("--warm", 1) if words else ()), words=words,
                    cpu=cpu)
    if result["wrong"] or (words and result["verified"] != result["count"]):
        sys.exit(f"{row[0]}: {result}")
    return (server.cpu() - before) / result["count"] / 1000, result["count"] / (result["wall_ns"] / 1e9)


def wrk_sample(server, row, folder):
    """The same by wrk: a connection, a handshake, a request, an answer and the end; wrk under mtlsize where the server is."""
    argv = ["wrk", "-t", "1", "-c", str(WRK_CONNECTIONS), "-d", str(WRK_S), "-H", "Connection: close",
            f"https://{server.host}:{server.port}/"]
    if row[3]:
        argv = [tools.tool("mtlsize"), "run", "--config",
                write(folder, "wrk.words", (PATH2 + " reuse=off").format(path2=server.path2) + "\n"), "--", *argv]
    before = server.cpu()
    done = subprocess.run(["taskset", "-c", str(CLIENT_CPU), *argv], capture_output=True, text=True, check=False, timeout=60)
    count, rate = re.search(r"(\d+) requests in", done.stdout), re.search(r"Requests/sec: +([0-9.]+)", done.stdout)
    if done.returncode != 0 or not count or not rate or "Socket errors" in done.stdout or "Non-2xx" in done.stdout:
        sys.exit(f"wrk, {row[0]}: {done.returncode}\n{done.stdout}{done.stderr}")
    return (server.cpu() - before) / int(count[1]) / 1000, float(rate[1])


def table(took, rows):
    """{name: CPU, rate, ratio}."""
    table_ = {}
    for name, _, _, _, base in rows:
        table_[name] = {"server_us": spread([v[0] for v in took[name]]), "rate": spread([v[1] for v in took[name]])}
        if base:
            table_[name]["to"] = base
            table_[name]["ratio"] = spread([a[0] / b[0] for a, b in zip(took[name], took[base])])
    return table_


def run(pki, size, folder):
    """{driver: {name: CPU, rate, ratio}}."""
    running = {}
    for row in SERVERS:
        running[row[0]] = Program(row, pki, folder, running["nginx"].backend if row[1] == "stunnel4" else None)
    by_wrk = [row for row in SERVERS if row[2] == 1]
    took, took_wrk = {name: [] for name in running}, {row[0]: [] for row in by_wrk}
    for number in range(size["server_rounds"] + 1):
        for row in SERVERS[::1 if number % 2 else -1]:
            value = sample(running[row[0]], row, pki, size["batch"])
            if number:
                took[row[0]].append(value)
        for row in by_wrk[::1 if number % 2 else -1] if number else ():
            took_wrk[row[0]].append(wrk_sample(running[row[0]], row, folder))
        progress(f"servers: round {number} of {size['server_rounds']}")
    for server in running.values():
        server.stop()
    return {"bench_client": table(took, SERVERS), "wrk": table(took_wrk, by_wrk)}


def print_rows(drivers):
    for driver, rows in drivers.items():
        print(f"\nServers that people run, driven by {driver}: CPU for each full handshake, us; handshakes a second (the client is the limit)")
        for name, row in rows.items():
            ratio = f"  x {show(row['ratio'])} of {row['to']}" if "ratio" in row else ""
            print(f"  {name:32} {show(row['server_us'], 1):28} {row['rate']['median']:6.0f}/s{ratio}")
