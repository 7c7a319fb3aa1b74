"""The smoke tests of a standing stack, run again: the Jobs that its last update left, now, with every model."""

import json
import string
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from config.errors import UserError
from config.model import StackConfig
from local.console import say
from ops.forward import one_line
from ops.kube import Kube, Object, name_of
from render.smoke import gateway_url

NAME_LABEL = "app.kubernetes.io/name"
GENERATED = {"controller-uid", "job-name", "batch.kubernetes.io/controller-uid", "batch.kubernetes.io/job-name"}
"""Labels that Kubernetes itself gives a Job's pods."""
SELECTORS = {"selector", "manualSelector"}
"""What in a Job's spec tells its own pods from others: Kubernetes writes it anew for each."""
POLL_SECONDS = 2.0
LATE_SECONDS = 60
"""How long after a Job's own deadline its end may be seen."""
LEFT_SECONDS = 3600
"""Kubernetes removes a Job that was left standing, once it has been over for so long."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What one smoke test found."""

    subject: str
    """The backend's or the gateway's name."""
    ok: bool
    text: str
    """The script's own line, or why there is none."""


@dataclass(frozen=True, kw_only=True)
class _Look:
    """How far a Job is."""

    over: bool = False
    ok: bool = False
    verdict: str = ""
    """What its pod left as it ended."""
    state: str = ""
    """What it waits for, or why Kubernetes ended it."""


def smoke(config: StackConfig, kube: Kube) -> list[Verdict]:
    """Run every smoke test of the stack again; UserError where the last update left none of one.

    The gateway's runs after the others: two that ask at the same time would have a pool swap to and fro.
    """
    gateway = config.gateway.deployment
    now = stamp(time.time())
    left = _left(kube, [*(backend.name for backend in config.backends), gateway])
    backends = {backend.name: again(backend.name, left[backend.name], now) for backend in config.backends}
    routes = {gateway: again(gateway, left[gateway], now, "--url", gateway_url(config))}
    with _removed(kube, [*backends.values(), *routes.values()]):
        return [*_run(kube, backends), *_run(kube, routes)]


def again(subject: str, left: Object, now: str, *options: str) -> Object:
    """A Job that runs the test of `left` again, asking every model.

    Its spec is that Job's in all else. Its own name is not the test's: the script takes what passed Jobs of that name
    expected for found in order. A gateway's candidate does not run again, nor are its volumes mounted: the one that
    users ask is asked.
    """
    template: Object = left["spec"]["template"]
    labels: dict[str, str] = template["metadata"].get("labels", {})
    pod: Object = {key: value for key, value in template["spec"].items() if key != "initContainers"}
    containers: list[Object] = pod["containers"]
    pod["containers"] = [{**it, "command": [*it["command"], "--all", *options]} for it in containers]
    mounted = {mount["name"] for it in containers for mount in it["volumeMounts"]}
    pod["volumes"] = [volume for volume in pod["volumes"] if volume["name"] in mounted]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": f"{subject}-smoke-again-{now}",
            "labels": {NAME_LABEL: f"{subject}-smoke-again", "app.kubernetes.io/part-of": "llama-chat"},
        },
        "spec": {
            **{key: value for key, value in left["spec"].items() if key not in SELECTORS},
            "ttlSecondsAfterFinished": LEFT_SECONDS,
            "template": {
                "metadata": {"labels": {key: value for key, value in labels.items() if key not in GENERATED}},
                "spec": pod,
            },
        },
    }


def stamp(seconds: float) -> str:
    """The time in base 36, its last four digits: a gateway's name leaves room for no more."""
    digits, left = "", int(seconds)
    for _ in range(4):
        left, digit = divmod(left, 36)
        digits = (string.digits + string.ascii_lowercase)[digit] + digits
    return digits


