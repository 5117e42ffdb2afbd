"""Certificates: the real authority, the rogue one that the client trusts as well, and client ones."""

import datetime
import hashlib
import ipaddress
import os

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

NAME = "server.example"
OTHER_NAME = "other.example"
_CA_USAGE = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


def _name(common):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


class Authority:
    """A certificate authority that writes what it issues into a folder."""

    def __init__(self, folder, name):
        self.folder, self.name = folder, name
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.cert = self._build(_name(f"{name} CA"), self.key.public_key(), None, None)
        self.cafile = os.path.join(folder, f"{name}-ca.pem")
        with open(self.cafile, "wb") as file:
            file.write(self.cert.public_bytes(serialization.Encoding.PEM))

    def _build(self, subject, public_key, alternatives, usage):
        now = datetime.datetime.now(datetime.timezone.utc)
        issuer = subject if alternatives is None and usage is None else self.cert.subject
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(issuer)
                   .public_key(public_key).serial_number(x509.random_serial_number())
                   .not_valid_before(now - datetime.timedelta(days=1))
                   .not_valid_after(now + datetime.timedelta(days=30)))
        is_ca = usage is None
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key),
                                        False)
        if is_ca:
            builder = builder.add_extension(_CA_USAGE, True)
        else:
            builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), False)
            builder = builder.add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), False)
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), False)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, label, names=(), addresses=(), client=False, bits=None):
        """Writes LABEL.pem and LABEL.key; returns both paths."""
        key = (rsa.generate_private_key(65537, bits) if bits
               else ec.generate_private_key(ec.SECP256R1()))
        alternatives = [x509.DNSName(name) for name in names]
        alternatives += [x509.IPAddress(ipaddress.ip_address(a)) for a in addresses]
        usage = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
        cert = self._build(_name(label), key.public_key(), alternatives, usage)
        cert_file = os.path.join(self.folder, f"{label}.pem")
        key_file = os.path.join(self.folder, f"{label}.key")
        with open(cert_file, "wb") as file:
            file.write(cert.public_bytes(serialization.Encoding.PEM))
        with open(os.open(key_file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(key.private_bytes(serialization.Encoding.PEM,
                                         serialization.PrivateFormat.PKCS8,
                                         serialization.NoEncryption()))
        return cert_file, key_file


class Pki:
    """Everything the tests need, in one folder."""

    def __init__(self, folder, addresses=()):
        self.folder = str(folder)
        self.real = Authority(self.folder, "real")
        self.rogue = Authority(self.folder, "rogue")
        self.clients = Authority(self.folder, "clients")
        self.name = NAME
        self.cert, self.key = self.real.issue("server", [NAME], addresses)
        self.other_cert, self.other_key = self.real.issue("other", [OTHER_NAME], addresses)
        self.rogue_cert, self.rogue_key = self.rogue.issue("rogue", [NAME], addresses)
        self.client_cert, self.client_key = self.clients.issue("alice", ["alice.example"],
                                                               client=True)
        # An RSA-4096 one: its Certificate and CertificateVerify overflow libssl's 4 KiB buffer, also
        # where libssl compresses certificates.
        self.big_client_cert, self.big_client_key = self.clients.issue(
            "bob", [f"{hashlib.sha256(bytes([n])).hexdigest()[:60]}.example" for n in range(120)],
            client=True, bits=4096)
        self.cafile = self.real.cafile
        # What a client with a rogue authority in its store trusts.
        self.bundle = os.path.join(self.folder, "bundle.pem")
        with open(self.bundle, "wb") as out:
            for authority in (self.real, self.rogue):
                with open(authority.cafile, "rb") as file:
                    out.write(file.read())
