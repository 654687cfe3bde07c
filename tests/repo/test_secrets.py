"""No file of the repository has something that looks like a secret, and the scanner finds each kind."""

from __future__ import annotations

import hashlib

import pytest

from tests.repo import secrets
from tests.repo.test_rules import FILES, ROOT, read

# What looks like a secret and is none: the file, the text, and why.
KNOWN = {
    (
        "lab/registry.py",
        "only-to-pull-with-in-tests-4f9a1c",
    ): "password of the lab's own registry, which ends with a test",
}
# Hashes of packages are random, and meant for everybody.
LOCKS = {ROOT / "requirements" / name for name in ("app.lock", "dev.lock")}


def test_the_repository_has_no_secret() -> None:
    seen = {
        (str(path.relative_to(ROOT)), text): (line, kind)
        for path in FILES
        if path not in LOCKS
        for line, kind, text in secrets.found(read(path))
    }
    new = [
        f"{path}:{line}: {kind}: {text[:12]}..."
        for (path, text), (line, kind) in seen.items()
        if (path, text) not in KNOWN
    ]
    assert not new, "take it out and change it, or say in KNOWN why it is none:\n" + "\n".join(new)
    assert not KNOWN.keys() - seen.keys(), "KNOWN has what is not there any more"


def drawn(length: int) -> str:
    """As random as a key, and the same each time."""
    return hashlib.sha512(b"slipway").hexdigest()[:length]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("-----BEGIN RSA " + "PRIVATE KEY-----\n" + "MIIE" * 16, "private key"),
        ("-----BEGIN OPENSSH " + "PRIVATE KEY-----\\n" + "b3Bl" * 16, "private key"),
        ("id: AKIA" + "Q3EG" * 4, "key of AWS"),
        ("ghp_" + drawn(36), "token of GitHub"),
        ("github_pat_" + drawn(70), "token of GitHub"),
        ("glpat-" + drawn(20), "token of GitLab"),
        ("xoxb-" + drawn(30), "token of Slack"),
        ("AIza" + drawn(35), "key of Google"),
        ("sk_live_" + drawn(24), "key of Stripe"),
        ("pypi-AgE" + drawn(50), "token of PyPI"),
        ("npm_" + drawn(36), "token of npm"),
        (f"eyJ{drawn(20)}.eyJ{drawn(20)}.{drawn(20)}", "signed token"),
        ("Authorization: Basic " + drawn(24), "basic credentials"),
        (f'DB_PASSWORD = "{drawn(20)}"', "value of a secret's name"),
        (f"vault_api_key: {drawn(32)}", "value of a secret's name"),
        (f'{{"client_secret": "{drawn(24)}"}}', "value of a secret's name"),
        (f"postgresql://links:{drawn(16)}@db/links", "password in a URL"),
    ],
)
def test_a_secret_is_found(text: str, kind: str) -> None:
    assert [(line, what) for line, what, _ in secrets.found(f"fine\n{text}\n")] == [(2, kind)]


@pytest.mark.parametrize(
    "text",
    [
        "-----BEGIN PRIVATE KEY-----\nMIIE+/=\n-----END PRIVATE KEY-----\n",
        'password = "correct-horse-battery-staple"',
        'password: "{{ vault_postgres_password }}"',
        "token = request.headers.get_token_2024()",
        "secret_file: /run/secrets/SECRET_KEY_2",
        "redis://cache:6379/0",
        "https://user:$PASSWORD_2026@host/",
        "fastapi_app_secrets_as: [files, variables]",
        f"sha256: {drawn(64)}",
    ],
)
def test_what_is_none_is_not(text: str) -> None:
    assert list(secrets.found(text)) == []
