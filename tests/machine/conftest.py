import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local import machine
from local.machine.layout import Layout
from local.machine.lifecycle import TOOLS
from local.paths import Instance
from local.system import require_packages
from local.toolchain import Tools

ROLES = ("static-a", "swap")


@pytest.fixture(autouse=True, scope="module")
def event_loop() -> Iterator[None]:
    """One is there afterwards: Pulumi's SDK wants it in other tests, and `asyncio.run` leaves none."""
    yield
    asyncio.set_event_loop(asyncio.new_event_loop())


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    return Layout(
        name="test",
        state=tmp_path / "state",
        cache=tmp_path / "cache",
        api_port=16443,
        roles=ROLES,
        tools={name: f"/tools/{name}" for name in TOOLS},
    )


@pytest.fixture(scope="module")
def instance(tools: Tools) -> Iterator[Instance]:
    """A cluster of these tests' own, whatever else runs beside it; taken away at the end, and first of all."""
    own = Instance(name="machine-test", api_port=26443, gateway_port=24000, registry_port=25050, hub_port=28090)
    require_packages("procps")  # pkill: these tests kill daemons by name
    machine.down(own)  # what a killed run left: its state lies where this one's will
    try:
        machine.up(own, tools, ROLES)
        yield own
    finally:
        machine.down(own)


@pytest.fixture
def again(instance: Instance, tools: Tools) -> Callable[[], str]:
    """Brings the cluster up once more, as the next `make up` would."""
    return lambda: machine.up(instance, tools, ROLES)
