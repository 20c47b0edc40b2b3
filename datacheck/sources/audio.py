"""Recordings, by soundfile: read to the end, with the length that the header gives compared with what is there."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import soundfile

from datacheck.sources.examined import MAX_DECODED_BYTES, Examined

_BLOCK_FRAMES = 1 << 16
#: Samples at full scale, of all, that make a recording a clipped one; and the level below which it is silent.
_CLIPPED_SHARE, _SILENCE = 1e-3, 1e-4
_FULL_SCALE = 0.9999


def examine_audio(data: Any) -> Examined:
    """Read a recording. Whatever keeps it from being read is an exception."""
    faults = []
    problem, stored = _samples_of_wav(data)
    if problem is not None:
        faults.append(("DC601", problem))
    with _opened(data) as file:
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
        # The floats of a WAV file are checked where they are: a copy would hold the recording twice.
        is_in_place = is_float
        num_samples = num_clipped = 0
        peak = 0.0
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32")):
            is_in_place = is_in_place and _is_stored_as(block, stored[num_samples * 4 : (num_samples + block.size) * 4])
            num_samples += block.size
            level = max(float(block.max()), -float(block.min()))
            if not level < _FULL_SCALE:
                levels = np.abs(block[np.isfinite(block)])
                num_clipped += int(np.count_nonzero(levels >= _FULL_SCALE))
                level = float(levels.max(initial=0.0))
            peak = max(peak, level)
        values = None
        if num_samples and is_in_place:
            values = np.require(np.frombuffer(stored, "<f4", num_samples), np.float32, "A")
        elif num_samples and is_float:
            file.seek(0)
            values = file.read(dtype="float32").reshape(-1)
    if num_samples and peak < _SILENCE:
        faults.append(("DC605", f"no sample is above {peak:.2g} of full scale"))
    elif num_clipped > num_samples * _CLIPPED_SHARE and (not is_float or peak > 1):
        faults.append(("DC606", f"{num_clipped:,} of {num_samples:,} samples are at or beyond full scale"))
    return Examined(facts, faults, {} if values is None else {"values": values})


def decode_audio(data: Any) -> np.ndarray[Any, Any]:
    """The samples of a recording as float32: ``(frames,)``, or ``(frames, channels)``."""
    if (problem := _samples_of_wav(data)[0]) is not None:
        raise ValueError(problem)
    with _opened(data) as file:
        if file.frames * file.channels * 4 > MAX_DECODED_BYTES:
            raise ValueError(f"a recording of {file.frames:,} frames is too large to decode")
        return np.asarray(file.read(dtype="float32"))


def _opened(data: Any) -> soundfile.SoundFile:
    """A recording in memory, which is not copied."""
    return soundfile.SoundFile(_Recording(pa.py_buffer(data)))


class _Recording(pa.BufferReader):  # type: ignore[misc] # pyarrow has no types
    """Bytes in memory. libsndfile asks for places beyond them where a header lies, and would print an error of a seek."""

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        start = (0, self.tell(), self.size())[whence]
        return int(super().seek(min(max(start + position, 0), self.size())))


def _is_stored_as(block: np.ndarray[Any, Any], stored: memoryview) -> bool:
    return len(stored) == block.nbytes and np.array_equal(block.reshape(-1).view("<u4"), np.frombuffer(stored, "<u4"))


def _samples_of_wav(data: Any) -> tuple[str | None, memoryview]:
    """What is wrong with the length of a WAV file, which readers take as it comes (None: nothing), and its samples' bytes.

    Of any other file, nothing is wrong, and there are none.
    """
    view = memoryview(data).cast("B")
    if bytes(view[:4]) != b"RIFF" or bytes(view[8:12]) != b"WAVE":
        return None, view[:0]
    at = 12
    while at + 8 <= len(view):
        name, size = bytes(view[at : at + 4]), int.from_bytes(view[at + 4 : at + 8], "little")
        if name == b"data":
            samples = view[at + 8 :]
            # A recorder that streams does not know the length, and writes none or the largest.
            if size in (0, 0xFFFFFFFF, 0x7FFFFFFF) or size >= 0xFFFFFF00 or size <= len(samples):
                return None, samples
            problem = f"truncated: its header says {size:,} bytes of samples, but there are {len(samples):,}"
            return problem, samples
        at += 8 + size + size % 2
    return None, view[:0]
