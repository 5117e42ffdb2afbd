"""TLS 1.3 of the system's libssl through ctypes, for the peer written from doc/protocol.md alone.

Memory BIOs: the caller decides when each byte of path 1 is read and written. Every handshake
message is kept for TH [KEY-1], and our extension is put in and taken out by callbacks [EXT-8].
"""

import ctypes as C

EXT_TYPE = 0xFF4D


class Failed(Exception):
    """The session fails [ERR-1], for this reason; alert is what path 1 may say."""

    def __init__(self, reason, alert=None):
        super().__init__(reason)
        self.alert = alert


SSL = C.CDLL("libssl.so.3")
CRYPTO = C.CDLL("libcrypto.so.3")
P, Z, I, B = C.c_void_p, C.c_size_t, C.c_int, C.c_char_p
MSG_CB = C.CFUNCTYPE(None, I, I, I, P, Z, P, P)
ADD_CB = C.CFUNCTYPE(I, P, C.c_uint, C.c_uint, C.POINTER(P), C.POINTER(Z), P, Z, C.POINTER(I), P)
PARSE_CB = C.CFUNCTYPE(I, P, C.c_uint, C.c_uint, P, Z, P, Z, C.POINTER(I), P)
TICKET_CB = C.CFUNCTYPE(I, P, P)


def declare(lib, table):
    for line in table.split(";"):
        name, result, *args = line.split()
        getattr(lib, name).restype = {"P": P, "I": I, "L": C.c_long, "-": None}[result]
        kinds = {"P": P, "I": I, "B": B, "Z": Z, "L": C.c_long, "M": MSG_CB, "T": TICKET_CB}
        getattr(lib, name).argtypes = [kinds[arg] for arg in args]


declare(SSL, """TLS_method P; SSL_CTX_new P P; SSL_CTX_free - P; SSL_CTX_ctrl L P I L P;
    SSL_CTX_set_ciphersuites I P B; SSL_CTX_use_certificate_chain_file I P B;
    SSL_CTX_use_PrivateKey_file I P B I; SSL_CTX_load_verify_locations I P B B;
    SSL_CTX_set_verify - P I P; SSL_CTX_set_msg_callback - P M;
    SSL_CTX_set_session_ticket_cb I P T P P; SSL_new P P; SSL_free - P; SSL_ctrl L P I L P;
    SSL_set1_host I P B; SSL_set_bio - P P P; SSL_set_connect_state - P;
    SSL_set_accept_state - P; SSL_do_handshake I P; SSL_get_error I P I; SSL_read I P P I;
    SSL_write I P B I; SSL_shutdown I P; SSL_session_reused I P; SSL_get_session P P;
    SSL_get1_session P P; SSL_set_session I P P; SSL_SESSION_free - P;
    SSL_SESSION_set1_ticket_appdata I P B Z; SSL_SESSION_get0_ticket_appdata I P P P;
    SSL_export_keying_material I P P Z B Z B Z I""")
SSL.SSL_CTX_add_custom_ext.argtypes = [P, C.c_uint, C.c_uint, ADD_CB, P, P, PARSE_CB, P]
declare(CRYPTO, """BIO_s_mem P; BIO_new P P; BIO_read I P P I; BIO_write I P B I;
    ERR_clear_error -; ERR_get_error L""")


