"""Changes a stack file where it stands: no other character of it is another one afterwards."""

import yaml
from pydantic import JsonValue

from config.errors import UserError
from config.model import NAMESPACE
from config.naming import Where

_WIDTH = 2**20
"""No line is ever folded."""


def node_at(root: yaml.Node | None, where: Where) -> yaml.Node | None:
    """What stands at a path of our keys; None where a merge brings it in."""
    top, *rest = where
    # As config.stack_file takes a top-level key.
    node = _child(_child(root, "config"), str(top), f"{NAMESPACE}:{top}", f"{NAMESPACE}:config:{top}")
    for part in rest:
        node = node.value[part] if isinstance(node, yaml.SequenceNode) else _child(node, part)
    return node


def with_value(text: str, where: Where, value: JsonValue) -> str:
    """The text with another value at a path where one stands: on one line, whatever it was before."""
    node = node_at(yaml.compose(text, Loader=yaml.SafeLoader), where)
    if node is None:
        raise UserError(f"{NAMESPACE}:{where[0]}: stands in a form that cannot be edited: write it as plain text")
    return text[: node.start_mark.index] + on_one_line(value) + text[_end(node) :]


def with_block(text: str, name: str, lines: list[str], after: list[str]) -> str:
    """The text with a top-level key whose value is these lines, in the place of the old one or after other keys.

    UserError where the file has none of those, or the key cannot stand beside them.
    """
    config = _child(yaml.compose(text, Loader=yaml.SafeLoader), "config")
    pairs: list[tuple[yaml.Node, yaml.Node]] = []
    if isinstance(config, yaml.MappingNode) and not config.flow_style:
        pairs = config.value
    standing = {str(key.value).rpartition(":")[2]: (key, value) for key, value in pairs}
    found = next((standing[it] for it in (name, *after) if it in standing), None)
    if found is None:
        raise UserError(f"{NAMESPACE}:{name}: cannot be added: write `config:` as a block with a line for each key")
    key, value = found
    indent = " " * key.start_mark.column
    block = "\n".join([f"{NAMESPACE}:{name}:", *(f"{indent}  {line}" for line in lines)])
    if name in standing:
        return text[: key.start_mark.index] + block + text[_end(value) :]
    line_end = _line_end(text, _end(value))
    return f"{text[:line_end]}\n{indent}{block}{text[line_end:]}"


def with_entry(text: str, name: str, key: str, value: JsonValue, after: list[str]) -> str:
    """The text with another value at a key of a top-level object, whether key or object stand there already or not.

    What is new stands last in a block, first in braces, or, where there is no such object, in one after other keys.
    """
    node = node_at(yaml.compose(text, Loader=yaml.SafeLoader), (name,))
    if node is None:
        return with_block(text, name, [f"{key}: {on_one_line(value)}"], after)
    if _child(node, key):
        return with_value(text, (name, key), value)
    if not isinstance(node, yaml.MappingNode) or not node.value:
        return with_value(text, (name,), {key: value})
    first, entry = node.value[0][0].start_mark, f"{key}: {on_one_line(value)}"
    if node.flow_style:
        return f"{text[: first.index]}{entry}, {text[first.index :]}"
    line_end = _line_end(text, _end(node))
    return f"{text[:line_end]}\n{' ' * first.column}{entry}{text[line_end:]}"


def on_one_line(value: JsonValue) -> str:
    """A value as YAML, where it may stand inside another one."""
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, allow_unicode=True, width=_WIDTH)
    return text.removesuffix("\n").removesuffix("\n...")


def _child(node: yaml.Node | None, *names: str | int) -> yaml.Node | None:
    if not isinstance(node, yaml.MappingNode):
        return None
    return next((value for key, value in node.value if key.value in names), None)


def _line_end(text: str, index: int) -> int:
    found = text.find("\n", index)
    return len(text) if found < 0 else found


def _end(node: yaml.Node) -> int:
    """Where the last character of a value stands; a block ends, to YAML, where the next one begins."""
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(node, yaml.MappingNode) else last)
    return node.end_mark.index
