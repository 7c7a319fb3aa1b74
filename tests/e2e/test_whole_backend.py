"""Every model answers; each change rolls what it concerns and nothing else, and users lose no request to it."""

import re
import subprocess
import sys
from typing import Any

import pytest

from local.paths import cache_dir
from tests.e2e.line import ROOT, Line, rolled, rolled_at_last, server_told
from tests.e2e.load import under_load

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1200)]
NAMES = ("gemma-3-270m", "tiny-ada", "tiny-bohr", "tiny-curie", "tiny-dirac")
BASE = "http://{}.ai.svc.cluster.local:8080/v1"


def test_make_up_ends_with_a_reply_from_every_model(standing: Line) -> None:
    printed = standing.up()
    replies = dict(re.findall(rf"^({'|'.join(NAMES)}): (.+)$", printed, re.MULTILINE))
    assert tuple(replies) == NAMES
    assert all(replies.values())


def test_make_verify_is_all_green_and_make_smoke_asks_every_model_again(standing: Line) -> None:
    verified = standing.ops("verify")
    assert verified.returncode == 0, verified.stdout
    assert "FAILED" not in verified.stdout
    smoked = standing.ops("smoke")
    assert smoked.returncode == 0, smoked.stdout
    assert all(name in smoked.stdout for name in NAMES)
    assert "unchanged since they passed" not in smoked.stdout


def test_a_change_of_a_pools_catalog_rolls_the_pool_alone_and_only_that_model_is_asked(standing: Line) -> None:
    def other_files(config: dict[str, Any]) -> None:
        config["pools"][0]["models"][1]["repo"] = "llama-chat/tiny-ada-GGUF"

    before = standing.pods()
    printed = standing.up(standing.variant(other_files))
    assert rolled(before, standing.pods()) == {"llama-swap"}
    assert "ok: tiny-curie: answers and streams; unchanged since they passed: tiny-bohr, tiny-dirac" in printed
    assert "routed by the gateway" not in printed


@pytest.mark.full
def test_a_model_that_is_added_to_a_pool_is_the_only_one_asked_and_answers_users(standing: Line) -> None:
    def one_more(config: dict[str, Any]) -> None:
        config["pools"][0]["models"].append({"name": "tiny-euler", "repo": "llama-chat/tiny-ada-GGUF", "quant": "F32"})

    before = standing.pods()
    printed = standing.up(standing.variant(one_more))
    both = {"llama-swap", "llm-gateway"}
    assert rolled_at_last(standing, before, both) == both
    assert "ok: tiny-euler: answers and streams; unchanged since they passed: tiny-bohr, tiny-curie" in printed
    assert re.search(r"^tiny-euler: .", printed, re.MULTILINE)


@pytest.mark.full
def test_a_new_gateway_serves_without_a_lost_request_or_a_cut_stream(standing: Line) -> None:
    image = standing.image("litellm", "another", '#!/bin/sh\nexec /app/docker/prod_entrypoint.sh "$@"\n')

    def other_image(config: dict[str, Any]) -> None:
        config["images"]["litellm"] = image

    before = standing.pods()
    with under_load(standing, *NAMES[1:]) as load:
        standing.up(standing.variant(other_image))
    assert rolled(before, standing.pods()) == {"llm-gateway"}
    assert load.lost == []
    assert set(load.answered) == {BASE.format("llama-static-b"), BASE.format("llama-swap")}
    assert sum(load.answered.values()) > 100


@pytest.mark.full
@pytest.mark.parametrize(
    ("tag", "wrong", "told"),
    [
        (
            "wrong-backend",
            "s#llama-static-b.ai#llama-static-a.ai#",
            "tiny-ada: answered by http://llama-static-a.ai.svc.cluster.local:8080/v1, expected",
        ),
        ("wrong-name", "s#model_name: tiny-ada#model_name: general#", "/v1/models lists"),
        ("missing-name", "/model_name: tiny-ada/,/Connection: close/d", "/v1/models lists"),
    ],
)
def test_a_wrong_route_fails_in_the_candidate_while_users_keep_the_old_ones(
    standing: Line, tag: str, wrong: str, told: str
) -> None:
    script = f"""#!/bin/sh
sed '{wrong}' /etc/litellm/config.yaml > /tmp/config.yaml
for argument do
  shift
  [ "$argument" = /etc/litellm/config.yaml ] && argument=/tmp/config.yaml
  set -- "$@" "$argument"
done
exec /app/docker/prod_entrypoint.sh "$@"
"""
    image = standing.image("litellm", tag, script)

    def other_image(config: dict[str, Any]) -> None:
        config["images"]["litellm"] = image

    before = standing.pods()
    with under_load(standing, "tiny-ada", clients=2) as load:
        failed = standing.ops("up", "--config-file", str(standing.variant(other_image)))
    assert failed.returncode == 1
    assert told in failed.stdout
    assert rolled(before, standing.pods()) == set()
    assert load.lost == []
    assert load.answered


