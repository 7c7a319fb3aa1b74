"""Adopting: what runs is written down whole, without a key, and nothing else changes."""

from base64 import b64decode
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from config import legacy
from config.errors import ConfigError, UserError
from config.legacy import load_adopted
from config.load import load_file
from ops import __main__ as commands
from ops.adopt import adopt
from ops.stack import Stack, read_unadopted
from tests.ops.adoptable import KEY, LIVE_LITELLM, STACK, Cluster, stack_text
from tests.runbook import FRONTEND, GATEWAY, LIBRECHAT, LITELLM, deployment

Object = dict[str, Any]
ROUTES = """\
  llama-chat:legacy:
    keys_secret: llm-gateway-legacy-keys
    keys: [LEGACY_KEY_1]
    routes: # what replaces each is yours to write; null: it stays as it is
      - {name: general-chat, deployment: vllm-general, node: gpu-node-1, replicas: 1, replaced_by: null}
      - {name: code-chat, deployment: vllm-code, node: gpu-node-2, replicas: 1, replaced_by: null}
      - {name: reasoning-chat, deployment: vllm-reasoning, node: gpu-node-3, replicas: 1, replaced_by: null}
"""
FLUX = {"kustomize.toolkit.fluxcd.io/name": "apps"}


class Adoption:
    """A stack file, a cluster, and what the operator saw."""

    def __init__(self, folder: Path, said: list[str]) -> None:
        self.file = stack_text(folder)
        self.folder = folder / "legacy" / "prod"
        self.cluster = Cluster()
        self.said = said
        self.asked: list[str] = []
        self.agrees = True

    def run(self) -> None:
        self.said.clear()
        self.asked.clear()
        adopt(read_unadopted("prod", self.file), self.cluster, self._confirm)

    def refused(self) -> list[str]:
        before = self.file.read_text()
        with pytest.raises(ConfigError) as caught:
            self.run()
        assert (self.file.read_text(), self.folder.exists(), self.cluster.ran) == (before, False, [])
        return [str(problem) for problem in caught.value.problems]

    def stack(self, **changes: Any) -> None:  # noqa: ANN401 - values of a stack file
        """Another value of a top-level key, in a file that was written by a person."""
        document = yaml.safe_load(self.file.read_text())
        for name, value in changes.items():
            document["config"][f"llama-chat:{name}"] = value
        self.file.write_text(yaml.safe_dump(document, sort_keys=False))

    def routes(self) -> dict[str, Object]:
        found = yaml.safe_load(self.file.read_text())["config"]["llama-chat:legacy"]["routes"]
        return {route["name"]: route for route in found}

    def kept(self, name: str = "gateway") -> Object:
        return yaml.safe_load((self.folder / f"{name}.yaml").read_text())

    def secret(self) -> dict[str, str]:
        data = self.cluster.named("secret", "llm-gateway-legacy-keys")["data"]
        return {key: b64decode(value).decode() for key, value in data.items()}

    def _confirm(self, question: str) -> bool:
        self.asked.append(question)
        return self.agrees


