"""`python3 -m bench.targets` computes what 1 to 200 hosts are to serve, and counts what that costs the controller.

No host is asked. `apart` is each host by itself, with templates compiled anew, as a task for each host would do it;
`together` is as `slipway.fleet.rollout` does it. The two run in turn.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.loader import init_plugin_loader
from ansible.template import Templar
from ansible.vars.manager import VariableManager

from bench.docker import ROOT
from bench.fleet import VARIABLES

init_plugin_loader([str(ROOT / ".collections")])

from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.compiling import (  # noqa: E402 - the path is set above
    compiled_once,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.roles import (  # noqa: E402 - the path is set above
    RoleVariables,
)
from ansible_collections.slipway.fleet.plugins.plugin_utils.controller.targets import (  # noqa: E402 - the path is set above
    NEW,
    Targets,
)

ROLES = ("fastapi_image", "fastapi_package", "fastapi_app")
CONTENTS = {"package": {"request": "__fastapi_package_request"}}


class Fleet:
    """So many hosts with the variables of `bench.fleet`, as a deploy has them."""

    def __init__(self, count: int, directory: Path) -> None:
        self.loader = DataLoader()
        self.loader.set_basedir(str(ROOT / "playbooks"))
        hosts = {f"web{number}": {"ansible_host": f"192.0.2.{number}"} for number in range(count)}
        path = directory / f"{count}.yml"
        path.write_text(
            yaml.safe_dump({"web": {"hosts": hosts, "vars": {**VARIABLES, "fastapi_package_source": "/srv"}}})
        )
        inventory = InventoryManager(loader=self.loader, sources=[str(path)])
        self._manager = VariableManager(loader=self.loader, inventory=inventory)
        self.hosts = inventory.get_hosts("web")
        self._roles = RoleVariables(self.loader, ROLES)

    def variables(self, host: Any) -> dict[str, Any]:
        own: dict[str, Any] = self._manager.get_vars(host=host, include_hostvars=False)
        return self._roles.beside(own) | {
            "ansible_search_path": [],
            "ansible_play_hosts_all": [one.name for one in self.hosts],
        }

    def targets(self) -> Targets:
        return Targets(Templar(loader=self.loader), self.loader, NEW, CONTENTS)


def apart(fleet: Fleet) -> list[dict[str, Any]]:
    return [fleet.targets().of(fleet.variables(host)) for host in fleet.hosts]


def together(fleet: Fleet) -> list[dict[str, Any]]:
    made = fleet.targets()
    with compiled_once():
        return [made.of(fleet.variables(host)) for host in fleet.hosts]


def measured(work: Callable[[Fleet], list[dict[str, Any]]], fleet: Fleet) -> tuple[float, float]:
    """Processor seconds, and MiB more than before at the most."""
    begin, before = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = work(fleet)
    if wrong := [text for one in found for text in one.get("wrong", [])]:
        raise SystemExit("\n".join(wrong))
    return time.process_time() - begin, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python3 -m bench.targets", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("count", nargs="*", type=int, default=[1, 20, 50, 200], help="numbers of hosts, ascending")
    options = parser.parse_args(arguments)
    print("| hosts | apart, processor ms a host | together | ratio | together, MiB more than before |")
    print("| ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory(prefix="slipway-bench-") as directory:
        measured(apart, Fleet(1, Path(directory)))  # every plugin is loaded then
        for count in sorted(options.count):
            fleet = Fleet(count, Path(directory))
            one, memory = measured(together, fleet)
            other, _ = measured(apart, fleet)
            figures = f"{1000 * other / count:.0f} | {1000 * one / count:.0f} | {one / other:.2f} | {memory:.1f}"
            print(f"| {count} | {figures} |", flush=True)


if __name__ == "__main__":
    main()
