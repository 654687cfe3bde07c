"""A registry that means harm: its challenges, redirections, manifests, configurations and tokens."""

from __future__ import annotations

import hashlib
import http.client
import io
import ssl
import urllib.request
import urllib.response
from email.message import Message
from typing import Any

from ansible_collections.slipway.fleet.plugins.module_utils.image import registry
from ansible_collections.slipway.fleet.plugins.module_utils.image.registry import (
    LISTS,
    MANIFESTS,
    Login,
    Registry,
    RegistryError,
    Resolved,
    parse,
)
from hypothesis import strategies as st

from tests.fuzz.hostile import DEEP, JSON, TEXTS, damaged, dumped, given, like, quick, texts_like

CONFIG = {"architecture": "amd64", "os": "linux"}


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


LAYERS = [{"size": 10, "digest": "sha256:0"}, {"size": 5}]
BLOB = dumped(CONFIG)
IMAGE = {"mediaType": MANIFESTS[0], "config": {"digest": digest_of(BLOB.encode())}, "layers": LAYERS}
LISTED = {"platform": {"os": "linux", "architecture": "amd64"}, "digest": digest_of(dumped(IMAGE).encode())}
LIST = {"mediaType": LISTS[0], "manifests": [LISTED]}
BODIES = st.one_of(
    st.just(dumped(IMAGE)),
    st.just(dumped(LIST)),
    st.just(BLOB),
    texts_like(IMAGE),
    texts_like(LIST),
    texts_like(CONFIG),
    st.lists(like(LISTED) | JSON, max_size=3).map(lambda items: dumped({**LIST, "manifests": items})),
    st.lists(JSON, max_size=3).map(lambda items: dumped({**IMAGE, "layers": items})),
    like(IMAGE["config"]).map(lambda config: dumped({**IMAGE, "config": config})),  # type: ignore[arg-type]
    texts_like({"token": "t", "access_token": "u"}),
    texts_like({"errors": [{"code": "c", "message": "m"}]}),
    DEEP,
)
WORDS = st.one_of(
    TEXTS,
    st.sampled_from(
        [
            *("https://[", "https://127.0.0.1.evil/", "http://localhost", "http://127.0.0.1\nX: y", "//x", "https://"),
            *("file:///etc/passwd", "ftp://x/", "https://x:99999999/", "https://a b/", "HTTPS://X", "https://\u2100/"),
        ]
    ),
)
HEADERS = st.one_of(
    st.fixed_dictionaries({}),
    st.builds(lambda realm, service: {"WWW-Authenticate": f'Bearer realm="{realm}",service="{service}"'}, WORDS, WORDS),
    st.builds(lambda words: {"WWW-Authenticate": words}, damaged(st.just(b'Basic realm="x"')).map(repr) | WORDS),
    st.builds(lambda to: {"Location": to}, WORDS),
    st.builds(lambda seconds: {"Retry-After": seconds}, WORDS),
    st.builds(lambda digest: {"Docker-Content-Digest": digest, "Content-Type": digest}, WORDS),
)
ANSWERS = st.lists(
    st.tuples(st.sampled_from([200, 200, 200, 301, 307, 308, 401, 403, 404, 429, 500, 999]), HEADERS, BODIES),
    min_size=1,
    max_size=6,
)


PASSWORD = "planted-and-in-no-message"
TRUSTED = ssl.create_default_context()


class Asking(Registry):
    """As any, without reading the system's authorities for each input."""

    def _context(self) -> ssl.SSLContext:
        return TRUSTED


class Wire(urllib.request.HTTPSHandler):
    """Answers in the registry's place, below all that urllib does with an answer; the last one for ever."""

    def __init__(self, answers: list[tuple[int, dict[str, str], str]], **_: Any) -> None:
        super().__init__()
        self.answers = list(answers)
        self.asked: list[str] = []

    def https_open(self, req: urllib.request.Request) -> Any:
        self.asked.append(req.full_url)
        assert len(self.asked) < 2000, "no end"
        # What http.client refuses to send.
        connection = http.client.HTTPSConnection(req.host)
        connection.putrequest("GET", req.selector, skip_host=True)
        for name, value in req.header_items():
            connection.putheader(name, value)
        status, headers, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        message = Message()
        for name, value in headers.items():
            message._headers.append((name, value))  # type: ignore[attr-defined]
        answer = urllib.response.addinfourl(
            io.BytesIO(body.encode("utf-8", "surrogatepass")), message, req.full_url, status
        )
        answer.msg = "said"  # type: ignore[attr-defined]
        return answer

    def http_open(self, req: urllib.request.Request) -> Any:
        assert not req.has_header("Authorization") or req.host.startswith(("localhost", "127."))
        return self.https_open(req)


@given(ANSWERS, st.booleans(), st.sampled_from(["r.example/app:1", f"r.example/app@{digest_of(b'{}')}"]))
def test_whatever_a_registry_answers(answers: list[Any], known: bool, name: str) -> None:
    wire = Wire(answers)
    login = Login("user", PASSWORD) if known else Login()
    with quick():
        asking = Asking(parse(name), login, sleep=check_pause)
        asking._opener = urllib.request.build_opener(wire, registry._StaysEncrypted)
        try:
            found = asking.resolve()
        except RegistryError as error:
            said, found = str(error), None
        else:
            said = ""
        assert PASSWORD not in said
        if found is None:
            return
        assert isinstance(found, Resolved)
        assert all(type(size) is int and size >= 0 for size in found.sizes.values())


def check_pause(seconds: float) -> None:
    assert 0 <= seconds <= 10


@given(TEXTS | damaged(st.just(b"registry.example:5000/team/app:1.2@sha256:" + b"a" * 64)).map(repr))
def test_a_name_of_an_image(text: str) -> None:
    with quick():
        for name in (text, f"r.example/{text}", f"r.example/app:{text}", f"r.example/app@{text}"):
            try:
                assert parse(name).wanted
            except RegistryError:
                continue
