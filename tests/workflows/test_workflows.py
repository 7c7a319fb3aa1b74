"""What GitHub runs: checked by actionlint, pinned, with no right that it does not need, and only make underneath."""

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from _pytest.capture import CaptureManager

from local.toolchain import ensure
from local.toolchain.pieces import KUBERNETES_VERSION, PULUMI_VERSION

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / ".github" / "workflows").iterdir())
# The base loader keeps `on` a word; the others read it as true.
WORKFLOWS: dict[str, dict[str, Any]] = {
    file.name: yaml.load(file.read_text(), Loader=yaml.BaseLoader)  # noqa: S506 - it makes strings only
    for file in FILES
}
MAKE = re.compile(
    r'make (?P<target>[a-z-]+)( [A-Z]+=("\$[A-Z_]+(/[a-z.]+)?"|1))*( 2>&1 \| tee "\$RUNNER_TEMP/[a-z.]+")?'
)
KUBECONFIG = 'install -m 600 /dev/stdin "$RUNNER_TEMP/kubeconfig" <<< "$CONTENT"'
SET_UP = {
    "apt-get update && apt-get install -y --no-install-recommends ca-certificates g++ gcc git make python3",
    KUBECONFIG,
    # `make check test`, as it stands there for people too
    ".ci/run",
}
"""What runs without make, word for word."""
ACTIONS = {"actions/cache", "actions/checkout", "azure/setup-kubectl", "pulumi/actions"}

every_workflow = pytest.mark.parametrize("name", list(WORKFLOWS))


@pytest.fixture(scope="session")
def actionlint(request: pytest.FixtureRequest) -> Path:
    """Built when it is not there yet."""
    capture = request.config.pluginmanager.getplugin("capturemanager")
    assert isinstance(capture, CaptureManager)
    with capture.global_and_fixture_disabled():
        return ensure("actionlint").path("actionlint")


def lint(actionlint: Path, *files: Path) -> subprocess.CompletedProcess[str]:
    # Without the two, which it takes from PATH: the same answer on every machine.
    options = ("-no-color", "-shellcheck=", "-pyflakes=")
    return subprocess.run([actionlint, *options, *files], cwd=ROOT, capture_output=True, text=True, check=False)


def jobs(name: str) -> dict[str, dict[str, Any]]:
    return WORKFLOWS[name]["jobs"]


def steps(name: str) -> list[dict[str, Any]]:
    return [step for job in jobs(name).values() for step in job["steps"]]


def commands(name: str) -> list[str]:
    return [step["run"] for step in steps(name) if "run" in step]


def test_there_are_a_check_a_preview_and_an_update() -> None:
    assert set(WORKFLOWS) == {"check.yml", "preview.yml", "up.yml"}


def test_actionlint_accepts_every_workflow(actionlint: Path) -> None:
    linted = lint(actionlint, *FILES)
    assert (linted.returncode, linted.stdout) == (0, "")


def test_actionlint_refuses_a_broken_one(actionlint: Path, tmp_path: Path) -> None:
    broken = tmp_path / "preview.yml"
    text = (ROOT / ".github" / "workflows" / broken.name).read_text()
    broken.write_text(text.replace("${{ matrix.stack }}", "${{ matrix.stak }}"))
    linted = lint(actionlint, broken)
    assert linted.returncode == 1
    assert 'property "stak" is not defined' in linted.stdout


@every_workflow
def test_every_action_is_pinned_by_its_commit_and_says_its_version(name: str) -> None:
    lines = re.findall(r"^ *(?:- )?uses: (.*)$", (ROOT / ".github" / "workflows" / name).read_text(), re.MULTILINE)
    pinned = [re.fullmatch(r"(([\w-]+/[\w-]+)@[0-9a-f]{40}) # v\d+\.\d+\.\d+", line) for line in lines]
    assert lines
    assert all(pinned), lines
    # Each that YAML sees was seen in the text, and nobody else's code runs here.
    assert {step["uses"] for step in steps(name) if "uses" in step} == {found[1] for found in pinned if found}
    assert {found[2] for found in pinned if found} <= ACTIONS
    assert not any("uses" in job for job in jobs(name).values())


def test_an_action_has_one_version_throughout() -> None:
    used = {step["uses"] for name in WORKFLOWS for step in steps(name) if "uses" in step}
    assert len(used) == len(ACTIONS)


@every_workflow
def test_every_command_is_make_but_for_the_set_up(name: str) -> None:
    assert commands(name)
    assert [command for command in commands(name) if command not in SET_UP and not MAKE.fullmatch(command)] == []


def test_every_make_target_that_is_called_exists() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    called = {found["target"] for name in WORKFLOWS for found in map(MAKE.fullmatch, commands(name)) if found}
    assert called == {"preview", "comment", "up", "verify"}
    assert called - targets == set()


