"""What this machine is and has: root, commands, Debian packages."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from config.errors import UserError
from local.console import run_logged
from local.paths import cache_dir

POLICY = Path("/usr/sbin/policy-rc.d")
_OURS = "# llama-chat: stands here only while apt-get installs\n"
REFUSE = f"#!/bin/sh\n{_OURS}exit 101\n"
SYSTEMD = Path("/run/systemd/system")


def require_linux_root() -> None:
    """The one-machine cluster makes namespaces and mounts: it is for root on Linux."""
    if sys.platform != "linux" or os.geteuid() != 0:
        raise UserError(
            "The one-machine cluster needs Linux and root: run it as root on a Linux machine, or name a kubeconfig"
            " context of your own in a stack file and run `make up STACK=<yours>`."
        )


def require_commands(commands: Mapping[str, str]) -> None:
    """Each command (key) must be on PATH; the value says how to get it, such as `apt-get install gcc`."""
    missing = {command: remedy for command, remedy in commands.items() if shutil.which(command) is None}
    if missing:
        remedies = "; ".join(dict.fromkeys(missing.values()))
        raise UserError(f"{_listed(missing)} missing on PATH: {remedies}.")


def venv_command(name: str) -> Path:
    """A command of the dependency group `local` (go, cmake, ninja): it lies beside this Python."""
    command = Path(sys.executable).parent / name
    if not command.is_file():
        raise UserError(f"{name} is not beside {sys.executable}: run `uv sync --group local`.")
    return command


def require_packages(*debian_packages: str) -> None:
    """Install what is missing of these Debian packages, without starting the services that they bring."""
    with _sole_installer():
        _clear_policy()
        missing = _missing(debian_packages)
        if not missing:
            return
        command = f"apt-get install --no-install-recommends {' '.join(missing)}"
        if shutil.which("apt-get") is None:
            raise UserError(f"{_listed(missing)} missing, as Debian names them: install them and run this again.")
        if os.geteuid() != 0:
            raise UserError(f"{_listed(missing)} missing: run `sudo {command}`.")
        _install(missing)
        if still := _missing(missing):
            raise UserError(f"{_listed(still)} missing after the installation: run `{command}` and read what it says.")


@contextmanager
def _sole_installer() -> Generator[None]:
    """One installation at a time on this machine: they share the switch that keeps services down."""
    cache_dir().mkdir(parents=True, exist_ok=True)
    with (cache_dir() / "apt.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def answer(argv: Sequence[str], *, seconds: float, env: Mapping[str, str] | None = None) -> str | None:
    """What a command prints on stdout; None where it fails, cannot start or takes too long."""
    try:
        process = subprocess.Popen(
            argv,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            process_group=0,
        )
    except OSError:
        return None
    with process:
        try:
            printed, _ = process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            # The group, not the process alone: a child of it would keep the pipe open.
            os.killpg(process.pid, signal.SIGKILL)
            return None
    return printed.decode(errors="replace") if process.returncode == 0 else None


def _listed(names: Sequence[str] | Mapping[str, str]) -> str:
    return f"{', '.join(names)} {'is' if len(names) == 1 else 'are'}"


def _missing(packages: Sequence[str]) -> list[str]:
    if shutil.which("dpkg-query") is None:
        return list(packages)
    query = ["dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\n", *packages]
    # It fails when one is unknown, and still prints the others.
    known = subprocess.run(query, check=False, capture_output=True, text=True).stdout.splitlines()
    return [package for package in packages if f"{package} installed" not in known]


def _install(packages: Sequence[str]) -> None:
    log = cache_dir() / "logs" / "apt.log"
    log.unlink(missing_ok=True)
    env = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=120"]
    install = [*apt, "install", "-y", "--no-remove", "--no-install-recommends", *packages]
    title = f"installing {', '.join(packages)}"
    with _services_stay_down():
        try:
            run_logged(title, install, log=log, env=env)
        except UserError:
            # Old package lists are the usual reason.
            run_logged("reading the package lists", [*apt, "update"], log=log, env=env)
            run_logged(title, install, log=log, env=env)
    if SYSTEMD.is_dir():
        _disable_units(packages, log)


@contextmanager
def _services_stay_down() -> Generator[None]:
    """Debian's own switch (invoke-rc.d, deb-systemd-invoke): exit code 101 forbids every start."""
    if not POLICY.exists():
        POLICY.write_text(REFUSE)
        POLICY.chmod(0o755)
    try:
        yield
    finally:
        _clear_policy()


def _clear_policy() -> None:
    """Take our switch away, one that a killed run left behind too; one of somebody else's stays."""
    with suppress(OSError):
        if _OURS in POLICY.read_text(errors="replace"):
            POLICY.unlink()


def _disable_units(packages: Sequence[str], log: Path) -> None:
    """Keep the services of these packages from starting at the next boot."""
    listed = subprocess.run(["dpkg", "--listfiles", *packages], check=False, capture_output=True, text=True)
    paths = (Path(line) for line in listed.stdout.splitlines())
    if units := [path.name for path in paths if path.parent.name == "system" and path.suffix == ".service"]:
        run_logged("leaving their services off", ["systemctl", "disable", *units], log=log)
