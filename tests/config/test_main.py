import json
from pathlib import Path

from typer.testing import CliRunner

from config.__main__ import app

ROOT = Path(__file__).parents[2]


def test_a_sound_file_gives_one_line() -> None:
    file = str(ROOT / "Pulumi.local.yaml")
    result = CliRunner().invoke(app, ["check", file])
    assert (result.exit_code, result.stderr) == (0, "")
    where = "gemma-3-270m on gpu-static-a, tiny-ada on gpu-static-b, tiny-bohr tiny-curie tiny-dirac on gpu-swap"
    assert result.stdout == f"{file}: ok, 5 models: {where}\n"


def test_each_problem_gives_one_line_on_stderr(tmp_path: Path) -> None:
    file = tmp_path / "Pulumi.dev.yaml"
    text = (ROOT / "Pulumi.local.yaml").read_text(encoding="utf-8")
    file.write_text(text.replace("grace_seconds: 60", "grace_seconds: 5").replace("gemma-3-270m,", "fast,"))
    result = CliRunner().invoke(app, ["check", str(file), str(tmp_path / "none.yaml")])
    assert (result.exit_code, result.stdout) == (1, "")
    assert [line.split(": ")[0] for line in result.stderr.splitlines()] == [
        "llama-chat:statics[0].model.name",
        "llama-chat:grace_seconds",
        str(tmp_path / "none.yaml"),
    ]


def test_the_committed_reference_is_what_the_models_say() -> None:
    printed = CliRunner().invoke(app, ["reference"]).stdout
    assert printed == (ROOT / "docs" / "config.md").read_text(encoding="utf-8")
    for key in ("| `max_loaded` | `1` |", "## hub.token_secret.external", "| `engine` | `llama-swap` |"):
        assert key in printed


def test_schema_and_project_are_printed_whole() -> None:
    schema = json.loads(CliRunner().invoke(app, ["schema"]).stdout)
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert CliRunner().invoke(app, ["project"]).stdout == (ROOT / "Pulumi.yaml").read_text(encoding="utf-8")
