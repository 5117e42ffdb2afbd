"""Processes inside namespaces, followed by what they print; no sleeps, every wait has a deadline."""

import json
import os
import signal
import subprocess
import threading
import time

DEADLINE = float(os.environ.get("MTLS_TEST_DEADLINE", "30"))
LIVE = []  # every Proc that was started and not yet forgotten; shown when a test fails


class ProcError(AssertionError):
    """A process did not do what was waited for; the text holds its log."""


class Proc:
    """One process. Its output is collected by threads, line by line or as bytes."""

    def __init__(self, argv, ns=None, name=None, cwd=None, env=None, stdin=None):
        self.name = name or os.path.basename(argv[0])
        self.argv = [str(word) for word in argv]
        # The process dies with us, also when we are killed; its group dies in stop().
        command = ["setpriv", "--pdeathsig", "KILL", "--"]
        if ns:
            command = ["ip", "netns", "exec", ns] + command
        self._changed = threading.Condition()
        self._bytes = {"stdout": bytearray(), "stderr": bytearray()}
        self._open = {"stdout", "stderr"}
        self.popen = subprocess.Popen(
            command + self.argv, cwd=cwd, env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True)
        LIVE.append(self)
        self._threads = [threading.Thread(target=self._collect, args=(stream,), daemon=True)
                         for stream in ("stdout", "stderr")]
        for thread in self._threads:
            thread.start()
        if isinstance(stdin, (bytes, bytearray)):
            feeder = threading.Thread(target=self._feed, args=(bytes(stdin),), daemon=True)
            self._threads.append(feeder)
            feeder.start()

    def _collect(self, stream):
        pipe = getattr(self.popen, stream)
        while True:
            data = pipe.read1(65536)
            with self._changed:
                if data:
                    self._bytes[stream] += data
                else:
                    self._open.discard(stream)
                self._changed.notify_all()
            if not data:
                pipe.close()
                return

    def _feed(self, data):
        try:
            self.popen.stdin.write(data)
            self.popen.stdin.close()
        except (BrokenPipeError, ValueError):
            pass

    def write(self, data):
        """Writes to standard input (the process was started with stdin=True)."""
        self.popen.stdin.write(data)
        self.popen.stdin.flush()

    def close_stdin(self):
        self.popen.stdin.close()

    @property
    def pid(self):
        return self.popen.pid

    @property
    def stdout(self):
        with self._changed:
            return bytes(self._bytes["stdout"])

    @property
    def stderr(self):
        with self._changed:
            return bytes(self._bytes["stderr"])

    def lines(self, stream="stderr"):
        """The complete lines so far, as text."""
        data = self.stdout if stream == "stdout" else self.stderr
        return data.decode(errors="replace").splitlines()

    def jsons(self, stream="stderr"):
        """Every line so far that is a JSON object."""
        found = []
        for line in self.lines(stream):
            if line.startswith("{"):
                try:
                    found.append(json.loads(line))
                except ValueError:
                    pass  # a line that is not complete yet
        return found

    def wait_until(self, test, what, timeout=None):
        """Waits until test() gives something true and returns it. test sees new output only."""
        limit = time.monotonic() + (timeout or DEADLINE)
        with self._changed:
            while True:
                found = test()
                if found:
                    return found
                left = limit - time.monotonic()
                if left <= 0 or not self._open:
                    found = test()
                    if found:
                        return found
                    raise ProcError(f"{self.name}: no {what}\n{self.log()}")
                self._changed.wait(left)

    def wait_text(self, text, stream="stdout", timeout=None):
        """Waits for a piece of text and returns the whole line it is in."""
        def test():
            for line in self.lines(stream):
                if text in line:
                    return line
            return None
        return self.wait_until(test, f"{text!r} on {stream}", timeout)

    def wait_json(self, stream="stderr", timeout=None, skip=0, **match):
        """Waits for a JSON line with these members; skip: how many such lines to pass over."""
        def test():
            fits = [line for line in self.jsons(stream)
                    if all(line.get(key) == value for key, value in match.items())]
            return fits[skip] if len(fits) > skip else None
        return self.wait_until(test, f"JSON line with {match}", timeout)

    def wait_listening(self, port, timeout=None, tables=("tcp", "tcp6")):
        """Waits until a TCP socket listens on port in the namespace of the process."""
        limit = time.monotonic() + (timeout or DEADLINE)
        wanted = f":{port:04X}"
        pause = threading.Event()
        while time.monotonic() < limit:
            if self.popen.poll() is not None:
                raise ProcError(f"{self.name} ended before it listened\n{self.log()}")
            for table in tables:
                try:
                    with open(f"/proc/{self.pid}/net/{table}", encoding="ascii") as rows:
                        for row in rows:
                            word = row.split()
                            if word[3] == "0A" and word[1].endswith(wanted):
                                return
                except OSError:
                    pass
            pause.wait(0.01)
        raise ProcError(f"{self.name} does not listen on port {port}\n{self.log()}")

    def wait(self, timeout=None):
        """Waits for the end; returns the exit code (negative: signal)."""
        try:
            self.popen.wait(timeout or DEADLINE)
        except subprocess.TimeoutExpired:
            raise ProcError(f"{self.name} did not end\n{self.log()}") from None
        for thread in self._threads:
            thread.join(5)
        return self.popen.returncode

    def send(self, number):
        """Sends a signal to the process alone."""
        self.popen.send_signal(number)

    def stop(self, number=signal.SIGTERM, timeout=10):
        """Ends the process and its group; the log stays."""
        if self.popen.poll() is None:
            try:
                os.killpg(self.popen.pid, number)
                self.popen.wait(timeout)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass
        try:
            os.killpg(self.popen.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.popen.wait()
        for thread in self._threads:
            thread.join(5)
        if self.popen.stdin and not self.popen.stdin.closed:
            try:
                self.popen.stdin.close()
            except BrokenPipeError:
                pass
        return self.popen.returncode

    def log(self, limit=6000):
        """What to show when a test fails."""
        parts = [f"$ {' '.join(self.argv)}", f"(exit {self.popen.poll()})"]
        for stream, data in (("stdout", self.stdout), ("stderr", self.stderr)):
            if data:
                text = data[-limit:].decode(errors="backslashreplace")
                parts.append(f"--- {stream}, {len(data)} bytes\n{text.rstrip()}")
        return "\n".join(parts)
