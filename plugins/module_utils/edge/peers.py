"""By which certificates the balancers and the hosts behind them know each other, and which hosts are asked by TLS.

There is no authority. Each edge makes a key, which stays where it is made, and a certificate that it signs itself;
the play carries certificates alone, so what proves whose one is is the connection of Ansible. An edge believes exactly
the certificates that it was given.

    own.pem                     certificate and key in use
    next.pem                    the same of the next ones, until every edge that has to do with this one knows them
    former.pem                  certificate that was in use before; its key is gone
    hosts/APP/HOST.pem          on a balancer: what a host may show that is asked by TLS
    balancers/APP/BALANCER.pem  on a host: what a balancer may show
    balancers.pem               on a host: all of those, which HAProxy reads

A balancer is told which certificate comes next long before it comes, and asks a host by TLS only after it has done so
itself; so no order of hosts, and no host that is left out or away, takes requests from one.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import re
import secrets
import shutil
import ssl
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from ..host import command
from ..host.durable import write_durably
from ..host.errors import SlipwayError

Address = Union[ipaddress.IPv4Address, ipaddress.IPv6Address]
Network = Union[ipaddress.IPv4Network, ipaddress.IPv6Network]
Look = Mapping[str, Any]
"""What `Peers.look` said on another edge."""

DAY = 86400
# A certificate is replaced when somebody provisions, so it lives long enough for those who seldom do.
LIFE_DAYS, REPLACED_DAYS = 3650, 365
# Seconds for which the next one waits at least: no clock of the fleet is that far behind.
SETTLES = DAY
# Before its end, from when it is told: nobody has provisioned for years then.
TOLD_DAYS = 90
HOSTS, BALANCERS = "hosts", "balancers"
NOT_KNOWN = "its certificate is not known here; provision the host and the balancer in one run"
NO_OWN = "this balancer has no certificate of its own with a key; provision the host and the balancer in one run"
CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_SERVER = re.compile(r"^    server (\S+) \S+:\d+(?P<tls> ssl )?", re.MULTILINE)
# RFC 1918 and RFC 4193; the ranges of documentation and of carriers are no private networks of anybody.
_PRIVATE = tuple(map(ipaddress.ip_network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "fc00::/7")))
_REQUEST = """
[req]
distinguished_name = whose
x509_extensions = what
prompt = no
[whose]
CN = {name}
[what]
basicConstraints = critical,CA:FALSE
keyUsage = critical,digitalSignature
extendedKeyUsage = serverAuth,clientAuth
subjectKeyIdentifier = hash
"""


class PeersError(SlipwayError):
    """Certificates of edges cannot be made or used; the text says what to do."""


def asks_by_tls(setting: str, addresses: Sequence[Address], networks: Sequence[Network]) -> bool:
    """Whether a balancer is to ask a host by TLS.

    By itself it does where somebody else may listen on the way. It takes a way for private that leads to a private
    address in a network in which the balancer has an address itself: such packets pass no router. A private address
    elsewhere is behind one, perhaps of another company or over a line that somebody leases.

    Args:
        setting: `haproxy_tls_to_hosts`: auto, true or false
        addresses: of the host, as the balancer finds it; none where its name is not known
        networks: in which the balancer has addresses
    """
    if setting != "auto":
        return setting == "true"
    return not addresses or not all(_stays_private(one, networks) for one in addresses)


def _stays_private(address: Address, networks: Sequence[Network]) -> bool:
    if address.is_loopback or address.is_link_local:
        return True
    return any(address in of for of in _PRIVATE) and any(address in of for of in networks)


def split(where: str) -> tuple[str, str]:
    """Host and port of `ADDRESS:PORT`; an IPv6 address has brackets."""
    host, _, port = where.rpartition(":")
    return host.strip("[]"), port


def at_the_door(where: str, port: int) -> str:
    """Where a host is asked by TLS, of where it is asked without."""
    return f"{where.rpartition(':')[0]}:{port}"


def certificates_of(text: str) -> list[str]:
    return [found.rstrip("\n") + "\n" for found in CERTIFICATE.findall(text)]


def fingerprint(certificate: str) -> str:
    """SHA-256 of a certificate (PEM), in hexadecimal digits."""
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate)).hexdigest()


def ends(certificate: str) -> float:
    """When a certificate ends, in seconds since 1970. Raises PeersError."""
    return _times(certificate)[1]


def _times(certificate: str) -> tuple[float, float]:
    with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
        file.write(certificate)
        file.flush()
        ran = command.run(["openssl", "x509", "-in", file.name, "-noout", "-startdate", "-enddate"], 10)
    found = dict(line.split("=", 1) for line in ran.stdout.splitlines() if "=" in line)
    try:
        begin, end = (float(ssl.cert_time_to_seconds(found[name].strip())) for name in ("notBefore", "notAfter"))
    except (KeyError, ValueError):
        raise PeersError(f"A certificate cannot be read: {ran.said}") from None
    return begin, end


def make(name: str, days: int = LIFE_DAYS) -> str:
    """A certificate that signs itself, and its key (PEM). Raises PeersError.

    Each has a subject of its own: OpenSSL looks for who signed one by that, and an edge may know several of another.
    """
    with tempfile.TemporaryDirectory() as directory:
        request = Path(directory, "request.cnf")
        request.write_text(_REQUEST.format(name=f"{name[:40]} {secrets.token_hex(8)}"), encoding="utf-8")
        key, certificate = Path(directory, "key.pem"), Path(directory, "certificate.pem")
        made = [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-sha256", "-days", str(days), "-config", str(request), "-keyout", str(key), "-out", str(certificate)),
        ]
        ran = command.run(made, 30)
        if ran.returncode:
            raise PeersError(f"openssl made no certificate for this edge: {ran.said}")
        return certificate.read_text(encoding="utf-8") + key.read_text(encoding="utf-8")


@dataclass(frozen=True)
class Server:
    """A host behind a balancer: how it is asked, and what keeps it from being asked as is wanted."""

    app: str
    name: str
    where: str
    tls: bool
    certificates: tuple[str, ...] = field(default=(), repr=False)
    trouble: str = ""


Trial = Callable[[str, Sequence[str], Path], str]
"""Asks a host by TLS: where, the certificates that it may show, and the balancer's own. Says what was wrong."""


