"""Which certificate authorities the lab puts into images."""

from __future__ import annotations

from pathlib import Path

import pytest

from lab import trust


def certificate(body: str) -> str:
    return f"-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----"


def test_a_bundle_is_taken_apart_without_comments_and_repetitions() -> None:
    bundle = f"# Proxy\n{certificate('AAA')}\n\nsubject=x\n{certificate('BBB')}\n{certificate('AAA')}\n"
    assert trust.certificates(bundle) == [certificate("AAA"), certificate("BBB")]


def test_line_ends_of_windows_make_no_other_certificate() -> None:
    assert trust.certificates(certificate("AAA").replace("\n", "\r\n")) == [certificate("AAA")]


def test_only_what_the_distribution_does_not_bring_is_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle = tmp_path / "bundle.pem"
    bundle.write_text("\n".join(map(certificate, ("OWN", "PROXY"))))
    (tmp_path / "distribution/mozilla").mkdir(parents=True)
    (tmp_path / "distribution/mozilla/own.crt").write_text(certificate("OWN") + "\n")
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.setattr(trust, "_DISTRIBUTION", tmp_path / "distribution")
    assert trust.extra_authorities() == [certificate("PROXY")]


def test_a_machine_without_a_bundle_has_nothing_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr(trust, "_BUNDLES", (tmp_path / "none.pem",))
    assert trust.extra_authorities() == []


def test_each_authority_is_a_file_and_none_is_an_empty_directory(tmp_path: Path) -> None:
    trust.write(tmp_path / "some", [certificate("A"), certificate("B")])
    trust.write(tmp_path / "none", [])
    assert [path.name for path in sorted((tmp_path / "some").iterdir())] == ["authority-001.crt", "authority-002.crt"]
    assert list((tmp_path / "none").iterdir()) == []
