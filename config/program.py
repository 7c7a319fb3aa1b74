"""The stack config as `pulumi up` hands it to the program."""

import json
from pathlib import Path

import pulumi
from pulumi.runtime.config import CONFIG, is_config_secret
from pydantic import JsonValue

from config.errors import UserError
from config.kubeconfig import require_context
from config.legacy import folder_of
from config.load import MASTER_KEY, checked, scalar
from config.lock import LOCK_FILE, load_lock
from config.lock_policy import warnings
from config.model import NAMESPACE, StackConfig


def load_pulumi(lock_file: Path | None = LOCK_FILE) -> StackConfig:
    """The stack config of the running Pulumi program: every key of our namespace, unknown ones too.

    Warns of models whose entry in the lock is unverified.

    Raises pulumi.RunError with the lines that `load_file` would give, so that `pulumi up` shows no traceback.
    """
    # pulumi.Config reads single keys only: an unknown one would never be seen.
    prefix = f"{NAMESPACE}:"
    texts = {key.removeprefix(prefix): text for key, text in CONFIG.get().items() if key.startswith(prefix)}
    encrypted = [name for name in texts if is_config_secret(prefix + name)]
    values = {name: _value(name, text) for name, text in texts.items()}
    try:
        lock = load_lock(lock_file) if lock_file else None
        config = checked(values, lock, encrypted=encrypted, folder=folder_of(pulumi.get_stack()))
        require_context(config.cluster.context)  # a first preview passes without: nothing is read then
    except UserError as error:
        raise pulumi.RunError(str(error)) from None
    for warning in warnings(config):
        pulumi.warn(str(warning))
    return config


def master_key() -> pulumi.Output[str] | None:
    """LiteLLM's master key, where the stack file holds it (encrypted)."""
    return pulumi.Config(NAMESPACE).get_secret(MASTER_KEY)


def _value(name: str, text: str) -> JsonValue:
    """Objects and lists arrive as JSON; what is no JSON stays text, for the schema to refuse."""
    if name not in StackConfig.model_fields or scalar(name):
        return text
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
