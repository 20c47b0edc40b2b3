"""Images, by Pillow: decoded to the end, since a header says nothing about what follows it."""

from __future__ import annotations

import io
import threading
import warnings
from contextlib import ExitStack
from typing import Any

import numpy as np
from PIL import Image, ImageFile

from datacheck.sources.examined import MAX_DECODED_BYTES, Examined

__all__ = ["decode_image", "examine_image"]

#: What is decoded; others, such as EPS, run programs.
_FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")
#: Later frames of an animation are not decoded.
_MAX_FRAMES = 64
_ORIENTATION = 274
#: JPEG is decoded at an eighth of its size, which takes a fifth of the time and reads all of its bytes.
_SHRINK = 8
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
        image.load()
        values = np.asarray(image) if image.mode == "F" else None
        faults = [("DC603", "every pixel has the same color")] if _is_one_color(image) else []
        _decode_frames(image)
        return Examined(facts, faults, values)


def decode_image(data: Any) -> np.ndarray[Any, Any]:
    """The pixels of an image: ``(height, width)``, or ``(height, width, channels)``."""
    with _open(data) as image:
        if image.width * image.height * _BYTES_OF_MODES.get(image.mode, 1) > MAX_DECODED_BYTES:
            raise ValueError(f"an image of {image.width:,} x {image.height:,} pixels is too large to decode")
        return np.asarray(image.convert("RGB") if image.mode == "P" else image)


def _open(data: Any) -> Image.Image:
    # That many pixels are a bomb is decided here, and not by how the process treats warnings.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(io.BytesIO(data), formats=_FORMATS)


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
