"""The way from `make down` to the last model's first reply, with all that is cached."""

import time
from pathlib import Path

from local.console import run_logged
from ops.stack import ROOT


def warm_up(log: Path) -> float:
    """The seconds that `make up` takes right after a `make down`; the models' first replies are its last lines."""
    _make("down", log)
    begun = time.perf_counter()
    _make("up", log)
    return time.perf_counter() - begun


def _make(target: str, log: Path) -> None:
    run_logged(f"make {target}", ["make", target, "STACK=local"], log=log, cwd=ROOT)
