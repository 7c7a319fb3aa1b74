"""What somebody else has changed since, in what the stack adopted: seen before the stack would write over it."""

from collections.abc import Iterator
from itertools import product

from config.errors import ConfigError, Problem
from config.legacy import MAKE_ADOPT, endpoint, librechat_document, listed_names
from config.model import StackConfig
from config.parts import Migration
from config.phases import PHASES, ROUTED
from local.console import say
from ops.adopt import difference
from ops.inline_keys import Reader, hidden, inline_keys, references, referred
from ops.kube import Kube, name_of
from ops.live import Live, owned, read_live, released, secret_values, serving, unfit
from render.librechat import frontend_text
from render.litellm import gateway_text

SHOWN_LINES = 60


def drift(config: StackConfig, kube: Kube, *, overwrite: bool = False) -> list[Problem]:
    """All that is not as the stack knows it: documents, objects that are named, and who else writes them.

    A document is let through that is the adopted one, or what any phase of the stack makes of it, or what the stack's
    own patch was the last to write: an earlier stack file made that. Where the operator wants to overwrite any other
    one, it is only shown.
    """
    return list(_drift(config, kube, overwrite=overwrite)) if config.gateway.mode == "adopt" else []


def _drift(config: StackConfig, kube: Kube, *, overwrite: bool) -> Iterator[Problem]:
    for which in ("gateway", "frontend") if config.frontend.mode == "adopt" else ("gateway",):
        try:
            live = read_live(config, kube, which)
        except ConfigError as error:
            yield from error.problems
            continue
        yield from unfit(config, live)
        for problem in _changed(config, live):
            if overwrite:
                say(f"the update writes over what somebody has changed in {problem.value}:")
                for line in problem.remedy.splitlines()[1:]:
                    say(line)
            else:
                yield problem
        yield from _keys(config, kube, live) if which == "gateway" else _still_listed(config, live)
    try:
        serving(config, kube)
    except ConfigError as error:
        yield from error.problems
    yield from _workers(config, kube)


def _changed(config: StackConfig, live: Live) -> Iterator[Problem]:
    gateway = live.part == "gateway"
    key = (config.gateway if gateway else config.frontend).config_key
    adopted = config.adopted.litellm if gateway else config.adopted.librechat
    if live.text == adopted or f"f:{key}" in owned(live.config_map).get("f:data", {}):
        return
    if gateway and _same_without_keys(live.text, adopted):
        return
    if live.text in {_text(config, live, *it) for it in product(PHASES, (False, True), (False, True))}:
        return
    reader: Reader = "litellm" if gateway else "librechat"
    expected = gateway_text(config) if gateway else frontend_text(config)
    remedy = (
        f"somebody has changed its {key} since: put it back, or OVERWRITE=1 (--overwrite) with make up writes over it, "
        "or (phase parallel) make adopt takes it in"
    )
    told = "\n".join((remedy, *_shown(hidden(expected, reader), hidden(live.text, reader))))
    yield Problem(key=f"llama-chat:{live.part}.config_map", value=name_of(live.config_map), remedy=told)


def _shown(expected: str, found: str) -> Iterator[str]:
    """The lines that differ, without what may be a secret."""
    lines = list(difference(expected, found))[2:]  # the first two name the sides
    if not lines:
        yield "  (the difference is in a key or at a line's end: not shown)"
        return
    yield "  (- is what it should say, + what it says)"
    yield from lines[:SHOWN_LINES]
    if lines[SHOWN_LINES:]:
        yield f"  … {len(lines) - SHOWN_LINES} more"


def _text(config: StackConfig, live: Live, phase: str, keep_aliases: bool, renamed: bool) -> str:  # noqa: FBT001 - one of many
    """What a phase makes of the document."""
    migration = Migration.model_validate({"phase": phase, "keep_aliases": keep_aliases, "renamed": renamed})
    other = config.model_copy(update={"migration": migration})
    return gateway_text(other) if live.part == "gateway" else frontend_text(other)


def _same_without_keys(live: str, adopted: str) -> bool:
    """Whether only `make adopt` lies between them: it took the keys out of what it wrote down."""
    try:
        return referred(live) == referred(adopted)
    except ValueError:
        return False


def _keys(config: StackConfig, kube: Kube, live: Live) -> Iterator[Problem]:
    """A Secret that lacks a key, or does not hold the one that the live document does."""
    legacy = config.legacy
    if not legacy.keys or not legacy.keys_secret:
        return
    where, secret = "llama-chat:legacy.keys_secret", legacy.keys_secret
    missing = sorted(set(legacy.keys) - set(kube.secret_keys(secret) or ()))
    if missing:
        yield Problem(key=where, value=secret, remedy=f"holds no {', '.join(missing)}: {MAKE_ADOPT}")
        return
    try:
        standing = {it.path: it.value for it in inline_keys(live.text, "litellm")}
    except ValueError:
        return
    named = references(config.adopted.litellm)
    held = secret_values(kube, secret) if standing else {}
    other = sorted(
        {named[path] for path, value in standing.items() if path in named and held.get(named[path]) != value}
    )
    if other:
        remedy = f"the live document has another {', '.join(other)} than this Secret: {MAKE_ADOPT}"
        yield Problem(key=where, value=secret, remedy=remedy)


def _still_listed(config: StackConfig, live: Live) -> Iterator[Problem]:
    """Legacy names that a LibreChat lists, as an update before left it, and that nobody would route any more."""
    if config.migration.phase != "done" or config.migration.keep_aliases:
        return
    try:
        entry = endpoint(librechat_document(live.text), config.frontend.endpoint_name)
    except ValueError:
        return
    if names := sorted(config.legacy.replaced.keys() & listed_names(entry or {})):
        remedy = f"LibreChat still lists {', '.join(names)}: write true, make up, then false again"
        yield Problem(key="llama-chat:migration.keep_aliases", value="false", remedy=remedy)


def _workers(config: StackConfig, kube: Kube) -> Iterator[Problem]:
    """Deployments of legacy routes that are not there, or that somebody would start again."""
    standing = {name_of(it): it for it in kube.listed("deployments")}
    for number, route in enumerate(config.legacy.routes):
        if route.deployment is None or config.legacy.retired:
            continue
        key = f"llama-chat:legacy.routes[{number}].deployment"
        found = standing.get(route.deployment)
        if found is None:
            saved = config.adopted.retired
            again = f"bring it back with `kubectl --context {kube.context} apply -f {saved}`" if saved else MAKE_ADOPT
            there = ", ".join(sorted(standing)) or "none"
            remedy = f"namespace {kube.namespace} has no such Deployment: it has {there}; {again}"
            yield Problem(key=key, value=route.deployment, remedy=remedy)
            continue
        if not config.legacy.gitops_released and (problem := released(key, found)):
            yield problem
        has = found["spec"].get("replicas", 1)
        if config.migration.phase in ROUTED and has > route.replicas:
            say(
                f"{key}: {route.deployment}: has {has} pods, and the update leaves it {route.replicas}: answers of the "
                "others may be cut; to keep them, write that number as the route's replicas"
            )
