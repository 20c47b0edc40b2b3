"""Files that people and datacheck itself wrote, wherever they are stored: schemas, pipelines, configuration, baselines.

One function opens them all, so that each is bounded and says the same of a file that cannot be read.
"""

from __future__ import annotations

import os
import posixpath
from collections.abc import Callable
from typing import Any

from datacheck.errors import ConfigurationError, SchemaError, UsageError, nearest_name
from datacheck.schema.loading import SchemaLike, parse_schema, schema_from_object, schema_from_python
from datacheck.schema.model import Schema
from datacheck.schema.yaml_file import MAX_FILE_BYTES, parse_yaml
from datacheck.storage.object_uri import hide_secrets
from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.storage.registry import LOCAL, known_schemes, storage_of
from datacheck.text import count, plain


def is_uri(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one in a storage, and not a local one."""
    return "://" in os.fspath(path)


def _usage_error(place: str, problem: str) -> Exception:
    return UsageError(f"{place}: {problem}")


def read_document(
    path: str | os.PathLike[str],
    kind: str,
    limit: int = MAX_FILE_BYTES,
    *,
    missing: str | None = "",
    error: Callable[[str, str], Exception] = _usage_error,
) -> bytes:
    """The content of a file. Raises ``error`` of its name and the problem, also where it has more than ``limit`` bytes.

    ``kind`` says what is expected: ``a YAML file``. ``missing`` is what to do where there is no such file: by default the
    nearest name is offered, and None lets ``FileNotFoundError`` pass.
    """
    uri = hide_secrets(os.fsdecode(os.fspath(path)))
    storage, place = storage_of(uri), plain(uri)
    if not uri:
        raise error("''", "expected the name of a file, got an empty string")
    if is_uri(uri) and storage is LOCAL:
        schemes = ", ".join(f"{scheme}://" for scheme in known_schemes())
        raise error(place, f"unknown scheme; files are read from this machine and from {schemes}")
    try:
        # It was named by the user, and may be a pipe: ``<(command)`` in a shell.
        with open(uri, "rb") if storage is LOCAL else storage.open(uri) as file:  # noqa: PTH123
            content = file.read(limit + 1)
    except FileNotFoundError:
        if missing is None:
            raise
        raise error(place, f"no such file{f'; {missing}' if missing else _nearest_file(uri)}") from None
    except (OSError, ValueError) as problem:
        if storage is LOCAL and os.path.isdir(uri):  # noqa: PTH112 - of a name that is too long, is_dir raises
            raise error(place, f"is a folder; expected {kind}") from None
        reason = plain(getattr(problem, "strerror", None) or str(problem), 600)
        raise error(place, f"cannot be opened: {reason}; check the path and its permissions") from None
    if len(content) > limit:
        raise error(place, f"is larger than {count(limit)} bytes; expected {kind}")
    return content


def _nearest_file(uri: str) -> str:
    if is_uri(uri):
        return "; check the URI"
    folder, name = folder_of(uri), posixpath.basename(local_uri(uri))
    try:
        names = sorted(entry.name for entry in LOCAL.list(folder) if not entry.is_folder)
    except OSError:
        return f"; the folder '{plain(folder)}' does not exist either"
    hint = nearest_name(name, names)
    return plain(hint) if hint else f"; the folder '{plain(folder)}' has no file with a similar name"


def load_yaml(path: str | os.PathLike[str], error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in a YAML file; raises ``error_type`` with the file, and the line if there is one."""
    content = read_document(path, "a YAML file", error=error_type)
    return parse_yaml(content, plain(os.fspath(path)), error_type)


def load_schema(reference: SchemaLike = None) -> Schema:
    """Load a schema.

    A string is the path or the URI of a YAML file, or ``package.module:Model`` if it has that form and no such file exists.
    Only then is anything imported, with the current folder on the import path as for ``python -m``. None is the default
    schema: no NaN and no infinity. Raises ``SchemaError``.
    """
    if not isinstance(reference, str | os.PathLike):
        return schema_from_object(reference)
    path = os.fsdecode(os.fspath(reference))
    if not is_uri(path) and not os.path.exists(path):  # noqa: PTH110 - a path with a NUL is no error here
        found = schema_from_python(path)
        if found is not None:
            return found
    mapping = load_yaml(path)
    if {"inputs", "output"} <= mapping.keys():
        raise SchemaError(
            plain(path), "is a pipeline, not a schema; give the schema that it names, or use 'datacheck run'"
        )
    schema = parse_schema(mapping, plain(path))
    # Only there it makes a difference: a schema is the same wherever its file is.
    return schema.keep_folder(folder_of(path)) if schema.references else schema


def folder_of(path: str | os.PathLike[str]) -> str:
    """The folder of a file; the current one for a name alone."""
    uri = local_uri(path)
    return uri.rpartition("/")[0] if is_uri(uri) else posixpath.dirname(uri) or "."


def join_path(folder: str, path: str) -> str:
    """``path`` from ``folder``, which may be a URI; a local one relative to the working directory if possible."""
    if is_uri(path):
        return hide_secrets(path)
    if is_uri(folder) and not os.path.isabs(os.path.expanduser(path)):  # noqa: PTH111, PTH117 - folders may be URIs
        scheme, _, rest = folder.partition("://")
        return f"{scheme}://{posixpath.normpath(posixpath.join(rest, local_uri(path)))}"
    expanded = os.path.expanduser(path)  # noqa: PTH111
    if os.path.isabs(expanded):  # noqa: PTH117
        return local_uri(os.path.normpath(expanded))
    joined = os.path.normpath(os.path.join(folder, expanded))  # noqa: PTH118
    return relative_uri(joined)


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a file exists; raises ``OSError`` where its storage does not answer."""
    return storage_of(uri := os.fspath(path)).exists(uri)