def another_model_from_nowhere(config: dict[str, Any]) -> None:
    """Files that the backend's volume lacks, from a hub that is away."""
    config["statics"][1]["model"]["repo"] = "llama-chat/tiny-bohr-GGUF"
    config["hub"]["endpoint"] = "http://hub.llama-chat.internal:1"


@pytest.mark.full
def test_a_hub_that_is_away_during_a_model_change_leaves_the_old_pod_serving_and_all_that_going_back_needs(
    standing: Line,
) -> None:
    objects = sorted(standing.kubectl("get", "configmaps,jobs", "-o", "name").splitlines())
    before = standing.pods()
    with under_load(standing, "tiny-ada", clients=2) as load:
        failed = standing.ops("up", "--config-file", str(standing.variant(another_model_from_nowhere)))
    assert failed.returncode == 1
    assert "from the hub http://hub.llama-chat.internal:1" in failed.stdout
    assert "Traceback" not in failed.stdout
    assert "llama-static-b" not in rolled(before, standing.pods())
    assert load.lost == []
    assert load.answered
    # without the refresh that `make up` of a local stack begins with: it would bring back what this update must keep
    file = standing.instance.state / "Pulumi.local.yaml"
    salt = file.read_text().partition("encryptionsalt")
    file.write_text("".join(((ROOT / "Pulumi.local.yaml").read_text(), "\n", *salt[1:])))
    again = ["pulumi", "up", "--stack", "local", "--config-file", str(file), "--yes", "--skip-preview"]
    done = subprocess.run(again, cwd=ROOT, env=standing.pulumi_env(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout
    assert sorted(standing.kubectl("get", "configmaps,jobs", "-o", "name").splitlines()) == objects


@pytest.mark.full
def test_a_static_models_change_costs_its_users_one_load_and_no_download(
    standing: Line, capsys: pytest.CaptureFixture[str]
) -> None:
    def other_files(config: dict[str, Any]) -> None:
        config["statics"][1]["model"]["repo"] = "llama-chat/tiny-curie-GGUF"

    before = standing.pods()
    with under_load(standing, "tiny-ada", clients=4) as load:
        standing.up(standing.variant(other_files))
    assert rolled(before, standing.pods()) == {"llama-static-b"}
    pod = standing.pod("llama-static-b")["metadata"]["name"]
    linked = standing.kubectl("logs", pod, "-c", "link")
    assert "tiny-curie-F32.gguf" in linked
    assert "1 downloaded" not in linked
    fetched = standing.kubectl("logs", "-l", "app.kubernetes.io/name=llama-static-b-fetch", "--tail=-1")
    assert "1 downloaded" in fetched
    with capsys.disabled():
        sys.stdout.write(f"\na static model's change: its users were without it for {load.away_seconds:.1f} s\n")
    # its drain, one load, and LiteLLM's clients finding it again
    assert 0 < load.away_seconds < 60


@pytest.mark.full
def test_the_right_name_over_the_wrong_weights_fails_the_update(standing: Line) -> None:
    other = (cache_dir() / "hub" / "llama-chat" / "tiny-bohr-GGUF" / "tiny-bohr-F32.gguf").read_bytes()
    script = server_told("--model", "/app/other.gguf")
    image = standing.image("llama.cpp", "server-wrong-weights", script, {"/app/other.gguf": other})

    def serve_another(config: dict[str, Any]) -> None:
        config["statics"][0]["image"] = image

    failed = standing.ops("up", "--config-file", str(standing.variant(serve_another)))
    assert failed.returncode == 1
    assert "gemma-3-270m: the server has loaded 118720 weights in 474880 bytes, the lock 268098176 in" in failed.stdout
