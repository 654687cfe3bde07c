"""What clients of an API would notice of another version of it, from its two OpenAPI documents. Pure.

A break is a request that was taken before and is not now, or an answer without something that it had. The rules are
those that oasdiff (https://github.com/oasdiff/oasdiff, BREAKING-CHANGES.md) calls errors, without what no client
notices; docs/contract.md lists them. More is taken, more is answered, and whatever was marked as deprecated may go.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ..host.shown import clean
from .document import Budget, Document, Enough, part, parts
from .shapes import ANY, UNKNOWN, UPPER, Shape, Shapes

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")
# Steps for two documents: one of 500 routes takes a tenth.
STEPS = 400_000
# Breaks that are named, and those within one schema; fields inside each other that are compared.
NAMED, MOST, DEEPEST = 50, 20, 25
# Characters of a break, of a path in it, and of other words of a document.
LONGEST, PATH, WORD = 300, 120, 50
_VARIABLE = re.compile(r"\{([^{}]*)\}")
# Headers that OpenAPI has other words for.
_UNHEEDED = ("accept", "content-type", "authorization")
_EMPTY: dict[str, Any] = {}
NO_NULL = "takes no null any more"

# Where in a value, and what became of it.
Difference = tuple[str, str]


@dataclass(frozen=True)
class Comparison:
    """`breaks` are sentences, the first ones of all; `more` counts those that are left out.

    `whole` is false where the documents took too much work: there may be others.
    """

    breaks: tuple[str, ...] = ()
    more: int = 0
    whole: bool = True


@dataclass
class Operation:
    """A method of a path, with its parameters by (in, name); those of the path by their position."""

    name: str
    node: dict[str, Any]
    parameters: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)
    needs: str = ""  # whose credentials, empty for none


def compare(old: Mapping[str, Any], new: Mapping[str, Any], steps: int = STEPS) -> Comparison:
    """What of `old`, a parsed document, clients do not find any more in `new`. Raises nothing."""
    found: list[str] = []
    whole = True
    try:
        if old != new:
            found.extend(_Comparison(old, new, Budget(steps)).breaks())  # those until it is enough, too
    except (Enough, RecursionError):
        whole = False
    found = list(dict.fromkeys(clean(sentence, LONGEST).replace("\n", " ") for sentence in found))
    return Comparison(tuple(found[:NAMED]), max(len(found) - NAMED, 0), whole)


class _Comparison:
    def __init__(self, old: Mapping[str, Any], new: Mapping[str, Any], budget: Budget) -> None:
        self.budget = budget
        self.old, self.new = Document(dict(old), budget), Document(dict(new), budget)
        self.old_shapes, self.new_shapes = Shapes(self.old), Shapes(self.new)
        # Of two schemas, and whether a request has them; with the schemas, so that their ids stay their own.
        self._known: dict[tuple[int, int, bool], tuple[Any, Any, tuple[Difference, ...]]] = {}

    def breaks(self) -> Iterator[str]:
        """A sentence each. Raises Enough."""
        was, now = operations(self.old), operations(self.new)
        left = {}
        for key, before in was.items():
            if key in now:
                left[key] = before
            elif before.node.get("deprecated") is not True:
                yield f"{before.name} is gone"
        for key, before in left.items():
            for place, what in self._operation(before, now[key]):
                yield f"{before.name}: {place} {what}"

    def _operation(self, old: Operation, new: Operation) -> Iterator[Difference]:
        if new.needs and not old.needs:
            yield "it", f"asks for credentials now ({new.needs})"
        yield from self._parameters(old, new)
        yield from self._body(self.old.get(old.node.get("requestBody")), self.new.get(new.node.get("requestBody")))
        yield from self._answers(part(old.node, "responses"), part(new.node, "responses"))

    def _parameters(self, old: Operation, new: Operation) -> Iterator[Difference]:
        for key, parameter in new.parameters.items():
            place = f"{key[0][:WORD]} parameter {str(parameter.get('name'))[:WORD]}"
            before = old.parameters.get(key)
            if parameter.get("required") is True and key[0] != "path" and not (before or _EMPTY).get("required"):
                yield place, "is required now"
            if before is not None:
                inside = self._differences(_schema(before), _schema(parameter), asked=True)
                yield from placed((one for one in inside if one != ("", NO_NULL)), place)  # where null cannot be sent

    def _body(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
        if new.get("required") is True and old.get("required") is not True:
            yield "the request", "must have a body now"
        content = part(new, "content")  # without any it heeds no body
        for kind, (before, now) in (_paired(part(old, "content"), content) if content else {}).items():
            if now is None:
                yield "the request", f"is not taken as {kind[:WORD]} any more"
            else:
                yield from placed(self._differences(_schema(before), _schema(now), asked=True), "the request")

    def _answers(self, old: dict[str, Any], new: dict[str, Any]) -> Iterator[Difference]:
        for status, answer in old.items():
            now = next((new[name] for name in (status, f"{status[:1]}XX", "default") if name in new), None)
            if now is None:
                if status[:1] in ("2", "3"):
                    yield "it", f"does not answer {status[:3]} any more"
                continue
            place = f"the {status[:7]} answer"
            content = part(self.old.get(answer), "content"), part(self.new.get(now), "content")
            for kind, (before, after) in _paired(*content).items():
                if after is None:
                    yield place, f"is not {kind[:WORD]} any more"
                else:
                    yield from placed(self._differences(_schema(before), _schema(after), asked=False), place)

    def _differences(self, old: Any, new: Any, asked: bool, depth: int = 0) -> tuple[Difference, ...]:
        """What became of a value with this schema; `asked` is one in a request, else it is in an answer."""
        self.budget.spend()
        old, new = self.old.target(old), self.new.target(new)
        key = (id(old), id(new), asked)
        if key in self._known:
            return self._known[key][2]
        if depth >= DEEPEST:
            return ()
        self._known[key] = (old, new, ())  # one inside of itself has no other differences there
        was, now = self.old_shapes.of(old), self.new_shapes.of(new)
        found: list[Difference] = []
        lost: list[Shape] = []
        # Each that comes must be one of those that are taken: by the app in a request, by its client in an answer.
        for comes in was if asked else now:
            taken = _candidates(comes, now if asked else was)
            if not taken:
                lost.append(comes)
                continue
            pairs = [(comes, one) if asked else (one, comes) for one in taken]
            closest: list[Difference] = min((list(self._details(*pair, asked, depth)) for pair in pairs), key=len)
            found += closest
        if lost:
            found.insert(0, ("", changed(was, now, lost, asked)))
        distinct = tuple(dict.fromkeys(found))[:MOST]
        self._known[key] = (old, new, distinct)
        return distinct

    def _details(self, old: Shape, new: Shape, asked: bool, depth: int) -> Iterator[Difference]:
        """The differences of two shapes of one kind."""
        if UNKNOWN in (old.kind, new.kind) or ANY in (old.kind, new.kind):
            return
        if asked:
            yield from (("", words) for words in narrower(old, new))
        if old.kind == "array":
            inside = self._differences(_any(old.items), _any(new.items), asked, depth + 1)
            yield from (("[]" + _joined(path), words) for path, words in inside)
        if old.kind == "object":
            yield from self._fields(old, new, asked, depth)

    def _fields(self, old: Shape, new: Shape, asked: bool, depth: int) -> Iterator[Difference]:
        self.budget.spend(len(old.properties) + len(new.properties))
        for name, schema in old.properties.items():
            about = self.old.get(schema)
            if about.get("readOnly" if asked else "writeOnly") is True:
                continue
            if name in new.properties:
                inside = self._differences(schema, new.properties[name], asked, depth + 1)
                yield from ((name[:WORD] + _joined(path), words) for path, words in inside)
            elif new.closed if asked else about.get("deprecated") is not True:
                yield name[:WORD], "is not taken any more" if asked else "is gone"
        yield from self._asked_for(old, new) if asked else self._always_there(old, new)
        if old.other is not None and new.other is not None:
            inside = self._differences(old.other, new.other, asked, depth + 1)
            yield from (("*" + _joined(path), words) for path, words in inside)

    def _asked_for(self, old: Shape, new: Shape) -> Iterator[Difference]:
        for name in sorted(new.required - old.required):
            if self.new.get(new.properties.get(name)).get("readOnly") is not True:
                yield name[:WORD], "is required now"
        if new.closed and not old.closed:
            yield "", "takes no other fields any more"

    def _always_there(self, old: Shape, new: Shape) -> Iterator[Difference]:
        for name in old.properties:
            if name in old.required and name in new.properties and name not in new.required:
                yield name[:WORD], "may be missing now"


def operations(document: Document) -> dict[tuple[str, str], Operation]:
    """The operations of a document by path and method; the names of a path's parameters do not tell it from another."""
    found = {}
    for path, item in part(document.content, "paths").items():
        item = document.get(item)  # noqa: PLW2901 - what it refers to
        likeness, names = _VARIABLE.sub("{}", path), {name: at for at, name in enumerate(_VARIABLE.findall(path))}
        for method in METHODS:
            if method in item:
                node = part(item, method)
                found[likeness, method] = Operation(
                    f"{method.upper()} {path[:PATH]}",
                    node,
                    _parameters(document, (*parts(item, "parameters"), *parts(node, "parameters")), names),
                    _needs(document, node),
                )
    return found


