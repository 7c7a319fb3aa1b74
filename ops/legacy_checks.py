"""What is looked at of what ran before: that nobody else changes it, and vLLM's pods."""

from collections.abc import Iterator
from functools import partial

from config.errors import UserError
from config.model import StackConfig
from ops.checklist import Check, made
from ops.drift import drift
from ops.kube import Kube
from ops.rollout import full_strength


def legacy_checks(config: StackConfig, kube: Kube) -> Iterator[Check]:
    """The checks of what was adopted, then of each Deployment of a legacy route; none where nothing was."""
    if config.gateway.mode != "adopt":
        return
    yield made("legacy", "adopted", "changed by nobody else", partial(_unchanged, config, kube))
    for name, replicas in config.legacy.workers.items():
        if replicas and config.migration.phase != "done":
            yield made("legacy", name, "at full strength", partial(full_strength, kube, name, replicas))
        else:
            yield made("legacy", name, "scaled to 0", partial(_stopped, kube, name))


def _unchanged(config: StackConfig, kube: Kube) -> str:
    # a document's diff is for `make preview`, which refuses the same
    found = [str(problem).partition("\n")[0] for problem in drift(config, kube)]
    if found:
        raise UserError("; ".join(found))
    return "documents and keys are as the stack knows them"


def _stopped(kube: Kube, name: str) -> str:
    deployment = kube.get("deployment", name)
    wanted, standing = deployment["spec"]["replicas"], deployment["status"].get("replicas", 0)
    if wanted or standing:
        raise UserError(f"the Deployment wants {wanted} pods, the stack 0; {standing} stand")
    return "no pod stands, the Deployment is kept"
