"""What label files say about the images beside them: COCO, Pascal VOC and YOLO. Boxes must lie in their image, files exist.

The sizes that they say images have are compared where an image is read.

Label files are hostile input: how much is read is bounded, XML is parsed without entities, and names stay names.
"""

from __future__ import annotations

import csv
import json
import math
import os
import posixpath
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias
from xml.parsers import expat

from datacheck.errors import DatacheckError
from datacheck.findings import Finding
from datacheck.sources.dataset_folders import read_bounded
from datacheck.sources.discover import Inputs
from datacheck.sources.label_files import Images
from datacheck.storage.registry import storage_of
from datacheck.text import join_limited, plain

_MAX_JSON_BYTES, _MAX_FILE_BYTES = 256 << 20, 4 << 20
_HEAD_BYTES = 1 << 16
#: Boxes may reach so far beyond their image, in pixels and as a share: writers round differently.
_SLACK, _SLACK_SHARE = 1.0, 1e-3
_NAMES_SHOWN = 3
#: The files of metadata in a folder of images or audio.
_METADATA = ("metadata.jsonl", "metadata.csv")


@dataclass(slots=True)
class _Problems:
    """What is wrong in one label file, or in a folder of them: for each kind of problem, where."""

    uri: str
    noun: str
    num_checked: int = 0
    places: dict[str, list[str]] = field(default_factory=dict)

    def add(self, problem: str, place: object) -> None:
        self.places.setdefault(problem, []).append(plain(str(place), 60))

    def findings(self) -> Iterator[Finding]:
        for problem, places in self.places.items():
            detail = f"{problem}: {self.noun} {join_limited(places, _NAMES_SHOWN)}"
            yield Finding("DC607", self.uri, None, len(places), max(self.num_checked, len(places)), detail=detail)


#: For each image, the label files that say its size, each with the width and the height.
_Sizes: TypeAlias = dict[str, list[tuple[str, float, float]]]


def with_labels(inputs: Inputs, is_excluded: Callable[[str], object] = lambda _: False) -> Inputs:
    """The inputs with the findings on the label files in their folders, and images with the sizes that these say."""
    if inputs.labels is not None:
        return inputs
    sizes: _Sizes = {}
    findings, checked = _check_annotations(inputs, is_excluded, sizes)
    files = [
        replace(file, options=replace(file.options, said_sizes=tuple(sizes[file.uri]))) if file.uri in sizes else file
        for file in inputs.files
    ]
    skipped = {root: [path for path in paths if path not in checked] for root, paths in inputs.skipped.items()}
    skipped = {root: paths for root, paths in skipped.items() if paths}
    return replace(inputs, files=files, skipped=skipped, labels=tuple(findings))


def _check_annotations(
    inputs: Inputs, is_excluded: Callable[[str], object], sizes: _Sizes
) -> tuple[list[Finding], set[str]]:
    """The findings on label files, and which files were looked into; notes the sizes of images."""
    images = Images.of(file.uri for file in inputs.files)
    findings = list(_check_metadata(inputs))
    seen: set[str] = set()
    if not images.stems:
        return findings, seen
    described = _describe_yolo(inputs)
    for folder, entries in inputs.folders.items():
        problems = {kind: _Problems(folder or ".", "label file", 0) for kind in (".xml", ".txt")}
        for name in sorted(entry.name for entry in entries if not entry.is_folder):
            uri, suffix = posixpath.join(folder, name), posixpath.splitext(name)[1].lower()
            if is_excluded(uri):
                continue
            if suffix == ".json":
                found = _check_coco(uri, images, sizes)
            elif suffix == ".xml":
                found = _check_voc(uri, images, sizes, problems[suffix])
            elif suffix == ".txt" and images.of_label(uri) is not None:
                found = _check_yolo(uri, name, described, problems[suffix])
            else:
                continue
            if found is not None:
                seen.add(uri)
                findings += found
        for some in problems.values():
            findings += some.findings()
    return findings, seen


# COCO


