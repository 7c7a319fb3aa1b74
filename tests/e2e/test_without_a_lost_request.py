"""The way from vLLM to llama.cpp and back, under load: no request is lost, no stream is cut."""

import itertools
import os
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from tests.e2e import runbook
from tests.e2e.checkout import read_config
from tests.e2e.line import ROOT, Line
from tests.e2e.load import Load, under_load
from tests.e2e.runbook import LEGACY, WORKERS, listed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
PHASES = ("parallel", "test", "cutover", "frontend", "done")
TRANSPARENT = ("gemma-3-270m", "tiny-ada", "tiny-bohr", "tiny-curie", "tiny-dirac")
SLOW = ("reasoning-chat", "gemma-3-270m")
CLIENTS = 12
"""8 that stream, 4 that do not."""
VLLM = {name: f"http://{worker}.ai.svc.cluster.local:8000/v1" for name, worker in WORKERS.items()}
BACKENDS = {
    "gemma-3-270m": "http://llama-static-a.ai.svc.cluster.local:8080/v1",
    "tiny-ada": "http://llama-static-b.ai.svc.cluster.local:8080/v1",
    **dict.fromkeys(("tiny-bohr", "tiny-curie", "tiny-dirac"), "http://llama-swap.ai.svc.cluster.local:8080/v1"),
}
ABOUT = f"""\
# The way there and back, under load

{CLIENTS} clients, of which 8 stream and 4 do not, ask for every name that LibreChat lists while the stack moves through
all phases and back; half of them connect anew for each request. An answer counts where its status is 200, its stream
ends with `[DONE]`, and the backend that gave it is the phase's. tests/e2e/test_without_a_lost_request.py wrote this.
"""
RECORD = ROOT / "docs" / "migration-under-load.md"
"""Written where LLAMA_CHAT_RECORD is set, as `make test-full` does."""


def move(line: Line, phase: str) -> None:
    """Another phase, in the way that an operator goes there: one command that edits and commits, then make up."""
    now = PHASES.index(read_config(line)["migration"]["phase"])
    command = ("promote",) if PHASES.index(phase) > now else ("demote", "--to", phase)
    moved = line.ops(*command, "--stack", "local")
    assert moved.returncode == 0, moved.stdout
    assert read_config(line)["migration"]["phase"] == phase
    line.up()


@dataclass
class Walk:
    """What each step cost its users."""

    load: Load
    rows: list[str] = field(default_factory=list[str])

    @contextmanager
    def step(self, told: str) -> Generator[None]:
        """Note what users saw while the block ran."""
        answers, lost, begun = len(self.load.answers), len(self.load.lost), time.monotonic()
        yield
        took = time.monotonic() - begun
        seen = self.load.answers[answers:]
        streams = [answer for answer in seen if answer.stream]
        longest = max((answer.seconds for answer in streams), default=0)
        cells = (
            told,
            f"{took:.0f} s",
            len(seen),
            len(streams),
            f"{longest:.0f} s",
            len(self.load.lost) - lost,
        )
        self.rows.append(f"| {' | '.join(map(str, cells))} |")


@contextmanager
def choosing(line: Line, load: Load) -> Generator[None]:
    """Users take the names that LibreChat lists, whichever these are just now."""
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(2):
            load.models = listed(line)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def expected(phase: str) -> dict[str, str]:
    """Who answers each name that a user may ask for."""
    if PHASES.index(phase) < PHASES.index("cutover"):
        return VLLM
    return {**BACKENDS, **{old: BACKENDS[new] for old, new in LEGACY.items()}}


def answered_by(load: Load, since: float) -> dict[str, set[str]]:
    """Who answered the requests that were made since."""
    found: dict[str, set[str]] = {}
    for answer in load.answers:
        if answer.asked_at >= since:
            found.setdefault(answer.model, set()).add(answer.api_base)
    return found


def stay(load: Load, phase: str, seconds: float) -> None:
    """Let users ask in a phase, and see that the right backend answers each name."""
    since = time.monotonic()
    time.sleep(seconds)
    found = answered_by(load, since)
    assert found
    assert found == {name: {expected(phase)[name]} for name in found}


def test_the_first_preview_changes_nothing_that_is_routed_or_listed(adopted: Line) -> None:
    assert adopted.ops("preview", "--expect-no-changes").returncode == 0
    assert listed(adopted) == list(LEGACY)
    document = adopted.kubectl("get", "configmap", "litellm-config", "-o", "jsonpath={.data.config\\.yaml}")
    assert document == (adopted.root / "legacy" / "local" / "litellm.yaml").read_text()
    assert runbook.INLINE_KEY not in document


def test_the_whole_way_there_and_back_loses_no_request_and_cuts_no_stream(adopted: Line) -> None:
    with under_load(adopted, *LEGACY, slow=SLOW, clients=CLIENTS, seconds=1800) as load, choosing(adopted, load):
        walk = Walk(load)
        stay(load, "parallel", 5)
        for before_it, phase in itertools.pairwise(PHASES):
            with walk.step(f"{before_it} → {phase}"):
                move(adopted, phase)
            stay(load, phase, 10)
        assert [runbook.replicas(adopted, worker) for worker in WORKERS.values()] == [0, 0, 0]
        assert set(TRANSPARENT) <= set(listed(adopted))
        with walk.step("done → parallel"):
            move(adopted, "parallel")
        stay(load, "parallel", 10)
    record(walk)
    assert load.lost == []
    assert sum(answer.stream for answer in load.answers) > len(load.answers) / 3
    assert max(answer.seconds for answer in load.answers) > 30
    assert {answer.model for answer in load.answers} == {*LEGACY, *TRANSPARENT}
    assert listed(adopted) == list(LEGACY)


def record(walk: Walk) -> None:
    """Write down what the walk was like, where that is asked for."""
    if not os.environ.get("LLAMA_CHAT_RECORD"):
        return
    head = ("step", "took", "answers", "of these streams", "longest stream", "failed or cut")
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}", *walk.rows]
    RECORD.write_text("\n".join((ABOUT, *lines, "")))
