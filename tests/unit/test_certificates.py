"""When a certificate is ordered, for which names, and what is told of them."""

from __future__ import annotations

import json
import subprocess
from contextlib import nullcontext
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.module_utils.edge import acme, lego
from ansible_collections.slipway.fleet.plugins.module_utils.edge.certificates import (
    DAY,
    HOUR,
    Certificate,
    Record,
    Settings,
    drift,
    due,
    load,
    metrics,
    next_order,
    of_the_vault,
    of_this_edge,
    parse,
    read,
    store,
    told,
    unwanted,
)
from ansible_collections.slipway.fleet.plugins.module_utils.edge.names import astray, is_here
from ansible_collections.slipway.fleet.plugins.module_utils.host import command
from ansible_collections.slipway.fleet.plugins.module_utils.host.command import Ran
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import Damaged
from ansible_collections.slipway.fleet.plugins.modules import certificates as certificates_module

NOW = 1_800_000_000.0
SAID = """notBefore=Nov 26 10:56:44 2026 GMT
notAfter=Dec 26 10:56:44 2026 GMT
serial=0A51EB
issuer=C = US, O = Let's Encrypt, CN = R11
X509v3 Subject Alternative Name:
    DNS:shop.example.org, DNS:WWW.example.org
"""


def lasting(days: float, old: float, *names: str) -> Certificate:
    begins = NOW - old * DAY
    return Certificate(begins, begins + days * DAY, "R11", "A1", names or ("a.example",))


def test_what_openssl_says_of_a_certificate() -> None:
    found = parse(SAID)
    assert (found.issuer, found.serial) == ("R11", "A51EB")
    assert found.names == ("shop.example.org", "www.example.org")
    assert found.ends - found.begins == 30 * DAY
    assert parse(SAID.replace("C = US, O = Let's Encrypt, CN = R11", "O = Own")).issuer == "O = Own"
    with pytest.raises(ValueError, match="issuer"):
        parse("notBefore=Nov 26 10:56:44 2026 GMT\n")


def test_a_file_that_holds_none_is_as_good_as_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.pem").write_text("nothing")
    assert read(tmp_path / "x.pem") is None
    assert read(tmp_path / "y.pem") is None


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        (None, True),
        (lasting(90, 1), False),
        (lasting(90, 59.9), False),
        (lasting(90, 60), True),
        (lasting(6, 3.9), False),
        (lasting(6, 4), True),
        (lasting(90, 91), True),
        (lasting(90, 1, "b.example"), True),
    ],
)
def test_it_is_renewed_at_two_thirds_of_its_life(found: Certificate | None, wanted: bool) -> None:
    assert due(found, "a.example", NOW) is wanted


def failed(*minutes_ago: float) -> Record:
    record = Record()
    for minutes in sorted(minutes_ago, reverse=True):
        record = record.refused("no", NOW - minutes * 60)
    return record


@pytest.mark.parametrize(
    ("record", "by_timer", "by_hand"),
    [
        (Record(), 0, 0),
        (failed(30), NOW + HOUR / 2, 0),
        (failed(200, 90), NOW + HOUR / 2, 0),
        (failed(*range(61, 76)), NOW - 61 * 60 + DAY, 0),
        (failed(50, 40, 30, 20), NOW - 20 * 60 + 8 * HOUR, NOW + 10 * 60),
        (failed(70, 40, 30, 20), NOW - 20 * 60 + 8 * HOUR, 0),
        (Record().refused("it is not valid yet", NOW - 1800, given=True), NOW - 1800 + DAY, 0),
        (Record().refused("", NOW - 7200, given=True).refused("no", NOW - 1800), NOW - 1800 + 2 * HOUR, 0),
    ],
)
def test_orders_that_failed_are_not_repeated_too_soon(record: Record, by_timer: float, by_hand: float) -> None:
    assert next_order(record, NOW, asked=False) == by_timer
    assert next_order(record, NOW, asked=True) == by_hand


def settings_in(directory: Path) -> Path:
    """The file in which an edge is told how to order, with all it keeps below the directory."""
    (directory / "names").mkdir(exist_ok=True)
    values = dict.fromkeys(("email", "directory", "listen", "socket", "token"), "x")
    values |= {"certificates": str(directory / "names"), "state": str(directory), "pieces": str(directory)}
    path = directory / "acme.json"
    path.write_text(json.dumps({**values, "https_map": str(directory / "https.map"), "of a newer version": 2}))
    return path


