"""Each app's own piece of an edge, and the one configuration that is put together from all of them.

In HAProxy's directory `edge.cfg` has what is every app's (global, defaults, the frontend up to its last rule), each
`apps/<app>.cfg` has the backend of one app with its names and whether its maintenance page is shown, and `haproxy.cfg`
is made of these. An inventory brings its own pieces and leaves the others as they are. HAProxy reads one file, so that
one rename changes everything, `haproxy -c` reads what will run, and a host from before there were pieces needs a
reload and no restart.

`edge.json` says of which apps' inventory the settings of the edge are, and what they were.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from ..host.errors import Damaged
from ..host.reading import object_of
from ..host.shared import REFUSE, REPLACE, differing
from .haproxy import EdgeError
from .routing import Piece, conflicts, is_named, not_the_same, parse, routes

# The settings of which one gives an edge its certificates.
TLS_BY = ("haproxy_tls_certificate", "haproxy_acme_email")
HEADER = """\
# Put together from edge.cfg and apps/*.cfg beside it by the role haproxy; what is changed here is lost.
"""
MAP_HEADER = "# Apps and whether their maintenance page is shown, as the variables of their inventories say.\n"

# Settings of which the record has a digest.
_DIGESTS = {
    "haproxy_tls_certificate",
    "haproxy_acme_eab",
    "haproxy_acme_fallback_eab",
    "haproxy_acme_dns_hook",
    "haproxy_acme_dns_environment",
}
_BACKEND = re.compile(r"^backend app_([a-z][a-z0-9-]*)$", re.MULTILINE)
# What the version before pieces wrote: the names of an app in the frontend, and what follows an app's backend.
_ROUTE = re.compile(r"^    (?:use|default)_backend .*\n", re.MULTILINE)
_ROUTE_TO = "^    use_backend app_{app} if .* -m str (.+) }}$"
_NEXT_SECTION = re.compile(r"^(?=\S)", re.MULTILINE)


@dataclass(frozen=True)
class Settings:
    """The settings of an edge by their variables, and the apps of the inventory that they are from."""

    apps: tuple[str, ...] = ()
    values: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Present:
    """What there is on a host. `settings` is None where no inventory has said whose the settings are."""

    pieces: Mapping[str, Piece]
    edge: str = ""
    settings: Optional[Settings] = None


def present(directory: Path, maintenance: Mapping[str, str]) -> Present:
    """What there is in HAProxy's directory, also as the version before pieces wrote it.

    Args:
        directory: where haproxy.cfg is
        maintenance: the map of the apps' pages, for a host from before pieces

    Raises Damaged when a piece or the record of the settings cannot be read, and OSError.
    """
    if not (directory / "edge.cfg").exists():
        return _present_before(directory / "haproxy.cfg", maintenance)
    pieces = {path.stem: _piece(path) for path in sorted((directory / "apps").glob("[!.]*.cfg"))}
    return Present(pieces, (directory / "edge.cfg").read_text(), _settings(directory / "edge.json"))


def _settings(path: Path) -> Optional[Settings]:
    try:
        found = object_of(path.read_text(encoding="utf-8"))
        return Settings(tuple(found["apps"]), dict(found["settings"]))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(f"{path} cannot be read ({error}); remove it and run slipway.fleet.provision again") from error


def damage(directory: Path) -> str:
    """What is wrong with the record of an edge's settings, and what to do; empty where nothing is."""
    try:
        _settings(directory / "edge.json")
    except (Damaged, OSError) as error:
        return str(error)
    return ""


def _piece(path: Path) -> Piece:
    """Raises Damaged, and OSError."""
    try:
        return parse(path.stem, path.read_text(encoding="utf-8"))
    except UnicodeDecodeError as error:
        raise Damaged(
            f"{path} cannot be read ({error}); provision the app {path.stem} again, which writes it"
        ) from error


def has_tls(directory: Path) -> bool:
    """Whether the edge of this host sends HTTP to HTTPS, as the record of its settings says."""
    try:
        known = _settings(directory / "edge.json")
    except (Damaged, OSError):
        return False
    return known is not None and any(known.values.get(name) for name in TLS_BY)


def _present_before(path: Path, maintenance: Mapping[str, str]) -> Present:
    text = path.read_text() if path.is_file() else ""
    pieces = {}
    for start in _BACKEND.finditer(text):
        app = start[1]
        end = _NEXT_SECTION.search(text, start.end() + 1)
        block = text[start.start() : end.start() if end else len(text)].rstrip() + "\n"
        names = [name for line in re.findall(_ROUTE_TO.format(app=app), text, re.MULTILINE) for name in line.split()]
        about = [f"# host name: {name}\n" for name in names] + ["# maintenance: on\n"] * (maintenance.get(app) == "on")
        taken = f"# Ansible managed\n# Taken over from haproxy.cfg as an earlier version wrote it.\n{''.join(about)}"
        pieces[app] = parse(app, taken + block)
    first = _ROUTE.search(text)
    return Present(pieces, text[: first.start()].rstrip() + "\n" if pieces and first else "")


