"""The migration's gate in the program: no update goes further than one phase, and the outputs say what was reached."""

from collections.abc import Sequence
from datetime import UTC, datetime

import pulumi

from config.hold import previous_outputs
from config.model import StackConfig
from config.phases import LISTED, PHASE, PHASE_SINCE, RENAMED, Reached, read_reached, refused_step


def respect_gate(config: StackConfig) -> Reached | None:
    """The phase that the stack has reached, once the gate lets it go to the one that is configured.

    To be called before anything is registered, in previews too. A gateway of our own has no phases: a stack that comes
    from mode deploy has reached none, and begins with the first. Raises pulumi.RunError, a line a problem.
    """
    if config.gateway.mode != "adopt":
        return None
    reached, wanted = read_reached(previous_outputs()), config.migration
    if refusal := refused_step(reached, wanted.phase, wanted, datetime.now(UTC)):
        raise pulumi.RunError(str(refusal))
    return reached


def export_phase(config: StackConfig, reached: Reached | None, last: Sequence[pulumi.Resource]) -> None:
    """Say that the phase stands, and since when, once the last resources of it stand.

    The engine takes a stack's outputs all at once: until these are known, it keeps those of the update before. A phase
    that stood before keeps its time, so that an update without a change shows none.
    """
    if config.gateway.mode != "adopt":
        return
    phase = config.migration.phase
    stands = pulumi.Output.all(*(it.urn for it in last))

    def since(_: object) -> str:
        moment = reached.since if reached and reached.phase == phase else datetime.now(UTC)
        return f"{moment:%Y-%m-%dT%H:%M:%SZ}"

    pulumi.export(PHASE, stands.apply(lambda _: phase))
    pulumi.export(PHASE_SINCE, stands.apply(since))
    listed = phase in LISTED and (config.migration.renamed or not config.legacy.replaced)
    pulumi.export(RENAMED, stands.apply(lambda _: listed))
