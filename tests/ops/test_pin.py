"""Pinning: what the registry reports, and no other character, goes into the stack file."""

import base64
import errno
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import yaml

from config.errors import ConfigError, UserError
from config.load import load_file
from config.stack_file import read
from local.images.oci import digest_of
from ops.pin import Pinned, pin
from ops.registry import digest, manifest

TOKEN = "let-me-in"  # noqa: S105 - the stub's own
SERVER, PYTHON, LITELLM = b'{"is": "server"}', b'{"is": "python"}', b'{"is": "litellm"}'
GONE = "sha256:" + 64 * "0"
IMAGES = """\
  # What runs:  by tag, until pinned
  llama-chat:images:
    litellm:   "HOST/berriai/litellm:v1"   # the gateway

    llama_server: HOST/ggml-org/llama.cpp:server-b1
    python: 'HOST/library/python:3.13'  # not HOST/library/python:3.13-slim
"""


class Registry(ThreadingHTTPServer):
    """A registry that gives nothing without its token, and remembers what it was asked."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.host = f"127.0.0.1:{self.server_address[1]}"
        self.realm = f"http://{self.host}/token"
        self.token, self.basic = TOKEN, ""
        self.manifests = {
            "ggml-org/llama.cpp:server-b1": SERVER,
            "library/python:3.13": PYTHON,
            "berriai/litellm:v1": LITELLM,
        }
        self.reported: dict[bytes, str | None] = {}
        self.moved: dict[str, str] = {}
        self.redirects: dict[str, str] = {}
        self.status = 200
        self.asked: list[tuple[str, str, str | None]] = []
        self.during_request: Callable[[], object] = lambda: None

    def found(self, repository: str, reference: str) -> bytes | None:
        digests = {f"{name.partition(':')[0]}:{digest_of(body)}": body for name, body in self.manifests.items()}
        return (self.manifests | digests).get(f"{repository}:{reference}")


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server, url, authorization = self.server, urlsplit(self.path), self.headers["Authorization"]
        assert isinstance(server, Registry)
        server.asked.append((self.command, url.path, authorization))
        server.during_request()
        repository, _, reference = url.path.removeprefix("/v2/").partition("/manifests/")
        if url.path == "/token":
            assert parse_qs(url.query) == {"service": ["stub"], "scope": ["repository:any:pull"]}
            self.answer(200, json.dumps({"token": server.token}).encode())
        elif url.path in server.moved:
            self.answer(307, b"", Location=server.moved[url.path])
        elif authorization != (server.basic or f"Bearer {TOKEN}"):
            bearer = f'Bearer realm="{server.realm}",service="stub",scope="repository:any:pull"'
            challenge = 'Basic realm="stub"' if server.basic else bearer
            self.answer(401, b"", **{"WWW-Authenticate": challenge})
        elif url.path in server.redirects:
            self.answer(307, b"", Location=server.redirects[url.path])
        elif body := server.found(repository, reference):
            assert "application/vnd.oci.image.index.v1+json" in self.headers["Accept"]
            reported = server.reported.get(body, digest_of(body))
            self.answer(server.status, body, **({"Docker-Content-Digest": reported} if reported else {}))
        else:
            self.answer(404, b"")

    def do_HEAD(self) -> None:
        self.do_GET()

    def answer(self, status: int, body: bytes, **headers: str) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the parent
        del format, args


@pytest.fixture(autouse=True)
def docker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where docker keeps its log-ins; and a proxy that would fail whatever is asked through it."""
    for variable in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def registry() -> Iterator[Registry]:
    yield from _served()


@pytest.fixture
def elsewhere() -> Iterator[Registry]:
    yield from _served()


def _served() -> Iterator[Registry]:
    with Registry() as server:
        threading.Thread(target=server.serve_forever, args=(0.02,)).start()
        yield server
        server.shutdown()


@pytest.fixture
def file(registry: Registry, tmp_path: Path, values: dict[str, Any]) -> Path:
    """A steady stack file of tags, without a pool."""
    del values["images"], values["pools"], values["nodes"]["swap"]
    rest = yaml.safe_dump({"config": {f"llama-chat:{key}": value for key, value in {"steady": True, **values}.items()}})
    path = tmp_path / "stack" / "Pulumi.prod.yaml"
    path.parent.mkdir()
    path.write_text(rest + IMAGES.replace("HOST", registry.host))
    return path


def only(file: Path, text: str) -> Path:
    """The file with these images and no more."""
    file.write_bytes(f"config:\n{text}".encode())
    return file


def refused(file: Path, *, update: bool = False) -> list[str]:
    """The lines of the refusal; the file is as it was, and nothing lies beside it."""
    before = file.read_bytes()
    with pytest.raises(ConfigError) as caught:
        pin(file, update=update)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
    return str(caught.value).splitlines()


