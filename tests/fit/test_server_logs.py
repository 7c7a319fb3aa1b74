"""The estimate against what llama-server itself says that it takes."""

import re
import subprocess
import time
from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from config.fit import fit
from config.parts import Runtime
from config.scalars import FlagValue
from local import models
from local.paths import cache_dir
from local.toolchain import Tools
from ops.gguf_header import read_shape
from render.llama_server import command_line, model_flags
from tests.conftest import stack_config
from tests.fit import tiny_models

MIB = 2**20
LAID_OUT = re.compile(r"(compute) buffer size = +[0-9.]+ MiB")
LISTENS = re.compile(r"listening on (http://127.0.0.1:[0-9]+)")
SIZE = re.compile(r"(model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")
CHECKPOINT = re.compile(r"created context checkpoint .*, size = ([0-9.]+) MiB")


@dataclass(frozen=True)
class Told:
    """Bytes, as the server's log has them."""

    weights: float
    kv: float
    compute: float

    @property
    def total(self) -> float:
        return self.weights + self.kv + self.compute


@dataclass(frozen=True)
class Log:
    path: Path
    process: subprocess.Popen[bytes]

    @property
    def text(self) -> str:
        return self.path.read_text(errors="replace")

    def wait_for(self, what: re.Pattern[str]) -> str:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self.process.poll() is None:
            if found := what.search(self.text):
                return found[1]
            time.sleep(0.02)
        pytest.fail(f"llama-server did not say {what.pattern}:\n{self.text[-4000:]}")


class Serve(Protocol):
    """Starts a server with a model, as a backend of ours does, but for one thread and for what its log tells."""

    def __call__(self, model: Path, runtime: Runtime, *, verbosity: int = 4) -> AbstractContextManager[Log]: ...


@pytest.fixture
def serve(tools: Tools, tmp_path: Path, values: dict[str, Any]) -> Serve:
    @contextmanager
    def running(model: Path, runtime: Runtime, *, verbosity: int = 4) -> Generator[Log]:
        values["statics"] = [{**values["statics"][0], "runtime": runtime.model_dump(mode="json")}]
        del values["pools"], values["nodes"]["static-b"], values["nodes"]["swap"]
        backend = stack_config(values).pinned[0]
        flags = model_flags(backend, backend.served) | {"model": str(model), "threads": 1, "log-verbosity": verbosity}
        argv = [str(tools.path("llama-server")), *command_line({**flags, "host": "127.0.0.1", "port": 0})]
        with (
            (tmp_path / "log").open("w") as out,
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process,
        ):
            try:
                yield Log(tmp_path / "log", process)
            finally:
                process.kill()

    return running


def told(log: Log) -> Told:
    """What it takes once all is laid out."""
    log.wait_for(LAID_OUT)
    sizes = dict.fromkeys(("model", "KV", "RS", "compute", "output"), 0.0)
    for kind, mib in SIZE.findall(log.text):
        sizes[kind] += float(mib) * MIB
    return Told(sizes["model"], sizes["KV"] + sizes["RS"], sizes["compute"] + sizes["output"])


def runtime(context_size: int, parallel: int, **flags: FlagValue) -> Runtime:
    extra = {name.replace("_", "-"): value for name, value in flags.items()}
    return Runtime(context_size=context_size, max_tokens=64, parallel=parallel, gpu_layers=0, extra_args=extra)


SETTINGS = [
    ("llama", runtime(8192, 1)),
    ("llama", runtime(3000, 4)),
    ("llama", runtime(4096, 3, kv_unified=True)),
    ("llama", runtime(8192, 2, cache_type_k="q8_0", cache_type_v="q8_0")),
    ("llama", runtime(4096, 1, flash_attn="off", ubatch_size=256)),
    ("gemma3", runtime(16384, 1)),
    ("gemma3", runtime(8192, 4)),
    ("gemma3", runtime(8192, 2, swa_full=True)),
    ("gemma3", runtime(8192, 2, kv_unified=True, cache_type_k="q8_0", cache_type_v="q4_0")),
    ("deepseek2", runtime(8192, 1)),
    ("deepseek2", runtime(4096, 4, cache_type_k="q8_0", cache_type_v="q8_0")),
    ("qwen3moe", runtime(8192, 1)),
    ("qwen3moe", runtime(4096, 4, ubatch_size=1024)),
    ("granitehybrid", runtime(8192, 1)),
    ("granitehybrid", runtime(4096, 8)),
]


@pytest.mark.cluster
@pytest.mark.parametrize(("architecture", "runtime"), SETTINGS)
def test_the_estimate_is_what_the_server_takes(
    serve: Serve, tmp_path: Path, architecture: str, runtime: Runtime
) -> None:
    file = tmp_path / "model.gguf"
    tiny_models.write(file, architecture)
    needed = fit(read_shape([file]), runtime)
    with serve(file, runtime) as log:
        taken = told(log)
    assert (needed.assumed, needed.device) == (False, 0)
    assert needed.weights == pytest.approx(taken.weights, rel=0.01)
    assert needed.kv == pytest.approx(taken.kv, rel=0.01)
    assert needed.compute == pytest.approx(taken.compute, rel=0.1)
    assert needed.total == pytest.approx(taken.total, rel=0.05)


@pytest.mark.cluster
@pytest.mark.parametrize("runtime", [runtime(8192, 2), runtime(32768, 1, swa_full=True)])
def test_it_is_so_for_a_real_model_too(serve: Serve, runtime: Runtime) -> None:
    models.publish(cache_dir() / "hub")
    file = cache_dir() / "hub" / models.REPO / models.FILENAME
    needed = fit(read_shape([file]), runtime)
    with serve(file, runtime) as log:
        taken = told(log)
    assert needed.kv == pytest.approx(taken.kv, rel=0.01)
    assert needed.total == pytest.approx(taken.total, rel=0.1)  # the CPU's own layout of some weights comes to it


@pytest.mark.cluster
@pytest.mark.parametrize("architecture", ["gemma3", "granitehybrid"])
def test_a_checkpoint_is_as_large_as_one_of_the_servers(serve: Serve, tmp_path: Path, architecture: str) -> None:
    file, slots = tmp_path / "model.gguf", runtime(4096, 2, ctx_checkpoints=8)
    tiny_models.write(file, architecture)
    needed = fit(read_shape([file]), slots)
    with serve(file, slots, verbosity=5) as log:
        asked = {"prompt": [100] * 1500, "n_predict": 1}
        httpx.post(f"{log.wait_for(LISTENS)}/completion", json=asked, timeout=60, trust_env=False).raise_for_status()
        size = float(log.wait_for(CHECKPOINT)) * MIB
    assert needed.checkpoints / 2 / 8 == pytest.approx(size, rel=0.01)
