"""Certificates for servers of tests, which sign themselves."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest


def signed(folder: Path, host: str) -> Path:
    """Write a certificate for a host, which signs itself, and its key."""
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography makes a certificate")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = dt.datetime.now(dt.UTC)
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1))
    made = made.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    made = made.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    whole = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    whole += key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "both.pem").write_bytes(whole)
    return folder / "both.pem"
