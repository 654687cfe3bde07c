# Copyright: Slipway contributors
# SPDX-License-Identifier: MIT
"""The program that looks around inside a container: text for the app's own Python, 3.7 or newer, no packages.

It is told as JSON in its one argument what to do, and prints JSON: the kernel's tables, the words of all processes,
where alembic.ini is, and which directories have files of a front end that have other names in each build, as a bundler
writes them (`index-BxY7z12a.js`); with `paths`, what these answer over the `door`, a port or the path of a Unix socket.
"""

from __future__ import annotations

PROGRAM = r"""
import glob, http.client, json, os, re, socket, sys

told = json.loads(sys.argv[1])


def read(path):
    try:
        with open(path, "rb") as stream:
            return stream.read(1 << 20).decode("utf-8", "replace")
    except OSError:
        return ""


class Over(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(told["door"])


def ask(path):
    port = isinstance(told["door"], int)
    connection = http.client.HTTPConnection("127.0.0.1", told["door"], timeout=5) if port else Over("socket", timeout=5)
    try:
        connection.request("GET", path, headers=told["headers"])
        answer = connection.getresponse()
        body = answer.read(1 << 20).decode("utf-8", "replace")
        return [answer.status, answer.getheader("Location") or "", body if path == told["whole"] else body[:200]]
    except (OSError, http.client.HTTPException) as error:
        return [0, "", str(error)]
    finally:
        connection.close()


mine = str(os.getpid())
commands = []
for place in sorted(glob.glob("/proc/[0-9]*"), key=lambda name: int(name[6:])):
    words = [word for word in read(place + "/cmdline").split("\0") if word]
    if words and place[6:] != mine:
        commands.append(words)
tables = "".join(read("/proc/self/net/" + name) for name in ("tcp", "tcp6", "unix"))
def assets():
    # The outermost directory of a front end, unless it has code in it, which is no file for browsers.
    usual = ("static", "assets", "dist", "public", "_app")
    named = re.compile(r"[.-](?=[A-Za-z0-9_]*[0-9])[A-Za-z0-9_]{8,}\.(?:js|mjs|css)")
    found, seen = set(), 0
    for root in sorted({os.getcwd(), "/app", "/code", "/srv"} - {"/"}):
        for place, below, files in os.walk(root):
            below[:] = [name for name in below if name[:1] != "." and name not in ("node_modules", "site-packages")]
            seen += len(files)
            if seen > 50000:
                return sorted(found)
            if any(named.search(name) for name in files):
                parts = place[len(root):].strip("/").split("/")
                depth = next((number for number, part in enumerate(parts) if part in usual), len(parts) - 1)
                found.add("/".join([root.rstrip("/"), *parts[:depth + 1]]).rstrip("/"))
    return sorted(place for place in found if place.count("/") > 1 and not coded(place))


def coded(place):
    return any(name.endswith(".py") for _, _, files in os.walk(place) for name in files)


here = [place for place in (os.getcwd(), "/app", "/code", "/srv") if os.path.isfile(place + "/alembic.ini")]
print(json.dumps({
    "tables": tables,
    "commands": commands,
    "alembic": here[0] if here else "",
    "assets": assets() if told["paths"] else [],
    "answers": {path: ask(path) for path in told["paths"]},
}))
"""
