"""A migration's steps as an operator makes them, and what their users see meanwhile."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from config.phases import PHASES
from tests.e2e import runbook
from tests.e2e.checkout import commit, read_config, write_config
from tests.e2e.line import ROOT, Line
from tests.e2e.load import Answer, Load, under_load
from tests.e2e.runbook import LEGACY, WORKERS, listed

TRANSPARENT = ("gemma-3-270m", "tiny-ada", "tiny-bohr", "tiny-curie", "tiny-dirac")
SLOW = ("reasoning-chat", "gemma-3-270m")
CLIENTS = 12
"""8 that stream, 4 that do not."""
THINK_SECONDS = 1.5
"""So that two cores carry them beside the updates."""
VLLM = {name: f"http://{worker}.ai.svc.cluster.local:8000/v1" for name, worker in WORKERS.items()}
OURS = {
    "gemma-3-270m": "http://llama-static-a.ai.svc.cluster.local:8080/v1",
    "tiny-ada": "http://llama-static-b.ai.svc.cluster.local:8080/v1",
    **dict.fromkeys(("tiny-bohr", "tiny-curie", "tiny-dirac"), "http://llama-swap.ai.svc.cluster.local:8080/v1"),
}
MOVED = {**OURS, **{old: OURS[new] for old, new in LEGACY.items()}}
"""Who answers each name from cutover on."""
STOPPING_SECONDS = 15
"""How long a pod that was told to end may still take requests, until no node sends it any."""
RECORDS = "LLAMA_CHAT_RECORD"
"""Where this variable is set, as `make test-full` does, what was seen is written into docs/."""
Row = tuple[object, ...]
HEAD = ("step", "took", "answers", "of these streams", "longest stream", "failed or cut")


def adopt(line: Line) -> None:
    """Read what runs, say what replaces it, and commit both."""
    done = line.ops("adopt", "--stack", "local", "--yes")
    assert done.returncode == 0, done.stdout
    assert runbook.INLINE_KEY not in done.stdout
    config = read_config(line)
    for route in config["legacy"]["routes"]:
        route["replaced_by"] = LEGACY[route["name"]]
    write_config(line, config)
    commit(line.root, "Adopt what runs")


def move(line: Line, phase: str) -> None:
    """Another phase, in the way that an operator goes there: one command that edits and commits, then make up."""
    write_phase(line, phase)
    line.up()


def write_phase(line: Line, phase: str) -> None:
    """Promote or demote the stack's file."""
    now = read_config(line)["migration"]["phase"]
    command = ("promote",) if PHASES.index(phase) > PHASES.index(now) else ("demote", "--to", phase)
    moved = line.ops(*command, "--stack", "local")
    assert moved.returncode == 0, moved.stdout
    assert read_config(line)["migration"]["phase"] == phase


@dataclass
class Walk:
    """Users at work, and what each step cost them."""

    line: Line
    load: Load
    rows: list[Row] = field(default_factory=list[Row])
    """As `HEAD` names them."""

    @contextmanager
    def step(self, told: str) -> Generator[None]:
        """Note what users saw while the block ran."""
        answers, lost, begun = len(self.load.answers), len(self.load.lost), time.monotonic()
        yield
        took, seen = time.monotonic() - begun, self.load.answers[answers:]
        streams = [answer.seconds for answer in seen if answer.stream]
        longest = f"{max(streams, default=0):.0f} s"
        self.rows.append((told, f"{took:.0f} s", len(seen), len(streams), longest, len(self.load.lost) - lost))
        sys.stdout.write(f"{self.rows[-1]}\n")
        sys.stdout.flush()

    def stay(self, phase: str, seconds: float) -> None:
        """Let users ask in a phase, and see that the right backend answers each name, old pods aside."""
        expected = VLLM if phase in {"parallel", "test"} else MOVED
        deadline = time.monotonic() + STOPPING_SECONDS
        while True:
            since = time.monotonic()
            time.sleep(seconds)
            found = answered_by(self.since(since))
            if found and found == {name: {expected[name]} for name in found}:
                return
            assert time.monotonic() < deadline, found

    @property
    def misled(self) -> list[Answer]:
        """Answers of a backend that the name has in no phase."""
        return [it for it in self.load.answers if it.api_base not in {VLLM.get(it.model), MOVED[it.model]}]

    def since(self, moment: float) -> list[Answer]:
        """The answers to what was asked since a moment of the monotonic clock."""
        return [answer for answer in self.load.answers if answer.asked_at >= moment]

    def seconds_until(self, bases: Mapping[str, str], begun: float) -> float:
        """How long after `begun` somebody else than these still took a request."""
        others = [it.asked_at for it in self.since(begun) if it.api_base not in bases.values()]
        return max(others, default=begun) - begun


@contextmanager
def users(line: Line, seconds: float = 2400) -> Generator[Walk]:
    """Paced users who take the names that LibreChat lists, whichever these are just now."""
    ended = threading.Event()
    with under_load(
        line, *listed(line), slow=SLOW, clients=CLIENTS, seconds=seconds, think_seconds=THINK_SECONDS
    ) as load:

        def look() -> None:
            while not ended.wait(2):
                try:
                    load.models = listed(line)
                except subprocess.CalledProcessError:  # the API server is away: they go on with what they know
                    continue

        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield Walk(line, load)
        finally:
            ended.set()
            looking.join()


def answered_by(answers: list[Answer]) -> dict[str, set[str]]:
    """Who answered each name."""
    found: dict[str, set[str]] = {}
    for answer in answers:
        found.setdefault(answer.model, set()).add(answer.api_base)
    return found


def record(name: str, about: str, rows: Sequence[Row]) -> None:
    """Write a table of steps into a file of docs/, where that is asked for."""
    if os.environ.get(RECORDS):
        lines = [f"| {' | '.join(map(str, row))} |" for row in (HEAD, ["---"] * len(HEAD), *rows)]
        (ROOT / "docs" / name).write_text("\n".join((about, *lines, "")))
