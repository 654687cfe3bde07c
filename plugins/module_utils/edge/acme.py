"""Orders the certificates of an edge by ACME (RFC 8555) and has the running HAProxy serve them.

A timer runs it as a program (`main`), and the role haproxy as part of a module, where somebody waits for the first
certificates. Which names there are, the pieces of the apps on this host say, whichever inventories they are from. The
orders themselves are lego's, which listens on a port of loopback while it works; the edge hands challenges to it.

A certificate that is valid is replaced by a newer one and by nothing else.
"""

from __future__ import annotations

import argparse
import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..host import command
from ..host.durable import sync_directory, write_durably
from ..host.errors import SlipwayError
from ..host.ledger import by_hand, ledgers, recorded
from . import lego, maps, names, pieces
from .certificates import (
    HSTS_AUTO,
    SELF_SIGNED,
    SETTINGS,
    Certificate,
    Record,
    Settings,
    drift,
    due,
    file_of,
    load,
    metrics,
    next_order,
    not_yet,
    read,
    store,
    told,
    unwanted,
)
from .haproxy import Edge, EdgeError
from .sni import Served

_CERTIFICATE = re.compile("-----BEGIN CERTIFICATE-----\n.+?-----END CERTIFICATE-----\n", re.DOTALL)
MAP_HEADER = "# Names with a certificate: HTTP is sent to HTTPS there. Written when a certificate comes.\n"
HSTS_HEADER = (
    "# Seconds for which browsers are told to use HTTPS alone, by name. Written by what renews certificates.\n"
)
Order = Callable[[Settings, str, str, float], tuple[str, str]]
Revoke = Callable[[Settings, str, str, str, float], None]
# Seconds after which a run begins no further order: one that began may take four times lego.ORDER_BY_DNS (two
# authorities, each with an account made anew), and the unit ends a run after 45 minutes.
LIMIT = 1200.0


class UnderWay(SlipwayError):
    """Another run is at it; the text says what to do."""


class NotYet(lego.OrderFailed):
    """A certificate that is not valid yet is not taken in place of one that is."""


@dataclass
class Outcome:
    """What a run came to. `changed`: a certificate came."""

    names: list[dict[str, Any]] = field(default_factory=list)
    changed: list[str] = field(default_factory=list)

    @property
    def missing(self) -> list[dict[str, Any]]:
        return [entry for entry in self.names if entry["days"] is None or entry["days"] < 0]

    @property
    def problems(self) -> list[str]:
        """A sentence for each name of which something is wrong."""
        return drift(self.names)


