"""COCO: annotations of images in one JSON file, which is read one element at a time."""

from __future__ import annotations

from array import array
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from datacheck.errors import DatacheckError
from datacheck.findings import Finding
from datacheck.sources.json_stream import MAX_VALUE_CHARS, JsonObject, TooLargeError
from datacheck.sources.label_files import Images
from datacheck.sources.label_problems import HEAD_BYTES, NAMES_SHOWN, Problems, Sizes, image_of, is_inside, number_of
from datacheck.storage.registry import storage_of
from datacheck.text import plain


def check_coco(uri: str, images: Images, said: Sizes) -> list[Finding] | None:
    """The findings on a COCO file; None for any other JSON."""
    coco = _Coco(uri, images)
    try:
        with storage_of(uri).open(uri) as file:
            head = file.read_at(0, HEAD_BYTES)
            if not head.lstrip().startswith(b"{") or not any(
                word in head for word in (b'"images"', b'"annotations"', b'"categories"')
            ):
                return None
            file.seek(0)
            if not coco.read(JsonObject(file)):
                return None
            if coco.is_left:
                file.seek(0)
                coco.read_annotations(JsonObject(file))
    except TooLargeError:
        return [_too_large(uri)]
    except (OSError, DatacheckError):
        return None
    except (ValueError, RecursionError) as error:
        return [Finding("DC607", uri, None, 1, 1, detail=f"it is not valid JSON ({plain(str(error), 100)})")]
    for image, size in coco.found.items():
        said.setdefault(image, []).append((uri, *size))
    return coco.findings()


def _too_large(uri: str) -> Finding:
    remedy = "check a copy without 'segmentation'"
    detail = f"the labels were not checked: one value in it has more than {MAX_VALUE_CHARS >> 20} MiB; {remedy}"
    return Finding("DC913", uri, None, 1, 1, detail=detail)


class _Coco:
    """What a COCO file says, of which one element is in memory at a time. ``found`` has the sizes of images that are there.

    Annotations that come before the images are left for a second pass.
    """

    def __init__(self, uri: str, images: Images) -> None:
        self._uri, self._images = uri, images
        self._sizes: dict[Any, tuple[float, float] | None] = {}
        self._categories: set[Any] = set()
        # The annotations of each category: the list of categories usually comes last.
        self._used = Problems(uri, "annotation")
        self._numbers, self._texts = array("q"), set[str]()
        self.found: dict[str, tuple[float, float]] = {}
        self._about_images, self._about_annotations = Problems(uri, "image"), Problems(uri, "annotation")
        self.is_left = False

    def read(self, record: JsonObject) -> bool:
        """Look at the elements of its lists; whether it is a COCO file."""
        for name, one in record.elements():
            if name == "images":
                self._add_image(one)
            elif name == "annotations" and "images" in record.lists:
                self._add_annotation(one)
            elif name == "annotations":
                self.is_left = True
            elif name == "categories" and isinstance(one, dict) and _is_key(one.get("id")):
                self._categories.add(one["id"])
        return {"images", "annotations"} <= record.lists

    def read_annotations(self, record: JsonObject) -> None:
        for name, one in record.elements():
            if name == "annotations":
                self._add_annotation(one)

    def findings(self) -> list[Finding]:
        about = self._about_annotations
        for category, (number, places) in self._used.places.items():
            if category not in self._categories:
                about.add("its category is not in the list of categories", *places, number=number)
        ordered = np.sort(np.frombuffer(self._numbers, np.int64))
        repeated = ordered[1:][ordered[1:] == ordered[:-1]]
        if len(repeated):
            about.add("two annotations have the same id", *repeated[:NAMES_SHOWN], number=len(repeated))
        return [*self._about_images.findings(), *about.findings()]

    def _add_image(self, one: Any) -> None:
        about = self._about_images
        number, about.num_checked = about.num_checked, about.num_checked + 1
        if not isinstance(one, dict) or not _is_key(one.get("id")):
            about.add("an image has no id", f"number {number}")
            return
        if one["id"] in self._sizes:
            about.add("two images have the same id", one["id"])
        width, height = number_of(one.get("width")), number_of(one.get("height"))
        size = (width, height) if width and height and width > 0 and height > 0 else None
        self._sizes[one["id"]] = size
        name = one.get("file_name")
        found = self._images.named(name) if isinstance(name, str) else []
        if not found:
            about.add("an image that it names is not among the files", name)
        image = image_of(self._uri, found)
        if size is not None and image is not None:
            self.found[image] = size

    def _add_annotation(self, one: Any) -> None:
        about = self._about_annotations
        number, about.num_checked = about.num_checked, about.num_checked + 1
        if not isinstance(one, dict):
            about.add("it is not an object", f"number {number}")
            return
        key = one.get("id")
        place = one.get("id", f"number {number}")
        if isinstance(key, int) and not isinstance(key, bool) and abs(key) < 1 << 63:
            self._numbers.append(key)
        elif isinstance(key, str) and key in self._texts:
            about.add("two annotations have the same id", key)
        elif isinstance(key, str):
            self._texts.add(key)
        if "category_id" in one:
            category = one["category_id"]
            self._used.add(category if _is_key(category) else None, place)
        for problem in _coco_problems(one, self._sizes):
            about.add(problem, place)


def _is_key(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _coco_problems(one: Mapping[str, Any], sizes: Mapping[Any, Any]) -> Iterator[str]:
    image = one.get("image_id")
    if not _is_key(image) or image not in sizes:
        yield "its image is not in the list of images"
    if "bbox" in one:
        yield from _box_problems(one["bbox"], sizes.get(image) if _is_key(image) else None)
    area = one.get("area")
    if "area" in one and ((found := number_of(area)) is None or found <= 0):
        yield "its area is not a positive number"


def _box_problems(box: Any, size: tuple[float, float] | None) -> Iterator[str]:
    numbers = [number_of(one) for one in box] if isinstance(box, list) else []
    if len(numbers) != 4 or None in numbers:
        yield "its box is not 4 finite numbers"
        return
    x, y, width, height = (one for one in numbers if one is not None)
    if width <= 0 or height <= 0:
        yield "its box has no area"
    elif size is not None and not is_inside(x, y, x + width, y + height, size):
        yield "its box reaches beyond its image"
