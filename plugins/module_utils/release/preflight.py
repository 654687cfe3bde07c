"""What would stop a deploy on this host, before anything is changed."""

from __future__ import annotations

import os
import platform
import shutil
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

from ..edge import maintenance
from ..edge.certificates import SETTINGS
from ..edge.haproxy import EdgeError, NoBackend
from ..edge.pieces import has_tls
from ..edge.routing import not_the_same, parse
from ..host import command
from ..host.errors import SlipwayError
from ..host.machine import machine
from ..image.local import ARCHITECTURES
from ..package.packages import PackageError, target_of
from . import wiring
from .connections import connections_lack
from .connections import seen as seen_server
from .doors import port_of, ports_of
from .jobs import schedule_problems
from .lease import LEASES, Lease
from .memory_lack import memory_lack, total_mib
from .model import State
from .neighbours import others, services
from .observe import absent, certificate_days, free_mib, observe
from .port_problems import port_problems
from .processors import processors, processors_lack
from .runtime import RuntimeFailed
from .runtimes import staged_for
from .seen_jobs import timers_problems
from .store import ENDING, Store
from .systemd import uid_problem
from .timers import Timers
from .transaction import Transaction
from .users import ROOT

COMPOSE_AT_LEAST = (2, 20)
# Bytes and inodes that must be free where records are written, and inodes where a release is.
SMALL, FEW_INODES, INODES = 4 << 20, 100, 5000
# What the preflight needs to know of a host and how it is to be (the argument `host` of the verb look), with what
# counts where nothing is said: sizes in bytes, times in seconds, `controller_time` since the epoch and 0 for unknown,
# `port` where the app of a new release listens, 0 for the slot's socket; `overlap` whether that may run beside the one
# that serves, `names` under which it is asked and `former_names` under which it was, `user` whom the inventory names to
# run it, and `uid` that of its own user under systemd; `slot_mib`, `cpus` and `processes` are its limits, `workers`
# those of a slot, and `hosts` how many the fleet has.
HOST: dict[str, Any] = {
    "runtime": "compose",
    "python": "/usr/bin/python3",
    "image": "",
    "architectures": [],
    "disk_needed": 0,
    "disk_reserve": 1 << 30,
    "certificate": None,
    "certificate_days": 14,
    "controller_time": 0.0,
    "clock_tolerance": 60.0,
    "port": 0,
    "slot_mib": 0,
    "cpus": 0.0,
    "workers": 0,
    "hosts": 1,
    "processes": {},
    "jobs": {},
    "overlap": True,
    "names": [],
    "former_names": [],
    "user": "",
    "uid": 0,
}


def run(*words: str) -> tuple[int, str]:
    """Exit code and output of a command; 127 where it is not installed."""
    try:
        ran = command.run(words, 30)
    except command.CommandError as error:
        return 127, str(error)
    return ran.returncode, ran.stdout.strip() if ran.returncode == 0 else ran.said


def docker_problem() -> Optional[str]:
    code, output = run("docker", "version", "--format", "{{.Server.Version}}")
    if code == 127:
        return "Docker is not installed; run slipway.fleet.provision, as slipway.fleet.site does first"
    if code:
        return f"Docker is installed but does not answer ({output}); `systemctl status docker` on the host tells why"
    code, output = run("docker", "compose", "version", "--short")
    if code:
        return "Docker Compose v2 is not installed; set docker_engine_source: docker and run slipway.fleet.provision"
    if compose_version(output) < COMPOSE_AT_LEAST:
        return (
            f"Docker Compose {output} is too old, 2.20 is the oldest that works; upgrade it there: apt-get install "
            "--only-upgrade --allow-change-held-packages docker-compose-plugin (docker-compose is the distribution's)"
        )
    return None


def edge_problem(silent: EdgeError) -> str:
    """Why the edge does not answer."""
    if run("haproxy", "-v")[0] == 127:
        return "HAProxy is not installed; run slipway.fleet.provision, as slipway.fleet.site does first"
    return str(silent)


def python_problem(python: str) -> Optional[str]:
    try:
        target_of(python)
    except PackageError as error:
        return str(error)
    return None


def compose_version(text: str) -> tuple[int, ...]:
    """(2, 26) of `2.26.1-4`."""
    numbers = text.lstrip("v").split("-")[0].split(".")[:2]
    return tuple(int(number) for number in numbers if number.isdigit())


