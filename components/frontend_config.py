"""What the LibreChat in front of the gateway lists."""

from dataclasses import dataclass

import pulumi
from pulumi_kubernetes.core.v1 import ConfigMap

from components.pods import metadata
from config.model import StackConfig
from render.document import to_yaml
from render.librechat import librechat


@dataclass(frozen=True, kw_only=True)
class FrontendConfigArgs:
    """The stack whose names users see."""

    config: StackConfig
    after: tuple[pulumi.Resource, ...] = ()
    """The gateway: no name is listed before it is routed."""


class FrontendConfig(pulumi.ComponentResource):
    """The ConfigMap with `librechat.yaml`; in mode `none`, mounting it is the operator's.

    Its name is fixed, as a LibreChat of somebody else's mounts it, so its content changes in place.
    """

    config_map: ConfigMap

    def __init__(self, name: str, args: FrontendConfigArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:frontend:FrontendConfig", name, None, opts)
        config, frontend = args.config, args.config.frontend
        self.config_map = ConfigMap(
            f"{name}-librechat",
            metadata=metadata(config.cluster.namespace, frontend.config_map, "librechat-config"),
            data={"librechat.yaml": to_yaml(librechat(config))},
            opts=pulumi.ResourceOptions(parent=self, depends_on=list(args.after)),
        )
        self.register_outputs({"config_map": frontend.config_map})
