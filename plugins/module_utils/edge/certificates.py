"""The certificates of an edge's names: what a file holds, when the next order is due, and what is told of each.

A name has a certificate and a private key of its own, in one file named after it. `names.json` in the state directory
keeps what became of the orders, so that a back-off outlives the run and `status` can tell without asking anybody.
"""

from __future__ import annotations

import json
import re
import ssl
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.durable import read_json, write_durably
from ..host.errors import Damaged
from ..host.reading import record_of

# Where the role says that this edge orders certificates, and how; absent where it does not.
SETTINGS = Path("/etc/haproxy/acme.json")
# Let's Encrypt's directories (letsencrypt.org/docs/acme-protocol-updates, letsencrypt.org/docs/staging-environment).
DIRECTORIES = {
    "production": "https://acme-v02.api.letsencrypt.org/directory",
    "staging": "https://acme-staging-v02.api.letsencrypt.org/directory",
}
# In place of an authority, for a lab: the host signs for itself, and nobody trusts it.
SELF_SIGNED = "self-signed"
# What is issued there is for trying.
UNTRUSTED = (SELF_SIGNED, DIRECTORIES["staging"])
# The part of its life after which a certificate is renewed (letsencrypt.org/docs/integration-guide, when to renew).
RENEWED_AT = 2 / 3
HOUR, DAY = 3600.0, 86400.0
# What runs the orders, for whoever looks why there was none.
WHERE_TO_LOOK = "look at `systemctl status slipway-certificates.timer` and `journalctl -u slipway-certificates`"
# For how long browsers are told to stay with HTTPS (RFC 6797) where that is left to the host: after so many good
# seconds so many. First a week, which a mistake outlasts.
HSTS_AUTO = -1
HSTS = ((7 * DAY, int(7 * DAY)), (30 * DAY, int(365 * DAY)))
# Let's Encrypt takes five failed validations of a name an hour (letsencrypt.org/docs/rate-limits); one is kept in hand.
FAILED_IN_AN_HOUR = 4
RECORDS = "names.json"


@dataclass(frozen=True)
class Settings:
    """What the role wrote for the edge, see its variables of these names after `haproxy_acme_`; paths as text."""

    email: str
    directory: str
    listen: str
    certificates: str
    https_map: str
    socket: str
    state: str
    token: str
    pieces: str
    fallback_directory: str = ""
    staging_directory: str = ""
    ca_file: str = ""
    key_type: str = "ec256"
    addresses: Sequence[str] = ()
    metrics: str = ""
    eab: Mapping[str, str] = field(default_factory=dict, repr=False)
    fallback_eab: Mapping[str, str] = field(default_factory=dict, repr=False)
    dns_provider: str = ""
    dns_hook: str = ""
    dns_environment: Mapping[str, str] = field(default_factory=dict, repr=False)
    dns_resolvers: Sequence[str] = ()
    dns_check: bool = True
    hsts: int = 0
    hsts_map: str = ""

    @classmethod
    def load(cls, path: Path = SETTINGS) -> Optional[Settings]:
        """None where this edge orders no certificates. Raises Damaged and OSError."""
        try:
            found = read_json(path)
            known = {entry.name for entry in fields(cls)}
            return None if found is None else cls(**{name: found[name] for name in found if name in known})
        except (Damaged, TypeError) as error:
            raise Damaged(
                f"{path} is damaged ({error.__cause__ or error}), which says how certificates are ordered, so none is; "
                "run slipway.fleet.provision, which writes it again. What there is of certificates is served on"
            ) from error

    def authorities(self) -> list[str]:
        """Directories, the second one where it is named."""
        return [DIRECTORIES.get(one, one) for one in (self.directory, self.fallback_directory) if one]

    def rehearses_with(self) -> str:
        """The directory where a name is tried first, empty where there is none."""
        return DIRECTORIES.get(self.staging_directory, self.staging_directory)

    def binding(self, authority: str) -> Mapping[str, str]:
        """What an account with this authority is bound to, nothing where it is not."""
        of = dict(zip(self.authorities(), (self.eab, self.fallback_eab)))
        return of.get(authority, {})

    @property
    def by_dns(self) -> bool:
        """Whether a record of DNS shows whose a name is (DNS-01), and not an answer by HTTP."""
        return bool(self.dns_provider or self.dns_hook)

    @property
    def takes_stars(self) -> bool:
        """Whether a name that stands for all below another can have a certificate."""
        return self.by_dns or self.directory == SELF_SIGNED


