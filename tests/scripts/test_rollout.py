"""The wait for Deployments, against answers of an API server."""

from typing import TYPE_CHECKING, Any, cast

import pytest

from components.scripts.rollout import Cluster, Failure, Run, stands, wait_for

if TYPE_CHECKING:
    from collections.abc import Sequence

PLAN: dict[str, Any] = {
    "namespace": "ai",
    "seconds": 0.05,
    "deployments": {"vllm-general": "f2"},
    "annotations": {},
    "bars": True,
}


@pytest.fixture(autouse=True)
def hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{Run.__module__}._PAUSE_SECONDS", 0.001)


def deployment(*counts: int, seen: int = 3) -> dict[str, Any]:
    kinds = ("replicas", "updatedReplicas", "availableReplicas")
    status = {"observedGeneration": seen, **dict(zip(kinds, counts, strict=True))}
    template: dict[str, Any] = {"metadata": {}}
    return {"metadata": {"generation": 3}, "spec": {"replicas": 2, "template": template}, "status": status}


def annotated(value: str) -> dict[str, Any]:
    """One that stands, whose template has an annotation."""
    made = deployment(2, 2, 2)
    made["spec"]["template"]["metadata"]["annotations"] = {"read": value, "of": "others"}
    return made


class Told:
    """A cluster that answers one thing after the other, the last one again and again."""

    def __init__(self, *answers: dict[str, Any] | None) -> None:
        self.answers: Sequence[dict[str, Any] | None] = answers
        self.asked = 0

    def get(self, _kind: str, _name: str) -> dict[str, Any] | None:
        self.asked += 1
        return self.answers[min(self.asked, len(self.answers)) - 1]


def verdict(told: Told, **changes: Any) -> str:  # noqa: ANN401 - values of the plan
    return wait_for({**PLAN, **changes}, cast("Cluster", told), Run())


def test_what_the_controller_has_not_seen_yet_does_not_count() -> None:
    told = Told(deployment(2, 2, 2, seen=2), deployment(2, 2, 1), deployment(2, 2, 2))
    assert verdict(told) == "ok: vllm-general at full strength"
    assert told.asked == 3


@pytest.mark.parametrize("counts", [(3, 2, 2), (2, 1, 2), (2, 2, 1), (0, 0, 0)])
def test_old_pods_and_missing_ones_do_not_count(counts: tuple[int, int, int]) -> None:
    assert not stands(deployment(*counts))


def test_one_that_never_comes_is_told_with_what_to_look_at() -> None:
    with pytest.raises(Failure, match=r"vllm-general: of 2 new pods 1 are there after 0.05 s: look at its pods: kube"):
        verdict(Told(deployment(2, 2, 1)))


def test_old_pods_that_still_answer_are_not_told_as_new_ones() -> None:
    with pytest.raises(Failure, match="of 2 new pods 0 are there"):
        verdict(Told(deployment(4, 2, 2)))


def test_one_that_is_not_there_is_told_at_once() -> None:
    told = Told(None)
    with pytest.raises(Failure, match="has no Deployment vllm-general"):
        verdict(told)
    assert told.asked == 1


@pytest.mark.parametrize(("wanted", "before", "after"), [("f2", "f1", "f2"), (None, "f1", None)])
def test_a_patch_that_is_not_waited_for_is_known_by_its_annotation(
    wanted: str | None, before: str, after: str | None
) -> None:
    told = Told(annotated(before), annotated(before), annotated(after) if after else deployment(2, 2, 2))
    assert verdict(told, annotations={"read": wanted}) == "ok: vllm-general at full strength"
    assert told.asked == 3


def test_one_that_bars_nothing_is_waited_for_in_vain_and_told() -> None:
    told = verdict(Told(deployment(2, 2, 1)), bars=False)
    assert told.startswith("ok: the update goes on all the same: vllm-general: of 2 new pods 1 are there after 0.05 s")
