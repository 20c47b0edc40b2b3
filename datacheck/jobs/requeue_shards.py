"""Fixed samples of shards: in a shard of their own, or as records in a table of quarantined rows."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from tempfile import TemporaryDirectory

import pyarrow as pa

from datacheck.batch import RAW_NAME, Batch, Column, RawRecords
from datacheck.errors import SourceError, UsageError, nearest_name
from datacheck.jobs.pipeline import Pipeline
from datacheck.jobs.reading_for_schema import read_options
from datacheck.sinks import get_sink
from datacheck.sources.base import ReadOptions
from datacheck.sources.detect import get_source, source_for
from datacheck.sources.discover import InputFile
from datacheck.sources.tar import key_of
from datacheck.storage.os_calls import local_uri
from datacheck.text import plain


def keys_of_samples(tables: Iterable[tuple[str, pa.Table, str]]) -> dict[str, list[tuple[str, int]]]:
    """The samples of tar shards that are in quarantine, by their keys: the shard and the row of each."""
    found: dict[str, list[tuple[str, int]]] = {}
    for _, table, row_column in tables:
        if table.column_names[0] != RAW_NAME:
            continue
        places = zip(table[table.column_names[-3]].to_pylist(), table[row_column].to_pylist(), strict=True)
        for raw, place in zip(table[RAW_NAME].to_pylist(), places, strict=True):
            if (key := key_of(raw or b"")) is not None:
                found.setdefault(key, []).append(place)
    return found


def table_of_shard(file: InputFile, samples: Mapping[str, Sequence[tuple[str, int]]]) -> pa.Table:
    """The samples of a shard as rows of a quarantine, known by their keys."""
    records: list[bytes] = []
    places: list[tuple[str, int]] = []
    try:
        info = source_for(file.uri, file.format).inspect(file.uri, ReadOptions())
        for batch in (batch for unit in info.units for batch in get_source(info.format).read(unit)):
            if batch.unreadable:
                raise UsageError(str(batch.unreadable[0]))
            for raw in batch.raw.array.to_pylist() if batch.raw is not None else ():
                records.append(raw or b"")
                places.append(_place_of(key_of(records[-1]) or "", samples, file.uri))
    except SourceError as error:
        raise UsageError(str(error)) from None
    files, rows = zip(*places, strict=True) if places else ((), ())
    columns = {
        RAW_NAME: pa.array(records, pa.large_binary()),
        "file": pa.array(files),
        "row": pa.array(rows, pa.int64()),
    }
    return pa.table(columns)


def _place_of(key: str, samples: Mapping[str, Sequence[tuple[str, int]]], uri: str) -> tuple[str, int]:
    found = samples.get(key, ())
    if len(found) > 1:
        found = [one for one in found if posixpath.basename(one[0]) == posixpath.basename(uri)]
        if len(found) != 1:
            raise UsageError(
                f"{plain(uri)}: sample {plain(key)!r} is in quarantine from several shards; give the fixed samples of each in"
                " a shard of its name"
            )
    if not found:
        raise UsageError(
            f"{plain(uri)}: sample {plain(key)!r} is not in quarantine{nearest_name(key, list(samples))}; give a shard of fixed"
            " samples only, with the keys that they had"
        )
    return found[0]


def batch_of_shard(records: pa.ChunkedArray, format_: str, pipeline: Pipeline, uri: str) -> Batch:
    """Records of shards, read in the same way as a shard of them."""
    raw = records.combine_chunks().cast(pa.large_binary())
    if raw.null_count:
        raise UsageError(f"a fixed row of {plain(uri)} has no {RAW_NAME!r}; keep the whole record of each")
    given = Batch((Column(RAW_NAME, raw),), len(raw), raw=RawRecords(format_, lambda: raw))
    options = replace(read_options(ReadOptions(), pipeline.schema), by_columns=False, keep_going=False)
    sink = get_sink(format_)
    with TemporaryDirectory(prefix="datacheck-") as folder:
        path = f"{local_uri(folder)}/fixed{sink.suffix}"
        writer = sink.open(path, given)
        writer.write(given)
        writer.close()
        try:
            info = source_for(path, format_).inspect(path, options)
            batch, *others = (one for unit in info.units for one in get_source(info.format).read(unit))
        except SourceError as error:
            raise UsageError(f"{plain(uri)}: a fixed record cannot be read: {plain(error.problem)}") from None
    if others:
        raise UsageError(f"the fixed records of {plain(uri)} are too many at once; give fewer of them at a time")
    if batch.num_rows != len(raw) or batch.malformed or batch.unreadable:
        raise UsageError(
            f"{plain(uri)}: the {len(raw):,} fixed records are {batch.num_rows:,} samples; each must be one whole sample"
        )
    return batch
