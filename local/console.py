"""What the person at the terminal sees while long commands run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from config.errors import UserError

TICK_SECONDS = 0.2
REPORT_SECONDS = 20.0
"""How often a run that nobody watches on a terminal says how far it is."""
TAIL_LINES = 15
KILL_AFTER_SECONDS = 5.0

# Progress goes to stderr: what a command is asked to print stays alone on stdout.
_console = Console(stderr=True, markup=False, highlight=False, soft_wrap=True)


def run_command(command: Callable[[], object]) -> None:
    """Run a program's whole command line, and show a user's error as one line.

    SIGTERM is an exception in it instead of a sudden end, so that what it started ends with it.
    """

    def terminated(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, terminated)
    try:
        command()
    except (UserError, OSError) as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(1)


def say(text: str) -> None:
    """Print one line of progress, never wrapped: commands in it can be copied."""
    _console.print(text, soft_wrap=True)


def run_logged(  # noqa: PLR0913 - the three at the end are one thing: how far it is
    title: str,
    argv: Sequence[str],
    *,
    log: Path,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    total: int | None = None,
    counts: Callable[[str], int | None] | None = None,
) -> None:
    """Run a long command and show how far it is; all that it prints is added to `log`.

    `counts` gets each line that the command prints and returns how many of `total` steps are done, or None where
    the line does not tell. A command that fails or cannot start raises UserError with the end of its output.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        output.write(f"$ {' '.join(argv)}\n".encode())
        output.flush()
        start = output.tell()
        try:
            # A group of its own: what the command starts ends with it.
            process = subprocess.Popen(
                argv, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0
            )
        except OSError as error:
            raise UserError(
                f"{title}: {argv[0]} cannot be started ({error.strerror}): install or repair it."
            ) from error
    with _ended(process), log.open("rb") as printed, _reporter(title, total, log) as report:
        printed.seek(start)
        code = _follow(process, printed, counts or (lambda _: None), report)
        if code != 0:
            raise UserError(f"{title} failed with exit code {code}. Its last lines, of {log}:\n{_tail(log, start)}")


@contextmanager
def _ended(process: subprocess.Popen[bytes]) -> Generator[None]:
    """End the whole group when the person (or an error) stops us."""
    try:
        yield
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGTERM)
            try:
                process.wait(KILL_AFTER_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def _follow(
    process: subprocess.Popen[bytes],
    printed: IO[bytes],
    counts: Callable[[str], int | None],
    report: Callable[[int | None], None],
) -> int:
    rest = b""
    while True:
        code = process.poll()
        *lines, rest = (rest + printed.read()).split(b"\n")
        done = None
        for line in lines:
            step = counts(line.decode(errors="replace"))
            done = done if step is None else step
        report(done)
        if code is not None:
            return code
        time.sleep(TICK_SECONDS)


@contextmanager
def _reporter(title: str, total: int | None, log: Path) -> Generator[Callable[[int | None], None]]:
    """How far it is, as one live line on a terminal, else as a line now and then."""
    start = time.monotonic()
    if _console.is_terminal:
        with _progress(total) as progress:
            task = progress.add_task(title, total=total)
            yield lambda done: _advance(progress, task, done)
    else:
        say(f"{title} … (log: {log})")
        yield _lines(title, total, start)
    say(f"{title}: {time.monotonic() - start:.0f} s")


def _progress(total: int | None) -> Progress:
    bar = (BarColumn(), TextColumn("{task.completed}/{task.total}")) if total else ()
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), *bar, TimeElapsedColumn())
    return Progress(*columns, console=_console, transient=True)


def _advance(progress: Progress, task: TaskID, done: int | None) -> None:
    if done is not None:
        progress.update(task, completed=done)


def _lines(title: str, total: int | None, start: float) -> Callable[[int | None], None]:
    reported, known = start, 0

    def report(done: int | None) -> None:
        nonlocal reported, known
        known = known if done is None else done
        now = time.monotonic()
        if now - reported >= REPORT_SECONDS:
            reported = now
            far = f"{known}/{total}, " if total else ""
            say(f"{title}: {far}{now - start:.0f} s so far")

    return report


def _tail(log: Path, start: int) -> str:
    with log.open("rb") as printed:
        printed.seek(max(start, log.stat().st_size - 65536))
        lines = printed.read().decode(errors="replace").splitlines()
    return "\n".join(f"  {line}" for line in lines[-TAIL_LINES:])
