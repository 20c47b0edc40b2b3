"""What no check sees into: bytes, JSON and vectors in text. A few values of a field tell which it is."""

from __future__ import annotations

import re
from collections.abc import Iterable

import numpy as np

from datacheck.leaves import Leaf

_NUM_SAMPLES = 5
#: Bytes of a value that are examined.
_PREFIX = 512

_MAGIC: tuple[tuple[bytes, str], ...] = (
    (rb"\x89PNG\r\n", "PNG images"),
    (rb"\xff\xd8\xff", "JPEG images"),
    (rb"GIF8", "GIF images"),
    (rb"RIFF....WEBP", "WebP images"),
    (rb"II\*\0|MM\0\*", "TIFF images"),
    (rb"RIFF....WAVE|fLaC|OggS|ID3", "audio"),
    (rb"\x93NUMPY", ".npy arrays"),
    (rb"PK\x03\x04", "zip archives"),
    (rb"\x80[\x02-\x05]", "pickles"),
)
_IMAGES = [(re.compile(pattern, re.DOTALL), name) for pattern, name in _MAGIC]
_JSON = re.compile(rb'\s*(\{\s*["}]|\[\s*[{"\]])')
_NUMBER = rb"[-+]?(?:\d[\d.]*(?:[eE][-+]?\d*)?|\.\d+|nan|NaN|inf|Infinity|null|None)"
#: ``[0.1, 0.2]`` and ``tensor([[1, 2]])``, or at least eight numbers without brackets; a long value is cut.
#: Possessive, so that no value can make it try again.
_VECTOR = re.compile(
    rb"\s*(?:tensor|array)?[\[(][\s\[(]*%b(?:[\s,;\[\]()]++(?:%b)?)*+[^\]]?" % (_NUMBER, _NUMBER)
    + rb"|\s*%b(?:[\s,;]+%b){7,}[\s,;]*\S?" % (_NUMBER, _NUMBER)
)


def kind_of_unseen(leaf: Leaf, *, is_array: bool) -> str:
    """What the values of a leaf are that no check sees into; empty if they are seen, or plain text."""
    is_binary = leaf.dtype == "binary" or leaf.dtype.startswith("fixed_size_binary")
    if leaf.values is None or not (is_binary or leaf.dtype == "string"):
        return ""
    found = iter(_samples(leaf))
    first = next(found, None)
    if first is None or not (is_binary or _JSON.match(first) or _VECTOR.fullmatch(first)):
        # One value usually shows that it is text.
        return ""
    samples = [first, *found]
    if all(_JSON.match(value) and (len(value) == _PREFIX or value.rstrip()[-1:] in b"}]") for value in samples):
        return "JSON"
    if all(_VECTOR.fullmatch(value) for value in samples):
        return "vectors"
    if not is_binary:
        return ""
    for pattern, name in _IMAGES:
        if all(pattern.match(value) for value in samples):
            return name
    # NumPy's bytes are text without an encoding; Arrow has strings for that.
    return (
        ""
        if is_array and all(value.isascii() and value.decode("ascii").isprintable() for value in samples)
        else "bytes"
    )


def _samples(leaf: Leaf) -> Iterable[bytes]:
    """How a few values begin, spread over the leaf; nulls and empty ones are left out."""
    number = len(leaf.values)
    if leaf.validity is None or len(leaf.validity) != number:
        # Encoded values lie there once each, whatever rows they are in.
        positions = sorted({number * part // _NUM_SAMPLES for part in range(_NUM_SAMPLES)}) if number else []
    else:
        positions = np.flatnonzero(leaf.validity)[:_NUM_SAMPLES].tolist()
    for position in positions:
        scalar = leaf.values[position]
        buffer = scalar.as_buffer() if scalar.is_valid and hasattr(scalar, "as_buffer") else None
        if buffer is not None and buffer.size:
            yield memoryview(buffer)[:_PREFIX].tobytes()