class Context:
    """An SSL_CTX of TLS 1.3 alone with our extension, for either side."""

    def __init__(self, suites="TLS_AES_128_GCM_SHA256", groups=None, ca=None, cert=None, key=None):
        self.live = {}  # SSL pointer: Tls
        self.ctx = SSL.SSL_CTX_new(SSL.TLS_method())
        SSL.SSL_CTX_ctrl(self.ctx, 123, 0x304, None)  # least version
        assert SSL.SSL_CTX_set_ciphersuites(self.ctx, suites.encode())
        if groups:
            assert SSL.SSL_CTX_ctrl(self.ctx, 92, 0, groups.encode())
        if ca:
            assert SSL.SSL_CTX_load_verify_locations(self.ctx, str(ca).encode(), None)
            SSL.SSL_CTX_set_verify(self.ctx, 1, None)
        if cert:
            assert SSL.SSL_CTX_use_certificate_chain_file(self.ctx, str(cert).encode())
            assert SSL.SSL_CTX_use_PrivateKey_file(self.ctx, str(key).encode(), 1)
        self.callbacks = MSG_CB(self._message), ADD_CB(self._add), PARSE_CB(self._parse), \
            TICKET_CB(self._ticket)
        message, add, parse, ticket = self.callbacks
        SSL.SSL_CTX_set_msg_callback(self.ctx, message)
        # in ClientHello and EncryptedExtensions, nowhere else [EXT-8]
        assert SSL.SSL_CTX_add_custom_ext(self.ctx, EXT_TYPE, 0x480, add, None, None, parse, None)
        SSL.SSL_CTX_set_session_ticket_cb(self.ctx, ticket, None, None)

    def _message(self, write, _version, kind, data, size, ssl, _arg):
        tls = self.live[ssl]
        if kind == 22:
            tls.messages.append((bool(write) != tls.server, C.string_at(data, size)))

    def _add(self, ssl, _type, _where, out, size, _x, _chain, _alert, _arg):
        tls = self.live[ssl]
        tls.sent_ext = tls.extension(tls)
        if tls.sent_ext is None:
            return 0
        out[0], size[0] = C.cast(C.c_char_p(tls.sent_ext), P), len(tls.sent_ext)
        return 1

    def _parse(self, ssl, _type, _where, data, size, _x, _chain, alert, _arg):
        tls = self.live[ssl]
        try:
            tls.judge(C.string_at(data, size))
            return 1
        except Failed as error:
            tls.error, alert[0] = error, error.alert
            return 0

    def _ticket(self, ssl, _arg):
        record = self.live[ssl].record
        if record:
            SSL.SSL_SESSION_set1_ticket_appdata(SSL.SSL_get_session(ssl), record, len(record))
        return 1


class Tls:
    """One TLS connection in memory. extension(tls) gives what to send, judge(bytes) what came."""

    def __init__(self, context, server, extension, judge):
        self.context, self.server, self.extension, self.judge = context, server, extension, judge
        self.messages, self.error, self.record, self.done = [], None, None, False
        self.ssl = SSL.SSL_new(context.ctx)
        context.live[self.ssl] = self
        self.rbio, self.wbio = (CRYPTO.BIO_new(CRYPTO.BIO_s_mem()) for _ in range(2))
        SSL.SSL_set_bio(self.ssl, self.rbio, self.wbio)
        (SSL.SSL_set_accept_state if server else SSL.SSL_set_connect_state)(self.ssl)

    def expect(self, name):
        SSL.SSL_ctrl(self.ssl, 55, 0, C.cast(C.c_char_p(name.encode()), P))
        assert SSL.SSL_set1_host(self.ssl, name.encode())

    def feed(self, data):
        CRYPTO.BIO_write(self.rbio, data, len(data))

    def take(self):
        out, room = b"", C.create_string_buffer(16384)
        while (size := CRYPTO.BIO_read(self.wbio, room, 16384)) > 0:
            out += room.raw[:size]
        return out

    def _check(self, result):
        """True if it went through, False if it waits for bytes."""
        if result > 0:
            return True
        if SSL.SSL_get_error(self.ssl, result) == 2:
            return False
        raise self.error or Failed(f"TLS: {CRYPTO.ERR_get_error() & 0x7fffff}")

    def handshake(self):
        CRYPTO.ERR_clear_error()
        self.done = self._check(SSL.SSL_do_handshake(self.ssl))
        return self.done

    def read(self):
        """Application data, b"" at the end, None while there is none."""
        CRYPTO.ERR_clear_error()
        room = C.create_string_buffer(16384)
        size = SSL.SSL_read(self.ssl, room, 16384)
        if size <= 0 and SSL.SSL_get_error(self.ssl, size) == 6:
            return b""
        return room.raw[:size] if self._check(size) else None

    def write(self, data):
        self._check(SSL.SSL_write(self.ssl, data, len(data)))
        return self.take()

    def flight_written(self):
        return any(not client and m[0] == 20 for client, m in self.messages)

    def exported(self):
        """EK [KEY-3]; only once the handshake has got there [KEY-2]."""
        out = C.create_string_buffer(64)
        label = b"EXPORTER-Multipath-TLS-1"
        assert SSL.SSL_export_keying_material(self.ssl, out, 64, label, len(label), None, 0, 0) == 1
        return out.raw

    def appdata(self):
        data, size = P(), Z()
        SSL.SSL_SESSION_get0_ticket_appdata(SSL.SSL_get_session(self.ssl), C.byref(data),
                                            C.byref(size))
        return C.string_at(data, size.value) if size.value else b""

    def free(self):
        if self.ssl:
            SSL.SSL_free(self.ssl)
            del self.context.live[self.ssl]
            self.ssl = None
