"""The real CLI and the whole line, on a cluster of the tests' own beside whatever else runs."""

import os
from collections.abc import Iterator

import pytest

from local.paths import INSTANCES
from local.toolchain import Tools
from tests.e2e import runbook
from tests.e2e.checkout import clone, commit, read_config, write_config
from tests.e2e.line import Line
from tests.e2e.walking import adopt


@pytest.fixture(scope="session")
def line(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """The tests' own instance with an empty state; gone, whatever happens, when they end."""
    assert tools.path("pulumi").exists()
    scratch = tmp_path_factory.mktemp("e2e")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LLAMA_CHAT_INSTANCE", "test")
        made = Line(INSTANCES["test"], dict(os.environ), scratch)
        made.down()  # what a killed run left: its state lies where this one's will
        try:
            yield made
        finally:
            made.down()


@pytest.fixture
def standing(line: Line) -> Line:
    """The local stack as its file says, brought there from wherever the last test left it."""
    if not line.as_filed:
        line.up()
    return line


@pytest.fixture(scope="module")
def before(line: Line, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Line]:
    """What the runbook starts from, in a cluster of its own, and a checkout whose local stack is to adopt it."""
    line.down()
    folder = tmp_path_factory.mktemp("migration")
    operator = Line(line.instance, line.env, folder, root=clone(folder / "llama-chat"))
    started = operator.ops("cluster")
    assert started.returncode == 0, started.stdout
    config = read_config(operator)
    config["gateway"] |= {"mode": "adopt", "config_map": "litellm-config", "config_key": "config.yaml"}
    config["frontend"] = {"mode": "adopt", "endpoint_name": "vLLM"}
    # nothing but the tests' patience soaks here
    config["migration"] = {"phase": "parallel", "soak_hours": 0}
    write_config(operator, config)
    commit(operator.root, "Name what is to be adopted")
    runbook.put(operator)
    yield operator
    line.down()


@pytest.fixture(scope="module")
def adopted(before: Line) -> Line:
    """The same, adopted: the stack stands in phase parallel."""
    adopt(before)
    before.up()
    return before
