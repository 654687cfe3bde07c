"""Lines of others: the edge's tables and maps, its log in the journal, logs of apps, tables of the kernel."""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import suppress
from pathlib import Path

from ansible_collections.slipway.fleet.plugins.module_utils.edge import maps
from ansible_collections.slipway.fleet.plugins.module_utils.edge.counts import counts, paths
from ansible_collections.slipway.fleet.plugins.module_utils.edge.haproxy import (
    Edge,
    EdgeError,
    by_slot,
    parse_ports,
    parse_servers,
)
from ansible_collections.slipway.fleet.plugins.module_utils.host.engine import look
from ansible_collections.slipway.fleet.plugins.module_utils.release.canary import (
    GOOD,
    UNKNOWN,
    WORSE,
    Canary,
    Thresholds,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.diagnosis import (
    explain,
    import_errors,
    last_exception,
    last_words,
)
from ansible_collections.slipway.fleet.plugins.module_utils.release.listening import parse_listening
from ansible_collections.slipway.fleet.plugins.module_utils.release.model import Probe, SlotStatus
from ansible_collections.slipway.fleet.plugins.plugin_utils.fleet.migrations import answer, schema_revision
from ansible_collections.slipway.fleet.plugins.plugin_utils.views import logs
from hypothesis import strategies as st

from tests.fuzz.hostile import DEEP, JSON, TEXTS, damaged, dumped, given, lines_like, quick, texts_like

STAT = (
    b"# pxname,svname,qcur,scur,slim,status,check_status,check_code,last_chk,\n"
    b'app,blue,0,3,,UP,L7OK,200,"OK, well",\napp,green,0,,,MAINT,* L4TOUT,,,\napp,BACKEND,0,3,,UP,,,,\n'
)
STATES = (
    b"1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_port\n"
    b"3 app 1 blue - 2 0 0\n3 app 2 green - 2 8 0\n3 app 3 blue-port 127.0.0.1 2 1 20010\n"
)
MAP = b"# a header\napp/blue /readyz|host|https\n0x55d0 app/blue /readyz|host\n0x\n"
COUNTED = (
    b"Pid: 71\nUptime_sec: 900\n\n# table: answers_app, type: string, size:8192, used:3\n"
    b"0x7f01: key=2/blue/12 use=0 exp=0 shard=0 gpc0=40 gpc0_rate(300000)=30\n"
    b"0x7f02: key=5/blue-port/3 use=0 exp=0 shard=0 gpc0=2 gpc0_rate(300000)=2\n"
    b"0x7f03: key=2/green/11 use=0 exp=0 shard=0 gpc0=400 gpc0_rate(300000)=60\n"
    b"0x7f04: key=/a\\ b\\x0a?q=1 use=0 exp=604000000 shard=0 gpc0=3\n\n"
    b"# pxname,svname,econ,eresp,srv_abrt,hrsp_2xx,hrsp_3xx,hrsp_4xx,hrsp_5xx,\n"
    b"app_app,blue,0,1,40,0,0,2,\napp_app,green-port,,,,,,,\napp_app,BACKEND,0,1,40,0,0,2,\n"
)


def text_of(data: bytes) -> str:
    return data.decode(errors="replace")


@given(damaged(st.just(STAT)).map(text_of), damaged(st.just(STATES)).map(text_of))
def test_the_tables_of_the_edge(statistics: str, states: str) -> None:
    class Told(Edge):
        def ask(self, command: str) -> str:
            return statistics + states

    with quick():
        for read in (
            lambda: by_slot(parse_servers(statistics, states, "app"), lambda slot: False),
            lambda: parse_ports(states),
            Told("/nowhere", "app", "/nowhere", by_port=lambda slot: True).servers,
        ):
            try:
                assert isinstance(read(), dict)
            except EdgeError:
                continue


@given(damaged(st.just(MAP)).map(text_of) | TEXTS)
def test_a_map_of_the_edge(text: str) -> None:
    with quick():
        for found in (maps.parse_file(text), maps.parse_shown(text)):
            assert all(isinstance(part, str) for item in found.items() for part in item)


@given(damaged(st.just(COUNTED)).map(text_of))
def test_what_the_edge_counts(text: str) -> None:
    def told(command: str) -> str:
        return text

    with quick():
        with suppress(EdgeError):
            assert all(path.startswith("/") for path in paths(told, "app_app"))
        canary = Canary(lambda: counts(told, "app_app"), lambda slot: None, Thresholds())
        canary.begin("blue")
        assert canary.verdict("blue", "green").word in {GOOD, WORSE, UNKNOWN}
        with suppress(EdgeError):
            found = counts(told, "app_app")
            assert set(found.lately) == set(found.ever)


@given(lines_like({"time": "2026-11-26T10:00:00Z", "message": "m", "ts": 1.5e9}))
def test_the_log_of_an_app(text: str) -> None:
    with quick():
        told = logs.tell({"web1": {"log": text}, "web2": {"log": text, "processes": [{"name": "p", "log": text}]}})
        told.text.encode()
        assert all(math.isfinite(at) for at, _, _ in logs.timed("web1", text))
        for found in (last_words(text), last_exception(text), *import_errors(text), schema_revision(text)):
            assert isinstance(found, str)
        assert isinstance(answer(text), dict)
        assert isinstance(explain("cause", SlotStatus(exit_code=1), Probe(error="none"), {"log": text}), str)


@given(DEEP | JSON.map(dumped) | TEXTS)
def test_what_a_migration_says_at_its_end(text: str) -> None:
    with quick():
        assert isinstance(answer(f"noise\n{text}\n"), dict)


KERNEL = (
    b"  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"
    b"   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 12345 1 x 100\n"
    b"0000000000000000: 00000002 00000000 00010000 0001 01 12345 /run/app.sock\n"
)


@given(damaged(st.just(KERNEL)).map(text_of))
def test_the_tables_of_the_kernel(text: str) -> None:
    with quick():
        assert isinstance(parse_listening(text), list)


@given(texts_like({"log-driver": "journald", "live-restore": True}))
def test_the_settings_of_an_engine_that_was_there(text: str) -> None:
    with tempfile.TemporaryDirectory() as directory, quick():
        path = Path(directory) / "etc/docker/daemon.json"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8", errors="surrogatepass")
        there = look(Path(directory))
        assert there.daemon is None or isinstance(there.daemon, dict)
        json.dumps(there.daemon)
