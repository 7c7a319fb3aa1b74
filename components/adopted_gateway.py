"""The LiteLLM gateway in mode `adopt`: one that runs already gets our routes, and everything else of it stays."""

from collections.abc import Sequence
from typing import cast

import pulumi
from pulumi_kubernetes.batch.v1 import Job
from pulumi_kubernetes.rbac.v1 import PolicyRuleArgsDict

from components.adopted_pod import Object, around_a_copy, copied, copied_volumes, pod_spec, reader, with_env
from components.connections import ENDPOINT_REMOVAL_SECONDS, hook_env, hook_files, stop_command
from components.content import config_map
from components.gateway_routes import (
    ALL_AT_ONCE,
    KEY_ANNOTATION,
    ROLLED_SECONDS,
    Candidate,
    GatewayRoutesArgs,
    candidate_test,
    connection_env,
    drain_seconds,
    last_answer_seconds,
)
from components.legacy_workers import LegacyWorkers, LegacyWorkersArgs
from components.patches import config_map_patch, deployment_patch, left_in_place
from components.pods import secret_env, timeouts
from components.rollout import rolled_out
from components.script_job import Script, script_job
from components.smoke_test import SmokeTest
from config.legacy import FIELD_MANAGER
from config.model import StackConfig
from render.document import content_hash, content_name
from render.litellm import gateway_text

DRAINS = "llama-chat/drains"
"""The annotation of the gateway's pods that drain; its value is the hash of what they were made of."""
PROGRESS_SECONDS = 600
"""Kubernetes' own default of `progressDeadlineSeconds`."""
HOOK_MOUNT = {"name": "llama-chat", "mountPath": "/llama-chat"}
"""Where the adopted pods have our hook."""
SERVERS_THAT_CUT = ("--run_gunicorn", "--run_hypercorn", "--run_granian")
PATIENCE_SECONDS = 120
"""How long a handover waits for a moment in which an old pod answers nothing; after that it ends its connections."""
STEPS_SECONDS = 600
"""What a handover may take beside the new pods' start and the old pods' last answers."""


class AdoptedGateway(pulumi.ComponentResource):
    """A candidate of the adopted pod with the new routes, then the live ConfigMap and Deployment, patched.

    The candidate runs in the smoke test's own pod: until it was asked every name, nothing of the live gateway changes.
    On the way back to phase parallel it is asked afterwards: that way must be short and open whatever it finds. The
    adopted pods end without a drain: the handover, a Job, replaces them without losing a request before the Deployment
    is patched. From then on each change rolls pods that drain. (`kubectl rollout undo` does not lead back behind the
    handover: the adopted Deployment lies in `legacy/<stack>/gateway.yaml`.) At first the pods change before the
    document does: its new text may refer to variables that only they have.

    Neither the ConfigMap nor the Deployment is read here: their whole content, keys and all, would be in the state.
    """

    ready: pulumi.Resource
    """What comes after the gateway waits for it."""
    last: tuple[pulumi.Resource, ...]
    """Once these stand, the gateway's part of the phase does."""

    def __init__(self, name: str, args: GatewayRoutesArgs, opts: pulumi.ResourceOptions | None = None) -> None:
        super().__init__("llama-chat:gateway:AdoptedGateway", name, None, opts)
        config, gateway = args.config, args.config.gateway
        self._name, self._args, self._text = name, args, gateway_text(config)
        _, self._hook = config_map(
            _connections(config),
            namespace=config.cluster.namespace,
            app=gateway.deployment,
            data=hook_files(),
            parent=self,
            # the gateway's pods, which outlive the stack, mount it
            retained=True,
        )
        warn_of_servers_that_cut(config)
        workers = LegacyWorkers(f"{name}-legacy", LegacyWorkersArgs(config=config), pulumi.ResourceOptions(parent=self))
        before = (*args.after, *workers.serving)
        if config.migration.phase != "parallel":
            self.ready = self._pods(self._routes(self._candidate(*before)))
            self.last = (self.ready, *workers.follow((self.ready,)))
        elif args.first:
            self.ready = self._routes(self._pods(self._candidate(*before)))
            self.last = (self.ready,)
        else:
            self.ready = self._pods(self._routes(*before))
            self.last = (self.ready, self._candidate(self.ready))
        self.register_outputs({"config_map": gateway.config_map, "deployment": gateway.deployment})

    def _candidate(self, *after: pulumi.Resource) -> pulumi.Resource:
        config, gateway = self._args.config, self._args.config.gateway
        files, files_map = config_map(
            gateway.config_map,
            namespace=config.cluster.namespace,
            app=gateway.deployment,
            data={gateway.config_key: self._text},
            parent=self,
        )
        test = candidate_test(config, adopted_candidate(config, files), (*after, files_map, self._hook))
        return SmokeTest(*test, pulumi.ResourceOptions(parent=self)).job

    def _routes(self, *after: pulumi.Resource) -> pulumi.Resource:
        config, gateway = self._args.config, self._args.config.gateway
        return config_map_patch(
            f"{self._name}-routes",
            namespace=config.cluster.namespace,
            config_map=gateway.config_map,
            data={gateway.config_key: self._text},
            opts=left_in_place(self, after=after, protect=config.migration.phase != "parallel"),
        )

    def _pods(self, *after: pulumi.Resource) -> pulumi.Resource:
        config, version = self._args.config, self._args.key_version
        deployment, patch = config.gateway.deployment, gateway_patch(config, self._text)
        seconds = config.gateway_pods * ROLLED_SECONDS
        patched = deployment_patch(
            f"{self._name}-deployment",
            namespace=config.cluster.namespace,
            deployment=deployment,
            spec=_annotated(patch, {KEY_ANNOTATION: version} if version else {}),
            opts=left_in_place(
                self,
                after=[*after, self._handover(config, patch, (*after, self._hook))],
                protect=config.migration.phase != "parallel",
                timeouts=timeouts(seconds, drain=drain_seconds(config)),
            ),
        )
        return rolled_out(f"{deployment}-rollout", config, {deployment: patch}, seconds, parent=self, after=[patched])

    def _handover(self, config: StackConfig, patch: Object, after: Sequence[pulumi.Resource]) -> Job:
        script = Script(
            name="handover",
            modules=("handover_pods.py", "cluster_objects.py", "smoke_client.py", "smoke_pods.py"),
            record=handover_plan(config, patch),
            rules=handover_rules(config),
            env=secret_env("LITELLM_MASTER_KEY", config.gateway.master_key_secret),
            seconds=ROLLED_SECONDS + PATIENCE_SECONDS + last_answer_seconds(config) + STEPS_SECONDS,
        )
        return script_job(f"{config.gateway.deployment}-drain", config, script, self, after)


