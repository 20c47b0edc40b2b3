"""What label files say about the images beside them: COCO, Pascal VOC and YOLO. Boxes must lie in their image, files exist.

The sizes that they say images have are compared where an image is read.

Label files are hostile input: how much is read is bounded, XML is parsed without entities, and names stay names.
"""

from __future__ import annotations

import csv
import json
import math
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any
from xml.parsers import expat

from datacheck.errors import DatacheckError
from datacheck.findings import Finding
from datacheck.sources.dataset_folders import read_bounded
from datacheck.sources.discover import Inputs
from datacheck.sources.label_files import Images
from datacheck.sources.label_problems import HEAD_BYTES, SLACK_SHARE, Problems, Sizes, image_of, is_inside
from datacheck.storage.registry import storage_of
from datacheck.text import plain

_MAX_FILE_BYTES = 4 << 20
#: The files of metadata in a folder of images or audio.
_METADATA = ("metadata.jsonl", "metadata.csv")


def with_labels(inputs: Inputs, is_excluded: Callable[[str], object] = lambda _: False) -> Inputs:
    """The inputs with the findings on the label files in their folders, and images with the sizes that these say."""
    if inputs.labels is not None:
        return inputs
    sizes: Sizes = {}
    findings, checked = _check_annotations(inputs, is_excluded, sizes)
    files = [
        replace(file, options=replace(file.options, said_sizes=tuple(sizes[file.uri]))) if file.uri in sizes else file
        for file in inputs.files
    ]
    skipped = {root: [path for path in paths if path not in checked] for root, paths in inputs.skipped.items()}
    skipped = {root: paths for root, paths in skipped.items() if paths}
    return replace(inputs, files=files, skipped=skipped, labels=tuple(findings))


def _check_annotations(
    inputs: Inputs, is_excluded: Callable[[str], object], sizes: Sizes
) -> tuple[list[Finding], set[str]]:
    """The findings on label files, and which files were looked into; notes the sizes of images."""
    images = Images.of(file.uri for file in inputs.files)
    findings = list(_check_metadata(inputs))
    seen: set[str] = set()
    if not images.stems:
        return findings, seen
    described = _describe_yolo(inputs)
    for folder, entries in inputs.folders.items():
        problems = {kind: Problems(folder or ".", "label file", 0) for kind in (".xml", ".txt")}
        for name in sorted(entry.name for entry in entries if not entry.is_folder):
            uri, suffix = posixpath.join(folder, name), posixpath.splitext(name)[1].lower()
            if is_excluded(uri):
                continue
            if suffix == ".json":
                from datacheck.sources.coco import check_coco

                found = check_coco(uri, images, sizes)
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


# Pascal VOC


def _check_voc(uri: str, images: Images, said: Sizes, problems: Problems) -> list[Finding] | None:
    """Note what is wrong with a VOC file; None for any other XML."""
    name = posixpath.basename(uri)
    try:
        content = read_bounded(uri, _MAX_FILE_BYTES)
        if b"<annotation" not in content[:HEAD_BYTES]:
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
    image = image_of(uri, found)
    if size is not None and image is not None:
        said.setdefault(image, []).append((uri, *size))
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
        elif size is not None and not is_inside(left, top_edge, right, bottom, size):
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
                    record = yaml.safe_load(read_bounded(posixpath.join(folder, entry.name), HEAD_BYTES))
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


def _check_yolo(uri: str, name: str, described: _Yolo, problems: Problems) -> list[Finding] | None:
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
    if any(value < -SLACK_SHARE or value > 1 + SLACK_SHARE for value in coordinates):
        yield "a coordinate is not between 0 and 1"
    elif len(values) == 4:
        x, y, width, height = values
        if width <= 0 or height <= 0:
            yield "a box has no area"
        elif not all(
            low >= -SLACK_SHARE and high <= 1 + SLACK_SHARE
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
            problems = Problems(posixpath.join(folder, name), "row")
            for row, file in enumerate(_named_files(problems.uri)):
                path = posixpath.normpath(posixpath.join(folder, file))
                problems.num_checked += 1
                if path not in known and not storage_of(problems.uri).exists(posixpath.join(folder, file)):
                    problems.add("its file is not there", f"{row} ({file})")
            yield from problems.findings()


def _named_files(uri: str) -> Iterator[str]:
    """The column ``file_name`` of a file of metadata; what cannot be read is found where it is read as data."""
    lines = (line for line in _lines(uri) if line.strip())
    rows = csv.DictReader(lines) if uri.endswith(".csv") else map(_record_of, lines)
    with suppress(OSError, ValueError, DatacheckError, csv.Error):
        for row in rows:
            name = row.get("file_name")
            if isinstance(name, str) and name and not name.startswith("/") and ".." not in name.split("/"):
                yield name


def _lines(uri: str) -> Iterator[str]:
    encoding = "utf-8-sig"
    with storage_of(uri).open(uri) as file:
        while line := file.readline(_MAX_FILE_BYTES):
            yield line.decode(encoding)
            encoding = "utf-8"


def _record_of(line: str) -> dict[str, Any]:
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return {}
    return record if isinstance(record, dict) else {}
