"""What the machine is made of: its nodes, addresses and folders. Both sides of the wall read it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from local.paths import Instance

CONTROL = "10.50.0.1"
"""The machine's own address on its bridge: control plane, registry, hub and DNS."""
API = "10.96.0.1"
"""The Service `kubernetes`: the first address of the Service range."""
SERVICES = "10.96.0.0/16"
PODS = "10.244.0.0/16"
API_PORT = 6443
REGISTRY_PORT = 5000
HUB_PORT = 8090
HUB_NAME = "hub.llama-chat.internal"
REGISTRY_NAME = "registry.llama-chat.internal"
GATEWAY = ("llm-gateway.ai.svc.cluster.local", 4000)
PAUSE_IMAGE = "registry.llama-chat.internal/pause:3"
NETNS = Path("/run/netns")
VOLUMES = Path("/tmp/hostpath_pv")  # noqa: S108 - where Kubernetes' host-path provisioner keeps all volumes


@dataclass(frozen=True, kw_only=True)
class Node:
    """One Kubernetes node; the first lives in the machine's own network namespace, each other one in its own."""

    name: str
    index: int

    @property
    def is_gpu(self) -> bool:
        """Every node but `control` stands for a host with a GPU."""
        return self.index > 0

    @property
    def address(self) -> str:
        """Its address on the bridge."""
        return f"10.50.0.{10 + self.index}" if self.is_gpu else CONTROL

    @property
    def pods(self) -> str:
        """The range of its pods' addresses."""
        return f"10.244.{self.index}.0/24"

    @property
    def runtime(self) -> Path:
        """Sockets and CNI leases: in memory, gone with the machine."""
        return Path("/run/nodes") / self.name

    @property
    def root(self) -> Path:
        """Where its kubelet finds its folder of the state: a short path, as a socket's may have 107 characters."""
        return self.runtime / "kubelet"


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One machine; written to `<state>/machine.json` for its init."""

    name: str
    state: Path
    cache: Path
    api_port: int
    roles: tuple[str, ...]
    tools: Mapping[str, str]

    @property
    def nodes(self) -> tuple[Node, ...]:
        """`control`, then one node for each role."""
        names = ("control", *(f"gpu-{role}" for role in self.roles))
        return tuple(Node(name=name, index=index) for index, name in enumerate(names))

    @property
    def cgroup(self) -> str:
        """The folder that every container of this machine is below, in each cgroup hierarchy."""
        return cgroup_of(self.name)

    @property
    def pki(self) -> Path:
        """Certificates and keys."""
        return self.state / "pki"

    @property
    def etc(self) -> Path:
        """Configuration files of the daemons."""
        return self.state / "etc"

    @property
    def kubeconfig(self) -> Path:
        """The kubeconfig of the daemons, which reach the API server at the machine's own address."""
        return self.etc / "kubeconfig"

    @property
    def log(self) -> Path:
        """One log for each daemon."""
        return self.state / "log"

    def home(self, node: Node) -> Path:
        """Where a node keeps images and kubelet state over restarts."""
        return self.state / "nodes" / node.name

    def to_json(self) -> str:
        """The text of `machine.json`."""
        return json.dumps(asdict(self), default=str, indent=1)

    @classmethod
    def from_json(cls, text: str) -> "Layout":
        """The inverse of `to_json`; ValueError, KeyError or TypeError where the text is not one."""
        raw = json.loads(text)
        raw |= {"state": Path(raw["state"]), "cache": Path(raw["cache"]), "roles": tuple(raw["roles"])}
        return cls(**raw)


def cgroup_of(name: str) -> str:
    """The cgroup folder of the machine of an instance's name."""
    return f"llama-chat-{name}"


def layout_file(instance: Instance) -> Path:
    """Where the layout of an instance's machine is written."""
    return instance.state / "machine.json"