def settled(
    found: Present, mine: Sequence[str], wanted: Mapping[str, Any], shared: str
) -> tuple[Optional[Settings], list[str]]:
    """Whose settings the edge is to have, None to leave those that it has; and a sentence for what is refused.

    They are this inventory's where they were before or nobody's app is behind the edge. An inventory whose apps came to
    the edge of others has the same settings, or says by `shared` whether it keeps or replaces those.
    """
    own = Settings(tuple(sorted(mine)), wanted)
    known = found.settings
    if not _of_others(found, set(mine)):
        return own, []
    if known is None:
        refused = _unknown(sorted(found.pieces))
    elif others := differing(known.values, wanted):
        refused = _refused(known, wanted, others)
    else:
        return known, []
    return own if shared == REPLACE else None, [refused] if shared == REFUSE else []


def _of_others(found: Present, mine: set[str]) -> bool:
    """Whether the settings are of an inventory that has an app behind this edge and is not this one."""
    if found.settings is None:
        return bool(found.pieces) and not mine & set(found.pieces)
    whose = set(found.settings.apps)
    return not whose & mine and bool(whose & set(found.pieces))


def _unknown(others: Sequence[str]) -> str:
    return (
        f"this edge serves {', '.join(others)}, and was made by a version that did not say with which settings; run "
        "slipway.fleet.provision for that app first, or say haproxy_shared_settings: keep to leave them as they are"
    )


def _refused(known: Settings, wanted: Mapping[str, Any], names: Sequence[str]) -> str:
    def shown(values: Mapping[str, Any], name: str) -> str:
        secret = name in _DIGESTS
        return ("another" if values[name] else "none") if secret else json.dumps(values[name])

    told = [f"{name} (there {shown(known.values, name)}, here {shown(wanted, name)})" for name in names]
    return (
        f"the settings of this edge are those of {', '.join(known.apps)}, from an inventory of its own, and differ "
        f"from the ones here: {'; '.join(told)}. Give both the same, or set haproxy_shared_settings: keep to leave "
        "them as they are, or replace to change them for every app of this edge (the certificate must have all names)"
    )


def assembled(edge: str, pieces: Mapping[str, Piece]) -> str:
    """The text of haproxy.cfg."""
    ordered = [pieces[app] for app in sorted(pieces)]
    lines = "".join(f"    {route}\n" for route in routes(ordered))
    # Here comes what no app has: under a name of one that has a part of it, there is nothing.
    names = sorted({name for piece in ordered if piece.paths for name in piece.host_names})
    known = "".join(f"    http-request deny deny_status 404 if {is_named(name)}\n" for name in names)
    about = "# Asked under a name that no app has" + (", or for a path of it that none has.\n" if names else ".\n")
    nobody = f"{about}backend no_app\n{known}    http-request deny deny_status 421\n"
    return "\n".join([HEADER + edge.rstrip() + "\n", lines, *(piece.text.rstrip() + "\n" for piece in ordered), nobody])


def maintenance_map(pieces: Mapping[str, Piece]) -> str:
    return MAP_HEADER + "".join(f"{app} {'on' if pieces[app].maintenance else 'off'}\n" for app in sorted(pieces))


def record(settings: Settings) -> str:
    """The text of edge.json."""
    return json.dumps({"apps": list(settings.apps), "settings": dict(settings.values)}, indent=2, sort_keys=True) + "\n"


@dataclass(frozen=True)
class Wanted:
    """What an inventory wants of an edge: its settings with their configuration, and its apps' pieces by name.

    Without `edge` the settings stay as they are (a removal).
    """

    pieces: Mapping[str, str]
    edge: Optional[str] = None
    values: Mapping[str, Any] = field(default_factory=dict)
    shared: str = REFUSE
    removed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Made:
    """The texts of an edge's files. `kept`: the settings of the edge stay another inventory's."""

    edge: str
    pieces: Mapping[str, Piece]
    settings: Optional[Settings]
    kept: bool = False

    @property
    def files(self) -> dict[str, str]:
        """By their path in HAProxy's directory, haproxy.cfg last: until it is there, what runs is what was there."""
        found = {"edge.cfg": self.edge, **{f"apps/{app}.cfg": piece.text for app, piece in self.pieces.items()}}
        if self.settings:
            found["edge.json"] = record(self.settings)
        return {
            **found,
            "maintenance.map": maintenance_map(self.pieces),
            "haproxy.cfg": assembled(self.edge, self.pieces),
        }


def _in_place_of(piece: Piece, there: Optional[Piece]) -> str:
    return not_the_same(there, piece.names, piece.former_names) if there else ""


def made(found: Present, wanted: Wanted) -> Made:
    """What an edge becomes. Raises EdgeError with every reason why it cannot, before anything is changed."""
    mine = [parse(app, text) for app, text in wanted.pieces.items()]
    gone = wanted.removed | set(wanted.pieces)
    others = {app: piece for app, piece in found.pieces.items() if app not in gone}
    problems = [problem for piece in mine if (problem := _in_place_of(piece, found.pieces.get(piece.app)))]
    problems += conflicts(mine, list(others.values()))
    settings, kept = found.settings, True
    if wanted.edge is not None:
        settings, refused = settled(found, list(wanted.pieces), wanted.values, wanted.shared)
        problems += refused
        kept = settings is None
        settings = found.settings if kept else settings
    if problems:
        raise EdgeError(f"Nothing of the edge was changed: {'. And '.join(problems)}.")
    if settings and wanted.removed:
        left = tuple(app for app in settings.apps if app not in wanted.removed)
        settings = Settings(left, settings.values)
    edge = found.edge if kept or wanted.edge is None else wanted.edge
    return Made(edge, {**others, **{piece.app: piece for piece in mine}}, settings, kept)
