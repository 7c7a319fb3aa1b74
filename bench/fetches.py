"""A large file's way from the hub to a volume, beside curl and sha256sum; and what a killed fetch asks for again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.command import Command
from config.errors import UserError
from local.console import say
from local.hub.repo import Repo
from ops.stack import ROOT

GIB = 2**30
_CHUNK = 2**24
REPO = "bench/large-GGUF"
FETCH = ROOT / "components" / "scripts" / "fetch_model.py"
LINE_MB = 200
HALF_WAY_SECONDS = 120


@dataclass(frozen=True, kw_only=True)
class Fetches:
    """One value a round."""

    fetch: Sequence[float]
    """Seconds of the fetch script, from its start to a file that is whole, verified and in place."""
    curl: Sequence[float]
    """Seconds of `curl` and then `sha256sum` of the same file."""
    again: Sequence[float]
    """Percent of the file that the hub sent more than once, after a kill -9 at half way."""


def measure_fetches(folder: Path, runs: int, size: int = GIB) -> Fetches:
    """Fetch a file of so many bytes in turns with curl, then kill a fetch at half way and let another end it."""
    if not shutil.which("curl"):
        raise UserError("curl is not installed, and the fetch is measured against it: apt-get install curl.")
    model = publish(folder / "hub", size)
    with hub(folder) as url:
        fetch, curl = fetching(folder, url, model), curling(folder, url, model)
        seconds: list[tuple[float, float]] = []
        for number in range(runs + 1):
            say(f"fetching {size / 1e9:.2f} GB: {'not counted' if not number else f'round {number} of {runs}'}")
            seconds.append((fetch.seconds(), curl.seconds()))
            shutil.rmtree(folder / "volume")
        # as from another machine: what a loopback holds on its way is more than what a line does
        (folder / "hub" / REPO / ".hub.json").write_text(json.dumps({"faults": {"bytes_per_second": LINE_MB * 10**6}}))
        again: list[float] = []
        for _ in range(runs):
            before = sent(folder)
            kill_half_way(fetch, folder / "volume", size)
            fetch.seconds()
            again.append(100 * (sent(folder) - before - size) / size)
            shutil.rmtree(folder / "volume")
    return Fetches(fetch=[it[0] for it in seconds[1:]], curl=[it[1] for it in seconds[1:]], again=again)


def publish(root: Path, size: int) -> dict[str, object]:
    """A repository with one file of random bytes; the model, as the lock would have it."""
    file = root / REPO / "large-F32.gguf"
    file.parent.mkdir(parents=True)
    with file.open("wb") as out:
        for start in range(0, size, _CHUNK):
            out.write(os.urandom(min(_CHUNK, size - start)))
    repo = Repo(root, REPO)
    listed = repo.files()
    files = [{"path": it.path, "bytes": it.size, "sha256": it.digest.sha256} for it in listed]
    triple = {"name": "large", "repo": REPO, "quant": "F32", "filename": None, "revision": "main"}
    return {**triple, "commit": repo.commit(listed), "files": files}


@contextmanager
def hub(folder: Path) -> Generator[str]:
    """The hub in a process of its own, as a real one is elsewhere; its URL."""
    argv = [sys.executable, "-m", "local.hub", "--root", str(folder / "hub"), "--port", "0"]
    with (folder / "hub.log").open("w") as log:
        process = subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        yield next(iter(process.stdout or ())).split()[-1]
    finally:
        process.terminate()
        process.communicate()


def sent(folder: Path) -> int:
    """Bytes of files that the hub has sent until now, by its log."""
    return sum(map(int, re.findall(r": (\d+) of \d+ bytes sent", (folder / "hub.log").read_text())))


def fetching(folder: Path, url: str, model: dict[str, object]) -> Command:
    """The script as pods run it, on an empty volume."""
    volume, record = folder / "volume", folder / "models.json"
    model_path = str(volume / "weights" / "model.gguf")
    models = [{**model, "model_path": model_path, "deadline_seconds": 600}]
    record.write_text(json.dumps({"endpoint": url, "deadline_seconds": 600, "models": models}))
    options = ["--config", str(record), "--models", str(volume), "--termination-log", str(folder / "verdict")]
    script = f"mkdir -p {volume} && exec {sys.executable} {FETCH} fetch {' '.join(options)}"
    return Command(argv=("sh", "-c", script), folder=folder, log=folder / "fetch.log")


def curling(folder: Path, url: str, model: dict[str, object]) -> Command:
    """What a person would type: the same file by curl, then its digest."""
    address = f"{url}/{REPO}/resolve/{model['commit']}/large-F32.gguf"
    file = folder / "volume" / "by-curl.gguf"
    script = f"curl --silent --show-error --fail --output {file} {address} && sha256sum {file}"
    return Command(argv=("sh", "-c", script), folder=folder, log=folder / "curl.log")


def kill_half_way(fetch: Command, volume: Path, size: int) -> None:
    """Start the fetch and kill -9 it once half of the file is on the volume."""
    process = subprocess.Popen(fetch.argv, cwd=fetch.folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + HALF_WAY_SECONDS
    try:
        while sum(part.stat().st_size for part in volume.rglob("*.part")) < size / 2:
            if process.poll() is not None or time.monotonic() > deadline:
                raise UserError("The fetch was not seen at half way: it ended, or is too slow to be measured.")
            time.sleep(0.001)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
