"""An OpenID Connect issuer of one's own on the loopback: keys, tokens, and HTTPS by a CA of its own."""

import contextlib
import http.server
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import jwt
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

AUDIENCE = "https://gateway.example.com"
PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


class SigningKey:
    """A key pair with its id: RSA for RS256, or on the curve P-256 for ES256."""

    def __init__(self, kid: str, algorithm: str = "RS256", bits: int = 2048) -> None:
        self.kid = kid
        self.algorithm = algorithm
        self.private: PrivateKey = (
            rsa.generate_private_key(65_537, bits)
            if algorithm == "RS256"
            else ec.generate_private_key(ec.SECP256R1())
        )

    @property
    def public(self) -> dict[str, Any]:
        """The public half as a key of a key set."""
        kind: Any = (
            jwt.algorithms.RSAAlgorithm if self.algorithm == "RS256" else jwt.algorithms.ECAlgorithm
        )
        half = json.loads(kind.to_jwk(self.private.public_key()))
        return {**half, "kid": self.kid, "use": "sig", "alg": self.algorithm}

    @property
    def pem(self) -> bytes:
        """The public half as text, which an attacker knows too."""
        return self.private.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    def sign(self, claims: Mapping[str, Any], **header: Any) -> str:
        """A token with these claims."""
        headers = {"kid": self.kid, **header}
        return jwt.encode(dict(claims), self.private, algorithm=self.algorithm, headers=headers)


def claims(issuer: str, **others: Any) -> dict[str, Any]:
    """What a token of a CI system says, good for five minutes; None takes a claim away."""
    now = int(time.time())
    said = {
        "iss": issuer,
        "aud": AUDIENCE,
        "iat": now,
        "nbf": now - 5,
        "exp": now + 300,
        "sub": "repo:octo/shop:ref:refs/heads/main",
        "repository_owner": "octo",
        "ref": "refs/heads/main",
        **others,
    }
    return {name: value for name, value in said.items() if value is not None}


def key_set(*keys: SigningKey) -> bytes:
    """The public halves as a key set."""
    return json.dumps({"keys": [key.public for key in keys]}).encode()


class Server:
    """An issuer that serves its discovery document and its keys; `asked` are the paths that were asked
    for. `documents` may be changed, and what is missing is a 404. `endless` is what it sends of an answer
    to some path: a beginning, and then one piece after the other."""

    def __init__(self, folder: Path, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self.asked: list[str] = []
        self.documents: dict[str, bytes | None] = {}
        self.endless: dict[str, tuple[bytes, bytes]] = {}
        self.authority = folder / "authority.pem"
        self._certificate = folder / "issuer.pem"
        write_certificates(self.authority, self._certificate)
        self._server: http.server.ThreadingHTTPServer | None = None
        self._port = 0

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._port}"

    def start(self) -> None:
        """Serves; again at the same address after a `stop`."""
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                server.asked.append(self.path)
                if self.path in server.endless:
                    self._trickle(*server.endless[self.path])
                    return
                text = server._text(self.path)
                self.send_response(404 if text is None else 200)
                self.end_headers()
                self.wfile.write(text or b"")

            def _trickle(self, beginning: bytes, piece: bytes) -> None:
                with contextlib.suppress(OSError):
                    self.wfile.write(beginning)
                    while True:
                        self.wfile.write(piece)
                        time.sleep(0.1)

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._port = self._server.server_address[1]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self._certificate)
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _text(self, path: str) -> bytes | None:
        path = path.partition("?")[0]
        if path in self.documents:
            return self.documents[path]
        if path == "/.well-known/openid-configuration":
            return json.dumps({"issuer": self.url, "jwks_uri": f"{self.url}/keys"}).encode()
        return key_set(*self.keys) if path == "/keys" else None


@contextlib.contextmanager
def serving(folder: Path, *keys: SigningKey) -> Iterator[Server]:
    """An issuer for the length of a block."""
    server = Server(folder, *keys)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def write_certificates(authority: Path, leaf: Path) -> None:
    """A CA, and what it signed for the loopback, with its key."""
    now = datetime.now(UTC)
    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    ca_name, name = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])
        for text in ("a CA for tests", "127.0.0.1")
    )

    def certificate(
        subject: x509.Name,
        public: ec.EllipticCurvePublicKey,
        *extensions: tuple[x509.ExtensionType, bool],
    ) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(ca_name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(hours=1))
            .not_valid_after(now + timedelta(days=1))
        )
        for extension, critical in extensions:
            builder = builder.add_extension(extension, critical)
        return builder.sign(ca_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    key_id = x509.SubjectKeyIdentifier.from_public_key(ca_key.public_key())
    usage = x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=True,
        encipher_only=False,
        decipher_only=False,
    )
    authority.write_bytes(
        certificate(
            ca_name,
            ca_key.public_key(),
            (x509.BasicConstraints(ca=True, path_length=0), True),
            (usage, True),
            (key_id, False),
        )
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    chain = certificate(
        name,
        key.public_key(),
        (x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(key_id), False),
    )
    leaf.write_bytes(private + chain)
