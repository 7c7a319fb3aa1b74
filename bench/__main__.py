"""`make bench`: what our layers cost, as one table."""

import os
import platform
import sys
import tempfile
from pathlib import Path
from typing import Annotated

import typer

from bench.command import SAMPLE_SECONDS
from bench.fetches import LINE_MB, Fetches, measure_fetches
from bench.previews import TITLES, Previews, measure
from bench.table import Aim, Row, markdown, ratios
from bench.warm import warm_up
from local.bring_up import sole_user
from local.console import run_command
from local.paths import cache_dir, current_instance

COMPARED = (
    ("prod", "empty", Aim(most=2.2, text="about 2 x (<= 2.2 x)")),
    ("prod", "bare", Aim(most=1.15, text="<= 1.15 x")),
    ("many", "few", Aim(most=1.2, text="<= 1.2 x")),
)
FETCH = Aim(most=1.0, text="<= 1.0 x")
AGAIN = Aim(most=1.0, text="under 1 %")
WARM = Aim(most=180, text="<= 180 s")
NOTES = f"""\
- preview: the whole command `pulumi preview --expect-no-changes` of a stack that was applied before. The stacks take
  turns in rounds; a ratio is that of two previews of one round.
- prod: Pulumi.prod.yaml on the one-machine cluster, in a namespace of its own where no pod starts.
- none of our layers: what prod registers, one call of a plain pulumi_kubernetes class an object, with the same order,
  protection and timeouts; no stack config, no components.
- memory: the most that pulumi and all that it starts had together (resident sets, read every
  {SAMPLE_SECONDS * 1000:.0f} ms; what they share is counted twice), in rounds of their own.
- fetch: 1 GiB from the local hub through the script that runs in pods, against curl of the same file and then
  sha256sum, in turns, on the same disk; the script also syncs what it has written. Killed: while the hub sends
  {LINE_MB} MB a second, kill -9 once half is on the disk, then a second run; what the hub sent in all, less the file.
- make up: the local stack, right after `make down`, with all that is cached; it ends with the last model's first reply.
"""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def bench(
    runs: Annotated[int, typer.Option(min=5, help="rounds of each measurement")] = 5,
    warm_runs: Annotated[int, typer.Option(min=0, help="times that the local stack is removed and made anew")] = 1,
    markdown_file: Annotated[Path | None, typer.Option("--markdown", help="write the table there too")] = None,
) -> None:
    """Measure previews, their memory and a warm start; the local stack stands afterwards, made anew."""
    instance = current_instance()
    with tempfile.TemporaryDirectory(prefix="llama-chat-bench-") as folder, sole_user(instance):
        previews = measure(instance, Path(folder), runs)
    with tempfile.TemporaryDirectory(prefix="llama-chat-bench-") as folder:
        fetches = measure_fetches(Path(folder), runs)
    warm: list[float] = []
    try:
        warm.extend(warm_up(cache_dir() / "logs" / "bench.log") for _ in range(warm_runs))
    finally:  # what is measured is shown, whatever comes of the rest
        text = f"{markdown(rows(previews, fetches, warm))}\n{here()}{NOTES}"
        sys.stdout.write(text)
        if markdown_file:
            markdown_file.write_text(text)


def rows(previews: Previews, fetches: Fetches, warm: list[float]) -> list[Row]:
    """The table's rows: seconds, their ratios, memory, fetches, and the warm start where there was one."""
    seconds = previews.seconds
    return [
        *(Row(what=f"preview: {title}", values=seconds[name], unit="s") for name, title in TITLES.items()),
        *(
            Row(
                what=f"{TITLES[above]} : {TITLES[below]}",
                values=ratios(seconds[above], seconds[below]),
                unit="x",
                aim=aim,
            )
            for above, below, aim in COMPARED
        ),
        *(
            Row(what=f"memory: {title}", values=previews.peak_mib[name], unit="MiB", digits=0)
            for name, title in TITLES.items()
        ),
        Row(what="fetch of 1 GiB", values=fetches.fetch, unit="s"),
        Row(what="curl of 1 GiB, then sha256sum", values=fetches.curl, unit="s"),
        Row(what="fetch : curl and sha256sum", values=ratios(fetches.fetch, fetches.curl), unit="x", aim=FETCH),
        Row(what="sent again after a kill at half way", values=fetches.again, unit="%", digits=3, aim=AGAIN),
        *([Row(what="make up after make down", values=warm, unit="s", digits=0, aim=WARM)] if warm else []),
    ]


def here() -> str:
    """The note that names the machine."""
    memory, python = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, platform.python_version()
    return f"- machine: {os.cpu_count()} cores, {memory:.0f} GiB, {platform.machine()}; Python {python}\n"


if __name__ == "__main__":
    run_command(app)
