"""The LiteLLM gateway's `config.yaml`: one route for each model name that users see."""

from config.model import Backend, StackConfig
from render.document import Document
from render.llama_server import base_url

DRAIN_MARGIN_SECONDS = 10
"""A request ends this long before the drain of the pod that answers it would."""


def litellm(config: StackConfig) -> Document:
    """LiteLLM's document (https://docs.litellm.ai/docs/proxy/configs); it names the master key, never holds it."""
    return {
        "model_list": [_route(config, backend) for backend in config.backends],
        # a second try would outlive the drain that the first one fits into, and cost the GPU the answer twice
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def api_base(config: StackConfig, backend: Backend) -> str:
    """Where LiteLLM sends a backend's requests, as its answers' `x-litellm-model-api-base` header tells."""
    return f"{base_url(config, backend)}/v1"


def _route(config: StackConfig, backend: Backend) -> Document:
    seconds = backend.grace_seconds - DRAIN_MARGIN_SECONDS
    return {
        "model_name": backend.model.name,
        "litellm_params": {
            "model": f"openai/{backend.model.name}",
            "api_base": api_base(config, backend),
            "api_key": "unused",  # LiteLLM's OpenAI client wants one; llama-server asks for none
            "timeout": seconds,
            "stream_timeout": seconds,
        },
    }
