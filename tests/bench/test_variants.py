"""What of prod's file a measurement changes."""

from pathlib import Path

import pytest
import yaml

from bench.stacks import PROD
from bench.variants import stack_file, variant
from config.load import load_file
from config.stack_file import read


def test_only_the_namespace_differs_from_prod() -> None:
    changed = variant(PROD, "bench-prod")
    original = read(PROD)
    assert {name for name in original if changed[name] != original[name]} == {"cluster"}
    assert changed["cluster"] == yaml.safe_load(PROD.read_text())["config"]["llama-chat:cluster"] | {
        "namespace": "bench-prod"
    }


@pytest.mark.parametrize("count", [5, 500])
def test_a_pool_of_generated_models_is_a_sound_stack(tmp_path: Path, count: int) -> None:
    file = tmp_path / "Pulumi.many.yaml"
    file.write_text(stack_file(variant(PROD, "bench-many", count)))
    config = load_file(file)
    assert [len(pool.models) for pool in config.pooled] == [count]
    assert len(set(config.exposed_names)) == count + len(config.statics)
    assert config.statics == load_file(PROD).statics