class Renewal:
    """One look at all names of the edge, with the orders that are due."""

    def __init__(
        self,
        settings: Settings,
        order: Order = lego.order,
        astray: Callable[[str, Collection[str], str], str] = names.astray,
        now: Callable[[], float] = time.time,
        revoke: Revoke = lego.revoke,
    ) -> None:
        self.settings = settings
        self.directory = Path(settings.certificates)
        self.state = Path(settings.state)
        self.ask = Edge(settings.socket, "", "").ask
        self.served = Served(self.ask, self.directory)
        self._order, self._astray, self._now, self._revoke = order, astray, now, revoke

    def wanted(self) -> list[str]:
        """The names of all apps of this edge that can have a certificate. Raises OSError."""
        found = pieces.present(Path(self.settings.pieces), {})
        every = {name for piece in found.pieces.values() for name in piece.names}
        return sorted(name for name in every if self.settings.takes_stars or not name.startswith("*"))

    def records(self) -> dict[str, Record]:
        """What is known of former orders, by name. Raises Damaged and OSError."""
        return load(self.state)

    def orders(self, forced: Collection[str] = ()) -> list[str]:
        """The names for which an order is due. Raises OSError."""
        return [
            name
            for name in self.wanted()
            if name in forced or due(read(file_of(self.directory, name)), name, self._now())
        ]

    def run(self, asked: Collection[str] = (), forced: Collection[str] = (), limit: float = LIMIT) -> Outcome:
        """Order what is due, and have HAProxy serve what there is.

        Args:
            asked: names for which somebody waits: they come first, and no back-off but that of the authority counts
            forced: names that get another certificate, however new theirs is; somebody waits for these, too
            limit: seconds, after which no further order begins

        Raises UnderWay, Damaged before anything is done, and OSError. An order that fails is told in the outcome.
        """
        began, outcome = time.monotonic(), Outcome()
        with alone(self.state, limit):
            wanted, before = self.wanted(), self.records()
            records = {name: self._record(name, before.get(name, Record())) for name in wanted}
            self._serve(wanted)
            waited, orders = {*asked, *forced}, self.orders(forced)
            # One that was forced and failed is nobody's trouble any more: what there is lasts.
            records |= {name: record.settled() for name, record in records.items() if name not in orders}
            for name in sorted(orders, key=lambda name: name not in waited):
                left = limit - (time.monotonic() - began)
                records[name] = self._ordered(name, records[name], name in waited, left, outcome)
                store(self.state, records)
            for path in unwanted(self.directory, wanted, self._now()):
                path.unlink()
            self._send_to_https(())
            records = {name: record.judged(self._now()) for name, record in records.items()}
            store(self.state, records)
            self._tell_browsers(records)
            self._tell_metrics(records)
            outcome.names = told(records, self._now(), self.settings.hsts)
            return outcome

    def replace(self, names: Sequence[str]) -> tuple[Outcome, list[str]]:
        """Order others for names whose keys leaked, and have those that they have revoked once the others serve.

        Returns also a sentence for each that is not revoked. Raises UnderWay, Damaged and OSError.
        """
        before, records = {}, self.records()
        for name in names:
            path = file_of(self.directory, name)
            if read(path):
                before[name] = "".join(_CERTIFICATE.findall(path.read_text(encoding="utf-8"))[:1])
        outcome, left = self.run(forced=names), []
        with alone(self.state, LIMIT):
            for name, chain in before.items():
                authority = records.get(name, Record()).authority or self.settings.authorities()[0]
                try:
                    if name not in outcome.changed:
                        raise lego.OrderFailed("it is shown still, since no other one came")
                    if authority != SELF_SIGNED:
                        self._revoke(self.settings, authority, name, chain, lego.ORDER)
                except SlipwayError as error:
                    left.append(f"the certificate of {name} whose key leaked is not revoked: {error}")
        return outcome, left

    def _record(self, name: str, record: Record) -> Record:
        """The record with what the file says, which counts."""
        found = read(file_of(self.directory, name))
        if found is None:
            return Record(tried=record.tried, error=record.error, failures=record.failures, failed=record.failed)
        seen = Record(**{**vars(record), "begins": found.begins, "ends": found.ends, "issuer": found.issuer})
        return seen.judged(self._now())

    def _ordered(self, name: str, record: Record, asked: bool, left: float, outcome: Outcome) -> Record:
        """The record after an order, or after none where there are reasons."""
        now = self._now()
        free = next_order(record, now, asked)
        if now < free:
            when = time.strftime("%H:%M UTC", time.gmtime(free))
            return record if not asked else record.unasked(f"{_before(record.error)}; the next order is at {when}")
        # One by DNS that is cut off leaves its record with the name servers.
        if left <= 0 or (self.settings.by_dns and left < lego.patience(self.settings)):
            return record.unasked("there was no time left to order it; the timer does within the hour")
        # By DNS a name may lead elsewhere still, so that it has its certificate before it is moved here.
        by_http = not self.settings.by_dns and self.settings.directory != SELF_SIGNED
        if by_http and (lost := self._astray(name, self.settings.addresses, self.settings.token)):
            return record.unasked(lost)
        began = time.monotonic()
        if stopped := self._rehearsed(name, record, left):
            return stopped
        left -= time.monotonic() - began
        errors, given = [], False
        for authority in self.settings.authorities():
            try:
                chain, key = self._order(self.settings, authority, name, min(lego.patience(self.settings), left))
                found = self._put(name, chain, key)
            except SlipwayError as error:
                errors.append(str(error))
                given = given or isinstance(error, NotYet)
                continue
            outcome.changed.append(name)
            return record.succeeded(found, authority, self._now())
        return record.refused("; and ".join(errors), self._now(), given)

    def _rehearsed(self, name: str, record: Record, left: float) -> Optional[Record]:
        """What becomes of a name that would get no certificate, None where it would, or where nothing is known of that.

        Tried is what has no certificate, or failed before: an authority counts failures, and gives none for hours then.
        What the one for trying gives is thrown away.
        """
        authority, patience, began = self.settings.rehearses_with(), lego.patience(self.settings), time.monotonic()
        if not authority or not (record.failures or not record.ends):
            return None
        try:
            self._order(self.settings, authority, name, min(patience, left))
        except (lego.Away, command.CommandError):
            pass
        except SlipwayError as error:
            why = f"it was tried where nothing counts, so nothing was ordered: {error}"
            return record.refused(why, self._now(), counted=False)
        if left - (time.monotonic() - began) < (patience if self.settings.by_dns else 1):
            return record.unasked("it was tried well, and no time was left to order it; the timer does within the hour")
        return None

    def _put(self, name: str, chain: str, key: str) -> Certificate:
        """Have the certificate in its file, then in the running HAProxy. Raises OrderFailed for one that is no good.

        One that is not valid yet by this host's clock is taken where there is none that is: if that clock is behind,
        users believe it. Else it is NotYet: if it is the authority's clock, they would not.
        """
        text = "\n".join(line for line in f"{chain}\n{key}".splitlines() if line.strip()) + "\n"
        target = file_of(self.directory, name)
        # Beside the directory, since HAProxy reads every file that is in it.
        new = self.directory.parent / f".{target.name}"
        write_durably(new, text, mode=0o600)
        try:
            found = read(new)
            if found is None or name not in found.names or found.ends <= self._now() or not _fit(new):
                raise lego.OrderFailed(
                    "what came is no valid certificate of the name with its key; look at the authority"
                )
            if (early := not_yet(found.begins, self._now())) and self._valid(name):
                raise NotYet(f"what came {early}")
            os.chown(new, -1, self.directory.stat().st_gid)
            new.chmod(0o640)
            new.replace(target)
        finally:
            new.unlink(missing_ok=True)
        sync_directory(self.directory)
        self._serve([name])
        return found

    def _valid(self, name: str) -> bool:
        """Whether the certificate that there is holds for the name, by this host's clock."""
        found, now = read(file_of(self.directory, name)), self._now()
        return found is not None and name in found.names and found.ends > now and not not_yet(found.begins, now)

    def _serve(self, wanted: Collection[str]) -> None:
        """Have HAProxy serve what is in the files of these names, and send HTTP to HTTPS there.

        A reload meanwhile has a worker that read the directory before; so it is asked until it says the same twice.
        """
        there = {name: found for name in wanted if (found := read(file_of(self.directory, name)))}
        with suppress(EdgeError):  # one that does not run reads the files when it starts
            for name, found in there.items():
                path = file_of(self.directory, name)
                for _ in range(3):
                    if self.served.serial(path) == found.serial:
                        break
                    self._replace(path)
        self._send_to_https(there)

    def _replace(self, path: Path) -> None:
        try:
            self.served.put(path, path.read_text(encoding="utf-8"))
        except EdgeError:
            # It is in its file: a reload costs the balancer a moment and no request.
            command.run(["systemctl", "reload", "haproxy.service"], 60)

    def _send_to_https(self, there: Collection[str]) -> None:
        """The map of names that have a certificate, in the file and in the running HAProxy. Raises OSError."""
        known = {*maps.read(Path(self.settings.https_map)), *there}
        wanted = dict.fromkeys({name for name in known if file_of(self.directory, name).is_file()}, "on")
        self._have_map(Path(self.settings.https_map), wanted, MAP_HEADER)

    def _tell_browsers(self, records: Mapping[str, Record]) -> None:
        """For how long browsers are told to stay with HTTPS, where that is left to this host. Raises OSError."""
        if self.settings.hsts == HSTS_AUTO and self.settings.hsts_map:
            # One that is told nothing yet stands there, too, so that a star's word is not its own.
            wanted = {name: str(record.hsts(self._now())) for name, record in records.items()}
            self._have_map(Path(self.settings.hsts_map), wanted, HSTS_HEADER)

    def _have_map(self, path: Path, wanted: dict[str, str], header: str) -> None:
        """A map in its file and in the running HAProxy. Raises OSError."""
        if wanted != maps.read(path):
            write_durably(path, maps.render(wanted, header), mode=0o644)
        with suppress(EdgeError):
            shown = maps.parse_shown(self.ask(f"show map {path}"))
            for name in sorted(name for name in {*shown, *wanted} if shown.get(name) != wanted.get(name)):
                if name in shown:
                    self.ask(f"del map {path} {name}")
                if name in wanted:
                    self.ask(f"add map {path} {name} {wanted[name]}")

    def _tell_metrics(self, records: Mapping[str, Record]) -> None:
        path = Path(self.settings.metrics)
        if self.settings.metrics and path.parent.is_dir():
            with suppress(OSError):
                write_durably(path, metrics(records), mode=0o644)