def architecture_problem(image: str, architectures: list[str], machine: str) -> Optional[str]:
    """Why the image cannot run on this machine, as far as is known what both are."""
    fitting = ARCHITECTURES.get(machine)
    if not architectures or not fitting or set(fitting) & set(architectures):
        return None
    mine = fitting[0]
    return (
        f"architecture: this host is {mine} ({machine}), the image {image} is made for "
        f"{' and '.join(architectures)} alone; build it for linux/{mine} too, or leave this host out"
    )


def nearest_existing(path: Path) -> Path:
    while not path.exists():
        path = path.parent
    return path


def places(runtime: str, root: Path, written: list[Path]) -> dict[Path, bool]:
    """What a release writes to; true where the release itself takes room, false where a few small files do."""
    found = dict.fromkeys(written, False)
    found.update(dict.fromkeys([root, Path("/var/lib/docker")] if runtime == "compose" else [root], True))
    return found


def disk_problems(places: dict[Path, bool], needed: int, reserve: int) -> list[str]:
    """One problem for each file system with too few free bytes or inodes.

    Where the release takes room `needed + reserve` bytes must be free, elsewhere `SMALL`.
    """
    problems = []
    seen = set()
    for wanted, large in sorted(places.items(), key=lambda item: not item[1]):
        place = nearest_existing(wanted)
        device = place.stat().st_dev
        if device in seen:
            continue
        seen.add(device)
        free, room = shutil.disk_usage(place).free, needed + reserve if large else SMALL
        if free < room:
            problems.append(
                f"disk: {place} has {free / 2**20:.0f} MiB free, a release needs {room / 2**20:.0f} "
                + ("(its size plus fastapi_app_disk_reserve); free some, or lower the reserve" if large else "there")
            )
        status = os.statvfs(place)
        # A file system without a table of inodes (Btrfs) says that it has none at all.
        if status.f_files and status.f_favail < (INODES if large else FEW_INODES):
            problems.append(f"disk: {place} has {status.f_favail} inodes free, so no files can be made; remove some")
    return problems


def busy_problem(holder: str) -> Optional[str]:
    """That a transaction which outlived its run is under way."""
    if not holder or holder == ENDING:  # which is waited for
        return None
    return f"this app is being changed here already ({holder}); wait until it has ended"


def scheme_problem(purpose: str, proto: str, edge: Path = SETTINGS.parent) -> Optional[str]:
    """That the release would be asked as by HTTP at an edge that has nothing but HTTPS.

    An app that sends whoever came without TLS elsewhere would redirect each question until the gate gives it up.
    """
    if purpose != "deploy" or proto == "https" or not has_tls(edge):
        return None
    return (
        "the edge of this host has certificates and sends HTTP to HTTPS, and fastapi_app_edge_scheme is http; set it "
        "to https, or give this inventory the haproxy_acme_email or haproxy_tls_certificate of the edge"
    )


def place_problem(
    purpose: str, app: str, names: list[str], former: list[str], edge: Path = SETTINGS.parent
) -> Optional[str]:
    """That another app of this name is behind the edge, from an inventory of its own."""
    if purpose != "deploy":
        return None
    try:
        there = parse(app, (edge / "apps" / f"{app}.cfg").read_text())
    except OSError:
        return None
    return not_the_same(there, names, former)


def find_problems(
    purpose: str, wanted: str, run: str, host: dict[str, Any], transaction: Transaction, place: dict[str, Any]
) -> list[str]:
    """All that would stop a deploy, most basic first; but for a transaction that is under way."""
    if os.geteuid() != 0:
        return ["the tasks do not run as root here; set become: true, and give the remote user sudo"]
    root, edge = transaction.store.root, place["edge"]
    runtime = runtime_of(purpose, wanted, host["runtime"], transaction)
    tool = docker_problem() if runtime == "compose" else python_problem(host["python"])
    wrong_image = architecture_problem(host["image"], host["architectures"], platform.machine())
    held = Lease(transaction.request.app, root).problem(run)
    scheme = scheme_problem(purpose, (place.get("gate") or {}).get("proto") or "https")
    another = place_problem(purpose, place["app"], host["names"], host["former_names"])
    new = purpose == "deploy" and runtime == "systemd"
    uid = uid_problem(f"slipway-{place['app']}", int(host["uid"])) if new and host["uid"] else None
    problems = [problem for problem in (tool, wrong_image, held, scheme, another, uid) if problem]
    try:
        transaction.edge.servers()
    except EdgeError as error:
        problems.append((isinstance(error, NoBackend) and absent(transaction)) or edge_problem(error))
    else:
        if wanted_port(purpose, wanted, host["port"], transaction):
            ports, slots = ports_of(place["app"], place.get("ports") or {}), wiring.runtime_of({"place": place})
            problems += port_problems(place["app"], ports, wiring.edge_of(place, slots), slots)
    written = [
        root,
        LEASES,
        Path("/etc/systemd/system"),
        Path(tempfile.gettempdir()),
        Path(edge["state_file"]).parent,
        Path(edge["socket"]).parent,
    ]
    problems += schedule_problems(host["jobs"])
    problems += disk_problems(places(runtime, root, written), host["disk_needed"], host["disk_reserve"])
    skew = abs(time.time() - host["controller_time"])
    if host["controller_time"] and skew > host["clock_tolerance"]:
        problems.append(f"the clock differs by {skew:.0f} s from the controller's; start a time service on both")
    return problems