def test_only_the_image_strings_change_and_the_steady_stack_loads(file: Path, registry: Registry) -> None:
    file.chmod(0o640)
    expected = file.read_text()
    for end, body in (('v1"', LITELLM), ("server-b1\n", SERVER), ("3.13'", PYTHON)):
        expected = expected.replace(end, f"{end[:-1]}@{digest_of(body)}{end[-1]}")
    with pytest.raises(ConfigError, match="takes images by digest"):
        load_file(file)
    pinned = pin(file)
    assert file.read_text() == expected
    assert file.stat().st_mode & 0o777 == 0o640
    assert list(file.parent.iterdir()) == [file]
    assert load_file(file).images.python == f"{registry.host}/library/python:3.13@{digest_of(PYTHON)}"
    before = f"{registry.host}/berriai/litellm:v1"
    assert pinned[0] == Pinned(key="llama-chat:images.litellm", before=before, after=f"{before}@{digest_of(LITELLM)}")
    assert [image.key.rpartition(".")[2] for image in pinned] == ["litellm", "llama_server", "python"]


def test_a_link_to_the_stack_file_stays_a_link(file: Path, tmp_path: Path) -> None:
    link = tmp_path / "Pulumi.linked.yaml"
    link.symlink_to(file)
    pin(link)
    assert link.is_symlink()
    assert "@sha256:" in file.read_text()


def test_a_second_run_changes_nothing_and_asks_for_each_digest(file: Path, registry: Registry) -> None:
    after = [image.after for image in pin(file)]
    written, content = file.stat(), file.read_bytes()
    registry.asked.clear()
    assert [(image.before, image.after) for image in pin(file)] == [(image, image) for image in after]
    assert (file.stat().st_ino, file.stat().st_mtime_ns, file.read_bytes()) == (
        written.st_ino,
        written.st_mtime_ns,
        content,
    )
    asked = {path.rpartition("/")[2] for _, path, authorization in registry.asked if authorization}
    assert asked == {digest_of(body) for body in (SERVER, PYTHON, LITELLM)}


@pytest.mark.parametrize(
    "text",
    [
        "  images: {python: IMAGE, llama_swap: ~}\n",
        "  llama-chat:config:images: {python: &it 'IMAGE', litellm: *it}\n",
        "  llama-chat:images:\r\n    python: IMAGE # why\r\n",
        "  llama-chat:images:\n    python: >-\n      IMAGE\n",
        "  llama-chat:statics:\n  - {role: a}\n  - {role: b, image: IMAGE}\n",
        "  llama-chat:pools: [{image: IMAGE, role: swap, note: 'ä😀'}]\n  aws:images: {python: IMAG}\n",
    ],
)
def test_an_image_is_found_wherever_and_however_it_is_written(file: Path, registry: Registry, text: str) -> None:
    before = f"{registry.host}/library/python:3.13"
    only(file, text.replace("IMAGE", before))
    (after,) = {image.after for image in pin(file)}
    assert after == f"{before}@{digest_of(PYTHON)}"
    assert file.read_bytes() == f"config:\n{text.replace('IMAGE', after)}".encode()
    assert after in json.dumps(read(file))
    assert len([path for _, path, authorization in registry.asked if authorization]) == 1


@pytest.mark.parametrize(
    "text", ['  images: {python: "HOST/library/p\\x79thon:3.13"}\n', "  base: &b {python: IMAGE}\n  images: {<<: *b}\n"]
)
def test_an_image_in_a_form_that_cannot_be_edited_is_told(file: Path, registry: Registry, text: str) -> None:
    name = f"{registry.host}/library/python:3.13"
    only(file, text.replace("IMAGE", name).replace("HOST", registry.host))
    (line,) = refused(file)
    assert line.startswith(f"llama-chat:images.python: {name}: stands in a form that cannot be edited")


def test_every_failing_image_has_a_line_and_the_file_stays(file: Path, registry: Registry) -> None:
    del registry.manifests["ggml-org/llama.cpp:server-b1"]
    registry.reported[PYTHON] = "sha256:12"
    host = registry.host
    missing, misreported = refused(file)
    assert missing == (
        f"llama-chat:images.llama_server: {host}/ggml-org/llama.cpp:server-b1: "
        f"{host} has no such image: correct its name or tag"
    )
    assert misreported == (
        f"llama-chat:images.python: {host}/library/python:3.13: "
        f"{host} reports the digest sha256:12, which is not sha256: and 64 hex digits"
    )


