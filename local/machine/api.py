"""The few calls that the machine makes to its own API server."""

import http.client
import json
import ssl
from pathlib import Path
from typing import Any

NOT_FOUND = 404
CONFLICT = 409
_ERROR = 400
SECONDS = 10.0


class ApiError(Exception):
    """The API server is not reachable, or refused."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"{status} {text}")
        self.status = status


class Api:
    """A client with the admin's certificate; one connection for each call."""

    def __init__(self, pki: Path, host: str, port: int) -> None:
        self._address = (host, port)
        self._tls = ssl.create_default_context(cafile=str(pki / "ca.crt"))
        self._tls.load_cert_chain(pki / "admin.crt", pki / "admin.key")

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON of any shape
        """What lies at a path."""
        return self._call("GET", path)

    def is_ready(self) -> bool:
        """Its own word for it: `/readyz`."""
        try:
            self._call("GET", "/readyz", parse=False)
        except ApiError:
            return False
        return True

    def ensure(self, path: str, name: str, body: dict[str, Any]) -> None:
        """Create an object in a collection where it is not there yet."""
        try:
            self._call("GET", f"{path}/{name}")
        except ApiError as error:
            if error.status != NOT_FOUND:
                raise
            self._create(path, body)

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Merge some fields into an object."""
        self._call("PATCH", path, body, kind="application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Remove an object."""
        self._call("DELETE", path)

    def _create(self, path: str, body: dict[str, Any]) -> None:
        try:
            self._call("POST", path, body)
        except ApiError as error:
            if error.status != CONFLICT:
                raise

    def _call(
        self, method: str, path: str, body: object = None, *, kind: str = "application/json", parse: bool = True
    ) -> Any:  # noqa: ANN401 - JSON of any shape
        connection = http.client.HTTPSConnection(*self._address, timeout=SECONDS, context=self._tls)
        try:
            connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": kind})
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise ApiError(0, str(error)) from error
        finally:
            connection.close()
        if answer.status >= _ERROR:
            raise ApiError(answer.status, text.decode(errors="replace"))
        return json.loads(text) if parse else None
