"""The README's first stack file is one."""

import re
from pathlib import Path
from textwrap import dedent

from config.load import load_file

ROOT = Path(__file__).parents[2]


def test_the_stack_file_of_the_readme_passes_every_check(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    file = tmp_path / "Pulumi.mine.yaml"
    file.write_text(dedent(block))
    assert [backend.name for backend in load_file(file).backends] == ["llama-static-a"]
