"""The launcher of an app: it makes a variable of each secret's file, for its own process alone, and becomes the app.

So no secret stands in what starts the process: not in a unit, not in `docker inspect`, not in a command line. Newlines
at the end of a file are left out, as a shell does by itself.
"""

from __future__ import annotations

# POSIX, and nothing but what is built into a shell. Its own variables are not exported; a variable of the image whose
# name no shell could have (a dot, a dash) may be lost in some shells.
_SHELL = (
    'for slipway_file in "${CREDENTIALS_DIRECTORY:-/run/secrets}"/*; do [ -f "$slipway_file" ] || continue; '
    'slipway_text=$(while IFS= read -r slipway_line || [ -n "$slipway_line" ]; do printf "%s\\n" "$slipway_line"; '
    'done <"$slipway_file") && export "${slipway_file##*/}=$slipway_text" || exit 1; done; exec "$@"'
)
# For an image without a shell; the app's own interpreter is there.
_PYTHON = """\
import os, sys
directory = os.environb.get(b"CREDENTIALS_DIRECTORY") or b"/run/secrets"
for entry in os.scandir(directory):
    if entry.is_file():
        with open(entry.path, "rb") as stream:
            os.environb[entry.name] = stream.read().rstrip(b"\\n")
try:
    os.execvp(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"{sys.argv[2]}: {error.strerror}")
"""
# The word that the command of the app comes after.
NAME = "slipway-launch"
# The line of a release's Compose file that asks for it.
WANTED = "x-slipway-secrets: variables"
SHELL = "/bin/sh"


def by_shell() -> list[str]:
    """The words before a command, for where there is a shell."""
    return [SHELL, "-c", _SHELL, NAME]


def by_python(interpreter: str) -> list[str]:
    """The words before a command, for where there is a Python and no shell."""
    return [interpreter, "-I", "-S", "-c", _PYTHON, NAME]


def launched(text: str) -> bool:
    """Whether what starts a release, a Compose file or a unit, has a launcher before its command."""
    return WANTED in text.splitlines() or bool(launcher_in(text))


def launcher_in(unit: str) -> str:
    """The words before the command of a unit, as they stand in its text; empty where it has no launcher."""
    for line in unit.splitlines():
        before, found, _ = line.partition(f' "{NAME}" ')
        if found and line.startswith("ExecStart="):
            return before[len("ExecStart=") :] + found
    return ""