DAMAGE = [
    "{",
    "[]",
    '{"a.example": 1}',
    '{"a.example": {"failures": "2"}}',
    '{"a.example": {"failed": [true]}}',
    "\xff",
]


def test_records_outlive_the_run(tmp_path: Path) -> None:
    records = {"a.example": failed(5), "b.example": Record().succeeded(lasting(90, 1), "https://a/dir", NOW)}
    store(tmp_path, records)
    assert load(tmp_path) == records
    assert (tmp_path / "names.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "names.json").write_text('{"a.example": {"ends": 1.0, "of a newer version": 2}}')
    assert load(tmp_path) == {"a.example": Record(ends=1.0)}
    (tmp_path / "names.json").unlink()
    assert load(tmp_path) == {}


@pytest.mark.parametrize("text", DAMAGE)
def test_records_that_are_damaged_are_told_and_nothing_is_ordered_removed_or_written(
    tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lego, "order", lambda *_: pytest.fail("ordered"))
    settings, names = settings_in(tmp_path), tmp_path / "names.json"
    shown = made(tmp_path / "names", "a.example", days=5)
    monkeypatch.setattr(acme.Renewal, "wanted", lambda _: ["b.example"])
    names.write_text(text, encoding="latin-1")
    before = names.read_bytes(), shown.read_bytes()
    assert acme.main(["--settings", str(settings), "--asked"]) == 1
    why = capsys.readouterr().err.strip()
    assert why.startswith(f"{names} is damaged (")
    assert f"Move it away (mv {names} {names}.damaged)" in why
    for check_mode in (True, False):
        options = {"settings": str(settings), "names": [], "wait": 10, "missing": "tell", "record": None}
        with pytest.raises(Damaged, match="Move it away"):
            certificates_module.act(options, check_mode)
    assert (names.read_bytes(), shown.read_bytes()) == before
    damaged, there = of_this_edge(settings)
    assert (damaged["name"], damaged["days"], there["name"], there["days"]) == (str(names), None, "a.example", 4)
    assert drift([damaged, there]) == [why]
    # What the sentence says is what helps.
    names.rename(f"{names}.damaged")
    assert acme.Renewal(Settings.load(settings) or pytest.fail("none")).records() == {}


@pytest.mark.parametrize("text", ["{", "[]", '{"state": "/x"}'])
def test_settings_that_are_damaged_are_told(tmp_path: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "acme.json"
    path.write_text(text)
    (told_of,) = of_this_edge(path)
    assert told_of["error"].startswith(f"{path} is damaged (")
    assert drift([told_of]) == [told_of["error"]]
    assert acme.main(["--settings", str(path)]) == 1
    assert "run slipway.fleet.provision, which writes it again" in capsys.readouterr().err


def test_what_is_told_of_each_name(tmp_path: Path) -> None:
    good = Record().succeeded(lasting(90, 1), "https://a/dir", NOW)
    since = Record().succeeded(lasting(90, 62), "https://a/dir", NOW)
    records = {
        "forgotten.example": since,
        "good.example": good,
        "late.example": good.refused("the authority is away", NOW),
        "new.example": Record().unasked("new.example cannot be resolved"),
        "over.example": Record().succeeded(lasting(90, 100), "https://a/dir", NOW).refused("gone", NOW),
        "unseen.example": Record().succeeded(lasting(90, 91), "https://a/dir", NOW),
    }
    entries = told(records, NOW)
    assert [entry["days"] for entry in entries] == [28, 89, 89, None, -10, -1]
    assert entries[1]["issuer"] == "R11"
    assert entries[1]["renewed"] == "2027-01-14T08:00:00Z"
    forgotten, *others = drift(entries)
    assert forgotten == (
        "the certificate of forgotten.example ends in 28 days and was not renewed: its renewal is overdue since "
        "2027-01-13T08:00:00Z and none was tried; look at `systemctl status slipway-certificates.timer` and "
        "`journalctl -u slipway-certificates`"
    )
    assert others == [
        "the certificate of late.example ends in 89 days and was not renewed: the authority is away",
        "new.example has no certificate yet: new.example cannot be resolved",
        "the certificate of over.example ended 10 days ago: gone",
        forgotten.replace("forgotten", "unseen")
        .replace("2027-01-13", "2026-12-15")
        .replace("ends in 28 days and was not renewed", "ended 1 days ago"),
    ]
    assert 'slipway_certificate_failures{name="late.example"} 1\n' in metrics(records)
    assert f'slipway_certificate_ends_seconds{{name="good.example"}} {good.ends:.0f}\n' in metrics(records)
    assert of_this_edge(tmp_path / "acme.json") == []
    settings_in(tmp_path)
    store(tmp_path, records)
    assert of_this_edge(tmp_path / "acme.json", NOW) == entries


@pytest.mark.parametrize(
    ("life", "old", "overdue"),
    [
        (90, 60.9, False),
        (90, 61.1, True),
        (6, 4.9, False),
        (6, 5.1, True),
        (1, 0.8, False),
        (1, 0.85, True),
        (1, 1.1, True),
        (90, 1, False),
    ],
)
def test_a_renewal_is_overdue_a_day_after_its_time_or_a_sixth_of_its_life(
    life: float, old: float, overdue: bool
) -> None:
    """The timer that was stopped, masked or broken, which nobody would see before the certificate ended."""
    (entry,) = told({"a.example": Record().succeeded(lasting(life, old), "https://a/dir", NOW)}, NOW)
    assert bool(entry["overdue"]) is overdue
    assert bool(drift([entry])) is overdue
    assert not any("since  and" in problem for problem in drift([entry]))


def test_one_that_is_not_valid_yet_is_told_with_the_clocks() -> None:
    (entry,) = told({"a.example": Record().succeeded(lasting(90, -1), "https://a/dir", NOW)}, NOW)
    assert entry["error"].startswith("is valid from 2027-01-16 08:00 UTC on, and here it is 2027-01-15 08:00 UTC; ")
    assert drift([entry]) == [f"the certificate of a.example {entry['error']}"]
    (entry,) = told({"a.example": Record().succeeded(lasting(90, -0.04), "https://a/dir", NOW)}, NOW)
    assert not drift([entry]), "an hour is what clocks differ by"


def made(directory: Path, name: str, days: int = 30) -> Path:
    path = directory / f"{name}.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days",
         str(days), "-subj", "/CN=x", "-addext", f"subjectAltName=DNS:{name}", "-keyout", str(path), "-out", str(path)],
        check=True, capture_output=True,
    )  # fmt: skip
    return path


