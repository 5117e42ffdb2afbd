"""The manual pages and --help: the same flags, and for mtlsize the same synopsis, command by command."""

import pathlib
import re
import subprocess

import pytest

from mtlslab import tools

MAN = pathlib.Path(__file__).resolve().parent.parent.parent / "man"
SECTIONS = {"run": "mtlsize run", "check": "mtlsize check", "enable": "mtlsize enable, mtlsize disable",
            "disable": "mtlsize enable, mtlsize disable", "status": "mtlsize status"}


def help_of(*words):
    return subprocess.run([tools.tool(words[0]), *words[1:], "--help"], capture_output=True, text=True, check=True).stdout


def help_flags(text):
    """Of the rows, and of the usage lines above them."""
    usage = "\n".join(re.findall(r"^(?:usage: |       )(.*)", text.split("\n  ")[0] + text.split("\n\n")[0], re.M))
    return (set(re.findall(r"^  (?:-\w, |    )--([\w-]+)", text, re.M)) | set(re.findall(r"--([\w-]+)", usage))) - {"help"}


def man_flags(text):
    """Long flags: the words with a dash of .Fl macros."""
    found = set()
    for line in text.splitlines():
        if re.match(r"\.(.* )?Fl ", line):
            found |= set(re.findall(r"(?<= )-([\w-]+)", line))
    return found - {"help"}


def subsections(name):
    """Title and text of each .Ss."""
    page = (MAN / f"{name}.1").read_text(encoding="utf-8")
    parts = re.split(r"^\.(?:Ss|Sh) (.*)\n", page, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2]))


def check(documented, there):
    assert documented == there, f"in the manual alone: {documented - there}; in --help alone: {there - documented}"


@pytest.mark.parametrize("name", ["mtls-client", "mtls-server", "smkex-client", "smkex-server"])
def test_flags(name):
    check(man_flags((MAN / f"{name}.1").read_text(encoding="utf-8")), help_flags(help_of(name)))


@pytest.mark.parametrize("command", ["run", "check", "enable", "status"])
def test_mtlsize_flags(command):
    there = help_flags(help_of("mtlsize", command))
    if command == "enable":
        there |= help_flags(help_of("mtlsize", "disable"))
    check(man_flags(subsections("mtlsize")[SECTIONS[command]]), there)


def words(text):
    return re.findall(r"[a-z]+", text.lower())


@pytest.mark.parametrize("command", list(SECTIONS))
def test_mtlsize_synopsis(command):
    """run [flags] PROGRAM [ARGUMENT...]: the same words in the same order, and the same brackets."""
    synopsis = subsections("mtlsize")["SYNOPSIS"].split(".Nm\n")[1:]
    [mine] = [text for text in synopsis if words(text)[1] == command]
    usage = re.match(r"usage: mtlsize (.*)", help_of("mtlsize", command)).group(1)
    skip = {"op", "ar", "fl", "cm"}
    assert [word for word in words(mine) if word not in skip] == words(usage)
    assert len(re.findall(r"Op ", mine)) == usage.count("[")


def test_mtlsize_lists_its_commands():
    text = help_of("mtlsize").split("Commands:\n")[1].split("\n\n")[0]
    assert re.findall(r"^  (\w+) ", text, re.M) == list(SECTIONS)