def _parameters(
    document: Document, given: Iterable[Any], names: Mapping[str, int]
) -> dict[tuple[str, str], dict[str, Any]]:
    """Parameters by place and name; `names` are those in the path, with their positions."""
    found = {}
    for one in given:
        document.budget.spend()
        parameter = document.get(one)
        place, name = str(parameter.get("in")), str(parameter.get("name"))
        if place == "header":
            name = name.lower()
        if place != "header" or name not in _UNHEEDED:
            found[place, str(names.get(name, name)) if place == "path" else name] = parameter
    return found


def _needs(document: Document, node: Mapping[str, Any]) -> str:
    """The names of the security schemes without which an operation is refused; empty where it asks for none."""
    asked = parts(node if "security" in node else document.content, "security")
    document.budget.spend(len(asked))
    names = [" and ".join(map(str, one)) for one in asked if isinstance(one, dict)]
    return " or ".join(names)[:PATH] if all(names) else ""


def _schema(node: Any) -> Any:
    """The schema of a parameter, or of one kind of a content."""
    if isinstance(node, dict) and "schema" in node:
        return node["schema"]
    first = next(iter(part(node, "content").values()), None)
    return _any(first.get("schema")) if isinstance(first, dict) else _EMPTY


def _any(schema: Any) -> Any:
    return _EMPTY if schema is None else schema


