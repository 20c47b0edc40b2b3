"""Parses YAML text without its traps, and writes it.

Scalars follow YAML 1.2: only ``true`` and ``false`` are booleans, so that a field can be called ``on`` or ``no``;
``1e5`` is a number; ``12:30`` and ``2024-01-31`` are strings; ``010`` is ten. Keys are always strings (or null). A
duplicate key is an error, since the first one would be lost silently. Anchors, aliases and merge keys work, within
limits; tags do not, since a file must not choose which objects are created.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import yaml
from yaml.composer import Composer
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from yaml.parser import Parser
from yaml.reader import Reader
from yaml.resolver import BaseResolver
from yaml.scanner import Scanner

from datacheck.errors import ConfigurationError, SchemaError
from datacheck.text import count, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

#: Values in a file after every alias is expanded.
MAX_VALUES = 100_000
#: Nesting of mappings and lists.
MAX_DEPTH = 50

_TAG = "tag:yaml.org,2002:"
#: The core schema of YAML 1.2.2 (section 10.3.2), with the merge key of 1.1: tag, pattern, first characters.
_SCALARS: tuple[tuple[str, re.Pattern[str], list[str]], ...] = (
    ("null", re.compile(r"(?:~|null|Null|NULL|)\Z"), [*"~nN", ""]),
    ("bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), [*"tTfF"]),
    ("int", re.compile(r"(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)\Z"), [*"-+0123456789"]),
    (
        "float",
        re.compile(
            r"(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
        [*"-+.0123456789"],
    ),
    ("merge", re.compile(r"<<\Z"), ["<"]),
)


class _Resolver(BaseResolver):
    """Resolves plain scalars."""


class _Loader(Reader, Scanner, Parser, Composer, _Resolver):
    """Parses text into nodes; :class:`_Values` builds the values, and knows only the plain tags."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        _Resolver.__init__(self)


class _Dumper(yaml.SafeDumper):
    """Quotes strings that YAML 1.1 or 1.2 would read as something else."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


def _represent_text(dumper: yaml.SafeDumper, text: str) -> ScalarNode:
    """A string; in double quotes, which escape, if YAML takes one of its characters for a line break."""
    style = '"' if any(character in text for character in "\x85\u2028\u2029\ufeff") else None
    return dumper.represent_scalar(f"{_TAG}str", text, style)


_Dumper.add_representer(str, _represent_text)
for _name, _pattern, _first in _SCALARS:
    for _class in (_Resolver, _Dumper):
        _class.add_implicit_resolver(_TAG + _name, _pattern, _first)


def parse_yaml(content: bytes | str, place: str, error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in YAML text; ``place`` is its name in errors."""
    try:
        text = content.decode("utf-8-sig") if isinstance(content, bytes) else content
        node = _Loader(text).get_single_node()
        if node is None:
            raise error_type(place, "is empty; expected a mapping such as 'fields:'")
        if not isinstance(node, MappingNode):
            raise error_type(_at(place, node), f"expected a mapping such as 'fields:', got {_kind(node)}")
        values = _Values(place, error_type)
        values.check_size(node)
        return values.mapping(node)
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        byte = error.object[error.start]
        raise error_type(
            f"{place}, line {line}", f"byte {byte:#04x} is not UTF-8: expected a YAML file; save it as UTF-8"
        ) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise error_type(
            f"{place}, line {line}", f"the character {_character(error)!r} is not allowed in YAML"
        ) from None
    except yaml.MarkedYAMLError as error:
        raise error_type(_marked_place(place, error), f"is not valid YAML: {_problem(error)}") from None
    except RecursionError:
        raise error_type(place, f"is nested more than {MAX_DEPTH} levels deep") from None


def dump_yaml(value: Mapping[Any, Any]) -> str:
    """YAML text that :func:`parse_yaml` reads back as an equal value, with keys in the same order."""
    return str(yaml.dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110))


