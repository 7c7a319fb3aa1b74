"""Which contexts the kubeconfig has: the current one is never used, so the named one must be there."""

import os
from pathlib import Path

import yaml
from pydantic import BaseModel

from config.errors import ConfigError, Problem


def require_context(context: str) -> None:
    """ConfigError where no file of `KUBECONFIG` (or `~/.kube/config`) has the context."""
    known = contexts()
    if context not in known:
        remedy = f"the kubeconfig ({_shown()}) has no such context: it has {', '.join(known) or 'none'}"
        raise ConfigError((Problem(key="llama-chat:cluster.context", value=context, remedy=remedy),))


def contexts() -> list[str]:
    """The names of all contexts, in the files' order; a file that is missing or no kubeconfig has none."""
    names: list[str] = []
    for path in _files():
        try:
            names += [context.name for context in _Kubeconfig.model_validate(yaml.safe_load(path.read_text())).contexts]
        except (OSError, ValueError, yaml.YAMLError):
            continue
    return names


class _Context(BaseModel):
    name: str


class _Kubeconfig(BaseModel):
    contexts: list[_Context] = []


def _files() -> list[Path]:
    listed = [Path(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]
    return listed or [Path.home() / ".kube" / "config"]


def _shown() -> str:
    return os.pathsep.join(str(path) for path in _files())