def _paired(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The kinds of a content (media types without parameters) with what each is now; None for one that is gone."""
    now = {_bare(kind): node for kind, node in new.items()}
    return {kind: (node, now.get(_bare(kind), now.get("*/*"))) for kind, node in old.items()}


def _bare(kind: str) -> str:
    return kind.partition(";")[0].strip().lower()


def _candidates(comes: Shape, taken: Sequence[Shape]) -> list[Shape]:
    """Of what is taken that which a shape may be; the one of its own name where there is one."""
    fit = [one for one in taken if _fits(comes, one)]
    named = [one for one in fit if one.title and one.title == comes.title]
    return named or fit


def _fits(comes: Shape, taken: Shape) -> bool:
    if UNKNOWN in (comes.kind, taken.kind) or taken.kind == ANY:
        return True
    if comes.kind == taken.kind:
        return taken.format in ("", comes.format)
    return (comes.kind, taken.kind) == ("integer", "number")


def changed(was: Iterable[Shape], now: Iterable[Shape], lost: Sequence[Shape], asked: bool) -> str:
    """In words that a value is of another kind."""
    if [shape.kind for shape in lost] == ["null"]:
        return NO_NULL if asked else "may be null now"
    return f"is {kinds(now)} now and was {kinds(was)}"


def kinds(shapes: Iterable[Shape]) -> str:
    """The kinds of a value in words."""
    told = (f"{shape.kind} ({shape.format[:WORD]})" if shape.format else shape.kind for shape in shapes)
    return " or ".join(dict.fromkeys(told)) or "nothing"


def narrower(old: Shape, new: Shape) -> Iterator[str]:
    """In words what a request may not say any more."""
    if new.values is not None and old.values is None:
        yield f"takes only {_listed(new.values)} now"
    elif new.values is not None and old.values is not None and (gone := old.values - new.values):
        yield f"does not take {_listed(gone)} any more"
    for name, limit in new.limits.items():
        before: Optional[float] = old.limits.get(name)
        if before is None or (limit < before if name in UPPER else limit > before):
            yield f"has {name} {limit} now and had {'none' if before is None else before}"
    if new.pattern and new.pattern != old.pattern:
        yield f"must match {new.pattern[:WORD]} now"


def _listed(values: Iterable[str]) -> str:
    shown = sorted(values)
    more = f" and {len(shown) - 5} more" if len(shown) > 5 else ""
    return ", ".join(value[:WORD] for value in shown[:5]) + more


def _joined(path: str) -> str:
    return path if not path or path.startswith("[") else f".{path}"


def placed(differences: Iterable[Difference], role: str) -> Iterator[Difference]:
    """Differences of a value that plays a role in a request or an answer."""
    for path, words in differences:
        yield (f"field {path} of {role}" if path else role), words
