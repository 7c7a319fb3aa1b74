"""llama-server's command line and the records beside it."""

import pytest

from config.model import Model, StackConfig
from render.document import content_name
from render.llama_server import arguments, model_path, model_record


def flag(line: list[str], name: str) -> str:
    return line[line.index(name) + 1]


def test_context_is_per_slot_so_the_server_gets_it_times_the_slots(config: StackConfig) -> None:
    assert flag(arguments(config.backends[0]), "--ctx-size") == str(32768 * 2)


def test_a_backends_own_knob_beats_the_stacks(config: StackConfig) -> None:
    first, second = (arguments(backend) for backend in config.backends)
    assert (flag(first, "--n-gpu-layers"), flag(second, "--n-gpu-layers")) == ("999", "0")
    assert flag(second, "--ctx-size") == str(65536 * 2)
    assert flag(first, "--n-predict") == flag(second, "--n-predict") == "4096"


def test_a_server_with_layers_on_the_gpu_logs_how_many(config: StackConfig) -> None:
    on_gpu, on_cpu = (arguments(backend) for backend in config.backends)
    assert flag(on_gpu, "--log-verbosity") == "4"
    assert "--log-verbosity" not in on_cpu


def test_the_server_answers_under_the_name_that_users_see(config: StackConfig) -> None:
    assert flag(arguments(config.backends[0]), "--alias") == "GLM-4.7-Flash"


@pytest.mark.parametrize(
    ("filename", "path"),
    [
        (None, "/models/weights/model.gguf"),
        ("GLM-4.7-Flash-Q4_K_M.gguf", "/models/weights/model.gguf"),
        ("Q4/Big-Q4_K_M-00001-of-00003.gguf", "/models/weights/Big-Q4_K_M-00001-of-00003.gguf"),
        ("Big-Q4_K_M-00002-of-00003.gguf", "/models/weights/model.gguf"),
    ],
)
def test_the_server_opens_a_fixed_path_but_for_a_split_ggufs_first_shard(filename: str | None, path: str) -> None:
    assert model_path(Model(name="m", repo="a/b", quant="Q4_K_M", filename=filename)) == path


def test_the_record_names_repo_quant_and_filename(config: StackConfig) -> None:
    record = model_record(config, config.backends[0], 600)
    assert (record["repo"], record["quant"], record["filename"]) == ("unsloth/GLM-4.7-Flash-GGUF", "Q4_K_M", None)


def test_a_name_by_content_changes_with_the_content_alone() -> None:
    one = content_name("config", {"a": "1", "b": "2"})
    assert one == content_name("config", {"b": "2", "a": "1"})
    assert one != content_name("config", {"a": "1", "b": "3"})
    assert one.startswith("config-")
