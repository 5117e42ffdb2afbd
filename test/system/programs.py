"""The unmodified programs of test_programs_*.py: one description each of how it is started as a TLS client or server, as
its own documentation says. What is measured about them is collected here, for the table of doc/programs.md."""

import dataclasses
import os
import re
import shutil
import subprocess
import sys

from mtlslab import tools

PYTHON = sys.executable
GET = b"GET /file HTTP/1.0\r\nHost: server.example\r\n\r\n"
MQTT_CONNECT = bytes.fromhex("101000044d5154540402003c000474657374")
MQTT_CONNACK = bytes.fromhex("20020000")


@dataclasses.dataclass
class Place:
    """Where a program runs and what it talks to."""
    folder: str   # of its own
    host: str     # the server's address
    port: int     # the server's TLS port
    pki: object
    cafile: str
    www: str
    local: int = 0    # a free port on the client's side
    backend: int = 0  # a plain HTTP server on the server's side

    def write(self, name, text, mode=0o644):
        path = os.path.join(self.folder, name)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:
            file.write(text)
        return path

    def combined(self):
        """Certificate and key in one file."""
        with open(self.pki.cert, encoding="ascii") as cert, open(self.pki.key, encoding="ascii") as key:
            return self.write("combined.pem", cert.read() + key.read(), 0o600)


@dataclasses.dataclass
class Program:
    name: str            # in the table
    package: str         # Debian's, for the version
    start: object        # Place -> command line
    stdin: bytes = None
    protocol: str = "https"     # what it speaks inside: https, redis, mqtt, postgres
    expect: bytes = None        # what a client prints, where that is not the file's secret
    service: bool = False       # a client that runs on, and takes plain connections on Place.local
    request: bytes = GET        # server: what is sent to it, and what must come back
    answer: bytes = b"the text that nobody"
    hint: str = ""              # for the table


# ---- Clients -------------------------------------------------------------------------------------

def curl(place):
    return ["curl", "-sS", "--noproxy", "*", "--max-time", "20", "--cacert", place.cafile,
            f"https://{place.pki.name}:{place.port}/file"]


def wrk(place):
    script = place.write("wrk.lua", "function response(status, headers, body) io.write(body) end\n")
    return ["wrk", "-t", "1", "-c", "1", "-d", "1", "-s", script, f"https://{place.pki.name}:{place.port}/file"]


def wget(place):
    return ["wget", "-q", "-O", "-", "--ca-certificate", place.cafile, f"https://{place.pki.name}:{place.port}/file"]


def git(place):
    return ["git", "-c", f"http.sslCAInfo={place.cafile}", "ls-remote", f"https://{place.pki.name}:{place.port}/repo"]


def s_client(place):
    return ["openssl", "s_client", "-connect", f"{place.host}:{place.port}", "-servername", place.pki.name, "-CAfile",
            place.cafile, "-verify_return_error", "-verify_hostname", place.pki.name, "-quiet", "-ign_eof"]


URLLIB = """
import ssl, sys, urllib.request
context = ssl.create_default_context(cafile=sys.argv[2])
sys.stdout.buffer.write(urllib.request.urlopen(sys.argv[1], context=context, timeout=20).read())
"""
ASYNCIO_CLIENT = """
import asyncio, ssl, sys
async def main(host, port, cafile):
    reader, writer = await asyncio.open_connection(host, int(port), ssl=ssl.create_default_context(cafile=cafile))
    writer.write(b"GET /file HTTP/1.0\\r\\n\\r\\n")
    sys.stdout.buffer.write(await reader.read())
    writer.close()
asyncio.run(main(*sys.argv[1:]))
"""


def urllib(place):
    return [PYTHON, "-c", URLLIB, f"https://{place.pki.name}:{place.port}/file", place.cafile]


def asyncio_client(place):
    return [PYTHON, "-c", ASYNCIO_CLIENT, place.pki.name, place.port, place.cafile]


def socat(place):
    return ["socat", "STDIO,ignoreeof", f"OPENSSL:{place.pki.name}:{place.port},cafile={place.cafile}"]


def redis_cli(place):
    return ["redis-cli", "-h", place.pki.name, "-p", place.port, "--tls", "--cacert", place.cafile, "--sni",
            place.pki.name, "ECHO", "the text that nobody on path 1 may read"]


def mosquitto_pub(place):
    return ["mosquitto_pub", "-h", place.pki.name, "-p", place.port, "--cafile", place.cafile, "-t", "topic", "-q", "1",
            "-m", "the text that nobody on path 1 may read", "-d"]


def mosquitto_rr(place):
    return ["mosquitto_rr", "-h", place.pki.name, "-p", place.port, "--cafile", place.cafile, "-t", "topic", "-e", "topic",
            "-m", "the text that nobody on path 1 may read", "-W", "20"]


