"""Look before you apply: what the stack names must exist, or nothing is changed."""

from collections.abc import Iterator, Mapping
from typing import Any, cast

from config.backend import Backend
from config.errors import ConfigError, Problem, UserError
from config.kubeconfig import require_context
from config.model import StackConfig
from config.parts import NO_GPU, SecretKey, Toleration
from ops.kube import Kube

EXTERNAL_SECRETS = "externalsecrets.external-secrets.io"


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
            yield from _node(backend, cast("dict[str, Any]", nodes[backend.host]))


def _node(backend: Backend, node: dict[str, Any]) -> Iterator[Problem]:
    key = f"llama-chat:nodes.{backend.role}"
    free = int(node["status"].get("allocatable", {}).get(backend.gpu.resource, "0"))
    if backend.gpu.resource != NO_GPU and free < backend.gpu.count:
        remedy = f"node {backend.host} has {free} of {backend.gpu.resource}: correct the node, gpu or its driver"
        yield Problem(key=key, value=backend.host, remedy=remedy)
    for taint in node.get("spec", {}).get("taints", []):
        # those of Kubernetes' own tell a node's condition, and go with it
        keeps_out = taint["effect"] != "PreferNoSchedule" and not taint["key"].startswith("node.kubernetes.io/")
        if keeps_out and not any(_tolerates(it, taint) for it in backend.tolerations):
            told = f"{taint['key']}={taint.get('value', '')}:{taint['effect']}"
            yield Problem(key=key, value=backend.host, remedy=f"the node has the taint {told}: add it to tolerations")


def _tolerates(toleration: Toleration, taint: Mapping[str, str]) -> bool:
    """Kubernetes' own rule (https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/)."""
    same_value = toleration.operator == "Exists" or (toleration.value or "") == taint.get("value", "")
    return toleration.key == taint["key"] and same_value and toleration.effect in {None, taint["effect"]}


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
    keys = {"gateway.master_key_secret": config.gateway.master_key_secret, "hub.token_secret": config.hub.token_secret}
    # what is not among these the stack makes itself
    named = [(f"llama-chat:{key}", secret) for key, secret in keys.items() if secret and secret in config.named_secrets]
    for key, secret in named:
        if secret.external is None:
            yield from _secret(key, secret, kube)
    if config.external_secrets and EXTERNAL_SECRETS not in kube.items("customresourcedefinitions"):
        remedy = "the cluster has no External Secrets Operator: install it, or make the Secret and leave external out"
        yield from (
            Problem(key=f"{key}.external.store", value=secret.external.store, remedy=remedy)
            for key, secret in named
            if secret.external
        )
    for name in sorted(set(config.pull_secrets).union(*(backend.pull_secrets for backend in config.backends))):
        if kube.secret_keys(name) is None:
            remedy = f"namespace {kube.namespace} has no such Secret: make it (kubectl create secret docker-registry)"
            yield Problem(key="llama-chat:pull_secrets", value=name, remedy=remedy)


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
    keys = {backend.name: "llama-chat:statics[].role" for backend in config.pinned}
    keys |= {backend.name: "llama-chat:pools[].role" for backend in config.pooled}
    keys[config.gateway.deployment] = "llama-chat:gateway.deployment"
    kinds = {"deployments": keys, "services": keys}
    kinds["configmaps"] = {config.frontend.config_map: "llama-chat:frontend.config_map"}
    if config.has_master_key:
        kinds["secrets"] = {config.gateway.master_key_secret.name: "llama-chat:gateway.master_key_secret.name"}
    for kind, names in kinds.items():
        for name, labels in kube.labels(kind).items():
            if name in names and labels.get("app.kubernetes.io/instance") != stack:
                remedy = f"one of the {kind} has that name already and is not stack {stack}'s: choose another name"
                yield Problem(key=names[name], value=name, remedy=remedy)
