"""Look before you apply: what the stack names must exist, or nothing is changed."""

from collections.abc import Iterator
from typing import cast

from config.errors import ConfigError, Problem, UserError
from config.kubeconfig import require_context
from config.model import SecretKey, StackConfig
from ops.kube import Kube


def preflight(config: StackConfig, kube: Kube, stack: str) -> None:
    """ConfigError with all that the cluster lacks, or has of somebody else's; UserError where it does not answer."""
    require_context(config.cluster.context)
    complaint = kube.fails("get", "--raw", "/version")
    if complaint:
        raise UserError(
            f"llama-chat:cluster.context: {config.cluster.context}: its API server does not answer ({complaint}): "
            f"start the cluster, or correct the context's server and credentials."
        )
    problems = (
        *_nodes(config, kube),
        *_storage(config, kube),
        *_namespace(config, kube),
        *_secrets(config, kube),
        *_strangers(config, kube, stack),
    )
    if problems:
        raise ConfigError(problems)


def _nodes(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    nodes = kube.items("nodes")
    for role, host in config.nodes.items():
        if host not in nodes:
            remedy = f"the cluster has no such node: it has {', '.join(sorted(nodes))}"
            yield Problem(key=f"llama-chat:nodes.{role}", value=host, remedy=remedy)
    for backend in config.backends:
        if backend.host in nodes:
            status = cast("dict[str, dict[str, str]]", nodes[backend.host]["status"])
            free = int(status.get("allocatable", {}).get(backend.gpu.resource, "0"))
            if free < backend.gpu.count:
                remedy = (
                    f"node {backend.host} has {free} of {backend.gpu.resource}: correct the node, gpu or its driver"
                )
                yield Problem(key=f"llama-chat:nodes.{backend.role}", value=backend.host, remedy=remedy)


def _storage(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    classes = kube.items("storageclasses")
    for name in sorted({backend.storage.class_name for backend in config.backends} - set(classes)):
        remedy = f"the cluster has no such StorageClass: it has {', '.join(sorted(classes)) or 'none'}"
        yield Problem(key="llama-chat:storage.class_name", value=name, remedy=remedy)


def _namespace(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    cluster = config.cluster
    if not cluster.create_namespace and cluster.namespace not in kube.items("namespaces"):
        remedy = "the cluster has no such namespace: make it, or set create_namespace: true"
        yield Problem(key="llama-chat:cluster.namespace", value=cluster.namespace, remedy=remedy)


def _secrets(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    if not config.has_master_key:  # else the stack makes that Secret itself
        yield from _secret("llama-chat:gateway.master_key_secret", config.gateway.master_key_secret, kube)
    if config.hub.token_secret:
        yield from _secret("llama-chat:hub.token_secret", config.hub.token_secret, kube)


def _secret(key: str, secret: SecretKey, kube: Kube) -> Iterator[Problem]:
    keys = kube.secret_keys(secret.name)
    if keys is None:
        remedy = f"namespace {kube.namespace} has no such Secret: make it with the key {secret.key}"
        yield Problem(key=f"{key}.name", value=secret.name, remedy=remedy)
    elif secret.key not in keys:
        remedy = f"Secret {secret.name} has no such key: it has {', '.join(keys) or 'none'}"
        yield Problem(key=f"{key}.key", value=secret.key, remedy=remedy)


def _strangers(config: StackConfig, kube: Kube, stack: str) -> Iterator[Problem]:
    """Objects of somebody else's: the provider would take them over without a word (pulumi-kubernetes 4278)."""
    keys = {backend.name: "llama-chat:statics[].role" for backend in config.backends}
    keys[config.gateway.deployment] = "llama-chat:gateway.deployment"
    kinds = {"deployments": keys, "services": keys}
    if config.has_master_key:
        kinds["secrets"] = {config.gateway.master_key_secret.name: "llama-chat:gateway.master_key_secret.name"}
    for kind, names in kinds.items():
        for name, labels in kube.labels(kind).items():
            if name in names and labels.get("app.kubernetes.io/instance") != stack:
                remedy = f"one of the {kind} has that name already and is not stack {stack}'s: choose another name"
                yield Problem(key=names[name], value=name, remedy=remedy)
