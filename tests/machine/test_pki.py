import subprocess
from pathlib import Path

import pytest

from local.machine import pki


def test_certificates_are_made_once_and_kept(tmp_path: Path) -> None:
    assert pki.ensure_pki(tmp_path / "pki")
    before = (tmp_path / "pki" / "ca.crt").read_bytes()
    assert not pki.ensure_pki(tmp_path / "pki")
    assert (tmp_path / "pki" / "ca.crt").read_bytes() == before
    assert (tmp_path / "pki").stat().st_mode & 0o077 == 0


def test_the_authority_signed_every_certificate_for_the_addresses_in_use(tmp_path: Path) -> None:
    pki.ensure_pki(tmp_path / "pki")
    for name, address in (("apiserver", "127.0.0.1"), ("apiserver", "10.50.0.1"), ("admin", "10.96.0.1")):
        verify = ["openssl", "verify", "-x509_strict", "-CAfile", "ca.crt", "-verify_ip", address, f"{name}.crt"]
        subprocess.run(verify, cwd=tmp_path / "pki", check=True, capture_output=True)


@pytest.mark.parametrize("victim", ["ca.crt", "ca.key", "admin.crt", "apiserver.key", "service-accounts.key"])
def test_a_missing_part_makes_all_anew(tmp_path: Path, victim: str) -> None:
    pki.ensure_pki(tmp_path / "pki")
    (tmp_path / "pki" / victim).unlink()
    assert pki.ensure_pki(tmp_path / "pki")
    assert (tmp_path / "pki" / victim).exists()


def test_a_certificate_that_ends_soon_makes_all_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as soon:
        soon.setattr(pki, "DAYS", 3)
        pki.ensure_pki(tmp_path / "pki")
    assert pki.ensure_pki(tmp_path / "pki")
    assert not pki.ensure_pki(tmp_path / "pki")


def test_what_a_killed_run_left_is_not_taken_for_whole(tmp_path: Path) -> None:
    partial = tmp_path / "pki.part"
    partial.mkdir()
    (partial / "ca.crt").write_text("half")
    assert pki.ensure_pki(tmp_path / "pki")
    assert not partial.exists()
