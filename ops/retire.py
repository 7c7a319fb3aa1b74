"""Taking out of the cluster what ran before, once nothing leads to it: saved first, and then for good."""

from collections.abc import Iterator
from pathlib import Path

import yaml

from config.errors import ConfigError, Problem, UserError
from config.legacy import RETIRED, folder_of
from local.console import say
from ops.kube import Kube, Object, name_of
from ops.live import items, whole
from ops.manifest import inline_secrets, kept, kept_service
from ops.promote import BESIDE
from ops.replace import replace_file
from ops.stack import Confirm, Stack, require_meant
from ops.stack_edit import with_entry
from ops.standing import require_adopting, require_committed, require_reached
from ops.worktree import Checkout
from render.document import to_yaml

ROUTES = "llama-chat:legacy.routes"
HEAD = "# Saved by `make retire`: what answered before this stack.\n"


def retire(stack: Stack, kube: Kube, checkout: Checkout, confirm: Confirm) -> None:
    """Save the legacy Deployments and their Services, write that down, commit both, then delete them; claims stay.

    Killed at any step, another run goes on: nothing is deleted before it is saved and committed.
    UserError or ConfigError where the phase is not `done`, and with all that keeps a Deployment from being retired.
    """
    require_adopting(stack)
    folder = folder_of(stack.name) / RETIRED
    _require_done(stack, checkout)
    saved = _saved(folder, kube) if stack.config.legacy.retired else _manifests(stack, kube)
    told = ", ".join(f"{it['kind']} {name_of(it)}" for it in saved)
    if not confirm(f"Remove what answered before from namespace {kube.namespace}: {told}?"):
        raise UserError("Nothing is changed.")
    if not stack.config.legacy.retired:
        _write(folder, saved)
        content = stack.file.read_bytes()
        replace_file(stack.file, content, _edited(stack, content.decode()).encode(), again="run this again")
    if checkout.changed(stack.file, folder):
        names = " and ".join(name_of(it) for it in saved if it["kind"] == "Deployment")
        checkout.commit(f"Retire {names} of {stack.name}", stack.file, folder)
        say(f"committed {stack.file.name} and the manifests in {_told(folder)}")
    for thing in saved:
        kube.run("delete", thing["kind"].lower(), name_of(thing), "--ignore-not-found")
        say(f"{thing['kind']} {name_of(thing)} is gone")
    _tell_what_is_left(stack, kube, folder, saved)


def _require_done(stack: Stack, checkout: Checkout) -> None:
    """UserError where anything may still lead there, or the stack file holds more than this command's own change."""
    if stack.config.migration.phase != "done":
        raise UserError(
            f"{stack.file.name} says phase {stack.config.migration.phase}: only in done nothing leads to what is "
            "retired any more."
        )
    require_reached(stack, checkout)
    before = checkout.committed(stack.file)
    # a run that was cut off before its commit
    if not (stack.config.legacy.retired and before and _retired(before) == stack.file.read_text(encoding="utf-8")):
        require_committed(stack, checkout)


def _manifests(stack: Stack, kube: Kube) -> list[Object]:
    """The Deployments as they were adopted, then their Services; ConfigError with all that is in the way."""
    wanted = {route.deployment: route.replicas for route in stack.config.legacy.routes if route.deployment}
    standing = {name_of(it) for it in kube.listed("deployments")}
    for name in sorted(wanted.keys() - standing):
        say(f"Deployment {name} is gone already: nothing of it is saved")
    live = [whole(kube, "deployment", name) for name in wanted if name in standing]
    if not live:
        raise UserError(f"No Deployment of {stack.file.name}'s legacy routes stands: there is nothing to retire.")
    if problems := [*_running(kube, live), *(problem for it in live for problem in _unfit(it))]:
        raise ConfigError(tuple(problems))
    deployments = [kept(it, {}) for it in live]
    for it in deployments:
        it["spec"]["replicas"] = wanted[name_of(it)]
    return [*deployments, *(kept_service(it) for it in _services(kube, live))]


