"""One order by lego, the ACME client of the distribution, and what became of it in words for people."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from ..host import command
from ..host.errors import SlipwayError
from .certificates import SELF_SIGNED, Settings

# Seconds for one order: lego polls for 30 s for the validation and for 30 s for the certificate.
ORDER = 120.0
SIGNED_DAYS = 90
# What openssl calls the kinds of keys.
KEYS = {
    "ec256": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
    "ec384": ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"),
    "rsa2048": ("-newkey", "rsa:2048"),
    "rsa4096": ("-newkey", "rsa:4096"),
}
# What helps where an authority says why (RFC 8555, 6.7).
ADVICE = {
    "connection": "port 80 of every address of the name must be open to the internet and lead to this edge",
    "unauthorized": "something else answers under this name; look at its A and AAAA records and at proxies in between",
    "dns": "the authority cannot resolve the name; look at its A and AAAA records and at DNSSEC",
    "caa": "a CAA record of the domain forbids this authority; add it there",
    "rateLimited": "the authority takes no more orders for now; try with haproxy_acme_directory: staging until it does",
    "rejectedIdentifier": "the authority issues nothing for this name; take it out of fastapi_app_host_names",
}
# That an authority knows the account no more, as one that was set up anew (RFC 8555, 6.7); another one costs nothing.
FORGOTTEN = "urn:ietf:params:acme:error:accountDoesNotExist"
_KIND = re.compile(r"urn:ietf:params:acme:error:(\w+)")
# How lego begins its lines.
_NOISE = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\[\w+\] )?", re.MULTILINE)
_ADVERBS = re.compile(r"(?s).*?(?=Could not |error: )")


class OrderFailed(SlipwayError):
    """An authority gave no certificate; the text has its words and what to do."""


def words(output: str) -> str:
    """Why lego gave no certificate, in the authority's words and on one line, with what to do."""
    plain = " ".join(_ADVERBS.sub("", _NOISE.sub("", output), count=1).split())
    kind = _KIND.search(plain)
    advice = ADVICE.get(kind[1], "") if kind else ""
    said = plain[-600:] or "the client said nothing"
    return f"{said}; {advice}" if advice else said


def order(settings: Settings, authority: str, name: str, limit: float) -> tuple[str, str]:
    """Order one certificate; returns the chain and the key as PEM, which are kept nowhere else.

    Raises OrderFailed, and CommandError where there is no client.
    """
    if authority == SELF_SIGNED:
        return _signed_here(settings, name, limit)
    home = Path(settings.state) / "lego" / re.sub(r"[^a-z0-9.]+", "-", authority.lower().partition("//")[2]).strip("-")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    environment = {"PATH": os.defpath, "HOME": settings.state}
    if settings.ca_file:
        environment |= {"LEGO_CA_CERTIFICATES": settings.ca_file, "LEGO_CA_SYSTEM_CERT_POOL": "true"}
    argv = [
        *("lego", "--accept-tos", "--email", settings.email, "--server", authority, "--path", str(home)),
        *("--key-type", settings.key_type, "--http", "--http.port", settings.listen, "--domains", name, "run"),
    ]
    ran = command.run(argv, limit, environment, merge=True)
    if ran.returncode and FORGOTTEN in ran.stdout:
        shutil.rmtree(home / "accounts", ignore_errors=True)
        ran = command.run(argv, limit, environment, merge=True)
    made = [home / "certificates" / f"{name}{end}" for end in (".crt", ".key", ".issuer.crt", ".json")]
    try:
        if ran.returncode:
            raise OrderFailed(f"{authority} gave none: {words(ran.stdout + ran.stderr)}")
        return made[0].read_text(encoding="utf-8"), made[1].read_text(encoding="utf-8")
    except OSError as error:
        raise OrderFailed(f"{authority} gave none that can be read: {error}") from error
    finally:
        for path in made:
            path.unlink(missing_ok=True)


def _signed_here(settings: Settings, name: str, limit: float) -> tuple[str, str]:
    """The same without an authority. Raises OrderFailed."""
    with tempfile.TemporaryDirectory(dir=settings.state) as directory:
        key, chain = Path(directory, "key.pem"), Path(directory, "chain.pem")
        about = ["-subj", "/CN=self-signed", "-addext", f"subjectAltName=DNS:{name}", "-days", str(SIGNED_DAYS)]
        where = ["-keyout", str(key), "-out", str(chain)]
        ran = command.run(["openssl", "req", "-x509", "-nodes", *KEYS[settings.key_type], *about, *where], limit)
        if ran.returncode:
            raise OrderFailed(f"openssl signed none: {ran.said[-600:]}")
        return chain.read_text(encoding="utf-8"), key.read_text(encoding="utf-8")
