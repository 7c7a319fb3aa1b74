"""What goes wrong on the way costs no user a request, empties no route, and is mended by `make up`."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import pytest

from config.phases import PHASES
from local import machine
from tests.e2e.checkout import commit, read_config, write_config
from tests.e2e.killing import kill_up_when
from tests.e2e.line import Line
from tests.e2e.runbook import LEGACY, document
from tests.e2e.walking import OURS, Row, Walk, move, record, users, write_phase

pytestmark = [pytest.mark.cluster, pytest.mark.full, pytest.mark.timeout(3600)]
ABOUT = """\
# Faults on the way, under load

What 12 paced clients saw while something went wrong; migration-under-load.md tells who they are. Each row is a test of
tests/e2e/test_without_harm.py, which wrote this.
"""
WAYS = [
    *(pytest.param(phase, id=f"to {phase}") for phase in PHASES[1:]),
    *(pytest.param(phase, id=f"back to {phase}") for phase in reversed(PHASES[:-1])),
]


@pytest.fixture(scope="module")
def table() -> Iterator[list[Row]]:
    """What users saw of each test."""
    rows: list[Row] = []
    yield rows
    record("migration-faults.md", ABOUT, rows)


@pytest.fixture
def walk(adopted: Line, table: list[Row], request: pytest.FixtureRequest) -> Iterator[Walk]:
    """Users at work around a test; none of them may lose a request or meet a cut stream."""
    with users(adopted) as walk:
        walk.stay(read_config(adopted)["migration"]["phase"], 2)
        with walk.step(request.node.name.removeprefix("test_").replace("_", " ")):
            yield walk
    table += walk.rows
    assert walk.load.lost == []
    assert walk.misled == []


def picker(line: Line) -> str:
    """LibreChat's document as the cluster has it."""
    return line.kubectl("get", "configmap", "librechat-config", "-o", "jsonpath={.data.librechat\\.yaml}")


def changed(line: Line) -> Callable[[], bool]:
    """Whether an update has reached what users meet: the middle of it, with pods still to be rolled."""
    before = document(line), picker(line)
    return lambda: (document(line), picker(line)) != before


def test_a_kill_9_of_the_update_that_goes_on_is_mended_by_going_back(walk: Walk) -> None:
    line = walk.line
    write_phase(line, "test")
    kill_up_when(line, changed(line))
    move(line, "parallel")
    walk.stay("parallel", 5)
    assert document(line) == (line.root / "legacy" / "local" / "litellm.yaml").read_text()


@pytest.mark.parametrize("phase", WAYS)
def test_a_kill_9_of_the_update_into_a_phase_is_mended_by_make_up(walk: Walk, phase: str) -> None:
    line = walk.line
    write_phase(line, phase)
    kill_up_when(line, changed(line))
    line.up()
    walk.stay(phase, 5)


def test_an_api_server_that_restarts_in_the_middle_of_an_update_costs_no_more_than_another_make_up(walk: Walk) -> None:
    line = walk.line
    write_phase(line, "test")
    moment = changed(line)
    updating = begin_up(line)
    deadline = time.monotonic() + 300
    while not moment():
        assert updating.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert machine.exec_in(line.instance, ["pkill", "-KILL", "-f", "kube-apiserver"]).returncode == 0
    printed, _ = updating.communicate(timeout=900)
    assert "Traceback" not in printed
    line.up()
    walk.stay("test", 5)


def test_a_gateway_pod_that_is_taken_away_is_missed_by_nobody(walk: Walk) -> None:
    names = walk.line.kubectl("get", "pods", "-l", "app=llm-gateway", "-o", "name").split()
    walk.line.kubectl("delete", names[0], "--wait=false")
    walk.stay("test", 45)


def test_a_backend_that_never_becomes_healthy_fails_the_update_and_leaves_the_routes(walk: Walk) -> None:
    line = walk.line
    if read_config(line)["migration"]["phase"] != "test":
        move(line, "test")
    before = document(line)
    never = line.image("llama.cpp", "server-never", "#!/bin/sh\nexec sleep infinity\n")
    budget = line.root / "render" / "budget.py"
    patient = budget.read_text()
    config = read_config(line)
    sick = deepcopy(config)
    sick["statics"][1]["image"] = never
    sick["migration"]["phase"] = "cutover"
    try:
        # its image is here already: nobody has to wait long for that
        hasty, found = re.subn(r"(?m)^PULL_SECONDS = \d+$", "PULL_SECONDS = 20", patient)
        assert found == 1
        budget.write_text(hasty)
        failed = up_with(line, sick)
    finally:
        budget.write_text(patient)
    assert failed.returncode == 1
    # Pulumi's own wait for the Deployment may end at once: then the smoke test says it
    said = r"llama-static-b-\S+ is of content \S+ and not ready: look at the Deployment's events|minimum availability"
    assert re.search(said, failed.stdout), failed.stdout
    assert document(line) == before
    mended = up_with(line, config)
    assert mended.returncode == 0, mended.stdout
    walk.stay("test", 5)