def test_a_digest_that_is_gone_is_told_and_an_update_takes_the_tags(file: Path, registry: Registry) -> None:
    name = f"{registry.host}/library/python:3.13"
    only(file, f"  images: {{python: {name}@{GONE}}}\n")
    (line,) = refused(file)
    assert f"{registry.host} does not have this digest any more ({GONE})" in line
    assert [image.after for image in pin(file, update=True)] == [f"{name}@{digest_of(PYTHON)}"]
    assert read(file) == {"images": {"python": f"{name}@{digest_of(PYTHON)}"}}


def test_a_digest_stays_when_its_tag_moves_on_until_an_update(file: Path, registry: Registry) -> None:
    pin(file)
    registry.manifests |= {"library/python:3.13": b"newer", "library/python:old": PYTHON}
    assert pin(file)[2].after.endswith(digest_of(PYTHON))
    assert pin(file, update=True)[2].after.endswith(digest_of(b"newer"))


def test_a_registry_that_answers_with_another_digest_is_not_believed(file: Path, registry: Registry) -> None:
    pin(file)
    registry.reported[PYTHON] = GONE
    (line,) = refused(file)
    assert line.startswith("llama-chat:images.python")
    assert f"answers with another digest, {GONE}" in line


def test_without_the_digests_header_the_manifests_bytes_are_hashed(file: Path, registry: Registry) -> None:
    registry.reported = dict.fromkeys((SERVER, PYTHON, LITELLM))
    assert [image.after.partition("@")[2] for image in pin(file)] == [
        digest_of(body) for body in (LITELLM, SERVER, PYTHON)
    ]


@pytest.mark.parametrize(
    ("image", "complaint"),
    [
        ("HOST/library/python", "has no tag, which means latest"),
        ("HOST/../token:v1", "is no image name"),
        ("HOST/library/python:3.13@sha256:12", "is no image name"),
        ("7", "is no text"),
    ],
)
def test_what_no_registry_can_be_asked_for_is_told(file: Path, registry: Registry, image: str, complaint: str) -> None:
    only(file, f"  images: {{python: {image.replace('HOST', registry.host)}}}\n")
    (line,) = refused(file)
    assert complaint in line
    assert registry.asked == []


@pytest.mark.parametrize(
    ("status", "complaint"), [(403, "refuses it (403)"), (429, "answers 429: try again later"), (500, "answers 500")]
)
def test_a_registry_that_does_not_give_it_is_told(file: Path, registry: Registry, status: int, complaint: str) -> None:
    registry.status = status
    lines = refused(file)
    assert len(lines) == 3
    assert all(complaint in line for line in lines)


def test_a_registry_that_is_away_is_told_in_one_line(file: Path) -> None:
    only(file, "  images: {python: '127.0.0.1:9/a/b:v1'}\n")
    (line,) = refused(file)
    assert "127.0.0.1:9 does not answer ([Errno 111] Connection refused): check its name" in line


def test_a_stack_file_without_images_is_told(file: Path) -> None:
    with pytest.raises(UserError, match="llama-chat:images names no image"):
        pin(only(file, "  steady: true\n"))


def test_a_log_in_of_docker_goes_to_the_realm_and_nowhere_else(
    file: Path, registry: Registry, elsewhere: Registry, docker: Path
) -> None:
    secret = base64.b64encode(b"me:pass:word").decode()
    entries = {"ghcr.io": {"auth": "b3RoZXI6b3RoZXI="}, f"http://{registry.host}/v2/": {"auth": secret}}
    docker.write_text(json.dumps({"auths": entries}))
    registry.realm = f"http://{elsewhere.host}/token"
    pin(file)
    assert {authorization for _, _, authorization in elsewhere.asked} == {f"Basic {secret}"}
    assert {authorization for _, _, authorization in registry.asked} == {None, f"Bearer {TOKEN}"}


def test_a_registry_that_wants_the_log_in_itself_gets_it(file: Path, registry: Registry, docker: Path) -> None:
    secret = base64.b64encode(b"me:pass:word").decode()
    registry.basic = f"Basic {secret}"
    lines = refused(file)
    assert all(f"log in with `docker login {registry.host}`" in line for line in lines)
    docker.write_text(json.dumps({"auths": {registry.host: {"auth": secret}}}))
    assert len(pin(file)) == 3


@pytest.mark.parametrize("token", ["", "s3cr3t\r\nX: y"])
def test_a_token_of_another_form_is_not_sent_and_not_shown(file: Path, registry: Registry, token: str) -> None:
    registry.token = token
    for line in refused(file):
        assert "wants a token of 127.0.0.1, which answers 200 without one" in line
        assert "s3cr3t" not in line
    assert {authorization for _, _, authorization in registry.asked} == {None}


