"""The whole validation checklist against a live stack: it looks, asks, and changes nothing."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Literal

import yaml
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from config.backend import Backend
from config.errors import UserError
from config.model import StackConfig
from config.naming import is_alias
from config.parts import NO_GPU, ROLE_LABEL
from local.console import say
from ops.forward import Gateway, model_ids, one_line, open_gateway, quoted
from ops.kube import Kube, Object, name_of
from render.budget import budget
from render.litellm import api_base
from render.smoke import gateway_url

RESTART_LOOP = 3
"""From so many restarts on a pod is in a loop; one or two are a node's reboot or a lost probe."""
FAULTS = (UserError, OSError, LookupError, TypeError, ValueError, AttributeError)
"""What a look may end with: the reason itself, or that an object or a document has another shape than is read."""
PLAIN_WIDTH = 160
"""Columns of the table where no terminal says how many it has."""

Group = Literal["backend", "router", "frontend"]


@dataclass(frozen=True, kw_only=True)
class Check:
    """One line of the checklist."""

    group: Group
    subject: str
    """What was looked at: a backend, a model, the gateway, a ConfigMap."""
    what: str
    ok: bool
    detail: str
    """The reason where it failed, else what was seen; one line."""


def verify(config: StackConfig, kube: Kube) -> list[Check]:
    """Every check of the runbook's list; one that fails, or cannot be made, stops no other."""
    checks = [check for backend in config.backends for check in _backend(config, kube, backend)]
    with ExitStack() as held:
        reach = _reach(config, kube, held)
        checks += _router(config, kube, reach)
        checks += _frontend(config, kube, reach)
    return checks


