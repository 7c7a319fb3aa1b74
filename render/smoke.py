"""What the smoke tests expect of a backend and of the gateway."""

from config.backend import Backend, PoolBackend, Served
from config.model import StackConfig
from render.budget import GATEWAY_START_SECONDS, SMOKE_SECONDS, budget
from render.document import Document, content_hash
from render.litellm import Routed, gateway_routes
from render.llama_server import SERVER_FLAGS, base_url, model_flags, model_record
from render.llama_swap import llama_swap


def backend_expectation(config: StackConfig, backend: Backend, pods: Document) -> Document:
    """A backend serves exactly its models, under their names, on the GPU if it has layers there."""
    shared = _shared(config, backend)
    return {
        "namespace": config.cluster.namespace,
        "url": base_url(config, backend),
        # Pulumi's own wait for the Deployment may end before its controller has seen the change
        "start_seconds": budget(backend).rollout,
        "models": [
            {**_asked(backend, served), **_weights(backend, served), "content": _content(shared, backend, served)}
            for served in backend.models
        ],
        "gpu_layers": min(served.runtime.gpu_layers for served in backend.models),
        "pods": pods,
    }


def gateway_expectation(config: StackConfig, url: str, content: str) -> Document:
    """The gateway at `url` lists exactly the names of this phase and sends each to its backend.

    `content` is that of the gateway's pod without its routes: a route passed once passes again where both are the same.
    """
    return {
        "namespace": config.cluster.namespace,
        "url": url,
        "start_seconds": GATEWAY_START_SECONDS,
        "models": [_asked_through(routed, content) for routed in gateway_routes(config)],
    }


def gateway_url(config: StackConfig) -> str:
    """The gateway's address inside the cluster."""
    gateway = config.gateway
    return f"http://{gateway.deployment}.{config.cluster.namespace}.svc.cluster.local:{gateway.port}"


def smoke_seconds(backend: Backend) -> int:
    """The most that a backend may take to stand, and then all of its models to be asked."""
    return budget(backend).rollout + budget(backend).smoke * len(backend.models)


def _asked(backend: Backend, served: Served) -> Document:
    """`skip_passed`: a model that an earlier test found in order, and that did not change since, is not asked again."""
    skip_passed = isinstance(backend, PoolBackend) and backend.smoke == "changed" and served.locked is not None
    return {"name": served.name, "deadline_seconds": budget(backend).smoke, "skip_passed": skip_passed}


def _asked_through(routed: Routed, content: str) -> Document:
    """A name as the gateway answers to it; a legacy one has no deadline of a backend's."""
    legacy = {"name": routed.name, "deadline_seconds": SMOKE_SECONDS, "skip_passed": False}
    asked = _asked(routed.backend, routed.served) if routed.backend and routed.served else legacy
    return {
        **asked,
        "name": routed.name,
        "content": content_hash([content, *(routed.entries or [routed.alias])]),
        "api_base": routed.api_base,
        **({"hidden": True} if routed.hidden else {}),
    }


def _weights(backend: Backend, served: Served) -> Document:
    """What the lock knows of the weights, and where the server that has loaded them tells of them."""
    swapped = isinstance(backend, PoolBackend) and backend.engine == "llama-swap"
    shape = served.shape
    return {
        "weights": {"parameters": shape.parameters, "bytes": shape.tensor_bytes} if shape else None,
        # llama-swap's own list tells nothing of weights
        "weights_at": f"/upstream/{served.name}/v1/models" if swapped else "/v1/models",
    }


def _shared(config: StackConfig, backend: Backend) -> str:
    """Changes whenever anything does that all models of a backend share: memory, GPU, engine, hub."""
    engine: Document = dict(SERVER_FLAGS)
    if isinstance(backend, PoolBackend) and backend.engine == "llama-swap":
        whole = llama_swap(backend)
        engine |= {key: value for key, value in whole.items() if key not in {"models", "routing", "healthCheckTimeout"}}
    # what follows from the models' sizes says nothing of those that stay as they are
    follows = {"models", "volume_gib", "volume_given", "startup_seconds", "load_seconds"}
    return content_hash([backend.model_dump(mode="json", exclude=follows), engine, config.hub.endpoint])


def _content(shared: str, backend: Backend, served: Served) -> str:
    """Changes whenever this model's server does, its files or what it shares with the others."""
    return content_hash([shared, model_flags(backend, served), model_record(backend, served)])
