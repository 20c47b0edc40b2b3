"""Text files of people wherever they are stored: schemas, pipelines, configuration."""

from __future__ import annotations

import errno
import os
import posixpath
from typing import Any

from datacheck.errors import ConfigurationError, SchemaError
from datacheck.schema import loading, yaml_file
from datacheck.schema.loading import SchemaLike, parse_schema
from datacheck.schema.model import Schema
from datacheck.schema.yaml_file import MAX_FILE_BYTES, parse_yaml
from datacheck.storage.object_uri import hide_secrets
from datacheck.storage.os_calls import local_uri, relative_uri
from datacheck.storage.registry import LOCAL, known_schemes, storage_of
from datacheck.text import count, plain


def is_uri(path: str | os.PathLike[str]) -> bool:
    """Whether a path is one in a storage, and not a local one."""
    return "://" in os.fspath(path)


def read_document(path: str | os.PathLike[str], limit: int) -> bytes | None:
    """The content of a file; None if it has more bytes than ``limit``. Raises ``OSError``."""
    uri = hide_secrets(os.fspath(path))
    storage = storage_of(uri)
    if is_uri(uri) and storage is LOCAL:
        schemes = ", ".join(f"{scheme}://" for scheme in known_schemes())
        raise OSError(errno.EINVAL, f"unknown scheme; files are read from this machine and from {schemes}", uri)
    with storage.open(uri) as file:
        content = file.read(limit + 1)
    return None if len(content) > limit else content


def load_yaml(path: str | os.PathLike[str], error_type: type[ConfigurationError] = SchemaError) -> dict[Any, Any]:
    """The mapping in a YAML file; raises ``error_type`` with the file, and the line if there is one."""
    if not is_uri(path):
        return yaml_file.load_yaml(path, error_type)
    place = plain(os.fspath(path))
    try:
        content = read_document(path, MAX_FILE_BYTES)
    except FileNotFoundError:
        raise error_type(place, "no such file; check the URI") from None
    except OSError as error:
        raise error_type(place, f"cannot be opened: {plain(error.strerror or str(error), 600)}") from None
    if content is None:
        raise error_type(place, f"is larger than {count(MAX_FILE_BYTES)} bytes; is it a configuration file?")
    return parse_yaml(content, place, error_type)


def load_schema(reference: SchemaLike = None) -> Schema:
    """Load a schema.

    A string is the path or the URI of a YAML file, or ``package.module:Model`` if it has that form and no such file exists.
    Only then is anything imported, with the current folder on the import path as for ``python -m``. None is the default
    schema: no NaN and no infinity. Raises ``SchemaError``.
    """
    if not isinstance(reference, str | os.PathLike) or not is_uri(path := os.fsdecode(os.fspath(reference))):
        return loading.load_schema(reference)
    schema = parse_schema(load_yaml(path), plain(path))
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
