"""Locking: what a hub reports of each model goes into models.lock.yaml, no more is asked, and nothing else changes."""

import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any, cast

import gguf
import pytest
import yaml
from huggingface_hub import constants
from huggingface_hub.utils import _detect_agent  # pyright: ignore[reportPrivateUsage]

from config.errors import UserError
from config.load import load_file
from config.lock import LOCK_FILE, Lock, LockedModel, load_lock, lock_text
from config.naming import models
from local import models as own_models
from local import tiny_gguf
from local.hub.server import HubServer
from ops import hub as ops_hub
from ops import lock as ops_lock
from ops.__main__ import run_lock

TOKEN = "hf_let_me_in_0123456789"  # noqa: S105 - opens nothing but these tests
STATICS = [("one", "acme/one-GGUF"), ("two", "acme/two-GGUF")]
POOLED = [("three", "acme/three-GGUF"), ("four", "beta/four-GGUF")]


class Asked:
    """One request that a hub got."""

    def __init__(self, request: BaseHTTPRequestHandler) -> None:
        self.path = request.path
        self.token = request.headers["Authorization"]
        self.range = request.headers["Range"]

    @property
    def reads(self) -> bool:
        return "/resolve/" in self.path


class Recorder(HubServer):
    """The project's own hub, which remembers what it was asked, and answers otherwise where a test says so."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "127.0.0.1", 0)
        self.asked: list[Asked] = []
        self.instead: Callable[[BaseHTTPRequestHandler], bool] = lambda _: False
        self.listed: Callable[[dict[str, Any]], object] = lambda _: None
        base = cast("Any", self.RequestHandlerClass)

        def get(handler: BaseHTTPRequestHandler) -> None:
            self.asked.append(Asked(handler))
            if not self.instead(handler):
                base.do_GET(handler)

        def send(handler: BaseHTTPRequestHandler, value: dict[str, Any], *rest: Any, **more: Any) -> None:  # noqa: ANN401
            if "siblings" in value:
                self.listed(value)
            base._json(handler, value, *rest, **more)

        def quiet(*_: object) -> None:
            pass

        ours: dict[str, Any] = {"do_GET": get, "_json": send, "log_message": quiet}
        self.RequestHandlerClass = cast("Any", type("Recording", (base,), ours))

    def handle_error(self, request: object, client_address: object) -> None:
        """Say nothing: a client may hang up."""

    @property
    def ranges(self) -> list[tuple[int, int]]:
        """First and last byte of each part of a file that was asked for."""
        return [
            (int(start), int(end))
            for asked in self.asked
            if asked.range
            for start, _, end in [asked.range.removeprefix("bytes=").partition("-")]
        ]


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy that would fail whatever is asked through it, and a log-in that is nobody's business."""
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    for variable in ("HF_ENDPOINT", "HF_TOKEN", "NO_PROXY", "no_proxy"):
        monkeypatch.delenv(variable, raising=False)
    (tmp_path / "token").write_text("hf_of_a_file_0123456789")
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(tmp_path / "token"))


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Recorder]:
    """A hub with all four models; its repositories lie below `tmp_path / "hub"`."""
    for name, repo in (*STATICS, *POOLED):
        put(tmp_path / "hub" / repo / f"{name}-Q4_K_M.gguf", name)
    yield from served(tmp_path / "hub")


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Recorder]:
    """Another host, with the same files."""
    yield from served(tmp_path / "hub")


def served(root: Path) -> Iterator[Recorder]:
    with Recorder(root) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        yield server
        server.shutdown()