@pytest.fixture
def adoption(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Adoption:
    said: list[str] = []
    monkeypatch.setattr(legacy, "LEGACY", tmp_path / "legacy")
    monkeypatch.setattr("ops.adopt.say", said.append)
    return Adoption(tmp_path, said)


def test_both_documents_are_written_down_byte_for_byte_but_for_the_key(adoption: Adoption) -> None:
    adoption.run()
    found = load_adopted(adoption.folder)
    assert found is not None
    assert (found.litellm, found.librechat) == (LITELLM, LIBRECHAT)
    assert found.litellm.replace("os.environ/LEGACY_KEY_1", KEY) == LIVE_LITELLM


def test_the_deployments_are_written_down_without_what_the_cluster_adds(adoption: Adoption) -> None:
    adoption.run()
    assert (adoption.kept(), adoption.kept("frontend")) == (GATEWAY, FRONTEND)
    assert (adoption.folder / "gateway.yaml").read_text().startswith("# Written by `make adopt`: what ran before")


def test_the_stack_file_gets_its_legacy_part_and_keeps_every_other_character(adoption: Adoption) -> None:
    adoption.run()
    assert adoption.file.read_text() == STACK.replace(
        "  # one step at a time", f"{ROUTES}\n  # one step at a time", 1
    ).replace("# LibreChat\n\n", "# LibreChat\n")


def test_the_key_goes_into_a_secret_through_a_pipe_and_is_nowhere_else(adoption: Adoption) -> None:
    adoption.run()
    assert adoption.secret() == {"LEGACY_KEY_1": KEY}
    made = adoption.cluster.named("secret", "llm-gateway-legacy-keys")
    assert made["metadata"]["labels"]["app.kubernetes.io/part-of"] == "llama-chat"
    assert adoption.cluster.ran == [("create", "-f", "-")]
    (question,) = adoption.asked
    assert question == (
        "Put what stands in the open into Secret llm-gateway-legacy-keys of namespace ai: LEGACY_KEY_1?"
    )
    files = [file.read_text() for file in (*adoption.folder.iterdir(), adoption.file)]
    assert KEY not in "\n".join((*files, *adoption.said, question))


def test_without_a_yes_nothing_is_changed(adoption: Adoption) -> None:
    adoption.agrees = False
    with pytest.raises(UserError, match="Nothing is changed"):
        adoption.run()
    assert (adoption.file.read_text(), adoption.folder.exists(), adoption.cluster.ran) == (STACK, False, [])


@pytest.mark.usefixtures("kubeconfig")
def test_the_command_wants_a_person_or_a_yes_before_it_stores_a_key(
    adoption: Adoption, monkeypatch: pytest.MonkeyPatch
) -> None:
    def connected(_: Stack) -> Cluster:
        return adoption.cluster

    monkeypatch.setattr(commands, "kube_of", connected)
    command = ["adopt", "--stack", "prod", "--config-file", str(adoption.file)]
    refused = CliRunner().invoke(commands.app, command)
    assert isinstance(refused.exception, UserError)
    assert "Nobody is there to answer: run it again with YES=1." in str(refused.exception)
    assert (adoption.file.read_text(), adoption.cluster.ran) == (STACK, [])
    done = CliRunner().invoke(commands.app, [*command, "--yes"])
    assert (done.exit_code, adoption.secret()) == (0, {"LEGACY_KEY_1": KEY})


def test_nobody_is_asked_where_no_key_stands_in_the_open(adoption: Adoption) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace(KEY, "os.environ/CODE_KEY"))
    adoption.run()
    assert (adoption.asked, adoption.cluster.ran) == ([], [])
    assert "keys" not in yaml.safe_load(adoption.file.read_text())["config"]["llama-chat:legacy"]


def test_what_is_left_to_the_operator_is_told_and_the_file_is_whole_once_it_is_done(adoption: Adoption) -> None:
    adoption.run()
    left = [line for line in adoption.said if line.startswith("to do: ")]
    assert [line.split(": ")[1:3] for line in left] == [
        [f"llama-chat:legacy.routes[{number}].replaced_by", "(missing)"] for number in range(3)
    ]
    adoption.file.write_text(adoption.file.read_text().replace("replaced_by: null", "replaced_by: GLM-4.7-Flash"))
    assert load_file(adoption.file).adopted.litellm == LITELLM
    adoption.run()
    assert adoption.said[-1] == "make preview shows what would change"


def test_where_there_is_one_model_it_replaces_every_route(adoption: Adoption) -> None:
    adoption.stack(
        nodes={"static-a": "gpu-node-1"},
        statics=[{"role": "static-a", "model": {"name": "GLM-4.7-Flash", "repo": "unsloth/GLM", "quant": "Q4_K_M"}}],
    )
    adoption.run()
    assert {route["replaced_by"] for route in adoption.routes().values()} == {"GLM-4.7-Flash"}


@pytest.mark.parametrize(
    "host", ["vllm-code", "vllm-code.ai", "vllm-code.ai.svc", "vllm-code.ai.svc.cluster.local", "vllm-code.ai.svc.k8s"]
)
def test_a_service_is_known_by_every_name_that_pods_may_write(adoption: Adoption, host: str) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace("vllm-code.ai.svc.cluster.local", host))
    adoption.run()
    assert adoption.routes()["code-chat"]["deployment"] == "vllm-code"


def test_pods_and_their_node_are_told_as_they_are(adoption: Adoption) -> None:
    adoption.cluster.named("deployment", "vllm-code")["spec"]["replicas"] = 2
    second = {"metadata": {"name": "vllm-code-2", "labels": {"app": "vllm-code"}}, "spec": {"nodeName": "gpu-node-0"}}
    adoption.cluster.objects["pod", "vllm-code-2"] = second
    adoption.cluster.named("pod", "vllm-general-1")["spec"] = {}
    adoption.run()
    assert adoption.routes()["code-chat"]["replicas"] == 2
    assert adoption.routes()["code-chat"]["node"] == "gpu-node-0"
    assert adoption.routes()["general-chat"]["node"] is None
    assert "code-chat: vllm-code on gpu-node-0, 2 pods; replaced by nothing" in adoption.said


