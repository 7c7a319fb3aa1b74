"""What a registry says of an image: the digest behind its tag, or that its digest is still there.

Protocols: https://github.com/opencontainers/distribution-spec and https://distribution.github.io/distribution/spec/auth/.
"""

import base64
import json
import os
import re
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast

import httpx

from config.errors import UserError
from config.secrecy import shown
from local.images.oci import digest_of
from local.images.registry import mirror_name

TIMEOUT_SECONDS = 30.0

_MANIFESTS = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
# A body that came packed would have another hash.
_HEADERS = {"Accept": ", ".join(_MANIFESTS), "Accept-Encoding": "identity"}
_LOOPBACK = ("localhost", "127.0.0.1")
_HUB, _HUB_API, _HUB_LOGIN = "docker.io", "registry-1.docker.io", "index.docker.io"
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    # What comes first is a host only if it looks like one, as in mirror_name.
    r"(?:(?P<host>(?=[^/]*[.:]|localhost/)[a-z0-9][a-z0-9.-]*(?::[0-9]+)?)/)?"
    rf"{_PART}(?:/{_PART})*(?P<tag>:[A-Za-z0-9_][A-Za-z0-9._-]{{0,127}})?(?P<digest>@{_DIGEST.pattern})?"
)
_PARAMETER = re.compile(r'(\w+)="([^"]*)"')
_TOKEN = re.compile(r"[!-~]+")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Where a registry keeps what an image's tag or digest stands for."""

    host: str
    """As the image's name has it: docker.io is asked under another one."""
    repository: str
    reference: str
    """The digest where the name has one, else the tag."""

    @property
    def url(self) -> str:
        """Its address; only a registry on this machine is asked without TLS."""
        scheme = "http" if self.host.partition(":")[0] in _LOOPBACK else "https"
        api = _HUB_API if self.host == _HUB else self.host
        return f"{scheme}://{api}/v2/{self.repository}/manifests/{self.reference}"


def manifest(image: str) -> Manifest:
    """What to ask for `registry/name:tag` or `…@sha256:…`; UserError where the name has neither or is no image's."""
    match = _IMAGE.fullmatch(image)
    if not match:
        raise UserError("is no image name: write registry/name:tag or registry/name:tag@sha256:<64 hex digits>")
    if not (match["tag"] or match["digest"]):
        raise UserError("has no tag, which means latest: add the tag of a release")
    repository, reference = mirror_name(image)
    return Manifest(host=match["host"] or _HUB, repository=repository, reference=reference)


def open_client() -> httpx.Client:
    """A client with the environment's proxies; close it after use."""
    try:
        return httpx.Client(
            timeout=TIMEOUT_SECONDS,
            mounts={f"all://{host}": None for host in _LOOPBACK},  # no proxy knows what is on this machine
            event_hooks={"request": [_only_tls]},
        )
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        raise UserError(f"The proxy settings of the environment cannot be used ({error}): correct them.") from error


def digest(client: httpx.Client, image: str) -> str:
    """`sha256:<hex>` that the registry reports for the image: its tag's, or its own digest where it still exists.

    Raises UserError, one line that goes on after the image's name.
    """
    wanted = manifest(image)
    with _one_line(wanted.host):
        found = _ask(client, "HEAD", wanted).headers.get("Docker-Content-Digest")
        if not found:
            found = digest_of(_ask(client, "GET", wanted).content)
    if not _DIGEST.fullmatch(found):
        raise UserError(f"{wanted.host} reports the digest {shown(found)}, which is not sha256: and 64 hex digits")
    if wanted.reference.startswith("sha256:") and found != wanted.reference:
        raise UserError(f"{wanted.host} answers with another digest, {found}: find out who changes what it says")
    return found


def _ask(client: httpx.Client, method: str, wanted: Manifest) -> httpx.Response:
    answer = client.request(method, wanted.url, headers=_HEADERS, follow_redirects=True)
    # A challenge of a host that the registry sent us on to is not the registry's.
    if answer.status_code == HTTPStatus.UNAUTHORIZED and not answer.history:
        authorization = _authorization(client, answer.headers.get_list("WWW-Authenticate"), wanted)
        if authorization:
            headers = _HEADERS | {"Authorization": authorization}
            answer = client.request(method, wanted.url, headers=headers, follow_redirects=False)
    if not answer.is_success:
        raise UserError(_complaint(answer, wanted))
    return answer


