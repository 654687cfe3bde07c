"""Whether what was typed says that what is there may be replaced; read by the controller, too, in every run."""

from __future__ import annotations

from collections.abc import Sequence


def not_confirmed(found: str, names: Sequence[str], confirmed: str) -> str:
    """Why what was typed does not say that `found` may take the place of what is there; empty where it does."""
    if ",".join(sorted(word.strip() for word in confirmed.split(","))) in names:
        return ""
    said = f"slipway_confirm is {confirmed}" if confirmed else "slipway_confirm is empty"
    ways = " or ".join(f"-e slipway_confirm={name}" for name in names)
    return f"nothing was done: {said}; to have {found} in place of what is there, type what is replaced: {ways}"
