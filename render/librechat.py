"""LibreChat's `librechat.yaml`: one endpoint, the gateway, and the model names that users pick from."""

from typing import cast

from config.legacy import Parsed, listed_name, part
from config.model import StackConfig
from config.parts import Runtime
from config.phases import LISTED
from render.document import Document, to_yaml
from render.smoke import gateway_url

CONFIG_VERSION = "1.3.17"
"""What LibreChat compares `version` with: `Constants.CONFIG_VERSION` in npm's librechat-data-provider 0.8.524."""


def librechat(config: StackConfig) -> Document:
    """LibreChat's document (https://www.librechat.ai/docs/configuration/librechat_yaml).

    It names the variable that holds the gateway's key, never the key. A LibreChat whose own config version is below
    1.3.8 refuses the whole file, as it does not know `summarization`.
    """
    return {
        "version": CONFIG_VERSION,
        # on unless said otherwise: each summary would have a GPU read a full context once more while the user waits
        "summarization": {"enabled": False},
        "endpoints": {"custom": [endpoint(config)]},
    }


def endpoint(config: StackConfig) -> Document:
    """The gateway's entry in `endpoints.custom`."""
    frontend = config.frontend
    return {
        "name": frontend.endpoint_name,
        "modelDisplayLabel": frontend.endpoint_name,
        "baseURL": f"{gateway_url(config)}/v1",
        "apiKey": f"${{{frontend.api_key_variable}}}",
        "models": {"default": list(config.exposed_names), "fetch": False},
        "tokenConfig": _token_configs(config),
        "titleConvo": True,
        # the chat's own model, while it answers: any other, or a later time, could make a pool swap for a title
        "titleModel": "current_model",
        "titleTiming": "immediate",
    }


def frontend_text(config: StackConfig) -> str:
    """The text that LibreChat reads; an adopted one, byte for byte, until the phase that lists our names."""
    if config.frontend.mode == "none":
        return to_yaml(librechat(config))
    if config.migration.phase not in LISTED:
        return config.adopted.librechat
    return to_yaml(_adopted(config))


def _adopted(config: StackConfig) -> Document:
    """The adopted document, whose endpoint lists our names."""
    document = config.adopted.picker
    custom = [
        _relisted(config, entry) if entry["name"] == config.frontend.endpoint_name else entry
        for entry in document["endpoints"]["custom"]
    ]
    return {**document, "endpoints": {**document["endpoints"], "custom": custom}}


def _relisted(config: StackConfig, entry: Parsed) -> Document:
    """Our names first, then those of the adopted list that still answer."""
    models = part(entry, "models")
    gone = {*config.exposed_names, *(config.legacy.replaced if config.migration.renamed else ())}
    kept = [it for it in cast("list[object]", models.get("default") or []) if listed_name(it) not in gone]
    made: Document = {**entry, "models": {**models, "default": [*config.exposed_names, *kept]}}
    if "tokenConfig" in entry:
        ours, told = _token_configs(config), part(entry, "tokenConfig")
        moved = {old: ours[new] for old, new in config.legacy.replaced.items() if old in told}
        made["tokenConfig"] = {**told, **moved, **ours}
    return made


def _token_configs(config: StackConfig) -> dict[str, Document]:
    return {served.name: _token_config(served.runtime) for backend in config.backends for served in backend.models}


def _token_config(runtime: Runtime) -> Document:
    """`context`: the tokens that LibreChat may fill with a conversation.

    Without it LibreChat guesses (https://github.com/danny-avila/LibreChat/issues/14228), and it keeps no room for the
    answer. We keep room for the longest one, but for no more than half of the slot.
    """
    answer = min(runtime.max_tokens, runtime.context_size // 2)
    # prices, which LibreChat demands: tokens from one's own GPU have none
    return {"prompt": 0, "completion": 0, "context": runtime.context_size - answer}
