"""A link with a delay: a TUN device to which a router sends what it would forward; each packet comes
back out of it after so many milliseconds, in order. delay_link.py DEVICE MILLISECONDS"""

import collections
import fcntl
import os
import select
import struct
import sys
import time

import common

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 1, 0x1000


def main(device, delay):
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(fd, TUNSETIFF, struct.pack("16sH22x", device.encode(), IFF_TUN | IFF_NO_PI))
    common.say(event="ready")
    queue = collections.deque()
    while True:
        wait = max(0, queue[0][0] - time.monotonic()) if queue else None
        if select.select([fd], [], [], wait)[0]:
            queue.append((time.monotonic() + delay, os.read(fd, 65536)))
        while queue and queue[0][0] <= time.monotonic():
            try:
                os.write(fd, queue.popleft()[1])
            except OSError:
                pass  # a router may drop


if __name__ == "__main__":
    main(sys.argv[1], float(sys.argv[2]) / 1000)
