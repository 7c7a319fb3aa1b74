"""The first reply, and the line to go on with."""

import json
import time

import httpx

from config.errors import UserError
from config.model import StackConfig
from local.paths import Instance
from local.stack_state import MASTER_KEY
from local.stack_state import secret as kept_secret

QUESTION = "What is the capital of Italy?"
CONVERSATION = (
    {"role": "user", "content": "What is the capital of France?"},
    {"role": "assistant", "content": "The capital of France is Paris."},
    {"role": "user", "content": "What is the capital of Spain?"},
    {"role": "assistant", "content": "The capital of Spain is Madrid."},
    {"role": "user", "content": QUESTION},
)
"""The local model is a base model that was never taught to chat: two examples show it how."""
STOP = ("<|",)
"""The same reason: it writes the chat template's marks out instead of ending its turn."""
PATIENCE_SECONDS = 60


def first_reply(instance: Instance, model: str) -> str:
    """Ask the local gateway for one completion, as its users do; UserError when none comes."""
    body = request(model)
    headers = {"Authorization": f"Bearer {kept_secret(instance, MASTER_KEY)}"}
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = httpx.post(
                f"{base_url(instance)}/chat/completions", json=body, headers=headers, timeout=60, trust_env=False
            )
        except httpx.TransportError as error:
            complaint = str(error)
        else:
            reply = answer.json()["choices"][0]["message"]["content"] if answer.is_success else None
            if reply:
                return str(reply).strip()
            complaint = f"HTTP {answer.status_code}: {answer.text[:200]}"
        if time.monotonic() > deadline:
            raise UserError(f"The gateway at {base_url(instance)} gives no reply of {model}: {complaint}")
        time.sleep(1)


def request(model: str) -> dict[str, object]:
    """A chat completion's body."""
    return {"model": model, "messages": CONVERSATION, "stop": STOP, "max_tokens": 32, "temperature": 0}


def base_url(instance: Instance) -> str:
    """The local gateway as this machine reaches it."""
    return f"http://127.0.0.1:{instance.gateway_port}/v1"


def curl_line(instance: Instance, kubectl: str, config: StackConfig, model: str) -> str:
    """A chat completion for the shell; the key goes from kubectl to curl and is shown nowhere."""
    secret, namespace = config.gateway.master_key_secret, config.cluster.namespace
    header = f"'go-template=Authorization: Bearer {{{{index .data \"{secret.key}\" | base64decode}}}}'"
    return (
        f"{kubectl} --kubeconfig {instance.kubeconfig} -n {namespace} get secret {secret.name} -o {header} \\\n"
        f"  | curl -s --noproxy '*' {base_url(instance)}/chat/completions \\\n"
        f"      -H @- -H 'Content-Type: application/json' -d '{json.dumps(request(model))}'"
    )
