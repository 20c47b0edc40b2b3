"""The files beside an image or a recording that say what it shows: they go wherever it goes."""

from __future__ import annotations

import posixpath

from datacheck.storage.registry import storage_of

__all__ = ["find_labels"]

#: YOLO and captions, VOC, LabelMe and COCO by image.
_SUFFIXES = (".txt", ".xml", ".json", ".caption")


def find_labels(uri: str, name: str) -> tuple[tuple[str, str], ...]:
    """The label files of a sample, each with its path in the output; ``name`` is that of the sample.

    They lie beside it, or in ``labels`` (``annotations``) where it lies in ``images``.
    """
    storage = storage_of(uri)
    stem = posixpath.splitext(uri)[0]
    found = []
    for folder in ("", "labels", "annotations"):
        other = stem if not folder else _in_sibling(stem, folder)
        for suffix in _SUFFIXES if other is not None else ():
            if storage.exists(f"{other}{suffix}"):
                inside = posixpath.splitext(name)[0]
                found.append((f"{other}{suffix}", f"{(folder and _in_sibling(inside, folder)) or inside}{suffix}"))
    return tuple(found)


def _in_sibling(path: str, folder: str) -> str | None:
    """A path below ``images`` as one below a folder beside it; None where it is below no such folder."""
    parts = path.split("/")
    for index in range(len(parts) - 2, -1, -1):
        if parts[index] == "images":
            return "/".join([*parts[:index], folder, *parts[index + 1 :]])
    return None
