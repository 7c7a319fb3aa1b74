"""The estimate against what llama-server itself says that it takes."""

import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from config.fit import fit
from config.parts import Runtime
from local import models
from local.paths import cache_dir
from local.toolchain import Tools
from ops.gguf_header import read_shape
from render.llama_server import command_line, model_flags
from tests.conftest import stack_config
from tests.fit import tiny_models

SIZE = re.compile(r"(model|KV|RS|compute|output) buffer size = +([0-9.]+) MiB")
LAST = "compute buffer size"
MIB = 2**20


@dataclass(frozen=True)
class Told:
    """Bytes, as the server's log has them."""

    kv: float
    total: float


Serve = Callable[[Path, Runtime], Told]


@pytest.fixture
def serve(tools: Tools, tmp_path: Path, values: dict[str, Any]) -> Serve:
    """Start the server as a backend of ours does, and read its log until all is laid out."""

    def told(model: Path, runtime: Runtime) -> Told:
        values["statics"] = [{**values["statics"][0], "runtime": runtime.model_dump(mode="json")}]
        del values["pools"], values["nodes"]["static-b"], values["nodes"]["swap"]
        backend = stack_config(values).pinned[0]
        flags = model_flags(backend, backend.served) | {"model": str(model), "threads": 1, "log-verbosity": 4}
        argv = [str(tools.path("llama-server")), *command_line({**flags, "host": "127.0.0.1", "port": 0})]
        log = tmp_path / "log"
        with (
            log.open("w") as out,
            subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out) as process,
        ):
            try:
                _wait_for(LAST, log, process)
            finally:
                process.kill()
        sizes: Counter[str] = Counter()
        for kind, mib in SIZE.findall(log.read_text(errors="replace")):
            sizes[kind] += float(mib) * MIB
        return Told(sizes["KV"] + sizes["RS"], sizes.total())

    return told


def _wait_for(text: str, log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        if text in log.read_text(errors="replace"):
            return
        time.sleep(0.05)
    pytest.fail(f"llama-server did not lay out its buffers:\n{log.read_text(errors='replace')[-4000:]}")


def runtime(context_size: int, parallel: int, **flags: Any) -> Runtime:
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
    tiny_models.write(tmp_path / "model.gguf", architecture)
    shape = read_shape([tmp_path / "model.gguf"])
    told, needed = serve(tmp_path / "model.gguf", runtime), fit(shape, runtime)
    print(architecture, runtime.extra_args, runtime.context_size, runtime.parallel, [f"{x/MIB:.2f}" for x in (needed.weights, needed.kv, needed.compute, told.kv, needed.total, told.total)], f"{(needed.total/told.total-1)*100:+.1f}%")
    assert not needed.assumed
    assert needed.device == 0
    assert needed.kv == pytest.approx(told.kv, rel=0.01)
    assert needed.total == pytest.approx(told.total, rel=0.1)
