"""Stock TLS servers and clients of four libraries, the unmodified peers of the interop tests."""

import os
import re
import sys

from .tools import which


PYSERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "pyserver.py")


class Stock:
    """A running server and its port."""

    def __init__(self, proc, port):
        self.proc, self.port = proc, port


def s_server(lab, pki, *options, www=None, address=None, ns=None):
    """OpenSSL's; serves the files of www."""
    address = address or lab.addr
    accept = f"[{address}]:0" if ":" in address else f"{address}:0"
    argv = ["openssl", "s_server", "-accept", accept, "-cert", pki.cert, "-key", pki.key,
            *(["-WWW"] if www else ["-www"]), *options]
    proc = lab.spawn(ns or lab.server, argv, name="s_server", cwd=str(www) if www else None)
    line = proc.wait_text("ACCEPT")
    return Stock(proc, int(re.search(r":(\d+)\s*$", line).group(1)))


def gnutls_serv(lab, pki, *options):
    """GnuTLS's; answers GET with a page of its own."""
    port = lab.port()
    proc = lab.spawn(lab.server, ["gnutls-serv", "--http", "--port", str(port), "--x509certfile",
                                  pki.cert, "--x509keyfile", pki.key, *options], name="gnutls-serv")
    proc.wait_listening(port)
    return Stock(proc, port)


def nss_database(lab, pki, folder):
    """An NSS database with the server's key and both authorities; returns its folder."""
    os.makedirs(folder, exist_ok=True)
    database, bundle = f"sql:{folder}", os.path.join(folder, "server.p12")
    for argv in (
            ["certutil", "-N", "-d", database, "--empty-password"],
            ["certutil", "-A", "-d", database, "-n", "real", "-t", "C,,", "-a", "-i", pki.cafile],
            ["openssl", "pkcs12", "-export", "-in", pki.cert, "-inkey", pki.key, "-name", "server",
             "-passout", "pass:x", "-out", bundle],
            ["pk12util", "-i", bundle, "-d", database, "-W", "x", "-K", ""]):
        proc = lab.run(lab.server, argv)
        assert proc.wait() == 0, proc.log()
    return database


def selfserv(lab, pki, folder, *options):
    """NSS's; answers GET with a page of its own."""
    port = lab.port()
    database = nss_database(lab, pki, folder)
    proc = lab.spawn(lab.server, [which("selfserv"), "-d", database, "-n", "server", "-p", str(port),
                                  "-V", "tls1.2:tls1.3", *options], name="selfserv")
    proc.wait_listening(port)
    return Stock(proc, port)


def _let_in(*folders):
    """Workers are another user."""
    for parent in folders:
        while str(parent) != "/":
            os.chmod(parent, os.stat(parent).st_mode | 0o011)
            parent = os.path.dirname(str(parent))


NGINX = """
daemon off; worker_processes 1; pid {folder}/pid; error_log stderr notice;
events {{ worker_connections 64; }}
http {{
  access_log off; default_type application/octet-stream;
  client_body_temp_path {folder}/b; proxy_temp_path {folder}/p; fastcgi_temp_path {folder}/f;
  uwsgi_temp_path {folder}/u; scgi_temp_path {folder}/s;
  server {{ listen {address}:{port} {tls}; server_name {name}; root {www};
           ssl_certificate {cert}; ssl_certificate_key {key};
           ssl_protocols {protocols}; {extra} }}
}}
"""


def nginx(lab, pki, folder, www, protocols="TLSv1.2 TLSv1.3", *, extra="ssl_session_tickets on;",
          ns=None, address=None, cert=None, key=None, tls="ssl"):
    """nginx with a folder of files; extra: further lines of its server block."""
    os.makedirs(folder, exist_ok=True)
    port, conf = lab.port(), os.path.join(folder, "nginx.conf")
    _let_in(folder, www)
    with open(conf, "w", encoding="utf-8") as file:
        file.write("user root;\n" + NGINX.format(
            folder=folder, address=address or lab.addr, port=port, name=pki.name, www=www,
            cert=cert or pki.cert, key=key or pki.key, protocols=protocols, extra=extra, tls=tls))
    proc = lab.spawn(ns or lab.server, [which("nginx"), "-c", conf, "-e", "stderr"], name="nginx")
    proc.wait_listening(port)
    return Stock(proc, port)


def _free_port(lab, proc_of):
    port = lab.port()
    proc = proc_of(port)
    proc.wait_listening(port)
    return Stock(proc, port)