def mosquitto_sub(place):
    """What the broker says of itself is retained: there is something to read at once."""
    return ["mosquitto_sub", "-h", place.pki.name, "-p", place.port, "--cafile", place.cafile, "-t", "$SYS/broker/version",
            "-C", "1", "-W", "20"]


def psql(place):
    return ["psql", f"host={place.pki.name} port={place.port} user=postgres dbname=postgres sslmode=verify-full "
            f"sslrootcert={place.cafile} connect_timeout=20", "-At", "-c", "select 'the text that nobody may read'"]


NODE_CLIENT = """
const https = require('https'), fs = require('fs');
https.get(process.argv[1], {ca: fs.readFileSync(process.argv[2])}, (answer) => answer.pipe(process.stdout))
  .on('error', (error) => { console.error(error.message); process.exit(1); });
"""


def node_client(place):
    return [*NODE, "-e", NODE_CLIENT, f"https://{place.pki.name}:{place.port}/file", place.cafile]


def nginx_conf(place, body, workers):
    return place.write("nginx.conf", f"""
daemon off; worker_processes {workers}; pid {place.folder}/pid; error_log stderr notice; user root;
events {{ worker_connections 256; }}
http {{
  access_log off; default_type application/octet-stream;
  client_body_temp_path {place.folder}/b; proxy_temp_path {place.folder}/p; fastcgi_temp_path {place.folder}/f;
  uwsgi_temp_path {place.folder}/u; scgi_temp_path {place.folder}/s;
  server {{ {body} }}
}}
""")


def nginx_proxy(place):
    return [tools.which("nginx"), "-e", "stderr", "-c", nginx_conf(place, f"""
    listen 127.0.0.1:{place.local};
    location / {{
      proxy_pass https://{place.host}:{place.port}; proxy_ssl_verify on; proxy_ssl_name {place.pki.name};
      proxy_ssl_server_name on; proxy_ssl_trusted_certificate {place.cafile}; proxy_ssl_protocols TLSv1.2 TLSv1.3;
    }}""", 1)]


def haproxy_client(place):
    return [tools.which("haproxy"), "-db", "-f", place.write("haproxy.cfg", f"""
global
    log stderr format raw local0
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
    retries 0
frontend in
    bind 127.0.0.1:{place.local}
    default_backend out
backend out
    server one {place.host}:{place.port} ssl verify required ca-file {place.cafile} sni str({place.pki.name}) """
                                                              f"verifyhost {place.pki.name}\n")]


def stunnel_client(place):
    return ["stunnel4", place.write("stunnel.conf", f"""
foreground = yes
pid =
[one]
client = yes
accept = 127.0.0.1:{place.local}
connect = {place.host}:{place.port}
sni = {place.pki.name}
checkHost = {place.pki.name}
verifyChain = yes
CAfile = {place.cafile}
""")]


def apache_conf(place, name, body):
    modules = "/usr/lib/apache2/modules"
    loaded = [part for part in ("mpm_event", "authz_core", "ssl", "socache_shmcb", "proxy", "proxy_http", "unixd")
              if os.path.exists(f"{modules}/mod_{part}.so")]
    lines = [f"LoadModule {part}_module {modules}/mod_{part}.so" for part in loaded]
    return place.write(name, "\n".join(lines) + f"""
ServerRoot {place.folder}
ServerName {place.pki.name}
PidFile {place.folder}/pid
Mutex file:{place.folder} default
ErrorLog /dev/stderr
User www-data
Group www-data
{body}
""")


def apache_proxy(place):
    return [tools.which("apache2"), "-DFOREGROUND", "-f", apache_conf(place, "proxy.conf", f"""
Listen 127.0.0.1:{place.local}
SSLProxyEngine on
SSLProxyVerify require
SSLProxyCACertificateFile {place.cafile}
ProxyPass / https://{place.pki.name}:{place.port}/
""")]


# ---- Servers -------------------------------------------------------------------------------------

def s_server(place):
    return ["sh", "-ec", 'cd "$1"; shift; exec "$@"', "sh", place.www, "openssl", "s_server", "-accept",
            f"{place.host}:{place.port}", "-cert", place.pki.cert, "-key", place.pki.key, "-WWW"]


def nginx(place):
    return [tools.which("nginx"), "-e", "stderr", "-c", nginx_conf(place, f"""
    listen {place.host}:{place.port} ssl http2; server_name {place.pki.name}; root {place.www};
    ssl_certificate {place.pki.cert}; ssl_certificate_key {place.pki.key}; ssl_protocols TLSv1.2 TLSv1.3;""", 4)]


