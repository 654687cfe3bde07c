"""An upgrade to another major version: filled beside what serves, compared, put in its place, and the way back.

Until the last step of `put` the old server is the one in place, whatever happens; what was made is taken away then.
After it the new one is, and nobody is let in before it answers. What was in place is kept as it was.
"""

from __future__ import annotations

import fcntl
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..backup.files import RESERVE
from ..backup.model import MIB
from ..backup.postgres import BESIDE
from ..backup.records import Records, now
from ..backup.wal import SLOT
from ..host.errors import SlipwayError
from ..postgres.access import parse
from ..postgres.admitting import access_file
from .closing import close, let_in
from .copying import analyze, copy
from .model import FILLING, GOING_BACK, OPENING, TIDYING, UPGRADING, Offer, Provider, Run, State, UpgradeError

# The first version whose texts of values, and so digests of rows, are those of later ones (floats: notes of 12).
OLDEST = 12
# What a new data directory takes besides the data, and how much write-ahead log beside it at most.
EMPTY, LOG = 64 * MIB, 4096 * MIB

_LEFT = f"""\
SELECT datname FROM pg_database WHERE datname NOT IN ('template0', 'template1')
AND (datistemplate OR NOT datallowconn OR starts_with(datname, '{BESIDE}')) ORDER BY 1"""  # noqa: S608 - a constant
_EXTENSIONS = "SELECT extname FROM pg_extension"
_PREPARED = "SELECT gid FROM pg_prepared_xacts ORDER BY 1"
_SPACES = "SELECT spcname FROM pg_tablespace WHERE spcname NOT IN ('pg_default', 'pg_global') ORDER BY 1"
_SUBSCRIPTIONS = "SELECT subname FROM pg_subscription WHERE subenabled ORDER BY 1"
# Our own for points in time is made in the new server by the next run of that timer.
_SLOTS = f"SELECT slot_name FROM pg_replication_slots WHERE NOT temporary AND slot_name <> '{SLOT}' ORDER BY 1"  # noqa: S608 - a constant
# Locales that PostgreSQL has by itself.
_OWN_LOCALES = {"c", "posix"}