def gateway_patch(config: StackConfig, text: str) -> Object:
    """What the live Deployment's `spec` states of ours: so many pods, never fewer while they change, that drain."""
    adopted = config.adopted.gateway
    spec, pod = cast("Object", adopted)["spec"], pod_spec(adopted)
    grace = max(drain_seconds(config), pod.get("terminationGracePeriodSeconds", 0))
    ours = _drained(config, _server(config))
    # all by name: Pulumi compares lists place by place
    containers = [ours if it["name"] == ours["name"] else {"name": it["name"]} for it in pod["containers"]]
    volumes = [{"name": it["name"]} for it in pod.get("volumes", ())]
    template = {
        "terminationGracePeriodSeconds": grace,
        "containers": containers,
        "volumes": [*volumes, hook_volume(config)],
    }
    return {
        "replicas": config.gateway_pods,
        "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": ALL_AT_ONCE}},
        # as they are: a handover holds them for a while
        **{name: spec[name] for name in ("minReadySeconds",) if spec.get(name)},
        "progressDeadlineSeconds": spec.get("progressDeadlineSeconds", PROGRESS_SECONDS),
        "template": {
            "metadata": {"annotations": {DRAINS: content_hash([text, template])}},
            "spec": template,
        },
    }


def _drained(config: StackConfig, server: Object) -> Object:
    """What the server's container states of ours; a hook and a probe of its own stay."""
    named = {"name": server["name"], "env": [{"name": it["name"]} for it in server.get("env", ())]}
    stated = with_env(named, *cast("list[Object]", connection_env(config)), *hooked(config, server))
    mounts = [{"name": it["name"], "mountPath": it["mountPath"]} for it in server.get("volumeMounts", ())]
    stated["volumeMounts"] = [*mounts, HOOK_MOUNT]
    if "preStop" not in server.get("lifecycle", {}):
        stated["lifecycle"] = {"preStop": {"exec": {"command": stop_command()}}}
    if "readinessProbe" not in server:
        # without one a pod gets requests before it listens
        probe = {"httpGet": {"path": "/health/readiness", "port": _port(config), "scheme": "HTTP"}}
        seconds = {"periodSeconds": 2, "timeoutSeconds": 5}
        # as with the hook's volume
        stated["readinessProbe"] = {**probe, **seconds, "successThreshold": 1, "failureThreshold": 3}
    return stated


