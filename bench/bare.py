"""The program that somebody would write who has none of our layers: a provider, and one constructor call an object.

Each has the inputs, the order, the protection and the timeouts that were recorded of the real program.
"""

import json
from importlib import import_module
from pathlib import Path

import pulumi
from pulumi_kubernetes import Provider

recorded = json.loads(Path("registrations.json").read_text())
cluster = Provider("cluster", **recorded["provider"])
made: dict[str, pulumi.Resource] = {}
for it in recorded["objects"]:
    kind = getattr(import_module(it["module"]), it["kind"])
    opts = pulumi.ResourceOptions(
        provider=cluster,
        depends_on=[made[key] for key in it["depends_on"]],
        custom_timeouts=pulumi.CustomTimeouts(**it["timeouts"]) if it["timeouts"] else None,
        protect=it["protect"],
        retain_on_delete=it["retain_on_delete"],
    )
    read = (it["id"],) if it["id"] else ()
    made[it["key"]] = (kind.get if read else kind)(it["name"], *read, **it["inputs"], opts=opts)