def _check_coco(uri: str, images: Images, said: _Sizes) -> list[Finding] | None:
    """The findings on a COCO file; None for any other JSON."""
    try:
        with storage_of(uri).open(uri) as file:
            head, size = file.read_at(0, _HEAD_BYTES), file.seek(0, os.SEEK_END)
        if not head.lstrip().startswith(b"{") or not any(
            word in head for word in (b'"images"', b'"annotations"', b'"categories"')
        ):
            return None
        if size > _MAX_JSON_BYTES:
            return [_too_large(uri, size)]
        record = json.loads(read_bounded(uri, _MAX_JSON_BYTES))
    except (OSError, DatacheckError):
        return None
    except (ValueError, RecursionError) as error:
        return [Finding("DC607", uri, None, 1, 1, detail=f"it is not valid JSON ({plain(str(error), 100)})")]
    lists = [record.get(name) for name in ("images", "annotations")] if isinstance(record, dict) else []
    if len(lists) != 2 or not all(isinstance(one, list) for one in lists):
        return None
    problems = _Problems(uri, "annotation", len(record["annotations"]))
    sizes, findings = _coco_images(uri, record["images"], images, said)
    known = {
        one.get("id") for one in record.get("categories") or () if isinstance(one, dict) and _is_key(one.get("id"))
    }
    ids: set[Any] = set()
    for number, one in enumerate(record["annotations"]):
        place = one.get("id", f"number {number}") if isinstance(one, dict) else f"number {number}"
        for problem in _coco_problems(one, sizes, known, ids):
            problems.add(problem, place)
    return [*findings, *problems.findings()]


def _too_large(uri: str, size: int) -> Finding:
    limit, remedy = _MAX_JSON_BYTES >> 20, "check a copy without 'segmentation', or parts with some of the images each"
    detail = f"the labels were not checked: a JSON file of {size:,} bytes, above {limit:,} MiB; {remedy}"
    return Finding("DC913", uri, None, 1, 1, detail=detail)


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _coco_images(
    uri: str, records: Sequence[Any], images: Images, said: _Sizes
) -> tuple[dict[Any, tuple[float, float] | None], list[Finding]]:
    """The size of each image by its id, and what is wrong with the images."""
    sizes: dict[Any, tuple[float, float] | None] = {}
    missing: list[str] = []
    about = _Problems(uri, "image", len(records))
    for number, one in enumerate(records):
        if not isinstance(one, dict) or not _is_key(one.get("id")):
            about.add("an image has no id", f"number {number}")
            continue
        if one["id"] in sizes:
            about.add("two images have the same id", one["id"])
        width, height = _number(one.get("width")), _number(one.get("height"))
        sizes[one["id"]] = (width, height) if width and height and width > 0 and height > 0 else None
        name = one.get("file_name")
        found = images.named(name) if isinstance(name, str) else []
        if not found:
            missing.append(plain(str(name), 60))
        _note_size(said, uri, found, sizes[one["id"]])
    if missing:
        about.places["an image that it names is not among the files"] = missing
    return sizes, list(about.findings())


def _coco_problems(one: Any, sizes: Mapping[Any, Any], known: set[Any], ids: set[Any]) -> Iterator[str]:
    if not isinstance(one, dict):
        yield "it is not an object"
        return
    if _is_key(one.get("id")):
        if one["id"] in ids:
            yield "two annotations have the same id"
        ids.add(one["id"])
    image = one.get("image_id")
    if not _is_key(image) or image not in sizes:
        yield "its image is not in the list of images"
    category = one.get("category_id")
    if "category_id" in one and (not _is_key(category) or category not in known):
        yield "its category is not in the list of categories"
    if "bbox" in one:
        yield from _box_problems(one["bbox"], sizes.get(image) if _is_key(image) else None)
    area = one.get("area")
    if "area" in one and ((found := _number(area)) is None or found <= 0):
        yield "its area is not a positive number"


def _box_problems(box: Any, size: tuple[float, float] | None) -> Iterator[str]:
    numbers = [_number(one) for one in box] if isinstance(box, list) else []
    if len(numbers) != 4 or None in numbers:
        yield "its box is not 4 finite numbers"
        return
    x, y, width, height = (one for one in numbers if one is not None)
    if width <= 0 or height <= 0:
        yield "its box has no area"
    elif size is not None and not _is_inside(x, y, x + width, y + height, size):
        yield "its box reaches beyond its image"


def _is_inside(left: float, top: float, right: float, bottom: float, size: tuple[float, float]) -> bool:
    return left >= -_SLACK and top >= -_SLACK and right <= size[0] + _SLACK and bottom <= size[1] + _SLACK


def _note_size(said: _Sizes, label: str, images: Sequence[str], size: tuple[float, float] | None) -> None:
    """Note the size in a label file if its image is clear: of several, the one below the file's folder."""
    if len(images) > 1:
        images = [uri for uri in images if uri.startswith(f"{posixpath.dirname(label)}/")]
    if size is not None and len(images) == 1:
        said.setdefault(images[0], []).append((label, *size))


