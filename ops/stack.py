"""Which stack a command is about: its file, its config, and whether it is this machine's own."""

from dataclasses import dataclass
from pathlib import Path

from config.errors import UserError
from config.load import load_file, load_unadopted
from config.lock import load_lock
from config.model import StackConfig
from local.paths import CONTEXT

ROOT = Path(__file__).resolve().parent.parent
"""The Pulumi project's folder."""


@dataclass(frozen=True, kw_only=True)
class Stack:
    """A stack by name, with what its file says."""

    name: str
    file: Path
    config: StackConfig

    @property
    def is_local(self) -> bool:
        """Whether it runs on the one-machine cluster: the context says so, nothing else does."""
        return self.config.cluster.context == CONTEXT


def read_stack(name: str, file: Path | None = None) -> Stack:
    """The stack `name`, by default from `Pulumi.<name>.yaml`; UserError or ConfigError tells what is wrong with it.

    A model that is not in the lock is refused, as `pulumi up` will refuse it.
    """
    path = stack_file(name, file)
    return Stack(name=name, file=path, config=load_file(path, load_lock(), stack=name))


def read_unadopted(name: str, file: Path | None = None) -> Stack:
    """The same stack, as far as its file can tell before its gateway was adopted and its models were locked."""
    path = stack_file(name, file)
    return Stack(name=name, file=path, config=load_unadopted(path))


def stack_file(name: str, file: Path | None = None) -> Path:
    """`Pulumi.<name>.yaml`, or the file that stands for it; UserError where there is none."""
    path = file or ROOT / f"Pulumi.{name}.yaml"
    if not path.exists():
        known = sorted(found.name.split(".")[1] for found in ROOT.glob("Pulumi.*.yaml"))
        raise UserError(f"There is no {path}: STACK names a file Pulumi.<STACK>.yaml; known: {', '.join(known)}.")
    return path
