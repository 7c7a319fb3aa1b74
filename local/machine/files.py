"""The daemons' configuration files, as text."""

import json
from collections.abc import Mapping
from pathlib import Path

from local.machine import layout as at
from local.machine.layout import Layout, Node
from local.machine.pki import inner_kubeconfig, outer_kubeconfig

UPSTREAMS = {"ghcr.io": "https://ghcr.io", "docker.io": "https://registry-1.docker.io"}
"""Registries whose images the machine's own registry has, under the same names and digests."""
CNI_FOLDERS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
"""Debian's, upstream's and Fedora's."""
PREFER_CONTROL = {"key": "ai.llm.gpu", "value": "present", "effect": "PreferNoSchedule"}
"""GPU nodes are for who asks for them: the rest lands on `control`, so that its images are stored once."""


def render(layout: Layout) -> dict[Path, str]:
    """Every file by its path; private ones are readable by root alone, as all of the state is."""
    files = {
        layout.state / "kubeconfig": outer_kubeconfig(layout),
        layout.kubeconfig: inner_kubeconfig(layout),
        layout.etc / "Corefile": corefile(layout),
        layout.etc / "registry.yaml": _json(registry(layout)),
    }
    for host, upstream in UPSTREAMS.items():
        files[layout.etc / "certs.d" / host / "hosts.toml"] = mirror(upstream)
    for node in layout.nodes:
        files[node_file(layout, node, "containerd.toml")] = containerd(layout, node)
        files[node_file(layout, node, "cni/10-pods.conflist")] = _json(cni(node))
        files[node_file(layout, node, "kubelet.yaml")] = _json(kubelet(layout, node))
    return files


def node_file(layout: Layout, node: Node, name: str) -> Path:
    """Where a node's configuration file lies."""
    return layout.etc / node.name / name


def corefile(layout: Layout) -> str:
    """DNS for pods and daemons; every name that is not ours does not exist, at once."""
    zones = {
        "cluster.local in-addr.arpa": f"kubernetes cluster.local in-addr.arpa {{\n kubeconfig {layout.kubeconfig}\n}}",
        "llama-chat.internal": f"hosts {{\n {at.CONTROL} {at.HUB_NAME} {at.REGISTRY_NAME}\n}}",
        ".": "template ANY ANY {\n rcode NXDOMAIN\n}",
    }
    return "".join(f"{zone} {{\nbind {at.CONTROL}\nerrors\n{rule}\n}}\n" for zone, rule in zones.items())


def registry(layout: Layout) -> dict[str, object]:
    """Debian's docker-registry; its images are shared by all machines of this cache."""
    return {
        "version": "0.1",
        "log": {"level": "warn", "accesslog": {"disabled": True}},
        "storage": {"filesystem": {"rootdirectory": str(layout.cache / "registry")}, "delete": {"enabled": True}},
        # Its redirects must not name an address that only the inside knows.
        "http": {"addr": f"{at.CONTROL}:{at.REGISTRY_PORT}", "relativeurls": True},
    }


def mirror(upstream: str) -> str:
    """Containerd asks our registry first; upstream is out of reach, so a missing image fails at once."""
    return (
        f'server = "{upstream}"\n'
        f'[host."http://{at.CONTROL}:{at.REGISTRY_PORT}"]\n'
        '  capabilities = ["pull", "resolve"]\n'
    )


def containerd(layout: Layout, node: Node) -> str:
    """Containerd 1.6 or 1.7, without what needs a security module or a delegated oom score."""
    cni_binaries = next((path for path in CNI_FOLDERS if Path(path).is_dir()), CNI_FOLDERS[0])
    return f"""\
version = 2
root = "{layout.home(node) / "containerd"}"
state = "{node.runtime / "containerd"}"
[grpc]
  address = "{node.runtime / "containerd.sock"}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{at.PAUSE_IMAGE}"
  disable_apparmor = true
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni_binaries}"
    conf_dir = "{node_file(layout, node, "cni")}"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".registry]
    config_path = "{layout.etc / "certs.d"}"
"""


def cni(node: Node) -> dict[str, object]:
    """A routed link for each pod: no bridge between pods, so Services need no bridge netfilter either."""
    leases = {
        "type": "host-local",
        "dataDir": str(node.runtime / "leases"),
        "ranges": [[{"subnet": node.pods}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": False, "ipam": leases}]}


def kubelet(layout: Layout, node: Node) -> Mapping[str, object]:
    """A kubelet beside others on one kernel: it leaves the kernel, the disk and the other nodes alone."""
    home = layout.home(node)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": str(layout.pki / "ca.crt")},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{layout.cgroup}/{node.name}",
        "enforceNodeAllocatable": [],
        "failCgroupV1": False,
        "failSwapOn": False,
        "clusterDNS": [at.CONTROL],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": f"unix://{node.runtime / 'containerd.sock'}",
        "address": node.address,
        "healthzPort": 0,
        "resolvConf": "/dev/null",
        "podLogsDir": str(home / "pods"),
        "volumePluginDir": str(home / "plugins"),
        "registerWithTaints": [PREFER_CONTROL] if node.is_gpu else [],
        "localStorageCapacityIsolation": False,
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {},
    }


def _json(document: Mapping[str, object]) -> str:
    # JSON is YAML: every daemon reads it, and no quoting goes wrong.
    return json.dumps(document, indent=1)
