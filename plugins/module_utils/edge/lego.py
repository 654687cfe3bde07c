"""One order by lego, the ACME client of the distribution, and what became of it in words for people."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from pathlib import Path

from ..host import command
from ..host.errors import SlipwayError
from . import account
from .certificates import SELF_SIGNED, Settings, in_a_path

# Seconds for one order: lego polls for 30 s for the validation and for 30 s for the certificate.
ORDER = 120.0
# By DNS: it waits until the record is at the name servers first, for most providers for 60 s at most.
ORDER_BY_DNS = 300.0
SIGNED_DAYS = 90
# Why it is revoked, as a number (RFC 5280, 5.3.1), and that it was before.
KEY_COMPROMISE, ALREADY = "1", "urn:ietf:params:acme:error:alreadyRevoked"
# Letters from which on a value may be a secret.
SECRET = 6
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
    "externalAccountRequired": "the authority takes only whom it knows; get a key identifier and an HMAC key from it",
}
# Where it is asked by DNS, in place of those.
ADVICE_BY_DNS = {
    "unauthorized": "the authority found another record or none; have the hook add its record beside those that are "
    "there, and end when the name servers have it",
    "dns": "the authority cannot resolve the name; look at the name servers of the domain and at DNSSEC",
}
# What lego says itself, and what helps.
ADVICE_ON_SETTINGS = {
    "Server requires External Account Binding": "set haproxy_acme_eab (haproxy_acme_fallback_eab for the second "
    "authority) to what the authority gave you",
    "unrecognized DNS provider": "correct haproxy_acme_dns_provider; `lego dnshelp` on the host lists them",
    "some credentials information are missing": "set them in haproxy_acme_dns_environment; `lego dnshelp -c PROVIDER` "
    "on the host tells which",
    "error presenting token": "the record was not made; look at what haproxy_acme_dns_environment has for it",
    "could not determine the zone": "this host finds no name servers of the domain; name resolvers that do in "
    "haproxy_acme_dns_resolvers",
    "time limit exceeded": "the record did not come to all name servers of the domain in time; where this host cannot "
    "ask them, set haproxy_acme_dns_check: false",
}
# That an authority knows the account no more, as one that was set up anew (RFC 8555, 6.7); another one costs nothing.
FORGOTTEN = "urn:ietf:params:acme:error:accountDoesNotExist"
_KIND = re.compile(r"urn:ietf:params:acme:error:(\w+)")
# Of an authority itself, and not of the name.
_AWAY = re.compile(r"get directory at|did not end within|:acme:error:(rateLimited|serverInternal)\b")
# How lego begins its lines, and those that tell how it goes.
_NOISE = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d (\[\w+\] )?", re.MULTILINE)
_PROGRESS = re.compile(r"^\d{4}/\d\d/\d\d \d\d:\d\d:\d\d \[\w+\] .*$", re.MULTILINE)
_ADVERBS = re.compile(r"(?s).*?(?=Could not |Server requires |error: )")
# What a hook wrote while it made its record, which lego shows as it is.
_HOOK = re.compile(r"(?ms)acme: Preparing to solve DNS-01\s*\n(.*?)^\[[^]\n]+\] acme: (?:Cleaning|Trying)")


class OrderFailed(SlipwayError):
    """An authority gave no certificate; the text has its words and what to do."""


class Away(OrderFailed):
    """An authority did not answer, or takes nothing now: nothing is known of the name."""


def patience(settings: Settings) -> float:
    """Seconds that one order may take."""
    return ORDER_BY_DNS if settings.by_dns else ORDER


def words(output: str, by_dns: bool = False) -> str:
    """Why lego gave no certificate, in the authority's words and on one line, with what to do."""
    plain = " ".join(_ADVERBS.sub("", _NOISE.sub("", _PROGRESS.sub("", output)), count=1).split())
    kind = _KIND.search(plain)
    known = {**ADVICE, **(ADVICE_BY_DNS if by_dns else {})}
    advice = known.get(kind[1], "") if kind else ""
    advice = advice or next((what for said, what in ADVICE_ON_SETTINGS.items() if said in plain), "")
    said = plain[-600:] or "the client said nothing"
    if by_dns and (told := _HOOK.search(_NOISE.sub("", output))) and told[1].strip():
        said = f"{said} (the hook said: {' '.join(told[1].split())[-300:]})"
    return f"{said}; {advice}" if advice else said


