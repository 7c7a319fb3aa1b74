"""Taking a whole stack away, so that an adopted gateway is left as it was found, and no volume is lost."""

import json
import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from config.errors import ConfigError, UserError
from config.parts import ROLE_LABEL
from config.phases import PHASES, read_reached
from local.console import say
from ops.checklist import FAULTS, explained
from ops.drift import drift
from ops.engine import Engine
from ops.forward import open_gateway
from ops.history import ask_pulumi
from ops.hold import ROOT_TYPE, read_outputs, refuse_held
from ops.kube import Kube, Object
from ops.live import read_live
from ops.promote import BESIDE
from ops.stack import Stack, read_text
from ops.stack_edit import with_entry

Confirm = Callable[[str], bool]
LEGACY = PHASES[0]
"""The phase in which an adopted gateway has its own document."""
PATCHES = (":ConfigMapPatch", ":DeploymentPatch")
"""What is left of the stack in objects that it adopted."""


def destroy(stack: Stack, engine: Engine, kube: Kube, folder: Path, confirm: Confirm) -> None:
    """Go back to the legacy routes where a gateway was adopted, then delete all of the stack but what is kept.

    Kept are claims and a namespace, a master key that the stack put into a Secret, and what was patched. A plain
    `pulumi destroy` refuses because of what is protected: claims and a namespace in every phase, and outside of
    `parallel` each patch of an adopted ConfigMap or gateway or LibreChat, since its routes would stay and their
    backends would not. `folder` is the Pulumi project's. Killed at any step, another run goes on.

    UserError or ConfigError where the stack is held, cannot go back, or is not gone in the end.
    """
    adopting, name = stack.config.gateway.mode == "adopt", stack.name
    if adopting and stack.config.legacy.retired:
        raise UserError(
            f"What answered before stack {name} is retired: without the stack nobody would answer. Bring it back first:"
            f" `kubectl --context {kube.context} apply -f {stack.config.adopted.retired}`, then legacy.retired: false."
        )
    refuse_held(name, read_outputs(name, folder))
    standing = _resources(name, folder)
    if not standing:
        say(f"stack {name} has nothing to destroy")
        return
    left = "Its users go back to the legacy routes" if adopting else "Its users lose the gateway"
    if not confirm(f"Destroy stack {name} in context {kube.context}? {left}."):
        raise UserError("Nothing is changed.")
    if adopting and any(it["type"].endswith(PATCHES) for it in standing):
        _go_back(stack, engine, kube, folder)
    kept = [it for it in _resources(name, folder) if it.get("retainOnDelete")]
    for urn in (it["urn"] for it in kept if it.get("protect")):
        say(f"unprotecting {urn.rpartition('::')[2]}: it is kept all the same")
        ask_pulumi(folder, "state", "unprotect", "--yes", "--stack", name, urn)
    # with its preview: that refuses, before anything is deleted, what was protected since
    engine.destroy("--yes")
    if adopting:
        _require_answers(stack, kube)
    say(f"stack {name} is gone; its history stays, and `make up STACK={name}` would make it anew")
    for line in _left(kept, kube):
        say(line)


def _resources(stack: str, folder: Path) -> list[Object]:
    state: dict[str, Any] = json.loads(ask_pulumi(folder, "stack", "export", "--stack", stack))
    resources: list[Object] = state["deployment"].get("resources") or []
    return [it for it in resources if it["type"] != ROOT_TYPE]


def _go_back(stack: Stack, engine: Engine, kube: Kube, folder: Path) -> None:
    """Have the stack reach the first phase, whatever its file says.

    UserError or ConfigError where it does not, or the documents are not as adopted afterwards.
    """
    if problems := drift(stack.config, kube):
        raise ConfigError(tuple(problems))
    say(f"going back to phase {LEGACY} first; {stack.file.name} stays as it is")
    try:
        with _in_parallel(stack, engine) as earlier:
            earlier.up("--yes", "--skip-preview")
    except UserError as error:
        told = f"Nothing was destroyed, as going back to {LEGACY} comes first: {error} Mend it, then run this again."
        raise UserError(told) from None
    reached = read_reached(read_outputs(stack.name, folder))
    if reached is None or reached.phase != LEGACY:
        stands = reached.phase if reached else "no phase"
        raise UserError(f"Nothing was destroyed: stack {stack.name} should have reached {LEGACY}, and says {stands}.")
    _require_legacy(stack, kube)


@contextmanager
def _in_parallel(stack: Stack, engine: Engine) -> Generator[Engine]:
    """The engine with a copy of its file that says the first phase."""
    _ = read_text(stack, with_entry(stack.file.read_text(encoding="utf-8"), "migration", "phase", LEGACY, BESIDE))
    text = with_entry(engine.config_file.read_text(encoding="utf-8"), "migration", "phase", LEGACY, BESIDE)
    with tempfile.TemporaryDirectory(prefix="llama-chat-destroy-") as scratch:
        copy = Path(scratch) / engine.config_file.name
        copy.write_text(text, encoding="utf-8")
        yield replace(engine, config_file=copy)


def _require_legacy(stack: Stack, kube: Kube) -> None:
    config, adopted = stack.config, stack.config.adopted
    documents = {"gateway": adopted.litellm, "frontend": adopted.librechat if config.frontend.mode == "adopt" else ""}
    for part in ("gateway", "frontend"):
        if documents[part] and read_live(config, kube, part).text != documents[part]:
            raise UserError(
                f"Nothing was destroyed: the live document of the {part} is not the adopted one. Somebody writes it at "
                "the same time: find out who, then run this again."
            )


def _require_answers(stack: Stack, kube: Kube) -> None:
    try:
        with open_gateway(stack.config, kube) as gateway:
            names = gateway.names()
    except FAULTS as error:
        told = f"Stack {stack.name} is gone, and the adopted gateway does not answer: {explained(error)}"
        raise UserError(told) from None
    say(f"the adopted gateway answers, and lists {', '.join(names)}")


def _left(kept: list[Object], kube: Kube) -> Iterator[str]:
    """What stays in the cluster, and how it goes too."""
    names: dict[str, list[str]] = {}
    for it in kept:
        names.setdefault(it["type"].rpartition(":")[2], []).append(it["inputs"]["metadata"]["name"])
    kubectl, inside = f"kubectl --context {kube.context}", f"--namespace {kube.namespace}"
    if claims := " ".join(names.get("PersistentVolumeClaim", ())):
        yield f"claims stay, with the models on them: `{kubectl} {inside} delete pvc {claims}` deletes them"
    if nodes := " ".join(names.get("NodePatch", ())):
        yield f"nodes keep their label: `{kubectl} label node {nodes} {ROLE_LABEL}-` takes it off"
    for kind in ("Secret", "Namespace"):
        for name in names.get(kind, ()):
            yield f"{kind} {name} stays"