class Upgrade:
    """The server of a host, and what the inventory wants of it.

    Args:
        root: the server's directory, /opt/slipway/postgres
        provider: whoever runs it
        wanted: the major version that the inventory names; 0 where that cannot be told before it is on the host
        backups: the directory of the host's backups, which may not be there
    """

    def __init__(self, root: Path, provider: Provider, wanted: int, backups: Path) -> None:
        self._root, self._provider, self._wanted, self._backups = root, provider, wanted, backups
        self._state = State(root)

    def closed(self) -> bool:
        """Whether a run that failed may have left the database closed. Raises Damaged and OSError."""
        run = self._state.run()
        return run is not None and run.phase != TIDYING

    def plan(self, back: bool) -> dict[str, Any]:
        """What would be done, and why it may not be (`problems`). Changes nothing. Raises SlipwayError and OSError."""
        if run := self._state.run():
            return {**_plan_of(run.verb, run.old.major, run.new.major), "cut": True, "names": list(run.names)}
        return self._plan_back() if back else self._plan()

    def _plan(self) -> dict[str, Any]:
        old, server, offer = self._provider.now(), self._provider.server(), self._provider.offer()
        to = offer.major if offer else self._wanted
        databases = server.databases()
        size = sum(database.bytes for database in databases)
        needed = size + EMPTY + min(size, LOG) + RESERVE
        free = shutil.disk_usage(self._provider.disk()).free
        told: dict[str, Any] = {
            **_plan_of(UPGRADING, old.major, to),
            "needed": to != old.major,
            "version": offer.version if offer else "",
            "databases": {database.name: database.bytes for database in databases},
            "names": [database.name for database in databases if database.name != "postgres"],
            "sorted": sorted({database.locale or database.collate for database in databases}),
            "bytes": size,
            "disk": {"path": str(self._provider.disk()), "needed": needed, "free": free},
            "left": [row[0] for row in server.sql("postgres", _LEFT)],
            "slots": [row[0] for row in server.sql("postgres", _SLOTS)],
            "apps": list(self._apps()),
            "took": self._took(),
            "aside": "",
        }
        problems = []
        if to and to < old.major:
            problems.append(
                f"the server has PostgreSQL {old.major}, and the inventory names {to}, which does not read what later "
                "ones wrote; to go back to what an upgrade has kept say -e slipway_back=true"
            )
        if to != old.major:
            if old.major < OLDEST:
                problems.append(
                    f"PostgreSQL {old.major} is too old for this; {OLDEST} is the first that can be compared"
                )
            if free < needed:
                problems.append(
                    f"the new data needs {needed // MIB} MiB on the disk of {told['disk']['path']}, and "
                    f"{free // MIB} are free"
                )
            if found := [row[0] for row in server.sql("postgres", _PREPARED)]:
                problems.append(
                    f"there are prepared transactions, which no dump has: {', '.join(found)}; commit them or roll "
                    "them back"
                )
            if found := [row[0] for row in server.sql("postgres", _SPACES)]:
                problems.append(
                    f"there are tablespaces ({', '.join(found)}), which an upgrade does not make; move what they have "
                    "into pg_default (ALTER TABLE ... SET TABLESPACE) and drop them"
                )
            if found := [row[0] for row in server.sql("postgres", _SUBSCRIPTIONS)]:
                problems.append(
                    f"there are subscriptions ({', '.join(found)}), which write while nobody is let in and come over "
                    "disabled; disable them (ALTER SUBSCRIPTION ... DISABLE), and enable them in the new server"
                )
            if offer:
                new = self._provider.new(to)
                told["aside"] = new.name if new.aside else ""
                problems += self._lacking(
                    offer, {d.name: d.locale or d.collate for d in databases if d.provider != "i"}
                )
        return {**told, "problems": problems}

    def _plan_back(self) -> dict[str, Any]:
        kept = self._state.kept()
        if kept is None:
            nothing = "there is nothing to go back to: no upgrade of this host has kept a server"
            return {**_plan_of(GOING_BACK, 0, 0), "problems": [nothing]}
        old, server = self._provider.now(), self._provider.server()
        lacking = self._provider.lacking(kept)
        names = [database.name for database in server.databases() if database.name != "postgres"]
        return {
            **_plan_of(GOING_BACK, old.major, kept.major),
            "since": kept.since,
            "kept": old.name,
            "names": names,
            "apps": list(self._apps()),
            "problems": [lacking] if lacking else [],
        }

    def _lacking(self, offer: Offer, locales: Mapping[str, str]) -> Iterator[str]:
        """What databases have that the new version has not on this host; `locales` are the system's."""
        server = self._provider.server()
        has = {_locale(name) for name in offer.locales} | _OWN_LOCALES
        for name, locale in locales.items():
            extensions = {row[0] for row in server.sql(name, _EXTENSIONS)} - offer.extensions
            if extensions:
                yield (
                    f"database {name} has the extensions {', '.join(sorted(extensions))}, which PostgreSQL "
                    f"{offer.version} has not here; name an image that has them (install their packages), or drop them"
                )
            if _locale(locale) not in has:
                yield f"database {name} is sorted by {locale}, a locale that PostgreSQL {offer.version} has not here"

    def _apps(self) -> Sequence[str]:
        with suppress(OSError):
            return parse(access_file(self._root).read_text(encoding="utf-8")).apps
        return ()

    def _took(self) -> Optional[dict[str, Any]]:
        """How long a set took to be restored, or to be made, as far as the host's backups know."""
        known = Records(self._backups).read()
        for what, name in (("drill", "proven"), ("backup", "newest")):
            if (known.get(name) or {}).get("seconds"):
                return {"what": what, "seconds": known[name]["seconds"]}
        return None

    def upgrade(self) -> dict[str, Any]:
        """Have the data in the version that the inventory names; what was done.

        Raises UpgradeError, which says what serves then.
        """
        with self._alone():
            settled = self._settle()
            plan = self._plan()
            told: dict[str, Any] = {
                "settled": settled,
                "done": False,
                "from": plan["from"],
                "to": plan["to"],
                **self._kept(),
            }
            if plan["problems"]:
                raise UpgradeError(f"nothing was done: {'; '.join(plan['problems'])}")
            if not plan["needed"]:
                return told
            run = Run(UPGRADING, self._provider.now(), self._provider.new(plan["to"]), names=plan["names"])
            self._state.note(run, self._state.kept())
            try:
                began, databases = self._fill(run)
            except BaseException as error:
                self._undo(run)
                raise UpgradeError(
                    f"PostgreSQL {run.old.major} serves as before, and nothing was lost: {error}"
                ) from error
            self._exchange(run)
            return {
                **told,
                "done": True,
                "down": round(time.monotonic() - began, 1),
                "rows": sum(database.rows for database in databases),
                "tables": sum(len(database.tables) for database in databases),
                "databases": [database.name for database in databases],
                "aside": self._aside(run),
                **self._kept(),
            }

    def back(self) -> dict[str, Any]:
        """Have what the last upgrade has kept; what was done. Raises UpgradeError, and says what serves then."""
        with self._alone():
            cut = self._state.run()
            settled = self._settle()
            if cut and self._provider.now().major == (serves := _earlier(cut)):
                return {"settled": settled, "done": False, "from": serves, "to": serves, **self._kept()}
            plan = self._plan_back()
            if plan["problems"]:
                raise UpgradeError(f"nothing was done: {'; '.join(plan['problems'])}")
            kept = self._state.kept()
            assert kept is not None
            run = Run(GOING_BACK, replace(self._provider.now(), since=now()), kept, names=plan["names"])
            self._state.note(run, kept)
            began = time.monotonic()
            try:
                close(self._root, self._provider.server(), "")
            except BaseException as error:
                self._undo(run)
                raise UpgradeError(f"PostgreSQL {run.old.major} serves as before: {error}") from error
            self._exchange(run)
            down = round(time.monotonic() - began, 1)
            return {
                "settled": settled,
                "done": True,
                "from": run.old.major,
                "to": kept.major,
                "down": down,
                **self._kept(),
            }

    def _fill(self, run: Run) -> tuple[float, list[Any]]:
        """Have all data in the new server, compared, and that at rest; since when nobody was let in."""
        provider = self._provider
        server, new = provider.server(), provider.make(run.new)
        if refused := provider.accepts(run.new):
            raise UpgradeError(
                f"PostgreSQL {run.new.major} does not take the settings of this inventory (postgres_settings): "
                f"{refused}"
            )
        with self._no_backup():
            began = time.monotonic()
            close(self._root, server, provider.door)
            databases = copy(server, new, provider.source())
            analyze(new)
            provider.rest(run.new)
        return began, databases

    def _exchange(self, run: Run) -> None:
        """Have the new side in place and let everybody in; the old one again where the new one does not start."""
        try:
            self._provider.put(run.new, run.old)
            self._provider.start(run.new, run.old)
        except (SlipwayError, OSError) as error:
            self._undo(run)
            raise UpgradeError(f"PostgreSQL {run.old.major} serves again, and nothing was lost: {error}") from error
        self._open(run)

    def _open(self, run: Run) -> None:
        kept = self._state.kept()
        # From here on there may be data that the old side has not.
        self._state.note(replace(run, phase=OPENING), kept)
        let_in(self._root, self._provider.server())
        self._state.note(None, replace(run.old, since=run.old.since or now()))

    def _undo(self, run: Run) -> None:
        """Have the old side in place, as it was, and nothing left of one that was made for this."""
        if self._provider.placed(run):
            self._provider.put(run.old, run.new)
        self._provider.start(run.old, run.new)
        let_in(self._root, self._provider.server())
        if run.verb == UPGRADING:
            self._state.note(replace(run, phase=TIDYING), self._state.kept())
            try:
                self._provider.discard(run.new)
            except SlipwayError as error:
                raise UpgradeError(
                    f"PostgreSQL {run.old.major} serves, and nothing was lost; run this again to tidy up: {error}"
                ) from error
        self._state.note(None, self._state.kept())

    def _settle(self) -> str:
        """Finish what was cut, or take it back; what was done."""
        run = self._state.run()
        if run is None:
            return ""
        what = "an upgrade" if run.verb == UPGRADING else "a way back"
        if not self._provider.placed(run):
            self._undo(run)
            return f"{what} to PostgreSQL {run.new.major} that was cut was taken back"
        if run.phase == FILLING:
            self._exchange(run)
        else:
            self._provider.start(run.new, run.old)
            self._open(run)
        aside = self._aside(run)
        renamed = f"; the cluster that was in its way is kept as {aside['name']}" if aside else ""
        return f"{what} to PostgreSQL {run.new.major} that was cut is finished{renamed}"

    def _aside(self, run: Run) -> Optional[dict[str, str]]:
        """What was in the way of the new side, by its new name, and the command that removes it."""
        if not run.new.aside:
            return None
        renamed = replace(run.new, name=f"{run.new.major}/{run.new.aside}")
        return {"name": renamed.name, "remove": self._provider.removal(renamed)}

    def _kept(self) -> dict[str, Any]:
        kept = self._state.kept()
        if kept is None:
            return {"kept": None}
        return {
            "kept": {
                "major": kept.major,
                "name": kept.name,
                "image": kept.image,
                "remove": self._provider.removal(kept),
            }
        }

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with (self._root / "upgrade.lock").open("w") as stream:
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UpgradeError(
                    "nothing was done: an upgrade of this server is under way; run this again when it has ended"
                ) from None
            yield

    @contextmanager
    def _no_backup(self) -> Iterator[None]:
        """A backup reads for as long as it takes, and would be cut."""
        if not self._backups.is_dir():
            yield
            return
        with Records(self._backups).alone("an upgrade of the database"):
            yield


def _earlier(run: Run) -> int:
    """Of the two versions of a run the one that was there first, to which a way back leads."""
    return (run.old if run.verb == UPGRADING else run.new).major


def _plan_of(verb: str, old: int, new: int) -> dict[str, Any]:
    """What each plan has."""
    return {"verb": verb, "cut": False, "needed": True, "from": old, "to": new, "names": [], "problems": []}


def _locale(name: str) -> str:
    """A locale as it can be compared: `en_US.UTF-8` and `en_US.utf8` are one."""
    place, _, encoding = name.lower().partition(".")
    return f"{place}.{encoding.replace('-', '')}" if encoding else place
