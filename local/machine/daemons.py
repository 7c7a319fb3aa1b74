"""The machine's daemons: their commands, and in which order they start."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from local.machine import layout as at
from local.machine.files import node_file
from local.machine.layout import Layout, Node

ETCD = "http://127.0.0.1:2379"
ETCD_PEER = "http://127.0.0.1:2380"
REPOSITORY = Path(__file__).parents[2]

Probe = tuple[str, int] | Path
"""What takes connections once a daemon is up: a TCP address or a socket's path."""


@dataclass(frozen=True, kw_only=True)
class Daemon:
    """One long-running command."""

    name: str
    argv: tuple[str, ...]
    probe: Probe
    before: tuple[str, ...] = ()
    """A short command that must succeed before each start."""
    data: tuple[Path, ...] = ()
    """What it cannot start with when it is broken; it is made anew from nothing."""


def stages(layout: Layout) -> list[list[Daemon]]:
    """Each stage starts when all of the one before take connections."""
    containerds = [_containerd(layout, node) for node in layout.nodes]
    on_nodes = [daemon for node in layout.nodes for daemon in (_kubelet(layout, node), _kube_proxy(layout, node))]
    return [
        [_etcd(layout), _registry(layout), _hub(layout), *containerds],
        [_apiserver(layout)],
        [_controller_manager(layout), _scheduler(layout), _coredns(layout), *on_nodes],
    ]


def _etcd(layout: Layout) -> Daemon:
    data = layout.state / "etcd"
    argv = (
        "etcd",
        f"--data-dir={data}",
        "--unsafe-no-fsync",  # the machine can be made anew; a laptop's disk need not work for each write
        f"--listen-client-urls={ETCD}",
        f"--advertise-client-urls={ETCD}",
        f"--listen-peer-urls={ETCD_PEER}",
        f"--initial-advertise-peer-urls={ETCD_PEER}",
        f"--initial-cluster=default={ETCD_PEER}",
        "--auto-compaction-retention=1h",
        "--log-level=warn",
    )
    # A volume without the cluster that knows it is of no use.
    return Daemon(name="etcd", argv=argv, probe=("127.0.0.1", 2379), data=(data, layout.state / "volumes"))


def _registry(layout: Layout) -> Daemon:
    argv = ("docker-registry", "serve", str(layout.etc / "registry.yaml"))
    return Daemon(name="registry", argv=argv, probe=(at.CONTROL, at.REGISTRY_PORT))


def _hub(layout: Layout) -> Daemon:
    listen = ("--host", at.CONTROL, "--port", str(at.HUB_PORT))
    argv = (sys.executable, "-m", "local.hub", "--root", str(layout.cache / "hub"), *listen)
    return Daemon(name="hub", argv=argv, probe=(at.CONTROL, at.HUB_PORT))


def _apiserver(layout: Layout) -> Daemon:
    pki = layout.pki
    argv = (
        layout.tools["kube-apiserver"],
        f"--etcd-servers={ETCD}",
        f"--bind-address={at.CONTROL}",
        f"--advertise-address={at.CONTROL}",
        f"--secure-port={at.API_PORT}",
        f"--tls-cert-file={pki / 'apiserver.crt'}",
        f"--tls-private-key-file={pki / 'apiserver.key'}",
        f"--client-ca-file={pki / 'ca.crt'}",
        f"--kubelet-client-certificate={pki / 'kubelet-client.crt'}",
        f"--kubelet-client-key={pki / 'kubelet-client.key'}",
        f"--service-account-key-file={pki / 'service-accounts.key'}",
        f"--service-account-signing-key-file={pki / 'service-accounts.key'}",
        "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
        f"--service-cluster-ip-range={at.SERVICES}",
        "--authorization-mode=Node,RBAC",
        "--kubelet-preferred-address-types=InternalIP",  # node names are in no DNS
        "--allow-privileged=true",
        "--profiling=false",
    )
    return Daemon(name="kube-apiserver", argv=argv, probe=(at.CONTROL, at.API_PORT))


def _controller_manager(layout: Layout) -> Daemon:
    argv = (
        *_control_loop(layout, "kube-controller-manager"),
        f"--service-account-private-key-file={layout.pki / 'service-accounts.key'}",
        f"--root-ca-file={layout.pki / 'ca.crt'}",
        "--use-service-account-credentials=true",
        "--allocate-node-cidrs=false",  # each node's range is fixed by its place
        "--enable-hostpath-provisioner=true",
    )
    return Daemon(name="kube-controller-manager", argv=argv, probe=("127.0.0.1", 10257))


def _scheduler(layout: Layout) -> Daemon:
    return Daemon(name="kube-scheduler", argv=_control_loop(layout, "kube-scheduler"), probe=("127.0.0.1", 10259))


def _control_loop(layout: Layout, command: str) -> tuple[str, ...]:
    flags = ("kubeconfig", "authentication-kubeconfig", "authorization-kubeconfig")
    access = tuple(f"--{flag}={layout.kubeconfig}" for flag in flags)
    return (layout.tools[command], *access, "--leader-elect=false", "--bind-address=127.0.0.1", "--profiling=false")


def _coredns(layout: Layout) -> Daemon:
    argv = (layout.tools["coredns"], "-conf", str(layout.etc / "Corefile"))
    return Daemon(name="coredns", argv=argv, probe=(at.CONTROL, 53))


def _containerd(layout: Layout, node: Node) -> Daemon:
    argv = _inside(node, ("containerd", "--config", str(node_file(layout, node, "containerd.toml"))))
    data = (layout.home(node),)
    return Daemon(name=f"containerd@{node.name}", argv=argv, probe=node.runtime / "containerd.sock", data=data)


def _kubelet(layout: Layout, node: Node) -> Daemon:
    home = layout.home(node)
    argv = (
        layout.tools["kubelet"],
        f"--config={node_file(layout, node, 'kubelet.yaml')}",
        f"--kubeconfig={layout.kubeconfig}",
        f"--hostname-override={node.name}",
        f"--node-ip={node.address}",
        f"--root-dir={node.root}",
        f"--cert-dir={home / 'pki'}",
    )
    socket = str(node.runtime / "containerd.sock")
    load_pause = ("ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", str(pause_file(layout)))
    # containerd itself runs on when its database is broken: it shows here.
    return Daemon(
        name=f"kubelet@{node.name}",
        argv=_inside(node, argv),
        probe=(node.address, 10250),
        before=load_pause,
        data=(home,),
    )


def _kube_proxy(layout: Layout, node: Node) -> Daemon:
    argv = (
        layout.tools["kube-proxy"],
        f"--kubeconfig={layout.kubeconfig}",
        f"--hostname-override={node.name}",
        "--proxy-mode=nftables",
        f"--cluster-cidr={at.PODS}",
        f"--bind-address={node.address}",
        f"--healthz-bind-address={node.address}:10256",
        "--conntrack-max-per-core=0",  # that limit is the whole kernel's
    )
    return Daemon(name=f"kube-proxy@{node.name}", argv=_inside(node, argv), probe=(node.address, 10256))


def pause_file(layout: Layout) -> Path:
    """The archive of the sandbox image."""
    return layout.state / "pause.tar"


def _inside(node: Node, argv: Sequence[str]) -> tuple[str, ...]:
    # `ip netns exec` would remount /sys and hide the cgroups.
    return ("nsenter", f"--net={at.NETNS / node.name}", *argv) if node.is_gpu else tuple(argv)