@pytest.mark.parametrize(
    ("base", "why"),
    [
        ("https://api.openai.com/v1", "api.openai.com is no Service of namespace ai"),
        ("http://vllm-code.other.svc.cluster.local:8000/v1", "vllm-code.other.svc.cluster.local is no Service of"),
        ("os.environ/CODE_BASE", "its entry says no server's address"),
    ],
)
def test_a_route_that_leads_elsewhere_stays_as_it_is(adoption: Adoption, base: str, why: str) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace("http://vllm-code.ai.svc.cluster.local:8000/v1", base))
    adoption.run()
    assert adoption.routes()["code-chat"] == {"name": "code-chat", "deployment": None, "replaced_by": None}
    assert any(line.startswith(f"code-chat stays as it is: {why}") for line in adoption.said)


def test_a_service_without_a_deployment_behind_it_is_told(adoption: Adoption) -> None:
    adoption.cluster.named("service", "vllm-code")["spec"]["selector"] = {}
    adoption.run()
    assert adoption.routes()["code-chat"]["deployment"] is None
    assert "code-chat stays as it is: Service vllm-code leads to no Deployment" in adoption.said


def test_every_deployment_behind_a_name_is_found(adoption: Adoption) -> None:
    twin = deployment("vllm-twin")
    twin["spec"]["template"]["metadata"]["labels"] = {"app": "vllm-code", "zone": "b"}
    adoption.cluster.objects["deployment", "vllm-twin"] = twin
    adoption.cluster.write(LIVE_LITELLM.replace("model_name: reasoning-chat", "model_name: code-chat"))
    adoption.run()
    written = yaml.safe_load(adoption.file.read_text())["config"]["llama-chat:legacy"]["routes"]
    assert [(route["name"], route["deployment"]) for route in written] == [
        ("general-chat", "vllm-general"),
        ("code-chat", "vllm-code"),
        ("code-chat", "vllm-twin"),
        ("code-chat", "vllm-reasoning"),
    ]


def test_an_alias_has_the_deployment_of_its_target(adoption: Adoption) -> None:
    aliases = "  model_group_alias: {gpt-4: code-chat, o1: {model: general-chat, hidden: true}}\n"
    adoption.cluster.write(LIVE_LITELLM.replace("router_settings:\n", f"router_settings:\n{aliases}"))
    adoption.run()
    assert adoption.routes()["gpt-4"]["deployment"] == "vllm-code"
    assert adoption.routes()["o1"]["deployment"] == "vllm-general"


@pytest.mark.parametrize("value", ["unused", "none", "EMPTY", "dummy", "''", "os.environ/CODE_KEY"])
def test_what_is_no_key_stays_where_it_is(adoption: Adoption, value: str) -> None:
    text = LIVE_LITELLM.replace(KEY, value)
    adoption.cluster.write(text)
    adoption.run()
    assert (adoption.folder / "litellm.yaml").read_text() == text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("api_key: unused", "api_key: &k plain-canary"),
        ("api_key: unused", "api_key: 'quoted-canary'   # old"),
        ("api_key: unused", 'extra_headers: {"X-Api-Key": "flow-canary", Accept: all}'),
        ("api_key: unused", "extra_headers: {Authorization: Bearer canary-bearer}"),
        ("api_key: unused", "aws_secret_access_key: canary-aws"),
        ("drop_params: true", "cache_params: {password: 9876543210}"),
        ("drop_params: true", "callback: https://canary:pass@example.org/hook"),
        ("drop_params: true", "langfuse_token: hf_canaryCANARYcanary"),
        ("master_key: os.environ/LITELLM_MASTER_KEY", "master_key: sk-canary"),
    ],
)
def test_a_key_in_any_form_leaves_the_document(adoption: Adoption, before: str, after: str) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace(KEY, "unused").replace(before, after, 1))
    adoption.run()
    (value,) = adoption.secret().values()
    assert "canary" in value or value == "9876543210"
    written = (adoption.folder / "litellm.yaml").read_text()
    assert value not in written
    assert written.count("os.environ/LEGACY_KEY_1") == 1
    found = load_adopted(adoption.folder)
    assert found is not None
    assert found.names == ("general-chat", "code-chat", "reasoning-chat")


def test_prices_and_switches_are_no_keys(adoption: Adoption) -> None:
    text = LIVE_LITELLM.replace(KEY, "unused\n      input_cost_per_token: 1e-7\n      use_token: true")
    adoption.cluster.write(text)
    adoption.run()
    assert (adoption.folder / "litellm.yaml").read_text() == text


def test_one_key_that_stands_twice_is_one_variable(adoption: Adoption) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace("api_key: unused", f"api_key: {KEY}"))
    adoption.run()
    assert adoption.secret() == {"LEGACY_KEY_1": KEY}
    assert (adoption.folder / "litellm.yaml").read_text().count("os.environ/LEGACY_KEY_1") == 2


