"""What the LibreChat in front of the gateway lists."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from components.adopted_pod import Object
from components.patches import config_map_patch, deployment_patch, left_in_place
from components.pods import metadata, timeouts
from components.rollout import rolled_out
from config.model import StackConfig
from render.budget import SCHEDULING_SECONDS
from render.document import content_hash
from render.librechat import frontend_text

READ = "llama-chat/librechat"
"""The annotation of LibreChat's pods: the hash of the document that they have read, where it is not the adopted one."""
ROLLED_SECONDS = SCHEDULING_SECONDS + 300
"""What LibreChat may take until it is ready."""
WAY_BACK_SECONDS = 120
"""What the way back to phase parallel waits for that, at most."""


@dataclass(frozen=True, kw_only=True)
class FrontendConfigArgs:
    """The stack whose names users see."""

    config: StackConfig
    after: tuple[pulumi.Resource, ...] = ()
    """What comes before users are shown other names."""


class FrontendConfig(pulumi.ComponentResource):
    """The ConfigMap with `librechat.yaml`: in mode `none` ours, to be mounted by the operator; in `adopt` the live one.

    Its name is fixed, as a LibreChat of somebody else's mounts it, so its content changes in place. An adopted
    LibreChat, which reads it at its start alone, is then rolled in the way that it has.
    """

    turned: tuple[pulumi.Resource, ...] = ()
    """Of an adopted one: once these stand, users are shown the phase's names; or, on the way back to phase parallel,
    LibreChat had time enough for it: one that does not get ready must not bar that way."""
    last: tuple[pulumi.Resource, ...]
    """Once these stand, users are shown the phase's names."""

    def __init__(self, name: str, args: FrontendConfigArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:frontend:FrontendConfig", name, None, opts)
        config, frontend = args.config, args.config.frontend
        text = frontend_text(config)
        if frontend.mode == "adopt":
            stated = frontend_patch(config, text)
            made, patched = self._patched(name, args, text, stated)
            back = config.migration.phase == "parallel"
            read: str | None = stated["template"]["metadata"]["annotations"].get(READ)
            rolled = rolled_out(
                f"{frontend.deployment}-rollout",
                config,
                {frontend.deployment: stated},
                WAY_BACK_SECONDS if back else ROLLED_SECONDS,
                parent=self,
                # Pulumi's wait for the patch fails with LibreChat
                after=[made] if back else [made, patched],
                annotations={READ: read},
                bars=not back,
                phase=config.migration.phase,
            )
            self.turned = (made, rolled)
            self.last = (made, patched, rolled)
        else:
            ours = ConfigMap(
                f"{name}-librechat",
                metadata=metadata(config.cluster.namespace, frontend.config_map, "librechat-config"),
                data={"librechat.yaml": text},
                opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
            )
            self.last = (ours,)
        self.register_outputs({"config_map": frontend.config_map})

    def _patched(self, name: str, args: FrontendConfigArgs, text: str, stated: Object) -> tuple[pulumi.Resource, ...]:
        config, frontend = args.config, args.config.frontend
        protect = config.migration.phase != "parallel"
        made = config_map_patch(
            f"{name}-routes",
            namespace=config.cluster.namespace,
            config_map=frontend.config_map,
            data={frontend.config_key: text},
            opts=left_in_place(self, after=args.after, protect=protect),
        )
        patched = deployment_patch(
            f"{name}-deployment",
            namespace=config.cluster.namespace,
            deployment=frontend.deployment,
            spec=stated,
            opts=left_in_place(self, after=[made], protect=protect, timeouts=timeouts(ROLLED_SECONDS)),
        )
        return made, patched


def frontend_patch(config: StackConfig, text: str) -> Object:
    """What the live Deployment's `spec` states of ours: which document its pods have read.

    The adopted one they have read already: nothing is restarted for it.
    """
    read = {} if text == config.adopted.librechat else {READ: content_hash(text)}
    return {"template": {"metadata": {"annotations": read}}}
