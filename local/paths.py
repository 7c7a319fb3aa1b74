"""Where the one-machine cluster keeps things, and the loopback ports that it listens on."""

import os
from dataclasses import dataclass
from pathlib import Path

from config.errors import UserError

CONTEXT = "llama-chat-local"
"""The kubeconfig context that starts a cluster on this machine; every other one is somebody's own."""


def cache_dir() -> Path:
    """What is built or downloaded once, named by content: `$XDG_CACHE_HOME/llama-chat`."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "llama-chat"


@dataclass(frozen=True, kw_only=True)
class Instance:
    """One cluster on this machine. Two may run side by side: their networks never meet."""

    name: str
    api_port: int
    gateway_port: int
    registry_port: int
    hub_port: int

    @property
    def state(self) -> Path:
        """All that `make down` removes: `$XDG_STATE_HOME/llama-chat/<name>`."""
        base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
        return base / "llama-chat" / self.name

    @property
    def kubeconfig(self) -> Path:
        """A kubeconfig with the one context `llama-chat-local` (mode 0600)."""
        return self.state / "kubeconfig"


INSTANCES = {
    "local": Instance(name="local", api_port=6443, gateway_port=4000, registry_port=5050, hub_port=8090),
    "test": Instance(name="test", api_port=16443, gateway_port=14000, registry_port=15050, hub_port=18090),
}


def current_instance() -> Instance:
    """The instance that `LLAMA_CHAT_INSTANCE` names: `local`, or `test` for the tests' own."""
    name = os.environ.get("LLAMA_CHAT_INSTANCE", "local")
    if name not in INSTANCES:
        raise UserError(f"LLAMA_CHAT_INSTANCE is {name!r}: it must be one of {', '.join(INSTANCES)}.")
    return INSTANCES[name]
