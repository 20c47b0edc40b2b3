"""Recordings, by soundfile: read to the end, with the length that the header gives compared with what is there."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import soundfile

from datacheck.sources.examined import MAX_DECODED_BYTES, Examined

__all__ = ["decode_audio", "examine_audio"]

_BLOCK_FRAMES = 1 << 16
#: Samples at full scale, of all, that make a recording a clipped one; and the level below which it is silent.
_CLIPPED_SHARE, _SILENCE = 1e-3, 1e-4
_FULL_SCALE = 0.9999


def examine_audio(data: Any) -> Examined:
    """Read a recording. Whatever keeps it from being read is an exception."""
    faults = []
    if (problem := _truncated(data)) is not None:
        faults.append(("DC601", problem))
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        facts: dict[str, Any] = {
            "format": file.format.lower().replace("wavex", "wav").replace("mpeg", "mp3"),
            "encoding": file.subtype.lower(),
            "sample_rate": int(file.samplerate),
            "channels": int(file.channels),
            "seconds": file.frames / file.samplerate if file.samplerate else 0.0,
        }
        if file.frames * file.channels * 4 > MAX_DECODED_BYTES:
            return Examined(facts, [*faults, ("DC604", f"{file.frames:,} frames")])
        is_float = file.subtype in ("FLOAT", "DOUBLE")
        blocks = []
        num_samples = num_clipped = 0
        peak = 0.0
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32")):
            levels = np.abs(block[np.isfinite(block)])
            num_samples += block.size
            num_clipped += int(np.count_nonzero(levels >= _FULL_SCALE))
            peak = max(peak, float(levels.max(initial=0.0)))
            if is_float:
                blocks.append(block.reshape(-1))
    if num_samples and peak < _SILENCE:
        faults.append(("DC605", f"no sample is above {peak:.2g} of full scale"))
    elif num_clipped > num_samples * _CLIPPED_SHARE and (not is_float or peak > 1):
        faults.append(("DC606", f"{num_clipped:,} of {num_samples:,} samples are at or beyond full scale"))
    return Examined(facts, faults, np.concatenate(blocks) if blocks else None)


def decode_audio(data: Any) -> np.ndarray[Any, Any]:
    """The samples of a recording as float32: ``(frames,)``, or ``(frames, channels)``."""
    if (problem := _truncated(data)) is not None:
        raise ValueError(problem)
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        if file.frames * file.channels * 4 > MAX_DECODED_BYTES:
            raise ValueError(f"a recording of {file.frames:,} frames is too large to decode")
        return np.asarray(file.read(dtype="float32"))


def _truncated(data: Any) -> str | None:
    """What is wrong with the length of a WAV file, which readers take as it comes; None if nothing is."""
    view = memoryview(data)
    if bytes(view[:4]) != b"RIFF" or bytes(view[8:12]) != b"WAVE":
        return None
    at = 12
    while at + 8 <= len(view):
        name, size = bytes(view[at : at + 4]), int.from_bytes(view[at + 4 : at + 8], "little")
        if name == b"data":
            there = len(view) - at - 8
            # A recorder that streams does not know the length, and writes none or the largest.
            is_open = size in (0, 0xFFFFFFFF, 0x7FFFFFFF) or size >= 0xFFFFFF00
            return (
                None
                if is_open or size <= there
                else f"truncated: its header says {size:,} bytes of samples, {there:,} are there"
            )
        at += 8 + size + size % 2
    return None
