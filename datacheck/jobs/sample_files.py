"""Files of arrays whose rows are open to doubt: is each file one sample, or does it hold many along its first axis?"""

from __future__ import annotations

from collections.abc import Sequence

from datacheck.errors import UsageError
from datacheck.formats import Format, format_of_name
from datacheck.schema.model import Schema
from datacheck.sources.discover import InputFile
from datacheck.text import plain


def require_rows(files: Sequence[InputFile], schema: Schema) -> None:
    """Raise ``UsageError`` where a schema gives several files of arrays a full shape, and ``rows`` is not set.

    The shape may be one sample's, so that each file is a sample, or the shape of a file with many. Repairs, quarantine and
    counts differ, so it is not guessed.
    """
    named = [(file, format_of_name(file.uri)) for file in files if file.options.rows is None]
    arrays = [(file, record) for file, record in named if record is not None and record.is_arrays]
    if len(arrays) < 2:
        return
    for kind in dict.fromkeys(record for _, record in arrays):
        group = [file for file, record in arrays if record is kind]
        shape = _full_shape(schema, kind) if len(group) > 1 else None
        if shape is not None:
            raise UsageError(
                f"{plain(group[0].uri)} and {len(group) - 1:,} more files of arrays: is each of them one sample, or do they"
                f" hold many along their first axis? The schema's shape {shape} has no leading null for the rows, so it"
                " could be either. For one sample per file, set rows: file; for many, rows: first-axis. Set it with --rows"
                " file, with 'rows: file' in datacheck.yaml, with 'train: {path: images/, rows: file}' in a pipeline, or"
                " with ReadOptions(rows='file')"
            )


def _full_shape(schema: Schema, kind: Format) -> str | None:
    """The shape that a schema gives to arrays without leaving the number of rows open; None if it gives none."""
    paths = [None] if kind.is_one_array else [path for path in schema.fields if path is not None]
    fields = [field for path in paths if (field := schema.field_for(path)) is not None]
    shapes = [field.shape for field in fields if field.shape is not None]
    if not shapes or any(not shape or not isinstance(shape[0], int) for shape in shapes):
        return None
    return f"[{', '.join('null' if size is None else str(size) for size in shapes[0])}]"
