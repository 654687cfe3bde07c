"""A bundle is used where one of those signed it who may, as it is, for this fleet, and no older one after a newer."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from ansible_collections.slipway.fleet.plugins.action.bundle import ActionModule
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle import signature, trust
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.archive import (
    MANIFEST,
    SIGNATURE,
    STATEMENT,
    SUMS,
    Bundle,
    BundleError,
    Writer,
    is_checked,
    note_checked,
    opened,
    wheels_of,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.signature import SignatureError, Statement
from ansible_collections.slipway.fleet.plugins.plugin_utils.bundle.trust import note_used, signed, trusted

ROOT = Path(__file__).resolve().parents[3]
WHEEL = "wheels/app-1.whl"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys of the maker and of a stranger, and the file that names the maker alone."""
    directory = tmp_path_factory.mktemp("keys")
    for name in ("maker", "stranger"):
        words = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", str(directory / name)]
        subprocess.run(words, check=True)
    public = (directory / "maker.pub").read_text()
    (directory / "signers").write_text(f'# who may\nops@example.org namespaces="{signature.NAMESPACE}" {public}')
    return directory


@pytest.fixture(autouse=True)
def _homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("XDG_CACHE_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))


def made(
    path: Path,
    keys: Path,
    key: str = "maker",
    wheel: bytes = b"the app",
    about: Callable[[Statement], Statement] = lambda statement: statement,
) -> Path:
    """A signed bundle with one wheel."""

    def sign(sums: bytes) -> tuple[bytes, bytes]:
        text = about(signature.stated("fleet", sums)).text()
        return text, signature.sign(text, keys / key)

    with Writer(path) as writer:
        writer.add_bytes(WHEEL, wheel)
        writer.finish({"images": [], "debian": [], "wheels": ["app-1.whl"]}, sign)
    return path


def at(moment: str) -> Callable[[Statement], Statement]:
    return lambda statement: replace(statement, made=moment)


def check(path: Path, keys: Path, fleet: str = "fleet", oldest: str = "") -> None:
    bundle = Bundle(path)
    made_at = trusted(bundle, str(keys / "signers"), fleet, oldest)
    bundle.check()
    note_used(fleet, made_at, oldest)


def parts_of(path: Path) -> dict[str, bytes]:
    with tarfile.open(path) as tar:
        return {item.name: tar.extractfile(item).read() for item in tar}  # type: ignore[union-attr]


def write(path: Path, parts: dict[str, bytes]) -> None:
    with tarfile.open(path, "w") as tar:
        for name, data in parts.items():
            item = tarfile.TarInfo(name)
            item.size = len(data)
            tar.addfile(item, io.BytesIO(data))


def test_a_signed_bundle_is_used(tmp_path: Path, keys: Path) -> None:
    path = made(tmp_path / "b.tar", keys)
    check(path, keys)
    check(path, keys)
    assert signature.read(Bundle(path).about(STATEMENT)).fleet == "fleet"
    assert [*parts_of(path)][-3:] == [SUMS, STATEMENT, SIGNATURE]


def test_without_signers_every_bundle_is(tmp_path: Path, keys: Path) -> None:
    for path in (made(tmp_path / "a.tar", keys, "stranger"), made(tmp_path / "b.tar", keys)):
        trusted(Bundle(path), "", "fleet", "")
        Bundle(path).check()


def test_what_a_release_is_made_of_does_not_depend_on_a_signature(tmp_path: Path, keys: Path) -> None:
    one, other = (made(tmp_path / f"{key}.tar", keys, key) for key in ("maker", "stranger"))
    assert Bundle(one).name == Bundle(other).name


Attack = Callable[[dict[str, bytes], dict[str, bytes]], dict[str, bytes]]
# What somebody does to the parts of a bundle, who has others that the maker and he himself signed; how it is refused.
ATTACKS: dict[str, tuple[Attack, str]] = {
    "a part is another": (lambda mine, _: {**mine, WHEEL: b"evil"}, f"another checksum .* {WHEEL}"),
    "a part is gone": (lambda mine, _: {k: v for k, v in mine.items() if k != WHEEL}, f"not there is {WHEEL}"),
    "a part more": (lambda mine, _: {"wheels/more.whl": b"evil", **mine}, "not in SHA256SUMS is wheels/more.whl"),
    "parts change names": (
        lambda mine, _: {**mine, WHEEL: mine[MANIFEST], MANIFEST: mine[MANIFEST]},
        f"another checksum .* {WHEEL}",
    ),
    "a part and its sum": (
        lambda mine, other: {**other, STATEMENT: mine[STATEMENT], SIGNATURE: mine[SIGNATURE]},
        "is that of another one",
    ),
    "a sum is another": (
        lambda mine, _: {**mine, SUMS: mine[SUMS].replace(mine[SUMS][:1], b"0" if mine[SUMS][:1] != b"0" else b"1", 1)},
        "another checksum|is that of another one",
    ),
    "a sum twice": (lambda mine, _: {**mine, SUMS: mine[SUMS] + mine[SUMS]}, "SHA256SUMS .* is damaged"),
    "the signature is in the sums": (
        lambda mine, _: {**mine, SUMS: mine[SUMS] + b"0" * 64 + b"  STATEMENT\n"},
        "SHA256SUMS .* is damaged",
    ),
    "all of it, signed by a stranger": (lambda _, other: other, "not signed by one of those in"),
    "the statement of a stranger": (lambda mine, other: {**mine, STATEMENT: other[STATEMENT]}, "not signed by"),
    "the signature of a stranger": (lambda mine, other: {**mine, SIGNATURE: other[SIGNATURE]}, "not signed by"),
    "no signature": (lambda mine, _: {k: v for k, v in mine.items() if k != SIGNATURE}, "is not signed, and"),
    "no statement": (lambda mine, _: {k: v for k, v in mine.items() if k != STATEMENT}, "is not signed, and"),
    "an empty signature": (lambda mine, _: {**mine, SIGNATURE: b""}, "is not signed, and"),
    "a signature that is none": (lambda mine, _: {**mine, SIGNATURE: b"\x00\xff" * 999}, "not signed by"),
    "a date is another": (
        lambda mine, _: {**mine, STATEMENT: mine[STATEMENT].replace(b'"made": "20', b'"made": "21')},
        "not signed by",
    ),
}


@pytest.mark.parametrize("what", ATTACKS)
def test_what_somebody_changed_is_refused(tmp_path: Path, keys: Path, what: str) -> None:
    path, other = made(tmp_path / "b.tar", keys), made(tmp_path / "o.tar", keys, "stranger", b"evil")
    attack, said = ATTACKS[what]
    write(path, attack(parts_of(path), parts_of(other)))
    with pytest.raises(SlipwayError, match=said):
        check(path, keys)


def test_no_byte_can_be_changed(tmp_path: Path, keys: Path) -> None:
    """Every byte of it that is used is signed; the signature itself is text, in which some bytes say nothing."""
    path = made(tmp_path / "b.tar", keys)
    whole = path.read_bytes()
    for item in (item for name, item in Bundle(path)._parts.items() if name != SIGNATURE):
        for position in {item.offset_data, item.offset_data + item.size // 2, item.offset_data + item.size - 1}:
            path.write_bytes(whole[:position] + bytes([whole[position] ^ 1]) + whole[position + 1 :])
            with pytest.raises(SlipwayError):
                check(path, keys)


@pytest.mark.parametrize("left", [0, 100, 512, 1536, 4096])
def test_one_that_is_cut_off_is_refused(tmp_path: Path, keys: Path, left: int) -> None:
    path = made(tmp_path / "b.tar", keys)
    path.write_bytes(path.read_bytes()[:left])
    with pytest.raises(BundleError, match="is no (whole )?bundle|cut off|not signed"):
        check(path, keys)


def test_one_of_another_fleet_is_refused(tmp_path: Path, keys: Path) -> None:
    path = made(tmp_path / "fleet.tar", keys, about=lambda statement: replace(statement, fleet="staging"))
    with pytest.raises(SignatureError, match="made for the inventory 'staging' and not for 'fleet'"):
        check(path, keys)


def test_a_signature_for_something_else_counts_for_nothing(tmp_path: Path, keys: Path) -> None:
    """Whoever signs commits or mail with the same key has not made a bundle."""
    path = made(tmp_path / "b.tar", keys)
    parts = parts_of(path)
    (tmp_path / "s").write_bytes(parts[STATEMENT])
    subprocess.run(
        ["ssh-keygen", "-Y", "sign", "-q", "-f", str(keys / "maker"), "-n", "git", str(tmp_path / "s")], check=True
    )
    write(path, {**parts, SIGNATURE: (tmp_path / "s.sig").read_bytes()})
    with pytest.raises(SignatureError, match="not signed by"):
        check(path, keys)


def test_an_older_one_is_refused_after_a_newer(tmp_path: Path, keys: Path) -> None:
    old = made(tmp_path / "old.tar", keys, about=at("2026-11-01T10:00:00+00:00"))
    new = made(tmp_path / "new.tar", keys, about=at("2026-11-02T10:00:00+00:00"))
    check(old, keys)
    check(new, keys)
    with pytest.raises(SignatureError, match="a newer one of 2026-11-02") as refused:
        check(old, keys)
    # The advice of the message, and what holds afterwards.
    wanted = str(refused.value).partition(f"-e {signature.OLDEST}=")[2]
    check(old, keys, oldest=wanted)
    check(old, keys)


@pytest.mark.parametrize(
    ("oldest", "used"),
    [
        ("2026-11-01", True),
        ("2026-11-01T10:00:00Z", True),
        ("2026-11-01T12:00:00+02:00", True),
        ("2026-11-02", False),
        ("2026-11-01T10:00:01", False),
    ],
)
def test_the_inventory_may_say_how_old_one_may_be(tmp_path: Path, keys: Path, oldest: str, used: bool) -> None:
    path = made(tmp_path / "b.tar", keys, about=at("2026-11-01T10:00:00+00:00"))
    if used:
        check(path, keys, oldest=oldest)
        return
    with pytest.raises(SignatureError, match="made at 2026-11-01T10:00:00"):
        check(path, keys, oldest=oldest)


def test_one_that_is_not_used_keeps_none_back(tmp_path: Path, keys: Path) -> None:
    """Neither one of which not all can be read, nor what a check run looks at."""
    old = made(tmp_path / "old.tar", keys, about=at("2026-11-01T10:00:00+00:00"))
    new = made(tmp_path / "new.tar", keys, about=at("2026-11-02T10:00:00+00:00"))
    action = ActionModule.__new__(ActionModule)
    action._task = SimpleNamespace(check_mode=True)
    action._task_vars = {"hostvars": {"web1": {"inventory_dir": "/home/ops/fleet"}}}
    asked = {"signers": str(keys / "signers"), "bundle": str(new)}
    action._check(asked)
    action._task.check_mode = False
    write(new, {**parts_of(new), WHEEL: b"evil"})
    with pytest.raises(BundleError, match="another checksum"):
        action._check(asked)
    assert not (tmp_path / "XDG_STATE_HOME").exists()
    action._check({**asked, "bundle": str(old)})
    assert [path.read_text() for path in (tmp_path / "XDG_STATE_HOME/slipway/bundles").iterdir()] == [
        "2026-11-01T10:00:00+00:00\n"
    ]


def test_where_it_is_kept_cannot_be_used(tmp_path: Path, keys: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "b.tar", keys)
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with pytest.raises(BundleError, match="when the newest bundle was made, so nothing was done: Not a directory"):
        check(path, keys)
    monkeypatch.setattr(trust, "_read", lambda path: "")
    with pytest.raises(BundleError, match=r"cannot be written, .* name another place with XDG_STATE_HOME"):
        check(path, keys)


def test_what_is_no_time_is_named(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match="slipway_bundle_oldest is 'yesterday'; write a time such as"):
        check(made(tmp_path / "b.tar", keys), keys, oldest="yesterday")


def test_one_that_was_changed_after_it_was_checked_is_refused(tmp_path: Path, keys: Path) -> None:
    path = made(tmp_path / "b.tar", keys)
    check(path, keys)
    note_checked(Bundle(path), "run")
    assert is_checked(Bundle(path), "run")
    assert wheels_of(path).joinpath("app-1.whl").read_bytes() == b"the app"
    made(path, keys, "stranger", b"evil")
    assert not is_checked(Bundle(path), "run")
    for use in (opened, wheels_of):
        with pytest.raises(BundleError, match="was changed since it was checked"):
            use(path)


def test_a_key_that_is_none_is_named(tmp_path: Path, keys: Path) -> None:
    with pytest.raises(SignatureError, match=f"{signature.KEY} is .*nowhere, with which nothing could be signed"):
        signed(b"sums", "fleet", tmp_path / "nowhere")
    with pytest.raises(SignatureError, match=f"{signature.SIGNERS} is .*, and there is no such file"):
        trusted(Bundle(made(tmp_path / "b.tar", keys)), str(tmp_path / "nobody"), "fleet", "")


@pytest.mark.parametrize(
    ("fleet", "said"), [("fleet", ""), ("another", "was made for the inventory 'fleet' and not for 'another'")]
)
def test_a_playbook_refuses_it_before_a_host_is_asked(tmp_path: Path, keys: Path, fleet: str, said: str) -> None:
    """No host of this inventory can be reached, and none has to be; a path may begin at home."""
    path = made(tmp_path / "b.tar", keys)
    inventory = tmp_path / fleet
    inventory.mkdir()
    (inventory / "hosts.yml").write_text("all: {hosts: {web1: {ansible_host: 192.0.2.1}}}\n")
    words = ["ansible-playbook", "-i", str(inventory), str(ROOT / "playbooks/parts/open_bundle.yml")]
    words += ["-e", f"slipway_bundle={path}", "-e", "slipway_bundle_signers=~/signers"]
    environment = {**os.environ, "HOME": str(keys), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    ran = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (ran.returncode == 0) == (not said), ran.stdout + ran.stderr
    assert said in " ".join(ran.stdout.split())
    assert "unreachable=0" in ran.stdout