def order(settings: Settings, authority: str, name: str, limit: float) -> tuple[str, str]:
    """Order one certificate; returns the chain and the key as PEM, which are kept nowhere else.

    Raises OrderFailed, and CommandError where there is no client.
    """
    if authority == SELF_SIGNED:
        return _signed_here(settings, name, limit)
    home = _home(settings, authority)
    ran = _run(settings, authority, name, ["run"], limit)
    if ran.returncode and FORGOTTEN in ran.stdout:
        shutil.rmtree(home / "accounts", ignore_errors=True)
        ran = _run(settings, authority, name, ["run"], limit)
    try:
        if ran.returncode:
            said = _without_secrets(settings, ran.stdout + ran.stderr)
            kind = Away if _AWAY.search(said) else OrderFailed
            raise kind(f"{authority} gave none: {words(said, settings.by_dns)}")
        chain, key, *_ = _files(home, name)
        return chain.read_text(encoding="utf-8"), key.read_text(encoding="utf-8")
    except OSError as error:
        raise OrderFailed(f"{authority} gave none that can be read: {error}") from error
    finally:
        _forget(home, name)


def revoke(settings: Settings, authority: str, name: str, chain: str, limit: float) -> None:
    """Have an authority tell everybody not to believe a certificate any more, since somebody else has its key.

    Args:
        settings: of this edge
        authority: the directory of who issued it
        name: whose it was
        chain: the certificate as PEM
        limit: seconds

    Raises OrderFailed with the authority's words, and CommandError where there is no client.
    """
    home = _home(settings, authority)
    place = _files(home, name)[0]
    place.parent.mkdir(mode=0o700, exist_ok=True)
    try:
        place.write_text(chain, encoding="utf-8")
        ran = _run(settings, authority, name, ["revoke", "--keep", "--reason", KEY_COMPROMISE], limit)
        if ran.returncode and ALREADY not in ran.stdout:
            said = " ".join(_NOISE.sub("", ran.stdout + ran.stderr).split())[-600:]
            raise OrderFailed(f"{authority} did not revoke it: {said}")
    finally:
        _forget(home, name)


def _home(settings: Settings, authority: str) -> Path:
    """Where lego keeps what it has of one authority."""
    home = Path(settings.state) / "lego" / re.sub(r"[^a-z0-9.]+", "-", authority.lower().partition("//")[2]).strip("-")
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    return home


def _files(home: Path, name: str) -> list[Path]:
    """What lego leaves of a certificate: chain, key, and what nobody needs."""
    return [home / "certificates" / f"{in_a_path(name)}{end}" for end in (".crt", ".key", ".issuer.crt", ".json")]


def _forget(home: Path, name: str) -> None:
    for path in _files(home, name):
        path.unlink(missing_ok=True)


def _run(settings: Settings, authority: str, name: str, verb: list[str], limit: float) -> command.Ran:
    """Raises OrderFailed where an account cannot be made, and CommandError."""
    home = _home(settings, authority)
    if wrong := account.damage(home, authority, settings.email):
        raise OrderFailed(wrong)
    environment = {"PATH": os.defpath, "HOME": settings.state}
    if settings.ca_file:
        environment |= {"LEGO_CA_CERTIFICATES": settings.ca_file, "LEGO_CA_SYSTEM_CERT_POOL": "true"}
    argv = [
        *("lego", "--accept-tos", "--email", settings.email, "--server", authority, "--path", str(home)),
        *("--key-type", settings.key_type, *_bound(settings, authority, home)),
    ]
    if settings.by_dns:
        argv += ["--dns", settings.dns_provider or "exec", *([] if settings.dns_check else ["--dns.disable-cp"])]
        argv += [word for one in settings.dns_resolvers for word in ("--dns.resolvers", one)]
        environment |= {**settings.dns_environment, **({"EXEC_PATH": settings.dns_hook} if settings.dns_hook else {})}
    else:
        argv += ["--http", "--http.port", settings.listen]
    return command.run([*argv, "--domains", name, *verb], limit, environment, merge=True)


def _bound(settings: Settings, authority: str, home: Path) -> list[str]:
    """What tells lego that the account is bound, once it is there. Raises OrderFailed."""
    binding = account.Binding.of(settings.binding(authority))
    if not binding:
        return []
    if not account.is_there(home, authority, settings.email):
        try:
            account.make(home, authority, settings.email, binding, settings.ca_file)
        except (account.Unbound, OSError, ValueError) as error:
            raise OrderFailed(
                f"{authority} made no account that is bound to {binding.kid}: {error}; look at haproxy_acme_eab "
                "(haproxy_acme_fallback_eab), and whether the authority takes its key once only"
            ) from error
    return ["--eab"]


def _without_secrets(settings: Settings, output: str) -> str:
    """What a hook or a provider wrote, which may have what it got."""
    for value in sorted(map(str, settings.dns_environment.values()), key=len, reverse=True):
        output = output.replace(value, "***") if len(value) >= SECRET else output
    return output


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
