"""An attacker with code in the app: runs scripts where the app runs, as its user, and asks the edge as anybody can."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from contract import Promise, live_slot, live_unit, quoted, shown

# A request that is a command where it is read as one: what stands in the path, and then every line of the body.
SMUGGLED = """
import socket
body = {commands!r}
with socket.create_connection(("127.0.0.1", 80), 60) as edge:
    edge.sendall(f"POST /;prompt;x HTTP/1.1\\r\\nHost: localhost\\r\\nContent-Length: {{len(body)}}\\r\\n"
                 f"Connection: close\\r\\n\\r\\n{{body}}".encode())
    answer = b""
    while chunk := edge.recv(65536):
        answer += chunk
print(answer.decode("latin-1"))
"""
LINK = """
import os
own = {own!r}
os.rename(own, own + ".kept")
os.symlink({target!r}, own)
"""
UNLINK = """
import os
own = {own!r}
os.unlink(own)
os.rename(own + ".kept", own)
"""
OPEN = """
import json, socket
found = {{}}
for path in {paths!r}:
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.settimeout(60)
            one.connect(path)
        found[path] = "open"
    except OSError as error:
        found[path] = type(error).__name__
print(json.dumps(found))
"""
SEEN = """
import json, os
seen = [os.path.join(top, name) for top, below, files in os.walk("/run/slipway") for name in below + files]
print(json.dumps(seen))
"""
# The metadata service of a cloud; there is none in the lab. Of port 80 the edge has every address of a host.
METADATA = """
import http.server
class Answer(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"the rights of the host")
http.server.ThreadingHTTPServer(("169.254.169.254", 8254), Answer).serve_forever()
"""
ASK_METADATA = """
import http.client
try:
    connection = http.client.HTTPConnection("169.254.169.254", 8254, timeout=60)
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
except OSError as error:
    print(type(error).__name__)
"""
# What an app's user could try to get more than it has, by name; what came of it is `done` or the name of the error.
ESCAPES = """
import ctypes, errno, json, os, signal
libc, found = ctypes.CDLL(None, use_errno=True), {{}}


def tried(name, work):
    try:
        result = work()
        found[name] = errno.errorcode.get(ctypes.get_errno(), "?") if result == -1 else "done"
    except OSError as error:
        found[name] = errno.errorcode.get(error.errno, str(error))


def opened(path, how):
    tried(f"open {{path}}", lambda: os.close(os.open(path, how)))


READ_ONLY, BIND, REMOUNT, NEW_MOUNTS, NEW_USER, ATTACH = 1, 4096, 32, 0x20000, 0x10000000, 16
for path in {readable!r}:
    opened(path, os.O_RDONLY)
for path in {writable!r}:
    opened(path, os.O_WRONLY)
for name in ("/usr/mine", "/etc/mine", "/srv/mine"):
    tried(f"make {{name}}", lambda: os.close(os.open(name, os.O_WRONLY | os.O_CREAT)))
for pid in {others!r}:
    # In a container the number may be that of one of its own.
    if not os.path.exists(f"/proc/{{pid}}"):
        tried(f"signal {{pid}}", lambda: os.kill(pid, signal.SIGTERM))
        tried(f"trace {{pid}}", lambda: libc.ptrace(ATTACH, pid, None, None))
        opened(f"/proc/{{pid}}/environ", os.O_RDONLY)
        opened(f"/proc/{{pid}}/mem", os.O_RDWR)
        opened(f"/proc/{{pid}}/root/etc/passwd", os.O_RDONLY)
tried("mount", lambda: libc.mount(b"x", b"/tmp", b"tmpfs", 0, None))
tried("bind", lambda: libc.mount(b"/etc", b"/tmp", None, BIND, None))
tried("remount", lambda: libc.mount(None, b"/", None, REMOUNT | BIND, None))
tried("unmount", lambda: libc.umount2(b"/proc", 2))
tried("chroot", lambda: os.chroot("/tmp"))
tried("device", lambda: os.mknod("/tmp/disk", 0o60600, os.makedev(8, 0)))
tried("become root", lambda: os.setuid(0))
tried("host name", lambda: libc.sethostname(b"mine", 4))
tried("new mounts", lambda: libc.unshare(NEW_MOUNTS))
tried("new users", lambda: libc.unshare(NEW_USER))
strangers = [pid for pid in os.listdir("/proc") if pid.isdigit() and os.stat(f"/proc/{{pid}}").st_uid != os.getuid()]
print(json.dumps({{"tried": found, "strangers": strangers, "user": os.getuid()}}))
"""
READABLE = ("/etc/shadow", "/proc/kcore", "/dev/mem", "/dev/kmsg", "/proc/self/environ")
WRITABLE = (
    *("/proc/sys/kernel/core_pattern", "/proc/sys/kernel/hostname", "/proc/sys/net/ipv4/ip_forward"),
    *("/proc/sysrq-trigger", "/proc/sys/vm/drop_caches", "/proc/sys/fs/file-max"),
    *("/sys/kernel/mm/transparent_hugepage/enabled", "/sys/kernel/uevent_helper", "/sys/fs/cgroup/cgroup.procs"),
    *("/etc/passwd", "/etc/hosts", "/usr/bin/env"),
)
# Asks the edge as somebody inside, and whatever else listens there; statuses, `open`, or the name of the error.
NEIGHBOURHOOD = """
import http.client, json, socket
found = {{}}
for name, path, headers in {asked!r}:
    try:
        connection = http.client.HTTPConnection({gateway!r}, 80, timeout=60)
        connection.request("GET", path, headers=headers)
        found[name] = connection.getresponse().status
    except OSError as error:
        found[name] = type(error).__name__