def test_a_log_in_that_cannot_be_read_is_told_without_a_word_of_it(file: Path, docker: Path) -> None:
    docker.write_text('{"auths": "hunter2"}')
    for line in refused(file):
        assert f"{docker} cannot be read as docker's own" in line
        assert "hunter2" not in line


def test_the_token_never_follows_a_redirect(file: Path, registry: Registry, elsewhere: Registry) -> None:
    path = "/v2/library/python/manifests/3.13"
    registry.redirects[path] = f"http://{elsewhere.host}{path}"
    (line,) = refused(file)
    assert "sends on to another address after the log-in (307)" in line
    assert elsewhere.asked == []


def test_whom_a_registry_sends_us_on_to_gets_no_log_in(
    file: Path, registry: Registry, elsewhere: Registry, docker: Path
) -> None:
    docker.write_text(json.dumps({"auths": {registry.host: {"auth": "bWU6cGFzcw=="}}}))
    path = "/v2/library/python/manifests/3.13"
    registry.moved[path] = f"http://{elsewhere.host}{path}"
    (line,) = refused(file)
    assert "refuses it (401)" in line
    assert elsewhere.asked == [("HEAD", path, None)]


def test_docker_hub_is_asked_at_its_own_addresses(docker: Path) -> None:
    docker.write_text(json.dumps({"auths": {"https://index.docker.io/v1/": {"auth": "bWU6cGFzcw=="}}}))
    asked: list[tuple[str, str | None]] = []

    def hub(request: httpx.Request) -> httpx.Response:
        asked.append((str(request.url), request.headers.get("Authorization")))
        match request.url.host, asked[-1][1]:
            case "auth.docker.io", _:
                return httpx.Response(200, json={"access_token": TOKEN})
            case _, None:
                challenge = 'Bearer realm="https://auth.docker.io/token",service="registry.docker.io"'
                return httpx.Response(401, headers={"WWW-Authenticate": challenge})
            case _:
                return httpx.Response(200, headers={"Docker-Content-Digest": digest_of(PYTHON)})

    with httpx.Client(transport=httpx.MockTransport(hub)) as client:
        assert digest(client, "docker.io/library/python:3.13") == digest_of(PYTHON)
    address = "https://registry-1.docker.io/v2/library/python/manifests/3.13"
    scope = "service=registry.docker.io&scope=repository%3Alibrary%2Fpython%3Apull"
    token = (f"https://auth.docker.io/token?{scope}", "Basic bWU6cGFzcw==")
    assert asked == [(address, None), token, (address, f"Bearer {TOKEN}")]


def test_nothing_is_asked_in_plain_http_of_another_machine(file: Path, registry: Registry) -> None:
    registry.realm = "http://auth.example.org/token"
    lines = refused(file)
    assert all("http://auth.example.org/token" in line and "which is not https" in line for line in lines)


def test_a_file_that_somebody_edits_meanwhile_keeps_their_edit(file: Path, registry: Registry) -> None:
    edited = f"{file.read_text()}# mine\n"
    registry.during_request = lambda: file.write_text(edited)
    with pytest.raises(UserError, match="was changed by somebody else meanwhile"):
        pin(file)
    assert file.read_text() == edited
    assert list(file.parent.iterdir()) == [file]


def test_a_full_disk_leaves_the_file_and_no_other(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = file.read_bytes()

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(UserError, match=r"Pulumi\.prod\.yaml: cannot be written \(No space left on device\)"):
        pin(file)
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


@pytest.mark.parametrize(
    ("image", "url"),
    [
        ("ghcr.io/a/b.c:v1", "https://ghcr.io/v2/a/b.c/manifests/v1"),
        (f"ghcr.io/a/b:v1@{GONE}", f"https://ghcr.io/v2/a/b/manifests/{GONE}"),
        ("docker.io/library/python:3.13", "https://registry-1.docker.io/v2/library/python/manifests/3.13"),
        ("docker.io/python:3.13", "https://registry-1.docker.io/v2/library/python/manifests/3.13"),
        ("python:3.13", "https://registry-1.docker.io/v2/library/python/manifests/3.13"),
        ("bitnami/redis:7", "https://registry-1.docker.io/v2/bitnami/redis/manifests/7"),
        ("mirror.lan:5000/a:v1", "https://mirror.lan:5000/v2/a/manifests/v1"),
        ("localhost/a/b:v1", "http://localhost/v2/a/b/manifests/v1"),
        ("127.0.0.1:5050/a/b:v1", "http://127.0.0.1:5050/v2/a/b/manifests/v1"),
        ("localhost.example.org/a/b:v1", "https://localhost.example.org/v2/a/b/manifests/v1"),
    ],
)
def test_a_registry_is_asked_at_its_own_address(image: str, url: str) -> None:
    assert manifest(image).url == url
