"""Unmodified servers that get path 2 on their TLS port (single-port=on, tls-port=PORT): at another
address of the server, told apart as the program accepts it."""

import sys
import textwrap

import pytest

import preload_tools
from mtlslab import check, tools
from test_workers import LOAD, ended, start_load

# A server that accepts until there is nothing more when epoll tells it of an edge, or blocks in accept();
# a thread for each connection.
SERVER = textwrap.dedent("""
    import select, socket, ssl, sys, threading
    cert, key, port, body, how = sys.argv[1:]
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ctx.load_cert_chain(cert, key)
    listener = socket.create_server(("0.0.0.0", int(port)))

    def serve(sock):
        sock.setblocking(True)
        with ctx.wrap_socket(sock, server_side=True) as tls:
            tls.recv(65536)
            data = open(body, "rb").read()
            tls.sendall(b"HTTP/1.0 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(data) + data)

    def start(sock):
        threading.Thread(target=serve, args=(sock,), daemon=True).start()

    if how == "select": # and accept on a listener that blocks: the watch must go on
        while True:
            ready = select.select([listener, sys.stdin], [], [])[0]
            if sys.stdin in ready:
                print("awake", sys.stdin.readline().strip(), flush=True)
            if listener in ready:
                try:
                    start(listener.accept()[0])
                except ConnectionAbortedError:
                    print("aborted", flush=True)
    if how == "edges":
        listener.setblocking(False)
        epoll = select.epoll()
        epoll.register(listener, select.EPOLLIN | select.EPOLLET)
    while True:
        if how == "blocking":
            start(listener.accept()[0])
            continue
        epoll.poll()
        try:
            while True:
                start(listener.accept()[0])
        except BlockingIOError:
            pass
    """)


def single_port(lab, pki, folder, start, words="single-port=on"):
    """start(port, wrap) spawns the server; the path-2 port is the TLS port of its second address."""
    port = lab.port()
    wrap = preload_tools.Wrap(folder, f"policy=prefer {words} tls-port={port} per-source=4096"
                              " deadline=30000", name="server")
    proc = start(port, wrap)
    proc.wait_listening(port)
    return preload_tools.Service(lab, pki, proc, port, port, wrap)


def start_nginx(lab, pki, folder, www, **words):
    return lambda port, wrap: preload_tools.nginx(lab, pki, folder, www, port, wrap,
                                                  address="0.0.0.0", tls=" ssl", **words)


def client(lab, pki, server, *words, policy="require"):
    path2 = f"dev=p2,remote={tools.join(lab.server_addr(2), server.port)}"
    return tools.client(lab, pki, server, *words, path2=[path2], policy=policy)


@pytest.mark.parametrize("workers", [0, 4])
def test_nginx(lab, pki, www, tmp_path, workers):
    """Path 2 first (announced) or with path 1, by one process and by four; plain TLS is served."""
    server = single_port(lab, pki, tmp_path, start_nginx(lab, pki, tmp_path, www, workers=workers))
    for words in ([], ["--config", "early=off"]):
        result = client(lab, pki, server, *words)
        check.verified(result, None, (www / "file").read_bytes())
        assert result.line["paths"][1]["remote"] == tools.join(lab.server_addr(2), server.port)
    plain = tools.curl(lab, pki, lab.addr, server.port)
    assert plain.stdout == (www / "file").read_bytes(), plain.log()
    server.wrap.wait(2, outcome="verified")


def test_nginx_under_load(lab, pki, www, tmp_path):
    """Four workers, edges: no session of 200 is lost, on connections of their own."""
    server = single_port(lab, pki, tmp_path, start_nginx(lab, pki, tmp_path, www, workers=4))
    done = ended(start_load(lab, pki, server, words="reuse=off", count=200, threads=8))
    assert done["verified"] == 200, done


