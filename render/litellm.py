"""The LiteLLM gateway's `config.yaml`: one route for each model name that users see."""

from config.backend import Backend, Served
from config.model import StackConfig
from render.budget import budget
from render.document import Document
from render.llama_server import base_url


def litellm(config: StackConfig) -> Document:
    """LiteLLM's document (https://docs.litellm.ai/docs/proxy/configs); it names the master key, never holds it."""
    return {
        "model_list": [route(config, backend, served) for backend in config.backends for served in backend.models],
        # a second try would outlive the drain that the first one fits into, and cost the GPU the answer twice
        "router_settings": {"num_retries": 0},
        "general_settings": {"master_key": "os.environ/LITELLM_MASTER_KEY"},
    }


def api_base(config: StackConfig, backend: Backend) -> str:
    """Where LiteLLM sends a backend's requests, as its answers' `x-litellm-model-api-base` header tells."""
    return f"{base_url(config, backend)}/v1"


def route(config: StackConfig, backend: Backend, served: Served) -> Document:
    """One entry of `model_list`."""
    seconds = budget(backend).request
    return {
        "model_name": served.name,
        "litellm_params": {
            "model": f"openai/{served.name}",
            "api_base": api_base(config, backend),
            "api_key": "unused",  # LiteLLM's OpenAI client wants one; llama-server asks for none
            "timeout": seconds,
            "stream_timeout": seconds,
            # llama-server hangs up after a stream and says keep-alive nevertheless (b11434): 46 of 1739 requests that
            # LiteLLM sent along a kept connection failed under 8 clients, and with this 0 of 1290
            "extra_headers": {"Connection": "close"},
        },
    }
