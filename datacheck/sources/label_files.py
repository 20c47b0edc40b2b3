"""The files beside an image or a recording that say what it shows: they go wherever it goes."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from datacheck.formats import format_of_name
from datacheck.storage.registry import storage_of

#: YOLO and captions, VOC, LabelMe and COCO by image.
_SUFFIXES = (".txt", ".xml", ".json", ".caption")


@dataclass(frozen=True, slots=True)
class Images:
    """The images among the inputs, by their path without the suffix, and by their name."""

    stems: Mapping[str, str]
    names: Mapping[str, Sequence[str]]

    @classmethod
    def of(cls, uris: Iterable[str]) -> Images:
        stems: dict[str, str] = {}
        names: dict[str, list[str]] = {}
        for uri in uris:
            record = format_of_name(uri)
            if record is not None and record.name == "image":
                stems[posixpath.splitext(uri)[0]] = uri
                names.setdefault(posixpath.basename(uri), []).append(uri)
        return cls(stems, names)

    def named(self, name: str) -> list[str]:
        """The images of this name, or whose path ends with it."""
        known = self.names.get(posixpath.basename(name), ())
        return [uri for uri in known if uri == name or uri.endswith(f"/{name.lstrip('./')}")]

    def of_label(self, label: str) -> str | None:
        """The image that a label file belongs to: beside it, or in ``images`` where it lies in ``labels``."""
        stem = posixpath.splitext(label)[0]
        if stem in self.stems:
            return self.stems[stem]
        parts = stem.split("/")
        for index in range(len(parts) - 2, -1, -1):
            if parts[index] in ("labels", "annotations", "Annotations"):
                for folder in ("images", "JPEGImages"):
                    other = "/".join([*parts[:index], folder, *parts[index + 1 :]])
                    if other in self.stems:
                        return self.stems[other]
        return None


def find_labels(uri: str, name: str) -> tuple[tuple[str, str], ...]:
    """The label files of a sample, each with its path in the output; ``name`` is the sample's.

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