@pytest.mark.parametrize("how", ["blocking", "edges"])
def test_accept(lab, pki, www, tmp_path, how):
    """accept() blocks on, or says EAGAIN, when the connection was path 2's; silent strangers do not
    keep it from the next one."""
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")

    def start(port, wrap):
        return lab.spawn(lab.server, wrap.argv([sys.executable, script, pki.cert, pki.key, port,
                                                www / "file", how]), name="python")

    server = single_port(lab, pki, tmp_path, start)
    strangers = lab.spawn(lab.client, [sys.executable, LOAD, "flood", lab.addr, str(server.port), "8"],
                          name="load", stdin=True)
    strangers.wait_json("stdout", event="done")
    for _ in range(3):
        check.verified(client(lab, pki, server), None, (www / "file").read_bytes())
    assert tools.curl(lab, pki, lab.addr, server.port).stdout == (www / "file").read_bytes()


def test_through_mtlsize(lab, pki, www, tmp_path):
    """The words as mtlsize run is given them."""
    port = lab.port()
    bare = preload_tools.Wrap(tmp_path, "", name="none")
    argv = preload_tools.nginx_argv(lab, pki, tmp_path, www, port, bare, workers=2, address="0.0.0.0", tls=" ssl")
    proc = lab.spawn(lab.server, [tools.tool("mtlsize"), "run", "--policy", "prefer", "--config",
                                  f"single-port=on tls-port={port}", *argv[1 + len(bare.env):]], name="nginx")
    proc.wait_listening(port)
    server = preload_tools.Service(lab, pki, proc, port, port, bare)
    check.verified(client(lab, pki, server), None, (www / "file").read_bytes())


@pytest.mark.parametrize("words, code", [("single-port=on", 1), ("single-port=on tls-port=443", 0)])
def test_needs_a_port(lab, tmp_path, words, code):
    """Else it is not known which connections may be path 2: no SSL_CTX is made, and the log says why."""
    wrap = preload_tools.Wrap(tmp_path, f"policy=prefer {words}")
    run = lab.run(lab.server, wrap.argv([sys.executable, "-c", "import ssl; ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)"]))
    assert run.wait() == code, run.log()
    assert [line["why"] for line in wrap.lines("refused")] == code * [
        "Multipath TLS: single-port=on needs tls-port=PORT"]


def test_accept_after_select(lab, pki, www, tmp_path):
    """A program that was told of a connection does not stand still in accept(), which blocks, because
    it was path 2's: it is told that the connection has gone."""
    script = tmp_path / "server.py"
    script.write_text(SERVER, encoding="utf-8")
    spawned = []

    def start(port, wrap):
        spawned.append(lab.spawn(lab.server, wrap.argv([
            sys.executable, script, pki.cert, pki.key, port, www / "file", "select"]),
            name="python", stdin=True))
        return spawned[0]

    server = single_port(lab, pki, tmp_path, start)
    assert tools.curl(lab, pki, lab.addr, server.port).stdout == (www / "file").read_bytes()
    stranger = lab.spawn(lab.client, ["/usr/bin/python3", "-c", f"""
import socket, sys
conn = socket.create_connection(("{lab.addr}", {server.port}))
conn.sendall(bytes.fromhex("f04d544c53320d0a"))
print("there", flush=True)
sys.stdin.readline()
"""], name="stranger", stdin=True)
    stranger.wait_text("there")
    spawned[0].wait_text("aborted")
    spawned[0].write(b"now\n")
    spawned[0].wait_text("awake now")
    assert tools.curl(lab, pki, lab.addr, server.port).stdout == (www / "file").read_bytes()
    check.verified(client(lab, pki, server), None, (www / "file").read_bytes())


def test_off(lab, pki, www, tmp_path):
    """Without the word path 2 is the TLS server's to refuse: nobody is verified."""
    server = single_port(lab, pki, tmp_path, start_nginx(lab, pki, tmp_path, www), words=(
        f"listen={tools.join(lab.addr, lab.port())}"))
    assert client(lab, pki, server).outcome == tools.FAILED
