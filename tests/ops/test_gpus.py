"""Each pod counts for what the scheduler keeps for it."""

from typing import Any

import pytest

from ops.gpus import taken, whole

GPU = "amd.com/gpu"
Object = dict[str, Any]


def container(gpus: int, *, sidecar: bool = False) -> Object:
    made: Object = {"resources": {"limits": {GPU: str(gpus), "memory": "1Gi"}}}
    return {**made, "restartPolicy": "Always"} if sidecar else made


def pod(*containers: Object, init: tuple[Object, ...] = ()) -> Object:
    return {"spec": {"containers": list(containers), "initContainers": list(init)}}


@pytest.mark.parametrize(
    ("counted", "gpus"),
    [
        (pod(container(1), container(2)), 3),
        # one after the other, and all before the containers
        (pod(container(1), init=(container(1),)), 1),
        (pod(container(1), init=(container(1), container(3))), 3),
        # together with all that comes after it
        (pod(container(1), init=(container(1, sidecar=True),)), 2),
        (pod(container(1), init=(container(1, sidecar=True), container(3))), 4),
        (pod(container(1), init=(container(3), container(1, sidecar=True))), 3),
    ],
)
def test_what_runs_at_the_same_time_adds_and_what_runs_in_turn_does_not(counted: Object, gpus: int) -> None:
    assert taken(counted) == {GPU: gpus}


def test_a_pod_without_limits_takes_nothing() -> None:
    assert taken({"spec": {"containers": [{}, {"resources": {"requests": {"cpu": "1"}}}]}}) == {}


@pytest.mark.parametrize(
    ("quantity", "count"), [("0", 0), ("8", 8), ("48k", 48000), ("2M", 2_000_000), ("1Ki", 1024), ("1e3", 1000)]
)
def test_a_quantity_is_read_in_any_way_that_the_api_server_writes_it(quantity: str, count: int) -> None:
    assert whole(quantity) == count