def _running(kube: Kube, deployments: list[Object]) -> Iterator[Problem]:
    """Those that have pods: somebody may be served by them."""
    scale = f"kubectl --context {kube.context} --namespace {kube.namespace} scale --replicas=0 deployment"
    for name in (name_of(it) for it in deployments if it["spec"].get("replicas") != 0):
        remedy = f"has pods: somebody started it again; stop it with `{scale} {name}`"
        yield Problem(key=ROUTES, value=name, remedy=remedy)


def _unfit(deployment: Object) -> Iterator[Problem]:
    for path in inline_secrets(deployment):
        remedy = f"holds what looks like a secret ({path}), which no file may: put it into a Secret and refer to that"
        yield Problem(key=ROUTES, value=name_of(deployment), remedy=remedy)


def _services(kube: Kube, retired: list[Object]) -> Iterator[Object]:
    """Those that lead to what is retired, and to nothing else."""
    names = {name_of(it) for it in retired}
    others = [it["spec"]["template"] for it in kube.listed("deployments") if name_of(it) not in names]
    selectors: list[dict[str, str]] = [it["spec"]["selector"].get("matchLabels") or {} for it in retired]
    # a pod of theirs may still be ending
    others += [it for it in kube.listed("pods") if not any(_selects(selector, it) for selector in selectors)]
    for service in kube.listed("services"):
        selector: dict[str, str] = service["spec"].get("selector") or {}
        if selector and any(_selects(selector, it["spec"]["template"]) for it in retired):
            if any(_selects(selector, it) for it in others):
                say(f"Service {name_of(service)} stays: it leads to others too")
            else:
                yield service


def _selects(selector: dict[str, str], thing: Object) -> bool:
    return bool(selector) and selector.items() <= (thing["metadata"].get("labels") or {}).items()


def _write(folder: Path, manifests: list[Object]) -> None:
    """The manifests, a file each, and no other one that an earlier retirement left."""
    folder.mkdir(parents=True, exist_ok=True)
    files = {f"{it['kind'].lower()}-{name_of(it)}.yaml": HEAD + to_yaml(it) for it in manifests}
    for name, text in files.items():
        file = folder / name
        replace_file(file, file.read_bytes() if file.exists() else b"", text.encode(), again="run this again")
    for file in folder.glob("*.yaml"):
        if file.name not in files:
            file.unlink()
    say(f"saved in {_told(folder)}: {', '.join(files)}")


def _saved(folder: Path, kube: Kube) -> list[Object]:
    """What an earlier run has saved; ConfigError where any of it has pods again."""
    saved: list[Object] = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in sorted(folder.glob("*.yaml"))]
    names = {name_of(it) for it in saved if it["kind"] == "Deployment"}
    if problems := tuple(_running(kube, [it for it in kube.listed("deployments") if name_of(it) in names])):
        raise ConfigError(problems)
    return saved


def _retired(text: str) -> str:
    return with_entry(text, "legacy", "retired", value=True, after=BESIDE)


def _edited(stack: Stack, text: str) -> str:
    edited = _retired(text)
    adopted = stack.config.adopted.model_copy(update={"retired": _told(folder_of(stack.name) / RETIRED)})
    legacy = stack.config.legacy.model_copy(update={"retired": True})
    wanted = stack.config.with_adopted(adopted).model_copy(update={"legacy": legacy})
    require_meant(stack, edited, "legacy.retired", wanted)
    return edited


def _told(folder: Path) -> str:
    return "/".join(folder.parts[-3:])


def _tell_what_is_left(stack: Stack, kube: Kube, folder: Path, saved: list[Object]) -> None:
    pods = [it["spec"]["template"]["spec"] for it in saved if it["kind"] == "Deployment"]
    volumes = [volume for pod in pods for volume in items(pod, "volumes") if "persistentVolumeClaim" in volume]
    if claims := sorted({str(it["persistentVolumeClaim"]["claimName"]) for it in volumes}):
        delete = f"kubectl --context {kube.context} --namespace {kube.namespace} delete pvc {' '.join(claims)}"
        say(f"their claims stay: `{delete}` gives the space back, with all that is on them")
    say(f"`kubectl --context {kube.context} apply -f {_told(folder)}` would bring the rest back")
    say(f"now `make up STACK={stack.name}`: the stack forgets what it patched there")
