"""Asks the edge of a host by TLS as its balancer does, and says in words what is wrong where that fails."""

from __future__ import annotations

import socket
import ssl
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import Optional

from .peers import ends, fingerprint, split

# What the edge answers itself, to balancers that have shown their certificate.
PAGE = "/.well-known/slipway-door"
PATIENCE = 3.0  # seconds for each step
_ASKED = f"GET {PAGE} HTTP/1.1\r\nHost: slipway-edge\r\nConnection: close\r\n\r\n".encode()
_BOTH = "provision the host and the balancer in one run"


def ask(where: str, certificates: Sequence[str], own: Path) -> str:
    """Why a host cannot be asked by TLS at ADDRESS:PORT; empty where it answers.

    Args:
        where: its door for balancers
        certificates: that it may show (PEM)
        own: file of the certificate and the key of this balancer
    """
    host, port = split(where)
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as trusted:
        trusted.write("".join(certificates))
        trusted.flush()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False  # it is known by its certificate
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_verify_locations(trusted.name)
        context.load_cert_chain(own)
    try:
        plain = socket.create_connection((host, int(port)), PATIENCE)
    except OSError as error:
        return f"no connection ({error}); let the balancer connect to TCP port {port} of the host in every firewall"
    with closing(plain):
        plain.settimeout(PATIENCE)
        try:
            connection = context.wrap_socket(plain)
        except ssl.SSLCertVerificationError as error:
            return _refused(where, error.verify_message)
        except OSError as error:
            return f"what listens there speaks no TLS 1.3 ({error}); look what has the port"
        with closing(connection):
            try:
                connection.sendall(_ASKED)
                answer = connection.recv(64)
            except OSError as error:
                # With TLS 1.3 whoever checks a certificate says no after the client believes to be connected.
                return f"it does not take the certificate of the balancer ({_short(error)}); {_BOTH}"
    if not answer.startswith(b"HTTP/1.1 200"):
        return f"what listens there is no edge of this collection, or one of an earlier version; {_BOTH}"
    return ""


def _refused(where: str, why: str) -> str:
    shown = _shown(where)
    if shown is None:
        return f"its certificate is refused: {why}"
    ended = ends(shown)
    if ended <= time.time():
        day = time.strftime("%Y-%m-%d", time.gmtime(ended))
        return f"its certificate (SHA-256 {fingerprint(shown)[:16]}) has ended on {day}; {_BOTH}"
    return f"it shows a certificate (SHA-256 {fingerprint(shown)[:16]}) that is not known here ({why}); {_BOTH}"


def _shown(where: str) -> Optional[str]:
    """The certificate that whoever listens there shows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    host, port = split(where)
    with suppress(OSError), socket.create_connection((host, int(port)), PATIENCE) as plain:
        plain.settimeout(PATIENCE)
        with context.wrap_socket(plain) as connection:
            shown = connection.getpeercert(binary_form=True)
            return ssl.DER_cert_to_PEM_cert(shown) if shown else None
    return None


def _short(error: OSError) -> str:
    return str(getattr(error, "reason", "") or error).replace("_", " ").lower()
