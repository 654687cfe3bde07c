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
with socket.create_connection(("127.0.0.1", 80), 10) as edge:
    edge.settimeout(15)
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
            one.settimeout(3)
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
    connection = http.client.HTTPConnection("169.254.169.254", 8254, timeout=5)
    connection.request("GET", "/")
    print(connection.getresponse().read().decode())
except OSError as error:
    print(type(error).__name__)
"""
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
        host.check_output(f"timeout 10 sh -c 'until [ -S {NEIGHBOUR_SOCKET} ]; do sleep 0.1; done'")
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
        host.check_output("timeout 20 sh -c 'until curl --silent http://169.254.169.254:8254/; do sleep 0.1; done'")
        yield
    finally:
        host.run(f"systemctl stop {unit}; systemctl reload slipway-metadata.service")
        host.check_output("ip address del 169.254.169.254/32 dev lo")
