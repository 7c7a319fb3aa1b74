import hashlib
import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import httpx
import numpy as np
import pytest

from local import tiny_gguf
from local.toolchain import Tools

PROMPTS = ("hi", "Say a word.", "a b c", "Grüße, 世界!", "1 + 1 =\n")


def digest(path: Path, name: str = "tiny-ada", seed: int = 1) -> str:
    tiny_gguf.write(path, name, seed)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_same_name_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    first = digest(tmp_path / "first")
    np.random.seed(7)  # noqa: NPY002 - numpy's global state is what must not matter
    assert digest(tmp_path / "second") == first
    assert first not in {digest(tmp_path / "third", seed=2), digest(tmp_path / "fourth", name="tiny-bohr")}


def test_only_letters_rise_above_nothing_and_no_layer_touches_what_lifts_them(tmp_path: Path) -> None:
    tiny_gguf.write(tmp_path / "model", "tiny-ada", 1)
    read = {tensor.name: np.asarray(tensor.data) for tensor in gguf.GGUFReader(tmp_path / "model").tensors}
    output = read["output.weight"]
    assert not output[:-26].any()
    assert (output[-26:, 0] > 0).all()
    assert (read["token_embd.weight"][:, 0] > 0).all()
    assert [float(read[name][0]) for name in read if name.endswith(("attn_norm.weight", "ffn_norm.weight"))] == [0] * 4
    into_the_stream = [name for name in read if name.endswith(("attn_output.weight", "ffn_down.weight"))]
    assert len(into_the_stream) == 4
    assert not any(read[name][0].any() for name in into_the_stream)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def server(tools: Tools, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """A client of a real llama-server that serves one tiny model."""
    folder, port = tmp_path_factory.mktemp("tiny"), free_port()
    tiny_gguf.write(folder / "model.gguf", "tiny-ada", 1)
    argv = [str(tools.path("llama-server")), "--model", str(folder / "model.gguf"), "--offline", "--no-webui"]
    argv += ["--host", "127.0.0.1", "--port", str(port), "--ctx-size", "1024", "--parallel", "2", "--n-predict", "256"]
    argv += ["--threads", "1"]  # two wait for each other on a busy machine, a hundred times longer than they compute
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client,
    ):
        client.headers["Connection"] = "close"  # the server hangs up after a stream, whatever its Keep-Alive says
        try:
            wait_until_healthy(client, process, folder / "log")
            yield client
        finally:
            process.kill()


def wait_until_healthy(client: httpx.Client, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    pytest.fail(f"llama-server did not come up:\n{log.read_text(errors='replace')[-4000:]}")


def asked(prompt: str, max_tokens: int, temperature: float | None, *, stream: bool) -> dict[str, Any]:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": prompt}], "max_tokens": max_tokens}
    return body | {"stream": stream} | ({} if temperature is None else {"temperature": temperature})


@pytest.mark.cluster
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("max_tokens", [64, 200])
@pytest.mark.parametrize("temperature", [0, 1, None])
def test_it_says_letters_until_it_is_told_to_stop(
    server: httpx.Client, prompt: str, max_tokens: int, temperature: float | None
) -> None:
    answer = server.post("/v1/chat/completions", json=asked(prompt, max_tokens, temperature, stream=False))
    (choice,) = answer.raise_for_status().json()["choices"]
    letters = choice["message"]["content"].split()
    assert (choice["finish_reason"], len(letters)) == ("length", max_tokens)
    assert {len(letter) for letter in letters} == {1}


@pytest.mark.cluster
def test_nothing_but_a_letter_has_a_chance(server: httpx.Client) -> None:
    body = {"prompt": "</s><s>a 世", "n_predict": 100, "temperature": 1, "n_probs": 1000}
    steps = server.post("/completion", json=body).raise_for_status().json()["completion_probabilities"]
    chances = [(entry["token"], entry["logprob"]) for step in steps for entry in step["top_logprobs"]]
    others = [logprob for token, logprob in chances if not re.fullmatch(" [a-z]", token)]
    assert len(chances) > len(others) > 100 * 256
    assert max(others) < -20


@pytest.mark.cluster
@pytest.mark.parametrize("prompt", PROMPTS)
@pytest.mark.parametrize("max_tokens", [64, 200])
@pytest.mark.parametrize("temperature", [0, None])
def test_it_streams_letters_to_the_end(
    server: httpx.Client, prompt: str, max_tokens: int, temperature: float | None
) -> None:
    body = asked(prompt, max_tokens, temperature, stream=True)
    with server.stream("POST", "/v1/chat/completions", json=body) as answer:
        events = [line.removeprefix("data: ") for line in answer.iter_lines() if line]
    assert events.pop() == "[DONE]"
    choices = [choice for event in events for choice in json.loads(event)["choices"]]
    letters = "".join(choice["delta"].get("content") or "" for choice in choices).split()
    assert (choices[-1]["finish_reason"], len(letters)) == ("length", max_tokens)
    assert {len(letter) for letter in letters} == {1}
