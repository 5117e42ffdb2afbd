"""A relay that writes down what a TLS connection looks like from outside: records, their sizes and order, the messages
that are in the clear with their extensions, alerts, and how each side closed."""

import random
import socket
import struct
import threading

TYPES = {20: "ccs", 21: "alert", 22: "handshake", 23: "data"}
CLIENT_HELLO, SERVER_HELLO = 1, 2
HELLO_RETRY = bytes.fromhex("cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c")


def extensions(data):
    """[(type, length)] in their order."""
    found = []
    if len(data) < 2:
        return found
    data = data[2:2 + struct.unpack(">H", data[:2])[0]]
    while len(data) >= 4:
        kind, length = struct.unpack(">HH", data[:4])
        found.append((kind, length))
        data = data[4 + length:]
    return found


def hello(kind, body):
    """Everything of a hello that is not random: version, session identifier's length, suites, compression, extensions."""
    at = 35 + body[34]
    head = (body[:2].hex(), body[34])
    if kind == CLIENT_HELLO:
        suites = body[at + 2:at + 2 + struct.unpack(">H", body[at:at + 2])[0]]
        at += 2 + len(suites)
        return head + (suites.hex(), body[at:at + 1 + body[at]].hex(), tuple(extensions(body[at + 1 + body[at]:])))
    return head + (body[at:at + 3].hex(), "retry" if body[2:34] == HELLO_RETRY else "hello",
                   tuple(extensions(body[at + 3:])))


def unused_port():
    """A port for a program that must be told one: below those that the kernel gives out, so that nobody gets it meanwhile."""
    for port in random.sample(range(20000, 32000), 100):
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
                return port
            except OSError:
                continue
    raise OSError("every port is in use")


class Direction:
    """One direction of a connection: a list of records, each (type, version, length), and of messages in the clear."""

    def __init__(self):
        self.records, self.messages, self.closed = [], [], None
        self.buffer, self.stream, self.clear = b"", b"", True

    def feed(self, data):
        self.buffer += data
        while len(self.buffer) >= 5:
            kind, version, length = struct.unpack(">BHH", self.buffer[:5])
            if len(self.buffer) < 5 + length:
                return
            self.record(kind, version, self.buffer[5:5 + length])
            self.buffer = self.buffer[5 + length:]

    def record(self, kind, version, body):
        name = TYPES.get(kind, str(kind))
        if kind == 21 and len(body) == 2:
            name = f"alert {body[0]} {body[1]}"
        self.records.append((name, version, len(body)))
        if kind == 20:
            self.clear = False  # in TLS 1.2; in 1.3 handshake records are in the clear all the same
        if kind == 22 and (self.clear or body[:1] in (b"\x01", b"\x02")):
            self.stream += body
            self.take()

    def take(self):
        while len(self.stream) >= 4:
            kind, length = self.stream[0], int.from_bytes(self.stream[1:4], "big")
            if len(self.stream) < 4 + length:
                return
            body, self.stream = self.stream[4:4 + length], self.stream[4 + length:]
            self.messages.append((kind, length, hello(kind, body) if kind in (CLIENT_HELLO, SERVER_HELLO) else ()))

    def extensions(self, number=0):
        """Of the number-th hello."""
        return [kind for kind, _ in self.messages[number][2][-1]]

    def __repr__(self):
        return f"records {self.records}\n  messages {self.messages}\n  closed {self.closed}"


class Connection:
    """What went over one connection."""

    def __init__(self):
        self.client, self.server = Direction(), Direction()

    def __repr__(self):
        return f"client: {self.client}\nserver: {self.server}"


class Recorder:
    """Relays to PORT on the loopback; use as a context manager. connections: one record each, in their order."""

    def __init__(self, port):
        self.target, self.connections, self._threads = port, [], []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(10)
        self.wait()

    def wait(self):
        """Until both directions of every connection so far are closed."""
        for thread in list(self._threads):
            thread.join(20)
            assert not thread.is_alive(), f"a connection does not end\n{self.connections[-1]}"

    def _accept(self):
        while True:
            try:
                client = self._listener.accept()[0]
            except OSError:
                return
            connection = Connection()
            self.connections.append(connection)
            try:
                server = socket.create_connection(("127.0.0.1", self.target))
            except OSError:
                client.close()
                continue
            for sock in (client, server):
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for words in ((client, server, connection, "client"), (server, client, connection, "server")):
                thread = threading.Thread(target=self._pump, args=words, daemon=True)
                self._threads.append(thread)
                thread.start()

    @staticmethod
    def _pump(source, sink, connection, side):
        direction = getattr(connection, side)
        while True:
            try:
                data = source.recv(65536)
            except OSError:  # a reset: passed on as an end, told apart by nobody who asks
                data = b""
            if not data:
                break
            direction.feed(data)
            try:
                sink.sendall(data)
            except OSError:
                pass
        direction.closed = f"after {len(direction.records)} records, {len(direction.buffer)} bytes"
        try:
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            pass


def differences(plain, hooked, slack=0):
    """What is not alike in two connections, as text. Tickets vary by a few bytes in themselves: the sizes of a hello that
    carries one, and of what a server sends behind its first flight, may differ by slack."""
    found = []
    for side in ("client", "server"):
        a, b = getattr(plain, side), getattr(hooked, side)
        if len(a.records) != len(b.records):
            found.append(f"{side}: {len(a.records)} records, {len(b.records)} records")
        for number, (one, other) in enumerate(zip(a.records, b.records)):
            if one[:2] != other[:2] or abs(one[2] - other[2]) > slack:
                found.append(f"{side}, record {number}: {one}, {other}")
        if not alike(a.messages, b.messages, slack):
            found.append(f"{side}, messages: {a.messages}, {b.messages}")
        if a.closed != b.closed:
            found.append(f"{side} closed {a.closed}, {b.closed}")
    return "\n".join(found)


def alike(a, b, slack):
    """Lengths within slack, everything else equal, at every depth; the number that leads a tuple is a type."""
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        if isinstance(a, tuple) and a[:1] != b[:1]:
            return False
        return len(a) == len(b) and all(alike(x, y, slack) for x, y in zip(a, b))
    if isinstance(a, int) and isinstance(b, int):
        return abs(a - b) <= slack
    return a == b