def test_the_certificate_of_the_vault_is_told_before_it_ends(tmp_path: Path) -> None:
    path = made(tmp_path, "a.example")
    ends = (read(path) or lasting(1, 1)).ends
    (fresh,) = of_the_vault(path, 14, ends - 15.5 * DAY)
    assert (fresh["name"], fresh["days"], drift([fresh])) == ("a.example", 15, [])
    (late,) = drift(of_the_vault(path, 14, ends - 3.5 * DAY))
    why = "renew it in haproxy_tls_certificate, and provision"
    assert late == f"the certificate of a.example ends in 3 days and was not renewed: {why}"
    assert drift(of_the_vault(path, 14, ends + 2.5 * DAY)) == [f"the certificate of a.example ended 3 days ago: {why}"]
    assert of_the_vault(tmp_path / "none.pem", 14) == []
    path.write_text("nothing")
    (damaged,) = drift(of_the_vault(path, 14))
    assert damaged.startswith(f"{path} has no certificate that can be read, and HAProxy does not start with it")


def test_a_look_orders_nothing(tmp_path: Path) -> None:
    settings_in(tmp_path)
    store(tmp_path, {"b.example": Record(error="it leads to the moon")})
    options = {"settings": tmp_path / "acme.json", "certificate": made(tmp_path, "a.example", days=5), "days": 14}
    found = certificates_module.look(options)
    assert [entry["name"] for entry in found["names"]] == ["b.example", "a.example"]
    assert [problem.split(" and ")[0] for problem in found["problems"]] == [
        "b.example has no certificate yet: it leads to the moon",
        "the certificate of a.example ends in 4 days",
    ]
    assert certificates_module.look({**options, "settings": tmp_path / "none", "certificate": None})["names"] == []


def test_a_certificate_that_nobody_wants_goes_when_it_has_ended(tmp_path: Path) -> None:
    wanted, valid, over = (made(tmp_path, name) for name in ("a.example", "b.example", "c.example"))
    found = read(wanted)
    assert found is not None
    assert unwanted(tmp_path, ["a.example"], found.begins + DAY) == []
    assert unwanted(tmp_path, ["a.example", "c.example"], found.ends + HOUR) == [valid]
    assert over.is_file()