def _before(error: str) -> str:
    """What was said before, without when the next order was then."""
    return error.partition("; the next order is at ")[0] or "the last orders gave none"


def _fit(path: Path) -> bool:
    """Whether the key in a file belongs to its certificate."""
    of_certificate = command.run(["openssl", "x509", "-in", str(path), "-noout", "-pubkey"], 10).stdout
    return (
        bool(of_certificate)
        and of_certificate == command.run(["openssl", "pkey", "-in", str(path), "-pubout"], 10).stdout
    )


@contextmanager
def alone(state: Path, limit: float) -> Iterator[None]:
    """One run at a time: lego has one port. Raises UnderWay where another one takes longer than `limit` seconds."""
    descriptor = os.open(state, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    deadline = time.monotonic() + limit
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise UnderWay(
                        f"another run orders certificates on this host and did not end within {limit:.0f} s; see "
                        "`journalctl -u slipway-certificates`, and run the playbook again then"
                    ) from None
                time.sleep(0.2)
        yield
    finally:
        os.close(descriptor)


def main(arguments: Optional[Sequence[str]] = None) -> int:
    """What the timer runs. Exit code 1 where a name has no valid certificate, or the next one did not come."""
    parser = argparse.ArgumentParser(prog="slipway-certificates", description=main.__doc__)
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--force", nargs="+", default=[], metavar="NAME", help="order another one for these names")
    either.add_argument("--revoke", nargs="+", default=[], metavar="NAME", help="the same, since their keys leaked")
    parser.add_argument("--asked", action="store_true", help="do not wait for the back-off after failures")
    parser.add_argument("--settings", type=Path, default=SETTINGS)
    options = parser.parse_args(arguments)
    try:
        settings = Settings.load(options.settings)
        if settings is None:
            print("this edge orders no certificates")
            return 0
        renewal = Renewal(settings)
        forced = [*options.force, *options.revoke]
        if strange := sorted(set(forced) - set(renewal.wanted())):
            there = ", ".join(renewal.wanted()) or "none"
            print(f"{', '.join(strange)}: no app of this edge has such a name; there are {there}", file=sys.stderr)
            return 1
        with ExitStack() as notes:
            for root in ledgers() if forced else ():
                what = "revoked" if options.revoke else "forced"
                notes.enter_context(recorded(by_hand(root), "certificates", f"{what}: {', '.join(forced)}"))
            if options.revoke:
                outcome, left = renewal.replace(forced)
            else:
                outcome, left = renewal.run(renewal.wanted() if options.asked else (), forced), []
    except (SlipwayError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(json.dumps({"ordered": outcome.changed, "names": outcome.names}, indent=2))
    problems = outcome.problems + left
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
