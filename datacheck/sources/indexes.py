"""Compares the parts of datasets with what their indexes promise: index files, and names such as ``-00003-of-00010``.

An index is hostile input: how much of it is read is bounded, and a name that leads out of its folder is refused.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any

from datacheck.errors import SourceError
from datacheck.findings import Finding, Severity
from datacheck.formats import format_of_name
from datacheck.sources.annotations import with_labels
from datacheck.sources.dataset_folders import dataset_above
from datacheck.sources.discover import Inputs, skipped_findings
from datacheck.storage.base import Entry, Storage
from datacheck.storage.registry import storage_of
from datacheck.text import join_limited, plain, quantity

#: The largest index that is read. The one of a model with 100,000 tensors has 10 MB.
MAX_INDEX_BYTES = 32 << 20
#: How many missing parts of a numbered set are listed by name.
_MAX_NAMES = 8

_NUMBERED = re.compile(
    r"(?P<stem>.*?)(?P<number>\d{1,12})-of-(?P<total>\d{1,12})(?:-[0-9a-f]{8,40})?(?P<suffix>(?:\..*)?)"
)


_WEIGHT_MAP = re.compile(r"(?P<stem>.+)\.(?P<suffix>safetensors|bin)\.index\..*json")


@dataclass(frozen=True, slots=True)
class _Index:
    """What one index file promises.

    Attributes:
        uri: of the index file.
        parts: the names of the parts, from the folder of the index; for each the names in it, if the index tells.
        belongs: whether a name in the folder names a part.
    """

    uri: str
    parts: Mapping[str, AbstractSet[str]]
    belongs: Callable[[str], bool]


def check_folders(inputs: Inputs) -> list[Finding]:
    """The findings on what lies in the folders of inputs: indexes, label files, and files that were not checked."""
    inputs = with_labels(inputs)
    return [*check_indexes(inputs), *(inputs.labels or ()), *skipped_findings(inputs)]


def check_indexes(inputs: Inputs) -> list[Finding]:
    """The findings on the folders of inputs: parts that are named and absent, or present and not named.

    Of the folder of a file that was named itself, the names are looked at, not the inputs: its other parts need not be
    inputs, but they must exist.
    """
    findings = list(_files_of_tables(inputs))
    files = [file.uri for file in inputs.files]
    for folder, entries in inputs.folders.items():
        names = [entry.name for entry in entries]
        if "README.md" in names or "dataset_info.json" in names:
            # It loads Arrow, which a folder of unchanged files does not need.
            from datacheck.sources.huggingface import check_numbers_of_rows

            findings += check_numbers_of_rows(folder, names, files)
    for folder, entries in _folders(inputs):
        findings += _check_folder(folder, entries)
    return findings


def _folders(inputs: Inputs) -> Iterator[tuple[str, Sequence[Entry]]]:
    """The searched folders, and the folders of named files that may be parts."""
    yield from inputs.folders.items()
    seen = set(inputs.folders)
    for file in inputs.files:
        folder, name = posixpath.split(file.uri)
        if folder not in seen and ("-of-" in name or name.endswith((".arrow", ".safetensors"))):
            seen.add(folder)
            try:
                yield folder, storage_of(file.uri).list(folder or ".")
            except OSError:
                continue


def _files_of_tables(inputs: Inputs) -> Iterator[Finding]:
    """A warning for each table with a log whose files were named themselves: the table may no longer have them."""
    by_folder = {posixpath.dirname(file.uri): file.uri for file in inputs.files}
    named = [uri for folder, uri in by_folder.items() if folder not in inputs.folders]
    tables = dict.fromkeys(dataset_above(storage_of(uri), uri) for uri in named)
    for table in tables:
        if table is not None and table[1].lister and table[0] not in inputs.listed:
            what = f"{'an' if table[1].name[0] in 'aeiou' else 'a'} {table[1].name.capitalize()} table"
            detail = f"it is {what}, which may no longer have the files that are named here; name the folder instead"
            yield Finding("DC914", table[0] or ".", None, 1, 1, detail=detail, severity=Severity.WARNING)


def _check_folder(folder: str, entries: Sequence[Entry]) -> Iterator[Finding]:
    files = {entry.name.removesuffix(".dvc") for entry in entries if not entry.is_folder}
    folders = {entry.name for entry in entries if entry.is_folder}
    named: set[str] = set()
    for name in sorted(files):
        read = _reader_of(name, files)
        if read is None:
            continue
        uri = posixpath.join(folder, name)
        try:
            index = read(uri, _load(uri))
        except SourceError as error:
            yield Finding("DC901", uri, None, 1, 1, detail=f"{error.problem}; {error.remedy}")
            continue
        named |= index.parts.keys() | {name for name in files if index.parts and index.belongs(name)}
        yield from _check_index(index, folder, files, folders)
    yield from _check_numbered(folder, files, named)


# Index files


def _reader_of(name: str, files: AbstractSet[str]) -> Callable[[str, Any], _Index] | None:
    if name == "state.json" and ("dataset_info.json" in files or any(other.endswith(".arrow") for other in files)):
        return _read_state
    if name == "dataset_dict.json":
        return _read_splits
    if name == "index.json" and any(".mds" in other for other in files):
        return _read_shards
    if _WEIGHT_MAP.fullmatch(name) is not None:
        return _read_weight_map
    return None


def _load(uri: str) -> Any:
    """The JSON of an index; raises ``SourceError``."""
    storage = storage_of(uri)
    try:
        info = storage.stat(uri)
        if info.kind != "file" or info.fingerprint.size > MAX_INDEX_BYTES:
            raise _unusable(uri, f"is larger than {MAX_INDEX_BYTES:,} bytes, or no file")
        with storage.open(uri) as file:
            return json.loads(file.read_at(0, info.fingerprint.size))
    except OSError as error:
        raise _unusable(uri, f"cannot be opened ({error.strerror or error})") from None
    except (ValueError, RecursionError) as error:
        raise _unusable(uri, f"is not valid JSON ({plain(str(error), 120)})") from None


def _unusable(uri: str, problem: str) -> SourceError:
    return SourceError("DC901", uri, f"the index {problem}", "write it again, or delete it if nothing reads it")


def _read_state(uri: str, record: Any) -> _Index:
    """``state.json`` of a Hugging Face dataset that ``save_to_disk`` wrote; any other is not an index."""
    if not (isinstance(record, dict) and "_data_files" in record):
        return _Index(uri, {}, lambda _: False)
    listed = record["_data_files"]
    if not isinstance(listed, list):
        raise _unusable(uri, "has no list '_data_files'")
    if record.get("_indices_data_files"):
        # Old versions of datasets saved the rows that were chosen beside all rows; load_from_disk no longer looks at them.
        raise _unusable(uri, "chooses rows by '_indices_data_files', which load_from_disk ignores: it loads all rows")
    names = [entry.get("filename") if isinstance(entry, dict) else None for entry in listed]
    return _Index(uri, dict.fromkeys(_checked(uri, names), frozenset()), lambda name: name.endswith(".arrow"))


def _read_splits(uri: str, record: Any) -> _Index:
    """``dataset_dict.json``: each split is a folder."""
    splits = record.get("splits") if isinstance(record, dict) else None
    if not isinstance(splits, list):
        raise _unusable(uri, "has no list 'splits'")
    return _Index(uri, dict.fromkeys(_checked(uri, splits), frozenset()), lambda _: False)


def _read_shards(uri: str, record: Any) -> _Index:
    """``index.json`` of an MDS dataset: shards, possibly only in compressed form."""
    shards = record.get("shards") if isinstance(record, dict) else None
    if not isinstance(shards, list) or not all(isinstance(shard, dict) for shard in shards):
        raise _unusable(uri, "has no list 'shards'")
    data = [shard.get("zip_data") or shard.get("raw_data") for shard in shards]
    names = [one.get("basename") if isinstance(one, dict) else None for one in data]
    # A shard that it does not name cannot be read, and says so itself.
    return _Index(uri, dict.fromkeys(_checked(uri, names), frozenset()), lambda _: False)


def _read_weight_map(uri: str, record: Any) -> _Index:
    """``model.safetensors.index.json`` and ``pytorch_model.bin.index.json``: the shard of each tensor."""
    weights = record.get("weight_map") if isinstance(record, dict) else None
    if not isinstance(weights, dict):
        raise _unusable(uri, "has no mapping 'weight_map'")
    parts: dict[str, set[str]] = {
        name: set() for name in _checked(uri, dict.fromkeys(map(_hashable, weights.values())))
    }
    for tensor, shard in weights.items():
        parts[shard].add(tensor)
    named = _WEIGHT_MAP.fullmatch(posixpath.basename(uri))
    assert named is not None
    shards = re.compile(rf"{re.escape(named['stem'])}-\d+-of-\d+\.(\w+\.)?{named['suffix']}")
    return _Index(uri, parts, lambda name: shards.fullmatch(name) is not None)


def _hashable(value: Any) -> Any:
    return value if isinstance(value, str) else None


def _checked(uri: str, names: Iterable[Any]) -> list[str]:
    """Names of parts that stay in the folder of the index; raises ``SourceError``."""
    checked = []
    for name in names:
        if not isinstance(name, str) or not name:
            raise _unusable(uri, "names a part that is not text")
        if name.startswith("/") or "\\" in name or "\0" in name or ":" in name or ".." in name.split("/"):
            raise _unusable(uri, f"names {plain(name)!r}, which is outside its folder")
        checked.append(name)
    return checked


def _check_index(index: _Index, folder: str, files: AbstractSet[str], folders: AbstractSet[str]) -> Iterator[Finding]:
    storage = storage_of(index.uri)
    missing = [name for name in index.parts if not _is_here(storage, folder, name, files | folders)]
    if missing:
        yield _missing(index.uri, len(index.parts), len(missing), missing)
    unnamed = sorted(name for name in files if index.belongs(name) and name not in index.parts) if index.parts else []
    if unnamed:
        yield _unlisted(index.uri, len(unnamed), f"it does not name {join_limited(unnamed)}")
    yield from _check_tensors(index, folder, set(missing))


def _is_here(storage: Storage, folder: str, name: str, names: AbstractSet[str]) -> bool:
    if "/" not in name:
        return name in names
    uri = posixpath.join(folder, name)
    return storage.exists(uri) or storage.exists(f"{uri}.dvc")


def _check_tensors(index: _Index, folder: str, missing: AbstractSet[str]) -> Iterator[Finding]:
    """Findings on the tensors of shards. A shard that cannot be read is a finding of the scan."""
    from datacheck.sources.safetensors import tensor_names

    absent: list[str] = []
    unnamed: list[str] = []
    for shard, promised in index.parts.items():
        if shard in missing or not promised:
            continue
        try:
            held = tensor_names(posixpath.join(folder, shard))
        except (SourceError, OSError):
            continue
        absent += sorted(promised - held)
        unnamed += sorted(held - promised)
    num_tensors = sum(map(len, index.parts.values()))
    if moved := sorted(set(absent) & set(unnamed)):
        verb = "is" if len(moved) == 1 else "are"
        detail = f"{len(moved):,} of {quantity(num_tensors, 'tensor')} {verb} in another shard than it says: "
        yield Finding("DC911", index.uri, None, len(moved), num_tensors, detail=detail + join_limited(moved))
        absent = [name for name in absent if name not in moved]
        unnamed = [name for name in unnamed if name not in moved]
    if absent:
        yield _missing(index.uri, num_tensors, len(absent), absent, "tensor")
    if unnamed:
        yield _unlisted(
            index.uri, len(unnamed), f"the shards hold tensors that it does not name: {join_limited(unnamed)}"
        )


def _missing(uri: str, num_parts: int, num_missing: int, names: Sequence[str], noun: str = "part") -> Finding:
    verb = "is" if num_missing == 1 else "are"
    more = f" and {num_missing - _MAX_NAMES:,} more" if num_missing > _MAX_NAMES else ""
    detail = f"{num_missing:,} of {quantity(num_parts, noun)} {verb} missing: {join_limited(names[:_MAX_NAMES])}{more}"
    return Finding("DC911", uri, None, num_missing, num_parts, detail=detail)


def _unlisted(uri: str, number: int, detail: str) -> Finding:
    return Finding("DC912", uri, None, number, number, detail=detail)


# Numbered names


def _check_numbered(folder: str, files: AbstractSet[str], named: AbstractSet[str]) -> Iterator[Finding]:
    """Findings on the names ``*-00003-of-00010*`` of a folder; parts that an index file names are its own."""
    sets: dict[tuple[str, str], dict[str, dict[int, str]]] = {}
    for name in files:
        parts = _NUMBERED.fullmatch(name) if "-of-" in name and name not in named else None
        if parts is not None and format_of_name(name) is not None and not name.startswith((".", "_")):
            totals = sets.setdefault((parts["stem"], parts["suffix"]), {})
            totals.setdefault(parts["total"], {})[int(parts["number"])] = parts["number"]
    uri = folder or "."
    for (stem, suffix), totals in sorted(sets.items()):
        for total, numbers in sorted(totals.items()):
            yield from _check_set(uri, numbers, int(total), partial(_part_name, stem=stem, total=total, suffix=suffix))
        if len(totals) > 1:
            kinds = [f"{stem}*-of-{total}{suffix}" for total in sorted(totals)]
            num_files = sum(map(len, totals.values()))
            yield _unlisted(uri, num_files, f"the parts of {len(totals)} sets lie together: {join_limited(kinds)}")


def _part_name(number: str, *, stem: str, total: str, suffix: str) -> str:
    return f"{stem}{number}-of-{total}{suffix}"


def _check_set(uri: str, numbers: Mapping[int, str], total: int, name_of: Callable[[str], str]) -> Iterator[Finding]:
    """Findings on one set of ``total`` numbered parts, counted from 0 or from 1."""
    start = 1 if total in numbers and 0 not in numbers else 0
    inside = [number for number in numbers if start <= number < start + total]
    beyond = sorted(numbers.keys() - set(inside))
    num_missing = total - len(inside)
    if num_missing > 0:
        width = len(next(iter(numbers.values())))
        absent = (number for number in range(start, start + total) if number not in numbers)
        names = [name_of(f"{number:0{width}}") for number in islice(absent, _MAX_NAMES)]
        yield _missing(uri, total, num_missing, names)
    if beyond:
        names = [name_of(numbers[number]) for number in beyond]
        yield _unlisted(uri, len(beyond), f"the numbers of {join_limited(names)} are beyond the number of parts")
