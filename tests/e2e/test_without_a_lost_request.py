"""The way from vLLM to llama.cpp and back, under load: no request is lost, no stream is cut."""

import itertools
import os
import time

import pytest
import yaml

from config.phases import PHASES
from tests.e2e import runbook
from tests.e2e.checkout import commit, git, read_config, write_config
from tests.e2e.line import Line
from tests.e2e.runbook import LEGACY, WORKERS, document, listed
from tests.e2e.walking import CLIENTS, RECORDS, TRANSPARENT, VLLM, Walk, adopt, move, record, users

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2400)]
BACK_SECONDS = 60
"""What users may wait for vLLM, from the command on."""
ABOUT = f"""\
# The way there and back, under load

{CLIENTS} clients, of which 8 stream and 4 do not, ask for every name that LibreChat lists while the stack moves through
all phases and back; half of them connect anew for each request. An answer counts where its status is 200, its stream
ends with `[DONE]`, and the backend that gave it is one that a phase gives the name; after each step it is that phase's
alone. tests/e2e/test_without_a_lost_request.py wrote this, on one machine with 2 cores.
"""


def test_the_whole_way_there_and_back_loses_no_request_and_cuts_no_stream(before: Line) -> None:
    found = document(before), listed(before)
    with users(before) as walk:
        adopt(before)
        previewed = before.preview()
        assert "gateway-routes" in previewed
        assert runbook.INLINE_KEY not in previewed
        with walk.step("adopted: parallel"):
            before.up()
        assert before.ops("preview", "--expect-no-changes").returncode == 0
        assert meaning(document(before)) == meaning(found[0])
        assert runbook.INLINE_KEY not in document(before)
        assert listed(before) == found[1]
        for stood, phase in itertools.pairwise(PHASES):
            with walk.step(f"{stood} → {phase}"):
                move(before, phase)
            walk.stay(phase, 5)
        assert [runbook.replicas(before, worker) for worker in WORKERS.values()] == [0, 0, 0]
        assert set(TRANSPARENT) <= set(listed(before))
        with walk.step("done → cutover"):
            move(before, "cutover")
        walk.stay("cutover", 5)
        back_to_vllm(walk)
        back_by_history(walk)
        with walk.step("test → destroyed (make destroy)"):
            destroyed = before.ops("destroy", "--stack", "local", "--yes")
        assert destroyed.returncode == 0, destroyed.stdout
        walk.stay("parallel", 5)
    record("migration-under-load.md", ABOUT, walk.rows)
    assert walk.load.lost == []
    assert walk.misled == []
    assert sum(answer.stream for answer in walk.load.answers) > len(walk.load.answers) / 3
    assert max(answer.seconds for answer in walk.load.answers) >= runbook.SLOW_SECONDS
    assert {answer.model for answer in walk.load.answers} == {*LEGACY, *TRANSPARENT}
    assert (meaning(document(before)), listed(before)) == (meaning(found[0]), found[1])


def meaning(text: str) -> str:
    """A document but for the key that adopting takes out of it."""
    return text.replace(runbook.INLINE_KEY, "os.environ/LEGACY_KEY_1")


def back_to_vllm(walk: Walk) -> None:
    """From cutover to what was, as one does when users complain: how long until vLLM answers all of them."""
    begun = time.monotonic()
    with walk.step("cutover → parallel"):
        move(walk.line, "parallel")
    walk.stay("parallel", 10)
    waited = walk.seconds_until(VLLM, begun)
    walk.rows.append((f"vLLM answers everybody {waited:.0f} s after that command", *[""] * 5))
    # a machine that does other things too may be slower: what is written down must be within it
    assert waited < BACK_SECONDS or not os.environ.get(RECORDS)


def back_by_history(walk: Walk) -> None:
    """To the update that stood in phase test, and held there until the stack's file says the same."""
    line = walk.line
    (in_test,) = git(line.root, "log", "--format=%H", "--grep=Move local to phase test").split()
    with walk.step("parallel → test (make rollback)"):
        rolled = line.ops("rollback", "--stack", "local", "--to", in_test, "--yes")
    assert rolled.returncode == 0, rolled.stdout
    assert {f"{name}-test" for name in TRANSPARENT} < routed(line)
    walk.stay("test", 5)
    held = line.ops("up")
    assert held.returncode == 1
    assert "is held" in held.stdout
    config = read_config(line)
    config["migration"]["phase"] = "test"
    write_config(line, config)
    commit(line.root, "Say what stands")
    with walk.step("held no more (make resume)"):
        resumed = line.ops("resume", "--stack", "local")
    assert resumed.returncode == 0, resumed.stdout
    assert "is held no more" in resumed.stdout


def routed(line: Line) -> set[str]:
    """The names in LiteLLM's document."""
    return {entry["model_name"] for entry in yaml.safe_load(document(line))["model_list"]}