def test_a_master_key_that_stood_in_the_document_is_named_in_the_stack_file(adoption: Adoption) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace("os.environ/LITELLM_MASTER_KEY", "sk-old-master"))
    adoption.run()
    assert adoption.secret() == {"LEGACY_KEY_1": KEY, "LEGACY_KEY_2": "sk-old-master"}
    line = "    master_key_secret: {name: llm-gateway-legacy-keys, key: LEGACY_KEY_2}   # as before\n"
    assert line in adoption.file.read_text()


@pytest.mark.parametrize(
    ("env", "env_from", "expected"),
    [
        (
            {"valueFrom": {"secretKeyRef": {"name": "other", "key": "k"}}},
            [],
            {"name": "other", "key": "k"},
        ),
        ({"value": "sk-in-the-open"}, [], {"name": "llm-gateway-legacy-keys", "key": "LITELLM_MASTER_KEY"}),
        (None, [{"secretRef": {"name": "whole"}}], {"name": "whole", "key": "LITELLM_MASTER_KEY"}),
        (None, [{"configMapRef": {"name": "x"}}], {"name": "litellm", "key": "master-key"}),
    ],
)
def test_the_master_key_is_looked_for_where_the_gateway_has_it_from(
    adoption: Adoption, env: Object | None, env_from: list[Object], expected: Object
) -> None:
    container = adoption.cluster.container()
    container["env"] = [{"name": "LITELLM_MASTER_KEY", **env}] if env else []
    container["envFrom"] = env_from
    whole = {"metadata": {"name": "whole"}, "data": {"LITELLM_MASTER_KEY": ""}}
    adoption.cluster.objects["secret", "whole"] = whole
    adoption.run()
    assert yaml.safe_load(adoption.file.read_text())["config"]["llama-chat:gateway"]["master_key_secret"] == expected


@pytest.mark.parametrize(("kind", "reference"), [("secret", "secretRef"), ("configmap", "configMapRef")])
def test_a_variable_of_our_hook_that_comes_with_many_others_is_not_replaced_unseen(
    adoption: Adoption, kind: str, reference: str
) -> None:
    adoption.cluster.container()["envFrom"] = [{"prefix": "PYTHON", reference: {"name": "many"}}]
    adoption.cluster.objects[kind, "many"] = {"metadata": {"name": "many"}, "data": {"PATH": "/theirs"}}
    with pytest.raises(
        ConfigError, match=f"has PYTHONPATH from {kind} many, in whose place .*close_connections: false"
    ):
        adoption.run()
    adoption.cluster.container()["env"] += [{"name": "PYTHONPATH", "value": "/theirs"}]
    adoption.run()


def test_a_secret_in_the_gateways_environment_is_kept_as_a_reference(adoption: Adoption) -> None:
    adoption.cluster.container()["env"] += [
        {"name": "LANGFUSE_SECRET_KEY", "value": "canary-of-langfuse"},
        {"name": "LITELLM_LOG", "value": "INFO"},
    ]
    adoption.run()
    assert adoption.secret() == {"LEGACY_KEY_1": KEY, "LANGFUSE_SECRET_KEY": "canary-of-langfuse"}
    env = adoption.kept()["spec"]["template"]["spec"]["containers"][0]["env"]
    reference = {"secretKeyRef": {"name": "llm-gateway-legacy-keys", "key": "LANGFUSE_SECRET_KEY"}}
    assert env[1:] == [
        {"name": "LANGFUSE_SECRET_KEY", "valueFrom": reference},
        {"name": "LITELLM_LOG", "value": "INFO"},
    ]


def test_a_secret_of_librechats_is_not_written_down(adoption: Adoption) -> None:
    container = adoption.cluster.container("librechat")
    container["env"] = [{"name": "JWT_SECRET", "value": "canary"}, {"name": "HOST", "value": "chat"}]
    container["args"] = ["mongodb://user:canary@mongo"]
    adoption.run()
    kept = adoption.kept("frontend")["spec"]["template"]["spec"]["containers"][0]
    assert kept["env"] == [{"name": "JWT_SECRET", "value": "***"}, {"name": "HOST", "value": "chat"}]
    assert kept["args"] == ["***"]


def test_what_kubectl_applied_is_not_kept_and_is_warned_of(adoption: Adoption) -> None:
    annotations = {"kubectl.kubernetes.io/last-applied-configuration": '{"env": "sk-canary-canary-canary"}'}
    adoption.cluster.named("deployment", "llm-gateway")["metadata"]["annotations"] = annotations
    adoption.cluster.named("configmap", "litellm-config")["metadata"]["annotations"] = {
        "meta.helm.sh/release-name": "ai"
    }
    adoption.run()
    assert adoption.kept() == GATEWAY
    assert adoption.said[:2] == [
        "ConfigMap litellm-config is of the Helm release ai: its next upgrade would undo the routes",
        "Deployment llm-gateway was made with kubectl apply: take it out of what you apply, or that undoes the routes",
    ]