def _number(value: Any) -> float | None:
    """A finite number; None for anything else."""
    try:
        found = float(value) if not isinstance(value, bool | str) else math.nan
    except (TypeError, ValueError, OverflowError):
        return None
    return found if math.isfinite(found) else None


# Pascal VOC


def _check_voc(uri: str, images: Images, said: _Sizes, problems: _Problems) -> list[Finding] | None:
    """Note what is wrong with a VOC file; None for any other XML."""
    name = posixpath.basename(uri)
    try:
        content = read_bounded(uri, _MAX_FILE_BYTES)
        if b"<annotation" not in content[:_HEAD_BYTES]:
            return None
        texts = _parse_xml(content)
    except (OSError, DatacheckError):
        return None
    except (expat.ExpatError, ValueError) as error:
        problems.num_checked += 1
        problems.add(f"it is not valid XML ({plain(str(error), 80)})", name)
        return []
    problems.num_checked += 1
    top, objects = texts
    beside = images.of_label(uri)
    found = images.named(top.get("filename", "")) if beside is None else [beside]
    if not found:
        problems.add("the image that it names is not among the files", name)
    width, height = _parsed(top.get("size/width")), _parsed(top.get("size/height"))
    size = (width, height) if width and height and width > 0 and height > 0 else None
    if objects and size is None:
        problems.add("the size of its image is not two positive numbers", name)
    _note_size(said, uri, found, size)
    for one in objects:
        if not one.get("name"):
            problems.add("an object has no name", name)
        corners = [_parsed(one.get(f"bndbox/{corner}")) for corner in ("xmin", "ymin", "xmax", "ymax")]
        if any(corner is None for corner in corners):
            problems.add("a box is not 4 finite numbers", name)
            continue
        left, top_edge, right, bottom = (corner for corner in corners if corner is not None)
        if left >= right or top_edge >= bottom:
            problems.add("a box has no area", name)
        elif size is not None and not _is_inside(left, top_edge, right, bottom, size):
            problems.add("a box reaches beyond its image", name)
    return []


def _parsed(text: str | None) -> float | None:
    try:
        found = float(text or "nan")
    except ValueError:
        return None
    return found if math.isfinite(found) else None


def _parse_xml(content: bytes) -> tuple[dict[str, str], list[dict[str, str]]]:
    """The texts of an annotation and of each object in it, by path. A document type is refused: it may hold entities."""
    top: dict[str, str] = {}
    objects: list[dict[str, str]] = []
    path: list[str] = []

    def refuse(*_: Any) -> None:
        raise ValueError("it declares a document type, whose entities are never expanded")

    def start(name: str, _attributes: dict[str, str]) -> None:
        if len(path) > 16:
            raise ValueError("it is nested too deeply")
        path.append(name)
        if path == ["annotation", "object"]:
            objects.append({})

    def add(text: str) -> None:
        if path[1:2] == ["object"] and path[0] == "annotation":
            key = "/".join(path[2:])
            objects[-1][key] = objects[-1].get(key, "") + text.strip()
        elif len(path) > 1:
            key = "/".join(path[1:])
            top[key] = top.get(key, "") + text.strip()

    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.StartElementHandler = start
    parser.EndElementHandler = lambda _name: path.pop()
    parser.CharacterDataHandler = add
    parser.Parse(content, True)
    return top, objects


# YOLO


@dataclass(frozen=True, slots=True)
class _Yolo:
    """What the description of a YOLO dataset says: how many classes there are, and the numbers of a pose after its box."""

    num_classes: int | None = None
    num_keypoints: tuple[int, int] | None = None


def _describe_yolo(inputs: Inputs) -> _Yolo:
    """The description of a YOLO dataset; it says nothing if there is none, or several that differ."""
    import yaml

    found: set[_Yolo] = set()
    for folder, entries in inputs.folders.items():
        for entry in entries:
            if entry.name.lower().endswith((".yaml", ".yml")) and not entry.is_folder:
                try:
                    record = yaml.safe_load(read_bounded(posixpath.join(folder, entry.name), _HEAD_BYTES))
                except (OSError, DatacheckError, yaml.YAMLError, ValueError, RecursionError):
                    continue
                if isinstance(record, dict) and ("train" in record or "nc" in record or "val" in record):
                    found.add(_Yolo(_number_of_classes(record.get("names")), _keypoints(record.get("kpt_shape"))))
    return found.pop() if len(found) == 1 else _Yolo()


