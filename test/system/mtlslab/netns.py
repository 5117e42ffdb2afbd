"""Network namespaces whose names say which process made them.

A name is mtls<pid>-<counter>-<role>: parallel runs do not collide, and what a crashed run left
behind is recognised by its dead pid and removed.
"""

import itertools
import os
import re
import shutil
import signal
import subprocess

_COUNTER = itertools.count(1)
_NAME = re.compile(r"^mtls(\d+)-\d+-\w+$")
ETC = "/etc/netns"


class NetError(RuntimeError):
    """An ip, nft or sysctl command failed; the text is what it said."""


def ip_batch(ns, lines):
    """Runs the lines as one `ip -batch` inside ns (None: outside of every namespace of ours)."""
    command = ["ip"] + (["-n", ns] if ns else []) + ["-batch", "-"]
    done = subprocess.run(command, input="\n".join(lines) + "\n", text=True, capture_output=True,
                          check=False)
    if done.returncode != 0:
        raise NetError(f"{' '.join(command)}: {done.stderr.strip()}\n" + "\n".join(lines))


def ip(ns, *words):
    """One ip command inside ns; returns its standard output."""
    done = subprocess.run(["ip", "-n", ns, *words], text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise NetError(f"ip -n {ns} {' '.join(words)}: {done.stderr.strip()}")
    return done.stdout


def nft(ns, rules):
    """Loads nftables rules (text) inside ns; returns what a list command printed."""
    done = subprocess.run(["ip", "netns", "exec", ns, "nft", "-f", "-"], input=rules, text=True,
                          capture_output=True, check=False)
    if done.returncode != 0:
        raise NetError(f"nft in {ns}: {done.stderr.strip()}\n{rules}")
    return done.stdout


def new_prefix():
    """A prefix for the names of one laboratory."""
    return f"mtls{os.getpid()}-{next(_COUNTER)}"


def create(name, sysctls):
    """Makes a namespace, its own folder over /etc, and sets its sysctls."""
    ip_batch(None, [f"netns add {name}"])
    os.makedirs(os.path.join(ETC, name), exist_ok=True)
    ip_batch(name, ["link set lo up"])
    sysctl(name, sysctls)


def sysctl(name, sysctls):
    """Sets kernel parameters inside a namespace."""
    text = "\n".join(f"{key} = {value}" for key, value in sysctls.items()) + "\n"
    done = subprocess.run(["ip", "netns", "exec", name, "sysctl", "-q", "-p", "-"], input=text,
                          text=True, capture_output=True, check=False)
    if done.returncode != 0:
        raise NetError(f"sysctl in {name}: {done.stderr.strip()}")


def delete(name):
    """Ends every process inside the namespace and removes it. Never raises: it runs in clean-ups."""
    found = subprocess.run(["ip", "netns", "pids", name], text=True, capture_output=True,
                           check=False)
    for pid in found.stdout.split():
        try:
            os.kill(int(pid), signal.SIGKILL)
        except (ProcessLookupError, ValueError):
            pass
    subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
    shutil.rmtree(os.path.join(ETC, name), ignore_errors=True)


def remove_stale():
    """Removes namespaces whose maker is dead."""
    listed = subprocess.run(["ip", "netns", "list"], text=True, capture_output=True, check=False)
    names = {line.split()[0] for line in listed.stdout.splitlines() if line.strip()}
    if os.path.isdir(ETC):
        names.update(os.listdir(ETC))
    for name in sorted(names):
        match = _NAME.match(name)
        if match and not os.path.isdir(f"/proc/{match.group(1)}"):
            delete(name)
