"""Asks a backend, or the gateway, whether users would get what they pick; the answer is one line.

`smoke.py backend|gateway --config /smoke/smoke.json --test NAME`. Of a backend it first waits until the pods behind the
address are the ones just deployed: a Deployment's old pod answers as well. A model that did not change since an earlier
run of the same test passed is left out where the record allows it. The verdict is printed and left as the pod's
termination message, starting with `ok:` where all is well.

Runs in pods, beside smoke_client.py and smoke_pods.py: nothing but the standard library of Python 3.9 or newer.
The gateway's key is LITELLM_MASTER_KEY in the environment.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from smoke_client import Answer, Failure, Run, Server, Terminated
from smoke_pods import check_layers, deployed, own_cluster

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PROMPT = "Count from one to ten: one, two, three,"
_MAX_TOKENS = 16
_STANDING_SECONDS = 180.0
"""The longest wait for pods that should stand already: Kubernetes may be replacing one."""
_META = {"parameters": "n_params", "bytes": "size"}  # llama-server's names for what the lock knows


class Options(NamedTuple):
    """How the test is run."""

    test: str = ""
    """Its own name, by which it finds what earlier runs of it passed."""
    url: str | None = None
    """Another address than the expectation's: the gateway that users ask, instead of the candidate."""
    everything: bool = False
    """Ask every model, whatever passed before, of backends that should stand already."""


def check(target: str, config: dict[str, Any], options: Options, cluster: Callable[[Run], Server]) -> str:
    """The verdict where all is well; Failure, or Terminated with what it was at."""
    run = Run()
    try:
        if target == "backend":
            return check_backend(config, options, run, cluster(run))
        return check_gateway(config, options, run, cluster(run))
    except Terminated:
        remedy = "look at the pods behind that address, then run it again"
        raise Terminated(f"Kubernetes ended this pod while {run.doing}: {remedy}") from None


def check_backend(config: dict[str, Any], options: Options, run: Run, cluster: Server) -> str:
    """The server lists exactly the models, answers and streams as each from the right weights, layers on the GPU."""
    names = [model["name"] for model in config["models"]]
    start = config["start_seconds"]
    run.begin(min(start, _STANDING_SECONDS) if options.everything else start)
    pods = deployed(config, run, cluster, ", ".join(names))
    server = Server(options.url or config["url"], None, run)
    _check_names(server, names, ", ".join(names))
    asked, passed = _to_ask(config, options, cluster)
    for model in asked:
        run.begin(model["deadline_seconds"])
        _check_answers(server, model["name"])
        _check_weights(server, model)
    layers = ""
    if config["gpu_layers"] > 0 and asked:
        try:
            told = check_layers(config, cluster, pods, since_long=options.everything)
            layers = f", {told} layers on the GPU" if told else ", layers as when it was loaded (its log was rotated)"
        except Failure as failure:
            raise Failure(f"{', '.join(names)}: {failure}") from None
    return _verdict("answers and streams", asked, passed, layers)


def check_gateway(config: dict[str, Any], options: Options, run: Run, cluster: Server) -> str:
    """The gateway lists exactly the names, and the backend that answers each is the right one.

    A hidden name answers without being listed; one without a backend is listed, and left alone: what it leads to is not
    ours to ask, and may cost.
    """
    run.begin(config["start_seconds"])
    server = Server(options.url or config["url"], os.environ.get("LITELLM_MASTER_KEY"), run)
    listed = [model["name"] for model in config["models"] if not model.get("hidden")]
    _check_names(server, listed, "the gateway")
    ours = [model for model in config["models"] if model["api_base"] is not None]
    asked, passed = _to_ask({**config, "models": ours}, options, cluster)
    for model in asked:
        run.begin(model["deadline_seconds"])
        name, base = model["name"], model["api_base"]
        answer = _answer(server, name)
        # LiteLLM writes the asked name into the body's model: only the header tells who answered
        answered = answer.headers.get("x-litellm-model-api-base", "(no x-litellm-model-api-base header)")
        if answered.rstrip("/") != base.rstrip("/"):
            raise Failure(f"{name}: answered by {answered}, expected {base}: look at the gateway's model_list")
    return _verdict("routed by the gateway", asked, passed)


