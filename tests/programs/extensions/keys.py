"""cryptography: tokens, keys, signatures and a certificate, all of entropy that its own OpenSSL draws."""

import datetime
import os

from cryptography import x509
from cryptography.fernet import Fernet
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

SHA256 = hashes.SHA256()
PEM = serialization.Encoding.PEM

token = Fernet(Fernet.generate_key()).encrypt(b"a message")
print(token, AESGCM(AESGCM.generate_key(128)).encrypt(os.urandom(12), b"a message", None))

key = rsa.generate_private_key(65537, 2048)
print(key.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()).decode())
print(key.sign(b"a message", padding.PSS(padding.MGF1(SHA256), 32), SHA256).hex())
print(ec.generate_private_key(ec.SECP256R1()).sign(b"a message", ec.ECDSA(SHA256)).hex())
print(ed25519.Ed25519PrivateKey.generate().sign(b"a message").hex())

now = datetime.datetime.now(datetime.timezone.utc)
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
certificate = (
    x509.CertificateBuilder()
    .subject_name(name)
    .issuer_name(name)
    .public_key(key.public_key())
    .serial_number(x509.random_serial_number())
    .not_valid_before(now)
    .not_valid_after(now + datetime.timedelta(1))
    .sign(key, SHA256)
)
print(certificate.public_bytes(PEM).decode())
