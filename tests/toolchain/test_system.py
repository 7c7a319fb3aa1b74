import os
import time
from pathlib import Path

import pytest

from config.errors import UserError
from local import system
from local.system import answer, require_commands, require_linux_root, require_packages
from tests.toolchain.conftest import Stub


@pytest.fixture
def debian(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian of stubs: `etcd` is missing until apt-get installs it; what was called is in `calls`."""
    policy, status, calls = tmp_path / "policy-rc.d", tmp_path / "status", tmp_path / "calls"
    monkeypatch.setattr(system, "POLICY", policy)
    monkeypatch.setattr(system, "SYSTEMD", tmp_path / "no-systemd")
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    status.write_text("runc installed\nold config-files\n")
    stub("dpkg-query", f"cat {status}; exit 1")
    stub(
        "apt-get",
        f'echo "$@" >> {calls}; {policy} 2>/dev/null; echo "policy $? $DEBIAN_FRONTEND" >> {calls}\n'
        f'case "$*" in *install*) echo "etcd installed" >> {status} ;; esac',
    )
    calls.touch()
    return calls


def test_commands_that_are_there_are_required_in_silence(stub: Stub) -> None:
    stub("present", "")
    require_commands({"present": "buy it"})


def test_missing_commands_are_named_with_how_to_get_them(stub: Stub) -> None:
    stub("present", "")
    with pytest.raises(UserError, match=r"^absent-1, absent-2 are missing on PATH: build it; buy it\.$"):
        require_commands({"present": "never", "absent-1": "build it", "absent-2": "buy it"})


@pytest.mark.parametrize(("platform", "user"), [("linux", 1000), ("darwin", 0)])
def test_the_one_machine_cluster_is_for_root_on_linux(
    monkeypatch: pytest.MonkeyPatch, platform: str, user: int
) -> None:
    monkeypatch.setattr(system.sys, "platform", platform)
    monkeypatch.setattr(os, "geteuid", lambda: user)
    with pytest.raises(UserError, match=r"make up STACK=<yours>"):
        require_linux_root()


def test_packages_that_are_installed_start_no_apt(debian: Path) -> None:
    require_packages("runc")
    assert debian.read_text() == ""


def test_missing_packages_are_installed_while_services_may_not_start(debian: Path) -> None:
    require_packages("runc", "etcd")
    install, policy = debian.read_text().splitlines()
    assert install.endswith("install -y --no-remove --no-install-recommends etcd")
    assert policy == "policy 101 noninteractive"
    assert not system.POLICY.exists()


def test_removed_packages_with_leftover_settings_count_as_missing(debian: Path) -> None:
    with pytest.raises(UserError, match="old is missing after the installation"):
        require_packages("old")
    assert "install -y --no-remove --no-install-recommends old" in debian.read_text()


def test_a_policy_of_somebody_else_stays(debian: Path) -> None:
    system.POLICY.write_text("#!/bin/sh\nexit 101\n")
    require_packages("etcd")
    assert system.POLICY.read_text() == "#!/bin/sh\nexit 101\n"
    assert debian.read_text()


def test_a_policy_that_a_killed_run_left_behind_goes(debian: Path) -> None:
    system.POLICY.write_text(system.REFUSE)
    require_packages("etcd")
    assert not system.POLICY.exists()
    assert debian.read_text()


def test_old_package_lists_are_read_anew(debian: Path, stub: Stub, tmp_path: Path) -> None:
    stub(
        "apt-get",
        f'echo "$@" >> {debian}; case "$*" in *update*) touch {tmp_path}/fresh ;;\n'
        f"*install*) [ -e {tmp_path}/fresh ] || exit 100; echo etcd installed >> {tmp_path}/status ;; esac",
    )
    require_packages("etcd")
    assert [line.split()[2] for line in debian.read_text().splitlines()] == ["install", "update", "install"]


def test_an_installation_that_fails_leaves_no_policy(debian: Path, stub: Stub) -> None:
    stub("apt-get", "echo no network; exit 100")
    with pytest.raises(UserError, match="no network"):
        require_packages("etcd")
    assert not system.POLICY.exists()
    assert debian.read_text() == ""


def test_installed_services_do_not_start_at_the_next_boot(
    debian: Path, stub: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(system, "SYSTEMD", tmp_path)
    stub("dpkg", "echo /lib/systemd/system/etcd.service; echo /usr/bin/etcd; echo /usr/share/x/other.service")
    stub("systemctl", f'echo "systemctl $*" >> {debian}')
    require_packages("etcd")
    assert debian.read_text().splitlines()[-1] == "systemctl disable etcd.service"


def test_without_root_the_person_is_told_what_to_run(debian: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match=r"etcd is missing: run `sudo apt-get install --no-install-recommends etcd`"):
        require_packages("runc", "etcd")
    assert debian.read_text() == ""


def test_elsewhere_the_packages_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"etcd, runc are missing, as Debian names them"):
        require_packages("etcd", "runc")


def test_an_answer_is_what_a_command_prints() -> None:
    assert answer(["/bin/sh", "-c", "echo yes; echo no >&2"], seconds=5) == "yes\n"


def test_a_command_that_fails_or_is_absent_gives_no_answer() -> None:
    assert answer(["/bin/sh", "-c", "echo yes; exit 1"], seconds=5) is None
    assert answer(["gone-missing"], seconds=5) is None


def test_a_command_that_hangs_gives_no_answer_even_where_its_children_hold_the_pipe() -> None:
    start = time.monotonic()
    assert answer(["/bin/sh", "-c", "sleep 30 & wait"], seconds=0.3) is None
    assert time.monotonic() - start < 5
