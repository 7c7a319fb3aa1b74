"""How far a migration may go, told by how far it has come."""

from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from config.parts import Migration, Phase
from config.phases import PHASES, Reached, following_phase, in_words, read_reached, refused_step

SINCE = datetime(2026, 11, 24, 10, 0, tzinfo=UTC)
LATER = SINCE + timedelta(days=9)


def refusal(
    reached: Phase | None, wanted: Phase, now: datetime = LATER, soak_hours: int = 24, *, keep_aliases: bool = True
) -> str | None:
    stood = Reached(phase=reached, since=SINCE) if reached else None
    found = refused_step(stood, wanted, Migration(soak_hours=soak_hours, keep_aliases=keep_aliases), now)
    return str(found) if found else None


@pytest.mark.parametrize(("reached", "wanted"), list(pairwise(PHASES)))
def test_one_step_forward_is_let_through_and_two_are_not(reached: Phase, wanted: Phase) -> None:
    assert refusal(reached, wanted) is None
    further = following_phase(wanted)
    if further:
        assert refusal(reached, further) == (
            f"llama-chat:migration.phase: {further}: this stack has reached {reached}, and phases go forward one at a "
            f"time: write {wanted}"
        )


@pytest.mark.parametrize("reached", PHASES)
def test_every_way_back_is_open_and_so_is_staying(reached: Phase) -> None:
    at_once = [refusal(reached, wanted, now=SINCE) for wanted in PHASES[: PHASES.index(reached) + 1]]
    assert at_once == [None] * (PHASES.index(reached) + 1)


def test_from_done_without_aliases_the_way_back_leads_over_a_phase_that_routes_both() -> None:
    for wanted in ("parallel", "test"):
        assert "go back to cutover first" in (refusal("done", wanted, keep_aliases=False) or "")
    assert refusal("done", "cutover", keep_aliases=False) is None
    assert refusal("frontend", "parallel", keep_aliases=False) is None


def test_a_stack_that_has_reached_nothing_begins_with_parallel() -> None:
    assert refusal(None, "parallel") is None
    assert [refusal(None, wanted) for wanted in PHASES[1:]] == [
        f"llama-chat:migration.phase: {wanted}: this stack has reached no phase yet: write parallel and bring it up, "
        "then go on one at a time"
        for wanted in PHASES[1:]
    ]


def test_done_waits_until_the_frontend_has_soaked_and_says_for_how_long() -> None:
    assert refusal("frontend", "done", now=SINCE + timedelta(hours=20, minutes=40)) == (
        "llama-chat:migration.phase: done: frontend soaks for 24 h since 2026-11-24 10:00 UTC: 3 h 20 min are left: "
        "wait, or lower llama-chat:migration.soak_hours"
    )
    assert refusal("frontend", "done", now=SINCE + timedelta(hours=24)) is None
    assert refusal("frontend", "done", now=SINCE, soak_hours=0) is None


def test_no_other_step_waits() -> None:
    assert [refusal(reached, wanted, now=SINCE) for reached, wanted in pairwise(PHASES[:-1])] == [None] * 3


@pytest.mark.parametrize(
    ("seconds", "words"), [(1, "1 min"), (60, "1 min"), (61, "2 min"), (3600, "1 h"), (86399, "24 h")]
)
def test_time_is_told_in_whole_minutes_and_never_too_short(seconds: int, words: str) -> None:
    assert in_words(timedelta(seconds=seconds)) == words


@pytest.mark.parametrize(
    "outputs",
    [
        {},
        {"phase": "cutover"},
        {"phase_since": "2026-11-24T10:00:00Z"},
        {"phase": "elsewhere", "phase_since": "2026-11-24T10:00:00Z"},
        {"phase": "cutover", "phase_since": "yesterday"},
    ],
)
def test_outputs_that_do_not_say_both_have_reached_nothing(outputs: dict[str, str]) -> None:
    assert read_reached(outputs) is None


def test_what_was_reached_is_read_in_utc() -> None:
    read = read_reached({"phase": "frontend", "phase_since": "2026-11-24T11:00:00+01:00", "gateway": "x"})
    assert read == Reached(phase="frontend", since=SINCE)