def _complaint(answer: httpx.Response, wanted: Manifest) -> str:
    match answer.status_code:
        case HTTPStatus.NOT_FOUND if wanted.reference.startswith("sha256:"):
            return (
                f"{wanted.host} does not have this digest any more ({wanted.reference}):"
                " take its tag's present one with UPDATE=1, or write another tag"
            )
        case HTTPStatus.NOT_FOUND:
            return f"{wanted.host} has no such image: correct its name or tag"
        case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
            return (
                f"{wanted.host} refuses it ({answer.status_code}): correct its name, or, where it is private, log in"
                f" with `docker login {wanted.host}` (only what {_docker_config()} itself holds is used)"
            )
        case status if answer.has_redirect_location:
            return f"{wanted.host} sends on to another address after the log-in ({status}): name that registry instead"
        case status:
            return f"{wanted.host} answers {status}: try again later"


def _authorization(client: httpx.Client, challenges: list[str], wanted: Manifest) -> str | None:
    """The header's value that the registry asks for; None where there is nothing that it would take."""
    schemes = {challenge.partition(" ")[0].lower(): challenge for challenge in challenges}
    credentials = _credentials(_HUB_LOGIN if wanted.host == _HUB else wanted.host)
    if "bearer" in schemes:
        return f"Bearer {_token(client, dict(_PARAMETER.findall(schemes['bearer'])), credentials, wanted)}"
    if "basic" in schemes and credentials:
        return f"Basic {base64.b64encode(':'.join(credentials).encode()).decode()}"
    return None


def _token(
    client: httpx.Client, challenge: dict[str, str], credentials: tuple[str, str] | None, wanted: Manifest
) -> str:
    realm = httpx.URL(challenge.get("realm", ""))
    asked = {"scope": f"repository:{wanted.repository}:pull"} | challenge
    parameters = {name: asked[name] for name in ("service", "scope") if name in asked}
    with _one_line(shown(realm.host)):
        answer = client.get(realm, params=parameters, auth=credentials, follow_redirects=False)
    if answer.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise UserError(_complaint(answer, wanted))
    try:
        given = cast("dict[str, Any]", answer.json())
        token = given.get("token") or given.get("access_token")
    except (ValueError, AttributeError):
        token = None
    # httpx would show one of another form in its error.
    if not (answer.is_success and isinstance(token, str) and _TOKEN.fullmatch(token)):
        raise UserError(
            f"{wanted.host} wants a token of {shown(realm.host)}, which answers {answer.status_code} without one:"
            " try again later"
        )
    return token


def _credentials(host: str) -> tuple[str, str] | None:
    """Name and password for a registry, as `docker login` keeps them; None where the file itself holds none."""
    file = _docker_config()
    try:
        entries = cast("dict[str, dict[str, str]]", json.loads(file.read_text()).get("auths", {}))
        # A key is a host, or an old form, https://index.docker.io/v1/.
        for key, entry in entries.items():
            if re.sub(r"^https?://", "", key).partition("/")[0] == host and entry.get("auth"):
                name, _, password = base64.b64decode(entry["auth"]).decode().partition(":")
                return name, password
    except FileNotFoundError:
        return None
    except (OSError, ValueError, AttributeError, TypeError):
        # Nothing of what it holds may be shown.
        raise UserError(f"{file} cannot be read as docker's own: repair it, or log in anew") from None
    return None


def _docker_config() -> Path:
    return Path(os.environ.get("DOCKER_CONFIG") or Path.home() / ".docker") / "config.json"


def _only_tls(request: httpx.Request) -> None:
    """Refuse, of redirects and realms too, what anybody on the way could read or change."""
    if request.url.scheme != "https" and request.url.host not in _LOOPBACK:
        raise UserError(f"its registry sends on to {shown(str(request.url))}, which is not https: tell its owner")


@contextmanager
def _one_line(host: str) -> Generator[None]:
    """Network errors as one line."""
    try:
        yield
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{host} does not answer ({reason}): check its name, the network and the proxies") from None