for host, port in {ports!r}:
    try:
        socket.create_connection((host, port), 60).close()
        found[f"{{host}}:{{port}}"] = "open"
    except OSError as error:
        found[f"{{host}}:{{port}}"] = type(error).__name__
print(json.dumps(found))
"""
# Who somebody inside could say to be, so that the edge would let it to what is private.
FORGED: dict[str, dict[str, str]] = {
    "nobody": {},
    "X-Forwarded-For": {"X-Forwarded-For": "127.0.0.1"},
    "X-Real-IP": {"X-Real-IP": "127.0.0.1"},
    "Forwarded": {"Forwarded": "for=127.0.0.1"},
    "many": {"X-Forwarded-For": "127.0.0.1, 127.0.0.1", "X-Client-IP": "127.0.0.1", "True-Client-IP": "127.0.0.1"},
    "Host": {"Host": "127.0.0.1"},
    "probe": {"X-Slipway-Probe": "1", "X-Slipway-Answer": "app", "Slipway-Replay": "1"},
}
# Another app's slot: says on its own file when somebody comes, in a directory that HAProxy may enter.
NEIGHBOUR = """
import os, shutil, socket
os.makedirs("/run/slipway/neighbour/blue", exist_ok=True)
shutil.chown("/run/slipway/neighbour/blue", 64321, "haproxy")
os.chmod("/run/slipway/neighbour/blue", 0o750)
one = socket.socket(socket.AF_UNIX)
one.bind("/run/slipway/neighbour/blue/app.sock")
os.chmod("/run/slipway/neighbour/blue/app.sock", 0o777)
one.listen()
while True:
    connection, _ = one.accept()
    open("/run/neighbour-was-reached", "w").close()
    connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 9\\r\\n\\r\\nneighbour")
    connection.close()
"""
NEIGHBOUR_SOCKET = "/run/slipway/neighbour/blue/app.sock"


def asked_inside(gateway: str, *ports: tuple[str, int]) -> str:
    """The script that asks the edge of a gateway for what is private, in each way, and knocks at ports."""
    written = ("//metrics", "/./metrics", "/%6detrics", "/x/../metrics")
    asked = [("open to all", "/version", {}), *((name, "/metrics", headers) for name, headers in FORGED.items())]
    asked += [(f"written as {path}", path, {}) for path in written]
    return NEIGHBOURHOOD.format(gateway=gateway, asked=asked, ports=ports)


class Attacker:
    """Whoever runs code in the live slot of an app."""

    def __init__(self, host: Any, promise: Promise) -> None:
        self.host = host
        self.promise = promise
        self.slot = live_slot(host, promise)
        self.own = f"{promise.sockets}/{self.slot}/app.sock"

    def run(self, script: str) -> str:
        """The output of a Python script in the slot, as the app's user."""
        python = f"python3 -c {quoted(script)}"
        if self.promise.runtime == "compose":
            wanted = f"label=com.docker.compose.project={self.promise.app}-{self.slot}"
            inside = f"docker exec $(docker ps --quiet --filter {wanted}) {python}"
        else:
            master = shown(self.host, live_unit(self.host, self.promise), "MainPID")
            user = f"--setuid {self.promise.uid} --setgid {self.promise.uid}"
            inside = f"nsenter --target {master} --all {user} -- env PATH=/usr/bin {python}"
        return str(self.host.check_output(inside))

    def reaches(self, paths: list[str]) -> dict[str, str]:
        """`open`, or the name of the error, for each socket."""
        found: dict[str, str] = json.loads(self.run(OPEN.format(paths=paths)))
        return found

    def sees(self) -> list[str]:
        """Everything below the directory of all sockets."""
        found: list[str] = json.loads(self.run(SEEN))
        return found

    def asks_metadata(self) -> str:
        """What the slot hears from the metadata service, or the name of the error."""
        return self.run(ASK_METADATA)

    @contextmanager
    def linked_to(self, target: str) -> Iterator[None]:
        """The socket of the slot is a link to another one while the block runs."""
        self.run(LINK.format(own=self.own, target=target))
        try:
            yield
        finally:
            self.run(UNLINK.format(own=self.own))

    def asks_the_edge(self, commands: str) -> str:
        """The whole answer to a request that holds commands, as a client from anywhere gets it."""
        return str(self.host.check_output(f"python3 -c {quoted(SMUGGLED.format(commands=commands))}"))


@contextmanager
def neighbour(host: Any) -> Iterator[None]:
    """Another app's slot on the host, which HAProxy could reach by its path."""
    unit = "slipway-test-neighbour"
    host.check_output(f"systemd-run --quiet --unit={unit} /usr/bin/python3 -c {shlex.quote(NEIGHBOUR)}")
    try:
        host.check_output(f"timeout 600 sh -c 'until [ -S {NEIGHBOUR_SOCKET} ]; do sleep 0.1; done'")
        yield
    finally:
        host.check_output(f"systemctl stop {unit}; rm -rf /run/slipway/neighbour /run/neighbour-was-reached")


@contextmanager
def metadata_service(host: Any) -> Iterator[None]:
    """A cloud's metadata service answers the host."""
    unit = "slipway-test-metadata"
    host.check_output("ip address add 169.254.169.254/32 dev lo")
    try:
        host.check_output(f"systemd-run --quiet --unit={unit} /usr/bin/python3 -c {shlex.quote(METADATA)}")
        host.check_output("timeout 600 sh -c 'until curl --silent http://169.254.169.254:8254/; do sleep 0.1; done'")
        yield
    finally:
        host.run(f"systemctl stop {unit}; systemctl reload slipway-metadata.service")
        host.check_output("ip address del 169.254.169.254/32 dev lo")
