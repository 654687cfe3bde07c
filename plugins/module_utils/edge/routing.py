"""Which app a request is for, by the name and the path that it asks for, and what two apps cannot both have."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Optional

# The name that was asked for, without its port; `host_only` would be the word for it from HAProxy 2.5 on.
ASKED = "req.hdr(Host),field(1,:),lower"

_NAME = re.compile(r"^# host name: (\S+)$", re.MULTILINE)
_PATH = re.compile(r"^# path: (\S+)$", re.MULTILINE)
_LOOKED_AT = re.compile(r"^# looked at by: (\S+)$", re.MULTILINE)
_REDIRECTED = re.compile(r"^# redirect name: (\S+)$", re.MULTILINE)
_FORMER = re.compile(r"^# former name: (\S+)$", re.MULTILINE)
_SHOWN = re.compile(r"^# maintenance: on$", re.MULTILINE)


@dataclass(frozen=True)
class Piece:
    """What one app has at an edge. Without host names it gets every request that is for no other app.

    Requests for its redirect names are sent to the first host name. With `paths` it gets of its host names what is at
    one of them or below, and other apps may have the rest. `looked_at` are the paths by which it is looked at through
    the edge. `former_names` it had before, as far as its inventory says so.
    """

    app: str
    text: str
    host_names: tuple[str, ...] = ()
    maintenance: bool = False
    redirect_names: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    looked_at: tuple[str, ...] = ()
    former_names: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """All names under which somebody may ask for it."""
        return self.host_names + self.redirect_names

    @property
    def parts(self) -> tuple[str, ...]:
        """What it has of its host names: its paths, or all of them, which is the empty path."""
        return self.paths or ("",)


def parse(app: str, text: str) -> Piece:
    """A file of `apps/`."""
    kinds = (_NAME, _REDIRECTED, _FORMER)
    host_names, redirect_names, former_names = (tuple(map(str.lower, kind.findall(text))) for kind in kinds)
    paths, looked_at = (tuple(kind.findall(text)) for kind in (_PATH, _LOOKED_AT))
    return Piece(app, text, host_names, bool(_SHOWN.search(text)), redirect_names, paths, looked_at, former_names)


def not_the_same(there: Piece, here: Sequence[str], former: Sequence[str]) -> str:
    """Why an app is not the one of its name that is behind this edge; empty where it may be.

    Two inventories that know nothing of each other may have chosen one name, and the app that comes would take the
    place of the one that serves. Whether it is the same is told by the names that users ask for, a star's included,
    and by those that either had before: a rename may be taken back.

    Args:
        there: the one that is there; without any name it may be the same
        here: all names of the one that comes; likewise
        former: names that the one that comes had before
    """
    known = (*there.names, *there.former_names)
    if not there.names or not here or any(_meet(one, other) for one in known for other in (*here, *former)):
        return ""
    app, names = there.app, ", ".join(there.names)
    return (
        f"{app} is behind this edge as {names} already, and here {app} is {', '.join(here)}: they share no "
        "name, so this seems to be another app, which would take the place of that one. Give it a fastapi_app_name of "
        f"its own. Where it is the same app, renamed, set fastapi_app_former_names: [{names}] "
        "(former_names in haproxy_apps of a balancer), or have the old name in fastapi_app_redirect_names; and where "
        f"that one is to go, run slipway.fleet.remove for it first: -e slipway_remove={app}"
    )


def _meet(one: str, other: str) -> bool:
    one, other = one.lower(), other.lower()
    return one == other or any(
        star.startswith("*") and name.endswith(star[1:]) for star, name in ((one, other), (other, one))
    )


def conflicts(mine: Sequence[Piece], others: Sequence[Piece]) -> Iterator[str]:
    """A sentence for each thing that an app of this inventory and one of another cannot both have."""
    for piece in mine:
        for other in others:
            if not piece.host_names and not other.host_names:
                yield from _both_take_any(piece, other)
            shared = set(piece.host_names) & set(other.host_names)
            if both := sorted(set(piece.names) & set(other.names) - shared):
                yield _names_of_both(piece, other, both)
            for name in sorted(shared):
                paths = set(piece.parts) & set(other.parts)
                if "" in paths:
                    advice = (
                        "; or give one of them fastapi_app_paths, such as [/api], and leave the rest to the other one"
                    )
                    yield _names_of_both(piece, other, [name]) + advice
                if given := sorted(paths - {""}):
                    yield _paths_of_both(piece, other, given, f" under {name}")
                yield from _taken_looks(piece, other, name)


def _both_take_any(piece: Piece, other: Piece) -> Iterator[str]:
    if not piece.paths and not other.paths:
        yield (
            f"{piece.app} has no host names and takes every request, and so does {other.app}, which is behind "
            "this edge already from an inventory of its own; set fastapi_app_host_names of one of them and "
            "provision that one first"
        )
    if given := sorted(set(piece.paths) & set(other.paths)):
        yield _paths_of_both(piece, other, given, " under any name")


def _names_of_both(piece: Piece, other: Piece, names: Sequence[str]) -> str:
    what = "host name" if set(names) <= set(other.host_names) else "redirect name"
    where = "host_names" if set(names) <= set(piece.host_names) else "redirect_names"
    return (
        f"{', '.join(names)} is a {what} of {other.app}, which is behind this edge already; take it out "
        f"of fastapi_app_{where} of {piece.app}, or of {other.app} and provision that one first"
    )


def _paths_of_both(piece: Piece, other: Piece, paths: Sequence[str], under: str) -> str:
    return (
        f"{', '.join(paths)}{under} is a path of {other.app}, which is behind this edge already; take it out of "
        f"fastapi_app_paths of {piece.app}, or of {other.app} and provision that one first"
    )


def _taken_looks(piece: Piece, other: Piece, name: str) -> Iterator[str]:
    """Where requests by which one of two apps of a name is looked at would get to the other one."""
    for seen, taker in ((piece, other), (other, piece)):
        for look in seen.looked_at:
            if len(part_of(look, taker.parts) or "") > len(part_of(look, seen.parts) or ""):
                yield (
                    f"{look}, by which {seen.app} is looked at under {name}, is {taker.app}'s by its paths "
                    f"({', '.join(taker.paths)}), and one of the two is behind this edge already; set "
                    f"fastapi_app_health_path or fastapi_app_version_path of {seen.app} to a path that is its own, or "
                    f"take that one out of fastapi_app_paths of {taker.app}"
                )


def part_of(path: str, parts: Iterable[str]) -> Optional[str]:
    """The longest of these at which a path is, or below which; None where there is none. All are plain, not encoded."""
    found = [part for part in parts if path == part or path.startswith(f"{part}/")]
    return max(found, key=len, default=None)


def at_or_below(path: str) -> str:
    """A condition of HAProxy: that a request is for this path or what is below it.

    Segments are compared, each decoded as an app does (RFC 3986, 6.2.2.2): an escaped character is no way around, and
    an escaped slash is a part of its segment (2.2).
    """
    segments = enumerate(path.split("/")[1:], 2)
    return " ".join(f"{{ path,field({number},/),url_dec -m str {segment} }}" for number, segment in segments)


def leading_to(path: str) -> list[str]:
    """Conditions of HAProxy: a request that an app may take for this path, or for what is below it, meets one of them.

    Apps decode a path as a whole, and what serves files puts it in order: `//internal`, `/./internal` and
    `/a/%2e%2e/internal` are `/internal` then. Slashes are passed over here as well. Of a path with a segment `.` or
    `..` it is enough that it names each segment: browsers send none, and HAProxy cannot put one in order.
    """
    segments = [segment for segment in path.split("/") if segment]
    if not segments:
        return ["TRUE"]
    first = (f"{{ path,url_dec,word({number},/) -m str {segment} }}" for number, segment in enumerate(segments, 1))
    named = (f"{{ path,url_dec -m sub /{segment} }}" for segment in segments)
    return [" ".join(first), " ".join(("{ path,url_dec -m sub /./ /../ }", *named))]


def other_spellings(name: str) -> list[str]:
    """The names of a header that are the same one for a WSGI app (PEP 3333), which knows no dash from an underscore."""
    first, *words = name.split("-")
    every = itertools.product("-_", repeat=len(words))
    spelled = ["".join((first, *map("".join, zip(between, words)))) for between in every]
    return spelled[1:]


def is_named(name: str) -> str:
    """A condition of HAProxy: that a request is for this name, or for one that a star stands for."""
    return f"{{ {ASKED} -m {'end' if name.startswith('*') else 'str'} {name.lstrip('*')} }}"


def routes(pieces: Iterable[Piece]) -> list[str]:
    """The frontend's last rules: names told in full first, then stars, longer ones first, then who takes the rest.

    Of a name that several apps have, or of those that nobody has, the longest path is the first one.
    """
    every = list(pieces)
    parts = [(name, path, piece.app) for piece in every for name in piece.host_names for path in piece.parts]
    parts += [(name, "", piece.app) for piece in every for name in piece.redirect_names]
    full = sorted((one for one in parts if not one[0].startswith("*")), key=_by_path)
    stars = sorted((one for one in parts if one[0].startswith("*")), key=lambda one: (-len(one[0]), *_by_path(one)))
    anywhere = sorted(
        (("", path, piece.app) for piece in every if not piece.host_names for path in piece.paths), key=_by_path
    )
    rest = next((f"app_{piece.app}" for piece in every if not piece.host_names and not piece.paths), "no_app")
    return [
        *(
            f"use_backend app_{app} if {' '.join(filter(None, (name and is_named(name), path and at_or_below(path))))}"
            for name, path, app in (*full, *stars, *anywhere)
        ),
        f"default_backend {rest}",
    ]


def _by_path(one: tuple[str, str, str]) -> tuple[str, int, str, str]:
    name, path, app = one
    return name, -len(path), path, app
