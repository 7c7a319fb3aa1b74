"""What users meet: the gateway's names and LibreChat's list of them, never a listed name that nobody routes."""

from collections.abc import Sequence

import pulumi

from components.adopted_gateway import AdoptedGateway
from components.frontend_config import FrontendConfig, FrontendConfigArgs
from components.gateway_routes import GatewayRoutes, GatewayRoutesArgs
from config.model import StackConfig
from config.phases import ROUTED, Reached


def user_side(
    config: StackConfig,
    reached: Reached | None,
    key_version: pulumi.Output[str] | None,
    after: Sequence[pulumi.Resource],
    opts: pulumi.ResourceOptions,
) -> tuple[pulumi.Resource, ...]:
    """Gateway and LibreChat, in the order that the phase asks for; once what is returned stands, all stands.

    `after` is what shows that the backends answer. In phase parallel nothing waits for it: no route leads there, and
    the way back must be open when one of them is broken.
    """
    needed = () if config.gateway.mode == "adopt" and config.migration.phase == "parallel" else tuple(after)

    def gateway(*before: pulumi.Resource) -> AdoptedGateway | GatewayRoutes:
        args = GatewayRoutesArgs(
            config=config, key_version=key_version, after=(*needed, *before), first=reached is None
        )
        return (AdoptedGateway if config.gateway.mode == "adopt" else GatewayRoutes)("gateway", args, opts)

    def frontend(*before: pulumi.Resource) -> FrontendConfig:
        return FrontendConfig("frontend", FrontendConfigArgs(config=config, after=before), opts)

    if config.frontend.mode == "adopt" and config.migration.phase in ROUTED:
        # there LibreChat lists what was adopted, which the gateway routes in each phase
        listed = frontend()
        return (*gateway(*listed.turned).last, *listed.last)
    routed = gateway()
    return (*routed.last, *frontend(routed.ready).last)
