"""What tests/run.py counts, in which order it starts scenarios, and what it prints of times."""

from __future__ import annotations

from collections import deque
from pathlib import Path

import pytest

from tests import run
from tests.run import Count, Row

REPORT = """<testsuites><testsuite>
<testcase classname="tests.a" name="good" time="1.5"/>
<testcase classname="tests.a" name="bad" time="20.25"><failure message="not&#10;so"/><error message="teardown"/>
</testcase>
<testcase classname="tests.a" name="nobody ran it" time="0"><skipped message="no browser"/></testcase>
</testsuite></testsuites>"""


def test_a_report_is_counted_with_its_times(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(REPORT)
    count = run.count_junit(report, 1, "pytest")
    assert (count.passed, count.failed) == (1, 2)
    assert count.failures == ("pytest: tests.a::bad: not so", "pytest: tests.a::nobody ran it: no browser")
    assert max(count.times) == (20.25, "pytest: tests.a::bad")


# As a test of a scenario fails that gives a playbook's whole output: pytest leaves away the middle of its message.
PLAYED = """<testsuites><testsuite>
<testcase classname="tests.a" name="deploys"><failure message="AssertionError: PLAY [Refuse]   [+83 more lines]">
    def test_deploys() -&gt; None:
&gt;       assert outcome.code == 0, outcome.output
E       AssertionError: PLAY [Refuse] *****
E         TASK [Take the fleet to it] *****
E         [ERROR]: Task failed: the process worker of the new release ended
E         TimeoutError: timed out
E
E         fatal: [localhost]: FAILED! =&gt; the same again
E         PLAY RECAP *****
E       assert 2 == 0
</failure></testcase></testsuite></testsuites>"""


def test_a_playbook_in_a_failed_tests_message_says_why_it_failed(tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    report.write_text(PLAYED)
    (failure,) = run.count_junit(report, 1, "molecule a").failures
    assert failure == (
        "molecule a: tests.a::deploys: AssertionError: TASK [Take the fleet to it]; "
        "[ERROR]: Task failed: the process worker of the new release ended TimeoutError: timed out; "
        "fatal: [localhost]: FAILED! => the same again PLAY RECAP assert 2 == 0"
    )


def test_a_run_that_failed_without_a_failed_test_is_a_failure(tmp_path: Path) -> None:
    assert run.count_junit(tmp_path / "missing.xml", 4, "pytest").failed == 1


# As Molecule prints it: in colours, in a box, wrapped, and with the removal of the hosts after it.
BROKEN_PREPARE = """
echo 'TASK [Look whether it is there] ****'
echo 'fatal: [host1]: FAILED! => {"msg": "it was not, and that is fine"}'
echo 'INFO     default ➜ create: Executed: Successful'
echo '  │ TASK [slipway.fleet.edge : Load the rules of the metadata'
echo '  │   service] ***'
printf '  │ \\033[31m[ERROR]: Task failed: Module failed: No such file or directory:\\033[0m\\n'
echo '  │   b"nft"'
echo '  │ '
echo '  │ fatal: [host1]: FAILED! => '
echo '  │     changed: false'
echo '  │     msg: no nft'
echo '  │ '
echo '  │ PLAY RECAP ****'
echo '  └─ Return code: 2 ───'
printf '\\033[31m\\033[1mCRITICAL\\033[0m Ansible return code was 2, command was: ansible-playbook prepare.yml\\n'
printf '\\033[31mERROR   \\033[0m default ➜ prepare: Executed: Failed\\n'
echo '  │ TASK [Remove the hosts] ***'
echo '  │ changed: [localhost]'
echo 'INFO     default ➜ destroy: Executed: Successful'
exit 2
"""


def test_what_ended_a_run_without_a_failed_test_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told: deque[str] = deque(maxlen=run.TOLD)
    code = run.run(["sh", "-c", BROKEN_PREPARE], name="default", told=told)
    assert "│ PLAY RECAP" in capsys.readouterr().out
    (failure,) = run.count_junit(tmp_path / "missing.xml", code, "molecule default", told).failures
    assert failure == (
        "molecule default: ended with exit code 2 and without a failed test: "
        "TASK [slipway.fleet.edge : Load the rules of the metadata service]; "
        '[ERROR]: Task failed: Module failed: No such file or directory: b"nft"; '
        "fatal: [host1]: FAILED! => changed: false msg: no nft; "
        "CRITICAL Ansible return code was 2, command was: ansible-playbook prepare.yml; "
        "ERROR    default ➜ prepare: Executed: Failed"
    )
    assert len(run.reason(["fatal: " + "long " * 999, "CRITICAL " + "long " * 999, "ERROR " + "long " * 999])) == 600


def test_a_command_that_took_too_long_says_so(tmp_path: Path) -> None:
    told: deque[str] = deque(maxlen=run.TOLD)
    code = run.run(["sleep", "60"], limit=0.1, name="slow", told=told)
    (failure,) = run.count_junit(tmp_path / "missing.xml", code, "molecule slow", told).failures
    assert failure.endswith("exit code 124 and without a failed test: ended: it took more than 0 s")


def test_a_run_without_a_word_is_counted_without_a_reason(tmp_path: Path) -> None:
    assert run.count_junit(tmp_path / "missing.xml", 1, "x").failures[0].endswith("without a failed test")


def test_the_slowest_are_shown_and_no_more_than_twenty() -> None:
    lines = run.slowest([(float(number), f"test {number}") for number in range(100)])
    assert len(lines) == 20
    assert lines[0] == "   99.0 s  test 99"
    assert lines[-1] == "   80.0 s  test 80"


def test_counts_add_up_with_all_they_hold() -> None:
    row = Row("  rolling", Count(passed=2), 12.4)
    total = Count(1, ("a",), ((1.0, "x"),), (row,)) + Count(2, ("b",), ((2.0, "y"),))
    assert (total.passed, total.failures, len(total.times), total.rows) == (3, ("a", "b"), 2, (row,))
    assert str(row) == "  rolling             2 passed    0 failed      12 s"


def test_the_longest_scenario_is_started_first_and_one_without_a_figure_before_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in ("short", "long", "new", "shared"):
        (tmp_path / "molecule" / name).mkdir(parents=True)
        if name != "shared":
            (tmp_path / "molecule" / name / "molecule.yml").touch()
    monkeypatch.setattr(run, "ROOT", tmp_path)
    monkeypatch.setattr(run, "SECONDS", {"short": 1, "long": 2})
    assert run.scenarios() == ["new", "long", "short"]


def test_every_scenario_has_a_figure_and_every_figure_a_scenario() -> None:
    assert set(run.scenarios()) == set(run.SECONDS)


def test_compiled_modules_are_kept_whatever_the_caller_prefers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    assert "PYTHONDONTWRITEBYTECODE" not in run.environment()


def test_hosts_are_prepared_once_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []

    def good(command: list[str], **_: str) -> int:
        calls.append(command[-1])
        return 0

    monkeypatch.setattr(run, "run", good)
    run._prepare_lab.cache_clear()
    try:
        assert run.lab().failed == 0
        assert run.lab_is_ready()
        assert calls == ["docker", "images", "prepared"]
    finally:
        run._prepare_lab.cache_clear()


def test_without_hosts_every_scenario_has_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "run", lambda *_, **__: 1)
    run._prepare_lab.cache_clear()
    try:
        assert run.molecule().failed == len(run.scenarios())
    finally:
        run._prepare_lab.cache_clear()


def test_the_soak_is_no_part_of_a_usual_run() -> None:
    assert "soak" in run.PARTS
    assert "soak" not in run.USUAL


@pytest.mark.parametrize("part", ["integration", "app"])
def test_servers_are_installed_before_the_lab_asks_apt_too(monkeypatch: pytest.MonkeyPatch, part: str) -> None:
    order: list[str] = []

    def lab() -> Count:
        order.append("lab")
        return Count(passed=1)

    monkeypatch.setattr(run, "install_servers", lambda: order.append("servers"))
    monkeypatch.setattr(run, "PARTS", {**run.PARTS, part: Count, "lab": lab})
    assert run.main([part, "lab"]) == 0
    assert order == ["servers", "lab"]