def wanted_port(purpose: str, wanted: str, new: int, transaction: Transaction) -> int:
    """Where the app of the wanted release listens, 0 for the slot's socket; `new` is that of one that is to come."""
    if purpose == "deploy" and not transaction.store.has(wanted):
        return int(new)
    try:
        return port_of(transaction.store.releases, target(purpose, transaction.store, transaction.state(), wanted))
    except SlipwayError:
        return 0


def target(purpose: str, store: Store, state: Optional[State], wanted: str) -> str:
    """The release that the run is about. Raises SlipwayError that says why there is none."""
    if purpose == "deploy":
        return wanted
    if state is None:
        raise SlipwayError("nothing was released here yet; run slipway.fleet.deploy")
    if purpose == "restart":
        return state.release
    good = store.good()
    if wanted:
        if store.has(wanted) and store.last_record(wanted):
            return wanted
        there = ", ".join(release for release in good if store.has(release)) or "none"
        raise SlipwayError(f"release {wanted} is no good release of this host; there are: {there} (oldest first)")
    before = [release for release in good if release != state.release and store.has(release)]
    if not before:
        raise SlipwayError(f"there is no good release before {state.release} on this host to return to")
    return before[-1]


def runtime_of(purpose: str, wanted: str, otherwise: str, transaction: Transaction) -> str:
    """The runtime that the wanted release needs."""
    try:
        release = target(purpose, transaction.store, transaction.state(), wanted)
    except SlipwayError:
        release = ""
    return (staged_for(transaction.store.releases, release) if release else None) or otherwise


def look(arguments: dict[str, Any], transaction: Transaction, timers: Timers) -> dict[str, Any]:
    """The verb `look`: problems, what serves, and whether that is the wanted release.

    A damaged record is drift. That there is no release to restart, or to return to by its name, is a problem; where a
    rollback names none, `good` has what the host could return to. `busy` is who has a transaction under way, and
    `frees_in` the seconds until the lease of a run that seems to be gone frees itself. `notes` are no problems.
    `machine` is the same for two names of one host.
    """
    host = {**HOST, **(arguments.get("host") or {})}
    purpose, wanted = arguments.get("purpose") or "deploy", arguments.get("release") or ""
    place = arguments["place"]
    # Whoever goes back or starts anew has no other problem than that.
    away = absent(transaction) if purpose != "deploy" and os.geteuid() == 0 else ""
    run_id = arguments.get("run_id") or ""
    problems = [away] if away else find_problems(purpose, wanted, run_id, host, transaction, place)
    try:
        found = seen(purpose, wanted, host, transaction, timers)
    except SlipwayError as error:
        if not away and (wanted or purpose != "rollback"):
            problems.append(str(error))
        found = {**seen("deploy", "", host, transaction, timers), "settled": False}
    frees_in = Lease(transaction.request.app, transaction.store.root).left_by_dead(run_id)
    notes = notes_on(purpose, host, transaction, found)
    busy = transaction.store.holder() or ""
    about = {"busy": busy, "frees_in": frees_in, "notes": notes, "machine": machine()}
    return {"problems": problems, **about, **found}


def notes_on(purpose: str, host: dict[str, Any], transaction: Transaction, found: dict[str, Any]) -> list[str]:
    """What somebody should know before the release comes, though it is as the inventory says."""
    store, release = transaction.store, found["release"]
    if found["settled"]:
        return []
    notes = []
    serving = (found["serving"] or {}).get("release")
    overlap = store.overlaps(release) if release and store.has(release) else bool(host["overlap"])
    if serving and not (overlap and store.overlaps(serving)):
        notes.append(
            f"release {serving} is stopped before the next one starts, as fastapi_app_slots_overlap says: nobody "
            "answers meanwhile"
        )
    if purpose == "deploy" and str(host["user"]).partition(":")[0] in ROOT:
        notes.append("the app runs as root in its container, as fastapi_app_user says")
    return notes + (shared(host, transaction, overlap) if purpose == "deploy" else [])


