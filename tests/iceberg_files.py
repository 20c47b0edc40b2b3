"""An Iceberg table around files that exist: its metadata, manifests and lists, as small as the format allows."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

LOCATION = "s3://bucket/table"
_OPTIONAL = {
    "equality_ids": {"type": "array", "items": "int"},
    "referenced_data_file": "string",
    "content_offset": "long",
    "content_size_in_bytes": "long",
}


def write_table(folder: Path, files: Sequence[Mapping[str, Any]]) -> Path:
    """Write the metadata of a table: each of ``files`` has ``content`` and ``file_path``, and may have ``sequence``.

    Files of ``spec`` 0 are of no partition, others of a ``day``.
    """
    import fastavro

    (folder / "metadata").mkdir(parents=True, exist_ok=True)
    names = {"content": "int", "file_path": "string", "file_format": "string", "record_count": "long"}
    optional = [{"name": name, "type": ["null", kind], "default": None} for name, kind in _OPTIONAL.items()]
    day = {"type": "record", "name": "p", "fields": [{"name": "day", "type": ["null", "int"], "default": None}]}
    fields = [
        *({"name": name, "type": kind} for name, kind in names.items()),
        *optional,
        {"name": "partition", "type": day},
    ]
    file = {"type": "record", "name": "f", "fields": fields}
    sequence = {"name": "sequence_number", "type": ["null", "long"], "default": None}
    entry = {
        "type": "record",
        "name": "e",
        "fields": [{"name": "status", "type": "int"}, sequence, {"name": "data_file", "type": file}],
    }
    manifest = {
        "type": "record",
        "name": "m",
        "fields": [{"name": "manifest_path", "type": "string"}, sequence, {"name": "partition_spec_id", "type": "int"}],
    }
    defaults = {"file_format": "PARQUET", "record_count": 0, **dict.fromkeys(_OPTIONAL)}
    manifests = []
    for number, one in enumerate(files):
        record = {
            **defaults,
            "partition": {"day": one.get("day")},
            **one,
            "file_path": f"{LOCATION}/{one['file_path']}",
        }
        entries = [{"status": 1, "sequence_number": None, "data_file": record}]
        with (folder / "metadata" / f"m{number}.avro").open("wb") as stream:
            fastavro.writer(stream, fastavro.parse_schema(entry), entries)
        path = f"{LOCATION}/metadata/m{number}.avro"
        numbers = {"sequence_number": one.get("sequence", 1), "partition_spec_id": one.get("spec", 0)}
        manifests.append({"manifest_path": path, **numbers})
    with (folder / "metadata" / "s.avro").open("wb") as stream:
        fastavro.writer(stream, fastavro.parse_schema(manifest), manifests)
    snapshot = {"snapshot-id": 1, "manifest-list": f"{LOCATION}/metadata/s.avro"}
    metadata = {
        "format-version": 2,
        "location": LOCATION,
        "snapshots": [snapshot],
        "current-snapshot-id": 1,
        "partition-specs": [{"spec-id": 0, "fields": []}, {"spec-id": 1, "fields": [{"name": "day"}]}],
    }
    (folder / "metadata" / "v1.metadata.json").write_text(json.dumps(metadata))
    return folder
