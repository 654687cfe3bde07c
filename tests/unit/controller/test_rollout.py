"""What is shown of a run at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.slipway.fleet.plugins.action.rollout import (
    PROBE_VARIABLES,
    VARIABLES,
    built_from,
    covered,
    evidence_of,
    revisions_of,
    so_far,
    without_causes,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.inputs.spelling import known_variables

CAUSE = "not ready within 60 s: GET /readyz answered 503"


def row(host: str, cause: str = "", diagnosis: str = "") -> dict[str, Any]:
    return {"host": host, "cause": cause, "diagnosis": diagnosis}


def test_a_verdict_names_the_host_whose_own_lines_say_why() -> None:
    message = f"release b was refused (web2: {CAUSE}); every host serves what it served before"
    assert without_causes(message, [row("web1"), row("web2", CAUSE)]) == (
        "release b was refused (web2); every host serves what it served before"
    )
    assert without_causes("every host serves release b", [row("web1")]) == "every host serves release b"


@pytest.mark.parametrize(
    ("cause", "diagnosis", "evidence"),
    [
        (
            CAUSE,
            f"release b was refused: {CAUSE}; release a goes on serving\n--- its log ---\nline",
            "--- its log ---\nline",
        ),
        (CAUSE, f"release b was refused: {CAUSE}", ""),
        (CAUSE, "something else\nline", "something else\nline"),
        ("", "no cause is known\nline", "no cause is known\nline"),
    ],
)
def test_evidence_does_not_say_the_cause_again(cause: str, diagnosis: str, evidence: str) -> None:
    assert evidence_of(row("web1", cause, diagnosis)) == evidence


@pytest.mark.parametrize(
    ("said", "after_others"),
    [
        ("nothing was changed; web1 is full", "nothing of the app was changed; web1 is full"),
        ("Nothing was changed. No image", "Nothing of the app was changed. No image"),
        (
            "every host serves b already; nothing was changed",
            "every host serves b already; nothing of the app was changed",
        ),
        ("nothing was switched; web1 is full", "nothing was switched; web1 is full"),
    ],
)
def test_after_a_provision_in_the_same_run_not_everything_is_as_it_was(said: str, after_others: str) -> None:
    assert so_far(said, changed=False) == said
    assert so_far(said, changed=True) == after_others


def test_a_run_under_the_maintenance_page_says_what_users_got() -> None:
    """The probe may have asked the health path, which the page lets through."""
    assert covered([], goes=False) == ""
    told = covered(["web1", "web2"], goes=False)
    assert told.startswith("users got the maintenance page of web1, web2 and not the app")
    assert told.endswith("; slipway.fleet.maintenance -e slipway_maintenance=off takes it away")
    assert covered(["web1"], goes=True).endswith("; this playbook takes it away next")


def test_the_revisions_of_what_is_built_are_found(tmp_path: Path) -> None:
    versions = tmp_path / "alembic/versions"
    versions.mkdir(parents=True)
    (tmp_path / "alembic.ini").write_text("[alembic]\nscript_location = alembic\n")
    built, pulled = {"source": "build", "context": str(tmp_path)}, {"source": "pull", "context": str(tmp_path)}
    for request, where, found in (
        (built, "alembic", versions),
        ({"project": str(tmp_path)}, "alembic", versions),
        (pulled, "alembic", None),
        (built, "", None),
    ):
        known = {"content": {"request": request}, "target": {"migrations": where}}
        assert revisions_of(known) == found


def test_a_plan_says_from_where_a_new_image_is_built(tmp_path: Path) -> None:
    """The directory is Slipway's own app where nobody named another one."""
    (tmp_path / "playbooks").mkdir()
    request = {"source": "build", "context": f"{tmp_path}/playbooks/.."}
    computed = {host: {"content": {"request": request}} for host in ("web1", "web2")}
    plan = "Plan: release 2 on 2 of 2 hosts, in this order:\nImage: app:1 -> app:2"
    assert built_from(plan, computed) == f"{plan}\nBuilt from {tmp_path} (fastapi_image_context)"
    pulled = {"source": "pull", "context": str(tmp_path)}
    assert built_from(plan, {"web1": {"content": {"request": pulled}}, "web2": {"content": {}}}) == plan
    assert built_from("Plan: nothing", computed) == "Plan: nothing"
    assert built_from("", computed) == ""


def test_who_misspells_a_variable_of_the_roll_is_told() -> None:
    assert {*VARIABLES.values(), *PROBE_VARIABLES.values()} <= known_variables()