def test_a_gateway_may_be_adopted_alone(adoption: Adoption) -> None:
    adoption.stack(frontend={"mode": "none"})
    adoption.run()
    assert sorted(file.name for file in adoption.folder.iterdir()) == ["gateway.yaml", "litellm.yaml"]


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        (
            "gateway",
            {"mode": "deploy"},
            "llama-chat:gateway.mode: deploy: nothing is adopted in this mode: write adopt",
        ),
        ("migration", {"phase": "cutover"}, "llama-chat:migration.phase: cutover: what runs is what this stack made"),
        ("gateway", {"port": 4001}, "llama-chat:gateway.port: 4001: Service llm-gateway, by which users reach the "),
        (
            "gateway",
            {"config_map": "x"},
            "llama-chat:gateway.config_map: x: namespace ai has none of that name: it has ",
        ),
        (
            "gateway",
            {"config_key": "x"},
            "llama-chat:gateway.config_key: x: ConfigMap litellm-config has no such key: it",
        ),
        (
            "frontend",
            {"deployment": "x"},
            "llama-chat:frontend.deployment: x: namespace ai has none of that name: it ha",
        ),
        ("frontend", {"endpoint_name": "x"}, "llama-chat:frontend.endpoint_name: x: the adopted document has no such "),
    ],
)
def test_what_the_stack_file_names_wrongly_is_told_and_nothing_is_changed(
    adoption: Adoption, key: str, value: Object, expected: str
) -> None:
    before = yaml.safe_load(STACK)["config"][f"llama-chat:{key}"]
    adoption.stack(**{key: before | value})
    (line,) = adoption.refused()
    assert line.startswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("model_list: [", "its document is not YAML at line 1: correct it"),
        ("general_settings: {}", "its document has no model_list of entries with model_name and litellm_params: corr"),
        (
            f"{LIVE_LITELLM}callbacks: [sk-canary-canary]\n",
            "its document holds a key in a list, at callbacks[0], where ",
        ),
        (
            f"{LIVE_LITELLM}# sk-canarycanarycanary\n",
            "its document holds what looks like a secret in line 30, perhaps a",
        ),
        (
            f"include: [x.yaml]\n{LIVE_LITELLM}",
            "its document includes other files: write their content into it, and run",
        ),
        (
            LIVE_LITELLM.replace("code-chat", "'*'"),
            "its document routes *, which is any name: write an entry for each t",
        ),
        (
            LIVE_LITELLM.replace("vllm-code.", "llama-static-a."),
            "its document leads code-chat to this stack's own llama-static-a: bring the stack back to phase parallel",
        ),
    ],
)
def test_a_document_that_cannot_be_adopted_is_told(adoption: Adoption, text: str, expected: str) -> None:
    adoption.cluster.write(text)
    adoption.cluster.objects["service", "llama-static-a"] = {
        "metadata": {"name": "llama-static-a"},
        "spec": {"selector": {"app.kubernetes.io/name": "llama-static-a"}},
    }
    (line,) = adoption.refused()
    assert line.startswith(f"llama-chat:gateway.config_map: litellm-config: {expected}")
    assert "canary" not in line


def test_a_key_in_librechats_document_is_refused_with_what_to_do(adoption: Adoption) -> None:
    text = LIBRECHAT.replace("${OPENROUTER_KEY}", "sk-or-canary")
    adoption.cluster.write(text, "librechat-config", "librechat.yaml")
    assert adoption.refused() == [
        (
            "llama-chat:frontend.config_map: librechat-config: its document holds a key at endpoints.custom[1].apiKey: "
            "put it into a Secret that LibreChat has as a variable, and write ${VARIABLE} there"
        )
    ]


def test_a_key_that_a_user_gives_is_none_of_librechats(adoption: Adoption) -> None:
    text = LIBRECHAT.replace("${OPENROUTER_KEY}", "user_provided")
    adoption.cluster.write(text, "librechat-config", "librechat.yaml")
    adoption.run()
    assert (adoption.folder / "librechat.yaml").read_text() == text


@pytest.mark.parametrize(
    ("kind", "name", "key"),
    [
        ("configmap", "litellm-config", "gateway.config_map"),
        ("deployment", "llm-gateway", "gateway.deployment"),
        ("configmap", "librechat-config", "frontend.config_map"),
        ("deployment", "librechat", "frontend.deployment"),
        ("deployment", "vllm-code", "legacy.routes"),
    ],
)
def test_what_flux_puts_back_is_refused_until_that_is_dealt_with(
    adoption: Adoption, kind: str, name: str, key: str
) -> None:
    adoption.cluster.named(kind, name)["metadata"]["labels"] = FLUX
    (line,) = adoption.refused()
    assert line == (
        f"llama-chat:{key}: {name}: Flux would undo what this stack changes in it (kustomize.toolkit.fluxcd.io/name: "
        "apps): keep it from being pruned, then take it out of git (docs/migration.md), or pause it there; then write "
        "legacy.gitops_released: true"
    )
    adoption.stack(legacy={"gitops_released": True})
    adoption.run()
    assert yaml.safe_load(adoption.file.read_text())["config"]["llama-chat:legacy"]["gitops_released"] is True