def _left(kube: Kube, subjects: Sequence[str]) -> dict[str, Object]:
    """For each subject the newest Job of its test that passed."""
    passed: dict[str, Object] = {}
    for subject in subjects:
        jobs = kube.listed("jobs", "-l", f"{NAME_LABEL}={subject}-smoke")
        good = [job for job in jobs if job["status"].get("succeeded")]
        if good:
            passed[subject] = max(good, key=lambda job: str(job["metadata"]["creationTimestamp"]))
    missing = [f"{subject}-smoke" for subject in subjects if subject not in passed]
    if missing:
        raise UserError(f"Namespace {kube.namespace} has no succeeded Job of {', '.join(missing)}: run make up first.")
    return passed


@contextmanager
def _removed(kube: Kube, jobs: Sequence[Object]) -> Generator[None]:
    """Remove the Jobs with their pods at the end, whatever ends it."""
    names = [name_of(job) for job in jobs]
    try:
        yield
    finally:
        complaint = kube.fails("delete", "jobs", *names, "--ignore-not-found", "--cascade=foreground", "--wait=false")
        if complaint:
            say(f"not removed: {', '.join(names)} ({complaint}); Kubernetes does it {LEFT_SECONDS} s after their end")


def _run(kube: Kube, jobs: Mapping[str, Object]) -> list[Verdict]:
    """The verdicts of Jobs that run at once, each told as it comes."""
    manifest = {"apiVersion": "v1", "kind": "List", "items": list(jobs.values())}
    kube.run("apply", "--server-side", "--field-manager=llama-chat", "-f", "-", stdin=json.dumps(manifest))
    say(f"asking {', '.join(jobs)}")
    verdicts: list[Verdict] = []
    for verdict in _verdicts(kube, jobs):
        say(f"{verdict.subject}: {'' if verdict.ok else 'FAILED: '}{verdict.text}")
        verdicts.append(verdict)
    return verdicts


def _verdicts(kube: Kube, jobs: Mapping[str, Object]) -> Iterator[Verdict]:
    start = time.monotonic()
    states = dict.fromkeys(jobs, "nothing was seen of it")
    while states:
        time.sleep(POLL_SECONDS)
        for subject, before in list(states.items()):
            seconds = jobs[subject]["spec"]["activeDeadlineSeconds"] + LATE_SECONDS
            look = _patient_look(kube, name_of(jobs[subject]))
            states[subject] = look.state or before
            if look.over:
                del states[subject]
                text = look.verdict or f"no verdict: {look.state}; before: {before}"
                yield Verdict(subject=subject, ok=look.ok, text=one_line(text))
            elif time.monotonic() - start > seconds:
                text = f"no verdict after {seconds} s: {states.pop(subject)}"
                yield Verdict(subject=subject, ok=False, text=one_line(text))


def _patient_look(kube: Kube, name: str) -> _Look:
    """A look that an API server's short absence does not end."""
    try:
        return _look(kube, name)
    except UserError as error:
        return _Look(state=str(error))


def _look(kube: Kube, name: str) -> _Look:
    conditions: list[Object] = kube.get("job", name)["status"].get("conditions", [])
    ends = {str(it["type"]): it for it in conditions if it["status"] == "True" and it["type"] in {"Complete", "Failed"}}
    verdict = state = ""
    for pod in kube.listed("pods", "-l", f"job-name={name}"):
        verdict = _left_word(pod) or verdict
        state = _waits_for(pod) or state
    return _Look(
        over=bool(ends),
        ok="Complete" in ends,
        verdict=verdict,
        state=ends["Failed"].get("message", "it failed") if "Failed" in ends else state,
    )


def _left_word(pod: Object) -> str:
    """The script's termination message."""
    containers: list[Object] = pod["status"].get("containerStatuses", [])
    ends: list[Object] = [it["state"]["terminated"] for it in containers if "terminated" in it["state"]]
    return next((str(end["message"]) for end in ends if end.get("message")), "")


def _waits_for(pod: Object) -> str:
    status: Object = pod["status"]
    waits = [it["state"]["waiting"] for it in status.get("containerStatuses", []) if "waiting" in it["state"]]
    unmet: list[Object] = [it for it in status.get("conditions", []) if it["status"] != "True" and it.get("message")]
    told = next((f"{it.get('reason')}: {it.get('message', '')}" for it in (*waits, *unmet)), status.get("phase"))
    return f"pod {name_of(pod)}: {told}"
