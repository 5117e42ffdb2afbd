"""The module mtls.so as a user meets it: the openssl command, openssl.cnf, any program of libcrypto's.

Needs MTLS_BUILD, the build folder; no network namespace."""

import functools
import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

OPENSSL = "/usr/bin/openssl"
VECTORS = pathlib.Path(__file__).resolve().parent.parent / "vectors"
MODULES = pathlib.Path(os.environ["MTLS_BUILD"]) / "provider"
BOTH = ["-provider-path", str(MODULES), "-provider", "mtls", "-provider", "default"]


def openssl(*args, stdin=b"", cnf=None, ok=True):
    """Standard output as text; on ok=False standard error of a run that must fail."""
    env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "OPENSSL_MODULES": str(MODULES)}
    if cnf is not None:
        env["OPENSSL_CONF"] = str(cnf)
    run = subprocess.run([OPENSSL, *args], input=stdin, env=env, capture_output=True, timeout=60)
    text = f"{args}\n{run.stdout.decode()}\n{run.stderr.decode()}"
    assert (run.returncode == 0) == ok, text
    return (run.stdout if ok else run.stderr).decode()


def vectors(name):
    return [pytest.param(v, id=v["name"]) for v in json.loads((VECTORS / f"{name}.json").read_text())]


def write_cnf(path, providers, words=""):
    """providers: the order in the file; each is activated."""
    lines = ["openssl_conf = init", "[init]", "providers = list", "[list]"]
    lines += [f"{name} = {name}_section" for name in providers]
    for name in providers:
        lines += [f"[{name}_section]", "activate = 1"]
        if name == "mtls":
            lines.append(words)
    path.write_text("\n".join(lines) + "\n")
    return path


# ---- The module file


def needed_by(path):
    return subprocess.run(["readelf", "-d", path], check=True, capture_output=True, text=True).stdout


@functools.lru_cache(maxsize=None)
def libcrypto():
    """The file name of the libcrypto that the openssl command uses."""
    return re.search(r"libcrypto\.so\.\d+", needed_by(OPENSSL)).group(0)


def test_module_needs_libcrypto_alone_and_exports_its_entry():
    module = str(MODULES / "mtls.so")
    needed = needed_by(module)
    assert libcrypto() in needed
    assert "libssl" not in needed and "libmtls" not in needed
    symbols = subprocess.run(["nm", "-D", "--defined-only", module], check=True, capture_output=True,
                             text=True).stdout
    assert [line.split()[-1] for line in symbols.splitlines()] == ["OSSL_provider_init"]


def test_providers_are_listed():
    text = openssl("list", "-providers", "-verbose", *BOTH)
    mtls = text[text.index("\n  mtls\n"):]
    for word in ("name: Multipath TLS", "version: ", "status: active", "mtls-config"):
        assert word in mtls
    assert "\n  default\n" in text


def test_algorithms_are_listed():
    kdfs = openssl("list", "-kdf-algorithms", *BOTH)
    assert "MTLS1-EK @ mtls" in kdfs and "MTLS1-OBSERVED @ mtls" in kdfs
    assert "TLS13-KDF @ mtls" in kdfs and "TLS13-KDF @ default" in kdfs
    assert "MTLS1-PROOF @ mtls" in openssl("list", "-mac-algorithms", *BOTH)


# ---- openssl kdf, openssl mac


def kdf(vector, *more, secret=None, length=64, ok=True):
    return openssl("kdf", *BOTH, "-keylen", str(length), "-kdfopt", f"digest:{vector['in_hash']}", "-kdfopt",
                   f"hexkey:{secret or vector['in_exporter_master_secret']}", *more, "MTLS1-EK", ok=ok)


@pytest.mark.parametrize("vector", vectors("exporter"))
def test_kdf_gives_the_exporter_vectors(vector):
    assert kdf(vector).strip().replace(":", "").lower() == vector["out_ek"]
    secret = bytearray.fromhex(vector["in_exporter_master_secret"])
    secret[0] ^= 1
    assert kdf(vector, secret=secret.hex()).strip().replace(":", "").lower() != vector["out_ek"]


def test_kdf_refuses_with_a_reason():
    vector = json.loads((VECTORS / "exporter.json").read_text())[0]
    assert "mtls" in kdf(vector, length=63, ok=False)
    assert "output has the wrong length" in kdf(vector, length=32, ok=False)
    assert "key has the wrong length" in kdf(vector, secret="00" * 31, ok=False)
    assert "this protocol has no TLS exporter" in kdf(vector, "-kdfopt", "protocol:smkex1", ok=False)
    assert "no handshake was observed" in openssl("kdf", *BOTH, "-keylen", "130", "MTLS1-OBSERVED", ok=False)


def mac(data, key, *options, ok=True):
    opts = [word for option in (f"hexkey:{key}", *options) for word in ("-macopt", option)]
    return openssl("mac", *BOTH, *opts, "MTLS1-PROOF", stdin=data, ok=ok).strip().lower()


@pytest.mark.parametrize("vector", vectors("confirm"))
def test_mac_gives_the_confirmation_vectors(vector):
    th = bytes.fromhex(vector["in_th"])
    head = bytes([vector["in_version"], len(th)]) + th
    paths = len(vector["in_paths"])
    for p2, tag_s, tag_c in zip(vector["out_p2"], vector["out_tag_s"], vector["out_tag_c"]):
        server = head + bytes.fromhex(p2)
        client = server + bytes.fromhex(tag_s) + bytes([vector["in_k"], paths]) + bytes.fromhex(vector["out_d"])
        assert mac(server, vector["out_k_s"], "role:server") == tag_s
        assert mac(client, vector["out_k_c"], "role:client", "protocol:mtls1") == tag_c
        assert mac(server, vector["out_k_s"], "role:client") != tag_s
        assert mac(client[:-1], vector["out_k_c"], "role:client") != tag_c


