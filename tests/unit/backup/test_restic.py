"""Which words restic gets, and what its words mean."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.backup import model, restic
from ansible_collections.slipway.fleet.plugins.module_utils.backup.model import BackupError, Settings
from ansible_collections.slipway.fleet.plugins.module_utils.backup.restic import Restic
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran


class Program:
    """restic with a list of snapshots, and an answer for each of its other commands."""

    def __init__(self, snapshots: list[dict[str, Any]] | None = None, **said: tuple[int, str]) -> None:
        self.snapshots, self.said = snapshots or [], said
        self.asked: list[list[str]] = []

    def __call__(
        self,
        words: list[str],
        timeout: float,
        environment: Any = None,
        target: Any = None,
        limit: int = 0,
        stuck: float = 0,
    ) -> Ran:
        words = [word for word in words[1:] if word != "--no-cache"]
        self.asked.append(words)
        if words[0] == "snapshots":
            here = words[words.index("--host") + 1] if "--host" in words else None
            found = [entry for entry in self.snapshots if here in (None, entry["hostname"])]
            return Ran(tuple(words), 0, json.dumps(found))
        code, said = self.said.get(words[0], (0, ""))
        if target is not None:
            target.write(said.encode())
        return Ran(tuple(words), code, "" if code or target else said, said if code else "")

    def given(self, word: str) -> list[list[str]]:
        return [words for words in self.asked if words[0] == word]


def snapshot(name: str, kind: str, stamp: str, host: str = "h", second: int = 0) -> dict[str, Any]:
    return {
        "id": name * 16,
        "time": f"2026-01-01T00:00:{second:02}.123456789Z",
        "hostname": host,
        "tags": [kind, f"at-{stamp}"],
    }


def made(program: Program, **settings: Any) -> Restic:
    waits: list[float] = []
    return Restic(Settings("/srv/sets", "h", **settings), run=program, sleep=waits.append)


SETS = [
    snapshot("aaaa", restic.CONTENT, "1", second=1),
    snapshot("bbbb", restic.SET, "1", second=2),
    snapshot("cccc", restic.CONTENT, "2", second=3),
    snapshot("dddd", restic.SET, "2", second=4),
    snapshot("eeee", restic.CONTENT, "3", second=5),
    snapshot("ffff", restic.SET, "9", "other", second=6),
]


@pytest.mark.parametrize(("wanted", "found"), [("latest", "dddd"), ("bbbb", "bbbb"), ("bbbbbbbb", "bbbb")])
def test_a_set_is_found(wanted: str, found: str) -> None:
    assert made(Program(SETS)).find(wanted).id == found * 16


@pytest.mark.parametrize(
    ("wanted", "said"), [("bbb", "there is no set bbb of h; the newest are: bbbbbbbb"), ("eeee", "no set eeee")]
)
def test_a_set_that_is_not_there(wanted: str, said: str) -> None:
    with pytest.raises(BackupError, match=said) as caught:
        made(Program(SETS)).find(wanted)
    assert caught.value.fault == model.EMPTY


def test_a_repository_with_sets_of_others_alone_says_whose() -> None:
    with pytest.raises(BackupError, match=r"no set of h; it has sets of other, .* \(slipway_of\)"):
        made(Program(SETS[-1:])).find()


def test_the_parts_of_a_set_belong_together() -> None:
    found = made(Program(SETS))
    content = found.content_of(found.find("bbbb"))
    assert content is not None
    assert content.id == "aaaa" * 16
    lost = made(Program(SETS[1:]))
    assert lost.content_of(lost.find("bbbb")) is None


def test_what_is_too_old_goes_with_its_parts_and_what_was_killed_with_it() -> None:
    program = Program(SETS, forget=(0, json.dumps([{"remove": [{"id": "bbbb" * 16}]}])))
    assert made(program, keep={"daily": 7}).tidy() == ["bbbb" * 16]
    asked, kept, sets, parts = program.given("forget")
    assert {"--keep-daily=7", "--keep-last=1", "--keep-within=2d"} <= set(asked)
    assert "--keep-within=30d" in kept
    assert sets == ["forget", "bbbb" * 16]
    assert parts == ["forget", "aaaa" * 16, "eeee" * 16]
    assert program.given("prune")


def test_it_is_asked_once_what_there_is() -> None:
    program = Program(SETS)
    found = made(program)
    found.content_of(found.find())
    assert len(program.given("snapshots")) == 1


def test_days_of_pieces_are_listed_whole(tmp_path: Path) -> None:
    paths = [f"/var/lib/postgresql/15/main/pg_wal/{number:024X}" for number in range(32)]
    listed = [{**snapshot("aaaa", "slipway-wal", str(number)), "paths": paths} for number in range(5000)]
    (tmp_path / "said").write_text(json.dumps(listed))

    def run(_: object, timeout: float, *__: object, **words: Any) -> Ran:
        return command.run(["cat", str(tmp_path / "said")], timeout, **words)

    assert len(Restic(Settings("/srv/sets", "h"), run=run).tagged("slipway-wal")) == 5000


def test_what_cannot_be_read_of_a_list_is_told() -> None:
    def run(words: list[str], *_: object, **__: object) -> Ran:
        return Ran(tuple(words), 0, '"short_id":"aaaa"}]')

    with pytest.raises(BackupError, match="what restic snapshots said of /srv/sets cannot be read"):
        Restic(Settings("/srv/sets", "h"), run=run).sets()


@pytest.mark.parametrize("times", [1, 2])
def test_one_that_is_stuck_is_asked_once_more(times: int) -> None:
    ended: list[str] = []

    def run(words: list[str], *_: object, **__: object) -> Ran:
        ended.append(words[1])
        is_stuck = len(ended) <= times
        return Ran(tuple(words), 124 if is_stuck else 0, "[]", f"`{words[1]}` did nothing", stuck=is_stuck)

    found = Restic(Settings("/srv/sets", "h"), run=run)
    if times == 1:
        assert found.sets() == []
    else:
        with pytest.raises(BackupError, match="restic failed with the repository /srv/sets: `snapshots` did nothing"):
            found.sets()
    assert len(ended) == 2


def test_one_that_is_stuck_in_the_middle_of_a_file_is_not_asked_again(tmp_path: Path) -> None:
    def run(words: list[str], *_: object, target: Any, **__: object) -> Ran:
        target.write(b"half")
        return Ran(tuple(words), 124, "", "`dump` did nothing", stuck=True)

    with pytest.raises(BackupError, match="did nothing"):
        Restic(Settings("/srv/sets", "h"), run=run).read("aaaa", "/a", tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"half"


@pytest.mark.parametrize(("code", "there"), [(0, True), (1, False)])
def test_whether_there_is_a_repository(code: int, there: bool) -> None:
    said = "Fatal: repository does not exist: unable to open config file"
    assert made(Program(unlock=(code, said))).unlock() is there


def test_a_repository_that_removes_nothing_says_how_that_is_wanted() -> None:
    """With the words of restic 0.14, which asks a server that refuses for 40 s before it ends with them."""
    refused = (
        "Remove(<snapshot/bbbbbbbbbb>) returned error, retrying after 552ms: blob not removed, server response: "
        "403 Forbidden (403)\nunable to remove <snapshot/bbbbbbbbbb> from the repository"
    )
    host = made(Program(SETS, forget=(1, refused)))
    host.stale = lambda: ["bbbb" * 16]  # type: ignore[method-assign]
    with pytest.raises(BackupError, match="say backup_append_only: true") as caught:
        host.tidy()
    assert caught.value.fault in (model.FAILED, model.LOGIN)


def test_what_is_protected_stays() -> None:
    program = Program(SETS[:4], forget=(0, json.dumps([{"remove": [{"id": "bbbb" * 16}]}])))
    assert made(program).tidy(["bbbbbbbb"]) == []
    assert not program.given("prune")


@pytest.mark.parametrize(("gone", "prune", "pruned"), [([], False, 0), ([], True, 1), (["bbbb" * 16], False, 1)])
def test_room_of_the_log_alone_is_made_free_where_that_is_said(gone: list[str], prune: bool, pruned: int) -> None:
    program = Program(SETS[:4], forget=(0, json.dumps([{"remove": [{"id": name} for name in gone]}])))
    made(program).tidy(more=["piece"], prune=prune)
    assert program.given("forget")[-1] == ["forget", "piece"]
    assert len(program.given("prune")) == pruned


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("Fatal: wrong password or no key found", model.WRONG_KEY),
        (
            "Fatal: repository does not exist: unable to open config file: stat /srv/sets/config",
            "no repository",
        ),
        (
            "unable to open config file: permission denied\nIs there a repository at the following location?",
            "no repository",
        ),
        ("write /srv/sets/data/ab: no space left on device", model.DISK_FULL),
        ('Fatal: unable to save snapshot: Write: sftp: "Failure" (SSH_FX_FAILURE)', model.DISK_FULL),
        ("unable to start the sftp session, error: EOF\nroot@h: Permission denied (publickey).", model.LOGIN),
        ("unable to start the sftp session, error: EOF\nHost key verification failed.", model.HOST_KEY),
        ("unable to start the sftp session, error: read |0: file already closed", model.UNREACHABLE),
        ("unable to open config file: Stat: Get x: dial tcp: i/o timeout\nIs there a repository at", model.UNREACHABLE),
        ("unable to open config file: unexpected HTTP response (401): 401 Unauthorized\nIs there a", model.LOGIN),
        ("unable to open config file: unexpected HTTP response (403): 403 Forbidden\nIs there a", model.LOGIN),
        ("unable to open config file: Stat: Access Denied.\nIs there a repository at the following", model.LOGIN),
        ("Load(<data/0a1b>): ciphertext verification failed", model.DAMAGED),
        (
            "Fatal: number of used blobs is larger than number of available blobs!\nData seems to be missing.",
            model.FAILED,
        ),
        ("ignoring error for /srv/a: read /srv/sets/data/x: unexpected EOF", model.DAMAGED),
        ("pack 0a1b contains 1 errors: [blob 0: decompressing failed]", model.DAMAGED),
        ("ReadFull(<data/d5cda8f158>): file is too short\nFatal: There were 1 errors", model.DAMAGED),
        ("Fatal: something else", model.FAILED),
    ],
)
def test_what_its_words_mean(said: str, fault: str) -> None:
    found = restic.explained("restore", said, "/srv/sets")
    assert found.fault == fault
    assert "/srv/sets" in str(found)
    assert said.splitlines()[-1] in str(found)


def test_what_it_says_as_json_is_told_as_well() -> None:
    said = '{"message_type":"exit_error","code":12,"message":"Fatal: wrong password or no key found"}'
    found = restic.explained("snapshots", said, "/srv/sets")
    assert found.fault == model.WRONG_KEY
    assert str(found).endswith(": Fatal: wrong password or no key found")


def test_a_file_of_the_host_that_went_is_no_damage_of_the_repository() -> None:
    assert restic.explained("backup", "lstat /srv/uploads/a: no such file or directory", "/r").fault == model.FAILED


def test_another_host_is_waited_for_and_not_for_ever() -> None:
    waits: list[float] = []
    program = Program(unlock=(1, "unable to create lock in backend: repository is already locked by PID 7 on other"))
    with pytest.raises(BackupError) as caught:
        Restic(Settings("/srv/sets", "h"), run=program, sleep=waits.append).unlock()
    assert caught.value.fault == model.LOCKED
    assert sum(waits) == restic.WAIT


def test_a_lock_of_the_dead_is_taken_away_by_one_that_does_not_wait() -> None:
    said = ["repository is already locked exclusively by PID 7", ""]
    asked: list[str] = []

    def run(words: list[str], *_: object, **__: object) -> Ran:
        asked.append(words[1])
        error = said.pop(0) if words[1] == "backup" else ""
        return Ran(tuple(words), int(bool(error)), SUMMARY, error)

    found = Restic(Settings("/srv/sets", "h"), run=run, sleep=lambda _: pytest.fail("it waited"), wait=0.0)
    assert found.save(["/srv/a"], restic.CONTENT, "at-1") == ("new", 7)
    assert asked == ["backup", "unlock", "backup"]


@pytest.mark.parametrize(
    ("repository", "words"),
    [
        ("sftp:backup@host.example.com:/srv/sets", "backup@host.example.com"),
        ("sftp:host:/srv/sets", "host"),
        ("sftp://backup@host.example.com:2222//srv/sets", "-p 2222 backup@host.example.com"),
        ("sftp://backup@[2001:db8::1]:2222//srv/sets", "-p 2222 backup@2001:db8::1"),
        ("/srv/sets", ""),
        ("s3:https://s3.example.com/sets", ""),
    ],
)
def test_which_host_ssh_is_told(repository: str, words: str) -> None:
    assert restic.sftp_target(repository) == words


def test_its_own_key_is_used_where_there_is_one(tmp_path: Path) -> None:
    settings = Settings("sftp:backup@host:/srv/sets", "h", files=tmp_path)
    assert restic.program(settings) == ["restic"]
    (tmp_path / "ssh_config").touch()
    assert restic.program(settings)[2] == f"sftp.command=ssh -F {tmp_path}/ssh_config backup@host -s sftp"


def test_words_for_s3_are_in_its_environment_alone(tmp_path: Path) -> None:
    (tmp_path / "environment.json").write_text('{"AWS_ACCESS_KEY_ID": "id", "RESTIC_REPOSITORY": "elsewhere"}')
    found = restic.environment(Settings("s3:https://s3.example.com/sets", "h", files=tmp_path))
    assert found["AWS_ACCESS_KEY_ID"] == "id"
    assert found["RESTIC_REPOSITORY"] == "s3:https://s3.example.com/sets"
    assert found["RESTIC_PASSWORD_FILE"] == str(tmp_path / "password")


@pytest.mark.parametrize(
    ("place", "wanted"),
    [
        ("rest:https://h.example.com/sets", "rest:https://backup:p%40s%2Fs%3A@h.example.com/sets"),
        ("rest:http://[2001:db8::1]:8000/", "rest:http://backup:p%40s%2Fs%3A@[2001:db8::1]:8000/"),
        ("rest:https://other@h.example.com/sets", "rest:https://other@h.example.com/sets"),
        ("s3:https://s3.example.com/sets", "s3:https://s3.example.com/sets"),
    ],
)
def test_a_login_to_a_server_of_its_own_kind_is_in_what_every_version_reads(
    tmp_path: Path, place: str, wanted: str
) -> None:
    login = {"RESTIC_REST_USERNAME": "backup", "RESTIC_REST_PASSWORD": "p@s/s:"}
    (tmp_path / "environment.json").write_text(json.dumps(login))
    assert restic.environment(Settings(place, "h", files=tmp_path))["RESTIC_REPOSITORY"] == wanted
    (tmp_path / "environment.json").write_text("{}")
    assert restic.environment(Settings(place, "h", files=tmp_path))["RESTIC_REPOSITORY"] == place


@pytest.mark.parametrize(
    ("moment", "found"),
    [
        ("2026-01-01T00:00:01.5Z", 1767225601500000000),
        ("2026-01-01T01:00:01.123456789+01:00", 1767225601123456789),
        ("2026-01-01T00:00:01Z", 1767225601000000000),
        ("", 0),
    ],
)
def test_times_have_all_their_digits(moment: str, found: int) -> None:
    assert restic.nanoseconds(moment) == found


def test_what_a_snapshot_has(tmp_path: Path) -> None:
    said = [
        {"struct_type": "snapshot", "time": "2026-01-01T00:00:01Z"},
        {"type": "dir", "path": "/srv"},
        {"type": "file", "path": "/srv/a", "size": 5, "mtime": "2026-01-01T00:00:01.5Z"},
        {"type": "file", "path": "/srv/empty", "mtime": "2026-01-01T00:00:01Z"},
    ]
    program = Program(ls=(0, "\n".join(map(json.dumps, said))))
    assert list(made(program).listing("aaaa", tmp_path / "listing")) == [
        ("/srv/a", 5, 1767225601500000000),
        ("/srv/empty", 0, 1767225601000000000),
    ]


SUMMARY = '{"message_type":"summary","snapshot_id":"new","data_added":7}'
UNREAD = "Warning: at least one source file could not be read"


def unread(item: object, **error: Any) -> str:
    return json.dumps({"message_type": "error", "error": error, "during": "archival", "item": str(item)})


@pytest.mark.parametrize("end", [UNREAD, json.dumps({"message_type": "exit_error", "code": 3, "message": UNREAD})])
def test_what_was_removed_while_it_was_read_fails_no_backup(tmp_path: Path, end: str) -> None:
    said = [unread(tmp_path / "gone", Op="lstat", Err=2), unread(tmp_path / "too", message="open: no such file"), end]

    def run(words: list[str], *_: Any, **__: Any) -> Ran:
        return Ran(tuple(words), 3, SUMMARY, "\n".join(said))

    assert Restic(Settings("/srv/sets", "h"), run=run).save([str(tmp_path)], restic.CONTENT, "at-1") == ("new", 7)


@pytest.mark.parametrize(
    ("there", "more", "code"),
    [
        ("kept", "", 3),
        (".", "", 3),
        ("gone", "Fatal: something else", 3),
        ("gone", '{"message_type":"er', 3),
        ("gone", "", 1),
    ],
)
def test_what_is_there_and_was_not_read_fails_it_by_name(tmp_path: Path, there: str, more: str, code: int) -> None:
    (tmp_path / "kept").touch()
    named = tmp_path / "named" if there == "." else tmp_path
    item = named if there == "." else tmp_path / there
    said = [unread(item), more, UNREAD]

    def run(words: list[str], *_: Any, **__: Any) -> Ran:
        return Ran(tuple(words), code, SUMMARY, "\n".join(said))

    with pytest.raises(BackupError, match=f"{item} cannot be read") as caught:
        Restic(Settings("/srv/sets", "h"), run=run).save([str(named)], restic.CONTENT, "at-1")
    assert caught.value.fault == model.FAILED