def _verdict(what: str, asked: list[dict[str, Any]], passed: list[str], more: str = "") -> str:
    kept = f"unchanged since they passed: {', '.join(passed)}" if passed else ""
    named = f"{', '.join(model['name'] for model in asked)}: {what}{more}" if asked else ""
    return f"ok: {'; '.join(filter(None, (named, kept))) or 'every name is listed, and none is ours to ask'}"


def _to_ask(config: dict[str, Any], options: Options, cluster: Server) -> tuple[list[dict[str, Any]], list[str]]:
    """The models to ask, and the names of those that an earlier run of this test found as they are now."""
    models: list[dict[str, Any]] = config["models"]
    may_skip = [] if options.everything else [model for model in models if model["skip_passed"]]
    before = _passed(config["namespace"], options.test, cluster) if may_skip else set[tuple[str, str]]()
    known = [model["name"] for model in may_skip if (model["name"], model["content"]) in before]
    return [model for model in models if model["name"] not in known], known


def _passed(namespace: str, test: str, cluster: Server) -> set[tuple[str, str]]:
    """Name and content of every model that a succeeded Job of this test expected: it passed then, or before."""
    jobs = cluster.ask(f"/apis/batch/v1/namespaces/{namespace}/jobs?labelSelector=app.kubernetes.io/name%3D{test}")
    if jobs.status != 200:  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"the cluster does not list the Jobs of {test}: {cluster.quoted(jobs.text)}")
    found: set[tuple[str, str]] = set()
    for job in cast("list[dict[str, Any]]", jobs.at("items") or []):
        if not job["status"].get("succeeded"):
            continue
        for volume in job["spec"]["template"]["spec"]["volumes"]:
            if volume["name"] == "smoke":
                path = f"/api/v1/namespaces/{namespace}/configmaps/{volume['configMap']['name']}"
                found |= _recorded(cluster.ask(path).at("data", "smoke.json"))
    return found


def _recorded(record: str | None) -> set[tuple[str, str]]:
    """Name and content of the models of an earlier record; of none where it is gone or tells of no contents."""
    expected = Answer(200, {}, record or "")
    models = range(len(expected.at("models") or []))
    return {(expected.at("models", index, "name"), expected.at("models", index, "content")) for index in models}


def _answer(server: Server, name: str) -> Answer:
    answer = _chat(server, name, stream=False)
    if not _says(answer.at("choices", 0, "message")):
        raise Failure(f"{name}: the answer is empty: {server.quoted(answer.text)}")
    return answer


def _check_answers(server: Server, name: str) -> None:
    answer = _answer(server, name)
    if answer.at("model") != name:
        raise Failure(f"{name}: the answer comes from model {answer.at('model')!r}: look at the server's --alias")
    _check_stream(server, name)


def _check_weights(server: Server, model: dict[str, Any]) -> None:
    """What the server has loaded is what was locked: any file can be served under any name."""
    wanted: dict[str, int] | None = model["weights"]
    if wanted is None:
        return
    listed = server.ask(model["weights_at"])
    if listed.status != 200:  # noqa: PLR2004 - HTTP's own number
        what = f"{model['weights_at']}: HTTP {listed.status}: {server.quoted(listed.text)}"
        raise Failure(f"{model['name']}: {what}")
    places = [i for i in range(len(listed.at("data") or [])) if listed.at("data", i, "id") == model["name"]]
    told = [{name: listed.at("data", i, "meta", key) for name, key in _META.items()} for i in places]
    found = told[0] if told else dict.fromkeys(_META)
    if found != wanted:
        what = f"{found['parameters']} weights in {found['bytes']} bytes"
        locked = f"the lock {wanted['parameters']} in {wanted['bytes']}"
        remedy = "look at its file below /models/weights, and at the lock"
        raise Failure(f"{model['name']}: the server has loaded {what}, {locked}: {remedy}")