def test_mac_refuses_with_a_reason():
    key = "07" * 32
    assert len(mac(b"x", key, "role:server")) == 64
    assert "role is missing" in mac(b"x", key, ok=False)
    assert "role is neither" in mac(b"x", key, "role:both", ok=False)
    assert "protocol is neither" in mac(b"x", key, "role:server", "protocol:tls", ok=False)
    assert "key has the wrong length" in mac(b"x", key + "07", "role:server", ok=False)


# ---- openssl.cnf


@pytest.mark.parametrize("order", [("default", "mtls"), ("mtls", "default")], ids=["default-first", "mtls-first"])
def test_openssl_cnf_activates_the_module_and_keeps_the_default_provider(tmp_path, order):
    cnf = write_cnf(tmp_path / "openssl.cnf", order, "policy = prefer")
    assert "\n  mtls\n" in openssl("list", "-providers", cnf=cnf)
    assert len(openssl("dgst", "-sha256", "-r", stdin=b"x", cnf=cnf).split()[0]) == 64
    assert len(openssl("mac", "-macopt", f"hexkey:{'07' * 32}", "-macopt", "role:server", "MTLS1-PROOF",
                       stdin=b"x", cnf=cnf).strip()) == 64


def test_without_the_default_provider_the_reason_is_told(tmp_path):
    cnf = write_cnf(tmp_path / "openssl.cnf", ["mtls"])
    text = openssl("kdf", "-keylen", "64", "-kdfopt", "digest:SHA256", "-kdfopt", f"hexkey:{'07' * 32}",
                   "MTLS1-EK", cnf=cnf, ok=False)
    assert "no other provider has the algorithm underneath" in text


WORDS = """
import ctypes, sys
crypto = ctypes.CDLL(sys.argv[1])
class Param(ctypes.Structure):
    _fields_ = [("key", ctypes.c_char_p), ("type", ctypes.c_uint), ("data", ctypes.c_void_p),
                ("size", ctypes.c_size_t), ("returned", ctypes.c_size_t)]
crypto.OSSL_PROVIDER_try_load.restype = ctypes.c_void_p
crypto.OSSL_PROVIDER_try_load.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int]
crypto.OSSL_PROVIDER_get_params.argtypes = [ctypes.c_void_p, ctypes.POINTER(Param)]
provider = crypto.OSSL_PROVIDER_try_load(None, b"mtls", 1)
text = ctypes.c_char_p()
params = (Param * 2)(Param(b"mtls-config", 6, ctypes.addressof(text), 0, 0))
ok = provider and crypto.OSSL_PROVIDER_get_params(provider, params)
print(text.value.decode() if ok else "refused")
"""


def words_of(cnf):
    """What any program reads from the provider in the default library context."""
    env = {"PATH": "/usr/bin:/bin", "OPENSSL_MODULES": str(MODULES), "OPENSSL_CONF": str(cnf)}
    return subprocess.run([sys.executable, "-c", WORDS, libcrypto()], env=env, check=True, capture_output=True, text=True,
                          timeout=60).stdout.strip()


def test_section_carries_the_words(tmp_path):
    cnf = tmp_path / "openssl.cnf"
    write_cnf(cnf, ["default", "mtls"], "policy = require\npath2 = local=192.0.2.7,port=4434\npath2.1 = dev=wlan0")
    assert words_of(cnf) == "policy=require path2=local=192.0.2.7,port=4434 path2=dev=wlan0"
    write_cnf(cnf, ["default", "mtls"], 'name = "a policy=off"')
    assert words_of(cnf) == "refused"
    write_cnf(cnf, ["default"])
    assert words_of(cnf) == ""


# ---- TLS with the module loaded


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificate")
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj",
            "/CN=server.test", "-days", "2", "-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem"))
    return folder


@pytest.mark.parametrize("query", [None, "?mtls.observer=yes"], ids=["plain-query", "observer-query"])
@pytest.mark.parametrize("order", [("default", "mtls"), ("mtls", "default")], ids=["default-first", "mtls-first"])
def test_tls_works_with_the_module_loaded(tmp_path, certificate, order, query):
    env = {"PATH": "/usr/bin:/bin", "OPENSSL_MODULES": str(MODULES),
           "OPENSSL_CONF": str(write_cnf(tmp_path / "openssl.cnf", order))}
    propquery = ["-propquery", query] if query else []
    server = subprocess.Popen([OPENSSL, "s_server", "-accept", "127.0.0.1:0", "-tls1_3", "-naccept", "1", "-rev",
                               "-cert", certificate / "cert.pem", "-key", certificate / "key.pem", *propquery],
                              env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    try:
        address = None
        for line in server.stdout:
            if line.startswith(b"ACCEPT "):
                address = line.split()[1].decode()
                break
        assert address is not None
        client = subprocess.run([OPENSSL, "s_client", "-connect", address, "-tls1_3", "-CAfile",
                                 certificate / "cert.pem", "-verify_return_error", "-quiet", *propquery],
                                env=env, input=b"stressed\nCLOSE\n", capture_output=True, timeout=30)
        assert b"desserts" in client.stdout, client.stderr.decode()
    finally:
        server.kill()
        server.communicate()
