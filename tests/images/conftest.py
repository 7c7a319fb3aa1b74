import socket
import subprocess
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from local.images.oci import Image
from local.images.store import files_layer
from tests.debian import installed


@dataclass(frozen=True)
class Registry:
    url: str
    log: Path

    def requests(self, method: str) -> list[str]:
        """Paths of the requests that it got with this method."""
        lines = (line.split('"') for line in self.log.read_text().splitlines())
        asked = (line[1].split() for line in lines if len(line) > 1)
        return [words[1] for words in asked if words[0] == method]


ImageMaker = Callable[[str, Mapping[str, bytes]], Image]


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of the test's own; where the layers lie in it."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "llama-chat" / "images"


@pytest.fixture
def make_image(cache: Path) -> ImageMaker:
    def make(name: str, files: Mapping[str, bytes]) -> Image:
        layers = tuple(files_layer({path: content}) for path, content in files.items())
        assert all(layer.path.is_relative_to(cache) for layer in layers)
        return Image(name=name, layers=layers, entrypoint=("/run",), env=("PATH=/bin",))

    return make


@pytest.fixture(scope="session")
def debian_registry() -> str:
    return installed("docker-registry")


@pytest.fixture
def registry(debian_registry: str, tmp_path: Path) -> Generator[Registry]:
    """Debian's own registry on a loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    settings = tmp_path / "registry.yml"
    settings.write_text(
        f"version: 0.1\nhttp: {{addr: '{address}'}}\n"
        f"storage: {{filesystem: {{rootdirectory: '{tmp_path / 'registry'}'}}}}\n"
    )
    log = tmp_path / "registry.log"
    with log.open("wb") as printed:
        process = subprocess.Popen([debian_registry, "serve", settings], stdout=printed, stderr=printed)
        try:
            _wait(f"http://{address}/v2/")
            yield Registry(url=f"http://{address}", log=log)
        finally:
            process.terminate()
            process.wait(10)


def _wait(url: str) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            if httpx.get(url, trust_env=False).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.1)
    raise TimeoutError(url)
