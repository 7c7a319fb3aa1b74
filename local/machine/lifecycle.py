"""Bring the machine up, keep what is well, rebuild what is not, take everything away."""

import hashlib
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from config.errors import UserError
from local.console import say
from local.machine import process
from local.machine.api import ApiError
from local.machine.cgroups import remove_cgroups
from local.machine.claims import listen, locked
from local.machine.daemons import REPOSITORY, pause_file, stages
from local.machine.files import render
from local.machine.furnish import furnish
from local.machine.health import Row, crashed, status
from local.machine.layout import Layout, cgroup_of
from local.machine.pause import write_archive
from local.machine.pki import ensure_pki
from local.machine.supervisor import ENVIRONMENT
from local.paths import Instance, cache_dir
from local.system import require_linux_root, require_packages
from local.toolchain import Tools

PACKAGES = (
    "containerd",
    "containernetworking-plugins",
    "docker-registry",
    "etcd-server",
    "iproute2",
    "mount",
    "nftables",
    "openssl",
    "runc",
    "util-linux",
)
TOOLS = ("coredns", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubelet", "pause")
LOCAL = Path(__file__).parents[1]
START_SECONDS = 240.0
"""How long a machine may take to be well; seen: 20 s on 2 busy cores."""
SETTLE_SECONDS = 40.0
"""How long one that runs may take to mend itself before it is started anew; a kubelet needs up to half of it."""
KILL_SECONDS = 30.0
ROUND_SECONDS = 0.3
SAY_SECONDS = 5.0


def up(instance: Instance, tools: Tools, roles: Sequence[str]) -> str:
    """Make the instance's cluster run and be well, with a GPU node `gpu-<role>` for each role.

    One that is well stays untouched; any other is started anew on its kept state. Returns the cluster's identity:
    another one than last time means that the state was lost and all objects are gone. UserError where it fails.
    """
    require_linux_root()
    require_packages(*PACKAGES)
    layout = Layout(
        name=instance.name,
        state=instance.state,
        cache=cache_dir(),
        api_port=instance.api_port,
        roles=tuple(roles),
        tools={name: str(tools.path(name)) for name in TOOLS},
    )
    with locked(instance.state):
        if ensure_pki(layout.pki):
            say("new certificates for the cluster")
        digest = _write_files(instance, layout)
        init = process.find(layout.state)
        if init is None or init.digest != digest or _unwell(instance, SETTLE_SECONDS):
            _start_anew(instance, layout, digest)
        try:
            return furnish(layout)
        except ApiError as error:
            raise UserError(f"The cluster's API server refused ({error}): run the command again.") from error


def down(instance: Instance) -> None:
    """End the instance's machine and remove its whole state; whatever is not there any more is no problem."""
    require_linux_root()
    with locked(instance.state):
        _stop(instance)
        shutil.rmtree(instance.state)


def exec_in(instance: Instance, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run a command inside the machine, in its own network namespace, and return what it printed."""
    init = process.find(instance.state)
    if init is None:
        raise UserError(f"The cluster {instance.name} does not run: start it with `make up`.")
    enter = ("nsenter", f"--target={init.pid}", "--mount", "--net", "--pid", "--")
    return subprocess.run([*enter, *argv], check=False, capture_output=True, text=True, env=ENVIRONMENT)


def _write_files(instance: Instance, layout: Layout) -> str:
    """Write every configuration file; the digest of all that decides what the machine is."""
    files = {**render(layout), layout.state / "machine.json": layout.to_json()}
    for path, text in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists() or path.read_text() != text:
            partial = path.with_name(f"{path.name}.part")
            partial.touch(mode=0o600)
            partial.write_text(text)
            partial.rename(path)
    code = [source.read_text() for part in ("machine", "hub") for source in sorted(LOCAL.glob(f"{part}/*.py"))]
    return hashlib.sha256("\0".join([str(instance), *files.values(), *code]).encode()).hexdigest()[:16]


def _start_anew(instance: Instance, layout: Layout, digest: str) -> None:
    _stop(instance)
    kept = {daemon.name: daemon.data for stage in stages(layout) for daemon in stage if daemon.data}
    kept = {name: data for name, data in kept.items() if data[0].exists()}
    _start(instance, layout, digest)
    unwell = _unwell(instance, START_SECONDS)
    if broken := [name for name in crashed(layout.state) if name in kept]:
        say(f"what {', '.join(broken)} kept cannot be used any more: made anew from nothing")
        _stop(instance)
        for path in (path for name in broken for path in kept[name]):
            shutil.rmtree(path, ignore_errors=True)
        _start(instance, layout, digest)
        unwell = _unwell(instance, START_SECONDS)
    if unwell:
        part, _, detail = unwell[0]
        raise UserError(
            f"The cluster did not start: {part}: {detail}. Read that log (all of them: {layout.log}), then run"
            " `make up` again, or `make down` first to begin from nothing."
        )


def _start(instance: Instance, layout: Layout, digest: str) -> None:
    ports = {
        "api": instance.api_port,
        "gateway": instance.gateway_port,
        "registry": instance.registry_port,
        "hub": instance.hub_port,
    }
    with ExitStack() as stack:
        listeners = {name: stack.enter_context(listen(port)) for name, port in ports.items()}
        say(f"starting the cluster {instance.name} (logs: {layout.log})")
        write_archive(Path(layout.tools["pause"]), pause_file(layout))
        (layout.state / "daemons.json").unlink(missing_ok=True)
        layout.log.mkdir(exist_ok=True)
        for log in layout.log.glob("*.log"):
            log.rename(log.with_suffix(".log.old"))
        descriptors = {name: listener.fileno() for name, listener in listeners.items()}
        with (layout.log / "init.log").open("wb") as log:
            subprocess.run(
                [
                    *process.command(sys.executable, layout.state, digest),
                    *(f"{name}={descriptor}" for name, descriptor in descriptors.items()),
                ],
                check=False,  # what fails here shows as an init that is not there
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=REPOSITORY,
                env=ENVIRONMENT,
                start_new_session=True,
                pass_fds=tuple(descriptors.values()),
            )


def _stop(instance: Instance) -> None:
    if not process.kill(instance.state, KILL_SECONDS):
        raise UserError(f"The cluster {instance.name} does not end: reboot this machine, then run the command again.")
    remove_cgroups(cgroup_of(instance.name))


def _unwell(instance: Instance, seconds: float) -> list[Row]:
    """What is not well once nothing will change it any more, or after so long; empty when all is well."""
    begun = said = time.monotonic()
    while unwell := [row for row in status(instance) if not row[1]]:
        now = time.monotonic()
        if now - begun > seconds or process.find(instance.state) is None or crashed(instance.state):
            break
        if now - said > SAY_SECONDS:
            said = now
            say(f"waiting for {', '.join(part for part, _, _ in unwell)}: {now - begun:.0f} s so far")
        time.sleep(ROUND_SECONDS)
    return unwell
