"""What ran before, in the runbook's shape: three vLLM routes behind LiteLLM, and LibreChat with two endpoints."""

from copy import deepcopy
from typing import Any

from config.legacy import Adopted
from config.model import StackConfig
from tests.conftest import VALUES, stack_config

LITELLM = """\
# cluster/apps/ai/vllm-general/litellm-configmap.yaml
model_list:
  - model_name: general-chat   # users' default
    litellm_params:
      model: hosted_vllm/Qwen/Qwen3-32B
      api_base: http://vllm-general.ai.svc.cluster.local:8000/v1
      api_key: unused
      timeout: 600
  - model_name: code-chat
    litellm_params:
      model: hosted_vllm/Qwen/Qwen3-Coder-30B-A3B-Instruct
      api_base: http://vllm-code.ai.svc.cluster.local:8000/v1
      api_key: os.environ/LEGACY_KEY_1
      timeout: 900
    model_info:
      access_groups: [developers]
  - model_name: reasoning-chat
    litellm_params:
      model: hosted_vllm/deepseek-ai/DeepSeek-R1-Distill-Qwen-32B
      api_base: http://vllm-reasoning.ai.svc.cluster.local:8000/v1
      stream_timeout: 1200
      timeout: 1200
litellm_settings:
  drop_params: true   # LibreChat sends what vLLM does not know
router_settings:
  num_retries: 2
  routing_strategy: simple-shuffle
general_settings:
  master_key: os.environ/LITELLM_MASTER_KEY
"""
LIBRECHAT = """\
# cluster/apps/ai/librechat/librechat-yaml-configmap.yaml
version: 1.2.1
cache: true
interface:
  privacyPolicy:
    externalUrl: https://example.org/privacy
endpoints:
  custom:
    - name: vLLM
      apiKey: ${LITELLM_MASTER_KEY}
      baseURL: http://llm-gateway.ai.svc.cluster.local:4000/v1
      models:
        default: [general-chat, code-chat, reasoning-chat]
        fetch: false
      tokenConfig:
        general-chat: {prompt: 0, completion: 0, context: 32768}
      titleConvo: true
      titleModel: current_model
      modelDisplayLabel: Our GPUs
    - name: OpenRouter
      apiKey: ${OPENROUTER_KEY}
      baseURL: https://openrouter.ai/api/v1
      models:
        default: [meta-llama/llama-3-70b-instruct]
        fetch: true
"""
REPLACED = {
    "general-chat": "GLM-4.7-Flash",
    "code-chat": "Qwen3-Coder-30B-A3B",
    "reasoning-chat": "DeepSeek-R1-Distill",
}


def deployment(name: str, *, replicas: int = 1, **pod: Any) -> dict[str, Any]:  # noqa: ANN401 - a pod's spec
    """A Deployment as `make adopt` keeps it."""
    labels = {"app": name}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": name, "namespace": "ai", "labels": labels},
        "spec": {
            "replicas": replicas,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": pod},
        },
    }


GATEWAY = deployment(
    "llm-gateway",
    containers=[
        {
            "name": "litellm",
            "image": "ghcr.io/berriai/litellm:main-v1.80.5-stable",
            "args": ["--config", "/app/config.yaml"],
            "env": [
                {"name": "LITELLM_MASTER_KEY", "valueFrom": {"secretKeyRef": {"name": "litellm", "key": "master-key"}}}
            ],
            "volumeMounts": [{"name": "config", "mountPath": "/app/config.yaml", "subPath": "config.yaml"}],
        }
    ],
    volumes=[{"name": "config", "configMap": {"name": "litellm-config"}}],
)
FRONTEND = deployment(
    "librechat",
    containers=[
        {
            "name": "librechat",
            "image": "ghcr.io/danny-avila/librechat:v0.8.1",
            "volumeMounts": [{"name": "config", "mountPath": "/app/librechat.yaml", "subPath": "librechat.yaml"}],
        }
    ],
    volumes=[{"name": "config", "configMap": {"name": "librechat-config"}}],
)


def adopting_values(phase: str = "parallel", **migration: object) -> dict[str, Any]:
    """The stack file's values of a stack that adopts both."""
    values: dict[str, Any] = {
        **deepcopy(VALUES),
        "frontend": {"mode": "adopt", "endpoint_name": "vLLM"},
        "legacy": {
            "keys_secret": "llm-gateway-legacy-keys",
            "keys": ["LEGACY_KEY_1"],
            "routes": [
                {
                    "name": name,
                    "deployment": f"vllm-{name.removesuffix('-chat')}",
                    "node": f"gpu-node-{number}",
                    "replicas": 1,
                    "replaced_by": replaced_by,
                }
                for number, (name, replaced_by) in enumerate(REPLACED.items(), start=1)
            ],
        },
        "migration": {"phase": phase, **migration},
    }
    values["gateway"]["mode"] = "adopt"
    return values


def adopted(litellm: str = LITELLM, librechat: str = LIBRECHAT) -> Adopted:
    """What `make adopt` found."""
    return Adopted(litellm=litellm, librechat=librechat, gateway=deepcopy(GATEWAY), frontend=deepcopy(FRONTEND))


def adopting(phase: str = "parallel", found: Adopted | None = None, **migration: object) -> StackConfig:
    """The config of that stack in a phase."""
    return stack_config(adopting_values(phase, **migration)).with_adopted(found or adopted())