def test_every_workflow_says_what_it_may_do_and_what_starts_it() -> None:
    permissions = {name: workflow["permissions"] for name, workflow in WORKFLOWS.items()}
    assert permissions == {
        "check.yml": {"contents": "read"},
        "preview.yml": {"contents": "read", "pull-requests": "write"},
        "up.yml": {"contents": "read"},
    }
    assert not any("permissions" in job for name in WORKFLOWS for job in jobs(name).values())
    # pull_request_target would hand secrets to a stranger's code.
    assert {name: set(_events(workflow["on"])) for name, workflow in WORKFLOWS.items()} == {
        "check.yml": {"pull_request", "push"},
        "preview.yml": {"pull_request"},
        "up.yml": {"push", "workflow_dispatch"},
    }


def _events(on: str | list[str] | dict[str, Any]) -> list[str]:
    return [on] if isinstance(on, str) else list(on)


@every_workflow
def test_no_secret_is_near_a_strangers_code_nor_in_a_shell_line(name: str) -> None:
    holders = [job for job in jobs(name).values() if "secrets." in str(job)]
    if "pull_request" in _events(WORKFLOWS[name]["on"]):
        own = "github.event.pull_request.head.repo.full_name == github.repository"
        assert [job.get("if") for job in holders] == [own] * len(holders)
    assert not any("${{" in command for command in commands(name))
    assert not any("secrets." in str({**step, "env": None}) for step in steps(name))
    assert "secrets." not in str(WORKFLOWS[name].get("env")) + str([job.get("env") for job in jobs(name).values()])


def test_both_stacks_are_previewed_each_with_rights_of_its_own() -> None:
    (job,) = jobs("preview.yml").values()
    assert job["strategy"] == {"fail-fast": "false", "matrix": {"stack": ["staging", "prod"]}}
    assert job["environment"] == "preview-${{ matrix.stack }}"


def test_what_hangs_ends_a_preview_soon_and_an_update_only_after_the_longest_fetch() -> None:
    minutes = {name: {job["timeout-minutes"] for job in jobs(name).values()} for name in ("preview.yml", "up.yml")}
    assert minutes == {"preview.yml": {"30"}, "up.yml": {"360"}}


def test_an_update_waits_for_its_approval_and_is_never_cancelled() -> None:
    staging, prod = jobs("up.yml")["staging"], jobs("up.yml")["prod"]
    assert prod["needs"] == "staging"
    assert staging["if"] == "github.ref == 'refs/heads/main'"
    for stack, job in (("staging", staging), ("prod", prod)):
        assert job["environment"] == job["env"]["STACK"] == stack
        assert job["concurrency"] == {"group": f"up-{stack}", "cancel-in-progress": "false"}
        assert [step["run"] for step in job["steps"] if "run" in step] == [
            KUBECONFIG,
            'make up STACK="$STACK" YES=1',
            'make verify STACK="$STACK"',
        ]


@pytest.mark.parametrize("name", ["preview.yml", "up.yml"])
def test_the_tools_are_the_versions_that_would_be_built(name: str) -> None:
    inputs = [step["with"] for step in steps(name) if "with" in step]
    assert {given["pulumi-version"] for given in inputs if "pulumi-version" in given} == {PULUMI_VERSION}
    assert {given["version"] for given in inputs if "version" in given} == {f"v{KUBERNETES_VERSION}"}


def run_step(command: str, folder: Path, **environment: str) -> int:
    """Run a shell line as GitHub runs one whose shell is named bash, with a `make` that prints its words and fails."""
    make = folder / "bin" / "make"
    make.parent.mkdir()
    make.write_text('#!/bin/sh\necho "make $*"\necho "error: the reason" >&2\nexit 2\n')
    make.chmod(0o755)
    env = {"PATH": f"{make.parent}:{os.environ['PATH']}", "RUNNER_TEMP": str(folder), **environment}
    bash = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", command]
    return subprocess.run(bash, env=env, cwd=folder, check=False, capture_output=True).returncode


def test_a_failed_preview_fails_its_job_and_is_still_commented(tmp_path: Path) -> None:
    assert WORKFLOWS["preview.yml"]["defaults"] == {"run": {"shell": "bash"}}
    preview, comment = steps("preview.yml")[-2:]
    assert run_step(preview["run"], tmp_path, STACK="prod") == 2
    assert (tmp_path / "preview.txt").read_text().splitlines() == ["make preview STACK=prod", "error: the reason"]
    assert "continue-on-error" not in preview
    assert comment["if"] == f"${{{{ !cancelled() && steps.{preview['id']}.outcome != 'skipped' }}}}"
    assert comment["run"] == 'make comment STACK="$STACK" FILE="$RUNNER_TEMP/preview.txt" PR="$PR"'


@pytest.mark.parametrize("name", ["preview.yml", "up.yml"])
def test_the_kubeconfig_is_for_its_owner_alone(name: str, tmp_path: Path) -> None:
    (writing,) = {step["run"] for step in steps(name) if step.get("name") == "kubeconfig"}
    assert run_step(writing, tmp_path, CONTENT="apiVersion: v1\nkind: Config") == 0
    kubeconfig = tmp_path / "kubeconfig"
    assert kubeconfig.read_text() == "apiVersion: v1\nkind: Config\n"
    assert kubeconfig.stat().st_mode & 0o777 == 0o600
    used = [step["env"]["KUBECONFIG"] for step in steps(name) if "PULUMI_BACKEND_URL" in step.get("env", {})]
    assert set(used) == {"${{ runner.temp }}/kubeconfig"}