class _Values:
    """Builds plain values from nodes."""

    def __init__(self, place: str, error_type: type[ConfigurationError]) -> None:
        self._place = place
        self._error_type = error_type

    def error(self, node: Node, problem: str) -> ConfigurationError:
        return self._error_type(_at(self._place, node), problem)

    def check_size(self, root: Node) -> None:
        """Refuse a document that its aliases make endless, too deep or too large, before any value is built."""
        sizes: dict[int, int] = {}
        open_nodes: set[int] = set()

        def size(node: Node, depth: int) -> int:
            if isinstance(node, ScalarNode):
                return 1
            if id(node) in open_nodes:
                raise self.error(node, "an anchor contains an alias to itself")
            if depth > MAX_DEPTH:
                raise self.error(node, f"is nested more than {MAX_DEPTH} levels deep")
            if id(node) not in sizes:
                open_nodes.add(id(node))
                sizes[id(node)] = 1 + sum(size(child, depth + 1) for child in _children(node))
                open_nodes.remove(id(node))
            return sizes[id(node)]

        if size(root, 1) > MAX_VALUES:
            raise self.error(root, f"has more than {count(MAX_VALUES)} values once its aliases are expanded")

    def value(self, node: Node) -> Any:
        if isinstance(node, MappingNode):
            self._plain_tag(node, "map")
            return self.mapping(node)
        if isinstance(node, SequenceNode):
            self._plain_tag(node, "seq")
            return [self.value(item) for item in node.value]
        return self._scalar(node)

    def mapping(self, node: MappingNode) -> dict[Any, Any]:
        merged: dict[Any, Any] = {}
        own: dict[Any, Any] = {}
        lines: dict[Any, int] = {}
        for key_node, value_node in node.value:
            if key_node.tag == f"{_TAG}merge":
                merged = {**self._merged(value_node), **merged}
                continue
            key = self._key(key_node)
            if key in own:
                raise self.error(key_node, f"duplicate key {_shown(key)}, first in line {lines[key]}")
            own[key] = self.value(value_node)
            lines[key] = key_node.start_mark.line + 1
        return {**merged, **own}

    def _merged(self, node: Node) -> dict[Any, Any]:
        parts = node.value if isinstance(node, SequenceNode) else [node]
        result: dict[Any, Any] = {}
        for part in parts:
            if not isinstance(part, MappingNode):
                raise self.error(part, f"'<<' merges mappings, got {_kind(part)}")
            result = {**self.mapping(part), **result}
        return result

    def _key(self, node: Node) -> str | None:
        if not isinstance(node, ScalarNode):
            raise self.error(node, f"a key must be a name, got {_kind(node)}")
        return None if node.tag == f"{_TAG}null" else str(node.value)

    def _plain_tag(self, node: Node, tag: str) -> None:
        if node.tag != _TAG + tag:
            raise self.error(node, f"the tag {plain(node.tag)} is not allowed; write plain values")

    def _scalar(self, node: Node) -> Any:
        text = str(node.value)
        match node.tag.removeprefix(_TAG):
            case "str" | "merge":
                return text
            case "null":
                return None
            case "bool" if text.lower() in ("true", "false"):
                return text.lower() == "true"
            case "int" | "float" as kind:
                try:
                    return _number(text, kind)
                except ValueError:
                    raise self.error(node, f"{plain(text, 40)!r} is not a valid number") from None
        raise self.error(node, f"the tag {plain(node.tag)} is not allowed; write plain values")


def _number(text: str, kind: str) -> int | float:
    if kind == "float":
        lowered = text.lower()
        return float(lowered.replace(".inf", "inf") if lowered.endswith(".inf") else lowered.replace(".nan", "nan"))
    if text.startswith(("0o", "0x")):
        return int(text, 0)
    return int(text)


def _children(node: Node) -> Iterator[Node]:
    for child in node.value:
        if isinstance(child, tuple):
            yield from child
        else:
            yield child


def _kind(node: Node) -> str:
    if isinstance(node, MappingNode):
        return "a mapping"
    return "a list" if isinstance(node, SequenceNode) else "a single value"


def _shown(key: str | None) -> str:
    return "null" if key is None else f"'{plain(key)}'"


def _at(place: str, node: Node) -> str:
    return f"{place}, line {node.start_mark.line + 1}"


def _marked_place(place: str, error: yaml.MarkedYAMLError) -> str:
    mark = error.problem_mark or error.context_mark
    return place if mark is None else f"{place}, line {mark.line + 1}"


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = plain(error.problem or error.context or "it cannot be parsed")
    if "'\\t'" in problem:
        return "a tab is used for indentation; indent with spaces"
    if problem.startswith("expected ',' or ']'"):
        return f"{problem}; text with brackets or commas in a list needs quotes"
    return problem


def _character(error: yaml.reader.ReaderError) -> str:
    return chr(error.character) if isinstance(error.character, int) else str(error.character)
