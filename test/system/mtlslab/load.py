"""Loads that run inside a namespace, as a program. One JSON line at each point that a test waits for.

load.py echo HOST PORT TOTAL AT-ONCE [hold]   TCP connections that send a few bytes and read them back;
                                              hold: all stay open until standard input ends
load.py flood HOST PORT COUNT                 path-2 connections: silent, half a preface, garbage, in turn
"""

import asyncio
import json
import os
import resource
import sys

PREFACE = bytes.fromhex("f04d544c53320d0a")


def say(**members):
    print(json.dumps(members), flush=True)


class Echo:
    def __init__(self, host, port, total, at_once, hold):
        self.host, self.port, self.total, self.hold = host, port, total, hold
        self.at_once = asyncio.Semaphore(at_once)
        self.right, self.wrong, self.open = 0, 0, []

    async def one(self, number):
        message = b"%08d" % number + os.urandom(24)
        async with self.at_once:
            try:
                reader, writer = await asyncio.open_connection(self.host, self.port)
                writer.write(message)
                got = await asyncio.wait_for(reader.readexactly(len(message)), 60)
                self.right += got == message
                self.wrong += got != message
                if self.hold:
                    self.open.append(writer)
                else:
                    writer.close()
            except (OSError, asyncio.IncompleteReadError, asyncio.TimeoutError):
                self.wrong += 1

    async def run(self):
        await asyncio.gather(*(self.one(number) for number in range(self.total)))
        say(event="done", right=self.right, wrong=self.wrong)
        if self.hold:
            await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


async def flood(host, port, count):
    kinds = [b"", PREFACE[:5], os.urandom(200), PREFACE + bytes(80)]
    writers = []
    for number in range(count):
        try:
            _, writer = await asyncio.open_connection(host, port)
        except OSError:
            continue
        writers.append(writer)
        writer.write(kinds[number % len(kinds)])
    say(event="done", open=len(writers))
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main():
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    what, host, port, *rest = sys.argv[1:]
    if what == "flood":
        asyncio.run(flood(host, int(port), int(rest[0])))
    else:
        asyncio.run(Echo(host, int(port), int(rest[0]), int(rest[1]), rest[2:] == ["hold"]).run())


if __name__ == "__main__":
    main()