def haproxy(place):
    return [tools.which("haproxy"), "-db", "-f", place.write("haproxy.cfg", f"""
global
    log stderr format raw local0
defaults
    mode http
    timeout connect 20s
    timeout client 20s
    timeout server 20s
    retries 0
frontend in
    bind {place.host}:{place.port} ssl crt {place.combined()}
    default_backend out
backend out
    server one 127.0.0.1:{place.backend}
""")]


def stunnel(place):
    return ["stunnel4", place.write("stunnel.conf", f"""
foreground = yes
pid =
[one]
accept = {place.host}:{place.port}
connect = 127.0.0.1:{place.backend}
cert = {place.combined()}
""")]


def apache(place):
    return [tools.which("apache2"), "-DFOREGROUND", "-f", apache_conf(place, "server.conf", f"""
Listen {place.host}:{place.port}
DocumentRoot {place.www}
SSLEngine on
SSLCertificateFile {place.pki.cert}
SSLCertificateKeyFile {place.pki.key}
""")]


def lighttpd(place):
    return [tools.which("lighttpd"), "-D", "-f", place.write("lighttpd.conf", f"""
server.modules = ("mod_openssl")
server.document-root = "{place.www}"
server.bind = "{place.host}"
server.port = {place.port}
server.errorlog = "/dev/stderr"
ssl.engine = "enable"
ssl.pemfile = "{place.pki.cert}"
ssl.privkey = "{place.pki.key}"
""")]


HTTP_SERVER = """
import http.server, ssl, sys
class Handler(http.server.SimpleHTTPRequestHandler):
    def __init__(self, *given):
        super().__init__(*given, directory=sys.argv[5])
server = http.server.ThreadingHTTPServer((sys.argv[1], int(sys.argv[2])), Handler)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(sys.argv[3], sys.argv[4])
server.socket = context.wrap_socket(server.socket, server_side=True)
server.serve_forever()
"""
ASYNCIO_SERVER = """
import asyncio, ssl, sys
async def handle(reader, writer):
    await reader.readuntil(b"\\r\\n\\r\\n")
    writer.write(b"HTTP/1.0 200 OK\\r\\n\\r\\n" + open(sys.argv[5] + "/file", "rb").read())
    await writer.drain()
    writer.close()
async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(sys.argv[3], sys.argv[4])
    server = await asyncio.start_server(handle, sys.argv[1], int(sys.argv[2]), ssl=context)
    await server.serve_forever()
asyncio.run(main())
"""


def python_server(script):
    return lambda place: [PYTHON, "-c", script, place.host, place.port, place.pki.cert, place.pki.key, place.www]


NODE_SERVER = """
const https = require('https'), fs = require('fs'), [host, port, cert, key, www] = process.argv.slice(1);
https.createServer({cert: fs.readFileSync(cert), key: fs.readFileSync(key)},
  (request, answer) => answer.end(fs.readFileSync(www + request.url))).listen(+port, host);
"""


def node_server(place):
    return [*NODE, "-e", NODE_SERVER, place.host, place.port, place.pki.cert, place.pki.key, place.www]


def socat_server(place):
    return ["socat", f"OPENSSL-LISTEN:{place.port},bind={place.host},reuseaddr,fork,cert={place.combined()},verify=0",
            f"SYSTEM:read -r line; cat {place.www}/file"]


def redis_server(place):
    return ["redis-server", "--port", "0", "--bind", place.host, "--tls-port", place.port, "--tls-cert-file",
            place.pki.cert, "--tls-key-file", place.pki.key, "--tls-auth-clients", "no", "--save", "", "--dir",
            place.folder, "--protected-mode", "no"]


def mosquitto(place):
    return [tools.which("mosquitto"), "-c", place.write("mosquitto.conf", f"""
listener {place.port} {place.host}
certfile {place.pki.cert}
keyfile {place.pki.key}
allow_anonymous true
user root
""")]


POSTGRES = sorted(os.path.dirname(os.path.realpath(f"/usr/lib/postgresql/{version}/bin/postgres"))
                  for version in (os.listdir("/usr/lib/postgresql") if os.path.isdir("/usr/lib/postgresql") else []))


def postgres(place):
    """place.folder holds a data folder that was made before."""
    return [f"{POSTGRES[-1]}/postgres", "-D", f"{place.folder}/data", "-p", place.port, "-c",
            f"listen_addresses={place.host}", "-c", "ssl=on", "-c", "ssl_cert_file=server.pem", "-c",
            "ssl_key_file=server.key", "-c", f"unix_socket_directories={place.folder}", "-c", "fsync=off"]


# ---- Lists ---------------------------------------------------------------------------------------