@pytest.mark.parametrize(
    ("addresses", "answers", "said"),
    [
        (["192.0.2.1"], {}, ""),
        (["192.0.2.2"], {}, ""),
        (["127.0.1.1", "::1"], {}, ""),
        (["192.0.2.3"], {"192.0.2.3": "slipway-me"}, ""),
        (["192.0.2.1", "192.0.2.3"], {"192.0.2.3": "hello"}, "leads to 192.0.2.3, which is not this edge (something"),
        (["192.0.2.1", "2001:db8::9"], {"2001:db8::9": "(it answers 404)"}, "leads to 2001:db8::9, which is not this"),
        (["192.0.2.3"], {"192.0.2.3": "(Connection refused)"}, "(Connection refused), so nothing was ordered for it"),
    ],
)
def test_a_name_must_lead_here_by_each_of_its_addresses(
    addresses: list[str], answers: dict[str, str], said: str
) -> None:
    found = astray(
        "a.example",
        ["192.0.2.2"],
        "slipway-me",
        resolve=lambda _: addresses,
        local=lambda address: address == "192.0.2.1",
        ask=lambda address, _: answers[address],
    )
    assert said in found
    assert bool(found) is bool(said)


def test_a_name_that_nobody_knows_is_told() -> None:
    def resolve(_: str) -> list[str]:
        raise OSError(-2, "Name or service not known")

    assert "a.example cannot be resolved (Name or service not known)" in astray("a.example", [], "", resolve)


def test_the_addresses_of_this_host() -> None:
    assert is_here("127.0.0.1")
    assert not is_here("192.0.2.1")


REFUSED = """2026/11/26 11:10:30 [INFO] [a.example] acme: Obtaining bundled SAN certificate
2026/11/26 11:10:31 Could not obtain certificates:
\terror: one or more domains had a problem:
[a.example] acme: error: 400 :: urn:ietf:params:acme:error:connection :: Fetching http://a.example: refused, url:
"""


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (
            REFUSED,
            "Could not obtain certificates: error: one or more domains had a problem: [a.example] acme: error: 400",
        ),
        (REFUSED, "; port 80 of every address of the name must be open to the internet and lead to this edge"),
        (REFUSED.replace("connection", "rateLimited"), "try with haproxy_acme_directory: staging"),
        (REFUSED.replace("connection", "badCSR"), "urn:ietf:params:acme:error:badCSR"),
        ("2026/11/26 11:10:31 Could not create client: get directory at 'https://x': dial tcp", "dial tcp"),
        ("", "the client said nothing"),
    ],
)
def test_a_refused_order_is_told_in_the_authority_s_words(output: str, said: str) -> None:
    found = lego.words(output)
    assert said in found
    assert "2026/11/26" not in found


DNS = """2026/11/26 19:44:47 [INFO] [*.example.org] acme: Could not find solver for: dns-account-01
2026/11/26 19:44:47 [INFO] retry due to: acme: error: 400 :: POST :: urn:ietf:params:acme:error:badNonce :: again
2026/11/26 19:44:47 [INFO] [*.example.org] acme: Preparing to solve DNS-01
2026/11/26 19:44:47 no token
given

2026/11/26 19:44:47 [INFO] [*.example.org] acme: Cleaning DNS-01 challenge
2026/11/26 19:44:47 hook said cleanup

2026/11/26 19:44:47 [WARN] [*.example.org] acme: cleaning up failed: exit status 3
2026/11/26 19:44:47 Could not obtain certificates:
\terror: one or more domains had a problem:
[*.example.org] [*.example.org] acme: error presenting token: exit status 3
"""
SILENT = DNS.replace("2026/11/26 19:44:47 no token\ngiven\n\n", "")


