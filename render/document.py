"""How every rendered document becomes text, and how text becomes a name."""

import hashlib
import json
from collections.abc import Mapping

import yaml

Document = dict[str, object]


def to_yaml(document: Document) -> str:
    """The one YAML form of a document: keys in the order given, no aliases, no line folding."""
    return yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=2**20)


def to_json(document: Document) -> str:
    """The one JSON form of a document that a pod reads."""
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n"


def content_hash(content: object) -> str:
    """Ten hex digits that change whenever plain data does."""
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:10]


def content_name(name: str, data: Mapping[str, str]) -> str:
    """`<name>-<hash of its content>`: another content is another object."""
    return f"{name}-{content_hash(dict(data))}"


class _Dumper(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        del data
        return True
