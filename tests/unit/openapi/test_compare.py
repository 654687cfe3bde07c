"""Each rule of the comparison, both ways: what breaks clients is named, and its opposite is not."""

from __future__ import annotations

import copy
import json
import time
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.compare import (
    LONGEST,
    NAMED,
    Comparison,
    compare,
)
from ansible_collections.slipway.fleet.plugins.module_utils.openapi.document import parsed
from fastapi import FastAPI
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

Json = dict[str, Any]
STRING, INTEGER, NUMBER, NULL = ({"type": kind} for kind in ("string", "integer", "number", "null"))
MAYBE_STRING = {"anyOf": [STRING, NULL]}


def document(*operations: tuple[str, Json], **more: Any) -> Json:
    paths: Json = {}
    for name, operation in operations:
        method, _, path = name.partition(" ")
        paths.setdefault(path, {})[method.lower()] = operation
    return {"openapi": "3.1.0", "paths": paths, **more}


def json_of(schema: Any) -> Json:
    return {"content": {"application/json": {"schema": schema}}}


def asks(schema: Any, **more: Any) -> Json:
    """An API with one request."""
    return document(("POST /a", {"requestBody": {"required": True, **json_of(schema)}}), **more)


def answers(schema: Any, **more: Any) -> Json:
    """An API with one answer."""
    return document(("GET /a", {"responses": {"200": json_of(schema)}}), **more)


def parameter(schema: Any = None, place: str = "query", name: str = "q", **more: Any) -> Json:
    return document(("GET /a", {"parameters": [{"in": place, "name": name, "schema": schema or STRING, **more}]}))


def fields(required: Any = (), **properties: Any) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}


def said(old: Json, new: Json) -> list[str]:
    found = compare(old, new)
    assert found.whole
    return list(found.breaks)


