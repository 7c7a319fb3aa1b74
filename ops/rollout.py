"""How far a Deployment is from what it wants."""

from config.errors import UserError
from ops.kube import Kube


def full_strength(kube: Kube, name: str, pods: int | None = None) -> str:
    """How many pods stand, all ready and of the newest template; UserError where they are fewer, more or older.

    `pods` is how many the stack says, where it does.
    """
    deployment = kube.get("deployment", name)
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    if pods is not None and wanted != pods:
        raise UserError(f"the Deployment wants {wanted} pods, the stack {pods}")
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        raise UserError("its last change is not rolled out yet")
    counts = {kind: status.get(f"{kind}Replicas", 0) for kind in ("updated", "ready", "available")}
    seen = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if not wanted or any(count != wanted for count in counts.values()) or status.get("replicas") != wanted:
        raise UserError(f"of {wanted} pods: {seen}; {status.get('replicas', 0)} stand")
    return f"of {wanted} pods: {seen}"