def test_a_document_that_somebody_changed_is_refused_until_it_is_said_to_be_written_over(walk: Walk) -> None:
    line, before = walk.line, document(walk.line)
    theirs = json.dumps({"data": {"config.yaml": before.replace("timeout: 120", "timeout: 119", 1)}})
    line.kubectl("patch", "configmap", "litellm-config", "--type=merge", "--patch", theirs)
    refused = line.ops("up")
    assert refused.returncode == 1
    assert "somebody has changed its config.yaml since" in refused.stdout
    assert "timeout: 119" in refused.stdout
    assert document(line) != before
    over = line.ops("up", "--overwrite")
    assert over.returncode == 0, over.stdout
    assert document(line) == before


def test_two_operators_at_once_are_told_so_and_harm_nothing(walk: Walk) -> None:
    line, before = walk.line, document(walk.line)
    write_phase(line, "cutover")
    first = begin_up(line)
    locks = line.instance.state / "pulumi" / ".pulumi" / "locks"
    while not any(locks.rglob("*.json")):
        assert first.poll() is None
        time.sleep(0.2)
    second = line.ops("up")
    assert second.returncode == 1
    assert "wait for it to end" in second.stdout
    # one who has another machine meets Pulumi's own lock
    file = line.instance.state / "Pulumi.local.yaml"
    command = ["pulumi", "up", "--stack", "local", "--config-file", str(file), "--yes", "--skip-preview"]
    third = subprocess.run(command, cwd=line.root, env=line.pulumi_env(), capture_output=True, text=True, check=False)
    assert third.returncode != 0
    assert "locked" in third.stdout + third.stderr
    printed, _ = first.communicate(timeout=900)
    assert first.returncode == 0, printed
    assert document(line) != before
    walk.stay("cutover", 5)


def test_a_backend_pod_that_is_taken_away_is_missed_by_its_own_users_alone_and_comes_back(adopted: Line) -> None:
    with users(adopted) as walk:
        walk.stay("cutover", 2)
        pod = adopted.pod("llama-static-b")["metadata"]["name"]
        adopted.kubectl("delete", "pod", pod, "--wait=false")
        time.sleep(30)
        walk.stay("cutover", 15)
    gone = {old for old, new in LEGACY.items() if new == "tiny-ada"} | {"tiny-ada"}
    assert [told for told in walk.load.lost if not any(f" {name} " in told for name in gone)] == []
    assert OURS["tiny-ada"] in {answer.api_base for answer in walk.load.answers[-60:]}


@pytest.mark.parametrize("phase", PHASES)
def test_destroyed_from_any_phase_the_gateway_answers_with_what_it_had(walk: Walk, phase: str) -> None:
    line = walk.line
    if read_config(line)["migration"]["phase"] != "parallel":
        move(line, "parallel")
    line.up()
    for step in PHASES[1 : PHASES.index(phase) + 1]:
        move(line, step)
    destroyed = line.ops("destroy", "--stack", "local", "--yes")
    assert destroyed.returncode == 0, destroyed.stdout
    assert document(line) == (line.root / "legacy" / "local" / "litellm.yaml").read_text()
    assert picker(line) == (line.root / "legacy" / "local" / "librechat.yaml").read_text()
    walk.stay("parallel", 10)
    config = read_config(line)
    config["migration"]["phase"] = "parallel"
    write_config(line, config)
    commit(line.root, "Begin again")


def begin_up(line: Line) -> subprocess.Popen[str]:
    """`make up`, at work in the background; all that it prints comes in one pipe."""
    return subprocess.Popen(
        [sys.executable, "-m", "ops", "up"],
        cwd=line.root,
        env=dict(line.env),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def up_with(line: Line, config: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """`make up` with another stack file, which is committed."""
    write_config(line, config)
    commit(line.root, "Try something")
    return line.ops("up")