APACHE = """
{modules}
ServerRoot {folder}
ServerName {name}
PidFile {folder}/pid
Mutex file:{folder} default
ErrorLog /dev/stderr
User www-data
Group www-data
StartServers 3
ThreadsPerChild 25
Listen {address}:{port}
DocumentRoot {www}
SSLEngine on
SSLSessionCache shmcb:{folder}/cache(512000)
SSLCertificateFile {cert}
SSLCertificateKeyFile {key}
{extra}
"""


def apache(lab, pki, folder, www, extra=""):
    """Apache httpd with several processes."""
    os.makedirs(folder, exist_ok=True)
    _let_in(folder, www)
    parts = ["mpm_event", "authz_core", "ssl", "socache_shmcb", "unixd"]
    modules = "\n".join(f"LoadModule {part}_module /usr/lib/apache2/modules/mod_{part}.so"
                        for part in parts
                        if os.path.exists(f"/usr/lib/apache2/modules/mod_{part}.so"))

    def start(port):
        conf = os.path.join(folder, "apache.conf")
        with open(conf, "w", encoding="utf-8") as file:
            file.write(APACHE.format(modules=modules, folder=folder, name=pki.name, port=port,
                                     address=lab.addr, www=www, cert=pki.cert, key=pki.key,
                                     extra=extra))
        return lab.spawn(lab.server, [which("apache2"), "-DFOREGROUND", "-f", conf], name="apache2")
    return _free_port(lab, start)


HAPROXY = """
defaults
    mode http
    timeout client 20s
    timeout connect 20s
    timeout server 20s
frontend in
    bind {address}:{port} ssl crt {bundle} {extra}
    http-request return status 200 content-type text/plain lf-file {page}
"""


def haproxy(lab, pki, folder, www, extra="", processes=1):
    """Several processes of HAProxy on one port; each has ticket keys of its own unless told."""
    os.makedirs(folder, exist_ok=True)
    bundle, conf = os.path.join(folder, "bundle.pem"), os.path.join(folder, "haproxy.cfg")
    with open(bundle, "wb") as out:
        for part in (pki.cert, pki.key):
            with open(part, "rb") as file:
                out.write(file.read())

    def start(port):
        with open(conf, "w", encoding="utf-8") as file:
            file.write(HAPROXY.format(address=lab.addr, port=port, bundle=bundle, extra=extra,
                                      page=os.path.join(www, "file")))
        first = lab.spawn(lab.server, [which("haproxy"), "-db", "-f", conf], name="haproxy")
        first.wait_listening(port)
        for _ in range(processes - 1):
            lab.spawn(lab.server, [which("haproxy"), "-db", "-f", conf], name="haproxy")
        return first
    return _free_port(lab, start)


def threaded(lab, pki, *options, ns=None, cert=None, key=None):
    """CPython's ssl module, a thread for each connection; the options of pyserver.py."""
    proc = lab.spawn(ns or lab.server, [sys.executable, PYSERVER, "--cert", cert or pki.cert, "--key",
                                        key or pki.key, *options], name="pyserver")
    return Stock(proc, proc.wait_json("stdout", event="listening")["port"])


GET = b"GET /file HTTP/1.0\r\nHost: server.example\r\n\r\n"


def s_client(lab, pki, host, port, *options, request=GET, cafile=None):
    """OpenSSL's client; standard output has what came."""
    return lab.run(lab.client, ["openssl", "s_client", "-connect", f"{host}:{port}", "-servername",
                                pki.name, "-CAfile", cafile or pki.cafile, "-verify_return_error", "-quiet",
                                "-ign_eof", *options], stdin=request, name="s_client")


def gnutls_cli(lab, pki, host, port, *options, request=GET):
    return lab.run(lab.client, ["gnutls-cli", "--x509cafile", pki.cafile, "--sni-hostname", pki.name,
                                "--verify-hostname", pki.name, "--logfile", "/dev/null", "--port",
                                str(port), *options, host], stdin=request, name="gnutls-cli")


def tstclnt(lab, pki, host, port, folder, *options, request=GET):
    """NSS's; it ends with its request file, not with its standard input."""
    database = nss_database(lab, pki, folder)
    file = os.path.join(folder, "request")
    with open(file, "wb") as out:
        out.write(request)
    return lab.run(lab.client, [which("tstclnt"), "-d", database, "-h", host, "-p", str(port), "-a",
                                pki.name, "-V", "tls1.2:tls1.3", "-4", "-A", file, *options],
                   name="tstclnt")