def _check_names(server: Server, expected: list[str], who: str) -> None:
    answer = server.ask("/v1/models")
    entries = answer.at("data")
    if answer.status != 200 or not isinstance(entries, list):  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"{who}: /v1/models: HTTP {answer.status}: {server.quoted(answer.text)}")
    listed = sorted(str(answer.at("data", index, "id")) for index in range(len(cast("list[Any]", entries))))
    if listed != sorted(expected):
        raise Failure(
            f"{who}: /v1/models lists {listed}, expected {sorted(expected)}: {server.url} serves other models"
        )


def _chat(server: Server, name: str, *, stream: bool) -> Answer:
    body = {
        "model": name,
        "messages": [{"role": "user", "content": _PROMPT}],
        "max_tokens": _MAX_TOKENS,
        "temperature": 0,
        "stream": stream,
    }
    try:
        answer = server.ask("/v1/chat/completions", body)
    except Failure as failure:
        raise Failure(f"{name}: {failure}") from None
    if answer.status != 200:  # noqa: PLR2004 - HTTP's own number
        raise Failure(f"{name}: HTTP {answer.status}: {server.quoted(answer.text)}")
    return answer


def _check_stream(server: Server, name: str) -> None:
    answer = _chat(server, name, stream=True)
    events = [line[len("data:") :].strip() for line in answer.text.splitlines() if line.startswith("data:")]
    if not events or events[-1] != "[DONE]":
        raise Failure(f"{name}: the stream does not end with [DONE]: {server.quoted(answer.text[-200:])}")
    deltas = [Answer(200, {}, event).at("choices", 0, "delta") for event in events[:-1]]
    if not any(_says(delta) for delta in deltas):
        raise Failure(f"{name}: the stream is empty: {server.quoted(answer.text)}")


def _says(message: Any) -> bool:  # noqa: ANN401 - JSON of whatever shape came
    """Whether there is text; a reasoning model may spend all its tokens on thinking."""
    if not isinstance(message, dict):
        return False
    parts = cast("dict[str, Any]", message)
    return bool(parts.get("content") or parts.get("reasoning_content"))


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; the exit status is 0, 1, or 143 after SIGTERM."""
    parser = argparse.ArgumentParser(description="Asks a backend or the gateway whether it serves what it should.")
    parser.add_argument("target", choices=["backend", "gateway"])
    parser.add_argument("--config", type=Path, required=True, help="JSON of what is expected")
    parser.add_argument("--test", default="", help="this test's name, by which it finds what it passed before")
    parser.add_argument("--url", help="another address than the one that the record names")
    parser.add_argument(
        "--all", action="store_true", help="ask every model of what should stand, whatever passed before"
    )
    parser.add_argument("--termination-log", type=Path, default=Path("/dev/termination-log"))
    args = parser.parse_args(arguments)
    status = 1
    try:
        options = Options(args.test, args.url, args.all)
        verdict = check(args.target, json.loads(args.config.read_text(encoding="utf-8")), options, own_cluster)
        status = 0
    except Failure as failure:
        verdict = str(failure)
    except (OSError, ValueError, KeyError, TypeError) as error:
        verdict = f"{args.config} does not say what to expect ({error!r}): deploy the stack again"
    except Terminated as ended:
        status, verdict = 128 + signal.SIGTERM, str(ended)
    print(verdict)
    with suppress(OSError):  # outside a pod there is no such file
        args.termination_log.write_text(verdict, encoding="utf-8")
    return status


def terminate(*_: object) -> None:
    """What SIGTERM does: process 1 would ignore it otherwise."""
    raise Terminated("Kubernetes ended this pod before it began: run it again")


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, terminate)
    sys.exit(main())