@pytest.mark.parametrize(
    ("metadata", "who"),
    [
        ({"annotations": {"argocd.argoproj.io/tracking-id": "ai:apps/Deployment:ai/x"}}, "Argo CD"),
        ({"labels": {"argocd.argoproj.io/instance": "ai"}}, "Argo CD"),
        ({"labels": {"helm.toolkit.fluxcd.io/name": "ai"}}, "Flux"),
    ],
)
def test_who_puts_it_back_is_told_by_name(adoption: Adoption, metadata: Object, who: str) -> None:
    adoption.cluster.named("deployment", "llm-gateway")["metadata"] |= metadata
    (line,) = adoption.refused()
    assert f"llm-gateway: {who} would undo" in line


def test_what_flux_leaves_alone_or_has_only_a_common_label_is_let_through(adoption: Adoption) -> None:
    meta = adoption.cluster.named("deployment", "llm-gateway")["metadata"]
    meta["labels"] = {**FLUX, "app.kubernetes.io/instance": "ai"}
    meta["annotations"] = {"kustomize.toolkit.fluxcd.io/reconcile": "disabled"}
    adoption.run()


def autoscaler(target: Object, *owners: Object) -> Object:
    return {"metadata": {"name": "chat", "ownerReferences": list(owners)}, "spec": {"scaleTargetRef": target}}


@pytest.mark.parametrize(
    ("name", "key", "owner", "who"),
    [
        ("llm-gateway", "gateway.deployment", None, "HorizontalPodAutoscaler chat"),
        ("llm-gateway", "gateway.deployment", {"kind": "ScaledObject", "name": "llm"}, "HorizontalPodAutoscaler chat"),
        ("vllm-code", "legacy.routes", {"kind": "ScaledObject", "name": "llm", "controller": True}, "ScaledObject llm"),
    ],
)
def test_an_autoscaler_of_what_the_stack_counts_is_refused(
    adoption: Adoption, name: str, key: str, owner: Object | None, who: str
) -> None:
    target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": name}
    adoption.cluster.objects["horizontalpodautoscaler", "chat"] = autoscaler(target, *filter(None, [owner]))
    (line,) = adoption.refused()
    assert line == (
        f"llama-chat:{key}: {name}: {who} changes the number of its pods, which this stack states: take that away (out "
        "of git too), scale it to the number that you want, then run make adopt again"
    )


@pytest.mark.parametrize("target", [("Deployment", "librechat"), ("StatefulSet", "llm-gateway")])
def test_any_other_autoscaler_is_let_through(adoption: Adoption, target: tuple[str, str]) -> None:
    scaled: Object = dict(zip(("kind", "name"), target, strict=True))
    adoption.cluster.objects["horizontalpodautoscaler", "chat"] = autoscaler(scaled)
    adoption.run()


def with_env(name: str, value: str) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.container()["env"].append({"name": name, "value": value})


def with_setting(text: str) -> Callable[[Cluster], None]:
    return lambda cluster: cluster.write(LIVE_LITELLM + text)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (with_setting("  store_model_in_db: true\n"), "general_settings.store_model_in_db"),
        (with_setting("  database_url: os.environ/DATABASE_URL\n"), "general_settings.database_url"),
        (with_env("STORE_MODEL_IN_DB", "True"), "STORE_MODEL_IN_DB"),
        (with_env("DATABASE_URL", "postgresql://db"), "DATABASE_URL"),
    ],
)
def test_models_in_a_database_are_refused_until_they_were_looked_at(
    adoption: Adoption, change: Callable[[Cluster], None], what: str
) -> None:
    change(adoption.cluster)
    (line,) = adoption.refused()
    assert line.startswith(f"llama-chat:gateway.deployment: llm-gateway: has a database ({what}), whose models stand")
    assert line.endswith("then write legacy.database_checked: true")
    adoption.stack(legacy={"database_checked": True})
    adoption.run()


def test_a_document_from_a_bucket_is_refused(adoption: Adoption) -> None:
    with_env("LITELLM_CONFIG_BUCKET_NAME", "b")(adoption.cluster)
    (line,) = adoption.refused()
    assert "reads its document from a bucket" in line


