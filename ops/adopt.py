"""Adopts what runs: reads LiteLLM, LibreChat and what is behind them, and writes `legacy/<stack>/` and the stack file.

Nothing in the cluster changes, but for one Secret: keys that stand in LiteLLM's document go there, and what is written
refers to them.
"""

import difflib
import json
from base64 import b64encode
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import JsonValue

from config.errors import ConfigError, Problem, UserError
from config.legacy import DEPLOYMENTS, TEXTS, Adopted, Legacy, LegacyRoute, folder_of, load_adopted
from config.load import load_file
from config.model import StackConfig
from local.console import say
from ops.adopt_plan import OURS, Plan, make_plan
from ops.kube import Kube
from ops.replace import replace_file
from ops.stack import Confirm, Stack, require_meant
from ops.stack_edit import on_one_line, with_block, with_value
from ops.workers import lines


def adopt(stack: Stack, kube: Kube, confirm: Confirm) -> None:
    """Read what runs and write it down; ConfigError with all that is in the way, and then nothing is changed.

    `confirm` is asked before keys go into their Secret.
    """
    _refuse(stack.config)
    folder = folder_of(stack.name)
    content = stack.file.read_bytes()
    plan = make_plan(stack.config, kube, _before(folder))
    for line in (*plan.told, *lines(plan.legacy.routes)):
        say(line)
    edited = _edited(stack, content.decode(), plan)
    if plan.values:
        secret = plan.legacy.keys_secret or ""
        question = f"Put what stands in the open into Secret {secret} of namespace {kube.namespace}"
        if not confirm(f"{question}: {', '.join(plan.values)}?"):
            raise UserError("Nothing is changed.")
        _store(kube, secret, stack.name, plan.values)
    _write(folder, plan.files)
    if edited != content:
        replace_file(stack.file, content, edited, again="run make adopt again")
        say(f"{stack.file.name}: written")
        for line in difference(content.decode(), edited.decode()):
            say(line)
    _tell_what_is_left(stack)


def difference(before: str, after: str) -> Iterator[str]:
    """The lines that differ, as `diff -u` shows them."""
    diff = difflib.unified_diff(before.splitlines(), after.splitlines(), "before", "after", lineterm="")
    yield from (f"  {line}" for line in diff)


def _refuse(config: StackConfig) -> None:
    """ConfigError where there is nothing to adopt, or no longer."""
    if config.gateway.mode != "adopt":
        remedy = "nothing is adopted in this mode: write adopt, and the names of ConfigMap and Deployment"
        raise ConfigError((Problem(key="llama-chat:gateway.mode", value=config.gateway.mode, remedy=remedy),))
    if config.migration.phase != "parallel":
        remedy = "what runs is what this stack made of it: go back to parallel (make up), then adopt"
        raise ConfigError((Problem(key="llama-chat:migration.phase", value=config.migration.phase, remedy=remedy),))


def _before(folder: Path) -> Adopted:
    """What was adopted earlier; nothing where that cannot be read, since it is about to be written anew."""
    try:
        return load_adopted(folder) or Adopted()
    except UserError:
        return Adopted()


def _store(kube: Kube, secret: str, stack: str, values: Mapping[str, str]) -> None:
    """Put the values into the Secret beside what it holds: through a pipe, never in an argument or a file."""
    data = {key: b64encode(value.encode()).decode() for key, value in values.items()}
    if kube.secret_labels(secret) is None:
        labels = {**OURS, "app.kubernetes.io/name": secret, "app.kubernetes.io/instance": stack}
        made = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": secret, "labels": labels}, "data": data}
        kube.run("create", "-f", "-", stdin=json.dumps(made))
    else:
        standing = kube.get("secret", secret)
        standing["data"] = {**(standing.get("data") or {}), **data}
        kube.run("replace", "-f", "-", stdin=json.dumps(standing))
    say(f"Secret {secret}: holds {', '.join(values)}")


def _write(folder: Path, files: Mapping[str, str]) -> None:
    """The files, each whole or as it was; what changes in one that was there is shown."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in (*TEXTS.values(), *DEPLOYMENTS.values()):
        file = folder / name
        before = file.read_bytes().decode(errors="replace") if file.exists() else None
        after = files.get(name)
        if after is None:
            file.unlink(missing_ok=True)
        elif after != before:
            half = file.with_suffix(".part")
            half.write_bytes(after.encode())
            half.replace(file)
            say(f"{folder.parent.name}/{folder.name}/{name}: {'written' if before is None else 'changed'}")
            for line in difference(before, after) if before is not None else ():
                say(line)


def _edited(stack: Stack, text: str, plan: Plan) -> bytes:
    """The stack file with the legacy part; UserError where it would say anything else than that."""
    gateway = stack.config.gateway
    told, found = gateway.master_key_secret, plan.master_key
    if found and (found.name, found.key) != (told.name, told.key):
        gateway = gateway.model_copy(update={"master_key_secret": found})
        text = with_value(text, ("gateway", "master_key_secret"), {"name": found.name, "key": found.key})
    text = with_block(text, "legacy", list(_block(plan.legacy)), ["frontend", "gateway"])
    wanted = stack.config.model_copy(update={"legacy": plan.legacy, "gateway": gateway})
    require_meant(stack, text, "legacy", wanted, unadopted=True)
    return text.encode()


def _block(legacy: Legacy) -> Iterator[str]:
    """The lines below `llama-chat:legacy:`, a route each."""
    for key, value in legacy.model_dump(mode="json", exclude_defaults=True, exclude={"routes"}).items():
        yield f"{key}: {on_one_line(value)}"
    yield "routes: # what replaces each is yours to write; null: it stays as it is"
    yield from (f"  - {on_one_line(_route(route))}" for route in legacy.routes)


def _route(route: LegacyRoute) -> dict[str, JsonValue]:
    values: dict[str, JsonValue] = {"name": route.name, "deployment": route.deployment}
    if route.deployment:
        values |= {"node": route.node, "replicas": route.replicas}
    return {**values, "replaced_by": route.replaced_by}


def _tell_what_is_left(stack: Stack) -> None:
    try:
        load_file(stack.file, adopted=folder_of(stack.name))
    except ConfigError as error:
        for problem in error.problems:
            say(f"to do: {problem}")
    else:
        say("make preview shows what would change")
