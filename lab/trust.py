"""The certificate authorities that this machine trusts beyond those of its distribution.

Behind a proxy that inspects TLS, images and hosts need the proxy's authority as well. Verification is never turned off.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----\s.*?-----END CERTIFICATE-----", re.DOTALL)
_BUNDLES = (
    Path("/etc/ssl/certs/ca-certificates.crt"),  # Debian, Ubuntu, Alpine, Arch
    Path("/etc/pki/tls/certs/ca-bundle.crt"),  # Fedora and its relatives
    Path("/etc/ssl/ca-bundle.pem"),  # SUSE
    Path("/etc/ssl/cert.pem"),  # macOS
)
_DISTRIBUTION = Path("/usr/share/ca-certificates")


def certificates(pem: str) -> list[str]:
    """Return each certificate of a PEM bundle once, in its order, without what stands around them."""
    return list(dict.fromkeys(_CERTIFICATE.findall(pem.replace("\r\n", "\n"))))


def extra_authorities() -> list[str]:
    """Return the PEM certificates that an image needs in addition to those of its own distribution.

    The bundle is the one SSL_CERT_FILE names, else the system's. Where the distribution keeps its own authorities
    apart (Debian does) only the others are returned, else all of them.
    """
    named = os.environ.get("SSL_CERT_FILE")
    candidates = (Path(named),) if named else _BUNDLES
    bundle = next((path for path in candidates if path.is_file()), None)
    if bundle is None:
        return []
    known = {
        certificate
        for path in _DISTRIBUTION.rglob("*.crt")
        for certificate in certificates(path.read_text(errors="replace"))
    }
    return [certificate for certificate in certificates(bundle.read_text(errors="replace")) if certificate not in known]


def write(directory: Path, authorities: list[str]) -> None:
    """Write one certificate per file, the way ``update-ca-certificates`` wants them; the directory may stay empty."""
    directory.mkdir(parents=True, exist_ok=True)
    for number, certificate in enumerate(authorities, start=1):
        (directory / f"authority-{number:03}.crt").write_text(certificate + "\n")
