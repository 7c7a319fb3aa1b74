"""The whole validation checklist against a live stack: it looks, asks, and changes nothing."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

from rich.table import Column, Table
from rich.text import Text

from config.errors import UserError
from config.model import StackConfig
from ops.backend_checks import backend_checks
from ops.checklist import FAULTS, Check, explained
from ops.forward import Gateway, open_gateway
from ops.frontend_checks import frontend_checks
from ops.kube import Kube
from ops.legacy_checks import legacy_checks
from ops.router_checks import router_checks
from ops.table import show


def verify(config: StackConfig, kube: Kube) -> list[Check]:
    """Every check of the runbook's list; one that fails, or cannot be made, stops no other."""
    checks = [check for backend in config.backends for check in backend_checks(config, kube, backend)]
    with ExitStack() as held:
        reach = reached(config, kube, held)
        checks += router_checks(config, kube, reach)
        checks += frontend_checks(config, kube, reach)
    return [*checks, *legacy_checks(config, kube)]


def print_table(checks: Sequence[Check]) -> None:
    """The checks as a table on stdout; what is long wraps."""
    columns = [Column(title, overflow="fold") for title in ("group", "subject", "check", "", "detail")]
    table = Table(*columns, box=None)
    for check in checks:
        mark = Text("ok", "green") if check.ok else Text("FAILED", "red")
        table.add_row(check.group, Text(check.subject), Text(check.what), mark, Text(check.detail))
    show(table)


def reached(config: StackConfig, kube: Kube, held: ExitStack) -> Callable[[], Gateway]:
    """The gateway, or for each that wants it the reason why it cannot be reached."""
    try:
        gateway = held.enter_context(open_gateway(config, kube))
    except FAULTS as error:
        reason = explained(error)

        def refuse() -> Gateway:
            raise UserError(reason)

        return refuse
    return lambda: gateway
