"""The Pulumi program: what stands in the cluster, in the order in which it comes to stand."""

import pulumi

from components.cluster import Foundation, provider
from components.node_roles import NodeRoles, NodeRolesArgs
from components.smoke_test import SmokeTest, backend_test
from components.static_backend import StaticBackend, StaticBackendArgs
from components.swap_pool import SwapPool, SwapPoolArgs
from components.user_side import user_side
from config.gate import export_phase, respect_gate
from config.hold import respect_hold
from config.program import load_pulumi, master_key
from render.smoke import gateway_url

respect_hold()
config = load_pulumi()
reached = respect_gate(config)
cluster = pulumi.ResourceOptions(providers=[provider(config)])

foundation = Foundation("foundation", config, master_key(), cluster)
nodes = NodeRoles("nodes", NodeRolesArgs(nodes=config.nodes), cluster)

tested: list[pulumi.Resource] = []
for backend in config.pinned:
    after = (*foundation.resources, nodes.labels[backend.role])
    static = StaticBackend(backend.name, StaticBackendArgs(config=config, backend=backend, after=after), cluster)
    tested.append(SmokeTest(f"{backend.name}-smoke", backend_test(config, backend, static), cluster).job)
for backend in config.pooled:
    after = (*foundation.resources, nodes.labels[backend.role])
    pool = SwapPool(backend.name, SwapPoolArgs(config=config, backend=backend, after=after), cluster)
    tested.append(SmokeTest(f"{backend.name}-smoke", backend_test(config, backend, pool), cluster).job)

standing = user_side(config, reached, foundation.key_version, tested, cluster)

pulumi.export("gateway", gateway_url(config))
pulumi.export("models", {served.name: backend.name for backend in config.backends for served in backend.models})
export_phase(config, reached, standing)