def shared(host: dict[str, Any], transaction: Transaction, overlap: bool) -> list[str]:
    """What a new release and all else on the host may take, and the host or its database server has not."""
    apps, app, here = transaction.store.root.parent, transaction.request.app, transaction.request.singletons
    beside = others(apps, app)
    wanted = {name: one for name, one in host["processes"].items() if here or not one.get("singleton")}
    workers = int(host["workers"]) + sum(one["replicas"] for one in wanted.values())
    taken = {**services(apps), **{name: one.memory_mib for name, one in beside.items()}}
    lacks = (
        memory_lack(host["slot_mib"], host["processes"], here, overlap, total_mib(), bool(host["jobs"]), taken),
        processors_lack(
            float(host["cpus"]), host["processes"], here, processors(), {name: one.cpus for name, one in beside.items()}
        ),
        connections_lack(seen_server(apps / "postgres"), app, workers, int(host["hosts"]), overlap, beside),
    )
    return [lack for lack in lacks if lack]


def seen(purpose: str, wanted: str, host: dict[str, Any], transaction: Transaction, timers: Timers) -> dict[str, Any]:
    """What serves, and what the run is about. Raises SlipwayError where there is no release that it could be about."""
    now = observe(transaction)
    state = now["state"] or {}
    serving = (now["serving"] or {}).get("release") or state.get("release", "")
    now["drift"] += timers_problems(timers, serving or None)
    store = transaction.store
    recorded = transaction.state()
    if serving and recorded and recorded.release != serving:
        recorded = replace(recorded, release=serving, slot=now["serving"]["slot"])
    release = target(purpose, store, recorded, wanted)
    settled = bool(release) and serving == release and not now["drift"] and purpose != "restart"
    return {
        "release": release,
        "settled": settled,
        "serving": now["serving"],
        "twofold": now["twofold"],
        "path": transaction.gate_of(serving or None).asked,
        "good": [] if settled else good(transaction),
        "skipped": skipped(transaction) if purpose == "rollback" and not settled else [],
        "migration": store.last_record(serving).get("migration") or "",
        "release_migration": store.last_record(release).get("migration") or "",
        **singletons(transaction, timers),
        "image": store.last_record(serving).get("image") or "",
        "release_image": host["image"] if purpose == "deploy" else store.last_record(release).get("image") or "",
        "state": state,
        "drift": now["drift"],
        "draining": now["draining"],
        "page": maintenance.shown(transaction.request.app, ()),
        "free_mib": free_mib(store.root),
        "certificate_days": certificate_days(host["certificate"]),
    }


def singletons(transaction: Transaction, timers: Timers) -> dict[str, Any]:
    """Which singletons and jobs run here, and where they ran by the last release to this host; nothing where unseen."""
    found: dict[str, Any] = {"singletons": [], "singletons_at": None, "jobs": timers.names(), "jobs_at": None}
    with suppress(SlipwayError, OSError, ValueError):
        found["jobs_at"] = transaction.store.jobs_at()
    with suppress(SlipwayError, OSError, ValueError):
        found["singletons_at"] = transaction.store.singletons_at()
        found["singletons"] = transaction.singletons()
    return found


def skipped(transaction: Transaction) -> list[str]:
    """Releases that this host has and to which it goes back by their name alone, the newest first."""
    staged = [release for release in transaction.store.skipped() if transaction.store.has(release)]
    try:
        there = set(transaction.runtime.there(staged)) if staged else set()
    except RuntimeFailed:
        return []
    return [release for release in staged if release in there]


def good(transaction: Transaction) -> list[dict[str, Any]]:
    """The releases that this host could return to, oldest first, and whether what they are made of is there still."""
    store = transaction.store
    releases = store.good()
    staged = [release for release in releases if store.has(release)]
    try:
        there = set(transaction.runtime.there(staged))
    except RuntimeFailed:
        there = set(staged)  # whoever cannot look says so elsewhere
    records = {release: store.last_record(release) for release in releases}
    return [
        {
            "release": release,
            "migration": record.get("migration") or "",
            "image": record.get("image") or "",
            "there": release in there,
        }
        for release, record in records.items()
    ]