# Debian's Node; where another one is installed as `node`, Debian's lies here (scripts/setup).
UNPACKED = "/var/cache/mtls-programs/node"
NODE = ["/usr/bin/node"]
if os.path.isdir(UNPACKED):
    NODE = ["sh", "-ec", 'mkdir -p /usr/share/nodejs; mount --bind "$1/usr/share/nodejs" /usr/share/nodejs; '
            'shift; exec "$@"', "sh", UNPACKED, "env",
            f"LD_LIBRARY_PATH={UNPACKED}/usr/lib/x86_64-linux-gnu", f"{UNPACKED}/usr/bin/node"]

CLIENTS = [
    Program("curl", "curl", curl),
    Program("openssl s_client", "openssl", s_client, stdin=GET),
    Program("Python urllib", "python3.11", urllib),
    Program("Python asyncio", "python3.11", asyncio_client),
    Program("nginx (proxy_pass https)", "nginx-light", nginx_proxy, service=True),
    Program("HAProxy (server ssl)", "haproxy", haproxy_client, service=True),
    Program("stunnel (client = yes)", "stunnel4", stunnel_client, service=True),
    Program("Apache httpd (mod_proxy)", "apache2-bin", apache_proxy, service=True),
    Program("socat (OPENSSL)", "socat", socat, stdin=GET),
    Program("psql", "postgresql-client-15", psql, protocol="postgres", expect=b"the text that nobody may read",
            hint="sslmode=verify-full; STARTTLS-like negotiation (direct TLS is newer than PostgreSQL 15)"),
    Program("redis-cli", "redis-tools", redis_cli, protocol="redis", expect=b"the text that nobody"),
    Program("mosquitto_pub", "mosquitto-clients", mosquitto_pub, protocol="mqtt", expect=b"PUBACK"),
    Program("mosquitto_sub", "mosquitto-clients", mosquitto_sub, protocol="mqtt", expect=b"mosquitto version"),
    Program("mosquitto_rr", "mosquitto-clients", mosquitto_rr, protocol="mqtt", expect=b"the text that nobody"),
    Program("Node.js (https.get)", "libnode108", node_client),
    Program("wrk", "wrk", wrk, hint="checks no certificate by itself; names its descriptor anew before each try"),
]

SERVERS = [
    Program("openssl s_server", "openssl", s_server),
    Program("nginx (4 workers, HTTP/2)", "nginx-light", nginx),
    Program("HAProxy (bind ssl)", "haproxy", haproxy),
    Program("stunnel", "stunnel4", stunnel),
    Program("Apache httpd (mod_ssl)", "apache2-bin", apache),
    Program("lighttpd (mod_openssl)", "lighttpd-mod-openssl", lighttpd),
    Program("Python http.server", "python3.11", python_server(HTTP_SERVER)),
    Program("Python asyncio", "python3.11", python_server(ASYNCIO_SERVER)),
    Program("PostgreSQL", "postgresql-15", postgres, protocol="postgres"),
    Program("Redis", "redis-server", redis_server, request=b"PING\r\n", answer=b"+PONG"),
    Program("mosquitto", "mosquitto", mosquitto, request=MQTT_CONNECT, answer=MQTT_CONNACK),
    Program("socat (OPENSSL-LISTEN)", "socat", socat_server),
    Program("Node.js (https.createServer)", "libnode108", node_server),
]

REFUSED = [
    Program("wget", "wget", wget),
    Program("git over https", "git", git),
]


# ---- What was measured ---------------------------------------------------------------------------

WORKS = "works"
MEASURED = {}  # (name, role) -> [version, result, hint]


def version(package):
    """Debian's, without what only the packaging changed."""
    if os.path.isdir(UNPACKED) and package == "libnode108":
        with open(os.path.join(UNPACKED, "version"), encoding="ascii") as file:
            text = file.read().strip()
    else:
        text = subprocess.run(["dpkg-query", "-W", "-f", "${Version}", package], capture_output=True, text=True,
                              check=True).stdout
    return re.sub(r"^\d+:", "", text).split("-")[0].split("+")[0]


def measured(program, role, result):
    MEASURED[program.name, role] = [version(program.package), result, program.hint]


class Kit:
    """mtlsize and its libraries in a folder that every user can read."""

    def __init__(self, folder):
        self.mtlsize = os.path.join(folder, "apps", "mtlsize")
        for part in ("apps/mtlsize", "preload/libmtls-preload.so", "mtls/libmtls.so.0"):
            os.makedirs(os.path.join(folder, os.path.dirname(part)), exist_ok=True)
            shutil.copy(os.path.realpath(os.path.join(tools.BUILD, part)), os.path.join(folder, part))
        os.chmod(folder, 0o755)

    def argv(self, words, argv):
        return [self.mtlsize, "run", "--json", *words, *(str(word) for word in argv)]