def print_table(checks: Sequence[Check]) -> None:
    """The checks as a table on stdout; what is long wraps."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    columns = [Column(title, overflow="fold") for title in ("group", "subject", "check", "", "detail")]
    table = Table(*columns, box=None)
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("FAILED", "red")
        table.add_row(check.group, Text(check.subject), Text(check.what), mark, Text(check.detail))
    console.print(table)


def _check(group: Group, subject: str, what: str, look: Callable[[], str]) -> Check:
    """One check made: `look` returns what it saw, or raises UserError with the reason."""
    try:
        return Check(group=group, subject=subject, what=what, ok=True, detail=one_line(look()))
    except FAULTS as error:
        return Check(group=group, subject=subject, what=what, ok=False, detail=_reason(error))


def _reason(error: Exception) -> str:
    told = str(error) if isinstance(error, (UserError, OSError)) else f"an answer of another shape: {error!r}"
    return one_line(told)


def _backend(config: StackConfig, kube: Kube, backend: Backend) -> Iterator[Check]:
    looks: dict[str, Callable[[], str]] = {
        "on its role's node": partial(_on_its_node, kube, backend),
        "one GPU, its own": partial(_own_gpu, kube, backend),
        "ready, no restart loop": partial(_steady, kube, backend),
        "/health": lambda: _through_service(config, kube, backend, "health"),
        "/v1/models": lambda: _same_names(
            model_ids(_through_service(config, kube, backend, "v1/models")), [served.name for served in backend.models]
        ),
    }
    for what, look in looks.items():
        yield _check("backend", backend.name, what, look)


def _pods(kube: Kube, deployment: str) -> list[Object]:
    """The pods that stand for a Deployment; UserError where there are fewer or more than it wants."""
    spec: Object = kube.get("deployment", deployment)["spec"]
    labels = ",".join(f"{key}={value}" for key, value in spec["selector"]["matchLabels"].items())
    pods = [pod for pod in kube.listed("pods", "-l", labels) if _stands(pod)]
    if not pods or len(pods) != spec["replicas"]:
        raise UserError(f"{len(pods)} pods stand where the Deployment wants {spec['replicas']}")
    return pods


def _on_its_node(kube: Kube, backend: Backend) -> str:
    nodes = set[str]()
    for pod in _pods(kube, backend.name):
        node = pod["spec"].get("nodeName")
        if node != backend.host:
            raise UserError(f"{name_of(pod)} is on {node or 'no node yet'}, the stack says {backend.host}")
        nodes.add(node)
    label = kube.get("node", backend.host)["metadata"].get("labels", {}).get(ROLE_LABEL)
    if label != backend.role:
        raise UserError(f"node {backend.host} has {ROLE_LABEL}={label or '(none)'}, the stack says {backend.role}")
    return f"{backend.host} has {ROLE_LABEL}={label}"


def _own_gpu(kube: Kube, backend: Backend) -> str:
    resource = backend.gpu.resource
    pods = _pods(kube, backend.name)
    if resource == NO_GPU:
        asked = {name for pod in pods for name in _limits(pod) if "/" in name}
        if asked:
            raise UserError(f"asks for {', '.join(sorted(asked))}, the stack says none")
        return "none, as the stack says"
    for pod in pods:
        count = _limits(pod).get(resource, 0)
        if count != backend.gpu.count:
            raise UserError(f"{name_of(pod)} has {count} of {resource}, the stack says {backend.gpu.count}")
        node = pod["spec"].get("nodeName")
        if not node:
            raise UserError(f"{name_of(pod)} has no node yet, so no GPU")
        others = [
            f"{other['metadata']['namespace']}/{name_of(other)}"
            for other in kube.listed("pods", "--all-namespaces", f"--field-selector=spec.nodeName={node}")
            if other["metadata"]["uid"] != pod["metadata"]["uid"] and _holds(other) and _limits(other).get(resource)
        ]
        if others:
            raise UserError(f"{node}'s {resource} goes to other pods too: {', '.join(others)}")
    return f"{backend.gpu.count} of {resource}, to no other pod of the node"


def _steady(kube: Kube, backend: Backend) -> str:
    restarts = 0
    for pod in _pods(kube, backend.name):
        status: Object = pod["status"]
        containers: list[Object] = [*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])]
        waits = [it["state"]["waiting"] for it in containers if "waiting" in it["state"]]
        for container in containers:
            count: int = container["restartCount"]
            restarts += count
            looping = container["state"].get("waiting", {}).get("reason") == "CrashLoopBackOff"
            if looping or count >= RESTART_LOOP:
                raise UserError(f"{name_of(pod)}: {container['name']} restarted {count} times{_last_end(container)}")
        conditions: list[Object] = status.get("conditions", [])
        if not any(it["type"] == "Ready" and it["status"] == "True" for it in conditions):
            # what a container waits for says more than that it is not ready
            told = [*waits, *(it for it in conditions if it["status"] != "True")]
            reasons = (f"{it.get('reason', '')} {it.get('message', '')}".strip() for it in told)
            raise UserError(f"{name_of(pod)} is not ready: {next(reasons, status.get('phase'))}")
    return f"ready, {restarts} restarts"


def _last_end(container: Object) -> str:
    ended: Object | None = container.get("lastState", {}).get("terminated")
    return f", last ended with {ended.get('reason')} (exit code {ended['exitCode']})" if ended else ""


def _through_service(config: StackConfig, kube: Kube, backend: Backend, path: str) -> str:
    return kube.raw(f"/api/v1/namespaces/{config.cluster.namespace}/services/{backend.name}:http/proxy/{path}")


def _same_names(listed: Sequence[str], expected: Sequence[str]) -> str:
    if sorted(listed) != sorted(expected):
        raise UserError(f"lists {', '.join(sorted(listed)) or 'nothing'}; expected {', '.join(sorted(expected))}")
    return ", ".join(listed)


def _reach(config: StackConfig, kube: Kube, held: ExitStack) -> Callable[[], Gateway]:
    """The gateway, or for each that wants it the reason why it cannot be reached."""
    try:
        gateway = held.enter_context(open_gateway(config, kube))
    except FAULTS as error:
        reason = _reason(error)

        def refuse() -> Gateway:
            raise UserError(reason)

        return refuse
    return lambda: gateway


def _router(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    deployment = config.gateway.deployment
    yield _check("router", deployment, "at full strength", partial(_full_strength, config, kube))
    yield _check("router", deployment, "/v1/models", lambda: _same_names(reach().names(), config.exposed_names))
    for backend in config.backends:
        for served in backend.models:
            look = partial(_completion, config, backend, served.name, reach)
            yield _check("router", served.name, "completion", look)


def _full_strength(config: StackConfig, kube: Kube) -> str:
    deployment = kube.get("deployment", config.gateway.deployment)
    status, wanted = deployment["status"], deployment["spec"]["replicas"]
    if config.gateway.mode == "deploy" and wanted != config.gateway.replicas:
        raise UserError(f"the Deployment wants {wanted} pods, the stack {config.gateway.replicas}")
    if status.get("observedGeneration", 0) < deployment["metadata"]["generation"]:
        raise UserError("its last change is not rolled out yet")
    counts = {kind: status.get(f"{kind}Replicas", 0) for kind in ("updated", "ready", "available")}
    seen = ", ".join(f"{count} {kind}" for kind, count in counts.items())
    if not wanted or any(count != wanted for count in counts.values()) or status.get("replicas") != wanted:
        raise UserError(f"of {wanted} pods: {seen}; {status.get('replicas', 0)} stand")
    return f"of {wanted} pods: {seen}"


def _completion(config: StackConfig, backend: Backend, model: str, reach: Callable[[], Gateway]) -> str:
    gateway = reach()
    say(f"asking {model}")
    done = gateway.complete(model, budget(backend).request)
    expected = api_base(config, backend)
    if done.answered_by.rstrip("/") != expected.rstrip("/"):
        raise UserError(f"answered by {done.answered_by or '(nobody tells)'}, expected {expected}")
    return f"{backend.name}: {quoted(done.text)}"


def _frontend(config: StackConfig, kube: Kube, reach: Callable[[], Gateway]) -> Iterator[Check]:
    looks: dict[str, Callable[[StackConfig, Object], str]] = {
        "models.default": _picker,
        "no role alias": _no_alias,
        "models.fetch": _no_fetch,
        "baseURL": _base_url,
        "titleModel": _title_model,
    }
    for what, look in looks.items():
        seen = partial(_of_endpoint, config, kube, look)
        yield _check("frontend", config.frontend.config_map, what, seen)
    for backend in config.backends:
        # of a pool the one that its last completion left loaded
        model = backend.models[-1].name
        yield _check("frontend", model, "conversation", partial(_conversation, backend, model, reach))


def _of_endpoint(config: StackConfig, kube: Kube, look: Callable[[StackConfig, Object], str]) -> str:
    """What `look` sees of our entry in `librechat.yaml`; UserError where there is none."""
    frontend = config.frontend
    text: str = kube.get("configmap", frontend.config_map)["data"]["librechat.yaml"]
    try:
        entries: list[Object] = yaml.safe_load(text)["endpoints"]["custom"]
    except yaml.YAMLError as error:
        raise UserError(f"librechat.yaml is no YAML: {error}") from None
    for entry in entries:
        if entry["name"] == frontend.endpoint_name:
            return look(config, entry)
    raise UserError(f"librechat.yaml has no endpoint named {frontend.endpoint_name} in endpoints.custom")


def _picker(config: StackConfig, endpoint: Object) -> str:
    listed, expected = ", ".join(map(str, endpoint["models"]["default"])), ", ".join(config.exposed_names)
    if listed != expected:
        raise UserError(f"lists {listed or 'nothing'}; expected {expected}")
    return listed


def _no_alias(_: StackConfig, endpoint: Object) -> str:
    aliases = [name for name in map(str, endpoint["models"]["default"]) if is_alias(name)]
    if aliases:
        raise UserError(f"users are shown roles instead of models: {', '.join(aliases)}")
    return "none"


def _no_fetch(_: StackConfig, endpoint: Object) -> str:
    return _same(endpoint["models"].get("fetch"), expected=False)


def _base_url(config: StackConfig, endpoint: Object) -> str:
    return _same(endpoint.get("baseURL"), expected=f"{gateway_url(config)}/v1")


def _title_model(_: StackConfig, endpoint: Object) -> str:
    # any other is one that the gateway may not know, or that makes a pool swap for a title
    return _same(endpoint.get("titleModel"), expected="current_model")


def _same(found: object, *, expected: object) -> str:
    if found != expected:
        raise UserError(f"is {found!r}, expected {expected!r}")
    return str(found)


def _conversation(backend: Backend, model: str, reach: Callable[[], Gateway]) -> str:
    gateway = reach()
    say(f"talking with {model}")
    said = gateway.converse(model, budget(backend).request)
    return f"{backend.name}: {len(said)} turns, each streamed to [DONE]: {quoted(said[-1])}"


def _holds(pod: Object) -> bool:
    """Whether it has what it asks of its node; what ended has given it back."""
    return pod["status"].get("phase") not in {"Failed", "Succeeded"}


def _stands(pod: Object) -> bool:
    """Whether it serves, or is on its way to."""
    return _holds(pod) and "deletionTimestamp" not in pod["metadata"]


def _limits(pod: Object) -> dict[str, int]:
    """How many of each extended resource a pod's containers take: those whose name has a slash."""
    taken: dict[str, int] = {}
    for container in (*pod["spec"].get("initContainers", ()), *pod["spec"]["containers"]):
        for name, count in container.get("resources", {}).get("limits", {}).items():
            if "/" in name:
                taken[name] = taken.get(name, 0) + int(count)
    return taken
