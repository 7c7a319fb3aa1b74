"""Taking a whole stack away, so that an adopted gateway is left as it was found, and no volume is lost."""

import json
import tempfile
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from config.errors import ConfigError, UserError
from config.model import StackConfig
from config.parts import ROLE_LABEL
from config.phases import PHASES, read_reached
from local.console import say
from ops.checklist import FAULTS, explained
from ops.drift import drift
from ops.engine import Engine, InterruptedUpdateError
from ops.forward import open_gateway
from ops.guard import PATCHES
from ops.history import ask_pulumi
from ops.hold import ROOT_TYPE, read_outputs, refuse_held
from ops.kube import Kube, Object
from ops.promote import BESIDE
from ops.room import starting_again
from ops.served_before import as_adopted, led_elsewhere, unserved
from ops.stack import Confirm, Stack, read_text
from ops.stack_edit import with_entry
from ops.verify import reached

LEGACY = PHASES[0]
"""The phase in which an adopted gateway has its own document."""


def destroy(stack: Stack, engine: Engine, kube: Kube, folder: Path, confirm: Confirm) -> None:
    """Go back to the legacy routes where a gateway was adopted, then delete all of the stack but what is kept.

    Kept are claims and a namespace, a master key that the stack put into a Secret, and what was patched. A plain
    `pulumi destroy` refuses because of what is protected: claims and a namespace in every phase, and outside of
    `parallel` each patch of an adopted ConfigMap or gateway or LibreChat, since its routes would stay and their
    backends would not. `folder` is the Pulumi project's. Killed at any step, another run goes on.

    A backend that is broken keeps no stack: where users have all that they had before, it goes whatever stands of it.

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
    patched = any(it["type"].endswith(PATCHES) for it in standing)
    if patched and not adopting:
        raise UserError(
            f"Stack {name} has patched a gateway that it adopted, and {stack.file.name} says mode deploy: the stack's "
            "routes would stay there without their backends. Check out the stack file that adopted it, then run this "
            "again."
        )
    left = "Its users go back to the legacy routes" if adopting else "Its users lose the gateway"
    if not confirm(f"Destroy stack {name} in context {kube.context}? {left}."):
        raise UserError("Nothing is changed.")
    if patched:
        _go_back(stack, engine, kube, folder, confirm)
    kept = [it for it in _resources(name, folder) if it.get("retainOnDelete")]
    for urn in (it["urn"] for it in kept if it.get("protect")):
        say(f"unprotecting {urn.rpartition('::')[2]}: it is kept all the same")
        ask_pulumi(folder, "state", "unprotect", "--yes", "--stack", name, urn)
    # with its preview: that refuses, before anything is deleted, what was protected since
    engine.destroy("--yes")
    if adopting:
        _require_answers(stack, kube)
    say(f"stack {name} is gone; its history stays, and `make up STACK={name}` would make it anew")
    for line in (*_left(kept, kube), *_needed(kept, stack.config), *_kept_secrets(stack.config)):
        say(line)


def _resources(stack: str, folder: Path) -> list[Object]:
    state: dict[str, Any] = json.loads(ask_pulumi(folder, "stack", "export", "--stack", stack))
    resources: list[Object] = state["deployment"].get("resources") or []
    return [it for it in resources if it["type"] != ROOT_TYPE]


def _go_back(stack: Stack, engine: Engine, kube: Kube, folder: Path, confirm: Confirm) -> None:
    """Have the stack reach the first phase, whatever its file says.

    UserError or ConfigError where it does not and users lack anything that they had before, or the documents are not as
    adopted afterwards.
    """
    edited = with_entry(stack.file.read_text(encoding="utf-8"), "migration", "phase", LEGACY, BESIDE)
    legacy = read_text(stack, edited)
    room = starting_again(legacy, kube, cast("dict[str, Object]", kube.items("nodes")))
    if problems := (*drift(legacy, kube), *room):
        raise ConfigError(problems)
    say(f"going back to phase {LEGACY} first; {stack.file.name} stays as it is")
    try:
        with _in_parallel(engine) as earlier:
            earlier.up("--yes", "--skip-preview")
    except InterruptedUpdateError:
        raise
    except UserError as error:
        _require_served(legacy, kube, error)
        if not confirm(f"{error} Users have what they had before all the same. Go on, and destroy stack {stack.name}?"):
            raise UserError("Nothing was destroyed.") from None
        return
    stands = read_reached(read_outputs(stack.name, folder))
    if stands is None or stands.phase != LEGACY:
        says = stands.phase if stands else "no phase"
        raise UserError(f"Nothing was destroyed: stack {stack.name} should have reached {LEGACY}, and says {says}.")
    try:
        as_adopted(legacy, kube)
    except UserError as error:
        raise UserError(
            f"Nothing was destroyed: {error}. Somebody writes it at the same time: find out who, then run this again."
        ) from None


@contextmanager
def _in_parallel(engine: Engine) -> Generator[Engine]:
    """The engine with a copy of its file that says the first phase."""
    text = with_entry(engine.config_file.read_text(encoding="utf-8"), "migration", "phase", LEGACY, BESIDE)
    with tempfile.TemporaryDirectory(prefix="llama-chat-destroy-") as scratch:
        copy = Path(scratch) / engine.config_file.name
        copy.write_text(text, encoding="utf-8")
        yield replace(engine, config_file=copy, keep_going=True)


def _require_served(legacy: StackConfig, kube: Kube, error: UserError) -> None:
    """UserError with what users have now, where that is not all that they had before."""
    with ExitStack() as held:
        reach = reached(legacy, kube, held)
        elsewhere = led_elsewhere(legacy, kube, reach)
        faults = elsewhere or unserved(legacy, kube, reach)
    if faults:
        now = "may still have this stack's routes" if elsewhere else "have the legacy routes, which do not all answer"
        raise UserError(
            f"Nothing was destroyed, as going back to {LEGACY} comes first: {error} Users {now}: {'; '.join(faults)}. "
            "Mend it, then run this again."
        )


def _require_answers(stack: Stack, kube: Kube) -> None:
    try:
        with open_gateway(stack.config, kube) as gateway:
            names = gateway.names()
    except FAULTS as error:
        told = f"Stack {stack.name} is gone, and the adopted gateway does not answer: {explained(error)}"
        raise UserError(told) from None
    say(f"the adopted gateway answers, and lists {', '.join(names)}")


def _needed(kept: list[Object], config: StackConfig) -> Iterator[str]:
    """What the adopted gateway cannot do without."""
    for it in kept:
        if it["type"].endswith(":ConfigMap"):
            yield f"the gateway needs ConfigMap {it['inputs']['metadata']['name']} from now on: its pods mount it"
    if any(it["type"].endswith(PATCHES) for it in kept) and config.legacy.keys:
        yield f"the gateway needs Secret {config.legacy.keys_secret} from now on: its document refers to it"


def _kept_secrets(config: StackConfig) -> Iterator[str]:
    for secret, _ in config.external_secrets:
        yield f"Secret {secret.name} stays: the External Secrets Operator made it"


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