@pytest.mark.parametrize(
    ("output", "said"),
    [
        (DNS, "error presenting token: exit status 3 (the hook said: no token given); the record was not made; look"),
        (SILENT, "exit status 3; the record was not made"),
        (SILENT.replace("Cleaning", "Trying", 1), "exit status 3; the record was not made"),
        (
            REFUSED.replace("connection", "unauthorized"),
            "; the authority found another record or none; have the hook add its record beside",
        ),
        (REFUSED.replace("connection", "caa"), "; a CAA record of the domain forbids this authority"),
        (
            "2026/11/26 19:44:49 unrecognized DNS provider: hetznerx",
            "unrecognized DNS provider: hetznerx; correct haproxy_acme_dns_provider; `lego dnshelp` on the host",
        ),
        (
            "2026/11/26 19:44:50 hetzner: some credentials information are missing: HETZNER_API_KEY",
            "HETZNER_API_KEY; set them in haproxy_acme_dns_environment; `lego dnshelp -c PROVIDER`",
        ),
        (
            "\terror: x: time limit exceeded: last error: could not determine the zone: unexpected response code",
            "response code; this host finds no name servers of the domain; name resolvers",
        ),
        ("\terror: x: time limit exceeded: last error: NS ns1 returned NXDOMAIN", "set haproxy_acme_dns_check: false"),
    ],
)
def test_an_order_by_dns_that_is_refused_is_told_with_what_the_hook_said(output: str, said: str) -> None:
    found = lego.words(output, by_dns=True)
    assert said in found
    assert not {"solver", "badNonce", "cleanup"} & set(found.replace(":", " ").split()), "how it went is no reason"


def test_an_authority_that_takes_only_whom_it_knows_is_told() -> None:
    output = (
        "2026/11/26 19:44:08 Saved key to /x\n2026/11/26 19:44:08 Server requires External Account Binding. Use --eab."
    )
    assert lego.words(output).startswith("Server requires External Account Binding. Use --eab.; set haproxy_acme_eab ")


def settings(tmp_path: Path, **more: Any) -> Settings:
    return Settings(
        email="ops@example.org", directory="staging", listen="127.0.0.1:402", certificates="", https_map="", socket="",
        state=str(tmp_path), token="", pieces="", **more,
    )  # fmt: skip


def test_an_order_leaves_no_second_copy_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []

    def run(argv: list[str], timeout: float, environment: dict[str, str], merge: bool) -> Ran:
        asked.append((argv, environment))
        kept = Path(argv[argv.index("--path") + 1]) / "certificates"
        kept.mkdir()
        for end in (".crt", ".key", ".json", ".issuer.crt"):
            (kept / f"a.example{end}").write_text(f"{end}\n")
        return Ran(tuple(argv), 0)

    monkeypatch.setattr(command, "run", run)
    authorities = settings(tmp_path, fallback_directory="https://other.example/d", ca_file="/ca.pem").authorities()
    assert authorities == ["https://acme-staging-v02.api.letsencrypt.org/directory", "https://other.example/d"]
    given = settings(tmp_path, ca_file="/ca.pem")
    assert lego.order(given, authorities[0], "a.example", 10) == (".crt\n", ".key\n")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]
    (argv, environment), *_ = asked
    assert argv[-4:] == ["127.0.0.1:402", "--domains", "a.example", "run"]
    assert environment["LEGO_CA_CERTIFICATES"] == "/ca.pem"


@pytest.mark.parametrize(("file", "text"), [("account.json", "{"), ("keys/me@example.org.key", "x")])
def test_an_account_that_is_damaged_is_told_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str, text: str
) -> None:
    run, ran = command.run, list[str]()

    def seen(argv: list[str], *more: Any, **by: Any) -> Ran:
        ran.append(argv[0])
        return run(argv, *more, **by)

    monkeypatch.setattr(command, "run", seen)
    place = tmp_path / "lego" / "a-dir" / "accounts" / "a" / "me@example.org"
    (place / "keys").mkdir(parents=True)
    (place / "account.json").write_text("{}")
    (place / file).write_text(text)
    settings = Settings.load(settings_in(tmp_path)) or pytest.fail("none")
    with pytest.raises(lego.OrderFailed) as refused:
        lego.order(replace(settings, email="me@example.org"), "https://a/dir", "shop.example.org", 5)
    assert str(refused.value).startswith(f"{place / file} is damaged")
    assert f"(mv {place} {place}.damaged)" in str(refused.value)
    assert (place / file).read_text() == text
    assert "lego" not in ran


