# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""Takes the fleet to a release: Ansible's front of the coordinator; see the module of the same name."""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.utils.display import Display
from ansible_collections.slipway.fleet.plugins.filter.release import release_id
from ansible_collections.slipway.fleet.plugins.module_utils.host.errors import SlipwayError
from ansible_collections.slipway.fleet.plugins.module_utils.host.shown import Screen
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Gate
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.ansible import Play, open_hosts
from ansible_collections.slipway.fleet.plugins.plugin_utils.channel.opening import PLACE
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller import contents, live, run, targets
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.awaiting import wait_for
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.compiling import compiled_once
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.roles import RoleVariables
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.telling import (
    Shown,
    Telling,
    screened,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.turn_commands import missing, run_command
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.watching import EdgeProbe
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet import coordinator
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import pending, revisions_in
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.parts import (
    Content,
    FleetReport,
    Policy,
    Refused,
    Target,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.run import Pending
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.squawk import findings
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.client import Settings
from ansible_collections.slipway.fleet.plugins.plugin_utils.probe.edges import edges_of, stripped
from ansible_collections.slipway.fleet.plugins.plugin_utils.report import document

WHAT = {"deploy": "a deploy", "rollback": "a rollback", "restart": "a restart"}
# Kinds of failed requests that are told, and what a request that got no answer in time is called.
MOST_KINDS, NO_ANSWER = 3, f"no answer within {Settings.timeout:.0f} s"
# Where the agent of a dry run is kept until the host is started anew.
IN_MEMORY = "/run/slipway-agent"
OPTIONS: dict[str, Any] = {
    "operation": {"type": "str", "choices": list(WHAT), "default": "deploy"},
    "contents": {"type": "dict", "default": {}},
    "roles": {"type": "list", "elements": "str", "default": []},
    "hosts": {"type": "list", "elements": "str"},
    "batches": {"type": "list", "elements": "raw", "default": [1, "25%", "100%"]},
    "reconnect": {"type": "float", "default": 60.0},
    "same_content": {"type": "bool", "default": False},
    "migrations": {"type": "path"},
    "savers": {"type": "list", "elements": "str", "default": []},
    "unsaved": {"type": "list", "elements": "str", "default": []},
    "rehearsers": {"type": "dict", "default": {}},
    "besides": {"type": "list", "elements": "str", "default": []},
    "page_goes": {"type": "bool", "default": False},
    "directory": {"type": "path"},
    "probe": {
        "type": "dict",
        "default": {},
        "options": {
            "urls": {"type": "list", "elements": "str", "default": []},
            "path": {"type": "str"},
            "ca_file": {"type": "path"},
            "rate": {"type": "float", "default": 10.0},
            "must_pass": {"type": "bool", "default": False},
        },
    },
}
# Options that these variables give where the task does not.
VARIABLES = {name: f"slipway_{name}" for name in ("batches", "reconnect", "same_content", "migrations")}
PROBE_VARIABLES = {name: f"slipway_probe_{name}" for name in OPTIONS["probe"]["options"]}


class ActionModule(ActionBase):  # type: ignore[misc]
    """Runs once for all hosts of a play, or for one host in a playbook of the user's own."""

    def run(self, tmp: Any = None, task_vars: Any = None) -> dict[str, Any]:
        super().run(tmp, task_vars)
        # Asked for now: a process that was killed since tells it no more.
        self._began = run.started_at(run.main_process())
        roles = RoleVariables(self._loader, self._task.args.get("roles", []))
        self._task.args = self._given(roles.beside(task_vars))
        _, options = self.validate_argument_spec(OPTIONS)
        hosts = options["hosts"] or list(task_vars["ansible_play_hosts_all"])
        play = Play(self, task_vars)
        computed = self._computed(options, roles, play, hosts, task_vars["ansible_play_hosts"])
        # The hosts were provisioned in this run, or let new credentials in.
        changed = "provision_begun" in task_vars
        if wrong := {host: so_far(said, changed) for host, said in refused(computed).items()}:
            wrong[next(iter(wrong))] = "\n".join([next(iter(wrong.values())), *options["besides"]])
            result = {"changed": False, "verdict": "refused", "message": next(iter(wrong.values())), "wrong": wrong}
            return self._ended(result, options)
        directory = Path(options["directory"] or run.reports(task_vars))
        wanted = [target_of(host, known["target"]) for host, known in computed.items()]
        screen = Screen(secrets_in(computed))
        # A plan in a run that goes on is no plan of that run.
        strict = self._task.check_mode and not task_vars["ansible_check_mode"]
        left_out = [] if options["hosts"] else self._left_out(roles.beside(task_vars), hosts)
        policy, telling = self._policy(options, computed, strict, left_out), Telling(screen)
        content = self._contents(computed, changed)
        probe = EdgeProbe(
            options["probe"],
            lambda: edges_of(
                task_vars["hostvars"], task_vars["groups"], wanted[0].place["app"], options["probe"]["urls"]
            ),
            asked_path(wanted[0].place["gate"]),
            directory,
            policy.check_mode,
            lambda: stripped(task_vars["hostvars"][wanted[0].host], wanted[0].place["app"]),
        )

        async def take() -> FleetReport:
            # A dry run leaves nothing on a disk.
            place = IN_MEMORY if policy.check_mode else PLACE
            named = list(dict.fromkeys([*hosts, *options["savers"]]))
            opened = {name: Shown(host) for name, host in open_hosts(play, named, place=place).items()}
            try:
                return await coordinator.run(
                    policy, wanted, opened, content, release_id, telling, Time(), probe,
                    pending_in(options["migrations"] or revisions_of(next(iter(computed.values())))),
                    {name: opened[name] for name in options["savers"]},
                    run_command, findings,
                )  # fmt: skip
            finally:
                await asyncio.gather(*(host.close() for host in opened.values()))

        report = screened(wait_for(take(), run.main(), live.divert), screen)
        report = replace(report, message=so_far(report.message, changed), plan=built_from(report.plan, computed))
        failure = screen.text(probe.failure())
        # One that did not end well has other things to tell.
        doubt = screen.text(probe.doubt()) if report.word == "good" else ""
        goes = options["page_goes"] and not report.wrong  # a playbook that fails leaves it
        unseen = "; but ".join(filter(None, (failure or doubt, covered(report.covered, goes=goes))))
        told = self._told(report, policy, wanted[0], telling, probe, directory, unseen)
        return self._ended(told, options, failure)

    def _given(self, variables: Mapping[str, Any]) -> dict[str, Any]:
        """The task's arguments, and what variables say besides, which may be made of those of the roles."""
        templar = self._templar.copy_with_new_env(available_variables=variables)

        def of(names: Mapping[str, str]) -> dict[str, Any]:
            return {name: templar.template(variables[known]) for name, known in names.items() if known in variables}

        given = self._task.args
        return {**of(VARIABLES), **given, "probe": {**of(PROBE_VARIABLES), **given.get("probe", {})}}

    def _computed(
        self,
        options: Mapping[str, Any],
        roles: RoleVariables,
        play: Play,
        hosts: Sequence[str],
        active: Sequence[str],
    ) -> dict[str, dict[str, Any]]:
        """For each host what it is to serve, or what is wrong; nothing for one that failed in an earlier task."""
        asked = targets.NEW if options["operation"] == "deploy" else targets.PRESENT
        made = targets.Targets(self._templar, self._loader, asked, options["contents"])
        found: dict[str, dict[str, Any]] = {host: {} for host in hosts}
        with compiled_once(roles.texts()):
            for host in (host for host in hosts if host in active):
                try:
                    found[host] = made.of(roles.beside(play.variables(host)))
                    if lacking := missing(found[host].get("target", {}).get("turn", {})):
                        found[host] = {"wrong": lacking}
                except Refused as error:
                    found[host] = {"wrong": [str(error)]}
        return found

    def _left_out(self, variables: Mapping[str, Any], hosts: Sequence[str]) -> list[str]:
        """The hosts of the fleet, as the playbook names it, that this run is not about."""
        templar = self._templar.copy_with_new_env(available_variables=variables)
        fleet = templar.template(variables.get("fastapi_app_fleet") or [])
        return [str(host) for host in fleet if host not in hosts] if isinstance(fleet, list) else []

    def _policy(
        self, options: Mapping[str, Any], computed: Mapping[str, Any], strict: bool, left_out: Sequence[str]
    ) -> Policy:
        operation = options["operation"]
        return Policy(
            operation=operation,
            run={"id": run.run_id(), "who": run.who(), "from": run.whence(), "what": WHAT[operation]},
            batches=options["batches"],
            reconnect=options["reconnect"],
            same_content=options["same_content"],
            on_failure=next(iter(computed.values()))["target"]["on_failure"],
            check_mode=self._task.check_mode,
            strict=strict,
            diff=self._task.diff,
            unsaved=options["unsaved"],
            rehearsers=options["rehearsers"],
            left_out=left_out,
            besides=options["besides"],
        )

    def _contents(self, computed: Mapping[str, Any], changed: bool) -> dict[str, Content]:
        dry = self._task.check_mode
        makers: dict[str, Callable[[Mapping[str, Any]], Content]] = {
            "present": lambda given: contents.Present(given["reference"], given["content"]),
            "image": lambda given: of_image(given, dry),
            "package": lambda given: of_package(given, dry),
        }
        try:
            return contents.shared({host: known["content"] for host, known in computed.items()}, makers)
        except SlipwayError as error:
            raise AnsibleActionFail(so_far(f"Nothing was changed. {error}", changed)) from error

    def _told(
        self,
        report: FleetReport,
        policy: Policy,
        target: Target,
        telling: Telling,
        probe: EdgeProbe,
        directory: Path,
        unseen: str,
    ) -> dict[str, Any]:
        """Show how it ended, write the report, and put both into the task's result.

        `unseen` is what was not as it should be at the edge, or nobody could see there.
        """
        show = Display().display
        result = {
            "changed": report.changed or bool(report.plan), "verdict": report.word, "message": report.message,
            "wrong": report.wrong,
            "release": report.release, "hosts": report.rows, "probe": probe.summary, "report": "", "diff": report.diff,
        }  # fmt: skip
        if report.plan:
            show(f"\n{report.plan}\n")
            return result
        if report.word == "refused":
            show_diagnoses(report.rows, report.message)
            if live.diverted:  # what comes after this task in the playbook would say it
                show(report.message)
            return {**result, "wrong": {refused_by(report.rows): report.message}}
        told = {
            "app": target.place["app"],
            "inventory": directory.name,
            "operation": policy.operation,
            "release": report.release,
            "who": policy.run["who"],
            "from": policy.run["from"],
            "started": self._began,
            "ended": time.time(),
            "verdict": report.word,
            "message": "; but ".join(part for part in (report.message, unseen) if part),
            "served": probe.served,
            "plays": telling.steps(time.time()),
            "hosts": report.rows,
        }
        # Written first: where ansible-playbook was killed, nobody sees what is shown.
        if report.word != "nothing":
            page = document.write(document.build(told, probe.samples()), directory, document.name_of(told))
            result["report"] = str(page)
        probe.forget()
        show(f"\n{document.table(told)}\n\n{without_causes(told['message'], report.rows)}")
        if probe.summary.get("requests"):
            show(requests_told(probe.summary))
        show("")
        show_diagnoses(report.rows)
        if result["report"]:
            show(f"The report is {result['report']}\n")
        return result

    def _ended(self, result: dict[str, Any], options: Mapping[str, Any], failure: str = "") -> dict[str, Any]:
        """With the failure of the task where it is one: for a single host, or by what was seen of the edge."""
        if live.diverted:
            # Nobody reads it any more, and this process would wait for somebody with more than the pipe takes.
            result = {**result, "hosts": [], "diff": []}
        if options["hosts"] and result["wrong"]:
            return {**result, "failed": True, "msg": " ".join(result["wrong"].values())}
        if failure and not result["wrong"]:  # hosts fail by their own names
            return {**result, "failed": True, "msg": f"{failure}; see {result['report'] or 'the table'}"}
        return result


def of_image(given: Mapping[str, Any], dry: bool) -> Content:
    from ansible_collections.slipway.fleet.plugins.plugin_utils.image.content import (  # noqa: PLC0415 - not for packages
        image_content,
    )
    from ansible_collections.slipway.fleet.plugins.plugin_utils.image.request import (  # noqa: PLC0415 - as above
        ImageRequest,
    )

    return image_content(ImageRequest.of(given), run.run_id(), dry)


def of_package(given: Mapping[str, Any], dry: bool) -> Content:
    from ansible_collections.slipway.fleet.plugins.plugin_utils.package.content import (  # noqa: PLC0415 - not for images
        package_content,
    )
    from ansible_collections.slipway.fleet.plugins.plugin_utils.package.request import (  # noqa: PLC0415 - as above
        PackageRequest,
    )

    return package_content(PackageRequest.of(given), dry)


def secrets_in(computed: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The secrets of the app and of the registry, as the hosts are to get them; none of a release that is there."""
    found: set[str] = set()
    for known in computed.values():
        target = known.get("target") or {}
        contents = target.get("contents") or {}
        secret = (str(at) for at, item in enumerate(target.get("files") or ()) if item.get("secret"))
        found |= {str(contents[at]) for at in secret if at in contents}
        request = (known.get("content") or {}).get("request") or {}
        found |= {str(value) for name, value in request.items() if name.endswith("password") and value}
    return found


def refused_by(rows: Sequence[Mapping[str, Any]]) -> str:
    """The host that says why a run was refused: the first with a cause. What names all hosts is said there once."""
    return str(next((row["host"] for row in rows if row["cause"]), rows[0]["host"]))


def requests_told(summary: Mapping[str, Any]) -> str:
    """What became of the probe's requests, in a line, and how those failed that did, what was most first."""
    by = summary["answered_by"]
    kinds = Counter(str(one["error"]) for one in summary["failures"]).most_common(MOST_KINDS)
    how = ", ".join(f"{NO_ANSWER if kind == 'timeout' else kind} ({count})" for kind, count in kinds)
    return (
        f"{summary['failed']} of {summary['requests']} requests through the edge failed meanwhile; "
        f"answered by the app: {by['app']}, by the edge itself: {by['edge']}, by nobody: {by['nobody']}"
        + (f"; failed by: {how}" if how else "")
    )


def covered(hosts: Sequence[str], *, goes: bool) -> str:
    """What users got where edges showed the maintenance page, which lets the health path through, and so the probe.

    `goes`: what comes after this in the playbook takes the page away.
    """
    if not hosts:
        return ""
    return (
        f"users got the maintenance page of {', '.join(hosts)} and not the app, whatever the requests of this run got; "
        + ("this playbook" if goes else "slipway.fleet.maintenance -e slipway_maintenance=off")
        + (" takes it away next" if goes else " takes it away")
    )


def show_diagnoses(rows: Sequence[Mapping[str, Any]], told: str = "") -> None:
    """What is known of each host that failed, unless it stands in what is told at the end."""
    for row in rows:
        if (evidence := evidence_of(row)) and row["diagnosis"] not in told:
            Display().display(f"--- {row['host']} ---\n{evidence}\n", color="red")


def without_causes(message: str, rows: Sequence[Mapping[str, Any]]) -> str:
    """A verdict with the hosts that are its reason. Why stands in the line of each, and at the end of the run."""
    for row in rows:
        if row["cause"]:
            message = message.replace(f"{row['host']}: {row['cause']}", row["host"])
    return message


def evidence_of(row: Mapping[str, Any]) -> str:
    """What is known of a host that failed, without the line that is its cause."""
    first, _, rest = str(row["diagnosis"]).partition("\n")
    return rest if row["cause"] and row["cause"] in first else str(row["diagnosis"])


def target_of(host: str, known: Mapping[str, Any]) -> Target:
    """What was computed of a host, as the coordinator takes it."""
    names = {field.name for field in fields(Target)}
    return Target(host=host, **{name: value for name, value in known.items() if name in names})


def asked_path(gate: Mapping[str, Any]) -> str:
    """What the probe asks for."""
    return Gate(str(gate.get("path") or "/"), str(gate.get("version_path") or "")).asked


class Time:
    """The time that everybody has."""

    def now(self) -> float:
        return time.time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


def revisions_of(known: Mapping[str, Any]) -> Path | None:
    """Where the revisions are of what is built of a source tree; None where the controller has none, or no Alembic."""
    request, where = known["content"].get("request") or {}, known["target"].get("migrations")
    source = request.get("project") or (request.get("context") if request.get("source") == "build" else None)
    return revisions_in(Path(source), where) if where and source else None


def pending_in(directory: str | Path | None) -> Pending | None:
    """From a schema revision to the migrations after it, by the revisions in a directory; None without one."""
    path = Path(directory) if directory else None
    return (lambda since: pending(path, since)) if path and path.is_dir() else None


def built_from(plan: str, computed: Mapping[str, Mapping[str, Any]]) -> str:
    """The plan, with the directory that a new image is built from: a variable that was forgotten is seen there."""
    if "\nImage: " not in plan:
        return plan
    requests = [(known.get("content") or {}).get("request") or {} for known in computed.values()]
    built = [one["context"] for one in requests if one.get("source") == "build" and one.get("context")]
    return "\n".join(
        [plan, *(f"Built from {Path(one).resolve()} (fastapi_image_context)" for one in dict.fromkeys(built))]
    )


def so_far(said: str, changed: bool) -> str:
    """What is said of a roll that changed nothing; `changed`: this run has changed hosts before it."""
    return re.sub(r"\b([Nn]othing) was changed", r"\1 of the app was changed", said) if changed else said


def refused(computed: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """For each host why it cannot be said what it is to serve; empty where all can."""
    found = {}
    for host, known in computed.items():
        if known.get("wrong"):
            found[host] = f"Nothing was changed. {' '.join(known['wrong'])}"
        elif "target" not in known:
            found[host] = f"Nothing was changed; {host} failed in an earlier task of this play, see its error above"
    return found