def test_a_config_map_that_is_immutable_or_that_nobody_mounts_is_refused(adoption: Adoption) -> None:
    adoption.cluster.named("configmap", "litellm-config")["immutable"] = True
    adoption.cluster.container("librechat")["volumeMounts"] = []
    first, second = adoption.refused()
    assert first.startswith("llama-chat:gateway.config_map: litellm-config: is immutable")
    assert second.startswith(
        "llama-chat:frontend.config_map: librechat-config: no container of Deployment librechat mounts it"
    )


@pytest.mark.parametrize("argument", ["--api-key=canary", "--url=http://a:canary@b", "sk-canaryCANARYcanary"])
def test_a_secret_in_an_argument_of_the_gateway_is_refused_by_its_place(adoption: Adoption, argument: str) -> None:
    adoption.cluster.container()["args"].append(argument)
    (line,) = adoption.refused()
    assert line == (
        "llama-chat:gateway.deployment: llm-gateway: holds what looks like a secret at "
        "spec.template.spec.containers[0].args[2]: put it into a Secret and refer to that"
    )


def test_what_follows_an_option_that_names_a_key_is_one(adoption: Adoption) -> None:
    adoption.cluster.container()["args"] += ["--api-key", "canary", "--debug"]
    (line,) = adoption.refused()
    assert "containers[0].args[3]: put it into a Secret" in line


def test_a_secret_that_is_somebody_elses_is_not_written_to(adoption: Adoption) -> None:
    adoption.cluster.objects["secret", "llm-gateway-legacy-keys"] = {
        "metadata": {"name": "llm-gateway-legacy-keys", "labels": {}},
        "data": {},
    }
    (line,) = adoption.refused()
    assert line == (
        "llama-chat:legacy.keys_secret: llm-gateway-legacy-keys: namespace ai has this Secret, and it is not one of "
        "make adopt's: write another name"
    )
    adoption.stack(legacy={"keys_secret": "other-keys"})
    adoption.run()
    assert list(adoption.cluster.named("secret", "other-keys")["data"]) == ["LEGACY_KEY_1"]


def test_a_legacy_name_that_a_model_has_is_refused(adoption: Adoption) -> None:
    adoption.cluster.write(LIVE_LITELLM.replace("model_name: code-chat", "model_name: glm-4.7-flash"))
    (line,) = adoption.refused()
    assert line.startswith(
        "llama-chat:legacy.routes[1].name: glm-4.7-flash: is the name of llama-chat:statics[0].model"
    )


