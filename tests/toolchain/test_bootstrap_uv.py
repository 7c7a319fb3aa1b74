import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.toolchain.conftest import Stub

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "local" / "bootstrap-uv.sh"
PINNED = "uv-0.13.9"


def bootstrap() -> subprocess.CompletedProcess[str]:
    return subprocess.run(["/bin/sh", SCRIPT], check=False, capture_output=True, text=True)


@pytest.fixture
def bare(stub: Stub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stub:
    """Only what the script itself calls is on PATH: no uv, no Python."""
    for name in ("mkdir", "mktemp", "rm", "id", "cat", "chmod", "sleep"):
        stub(name, f'exec $(PATH=/usr/bin:/bin command -v {name}) "$@"')
    monkeypatch.setenv("PATH", str(tmp_path / "stubs"))
    return stub


def python_that_makes_environments(stub: Stub) -> None:
    """`-m venv` writes a Python whose pip installs a uv; all else is the real Python."""
    stub(
        "python3",
        f'[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"\n'
        'mkdir -p "$3/bin"\n'
        'cat > "$3/bin/python" <<EOF\n'
        "#!/bin/sh\n"
        "sleep 0.3\n"
        'case "\\$*" in *uv==0.13.9*) ;; *) exit 1 ;; esac\n'
        'printf "#!/bin/sh\\necho uv 0.13.9\\n" > "$3/bin/uv"\n'
        'chmod +x "$3/bin/uv"\n'
        "EOF\n"
        'chmod +x "$3/bin/python"',
    )


@pytest.mark.parametrize("version", ["uv 0.9.0", "uv 0.13.9 (abc 2026-01-01)", "uv 1.0.0"])
def test_a_uv_on_path_that_is_new_enough_is_used(bare: Stub, version: str, cache: Path) -> None:
    uv = bare("uv", f"echo '{version}'")
    result = bootstrap()
    assert (result.returncode, result.stdout, result.stderr) == (0, f"{uv}\n", "")
    assert not cache.exists()


@pytest.mark.parametrize("body", ["echo uv 0.8.24", "echo garbage", "exit 1", "echo uv 0.13.9; exit 1", ""])
def test_any_other_uv_on_path_is_passed_over_for_the_one_in_the_cache(bare: Stub, body: str, cache: Path) -> None:
    bare("uv", body)
    kept = cache / PINNED / "bin" / "uv"
    kept.parent.mkdir(parents=True)
    bare("kept", "echo uv 0.13.9").rename(kept)
    assert bootstrap().stdout == f"{kept}\n"


def test_a_missing_uv_is_installed_below_the_cache_and_nothing_else_is_printed(bare: Stub, cache: Path) -> None:
    python_that_makes_environments(bare)
    result = bootstrap()
    assert (result.returncode, result.stdout) == (0, f"{cache}/{PINNED}/bin/uv\n"), result.stderr
    assert [path.name for path in cache.iterdir()] == [PINNED]


def test_an_unusable_uv_in_the_cache_is_made_anew(bare: Stub, cache: Path) -> None:
    python_that_makes_environments(bare)
    (cache / PINNED / "bin").mkdir(parents=True)
    assert bootstrap().stdout == f"{cache}/{PINNED}/bin/uv\n"


def test_two_runs_at_once_both_get_it(bare: Stub, cache: Path) -> None:
    python_that_makes_environments(bare)
    runs = [
        subprocess.Popen(["/bin/sh", SCRIPT], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [run.communicate(timeout=30)[0] for run in runs] == [f"{cache}/{PINNED}/bin/uv\n"] * 2
    assert [path.name for path in cache.iterdir()] == [PINNED]


@pytest.mark.parametrize("body", [None, "exit 1"])
def test_a_missing_or_old_python_is_one_clear_line(bare: Stub, body: str | None) -> None:
    if body:
        bare("python3", body)
    result = bootstrap()
    assert (result.returncode, result.stdout) == (1, "")
    assert len(result.stderr.splitlines()) == 1
    assert "Python 3.11 or newer" in result.stderr


def test_a_python_that_cannot_make_environments_is_one_clear_line(bare: Stub) -> None:
    bare("id", "echo 1000")
    bare("python3", f'case "$2" in *ensurepip*) exit 1 ;; *) exec {sys.executable} "$@" ;; esac')
    result = bootstrap()
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("llama-chat: python3 cannot make a virtual environment")
    assert result.stderr.endswith("(Debian: apt-get install python3-venv).\n")
    assert len(result.stderr.splitlines()) == 1


def test_a_failed_installation_leaves_nothing_behind(bare: Stub, cache: Path) -> None:
    bare(
        "python3",
        f'[ "$1 $2" = "-m venv" ] || exec {sys.executable} "$@"\n'
        'mkdir -p "$3/bin"; printf "#!/bin/sh\\nexit 1\\n" > "$3/bin/python"; chmod +x "$3/bin/python"',
    )
    result = bootstrap()
    assert (result.returncode, result.stdout) == (1, "")
    assert "check the network" in result.stderr
    assert list(cache.iterdir()) == []


def test_the_oldest_uv_is_the_one_that_the_project_requires() -> None:
    assert 'required-version = ">=0.9"' in (ROOT / "pyproject.toml").read_text()
    assert "oldest_minor=9 " in SCRIPT.read_text()
    assert os.access(SCRIPT, os.X_OK)