def _number_of_classes(names: Any) -> int | None:
    if isinstance(names, list):
        return len(names)
    if not isinstance(names, dict) or not all(isinstance(number, int) for number in names):
        return None
    return int(1 + max(names, default=-1))


def _keypoints(shape: Any) -> tuple[int, int] | None:
    is_shape = isinstance(shape, list) and len(shape) == 2 and all(isinstance(number, int) for number in shape)
    return (shape[0], shape[1]) if is_shape else None


def _check_yolo(uri: str, name: str, described: _Yolo, problems: _Problems) -> list[Finding] | None:
    """Note what is wrong with a YOLO file; None for any other text, such as a caption."""
    try:
        text = read_bounded(uri, _MAX_FILE_BYTES).decode()
        rows = [[float(cell) for cell in line.split()] for line in text.splitlines() if line.strip()]
    except (OSError, ValueError, DatacheckError):
        return None
    problems.num_checked += 1
    for line, row in enumerate(rows, 1):
        for problem in dict.fromkeys(_yolo_problems(row, described)):
            problems.add(problem, f"{name}:{line}")
    return []


def _yolo_problems(row: Sequence[float], described: _Yolo) -> Iterator[str]:
    if len(row) < 5 or not all(map(math.isfinite, row)):
        yield "a line is not a class and at least 4 finite numbers"
        return
    number, *values = row
    if number < 0 or number != int(number):
        yield "a class is not an integer of at least 0"
    elif described.num_classes is not None and number >= described.num_classes:
        yield f"a class is beyond the {described.num_classes:,} that the dataset names"
    coordinates = _coordinates(values, described.num_keypoints)
    if any(value < -_SLACK_SHARE or value > 1 + _SLACK_SHARE for value in coordinates):
        yield "a coordinate is not between 0 and 1"
    elif len(values) == 4:
        x, y, width, height = values
        if width <= 0 or height <= 0:
            yield "a box has no area"
        elif not all(
            low >= -_SLACK_SHARE and high <= 1 + _SLACK_SHARE
            for low, high in ((x - width / 2, x + width / 2), (y - height / 2, y + height / 2))
        ):
            yield "a box reaches beyond its image"


def _coordinates(values: Sequence[float], keypoints: tuple[int, int] | None) -> list[float]:
    """The numbers of a line that are coordinates: of a box, a polygon, or a pose without how visible each point is."""
    points = values[4:]
    if keypoints is None:
        is_pose = bool(points) and len(points) % 3 == 0 and set(points[2::3]) <= {0.0, 1.0, 2.0}
    else:
        is_pose = keypoints == (len(points) // 3, 3) and len(points) % 3 == 0
    return [value for index, value in enumerate(values) if not is_pose or index < 4 or index % 3 != 0]


# Folders of Hugging Face


def _check_metadata(inputs: Inputs) -> Iterator[Finding]:
    """Find what ``metadata.jsonl`` or ``metadata.csv`` of a folder of images or recordings names and is not there."""
    known = {posixpath.normpath(file.uri) for file in inputs.files}
    for folder, entries in inputs.folders.items():
        for name in sorted(entry.name for entry in entries if entry.name in _METADATA):
            problems = _Problems(posixpath.join(folder, name), "row")
            for row, file in enumerate(_named_files(problems.uri)):
                path = posixpath.normpath(posixpath.join(folder, file))
                problems.num_checked += 1
                if path not in known and not storage_of(problems.uri).exists(posixpath.join(folder, file)):
                    problems.add("its file is not there", f"{row} ({file})")
            yield from problems.findings()


def _named_files(uri: str) -> Iterator[str]:
    """The column ``file_name`` of a file of metadata; what cannot be read is found where it is read as data."""
    try:
        text = read_bounded(uri, _MAX_JSON_BYTES).decode("utf-8-sig")
    except (OSError, ValueError, DatacheckError):
        return
    lines = (line for line in text.splitlines() if line.strip())
    rows = csv.DictReader(lines) if uri.endswith(".csv") else map(_record_of, lines)
    with suppress(csv.Error):
        for row in rows:
            name = row.get("file_name")
            if isinstance(name, str) and name and not name.startswith("/") and ".." not in name.split("/"):
                yield name


def _record_of(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