@dataclass(frozen=True)
class Certificate:
    """What a file of PEM holds. Times are seconds since 1970."""

    begins: float
    ends: float
    issuer: str
    serial: str
    names: tuple[str, ...]

    def renewal(self) -> float:
        """From when it is to be renewed."""
        return renewal(self.begins, self.ends)


def renewal(begins: float, ends: float) -> float:
    """From when a certificate with this life is to be renewed."""
    return begins + (ends - begins) * RENEWED_AT


@dataclass(frozen=True)
class Record:
    """What became of the orders for a name. Times are seconds since 1970, 0 for never.

    `given`: the last order gave a certificate that was not taken, and the authority gives a few a week. `good`:
    since when the name has had a certificate that browsers trust, with no renewal overdue.
    """

    begins: float = 0.0
    ends: float = 0.0
    issuer: str = ""
    authority: str = ""
    tried: float = 0.0
    error: str = ""
    failures: int = 0
    failed: tuple[float, ...] = ()
    given: bool = False
    good: float = 0.0

    def succeeded(self, certificate: Certificate, authority: str, now: float) -> Record:
        return Record(certificate.begins, certificate.ends, certificate.issuer, authority, now, good=self.good)

    def overdue(self, now: float) -> bool:
        """Whether the next one should have come a day ago, or a sixth of its life: the timer looks every hour."""
        life = self.ends - self.begins
        return bool(self.ends) and now > renewal(self.begins, self.ends) + min(DAY, life / 6)

    def judged(self, now: float) -> Record:
        """With since when all is good, which begins anew where it is not."""
        trusted = self.authority not in UNTRUSTED
        good = trusted and self.ends > now and not self.overdue(now) and not not_yet(self.begins, now)
        return replace(self, good=(self.good or self.begins) if good else 0.0)

    def hsts(self, now: float) -> int:
        """Seconds for which browsers are to stay with HTTPS, 0 where that is too early."""
        return max((told for after, told in HSTS if self.good and now >= self.good + after), default=0)

    def refused(self, error: str, now: float, given: bool = False, counted: bool = True) -> Record:
        """After an order that gave nothing, or one that was not taken. What there is of a certificate stays.

        One that is not counted was tried where there are no limits to speak of.
        """
        failed = (*(at for at in self.failed if now - at < HOUR), *([now] if counted else ()))
        return replace(self, tried=now, error=error, failures=self.failures + 1, failed=failed, given=given)

    def settled(self) -> Record:
        """Where no order is due. What the authority counts stays."""
        return replace(self, error="", failures=0)

    def unasked(self, error: str) -> Record:
        """Where no order was placed; that counts against no limit of the authority."""
        return replace(self, error=error)


def parse(said: str) -> Certificate:
    """What `openssl x509` tells of a certificate, see `read`. Raises ValueError."""
    known = dict(line.split("=", 1) for line in said.splitlines() if "=" in line and not line.startswith(" "))
    try:
        issuer = known["issuer"].strip()
        name = re.search(r"\bCN ?= ?([^,+/]+)", issuer)
        return Certificate(
            begins=float(ssl.cert_time_to_seconds(known["notBefore"].strip())),
            ends=float(ssl.cert_time_to_seconds(known["notAfter"].strip())),
            issuer=name[1].strip() if name else issuer,
            serial=known["serial"].strip().lstrip("0").upper(),
            names=tuple(found.lower() for found in re.findall(r"DNS:([^\s,]+)", said)),
        )
    except KeyError as error:
        raise ValueError(f"no {error} in what openssl says of a certificate") from None


def read(path: Path) -> Optional[Certificate]:
    """The first certificate of a file; None where there is none that can be read."""
    if not path.is_file():
        return None
    asked = ["-startdate", "-enddate", "-serial", "-issuer", "-ext", "subjectAltName"]
    try:
        return parse(command.run(["openssl", "x509", "-in", str(path), "-noout", *asked], 10).stdout)
    except (command.CommandError, ValueError):
        return None


def in_a_path(name: str) -> str:
    """A name in that of a file; a star is written as lego does."""
    return name.replace("*", "_", 1)


