"""Which stack a command is about: its file, its config, and whether it is this machine's own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from config.errors import UserError
from config.legacy import folder_of
from config.load import load_file, load_unadopted
from config.lock import load_lock
from config.model import StackConfig
from local.paths import CONTEXT

ROOT = Path(__file__).resolve().parent.parent
"""The Pulumi project's folder."""
Confirm = Callable[[str], bool]
"""Asks the operator: whether to go on."""


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
    return Stack(name=name, file=path, config=load_file(path, load_lock(), adopted=folder_of(name)))


def read_unadopted(name: str, file: Path | None = None) -> Stack:
    """The same stack, as far as its file can tell before its gateway was adopted and its models were locked."""
    path = stack_file(name, file)
    return Stack(name=name, file=path, config=load_unadopted(path))


def read_text(stack: Stack, text: str, *, unadopted: bool = False) -> StackConfig:
    """What the stack would be if its file said this; UserError or ConfigError tells what would be wrong with it."""
    with TemporaryDirectory() as scratch:
        file = Path(scratch) / stack.file.name
        file.write_bytes(text.encode())
        return load_unadopted(file) if unadopted else load_file(file, load_lock(), adopted=folder_of(stack.name))


def require_meant(stack: Stack, edited: str, key: str, wanted: StackConfig, *, unadopted: bool = False) -> None:
    """UserError where an edited stack file says anything else than what is wanted; `key` was edited."""
    if read_text(stack, edited, unadopted=unadopted) != wanted:
        raise UserError(f"{stack.file}: llama-chat:{key} cannot be written there: write it by hand, as plain text.")


def stack_file(name: str, file: Path | None = None) -> Path:
    """`Pulumi.<name>.yaml`, or the file that stands for it; UserError where there is none."""
    path = file or ROOT / f"Pulumi.{name}.yaml"
    if not path.exists():
        known = sorted(found.name.split(".")[1] for found in ROOT.glob("Pulumi.*.yaml"))
        raise UserError(f"There is no {path}: STACK names a file Pulumi.<STACK>.yaml; known: {', '.join(known)}.")
    return path
