"""A stock TLS server by CPython's ssl module, a thread for each connection; says when one ends.

It answers each request with a fixed page. What it can be told: how many tickets it sends, to keep
sessions instead of tickets ("stateful"), to stop at TLS 1.2, to close or to be silent instead of a
handshake, and to send data before it is asked.
"""

import argparse
import json
import socket
import ssl
import threading

PAGE = b"the text that nobody on path 1 may read: "


def say(**members):
    print(json.dumps(members), flush=True)


def serve(options, context, sock):
    if options.instead == "close":
        sock.close()
        return
    if options.instead == "silence":
        sock.recv(1 << 16)
        threading.Event().wait()
    if options.instead == "text":
        sock.recv(1 << 16)
        sock.sendall(b"SSH-2.0-something\r\n")
        sock.close()
        return
    end, got = "eof", b""
    try:
        with context.wrap_socket(sock, server_side=True, suppress_ragged_eofs=False) as tls:
            say(event="handshake", version=tls.version(), resumed=tls.session_reused,
                alpn=tls.selected_alpn_protocol(), client=bool(tls.getpeercert()))
            if options.greet:
                tls.sendall(b"220 hello\r\n")
            while b"\r\n\r\n" not in got:
                data = tls.recv(4096)
                if not data:
                    break
                got += data
            if got:
                tls.sendall(b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(PAGE) + PAGE)
            tls.unwrap()
    except (ssl.SSLError, OSError) as error:
        end = str(error)
    say(event="end", bytes=len(got), how=end)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cert", required=True)
    parser.add_argument("--key", required=True)
    parser.add_argument("--tickets", type=int, default=2)
    parser.add_argument("--stateful", action="store_true")
    parser.add_argument("--tls12", action="store_true")
    parser.add_argument("--greet", action="store_true")
    parser.add_argument("--alpn")
    parser.add_argument("--curve")
    parser.add_argument("--client-ca")
    parser.add_argument("--instead", choices=["close", "silence", "text"])
    options = parser.parse_args()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(options.cert, options.key)
    context.num_tickets = options.tickets
    if options.stateful:
        context.options |= ssl.OP_NO_TICKET
    if options.tls12:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if options.alpn:
        context.set_alpn_protocols(options.alpn.split(","))
    if options.curve:
        context.set_ecdh_curve(options.curve)
    if options.client_ca:
        context.load_verify_locations(options.client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    listener = socket.create_server(("0.0.0.0", 0), backlog=64)
    say(event="listening", port=listener.getsockname()[1])
    while True:
        sock, _ = listener.accept()
        threading.Thread(target=serve, args=(options, context, sock), daemon=True).start()


if __name__ == "__main__":
    main()
