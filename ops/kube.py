"""The cluster as kubectl sees it, in the context that the stack names."""

import base64
import json
import re
import subprocess
from dataclasses import dataclass
from typing import Any, cast

from config.errors import UserError

TIMEOUT_SECONDS = 15
Object = dict[str, Any]
"""A Kubernetes object as kubectl's JSON has it."""
_HEADER_TEXT = re.compile(r"[!-~]+")


@dataclass(frozen=True, kw_only=True)
class Kube:
    """kubectl, bound to a context and a namespace."""

    context: str
    namespace: str

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run kubectl and return what it prints; UserError with its last line when it fails."""
        return self._checked(self._call(*arguments, stdin=stdin), arguments[0])

    def fails(self, *arguments: str) -> str | None:
        """The last line of kubectl's complaint, or None where it had none."""
        done = self._call(*arguments)
        return _last_line(done.stderr) if done.returncode else None

    def items(self, kind: str) -> dict[str, dict[str, object]]:
        """All objects of a cluster-wide kind, by name."""
        listed = json.loads(self.run("get", kind, "-o", "json"))
        return {str(item["metadata"]["name"]): cast("dict[str, object]", item) for item in listed["items"]}

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object; UserError where it is not there."""
        return cast("dict[str, Any]", json.loads(self.run("get", kind, name, "-o", "json")))

    def listed(self, kind: str, *options: str) -> list[dict[str, Any]]:
        """The objects of a kind in the namespace that options such as `-l key=value` pick."""
        return cast("list[dict[str, Any]]", json.loads(self.run("get", kind, *options, "-o", "json"))["items"])

    def raw(self, path: str) -> str:
        """What the API server answers at a path; UserError where it is no 2xx."""
        return self.run("get", "--raw", path)

    def labels(self, kind: str) -> dict[str, dict[str, str]]:
        """The labels of all objects of a kind in the namespace, by name; nothing else of them is read."""
        row = '{.metadata.name}{"\\t"}{.metadata.labels}{"\\n"}'
        listed = self.run("get", kind, "-o", f"jsonpath={{range .items[*]}}{row}{{end}}")
        rows = (line.partition("\t") for line in listed.splitlines())
        return {name: cast("dict[str, str]", json.loads(labels or "{}")) for name, _, labels in rows}

    def secret_keys(self, name: str) -> list[str] | None:
        """The keys of a Secret, never its values; None where there is no such Secret."""
        keys = self._of_secret(name, "go-template={{range $key, $value := .data}}{{$key}} {{end}}")
        return None if keys is None else keys.split()

    def secret_labels(self, name: str) -> dict[str, str] | None:
        """The labels of one Secret, so that no right to list them all is asked for; None where there is none."""
        labels = self._of_secret(name, "jsonpath={.metadata.labels}")
        return None if labels is None else cast("dict[str, str]", json.loads(labels or "{}"))

    def secret_value(self, name: str, key: str) -> str:
        """A Secret's value, for memory alone; UserError, which never shows it, where it can be no HTTP header."""
        # a template that fails would print the whole Secret
        data = cast("dict[str, str]", self.get("secret", name).get("data") or {})
        if key not in data:
            raise UserError(f"Secret {name} in namespace {self.namespace} has no key {key}: correct the stack or it.")
        value = base64.b64decode(data[key]).decode(errors="replace")
        if not _HEADER_TEXT.fullmatch(value):
            raise UserError(f"Secret {name}: the value of {key} is empty or has a blank or line end: write it anew.")
        return value

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start kubectl for as long as the caller lets it run; all that it prints comes in one pipe."""
        return subprocess.Popen(
            self._command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _of_secret(self, name: str, template: str) -> str | None:
        done = self._call("get", "secret", name, "-o", template)
        if done.returncode and "NotFound" in done.stderr:
            return None
        return self._checked(done, "get")

    def _command(self, *arguments: str) -> list[str]:
        return ["kubectl", "--context", self.context, "--namespace", self.namespace, *arguments]

    def _checked(self, done: subprocess.CompletedProcess[str], verb: str) -> str:
        if done.returncode:
            raise UserError(f"kubectl {verb} failed in context {self.context}: {_last_line(done.stderr)}")
        return done.stdout

    def _call(self, *arguments: str, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
        try:
            return subprocess.run(
                self._command(f"--request-timeout={TIMEOUT_SECONDS}s", *arguments),
                input=stdin or "",  # never the terminal's: a login prompt would wait there unseen
                capture_output=True,
                text=True,
                check=False,
                timeout=2 * TIMEOUT_SECONDS,
            )
        except subprocess.TimeoutExpired:
            remedy = "log in to the cluster first, or look at the context's credential plugin"
            raise UserError(f"kubectl gave no answer in context {self.context}: {remedy}.") from None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"


def name_of(thing: Object) -> str:
    """An object's name."""
    return str(thing["metadata"]["name"])