EMPTY = document(("GET /a", {}))
AUTH: list[Json] = [{"HTTPBearer": []}]
PLAIN = document(("POST /a", {}))
OPTIONAL_BODY = document(("POST /a", {"requestBody": json_of(STRING)}))
XML_BODY = document(("POST /a", {"requestBody": {"required": True, "content": {"application/xml": {}}}}))
# What was, what is, and what is said of it; then of the way back.
RULES: dict[str, tuple[Json, Json, list[str], list[str]]] = {
    "a path": (document(("GET /a", {}), ("PUT /b", {})), EMPTY, ["PUT /b is gone"], []),
    "a method": (document(("GET /a", {}), ("PUT /a", {})), EMPTY, ["PUT /a is gone"], []),
    "a deprecated operation": (document(("GET /a", {}), ("PUT /b", {"deprecated": True})), EMPTY, [], []),
    "the name of a variable of a path": (
        document(("GET /a/{x}", {"parameters": [{"in": "path", "name": "x", "required": True, "schema": STRING}]})),
        document(("GET /a/{y}", {"parameters": [{"in": "path", "name": "y", "required": True, "schema": INTEGER}]})),
        ["GET /a/{x}: path parameter y is integer now and was string"],
        ["GET /a/{y}: path parameter x is string now and was integer"],
    ),
    "a parameter that is required": (
        EMPTY, parameter(required=True), ["GET /a: query parameter q is required now"], [],
    ),
    "a parameter that becomes required": (
        parameter(), parameter(required=True), ["GET /a: query parameter q is required now"], [],
    ),
    "a parameter that may be left out": (EMPTY, parameter(), [], []),
    "null, which no parameter can be": (parameter(MAYBE_STRING), parameter(STRING), [], []),
    "a header by another case": (
        parameter(place="header", name="X-A"), parameter(place="header", name="x-a", required=True),
        ["GET /a: header parameter x-a is required now"], [],
    ),
    "a header with other words in OpenAPI": (
        EMPTY, parameter(place="header", name="Authorization", required=True), [], [],
    ),
    "the kind of a parameter": (
        parameter(NUMBER), parameter(INTEGER), ["GET /a: query parameter q is integer now and was number"], [],
    ),
    "credentials": (
        EMPTY, document(("GET /a", {"security": AUTH})), ["GET /a: it asks for credentials now (HTTPBearer)"], [],
    ),
    "credentials for all": (
        EMPTY, {**EMPTY, "security": AUTH}, ["GET /a: it asks for credentials now (HTTPBearer)"], [],
    ),
    "credentials that may be left out": (EMPTY, document(("GET /a", {"security": [*AUTH, {}]})), [], []),
    "a body": (PLAIN, asks(STRING), ["POST /a: the request must have a body now"], []),
    "a body that may be left out": (PLAIN, OPTIONAL_BODY, [], []),
    "a body that is required": (OPTIONAL_BODY, asks(STRING), ["POST /a: the request must have a body now"], []),
    "how a body is written": (
        XML_BODY, asks(STRING), ["POST /a: the request is not taken as application/xml any more"],
        ["POST /a: the request is not taken as application/json any more"],
    ),
    "a field that is asked for": (
        asks(fields()), asks(fields(("a",), a=STRING)), ["POST /a: field a of the request is required now"], [],
    ),
    "a field that becomes required": (
        asks(fields(a=STRING)), asks(fields(("a",), a=STRING)),
        ["POST /a: field a of the request is required now"], [],
    ),
    "a field that the app fills in": (
        asks(fields()), asks(fields(("a",), a={**STRING, "readOnly": True})), [], [],
    ),
    "a field that is heeded no more": (asks(fields(a=STRING)), asks(fields()), [], []),
    "a field that is refused": (
        asks(fields(a=STRING)), asks({**fields(), "additionalProperties": False}),
        ["POST /a: field a of the request is not taken any more",
         "POST /a: the request takes no other fields any more"],
        [],
    ),
    "null in a request": (
        asks(fields(a=MAYBE_STRING)), asks(fields(a=STRING)),
        ["POST /a: field a of the request takes no null any more"], [],
    ),
    "null as OpenAPI 3.0 has it": (
        asks(fields(a={**STRING, "nullable": True})), asks(fields(a=STRING)),
        ["POST /a: field a of the request takes no null any more"], [],
    ),
    "null as a list has it": (
        answers(fields(a=STRING)), answers(fields(a={"type": ["string", "null"]})),
        ["GET /a: field a of the 200 answer may be null now"], [],
    ),
    "values that are taken": (
        asks({"enum": ["a", "b"]}), asks({"const": "a"}), ["POST /a: the request does not take b any more"], [],
    ),
    "values where all were taken": (
        asks(STRING), asks({"enum": ["a", "b"]}), ["POST /a: the request takes only a, b now"], [],
    ),
    "values of an answer": (answers({"enum": ["a"]}), answers({"enum": ["a", "b"]}), [], []),
    "an upper limit": (
        asks({**STRING, "maxLength": 9}), asks({**STRING, "maxLength": 5}),
        ["POST /a: the request has maxLength 5 now and had 9"], [],
    ),
    "a lower limit": (
        asks(INTEGER), asks({**INTEGER, "minimum": 1}), ["POST /a: the request has minimum 1 now and had none"], [],
    ),
    "limits of an answer": (answers({**STRING, "maxLength": 9}), answers(STRING), [], []),
    "a pattern": (asks(STRING), asks({**STRING, "pattern": "^a"}), ["POST /a: the request must match ^a now"], []),
    "a format in a request": (
        asks(STRING), asks({**STRING, "format": "uuid"}),
        ["POST /a: the request is string (uuid) now and was string"], [],
    ),
    "a format in an answer": (
        answers({**STRING, "format": "date"}), answers(STRING),
        ["GET /a: the 200 answer is string now and was string (date)"], [],
    ),
    "a format that only shows": (asks(STRING), asks({**STRING, "format": "password"}), [], []),
    "the kind of an answer": (
        answers(INTEGER), answers(NUMBER), ["GET /a: the 200 answer is number now and was integer"], [],
    ),
    "one kind more in an answer": (
        answers(STRING), answers({"anyOf": [STRING, INTEGER]}),
        ["GET /a: the 200 answer is string or integer now and was string"], [],
    ),
    "one kind more in a request": (
        asks({"oneOf": [STRING, INTEGER]}), asks(STRING),
        ["POST /a: the request is string now and was string or integer"], [],
    ),
    "an answer that is not described any more": (
        answers(fields(a=STRING)), answers({}), ["GET /a: the 200 answer is anything now and was object"], [],
    ),
    "a field of an answer": (
        answers(fields(a=STRING)), answers(fields()), ["GET /a: field a of the 200 answer is gone"], [],
    ),
    "a deprecated field of an answer": (
        answers(fields(a={**STRING, "deprecated": True})), answers(fields()), [], [],
    ),
    "a field that is no more in every answer": (
        answers(fields(("a",), a=STRING)), answers(fields(a=STRING)),
        ["GET /a: field a of the 200 answer may be missing now"], [],
    ),
    "a field of a field of a list": (
        answers({"type": "array", "items": fields(b=fields(c=STRING))}),
        answers({"type": "array", "items": fields(b=fields())}),
        ["GET /a: field [].b.c of the 200 answer is gone"], [],
    ),
    "the values of a dictionary": (
        answers({"type": "object", "additionalProperties": STRING}),
        answers({"type": "object", "additionalProperties": INTEGER}),
        ["GET /a: field * of the 200 answer is integer now and was string"],
        ["GET /a: field * of the 200 answer is string now and was integer"],
    ),
    "a status": (
        document(("GET /a", {"responses": {"200": {}, "201": {}}})), document(("GET /a", {"responses": {"200": {}}})),
        ["GET /a: it does not answer 201 any more"], [],
    ),
    "a status of a failure": (
        document(("GET /a", {"responses": {"422": {}}})), document(("GET /a", {"responses": {"200": {}}})),
        [], ["GET /a: it does not answer 200 any more"],
    ),
    "a status among others": (
        document(("GET /a", {"responses": {"201": {}}})), document(("GET /a", {"responses": {"2XX": {}}})),
        [], ["GET /a: it does not answer 2XX any more"],
    ),
    "how an answer is written": (
        document(("GET /a", {"responses": {"200": {"content": {"text/csv": {}, "text/html; charset=utf-8": {}}}}})),
        document(("GET /a", {"responses": {"200": {"content": {"text/html": {}}}}})),
        ["GET /a: the 200 answer is not text/csv any more"], [],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RULES)
def test_a_rule_and_its_opposite(name: str) -> None:
    old, new, breaks, back = RULES[name]
    assert said(old, new) == breaks
    assert said(new, old) == back


@pytest.mark.parametrize("name", RULES)
def test_the_same_api_breaks_nothing(name: str) -> None:
    for api in RULES[name][:2]:
        assert said(api, copy.deepcopy(api)) == []


def components(**schemas: Any) -> Json:
    return {"components": {"schemas": schemas}}


def ref(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def test_references_are_followed_everywhere() -> None:
    old = {
        "openapi": "3.0.3",
        "paths": {
            "/a": {
                "parameters": [{"$ref": "#/components/parameters/P"}],
                "post": {
                    "requestBody": {"$ref": "#/components/requestBodies/B"},
                    "responses": {"200": {"$ref": "#/components/responses/R"}},
                },
            }
        },
        "components": {
            "parameters": {"P": {"in": "query", "name": "p", "schema": ref("S")}},
            "requestBodies": {"B": json_of(ref("S"))},
            "responses": {"R": json_of(fields(a=ref("a~1b%20c")))},
            "schemas": {"S": {"enum": ["x", "y"]}, "a/b c": STRING},
        },
    }
    new = copy.deepcopy(old)
    new["components"]["schemas"] = {"S": {"enum": ["x"]}, "a/b c": INTEGER}  # type: ignore[index]
    assert said(old, new) == [
        "POST /a: query parameter p does not take y any more",
        "POST /a: the request does not take y any more",
        "POST /a: field a of the 200 answer is integer now and was string",
    ]


def test_a_schema_inside_of_itself_is_compared_once() -> None:
    def tree(leaf: Json) -> Json:
        node = fields(value=leaf, kids={"type": "array", "items": ref("Node")})
        return answers(ref("Node"), **components(Node=node))

    assert said(tree(STRING), tree(INTEGER)) == ["GET /a: field value of the 200 answer is integer now and was string"]


def test_parts_of_a_whole_count_together() -> None:
    old = asks({"allOf": [ref("A"), fields(("b",), b=STRING)]}, **components(A=fields(("a",), a=STRING)))
    flat = asks(fields(("a", "b"), a=STRING, b=STRING))
    assert said(old, flat) == said(flat, old) == []
    more = asks({"allOf": [ref("A"), fields(("b", "c"), b=STRING)]}, **components(A=fields(("a",), a=INTEGER)))
    assert said(old, more) == [
        "POST /a: field a of the request is integer now and was string",
        "POST /a: field c of the request is required now",
    ]


def test_an_alternative_is_found_again_by_its_name() -> None:
    def pets(**cat: Any) -> Json:
        kinds = {"Cat": fields(kind={"const": "cat"}, **cat), "Dog": fields(kind={"const": "dog"}, paws=INTEGER)}
        named = {name: {**schema, "title": name} for name, schema in kinds.items()}
        return answers({"oneOf": [ref("Dog"), ref("Cat")]}, **components(**named))

    assert said(pets(lives=INTEGER), pets()) == ["GET /a: field lives of the 200 answer is gone"]


def test_what_cannot_be_told_is_no_break() -> None:
    elsewhere = {"$ref": "https://schemas.example/a.json"}
    nowhere = ref("NotThere")
    itself = {"A": {"allOf": [ref("A"), fields(a=STRING)]}}
    never = {"allOf": [STRING, INTEGER]}
    for schema in (elsewhere, nowhere, ref("A"), never):
        for api in (asks, answers):
            assert said(api(fields(a=STRING)), api(schema, **components(**itself))) == []
            assert said(api(schema, **components(**itself)), api(fields(a=STRING))) == []


def test_many_breaks_are_counted() -> None:
    old = document(*((f"GET /{number:03}", {}) for number in range(NAMED + 7)))
    assert compare(old, document()) == Comparison(tuple(f"GET /{n:03} is gone" for n in range(NAMED)), 7)


def test_a_document_is_shown_without_what_a_terminal_obeys() -> None:
    old = document(
        ("GET /a\x1b[2Jb\n" + "c" * 5000, {"responses": {"200": json_of(fields(**{"\ud800" * 99: STRING}))}})
    )
    found = said(old, document()) + said(old, {**old, "paths": {next(iter(old["paths"])): {"get": {"responses": {
        "200": json_of(fields())}}}}})  # fmt: skip
    assert len(found) == 2
    for sentence in found:
        assert len(sentence) <= LONGEST
        assert sentence.isprintable()
        sentence.encode()


def deep(levels: int, make: Any) -> Any:
    found: Any = STRING
    for _ in range(levels):
        found = make(found)
    return found


def doubled(levels: int, name: str) -> Json:
    """Each schema has the next one twice: as many ways as atoms, and no more work than schemas."""
    end = {f"S{levels}": {"type": name}}
    return {f"S{n}": fields(a=ref(f"S{n + 1}"), b=ref(f"S{n + 1}")) for n in range(levels)} | end


HOSTILE: dict[str, tuple[Json, Json]] = {
    "nested fields": (
        answers(deep(300, lambda inner: fields(a=inner))), answers(deep(300, lambda inner: fields(b=inner))),
    ),
    "nested wholes": (
        asks(deep(300, lambda inner: {"allOf": [inner]})), asks(deep(300, lambda inner: {"anyOf": [inner]})),
    ),
    "ways without an end": (
        answers(ref("S0"), **components(**doubled(200, "string"))),
        answers(ref("S0"), **components(**doubled(200, "integer"))),
    ),
    "alternatives of alternatives": (
        asks(ref("A0"), **components(**{f"A{n}": {"anyOf": [ref(f"A{n + 1}")] * 30} for n in range(30)})),
        asks(ref("A0"), **components(**{f"A{n}": {"allOf": [ref(f"A{n + 1}")] * 30} for n in range(30)})),
    ),
    "wide unions": (
        answers({"anyOf": [fields(**{f"f{n}": INTEGER, "x": STRING}) for n in range(2000)]}),
        answers({"anyOf": [fields(**{f"g{n}": STRING, "x": INTEGER}) for n in range(2000)]}),
    ),
    "a wide object in many places": (
        document(*((f"GET /{n}", {"responses": {"200": json_of({"allOf": [ref("W"), {"title": str(n)}]})}})
                   for n in range(500)), **components(W=fields(**{f"f{n}": STRING for n in range(5000)}))),
        document(*((f"GET /{n}", {"responses": {"200": json_of({"allOf": [ref("W"), {"title": str(n)}]})}})
                   for n in range(500)), **components(W=fields(**{f"f{n}": INTEGER for n in range(5000)}))),
    ),
    "long paths with many parameters": (
        document(("GET /" + "{a}" * 20000, {"parameters": [{"in": "path", "name": f"p{n}"} for n in range(3000)]})),
        document(("GET /" + "{b}" * 20000, {"parameters": [{"in": "path", "name": f"p{n}"} for n in range(3000)]})),
    ),
    "long names": (
        answers(fields(**{f"{n}" + "n" * 20000: STRING for n in range(100)})), answers(fields()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_document_takes_little(name: str) -> None:
    old, new = HOSTILE[name]
    began = time.process_time()
    for one, other in ((old, new), (new, old)):
        found = compare(one, other)
        assert len(found.breaks) <= NAMED
    assert time.process_time() - began < 10  # a second on a machine of its own


def test_one_document_is_like_itself_however_much_work_it_takes() -> None:
    one = answers(ref("S0"), **components(**doubled(200, "string")))
    assert compare(one, json.loads(json.dumps(one)), steps=1) == Comparison()


def test_what_was_found_before_it_was_enough_is_told() -> None:
    old = document(
        ("PUT /b", {}), ("GET /a", {"responses": {"200": json_of(fields(**{f"f{n}": STRING for n in range(99)}))}})
    )
    new = document(("GET /a", {"responses": {"200": json_of(fields())}}))
    found = compare(old, new, steps=50)
    assert (found.breaks, found.whole) == (("PUT /b is gone",), False)


SCHEMAS = st.recursive(
    st.sampled_from([STRING, INTEGER, NUMBER, NULL, {}, True, False, None, 3, "x", {"enum": ["a", 1, None]}, ref("A")]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda found: {"anyOf": found}),
        st.lists(inner, max_size=3).map(lambda found: {"allOf": found}),
        st.dictionaries(st.sampled_from("abc"), inner, max_size=3).map(
            lambda found: {"type": "object", "properties": found, "required": ["a"]}
        ),
        inner.map(lambda found: {"type": "array", "items": found}),
        inner.map(lambda found: {"type": "object", "additionalProperties": found}),
    ),
    max_leaves=12,
)


@given(SCHEMAS, SCHEMAS)
@settings(max_examples=150)
def test_whatever_stands_there_the_same_breaks_nothing(schema: Any, named: Any) -> None:
    for api in (asks, answers):
        one = api(schema, **components(A=named))
        found = compare(one, {**json.loads(json.dumps(one)), "info": {"version": "2"}})
        assert found.breaks == ()
        assume(found.whole)  # a schema that names itself twice over takes too much work; Hypothesis fails if many do


@given(SCHEMAS, SCHEMAS, SCHEMAS)
@settings(max_examples=150)
def test_whatever_stands_there_it_is_compared(old: Any, new: Any, named: Any) -> None:
    for api in (asks, answers):
        found = compare(api(old, **components(A=named)), api(new))
        assert all(sentence.isprintable() for sentence in found.breaks)
        assume(found.whole)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(
        st.sampled_from(["paths", "/a", "get", "parameters", "in", "name", "schema", "requestBody", "content", "x",
                         "responses", "200", "type", "properties", "required", "$ref", "anyOf", "security", "enum"]),
        inner, max_size=5,
    ),
    max_leaves=25,
)  # fmt: skip


@given(JSON, JSON)
@settings(max_examples=80)
def test_nothing_in_a_document_stops_it(old: Any, new: Any) -> None:
    compare({"openapi": "3.1.0", "paths": old}, {"openapi": "3.1.0", "paths": new})
    compare({"openapi": "3.1.0", "paths": {"/a": {"get": old}}}, {"openapi": "3.1.0", "paths": {"/a": {"get": new}}})


class Link(BaseModel):
    slug: str
    note: str | None = None
    kids: list[Link] = []


class Less(BaseModel):
    slug: str
    kids: list[Less] = []


def test_what_fastapi_writes_is_understood() -> None:
    def api(model: type[BaseModel], *paths: str) -> Json:
        def read(slug: str, limit: int = 10) -> None:
            """Reads it."""

        def write(body: Any) -> None:
            """Writes it."""

        write.__annotations__["body"] = model
        app = FastAPI()
        for path in paths:
            app.add_api_route(path, read, response_model=model)
            app.add_api_route(path, write, methods=["POST"])
        return parsed(json.dumps(app.openapi()))

    old = api(Link, "/links/{slug}", "/old/{slug}")
    assert said(old, api(Link, "/links/{slug}", "/old/{slug}", "/new/{slug}")) == []
    assert said(old, api(Less, "/links/{slug}")) == [
        "GET /old/{slug} is gone",
        "POST /old/{slug} is gone",
        "GET /links/{slug}: field note of the 200 answer is gone",
    ]