@dataclass(frozen=True)
class Peers:
    """The certificates of this edge and of others, below HAProxy's directory."""

    directory: Path
    name: str
    """Of this host in the inventory."""
    owner: str = "root"
    group: str = "haproxy"

    @property
    def home(self) -> Path:
        return self.directory / "peers"

    @property
    def own(self) -> Path:
        return self.home / "own.pem"

    @property
    def next(self) -> Path:
        return self.home / "next.pem"

    @property
    def unread(self) -> Path:
        """There from when a certificate was made in place until the run that has HAProxy read it."""
        return self.home / "unread"

    @property
    def bundle(self) -> Path:
        return self.home / "balancers.pem"

    def certificates(self) -> list[str]:
        """All that this edge may show, or has shown, the one in use first."""
        return [
            certificate
            for path in (self.own, self.next, self.home / "former.pem")
            for certificate in certificates_of(_read(path))
        ]

    def known(self, side: str) -> dict[str, dict[str, list[str]]]:
        """Certificates by app and edge that this one was given, of `hosts` or of `balancers`."""
        found: dict[str, dict[str, list[str]]] = {}
        for path in sorted((self.home / side).glob("*/*.pem")):
            found.setdefault(path.parent.name, {})[path.stem] = certificates_of(_read(path))
        return found

    def look(self) -> dict[str, Any]:
        """What others need to know of this edge."""
        hosts, balancers = self.known(HOSTS), self.known(BALANCERS)
        return {
            "certificates": self.certificates(),
            "asks": {app: sorted(of) for app, of in hosts.items()},
            "knows": {
                app: {name: [fingerprint(one) for one in them] for name, them in of.items()}
                for app, of in {**hosts, **balancers}.items()
            },
        }

    def due(self, now: float) -> Optional[Path]:
        """Where a certificate is to be made now: in use where there is none that is good, the next one after a year."""
        own = certificates_of(_read(self.own))
        if not self._whole():
            return self.own
        begun, ended = _times(own[0])
        if ended <= now:
            return self.own
        return self.next if begun + REPLACED_DAYS * DAY <= now and not self.next.exists() else None

    def _whole(self) -> bool:
        text = _read(self.own)
        return bool(certificates_of(text)) and "PRIVATE KEY" in text

    def make_due(self, now: float, check: bool = False) -> bool:
        """Make what is due. Raises PeersError."""
        path = self.due(now)
        if path and not check:
            self.home.mkdir(mode=0o750, parents=True, exist_ok=True)
            write_durably(path, make(self.name), mode=0o600)
            if path == self.own:
                self.unread.touch()
                with suppress(LookupError):  # before HAProxy is installed its group is not there
                    self.readable()
        return path is not None

    def use_next(self, others: Mapping[str, Optional[Look]], now: float) -> bool:
        """Whether the next certificate is to be used from now on: all that this edge has to do with know it.

        Args:
            others: what the other edges said of themselves, None of one that could not be asked
            now: seconds since 1970
        """
        following = certificates_of(_read(self.next))
        if not following or _times(following[0])[0] + SETTLES > now:
            return False
        shown = fingerprint(following[0])
        return all(_knows(others.get(name), app, self.name, shown) for app, name in self.concerned(others))

    def concerned(self, others: Mapping[str, Optional[Look]]) -> set[tuple[str, str]]:
        """App and name of each edge that asks this one by TLS or is asked so, whichever inventory has it."""
        here = {(app, name) for side in (HOSTS, BALANCERS) for app, of in self.known(side).items() for name in of}
        return here | {
            (app, name)
            for name, said in others.items()
            for app, asked in (said or {}).get("asks", {}).items()
            if self.name in asked
        }

    def given(self, apps: Iterable[str]) -> set[Path]:
        """The files of certificates that are there for these apps."""
        return {path for side in (HOSTS, BALANCERS) for app in apps for path in (self.home / side / app).glob("*.pem")}

    def turn_over(self) -> None:
        """Use the next certificate."""
        write_durably(self.home / "former.pem", "".join(certificates_of(_read(self.own))), mode=0o600)
        self._give(self.next, 0o640)
        os.replace(self.next, self.own)

    def readable(self) -> bool:
        """Have HAProxy read the directory and the certificate in use; whether that had to be changed."""
        wanted = ((self.home, 0o750), (self.own, 0o640), (self.next, 0o600))
        given = [self._give(path, mode) for path, mode in wanted]
        return any(given)

    def flaws(self) -> list[str]:
        """A sentence for each file with a key that is missing, or that is not for HAProxy alone."""
        if not self.home.exists():
            return []
        found = []
        if not self._whole():
            found.append(
                f"{self.own} has no certificate with its key; provision this host and the other side in one run"
            )
        for path in filter(Path.exists, (self.own, self.next)):
            mode, group = path.stat().st_mode & 0o777, _group(path)
            of_haproxy = group == self.group
            if mode & 0o007 or (mode & 0o070 and not of_haproxy):
                found.append(
                    f"others may read the key in {path} (mode {mode:04o}, group {group}); remove the file and "
                    "provision this host and the other side in one run, which makes another key"
                )
            elif path == self.own and not (mode & 0o040 and of_haproxy):
                found.append(
                    f"HAProxy cannot read {path} (mode {mode:04o}, group {group}) when it is reloaded; provision "
                    "this host"
                )
        return found

    def read_anew(self) -> bool:
        """Whether HAProxy is to read a certificate that was made in place; said once."""
        found = self.unread.exists()
        if found:
            self.unread.unlink()
        return found

    def _give(self, path: Path, mode: int) -> bool:
        if not path.exists() or (_group(path) == self.group and path.stat().st_mode & 0o777 == mode):
            return False
        shutil.chown(path, self.owner, self.group)
        path.chmod(mode)
        return True

    def balancers(self, apps: Iterable[str], others: Mapping[str, Optional[Look]]) -> dict[Path, str]:
        """The files of certificates that balancers of these apps may show here: of all that ask, or are to ask, by TLS.

        One that could not be asked keeps what it has.
        """
        wanted = {}
        for app in apps:
            for name, said in others.items():
                path = self.home / BALANCERS / app / f"{name}.pem"
                if said is None:
                    text = _read(path)
                elif self.name in {*said.get("asks", {}).get(app, ()), *said.get("wants", {}).get(app, ())}:
                    text = "".join(said["certificates"])
                else:
                    continue
                if text:
                    wanted[path] = text
        return wanted

    def server(self, app: str, name: str, where: str, said: Optional[Look], tried: Trial) -> Server:
        """How a host is asked that is to be asked by TLS.

        By TLS where that works. What was asked so before stays so, whatever is wrong: nobody on the way can have a
        balancer go back to plain HTTP. One that was asked without goes on like that until TLS works. And one that is
        new is asked by TLS or not at all.
        """
        own = certificates_of(_read(self.own))
        given = certificates_of(_read(self.home / HOSTS / app / f"{name}.pem"))
        certificates = [one for one in (said["certificates"] if said else given) if one not in own]
        trouble = "" if self._whole() else NO_OWN
        trouble = trouble or (tried(where, certificates, self.own) if certificates else NOT_KNOWN)
        before = {entry[1]: bool(entry["tls"]) for entry in _SERVER.finditer(_read(self.piece(app)))}
        return Server(app, name, where, not trouble or before.get(name, True), tuple(certificates), trouble)

    def piece(self, app: str) -> Path:
        """The app's part of HAProxy's configuration."""
        return self.directory / "apps" / f"{app}.cfg"

    def hosts(self, servers: Sequence[Server]) -> dict[Path, str]:
        """The files of certificates that hosts may show here; nobody has the key to that of one that is not known."""
        nobody = "".join(certificates_of(_read(self.own))[:1])
        return {
            self.home / HOSTS / one.app / f"{one.name}.pem": "".join(one.certificates) or nobody
            for one in servers
            if one.tls
        }

    def all_balancers(self, wanted: Mapping[Path, str], apps: Iterable[str]) -> list[str]:
        """The certificates of balancers that this host takes: of these apps those that are wanted, of others all."""
        ours = set(apps)
        others = [path for path in (self.home / BALANCERS).glob("*/*.pem") if path.parent.name not in ours]
        texts = [*wanted.values(), *map(_read, sorted(others))]
        return sorted({certificate for text in texts for certificate in certificates_of(text)})


def troubles(servers: Sequence[Server], own: str) -> list[str]:
    """A sentence for each host that is not asked as is wanted."""
    return [
        f"{own} cannot ask {one.name} by TLS at {one.where}: {one.trouble}. "
        + (f"Nothing is sent to {one.name} from there" if one.tls else "It is asked by plain HTTP meanwhile")
        for one in servers
        if one.trouble
    ]


def wrong_servers(setting: str, apps: Mapping[str, Mapping[str, str]], hosts: Iterable[str]) -> list[str]:
    """A sentence for each server that is to be asked by TLS and is no host of which a certificate could be had."""
    known = set(hosts)
    return [
        f"haproxy_tls_to_hosts is true, and the server {name} of app {app} (haproxy_apps) is no host of the group web: "
        "name it as the inventory does, or set haproxy_tls_to_hosts: false."
        for app, servers in apps.items()
        for name in servers
        if setting == "true" and name not in known
    ]


def _knows(said: Optional[Look], app: str, name: str, shown: str) -> bool:
    return said is not None and shown in said["knows"].get(app, {}).get(name, ())


def _group(path: Path) -> str:
    try:
        return path.group()
    except KeyError:  # nobody has this number
        return str(path.stat().st_gid)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return ""