def file_of(directory: Path, name: str) -> Path:
    """The file with the certificate and the key of a name."""
    return directory / f"{in_a_path(name)}.pem"


def due(certificate: Optional[Certificate], name: str, now: float) -> bool:
    """Whether an order is to be placed: there is none for the name, or it is old."""
    return certificate is None or name not in certificate.names or now >= certificate.renewal()


def next_order(record: Record, now: float, asked: bool) -> float:
    """From when the next order may be placed, in seconds since 1970.

    After a failure the timer waits for an hour, then two, four and so on, a day at most, and a day at once where the
    order gave a certificate that was not taken. Whoever asks for one waits
    only where the authority would refuse it, and everybody after it.
    """
    lately = [at for at in record.failed if now - at < HOUR]
    limit: float = lately[-FAILED_IN_AN_HOUR] + HOUR if len(lately) >= FAILED_IN_AN_HOUR else 0.0
    if asked or not record.failures:
        return limit
    return max(limit, record.tried + (DAY if record.given else min(HOUR * 2.0 ** (record.failures - 1), DAY)))


def load(state: Path) -> dict[str, Record]:
    """The records by name. Raises Damaged, and OSError.

    Without them nobody knows which orders failed lately, and an authority that is asked too often gives none for long.
    """
    path = state / RECORDS
    try:
        return {name: _record(entry) for name, entry in (read_json(path) or {}).items()}
    except ValueError as error:
        raise Damaged(
            f"{path} is damaged ({error.__cause__ or error}), so no certificate is ordered, renewed or removed, and "
            f"what there is is served on. Move it away (mv {path} {path}.damaged) and run `systemctl start "
            "slipway-certificates`: certificates are read from their own files. If orders failed in the last hours, "
            "wait a day before that: it is what kept them from being repeated too soon"
        ) from error


def _record(entry: Any) -> Record:
    """Raises ValueError."""
    if not isinstance(entry, dict):
        raise ValueError("what it has of a name is no object")
    found = record_of(Record, entry)
    return replace(found, failed=tuple(found.failed))


def store(state: Path, records: Mapping[str, Record]) -> None:
    """Raises OSError."""
    text = json.dumps({name: asdict(records[name]) for name in sorted(records)}, indent=2)
    write_durably(state / RECORDS, text + "\n", mode=0o600)


def told(records: Mapping[str, Record], now: float, hsts: int = 0) -> list[dict[str, Any]]:
    """For each name its days left (None without a certificate), who issued it, when it was renewed, and what failed.

    `overdue` is since when the next one should have come, see Record. `early` is one that is not valid yet by the clock
    of this host. `hsts` are the seconds for which browsers are told to stay with HTTPS, `hsts_from` when that begins.
    """
    return [_told(name, record, now, hsts) for name, record in sorted(records.items())]


def _told(name: str, record: Record, now: float, hsts: int) -> dict[str, Any]:
    since, by_itself = renewal(record.begins, record.ends), hsts == HSTS_AUTO
    lasts = record.hsts(now) if by_itself else hsts if record.ends else 0
    early = not_yet(record.begins, now)
    return {
        "name": name,
        "days": int((record.ends - now) // DAY) if record.ends else None,
        "issuer": record.issuer,
        "renewed": _day(record.begins),
        "tried": _day(record.tried),
        "error": record.error or early,
        "overdue": _day(since) if record.overdue(now) else "",
        "early": bool(early) and not record.error,
        "hsts": lasts,
        "hsts_from": _day(record.good + HSTS[0][0]) if by_itself and record.good and not lasts else "",
    }


def not_yet(begins: float, now: float) -> str:
    """What is wrong where a certificate is not valid yet by the clock of this host, empty where it is.

    Whose clock is wrong nobody here knows. An hour is what clocks may differ by.
    """
    if begins <= now + HOUR:
        return ""
    first, here = (time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(at)) for at in (begins, now))
    return (
        f"is valid from {first} on, and here it is {here}; compare `date -u` with that of another machine, and have "
        "this host's clock set (timedatectl)"
    )


def _day(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)) if at else ""


