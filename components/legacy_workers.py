"""The vLLM Deployments behind the legacy routes: they run until the migration is done."""

from dataclasses import dataclass

import pulumi

from components.patches import deployment_patch, left_in_place
from components.pods import timeouts
from config.model import StackConfig
from config.sizing import UNKNOWN_SECONDS


@dataclass(frozen=True, kw_only=True)
class LegacyWorkersArgs:
    """The stack whose legacy routes they serve."""

    config: StackConfig


class LegacyWorkers(pulumi.ComponentResource):
    """The number of pods of each: the adopted one, and none once the migration is done.

    Going back from there starts them again, and the gateway waits for them: it routes to what answers. Once they are
    retired, there is none to count.
    """

    serving: tuple[pulumi.Resource, ...]
    """What the gateway waits for."""

    def __init__(self, name: str, args: LegacyWorkersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:gateway:LegacyWorkers", name, None, opts)
        self._name, self._config = name, args.config
        self._replicas = args.config.legacy.workers
        self._done = args.config.migration.phase == "done"
        self.serving = () if self._done else tuple(self._patch(*it, ()) for it in self._replicas.items())
        self.register_outputs({"deployments": list(self._replicas)})

    def stop(self, after: tuple[pulumi.Resource, ...]) -> tuple[pulumi.Resource, ...]:
        """Stop them where the migration is done, after what may have routed to them; what did that."""
        return tuple(self._patch(deployment, 0, after) for deployment in self._replicas) if self._done else ()

    def _patch(self, deployment: str, replicas: int, after: tuple[pulumi.Resource, ...]) -> pulumi.Resource:
        return deployment_patch(
            f"{self._name}-{deployment}",
            namespace=self._config.cluster.namespace,
            deployment=deployment,
            spec={"replicas": replicas},
            # not protected: a retired one leaves the stack file
            opts=left_in_place(self, after=after, timeouts=timeouts(UNKNOWN_SECONDS)),
        )
