"""Maps of HAProxy: files of keys and values read when it starts, and changed in memory by the runtime API."""

from __future__ import annotations

from pathlib import Path


def parse_file(text: str) -> dict[str, str]:
    """A map file of HAProxy."""
    lines = (line.split(None, 1) for line in text.splitlines() if line.strip() and not line.startswith("#"))
    return {words[0]: words[1].strip() if len(words) > 1 else "" for words in lines}


def parse_shown(answer: str) -> dict[str, str]:
    """What `show map FILE` answers: a line `0x55d0 key value` for each entry."""
    lines = (line.split(None, 2) for line in answer.splitlines() if line.startswith("0x"))
    return {words[1]: words[2].strip() if len(words) > 2 else "" for words in lines if len(words) > 1}


def render(entries: dict[str, str], header: str) -> str:
    return header + "".join(f"{name} {value}\n" for name, value in sorted(entries.items()))


def read(path: Path) -> dict[str, str]:
    """What a file has; nothing where there is none. Raises OSError."""
    try:
        return parse_file(path.read_text(encoding="utf-8", errors="replace"))
    except FileNotFoundError:
        return {}
