"""What makes the machine a place of its own: namespaces, private mounts, a network that leads nowhere."""

import ctypes
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from local.machine import layout as at
from local.machine.cgroups import make_cgroups
from local.machine.layout import Layout, Node

# linux/sched.h
_CLONE_NEWNS = 0x00020000
_CLONE_NEWPID = 0x20000000
_CLONE_NEWNET = 0x40000000

PRIVATE = ("/etc", "/opt", "/tmp", "/var")  # noqa: S108 - daemons have fixed paths below them
"""What is written below these stays inside and in memory; state and cache alone lead out."""
_OUTSIDE = Path("/run/outside")
_LAYERS = Path("/run/private")
KERNEL_SETTINGS = {
    "vm/overcommit_memory": 1,
    "vm/panic_on_oom": 0,
    "kernel/panic": 10,
    "kernel/panic_on_oops": 1,
    "kernel/keys/root_maxkeys": 1000000,
    "kernel/keys/root_maxbytes": 25000000,
}
"""What a kubelet sets where it finds something else; here it finds its own wishes, and the host keeps its values."""
_DEVICE_PLUGINS = Path("/var/lib/kubelet/device-plugins")


def leave_host_namespaces() -> None:
    """New mount, network and process namespaces; the next child is the first process of the last."""
    # os.unshare came with Python 3.12.
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS | _CLONE_NEWNET | _CLONE_NEWPID) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"unshare: {os.strerror(code)}")


def mount_all(layout: Layout) -> None:
    """The machine's view of the files; the host's own /proc is gone afterwards."""
    _run("mount", "--make-rprivate", "/")
    _run("mount", "-t", "proc", "proc", "/proc")
    _run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", "/run")
    shared = {_OUTSIDE / str(number): path for number, path in enumerate((layout.state, layout.cache))}
    for place, path in shared.items():
        place.mkdir(parents=True)
        path.mkdir(parents=True, exist_ok=True)
        _run("mount", "--rbind", str(path), str(place))
    for folder in PRIVATE:
        _cover(folder)
    for place, path in shared.items():
        _run("mount", "--rbind", str(place), str(path))
    _bind(layout.state / "volumes", at.VOLUMES)
    for node in layout.nodes:
        _bind(layout.home(node) / "kubelet", node.root)
    for name, value in KERNEL_SETTINGS.items():
        _pretend(Path("/proc/sys") / name, f"{value}\n")
    resolver = Path("/etc/resolv.conf")
    resolver.unlink(missing_ok=True)
    resolver.write_text(f"nameserver {at.CONTROL}\n")
    _DEVICE_PLUGINS.mkdir(parents=True)
    # Without a checkpoint a kubelet takes its node for a new one and counts GPUs from zero after each restart.
    (_DEVICE_PLUGINS / "kubelet_internal_checkpoint").write_text("{}")
    make_cgroups(layout)


def build_network(nodes: Sequence[Node]) -> None:
    """A bridge, and a network namespace for each GPU node; there is no way out."""
    gpu_nodes = [node for node in nodes if node.is_gpu]
    lines = [
        "link set lo up",
        "link add nodes type bridge",
        f"addr add {at.CONTROL}/24 dev nodes",
        "link set nodes up",
        # kube-proxy gives such a packet its real target, but only once it has a route.
        f"route add {at.SERVICES} dev nodes",
    ]
    for node in gpu_nodes:
        lines += [
            f"netns add {node.name}",
            f"link add to-node-{node.index} type veth peer name eth0 netns {node.name}",
            f"link set to-node-{node.index} master nodes up",
            f"route add {node.pods} via {node.address}",
        ]
    _ip(lines)
    _sysctl("net/ipv4/ip_forward", "1")
    # Nodes are hosts: the bridge between them is a switch and filters nothing.
    _sysctl("net/bridge/bridge-nf-call-iptables", "0")
    for node in gpu_nodes:
        lines = ["link set lo up", f"addr add {node.address}/24 dev eth0", "link set eth0 up"]
        lines += [f"route add {other.pods} via {other.address}" for other in nodes if other is not node]
        _ip([*lines, f"route add default via {at.CONTROL}"], "-netns", node.name)
        _run("nsenter", f"--net={at.NETNS / node.name}", "sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")


def _cover(folder: str) -> None:
    layers = [_LAYERS / folder.strip("/") / part for part in ("upper", "work")]
    for layer in layers:
        layer.mkdir(parents=True)
    Path(folder).mkdir(exist_ok=True)
    layers[0].chmod(Path(folder).stat().st_mode & 0o7777)
    options = f"lowerdir={folder},upperdir={layers[0]},workdir={layers[1]}"
    _run("mount", "-t", "overlay", "-o", options, "overlay", folder)


def _bind(kept: Path, place: Path) -> None:
    for folder in (kept, place):
        folder.mkdir(parents=True, exist_ok=True)
    _run("mount", "--bind", str(kept), str(place))


def _pretend(setting: Path, value: str) -> None:
    stand_in = Path("/run/kernel") / setting.name
    stand_in.parent.mkdir(exist_ok=True)
    stand_in.write_text(value)
    _run("mount", "--bind", str(stand_in), str(setting))


def _sysctl(name: str, value: str) -> None:
    setting = Path("/proc/sys") / name
    if setting.exists():
        setting.write_text(value)


def _ip(lines: Sequence[str], *options: str) -> None:
    _run("ip", *options, "-batch", "-", text="\n".join(lines))


def _run(*argv: str, text: str | None = None) -> None:
    # Failures stand in init's log, which stdout and stderr lead to.
    subprocess.run(argv, check=True, input=text, text=True)