def put(path: Path, name: str, *, shards: int = 0) -> list[Path]:
    """A tiny model's file, or its shards."""
    path.parent.mkdir(parents=True, exist_ok=True)
    seed = int.from_bytes(name.encode()[:4])
    if not shards:
        tiny_gguf.write(path, name=name, seed=seed)
        return [path]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(gguf, "GGUFWriter", partial(gguf.GGUFWriter, split_max_tensors=-(-21 // shards)))
        tiny_gguf.write(path, name=name, seed=seed)
    return sorted(path.parent.glob(f"{path.stem}-*.gguf"))


class Project:
    """A folder of stack files and a lock."""

    def __init__(self, root: Path, values: dict[str, Any], endpoint: str) -> None:
        self.root, self.values = root, values
        self.lock = root / LOCK_FILE.name
        values["hub"] = {"endpoint": endpoint}
        for static, (name, repo) in zip(values["statics"], STATICS, strict=True):
            static["model"] = {"name": name, "repo": repo, "quant": "Q4_K_M"}
        values["pools"][0]["models"] = [{"name": name, "repo": repo, "quant": "Q4_K_M"} for name, repo in POOLED]
        self.write()

    @property
    def first(self) -> dict[str, Any]:
        """The first model's values."""
        return self.values["statics"][0]["model"]

    def write(self, stack: str = "prod") -> None:
        keys = {f"llama-chat:{key}": value for key, value in self.values.items()}
        (self.root / f"Pulumi.{stack}.yaml").write_text(yaml.safe_dump({"config": keys}))

    @property
    def entries(self) -> dict[str, LockedModel]:
        """Entries of the first stack, by model."""
        lock = load_lock(self.lock)
        named = [model for _, model in models(load_file(self.root / "Pulumi.prod.yaml"))]
        return {model.name: entry for model in named if (entry := lock.of(model))}

    def refused(self, **options: Any) -> list[str]:  # noqa: ANN401 - handed on
        """The lines of the refusal."""
        with pytest.raises(UserError) as caught:
            run_lock("prod", **options)
        return str(caught.value).splitlines()


@pytest.fixture
def project(tmp_path: Path, values: dict[str, Any], hub: Recorder, monkeypatch: pytest.MonkeyPatch) -> Project:
    (tmp_path / "project").mkdir()
    monkeypatch.setattr("ops.stack.ROOT", tmp_path / "project")
    return Project(tmp_path / "project", values, hub.url)


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_every_triple_gets_the_commit_the_files_and_the_shape_that_the_hub_has(
    project: Project, hub: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lock("prod")
    entries = project.entries
    assert list(entries) == ["one", "two", "three", "four"]
    file = hub.root / "acme" / "one-GGUF" / "one-Q4_K_M.gguf"
    one = entries["one"]
    assert [(found.path, found.bytes, found.sha256) for found in one.files] == [
        (file.name, file.stat().st_size, sha256(file))
    ]
    info = next(asked.path for asked in hub.asked if asked.reads)
    assert f"/resolve/{one.commit}/" in info
    assert one.shape
    assert (one.shape.architecture, one.shape.layers, one.shape.trained_context) == ("llama", 2, tiny_gguf.CONTEXT)
    said = capsys.readouterr().err
    assert f"added: one: acme/one-GGUF Q4_K_M at main: 1 file, {file.stat().st_size / 1e9:.3g} GB\n" in said
    lines = project.lock.read_text().splitlines()
    assert lines[0].startswith("# Written by `make lock")
    assert [line for line in lines if "repo:" in line] == [
        f"- repo: {repo}" for repo in ("acme/one-GGUF", "acme/three-GGUF", "acme/two-GGUF", "beta/four-GGUF")
    ]
    assert [path.name for path in project.root.iterdir() if path.name.startswith(".")] == []


def test_models_are_locked_before_their_gateway_is_adopted(project: Project) -> None:
    project.values["gateway"]["mode"] = "adopt"
    project.write()
    run_lock("prod")
    assert len(load_lock(project.lock).models) == 4


def test_a_second_run_asks_nothing_and_writes_nothing(
    project: Project, hub: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lock("prod")
    written = project.lock.stat()
    hub.asked.clear()
    capsys.readouterr()
    run_lock("prod")
    assert hub.asked == []
    assert (project.lock.stat().st_ino, project.lock.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)
    assert [line[:9] for line in capsys.readouterr().err.splitlines()] == [
        f"kept: {name:.3}" for name in ("one", "two", "three", "four")
    ]


def test_a_split_gguf_keeps_every_shard_in_order(project: Project, hub: Recorder) -> None:
    shards = put(hub.root / "acme" / "split-GGUF" / "Q8_0" / "split-Q8_0.gguf", "split", shards=3)
    assert len(shards) == 3
    put(hub.root / "acme" / "split-GGUF" / "split-Q4_K_M.gguf", "whole")
    project.first.update(repo="acme/split-GGUF", quant="Q8_0")
    project.write()
    run_lock("prod")
    one, two = project.entries["one"], project.entries["two"]
    assert [(file.path, file.bytes, file.sha256) for file in one.files] == [
        (f"Q8_0/split-Q8_0-0000{i + 1}-of-00003.gguf", shard.stat().st_size, sha256(shard))
        for i, shard in enumerate(shards)
    ]
    assert one.shape == two.shape  # all shards' tensors together


def test_no_more_of_a_file_is_read_than_its_header(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    del project.values["pools"], project.values["nodes"]["swap"]
    project.write()
    run_lock("prod")
    file = hub.root / "acme" / "one-GGUF" / "one-Q4_K_M.gguf"
    assert hub.ranges[0] == (0, file.stat().st_size - 1)  # it is smaller than what is asked for at first
    whole = project.lock.read_text()
    project.lock.unlink()
    hub.asked.clear()
    monkeypatch.setattr(ops_lock, "FIRST_BYTES", 1024)
    run_lock("prod")
    assert project.lock.read_text() == whole
    one = [asked for asked in hub.asked if "one-GGUF" in asked.path and asked.reads]
    assert [asked.range for asked in one] == [
        f"bytes={start}-{end - 1}"
        for start, end in ((0, 1024), (1024, 2048), (2048, 4096), (4096, 8192), (8192, 16384))
    ]
    assert file.stat().st_size > 16384 * 4


def test_a_header_that_does_not_end_is_given_up(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ops_lock, "FIRST_BYTES", 1024)
    monkeypatch.setattr(ops_lock, "MOST_BYTES", 4096)
    problems = project.refused()
    assert len(problems) == 4
    assert problems[0].startswith("llama-chat:statics[0].model.quant: Q4_K_M: one-Q4_K_M.gguf is no GGUF")
    assert max(end for _, end in hub.ranges) == 4095
    assert not project.lock.exists()


def test_what_is_no_gguf_of_a_model_is_refused_once_its_beginning_tells(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (hub.root / "acme" / f"{name}-GGUF" / f"{name}-Q4_K_M.gguf" for name in ("one", "two"))
    one.write_bytes(b"PK" + bytes(9000))
    two.write_bytes(two.read_bytes().replace(b"llama.block_count", b"llama.block_kount"))
    monkeypatch.setattr(ops_lock, "FIRST_BYTES", 1024)
    first, second = project.refused()
    assert first == (
        "llama-chat:statics[0].model.quant: Q4_K_M: one-Q4_K_M.gguf is no GGUF with a header: "
        "choose another file or revision"
    )
    assert second.startswith("llama-chat:statics[1].model.quant: Q4_K_M: two-Q4_K_M.gguf: its header lacks llama.block")
    assert [asked.range for asked in hub.asked if one.name in asked.path] == ["bytes=0-1023"]
    assert list(project.entries) == ["three", "four"]


def test_the_quant_must_pick_one_model_and_all_that_fail_are_told_at_once(project: Project, hub: Recorder) -> None:
    put(hub.root / "acme" / "one-GGUF" / "other-Q4_K_M.gguf", "other")
    project.values["statics"][1]["model"]["quant"] = "Q8_0"
    project.values["pools"][0]["models"][0]["repo"] = "acme/misspelt"
    project.values["pools"][0]["models"][1]["revision"] = "v2"
    project.write()
    assert "\n".join(project.refused()) == (
        "llama-chat:statics[0].model.quant: Q4_K_M: acme/one-GGUF at main has several GGUF of quant Q4_K_M: "
        "set filename to one of: one-Q4_K_M.gguf, other-Q4_K_M.gguf\n"
        "llama-chat:statics[1].model.quant: Q8_0: acme/two-GGUF at main has no GGUF of quant Q8_0: "
        "set filename to one of: two-Q4_K_M.gguf\n"
        f"llama-chat:pools[0].models[0].repo: acme/misspelt: {hub.url} has no such repository: "
        "correct it, hub.endpoint or HF_ENDPOINT\n"
        f"llama-chat:pools[0].models[1].revision: v2: {hub.url} has no such revision of beta/four-GGUF: "
        f"write a branch, tag or commit of {hub.url}/beta/four-GGUF"
    )
    assert not project.lock.exists()
    project.first["filename"] = "other-Q4_K_M.gguf"
    project.write()
    assert len(project.refused()) == 3
    assert {name: entry.files[0].path for name, entry in project.entries.items()} == {"one": "other-Q4_K_M.gguf"}


def test_what_stands_keeps_its_very_lines(project: Project, hub: Recorder) -> None:
    run_lock("prod")
    text = project.lock.read_text().replace("- repo: acme/two-GGUF\n", "- repo: 'acme/two-GGUF' # by hand\n")
    project.lock.write_text(text)
    hub.asked.clear()
    put(hub.root / "acme" / "new-GGUF" / "new-Q4_K_M.gguf", "new")
    project.values["pools"][0]["models"].append({"name": "new", "repo": "acme/new-GGUF", "quant": "Q4_K_M"})
    project.write()
    run_lock("prod")
    assert {asked.path.split("/")[-1].partition("?")[0] for asked in hub.asked} == {"main", "new-Q4_K_M.gguf"}
    assert all("new-GGUF" in asked.path for asked in hub.asked)
    after = project.lock.read_text()
    start = after.index("- repo: acme/new-GGUF\n")
    end = after.index("- repo: acme/one-GGUF\n")
    assert after[:start] + after[end:] == text
    assert "new" in project.entries


def test_lines_that_cannot_stand_beside_others_are_written_anew(project: Project) -> None:
    run_lock("prod")
    text, lock = project.lock.read_text(), load_lock(project.lock)
    head, _, rest = text.partition("models:\n")
    indented = head + "models:\n" + "".join(f"    {line}" for line in rest.splitlines(keepends=True))
    project.lock.write_text(indented)
    assert load_lock(project.lock) == lock
    more = Lock(models=(*lock.models, LockedModel(repo="zeta/z", quant="Q4_0", unverified=True)))
    assert lock_text(more, indented) == text + "- repo: zeta/z\n  quant: Q4_0\n  unverified: true\n"


def test_a_branch_stays_as_it_was_locked_until_its_model_is_named(
    project: Project, hub: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lock("prod")
    before, standing = project.lock.read_text(), project.entries
    for name in ("one", "two"):
        put(hub.root / "acme" / f"{name}-GGUF" / f"{name}-Q4_K_M.gguf", f"{name} moved")
        (hub.root / "acme" / f"{name}-GGUF" / "README.md").write_text("newer")
    run_lock("prod")
    assert project.lock.read_text() == before
    capsys.readouterr()
    run_lock("prod", update="one")
    moved = project.entries
    assert [name for name in moved if moved[name] != standing[name]] == ["one"]
    old, new = standing["one"], moved["one"]
    assert new.files[0].sha256 == sha256(hub.root / "acme" / "one-GGUF" / "one-Q4_K_M.gguf")
    assert old.commit
    assert new.commit
    said = capsys.readouterr().err
    assert f"moved: one: acme/one-GGUF Q4_K_M at main from {old.commit[:12]}, 1 file, " in said
    assert [line for line in said.splitlines() if line.startswith(("- ", "+ "))] == [
        f"-   commit: {old.commit}",
        f"+   commit: {new.commit}",
        f"-   - {{path: one-Q4_K_M.gguf, bytes: {old.bytes}, sha256: {old.files[0].sha256}}}",
        f"+   - {{path: one-Q4_K_M.gguf, bytes: {new.bytes}, sha256: {new.files[0].sha256}}}",
    ]


def test_a_revision_that_is_a_commit_never_moves(project: Project, hub: Recorder) -> None:
    run_lock("prod")
    commit = project.entries["one"].commit
    project.first["revision"] = commit
    project.write()
    run_lock("prod")
    assert project.entries["one"].commit == commit
    hub.asked.clear()
    run_lock("prod", update="one")
    assert hub.asked == []


def test_a_name_that_the_stack_does_not_have_is_refused_with_those_that_it_has(project: Project) -> None:
    assert project.refused(update="oen") == [
        "UPDATE: oen: is no model of the stack: write one of one, two, three, four"
    ]


def test_a_hub_that_is_away_is_asked_once_and_leaves_new_models_unverified(
    project: Project, hub: Recorder, capsys: pytest.CaptureFixture[str]
) -> None:
    def hang_up(handler: BaseHTTPRequestHandler) -> bool:
        handler.close_connection = True
        return True

    hub.instead = hang_up
    run_lock("prod")
    assert len(hub.asked) == 1
    assert all(entry.unverified for entry in project.entries.values())
    assert len(project.entries) == 4
    said = capsys.readouterr().err
    assert f"{hub.url} cannot be reached (" in said
    assert "check hub.endpoint or HF_ENDPOINT" in said
    assert "unverified: four: beta/four-GGUF Q4_K_M at main\n" in said
    hub.instead = lambda _: False
    run_lock("prod")
    assert not any(entry.unverified for entry in project.entries.values())


def test_what_was_verified_stays_so_when_the_hub_is_away(project: Project, hub: Recorder) -> None:
    run_lock("prod")
    before = project.lock.read_text()
    dead = "http://127.0.0.1:9"
    project.values["hub"]["endpoint"] = dead
    project.values["pools"][0]["models"].append({"name": "new", "repo": "zeta/new-GGUF", "quant": "Q4_K_M"})
    project.write()
    hub.asked.clear()
    problems = project.refused(update="one")
    assert hub.asked == []
    assert len(problems) == 1
    assert problems[0].startswith(f"llama-chat:statics[0].model.name: one: {dead} cannot be reached (")
    assert project.lock.read_text() == before + "- repo: zeta/new-GGUF\n  quant: Q4_K_M\n  unverified: true\n"


def test_entries_that_no_stack_file_names_are_dropped(project: Project, capsys: pytest.CaptureFixture[str]) -> None:
    run_lock("prod")
    project.write("staging")
    del project.values["pools"], project.values["nodes"]["swap"]
    project.write()
    run_lock("prod")
    assert len(load_lock(project.lock).models) == 4
    assert "kept: 2 of other stacks\n" in capsys.readouterr().err
    project.write("staging")
    run_lock("prod")
    assert [entry.repo for entry in load_lock(project.lock).models] == ["acme/one-GGUF", "acme/two-GGUF"]
    assert "dropped: beta/four-GGUF Q4_K_M at main: no stack file names it any more\n" in capsys.readouterr().err


def test_nothing_is_dropped_where_a_stack_file_cannot_be_read(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    run_lock("prod")
    del project.values["pools"], project.values["nodes"]["swap"]
    project.write()
    (project.root / "Pulumi.staging.yaml").write_text("config: {llama-chat:gpu: none}\n")
    run_lock("prod")
    assert len(load_lock(project.lock).models) == 4
    assert "no entry is dropped, as nobody knows which models Pulumi.staging.yaml names: " in capsys.readouterr().err


def gate(hub: Recorder) -> None:
    """Close one repository's files to all but the token's owner."""
    gate = {"gated": True, "token_sha256": hashlib.sha256(TOKEN.encode()).hexdigest()}
    (hub.root / "acme" / "one-GGUF" / ".hub.json").write_text(json.dumps(gate))


@pytest.mark.parametrize(
    ("token", "remedy"),
    [
        (None, "wants a token for it (401): correct it, or set HF_TOKEN to a token that has access to"),
        ("hf_wrong_0123456789", "refuses HF_TOKEN for it (401): correct it, ask for access at"),
    ],
)
def test_a_gated_repository_is_told_and_the_others_are_locked(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch, token: str | None, remedy: str
) -> None:
    gate(hub)
    if token:
        monkeypatch.setenv("HF_TOKEN", token)
    (problem,) = project.refused()
    assert problem.startswith(f"llama-chat:statics[0].model.repo: acme/one-GGUF: {hub.url} {remedy} {hub.url}/acme/one")
    assert list(project.entries) == ["two", "three", "four"]
    assert {asked.token for asked in hub.asked} == {f"Bearer {token}" if token else None}  # never the file's


def test_the_token_of_the_environment_opens_a_gate_and_is_shown_nowhere(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    gate(hub)
    monkeypatch.setenv("HF_TOKEN", f" {TOKEN}\n")
    run_lock("prod")
    assert len(project.entries) == 4
    assert {asked.token for asked in hub.asked} == {f"Bearer {TOKEN}"}
    printed = capsys.readouterr()
    assert TOKEN not in printed.out + printed.err + project.lock.read_text()


def test_the_token_stays_with_the_hub_when_it_sends_on_to_another_host(
    project: Project, hub: Recorder, elsewhere: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_on(handler: BaseHTTPRequestHandler) -> bool:
        if handler.path.startswith("/moved") or "four" in handler.path:
            handler.path = handler.path.removeprefix("/moved")
            return False
        return redirect(handler, (elsewhere.url if "/resolve/" in handler.path else "/moved") + handler.path)

    hub.instead = send_on
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    run_lock("prod")
    assert len(project.entries) == 4
    assert {asked.token for asked in hub.asked} == {f"Bearer {TOKEN}"}
    assert any(asked.path.startswith("/moved") for asked in hub.asked)
    assert [(asked.token, bool(asked.range)) for asked in elsewhere.asked] == [(None, True)] * 3


def redirect(handler: BaseHTTPRequestHandler, location: str) -> bool:
    handler.send_response(302)
    handler.send_header("Location", location)
    handler.send_header("Content-Length", "0")
    handler.end_headers()
    return True


def test_a_host_of_files_that_is_away_is_told_by_its_name_alone(project: Project, hub: Recorder) -> None:
    def send_on(handler: BaseHTTPRequestHandler) -> bool:
        return "one-GGUF/resolve" in handler.path and redirect(handler, "http://127.0.0.1:9/x?signature=hidden")

    hub.instead = send_on
    (problem,) = project.refused()
    assert "one-Q4_K_M.gguf cannot be read from 127.0.0.1:9 (" in problem
    assert "signature" not in problem
    assert list(project.entries) == ["two", "three", "four"]


def test_a_host_of_files_that_refuses_is_not_taken_for_the_hub(
    project: Project, hub: Recorder, elsewhere: Recorder
) -> None:
    def send_on(handler: BaseHTTPRequestHandler) -> bool:
        return "one-GGUF/resolve" in handler.path and redirect(handler, elsewhere.url + handler.path)

    hub.instead, elsewhere.instead = send_on, partial(answer, status=403)
    (problem,) = project.refused()
    host = elsewhere.url.removeprefix("http://")
    assert f": acme/one-GGUF: {host}, which {hub.url} sends on to, answers 403: check the network" in problem


def answer(handler: BaseHTTPRequestHandler, status: int = 200, body: bytes = b"") -> bool:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)
    return True


def test_the_environments_endpoint_wins(project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch) -> None:
    project.values["hub"]["endpoint"] = "http://127.0.0.1:9"
    project.write()
    monkeypatch.setenv("HF_ENDPOINT", f"{hub.url}/")
    run_lock("prod")
    assert not any(entry.unverified for entry in project.entries.values())
    monkeypatch.setenv("HF_ENDPOINT", "hub.example.org")
    project.lock.unlink()
    assert project.refused() == ["HF_ENDPOINT: hub.example.org: is no address: write https://<host> or unset it"]


def test_a_token_that_can_be_none_is_refused_unseen(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_two\nlines")
    assert project.refused() == ["HF_TOKEN: (hidden): holds what no token has, such as a space: set it again"]


def test_no_other_host_is_asked_what_started_the_command(
    project: Project, hub: Recorder, elsewhere: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(constants, "ENDPOINT", elsewhere.url)
    monkeypatch.setattr(constants, "AGENT_HARNESSES_PATH", str(project.root / "harnesses.json"))
    monkeypatch.setattr(_detect_agent, "_registry", None)
    run_lock("prod")
    assert elsewhere.asked == []
    assert len(hub.asked) == 8


def test_a_file_without_a_sha256_is_refused(project: Project, hub: Recorder) -> None:
    def forget(info: dict[str, Any]) -> None:
        for sibling in info["siblings"] if info["id"] == "acme/two-GGUF" else ():
            sibling.pop("lfs", None)

    hub.listed = forget
    (problem,) = project.refused()
    assert problem == (
        f"llama-chat:statics[1].model.quant: Q4_K_M: {hub.url} reports no SHA-256 of two-Q4_K_M.gguf: "
        "name a hub that does, or a file that is kept in Git LFS or Xet"
    )
    assert list(project.entries) == ["one", "three", "four"]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"size": 12}, "lists one-Q4_K_M.gguf with 12 bytes, asked for 0-11 it sends bytes 0-11/"),
        ({"lfs": {"sha256": "none", "size": 1, "pointerSize": 1}}, "(sha256: String should match pattern"),
        ({"rfilename": "a model-Q4_K_M.gguf"}, "a model-Q4_K_M.gguf cannot be locked"),
    ],
)
def test_what_a_hub_may_not_say_is_refused(project: Project, hub: Recorder, change: dict[str, Any], told: str) -> None:
    hub.listed = lambda info: info["siblings"][0].update(change if info["id"] == "acme/one-GGUF" else {})
    (problem,) = project.refused()
    assert problem.startswith("llama-chat:statics[0].model.")
    assert told in problem
    assert list(project.entries) == ["two", "three", "four"]


def test_a_hub_without_ranges_is_refused_before_its_files_come(
    project: Project, hub: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    def send_whole(handler: BaseHTTPRequestHandler) -> bool:
        del handler.headers["Range"]
        return False

    hub.instead = send_whole
    monkeypatch.setattr(ops_lock, "FIRST_BYTES", 1024)
    problems = project.refused()
    host = hub.url.removeprefix("http://")
    assert len(problems) == 4
    assert f"acme/one-GGUF: {host} does not send a part of one-Q4_K_M.gguf alone: name a hub" in problems[0]


@pytest.mark.parametrize(
    ("status", "body", "told"),
    [
        (200, b"<html>log in</html>", "does not answer as a Hugging Face hub does: correct hub.endpoint"),
        (200, b'{"id": "acme/one-GGUF"}', "does not answer as a Hugging Face hub does: correct hub.endpoint"),
        (503, b"", "answers 503: look at "),
    ],
)
def test_what_is_no_answer_of_a_hub_is_told_for_each_model(
    project: Project, hub: Recorder, status: int, body: bytes, told: str
) -> None:
    hub.instead = partial(answer, status=status, body=body)
    problems = project.refused()
    assert len(problems) == 4
    assert all(f"{hub.url} {told}" in problem for problem in problems)


def test_a_lock_that_somebody_else_wrote_meanwhile_is_left_alone(project: Project, hub: Recorder) -> None:
    def write(_: BaseHTTPRequestHandler) -> bool:
        project.lock.write_text("models: []\n")
        return False

    hub.instead = write
    assert project.refused() == [f"{project.lock}: was changed by somebody else meanwhile: run make lock again"]
    assert project.lock.read_text() == "models: []\n"
    assert [path.name for path in project.root.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("models: [\n", "cannot be read ("),
        ("", "Input should be a valid dictionary or instance of Lock"),
        ("models: [{repo: a/b, quant: Q4_0}]\n", "models.0: Value error, an entry has commit, files and shape, or is"),
        (
            "models:\n" + 2 * "- {repo: a/b, quant: Q4_0, unverified: true}\n",
            "Value error, a/b Q4_0 has two entries",
        ),
    ],
)
def test_a_lock_that_make_lock_did_not_write_is_refused_on_one_line(project: Project, text: str, told: str) -> None:
    project.lock.write_text(text)
    (problem,) = project.refused()
    assert problem.startswith(f"{project.lock}: {told}")
    assert problem.endswith(": restore it from git, or remove it and run make lock")


def test_a_local_stack_is_locked_from_the_models_that_the_project_publishes(
    project: Project, hub: Recorder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_ENDPOINT", hub.url)  # it has none of these models
    monkeypatch.setenv("HF_TOKEN", TOKEN)

    def publish(root: Path) -> None:
        put(root / "llama-chat" / "tiny-GGUF" / "tiny-F32.gguf", "tiny")

    monkeypatch.setattr(ops_hub.models, "publish", publish)
    project.values["cluster"]["context"] = "llama-chat-local"
    del project.values["pools"], project.values["nodes"]["swap"]
    project.first.update(repo="llama-chat/tiny-GGUF", quant="F32")
    project.write()
    before = threading.active_count()
    (problem,) = project.refused()
    root = tmp_path / "cache" / "llama-chat" / "hub"
    assert problem == (
        f"llama-chat:statics[1].model.repo: acme/two-GGUF: the hub of {root} has no such repository: "
        "correct it, hub.endpoint or HF_ENDPOINT"
    )
    assert project.entries["one"].files[0].sha256 == sha256(root / "llama-chat" / "tiny-GGUF" / "tiny-F32.gguf")
    assert hub.asked == []
    assert threading.active_count() == before
    assert '"GET ' not in capsys.readouterr().err


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What this machine's local stack would fetch; the first time it downloads a model's packages."""
    root = tmp_path_factory.mktemp("published")
    own_models.publish(root)
    return root


def test_the_committed_lock_holds_what_the_project_publishes(published: Path) -> None:
    lock = load_lock()
    root = LOCK_FILE.parent
    named = [model for _, model in models(load_file(root / "Pulumi.local.yaml"))]
    with HubServer(published, "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        with ops_hub.open_hub(server.url, None) as hub:
            entries = {model.name: ops_lock.ask(hub, model) for model in named}
        server.shutdown()
        thread.join()
    assert {model.name: lock.of(model) for model in named} == entries


def test_the_committed_lock_has_an_entry_for_every_model_of_every_stack() -> None:
    lock = load_lock()
    files = sorted(LOCK_FILE.parent.glob("Pulumi.*.yaml"))
    assert len(files) == 3
    for file in files:
        assert [model.name for _, model in models(load_file(file)) if lock.of(model) is None] == []
