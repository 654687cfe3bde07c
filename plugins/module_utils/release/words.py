"""Words of a unit file, quoted so that systemd takes them as they are."""

from __future__ import annotations


def unit_word(text: str) -> str:
    """One argument of ExecStart=: no specifier, no variable and no blank in it means anything to systemd."""
    return quoted(text).replace("$", "$$")


def unit_assignment(name: str, value: object) -> str:
    """One assignment of Environment=, where a dollar is a dollar."""
    return quoted(f"{name}={value}")


def quoted(text: str) -> str:
    """Text in double quotes (systemd.syntax(7), Quoting; systemd.unit(5), Specifiers)."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'.replace("%", "%%")
