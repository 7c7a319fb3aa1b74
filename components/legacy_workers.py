"""The vLLM Deployments behind the legacy routes: they run until the migration is done."""

from dataclasses import dataclass

import pulumi

from components.patches import deployment_patch, left_in_place
from components.pods import timeouts
from components.rollout import rolled_out
from config.model import StackConfig
from config.phases import ROUTED
from config.sizing import UNKNOWN_SECONDS


@dataclass(frozen=True, kw_only=True)
class LegacyWorkersArgs:
    """The stack whose legacy routes they serve."""

    config: StackConfig


class LegacyWorkers(pulumi.ComponentResource):
    """The number of pods of each: the adopted one, and none once the migration is done.

    Going back to where the gateway leads to them, it waits until they have loaded. In between they run beside it, for
    the next step back. Once they are retired, there is none to count.
    """

    serving: tuple[pulumi.Resource, ...] = ()
    """What the gateway waits for."""

    def __init__(self, name: str, args: LegacyWorkersArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:gateway:LegacyWorkers", name, None, opts)
        self._name, self._config = name, args.config
        self._replicas = args.config.legacy.workers
        if self._replicas and args.config.migration.phase in ROUTED:
            waiting = f"{args.config.gateway.deployment}-legacy"
            self.serving = (
                rolled_out(waiting, args.config, self._stated(), UNKNOWN_SECONDS, parent=self, after=self._patched(())),
            )
        self.register_outputs({"deployments": list(self._replicas)})

    def follow(self, after: tuple[pulumi.Resource, ...]) -> tuple[pulumi.Resource, ...]:
        """Where the gateway does not lead to them, their number once it is so; what states it."""
        return () if self._config.migration.phase in ROUTED else self._patched(after)

    def _patched(self, after: tuple[pulumi.Resource, ...]) -> tuple[pulumi.Resource, ...]:
        return tuple(
            deployment_patch(
                f"{self._name}-{deployment}",
                namespace=self._config.cluster.namespace,
                deployment=deployment,
                spec=spec,
                # not protected: a retired one leaves the stack file
                opts=left_in_place(self, after=after, timeouts=timeouts(UNKNOWN_SECONDS)),
            )
            for deployment, spec in self._stated().items()
        )

    def _stated(self) -> dict[str, dict[str, int]]:
        done = self._config.migration.phase == "done"
        return {deployment: {"replicas": 0 if done else replicas} for deployment, replicas in self._replicas.items()}