class TestAgain:
    """The stack is adopted a second time."""

    @pytest.fixture
    def adoption(self, adoption: Adoption) -> Adoption:
        adoption.run()
        text = adoption.file.read_text().replace("vllm-code, node: gpu-node-2, replicas: 1, replaced_by: null", "X")
        assert text != adoption.file.read_text()
        adoption.file.write_text(
            text.replace(
                "deployment: X", "deployment: vllm-code, node: gpu-node-2, replicas: 1, replaced_by: GLM-4.7-Flash"
            )
        )
        adoption.cluster.ran.clear()
        return adoption

    def test_nothing_changes_where_nothing_has(self, adoption: Adoption) -> None:
        files = {file: file.read_bytes() for file in (*adoption.folder.iterdir(), adoption.file)}
        adoption.run()
        assert {file: file.read_bytes() for file in files} == files
        assert (adoption.asked, adoption.cluster.ran) == ([], [])

    def test_what_replaces_a_route_stays_as_the_operator_wrote_it(self, adoption: Adoption) -> None:
        adoption.cluster.named("deployment", "vllm-code")["spec"]["replicas"] = 3
        adoption.run()
        assert adoption.routes()["code-chat"] == {
            "name": "code-chat",
            "deployment": "vllm-code",
            "node": "gpu-node-2",
            "replicas": 3,
            "replaced_by": "GLM-4.7-Flash",
        }

    def test_a_route_that_was_said_to_stay_stays(self, adoption: Adoption) -> None:
        kept = "- {name: general-chat, deployment: null, replaced_by: null}"
        text = adoption.file.read_text()
        line = next(it.strip() for it in text.splitlines() if "name: general-chat" in it)
        adoption.file.write_text(text.replace(line, kept))
        adoption.run()
        assert adoption.routes()["general-chat"]["deployment"] is None

    def test_what_changes_is_shown_without_a_key(self, adoption: Adoption) -> None:
        adoption.cluster.write(
            LIVE_LITELLM.replace("timeout: 600", "timeout: 300").replace(KEY, "sk-canary-the-second")
        )
        adoption.run()
        assert "legacy/prod/litellm.yaml: changed" in adoption.said
        assert "  -      timeout: 600" in adoption.said
        assert "  +      timeout: 300" in adoption.said
        assert adoption.secret() == {"LEGACY_KEY_1": "sk-canary-the-second"}
        assert adoption.cluster.ran == [("replace", "-f", "-")]
        assert "canary" not in "\n".join(adoption.said)

    def test_a_further_key_gets_a_further_variable_beside_those_that_are_in_use(self, adoption: Adoption) -> None:
        adoption.cluster.write(LITELLM.replace("api_key: unused", "api_key: canary-of-general"))
        adoption.run()
        assert adoption.secret() == {"LEGACY_KEY_1": KEY, "LEGACY_KEY_2": "canary-of-general"}
        assert yaml.safe_load(adoption.file.read_text())["config"]["llama-chat:legacy"]["keys"] == [
            "LEGACY_KEY_1",
            "LEGACY_KEY_2",
        ]

    def test_a_key_that_the_secret_has_lost_is_told(self, adoption: Adoption) -> None:
        adoption.cluster.write(LITELLM)
        adoption.cluster.named("secret", "llm-gateway-legacy-keys")["data"] = {}
        with pytest.raises(ConfigError) as caught:
            adoption.run()
        assert str(caught.value) == (
            "llama-chat:legacy.keys_secret: llm-gateway-legacy-keys: the document refers to LEGACY_KEY_1, which this "
            "Secret lacks: put it back there"
        )

    def test_in_another_phase_it_is_refused(self, adoption: Adoption) -> None:
        adoption.file.write_text(adoption.file.read_text().replace("phase: parallel", "phase: test"))
        with pytest.raises(ConfigError, match="what runs is what this stack made of it: go back to parallel"):
            adoption.run()

    def test_what_the_stacks_own_patches_added_is_not_kept_as_if_it_had_been_there(self, adoption: Adoption) -> None:
        live = adoption.cluster.named("deployment", "llm-gateway")
        live["spec"] |= {"replicas": 3, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
        live["spec"]["template"]["metadata"]["annotations"] = {"llama-chat/drains": "1", "theirs": "x"}
        pod = live["spec"]["template"]["spec"]
        pod["terminationGracePeriodSeconds"] = 6016
        container = adoption.cluster.container()
        container |= {"lifecycle": {"preStop": {"exec": {"command": ["sleep", "8"]}}}, "image": "theirs:new"}
        container["env"] += [
            {"name": "GRACEFUL_SHUTDOWN_TIMEOUT", "value": "6000"},
            {"name": "LEGACY_KEY_1", "valueFrom": {"secretKeyRef": {"name": "s", "key": "LEGACY_KEY_1"}}},
        ]
        ours: Object = {"name": "llama-chat", "configMap": {"name": "c", "defaultMode": 420}}
        pod["volumes"] = [*pod.get("volumes", ()), ours]
        container["volumeMounts"] = [*container["volumeMounts"], {"name": "llama-chat", "mountPath": "/llama-chat"}]
        variable: Object = {".": {}, "f:name": {}}
        mounts: Object = {'k:{"mountPath":"/llama-chat"}': {".": {}, "f:name": {}, "f:mountPath": {}}}
        source: Object = {"f:configMap": {"f:name": {}, "f:defaultMode": {}}}
        volumes: Object = {'k:{"name":"llama-chat"}': {".": {}, "f:name": {}, **source}}
        of_env: Object = {
            'k:{"name":"LITELLM_MASTER_KEY"}': variable,
            'k:{"name":"GRACEFUL_SHUTDOWN_TIMEOUT"}': {**variable, "f:value": {}},
            'k:{"name":"LEGACY_KEY_1"}': {**variable, "f:valueFrom": {"f:secretKeyRef": {}}},
        }
        hook: Object = {"f:preStop": {"f:exec": {"f:command": {}}}}
        of_container: Object = {".": {}, "f:name": {}, "f:env": of_env, "f:lifecycle": hook, "f:volumeMounts": mounts}
        of_pod: Object = {
            "f:terminationGracePeriodSeconds": {},
            "f:containers": {'k:{"name":"litellm"}': of_container},
            "f:volumes": volumes,
        }
        template: Object = {"f:metadata": {"f:annotations": {"f:llama-chat/drains": {}}}, "f:spec": of_pod}
        strategy: Object = {"f:type": {}, "f:rollingUpdate": {"f:maxSurge": {}}}
        fields: Object = {"f:spec": {"f:replicas": {}, "f:strategy": strategy, "f:template": template}}
        live["metadata"]["managedFields"] = [
            {"manager": "kubelet", "operation": "Update", "fieldsV1": {"f:spec": {"f:selector": {}}}},
            {"manager": "llama-chat", "operation": "Apply", "fieldsV1": fields},
        ]
        adoption.run()
        expected = deployment("llm-gateway", **GATEWAY["spec"]["template"]["spec"])
        expected["spec"]["template"]["metadata"]["annotations"] = {"theirs": "x"}
        expected["spec"]["template"]["spec"]["containers"][0] |= {"image": "theirs:new"}
        assert adoption.kept() == expected
