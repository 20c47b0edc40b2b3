"""Images, by Pillow: decoded to the end, since a header says nothing about what follows it."""

from __future__ import annotations

import io
import math
import threading
import warnings
from contextlib import ExitStack
from itertools import islice
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from datacheck.distinct import distinct
from datacheck.sources.examined import MAX_DECODED_BYTES, Examined

#: What is decoded; others, such as EPS, run programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
#: Later frames of an animation are not decoded.
_MAX_FRAMES = 64
_ORIENTATION = 274
#: The tag in which GDAL stores the number for no value.
_NODATA = 42113
#: JPEG is decoded at an eighth of its size, which takes a fifth of the time and reads all of its bytes.
_SHRINK = 8
#: So many zeros are not the end of what cameras write behind an image.
_NUM_ZEROS = 64
_BYTES_OF_MODES = {"F": 4, "I": 4, "RGBA": 4, "RGB": 3, "CMYK": 4, "YCbCr": 3, "LAB": 3, "HSV": 3, "LA": 2, "I;16": 2}
#: Pillow keeps these switches for the whole process.
_SWITCHES = threading.Lock()


def examine_image(data: Any) -> Examined:
    """Decode an image. Whatever is wrong with it is an exception."""
    with ExitStack() as stack:
        if ImageFile.LOAD_TRUNCATED_IMAGES:
            # Training scripts set it to go on with half an image, whose rest is grey.
            stack.enter_context(_SWITCHES)
            stack.callback(setattr, ImageFile, "LOAD_TRUNCATED_IMAGES", True)
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        try:
            if pages := _float_pages(data):
                return _examine_float_tiff(pages)
            image = stack.enter_context(_open(data))
        except Image.DecompressionBombError as error:
            return Examined(faults=[("DC604", str(error).partition(",")[0].removeprefix("Image size "))])
        facts: dict[str, Any] = {
            "format": (image.format or "").lower().replace("mpo", "jpeg"),
            "mode": image.mode,
            "width": image.width,
            "height": image.height,
            "channels": len(image.getbands()),
        }
        num_bytes = image.width * image.height * _BYTES_OF_MODES.get(image.mode, 1)
        if num_bytes > MAX_DECODED_BYTES:
            return Examined(facts, [("DC604", f"{num_bytes:,} bytes of pixels")])
        if image.format == "JPEG":
            facts["orientation"] = int(image.getexif().get(_ORIENTATION, 1))
            image.draft(image.mode, (max(1, image.width // _SHRINK), max(1, image.height // _SHRINK)))
        if image.format == "TIFF" and (num_stored := _num_stored(image)) < image.width * image.height:
            raise ValueError(f"only {num_stored:,} of its {image.width * image.height:,} pixels are stored")
        image.load()
        if image.format == "JPEG" and _ends_in_zeros(data):
            raise ValueError("it ends in zeros where its pixels should be")
        lists = {"values": np.asarray(image)} if image.mode == "F" else _distinct(image)
        faults = [("DC603", "every pixel has the same color")] if _is_one_color(image) else []
        _decode_frames(image)
        return Examined(facts, faults, lists)


def _ends_in_zeros(data: Any) -> bool:
    """Whether a JPEG whose space was reserved was not written to its end: zeros decode, and no end follows its pixels."""
    if any(data[-_NUM_ZEROS:]):
        return False
    whole = bytes(data)
    return whole.rfind(b"\xff\xd9") < whole.rfind(b"\xff\xda")


def _distinct(image: Image.Image) -> dict[str, np.ndarray[Any, Any]]:
    """The different pixels of an image that may be a mask of classes: one band of integers, compressed without loss."""
    if image.format in ("JPEG", "WEBP"):
        return {}
    if image.mode in ("L", "P"):
        return {"distinct": np.flatnonzero(image.histogram())}
    return (
        {"distinct": distinct(np.asarray(image).ravel()).astype(np.int64)} if image.mode in ("1", "I", "I;16") else {}
    )


def _float_pages(data: Any) -> list[Any]:
    """The pages of floats of a TIFF, if the library for it is installed; none of any other image.

    Pillow reads the first page only, and of floats only 32-bit ones.
    """
    if bytes(data[:4]) not in (b"II*\0", b"MM\0*"):
        return []
    try:
        import tifffile
    except ImportError:
        return []
    pages = list(islice(tifffile.TiffFile(io.BytesIO(data)).pages, _MAX_FRAMES))
    chosen = [page for page in pages if page.dtype is not None and page.dtype.kind == "f"]
    return chosen if chosen and chosen[0] is pages[0] else []


def _examine_float_tiff(pages: list[Any]) -> Examined:
    first = pages[0]
    facts = {
        "format": "tiff",
        # As Pillow calls it, where it reads the image, too.
        "mode": "F" if first.dtype.name == "float32" and first.samplesperpixel == 1 else first.dtype.name,
        "width": int(first.imagewidth),
        "height": int(first.imagelength),
        "channels": int(first.samplesperpixel),
    }
    if (num_bytes := sum(int(page.nbytes) for page in pages)) > MAX_DECODED_BYTES:
        return Examined(facts, [("DC604", f"{num_bytes:,} bytes of pixels")])
    for page in pages:
        if (num_stored := len(page.dataoffsets)) < (number := math.prod(page.chunked)):
            raise ValueError(f"only {num_stored:,} of its {number:,} strips are stored")
    values = np.concatenate([_without_nodata(page).reshape(-1) for page in pages])
    is_one = len(values) > 1 and bool((values == values[0]).all())
    return Examined(facts, [("DC603", "every pixel has the same value")] if is_one else [], {"values": values})


def _without_nodata(page: Any) -> np.ndarray[Any, Any]:
    """The pixels of a page that mean something, in float32; finite ones stay finite."""
    pixels = np.asarray(page.asarray())
    if page.tags.get(_NODATA) is not None:
        pixels = pixels[pixels != page.nodata]
    limit = np.finfo(np.float32).max
    return np.where(np.isfinite(pixels), np.clip(pixels, -limit, limit), pixels).astype(np.float32)


def decode_image(data: Any) -> np.ndarray[Any, Any]:
    """The pixels of an image: ``(height, width)``, or ``(height, width, channels)``; of several pages of floats, one by one."""
    if pages := _float_pages(data):
        if sum(int(page.nbytes) for page in pages) > MAX_DECODED_BYTES:
            raise ValueError("a TIFF of so many pixels is too large to decode")
        return np.stack([page.asarray() for page in pages]) if len(pages) > 1 else np.asarray(pages[0].asarray())
    with _open(data) as image:
        if image.width * image.height * _BYTES_OF_MODES.get(image.mode, 1) > MAX_DECODED_BYTES:
            raise ValueError(f"an image of {image.width:,} x {image.height:,} pixels is too large to decode")
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def sizes_of(data: Any) -> list[tuple[int, int]]:
    """The width and height of an image by its header: as it is stored, and as its Exif turns it."""
    with _open(data) as image:
        is_turned = image.getexif().get(_ORIENTATION, 1) >= 5
        return [image.size, image.size[::-1]] if is_turned else [image.size]


def _open(data: Any) -> Image.Image:
    # That many pixels are a bomb is decided here, and not by how the process treats warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        try:
            return Image.open(io.BytesIO(data), formats=_FORMATS)
        except UnidentifiedImageError:
            # Its own message has the address of an object, which differs from run to run.
            raise ValueError("it is not an image of a known format") from None


def _num_stored(image: Any) -> int:
    """The pixels in the tiles and strips of a TIFF; Pillow leaves those black that are in none."""
    return sum((right - left) * (lower - upper) for left, upper, right, lower in (tile[1] for tile in image.tile))


def _is_one_color(image: Image.Image) -> bool:
    if image.width * image.height < 2:
        return False
    extremes = image.getextrema()
    pairs: Any = extremes if isinstance(extremes[0], tuple) else (extremes,)
    return all(low == high for low, high in pairs)


def _decode_frames(image: Image.Image) -> None:
    """Decode the other frames of an animation or the other pages of a file."""
    if not getattr(image, "is_animated", False):
        return
    for frame in range(1, _MAX_FRAMES):
        try:
            image.seek(frame)
        except EOFError:
            return
        image.load()
