"""How far a migration has come, and how far it may go next."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

from config.errors import Problem
from config.parts import Migration, Phase
from config.secrecy import key_path, problem

PHASES: tuple[Phase, ...] = get_args(Phase)
"""In their order."""
ROUTED = PHASES[:2]
"""Those in which the gateway leads to the Deployments of legacy routes."""
LISTED = PHASES[3:]
"""Those in which LibreChat lists our names."""
PHASE = "phase"
"""The stack output that says which phase was reached; absent in mode deploy, and before the first one."""
RENAMED = "renamed"
"""The stack output that says whether LibreChat lists no legacy name that is replaced."""
PHASE_SINCE = "phase_since"
"""The stack output that says when the phase that stands was first reached: `2026-11-24T10:00:00Z`."""


@dataclass(frozen=True, kw_only=True)
class Reached:
    """A phase in which everything came to stand."""

    phase: Phase
    since: datetime
    """When it was first reached since another one stood; UTC."""
    renamed: bool | None = None
    """Whether LibreChat lists no legacy name that is replaced; None where nobody has said so."""


def read_reached(outputs: Mapping[str, Any]) -> Reached | None:
    """What a stack's outputs say; None where they do not say both, as those of a program without a gate."""
    phase: Phase | None = next((it for it in PHASES if it == outputs.get(PHASE)), None)
    try:
        since = datetime.fromisoformat(str(outputs.get(PHASE_SINCE))).astimezone(UTC)
    except ValueError:
        return None
    renamed = outputs.get(RENAMED)
    told = renamed if isinstance(renamed, bool) else None
    return Reached(phase=phase, since=since, renamed=told) if phase else None


def refused_step(reached: Reached | None, wanted: Phase, migration: Migration, now: datetime) -> Problem | None:
    """Why a stack that has reached one phase may not go to another; None where it may.

    Forward goes one step at a time, the first one is `parallel`, and `done` comes `soak_hours` after `frontend`.
    Backward goes any number, but from a `done` that has dropped the legacy names: there it first goes to a phase that
    routes these beside ours. They are dropped once LibreChat lists them no more.
    """
    where = ("migration", "phase")
    if reached is None:
        first = PHASES[0]
        remedy = f"this stack has reached no phase yet: write {first} and bring it up, then go on one at a time"
        return None if wanted == first else problem(where, wanted, remedy)
    steps = PHASES.index(wanted) - PHASES.index(reached.phase)
    if steps > 1:
        following = following_phase(reached.phase)
        remedy = f"this stack has reached {reached.phase}, and phases go forward one at a time: write {following}"
        return problem(where, wanted, remedy)
    if reached.phase == "done" and wanted in ROUTED and not migration.keep_aliases:
        remedy = "with keep_aliases false, no legacy name is routed in done: go back to cutover first, then further"
        return problem(where, wanted, remedy)
    if wanted == "done" and not migration.keep_aliases and reached.renamed is False:
        remedy = "LibreChat still lists legacy names: bring renamed: true up with keep_aliases: true, then write false"
        return problem(("migration", "keep_aliases"), migration.keep_aliases, remedy)
    left = reached.since + timedelta(hours=migration.soak_hours) - now
    if steps == 1 and wanted == "done" and left > timedelta(0):
        since = f"{reached.since:%Y-%m-%d %H:%M} UTC"
        told = f"{reached.phase} soaks for {migration.soak_hours} h since {since}: {in_words(left)} are left"
        return problem(where, wanted, f"{told}: wait, or lower {key_path(('migration', 'soak_hours'))}")
    return None


def following_phase(phase: Phase) -> Phase | None:
    """The phase after one; None after the last."""
    later = PHASES[PHASES.index(phase) + 1 :]
    return later[0] if later else None


def in_words(left: timedelta) -> str:
    """How long that is, in whole minutes, never too short."""
    hours, minutes = divmod(-(-left // timedelta(minutes=1)), 60)
    return " ".join(part for part in (f"{hours} h" if hours else "", f"{minutes} min" if minutes else "") if part)