def test_an_account_that_the_authority_forgot_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    had_account: list[bool] = []

    def run(argv: list[str], *_: Any, **__: Any) -> Ran:
        account = Path(argv[argv.index("--path") + 1]) / "accounts"
        had_account.append(account.exists())
        account.mkdir(exist_ok=True)
        return Ran(tuple(argv), 1, "acme: error: 400 :: urn:ietf:params:acme:error:accountDoesNotExist :: none")

    monkeypatch.setattr(command, "run", run)
    (tmp_path / "lego/ca.example-d/accounts").mkdir(parents=True)
    with pytest.raises(lego.OrderFailed, match="accountDoesNotExist"):
        lego.order(settings(tmp_path), "https://ca.example/d", "a.example", 10)
    assert had_account == [True, False], "once, and no more than that"


def test_an_order_by_dns_is_given_the_hook_or_the_provider_with_its_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []

    def run(argv: list[str], timeout: float, environment: dict[str, str], merge: bool) -> Ran:
        asked.append((argv[argv.index("--dns") :], environment, timeout))
        said = DNS.replace("no token", "a token of 3f9c-secret is wrong").replace("given", "pin 12 tells")
        return Ran(tuple(argv), 1, said)

    monkeypatch.setattr(command, "run", run)
    secrets = {"API_KEY": "3f9c-secret", "PIN": "12"}
    hook = settings(tmp_path, dns_hook="/etc/hook", dns_environment=secrets, dns_check=False)
    assert "3f9c-secret" not in repr(hook)
    with pytest.raises(lego.OrderFailed) as refused:
        lego.order(hook, "https://ca.example/d", "*.example.org", lego.patience(hook))
    assert "(the hook said: a token of *** is wrong pin 12 tells)" in str(refused.value)
    provider = settings(tmp_path, dns_provider="hetzner", dns_resolvers=["9.9.9.9:53", "[::1]:53"])
    with pytest.raises(lego.OrderFailed):
        lego.order(provider, "https://ca.example/d", "a.example", 10)
    (first, environment, limit), (second, without, _) = asked
    assert first == ["--dns", "exec", "--dns.disable-cp", "--domains", "*.example.org", "run"]
    assert environment.items() >= {**secrets, "EXEC_PATH": "/etc/hook"}.items()
    assert limit == lego.ORDER_BY_DNS > lego.patience(settings(tmp_path))
    assert second[:2] == ["--dns", "hetzner"]
    assert second[2:6] == ["--dns.resolvers", "9.9.9.9:53", "--dns.resolvers", "[::1]:53"]
    assert "EXEC_PATH" not in without


def test_the_files_of_a_star_are_where_lego_leaves_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(argv: list[str], *_: Any, **__: Any) -> Ran:
        kept = Path(argv[argv.index("--path") + 1]) / "certificates"
        kept.mkdir()
        for end in (".crt", ".key"):
            (kept / f"_.example.org{end}").write_text(end)
        return Ran(tuple(argv), 0)

    monkeypatch.setattr(command, "run", run)
    given = settings(tmp_path, dns_provider="hetzner")
    assert lego.order(given, "https://ca.example/d", "*.example.org", 10) == (".crt", ".key")
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("code", "said", "words"),
    [
        (0, "", ""),
        (1, "urn:ietf:params:acme:error:alreadyRevoked :: before", ""),
        (1, "2026/11/26 20:00:00 no account", "https://ca.example/d did not revoke it: no account"),
    ],
)
def test_a_certificate_is_revoked_by_the_client_and_none_is_left_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, said: str, words: str
) -> None:
    seen: list[str] = []

    def run(argv: list[str], *_: Any, **__: Any) -> Ran:
        assert argv[-5:] == ["*.a.example", "revoke", "--keep", "--reason", "1"]
        seen.append((Path(argv[argv.index("--path") + 1]) / "certificates" / "_.a.example.crt").read_text())
        return Ran(tuple(argv), code, said)

    monkeypatch.setattr(command, "run", run)
    with pytest.raises(lego.OrderFailed, match=words) if words else nullcontext():
        lego.revoke(settings(tmp_path), "https://ca.example/d", "*.a.example", "the old one", 10)
    assert seen == ["the old one"]
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_name_that_is_forced_and_of_no_app_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = replace(settings(tmp_path), pieces=str(tmp_path))
    (tmp_path / "acme.json").write_text(json.dumps(asdict(given)))
    assert acme.main(["--settings", str(tmp_path / "acme.json"), "--force", "shp.example"]) == 1
    assert capsys.readouterr().err == "shp.example: no app of this edge has such a name; there are none\n"