def adopted_candidate(config: StackConfig, files: str) -> Candidate:
    """The adopted pod with the new document, as sidecars of the smoke test."""
    gateway, pod = config.gateway, pod_spec(config.adopted.gateway)
    server = _server(config)
    mounted = {**server, "volumeMounts": [*server.get("volumeMounts", ()), HOOK_MOUNT]}
    around = {**pod, "volumes": [*pod.get("volumes", ()), hook_volume(config)]}
    containers = copied(around, with_env(mounted, *hooked(config, server)))
    return Candidate(
        containers=containers,
        volumes=copied_volumes(around, gateway.config_map, gateway.config_key, files),
        content=content_hash([containers, hook_files()]),
        port=_port(config),
        pod=around_a_copy(pod, list(config.pull_secrets)),
    )


def hooked(config: StackConfig, server: Object) -> list[Object]:
    """The adopted keys, and what has LiteLLM call our hook at its start."""
    hook = hook_env(HOOK_MOUNT["mountPath"], server.get("env", ())) if config.gateway.close_connections else []
    return [*legacy_keys(config), *hook]


def hook_volume(config: StackConfig) -> Object:
    """The hook as a volume of the adopted pods.

    Its mode is Kubernetes' own default. It is stated, since what a patch leaves to a default is nobody's: it would be
    taken for the adopted pods' own.
    """
    files = {"name": content_name(_connections(config), hook_files()), "defaultMode": 0o644}
    return {"name": HOOK_MOUNT["name"], "configMap": files}


def _connections(config: StackConfig) -> str:
    return f"{config.gateway.deployment}-connections"


def legacy_keys(config: StackConfig) -> list[Object]:
    """The keys that the adopted document held in plain, as variables from the Secret that holds them now."""
    secret = config.legacy.keys_secret
    return [{"name": key, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}} for key in config.legacy.keys]


def handover_plan(config: StackConfig, patch: Object) -> Object:
    """handover.json."""
    return {
        "namespace": config.cluster.namespace,
        "deployment": config.gateway.deployment,
        "manager": FIELD_MANAGER,
        "patch": patch,
        "mark": DRAINS,
        "start_seconds": ROLLED_SECONDS,
        "settle_seconds": ENDPOINT_REMOVAL_SECONDS,
        "patience_seconds": PATIENCE_SECONDS,
        "drain_seconds": last_answer_seconds(config),
        "port": _port(config),
    }


def handover_rules(config: StackConfig) -> list[PolicyRuleArgsDict]:
    """What the handover may do: with pods and ReplicaSets, which have no fixed names, in the whole namespace."""
    return [
        {"api_groups": [""], "resources": ["pods"], "verbs": ["list", "patch", "delete"]},
        {"api_groups": [""], "resources": ["services"], "verbs": ["list"]},
        {"api_groups": ["apps"], "resources": ["replicasets"], "verbs": ["get", "list", "delete"]},
        {
            "api_groups": ["apps"],
            "resources": ["deployments"],
            "resource_names": [config.gateway.deployment],
            "verbs": ["get", "patch"],
        },
    ]


def warn_of_servers_that_cut(config: StackConfig) -> None:
    """LiteLLM's other servers end answers half a minute after they are told to, or sooner, whatever we state."""
    server = _server(config)
    words = [*server.get("command", ()), *server.get("args", ())]
    if other := next((flag for flag in SERVERS_THAT_CUT if flag in " ".join(words)), None):
        pulumi.warn(
            f"{config.gateway.deployment} runs LiteLLM with {other}: that server cuts long answers when its pod is "
            f"replaced. Take {other} out of its arguments before you go on: uvicorn, the default, does not cut them."
        )


def _server(config: StackConfig) -> Object:
    return reader(pod_spec(config.adopted.gateway), config.gateway.config_map)


def _port(config: StackConfig) -> int:
    """Where LiteLLM listens in its pod; the Service's port may be another one."""
    ports = [it["containerPort"] for it in _server(config).get("ports", ())]
    return ports[0] if ports and config.gateway.port not in ports else config.gateway.port


def _annotated(patch: Object, more: dict[str, pulumi.Output[str]]) -> Object:
    template = patch["template"]
    annotations = {**template["metadata"]["annotations"], **more}
    return {**patch, "template": {**template, "metadata": {"annotations": annotations}}}
