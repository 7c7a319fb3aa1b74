"""What a preview would take away that no update brings back."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

GUARDED = (":PersistentVolumeClaim", ":Namespace")
PROVIDER = "pulumi:providers:"
"""Another provider may take another cluster for the stack's, and replace all that is in it."""
ENGINE = f"{PROVIDER}pulumi"
"""Pulumi's own: it comes and goes with what a program asks the engine."""
PATCHES = (":ConfigMapPatch", ":DeploymentPatch")
"""What is left of a stack in objects that it adopted."""
TAKES_AWAY = {"delete", "replace", "delete-replaced", "create-replacement"}


@dataclass(frozen=True, kw_only=True)
class Loss:
    """One resource that would be deleted or replaced."""

    urn: str
    kind: str
    """Pulumi's type token."""
    operation: str
    protected: bool

    def __str__(self) -> str:
        verb = "delete" if self.operation == "delete" else "replace"
        kind = "provider" if self.kind.startswith(PROVIDER) else self.kind.rpartition(":")[2]
        return f"{verb} {kind} {self.urn.rpartition('::')[2]}"


def losses(event_log: Path) -> list[Loss]:
    """What a preview found to delete or replace, of the kinds that are guarded and of what is protected, each once."""
    found = (_loss(json.loads(line)) for line in event_log.read_text(encoding="utf-8").splitlines())
    return list({loss.urn: loss for loss in found if loss}.values())


def _loss(event: dict[str, Any]) -> Loss | None:
    step: dict[str, Any] = event.get("resourcePreEvent", {}).get("metadata", {})
    if step.get("op") not in TAKES_AWAY:
        return None
    old: dict[str, Any] = step.get("old") or {}
    kind, protected = str(step["type"]), bool(old.get("protect"))
    guarded = kind.endswith(GUARDED) or (kind.startswith(PROVIDER) and kind != ENGINE) or protected
    return Loss(urn=step["urn"], kind=kind, operation=step["op"], protected=protected) if guarded else None
