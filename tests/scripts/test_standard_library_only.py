import ast
import sys
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[2] / "components" / "scripts").glob("*.py"))


def test_there_are_scripts() -> None:
    assert {"fetch_model.py", "model_hub.py", "smoke.py", "smoke_client.py"} <= {script.name for script in SCRIPTS}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.name)
def test_a_pods_script_needs_nothing_but_python_3_9(script: Path) -> None:
    tree = ast.parse(script.read_text(), feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names | {script.stem for script in SCRIPTS}