def drift(entries: Sequence[Mapping[str, Any]]) -> list[str]:
    """A sentence for each name that has no certificate, or whose next one did not come."""
    found = []
    for entry in entries:
        name, days, error = entry["name"], entry["days"], entry["error"]
        if entry.get("damaged"):
            found.append(error)
        elif days is None:
            found.append(f"{name} has no certificate yet: {error or 'none was ordered; run slipway.fleet.provision'}")
        elif days < 0:
            found.append(f"the certificate of {name} ended {-days} days ago: {error or untried(entry)}")
        elif entry.get("early"):
            found.append(f"the certificate of {name} {error}")
        elif error or entry.get("overdue"):
            found.append(
                f"the certificate of {name} ends in {days} days and was not renewed: {error or untried(entry)}"
            )
    return found


def untried(entry: Mapping[str, Any]) -> str:
    """Why the next certificate of a name did not come, where no order failed."""
    return f"its renewal is overdue since {entry['overdue']} and none was tried; {WHERE_TO_LOOK}"


def of_this_edge(settings: Path = SETTINGS, now: Optional[float] = None) -> list[dict[str, Any]]:
    """What is told of this host's certificates, none where its edge orders none.

    A file that cannot be read stands there with what to do, beside what the certificates' own files say.
    """
    now = time.time() if now is None else now
    try:
        found = Settings.load(settings)
    except (Damaged, OSError) as error:
        return [damaged(settings, error)]
    if found is None:
        return []
    try:
        return told(load(Path(found.state)), now, found.hsts)
    except (Damaged, OSError) as error:
        return [damaged(Path(found.state) / RECORDS, error), *told(of_files(Path(found.certificates)), now)]


def of_files(directory: Path) -> dict[str, Record]:
    """What the certificates themselves say, by name."""
    there = ((path, read(path)) for path in sorted(directory.glob("*.pem")))
    return {
        found.names[0] if found.names else path.stem: Record(found.begins, found.ends, found.issuer)
        for path, found in there
        if found
    }


def damaged(path: Path, error: Exception) -> dict[str, Any]:
    """What is told in the place of a name where a file of this host cannot be read."""
    empty = dict.fromkeys(("issuer", "renewed", "tried", "overdue"), "")
    return {**empty, "name": str(path), "days": None, "error": str(error), "early": False, "damaged": True}


def of_the_vault(path: Path, least: int, now: Optional[float] = None) -> list[dict[str, Any]]:
    """What is told of the certificate that a team renews itself; none where there is no such file.

    `least` are the days before its end from when it is to be renewed.
    """
    found = read(path)
    if found is None and path.is_file():
        why = "has no certificate that can be read, and HAProxy does not start with it; run slipway.fleet.provision"
        return [damaged(path, Damaged(f"{path} {why}"))]
    if found is None:
        return []
    days = int((found.ends - (time.time() if now is None else now)) // DAY)
    return [
        {
            "name": ", ".join(found.names) or str(path),
            "days": days,
            "issuer": found.issuer,
            "renewed": _day(found.begins),
            "tried": "",
            "error": "renew it in haproxy_tls_certificate, and provision" if days < least else "",
            "overdue": "",
        }
    ]


def metrics(records: Mapping[str, Record]) -> str:
    """For the textfile collector of a node exporter (prometheus.io/docs/instrumenting/exposition_formats)."""
    ends = [f'slipway_certificate_ends_seconds{{name="{name}"}} {records[name].ends:.0f}' for name in sorted(records)]
    failures = [f'slipway_certificate_failures{{name="{name}"}} {records[name].failures}' for name in sorted(records)]
    return "\n".join(
        [
            "# HELP slipway_certificate_ends_seconds When the certificate of a name ends, 0 without one.",
            "# TYPE slipway_certificate_ends_seconds gauge",
            *ends,
            "# HELP slipway_certificate_failures Orders in a row that gave no certificate.",
            "# TYPE slipway_certificate_failures gauge",
            *failures,
            "",
        ]
    )


def unwanted(directory: Path, wanted: Collection[str], now: float) -> list[Path]:
    """Files of names that no app has any more and whose certificates have ended.

    One that is valid stays: an app that comes back needs no order, of which an authority gives a few a week.
    """
    kept = {file_of(directory, name).name for name in wanted}
    return [
        path
        for path in sorted(directory.glob("*.pem"))
        if path.name not in kept and ((found := read(path)) is None or found.ends < now)
    ]
