"""What a SafeDataset costs: time for each sample, the rate of a loader, memory, and a set with bad samples in it.

``python -m benchmarks loader`` times it and its peers in turns, on samples that are at hand, and prints what each adds to
the bare data set. ``--quick`` takes few samples.
"""

from __future__ import annotations

import argparse
import gc
import io
import os
import statistics
import tempfile
import time
import tracemalloc
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.results import Claim, Section, render_section, render_summary
from benchmarks.timing import Contender, Timing, race

__all__ = ["main"]

BARE, SAFE = "the bare data set", "SafeDataset"
TORCH, NUMPY = "torch.isfinite(x).all()", "np.isfinite(x.numpy()).all()"
BATCH = 256


def main(arguments: list[str] | None = None) -> int:
    """Time the loader and its peers, and print ratios and targets."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loader", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few samples, to see that it runs")
    asked = parser.parse_args(arguments)
    try:
        import torch
    except ImportError:
        print("loader: torch is not installed")
        return 0
    threads = torch.get_num_threads()
    # A worker of a DataLoader has one thread.
    torch.set_num_threads(1)
    scale = 0.1 if asked.quick else 1.0
    sections = [_image(scale), _dict(scale), _batched(scale)]
    with tempfile.TemporaryDirectory() as folder:
        sections += _jpegs(Path(folder), scale)
    sections.append(_memory(scale))
    torch.set_num_threads(threads)
    print(render_summary(sections))
    return 0


class Given:
    """A data set of samples that are at hand: whatever a loop over it takes beyond a list is what is measured."""

    def __init__(self, samples: list[Any], size: int) -> None:
        self.samples, self.size = samples, size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return self.samples[index % len(self.samples)]


class GivenTogether(Given):
    """The same, also many at a time."""

    def __getitems__(self, indices: list[int]) -> list[Any]:
        samples, number = self.samples, len(self.samples)
        return [samples[index % number] for index in indices]


class Checked:
    """What people write by hand: a data set that tests each sample."""

    def __init__(self, inner: Any, is_finite: Callable[[Any], bool]) -> None:
        self.inner, self.is_finite = inner, is_finite

    def __len__(self) -> int:
        return len(self.inner)

    def __getitem__(self, index: int) -> Any:
        sample = self.inner[index]
        if not self.is_finite(sample):
            raise ValueError(f"sample {index} is not finite")
        return sample


def _torch_is_finite(sample: Any) -> bool:
    import torch

    if isinstance(sample, dict):
        return all(map(_torch_is_finite, sample.values()))
    if isinstance(sample, tuple):
        return all(map(_torch_is_finite, sample))
    return bool(torch.isfinite(torch.as_tensor(sample)).all())


def _numpy_is_finite(sample: Any) -> bool:
    if isinstance(sample, dict):
        return all(map(_numpy_is_finite, sample.values()))
    return bool(np.isfinite(np.asarray(sample)).all())


def _race_of_sets(sets: dict[str, Any], size: int) -> dict[str, Timing]:
    def run(dataset: Any) -> Callable[[], None]:
        def loop() -> None:
            for index in range(size):
                dataset[index]

        return loop

    return race([Contender(name, run(dataset)) for name, dataset in sets.items()], num_rows=size)


def _added(timings: dict[str, Timing], name: str, size: int) -> tuple[float, float]:
    """Microseconds a sample beyond those of the bare data set, by medians and by best rounds."""
    ours, bare = timings[name], timings[BARE]
    return (ours.median - bare.median) / size * 1e6, (ours.best - bare.best) / size * 1e6


def _added_claim(timings: dict[str, Timing], name: str, size: int, target: float | None = None) -> Claim:
    median, best = _added(timings, name, size)
    return Claim(f"{name} adds", median, target, unit="us a sample", best=best)


def _times_cheaper(timings: dict[str, Timing], peer: str, size: int, target: float | None = None) -> Claim:
    ours, theirs = _added(timings, SAFE, size), _added(timings, peer, size)
    what = f"{SAFE} is cheaper than {peer}"
    return Claim(what, theirs[0] / ours[0], target, True, "times", theirs[1] / ours[1])


def _image(scale: float) -> Section:
    import torch

    from datacheck.torch import SafeDataset

    size = int(2000 * scale)
    inner = Given([torch.randn(3, 224, 224) for _ in range(2)], size)
    sets = {
        BARE: inner,
        SAFE: SafeDataset(inner),
        NUMPY: Checked(inner, _numpy_is_finite),
        TORCH: Checked(inner, _torch_is_finite),
    }
    section = Section("loader-image", "a 3 x 224 x 224 float32 sample, one thread")
    timings = _race_of_sets(sets, size)
    section.add_timings(timings.values())
    section.claims = [
        _added_claim(timings, SAFE, size, 25.0),
        _added_claim(timings, NUMPY, size),
        _added_claim(timings, TORCH, size),
        _times_cheaper(timings, TORCH, size, 10.0),
    ]
    return _shown(section)


def _samples_of_eight() -> list[dict[str, Any]]:
    import torch

    return [
        {
            **{f"scalar{place}": float(place) for place in range(3)},
            "label": torch.tensor(3),
            "weight": np.float32(1.5),
            **{f"vector{place}": torch.randn(4) for place in range(3)},
        }
        for _ in range(BATCH)
    ]


def _dict(scale: float) -> Section:
    from datacheck.torch import SafeDataset

    size = int(20_000 * scale)
    inner = Given(_samples_of_eight(), size)
    fields = {
        **{f"scalar{place}": {"ge": -100, "le": 100} for place in range(3)},
        "label": {"dtype": "int64", "ge": 0, "lt": 10},
        "weight": {"dtype": "float32", "ge": 0},
        **{f"vector{place}": {"dtype": "float32", "shape": [4], "ge": -100, "le": 100} for place in range(3)},
    }
    with_schema = f"{SAFE}, a schema with bounds"
    sets = {
        BARE: inner,
        SAFE: SafeDataset(inner),
        with_schema: SafeDataset(inner, schema={"fields": fields}),
        NUMPY: Checked(inner, _numpy_is_finite),
        TORCH: Checked(inner, _torch_is_finite),
    }
    section = Section("loader-dict", "a dict of 8 scalars and small vectors, one thread")
    timings = _race_of_sets(sets, size)
    section.add_timings(timings.values())
    section.claims = [
        _added_claim(timings, SAFE, size, 15.0),
        _added_claim(timings, with_schema, size, 15.0),
        _added_claim(timings, NUMPY, size),
        _added_claim(timings, TORCH, size),
        _times_cheaper(timings, TORCH, size),
    ]
    return _shown(section)


def _batched(scale: float) -> Section:
    from datacheck.torch import SafeDataset

    num_batches = max(1, int(80 * scale))
    size = num_batches * BATCH
    inner = GivenTogether(_samples_of_eight(), size)
    batches = [list(range(start, start + BATCH)) for start in range(0, size, BATCH)]
    safe = SafeDataset(inner)

    def run(dataset: Any) -> Callable[[], None]:
        def loop() -> None:
            for batch in batches:
                dataset.__getitems__(batch)

        return loop

    section = Section("loader-batched", f"the same dict through __getitems__ in batches of {BATCH}")
    timings = race([Contender(BARE, run(inner)), Contender(SAFE, run(safe))], num_rows=size)
    section.add_timings(timings.values())
    section.claims = [_added_claim(timings, SAFE, size, 3.0)]
    return _shown(section)


class Pictures:
    """JPEGs from files, decoded and normalised as torchvision does it; at the places of ``nan`` a pixel comes out as NaN."""

    def __init__(self, folder: Path, size: int, nan: frozenset[int] = frozenset()) -> None:
        self.files = [str(folder / f"{index % 64:03d}.jpg") for index in range(size)]
        self.nan = nan

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> Any:
        import torch
        from PIL import Image

        with Path(self.files[index]).open("rb") as file:
            picture = Image.open(file).convert("RGB")
        pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous().float().div_(255)
        pixels.sub_(torch.tensor([[[0.485]], [[0.456]], [[0.406]]])).div_(
            torch.tensor([[[0.229]], [[0.224]], [[0.225]]])
        )
        if index in self.nan:
            pixels[0, 0, 0] = float("nan")
        return pixels, index % 10


def _jpegs(folder: Path, scale: float) -> list[Section]:
    try:
        from PIL import Image
    except ImportError:
        print("Pillow is not installed: the benchmarks with JPEGs are left out\n")
        return []
    rng = np.random.default_rng(0)
    for index in range(64):
        # Like a photograph: smooth shapes, and the noise of a sensor.
        shapes = np.asarray(Image.fromarray(rng.integers(0, 255, (28, 28, 3), np.uint8)).resize((224, 224)), np.int16)
        pixels = (shapes + rng.integers(-12, 12, shapes.shape)).clip(0, 255).astype(np.uint8)
        stream = io.BytesIO()
        Image.fromarray(pixels).save(stream, "JPEG", quality=90)
        (folder / f"{index:03d}.jpg").write_bytes(stream.getvalue())
    # What a worker does once, such as to touch memory that it has from its parent, is no rate: epochs are not too short.
    size, rounds = int(2000 * scale), max(2, int(11 * scale))
    return [_jpeg_rate(folder, size, rounds), _bad_rate(folder, size, rounds)]


def _epochs(dataset: Any) -> Callable[[], int]:
    from torch.utils.data import DataLoader

    loader = DataLoader(dataset, batch_size=50, num_workers=2)
    return lambda: sum(len(labels) for _, labels in loader)


def _turns(contenders: list[Contender], num_rounds: int, num_rows: int) -> tuple[dict[str, Timing], dict[str, float]]:
    """Like :func:`race`, with more rounds, and the processor time of an epoch too.

    Epochs in two workers vary more than anything in one thread, and most of all where others use the machine; the time that
    the processors spent on them varies less.
    """
    seconds: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    spent: dict[str, list[float]] = {contender.name: [] for contender in contenders}
    for number in range(num_rounds + 1):
        # Each is first as often as the others.
        for contender in contenders[number % len(contenders) :] + contenders[: number % len(contenders)]:
            if contender.prepare is not None:
                contender.prepare()
            begin, processors = time.perf_counter(), sum(os.times()[:4])
            if contender.run() != contender.expected:
                raise AssertionError(f"{contender.name}: samples are missing")
            if number:
                seconds[contender.name].append(time.perf_counter() - begin)
                spent[contender.name].append(sum(os.times()[:4]) - processors)
    timings = {name: Timing(name, tuple(taken), num_rows=num_rows) for name, taken in seconds.items()}
    return timings, {name: statistics.median(taken) for name, taken in spent.items()}


def _rate_claims(
    turns: tuple[dict[str, Timing], dict[str, float]], name: str, peer: str, target: float | None
) -> list[Claim]:
    """The rate against a peer: the median of the ratios in each round, since what disturbs a round disturbs both."""
    timings, spent = turns
    rates = [theirs / ours for ours, theirs in zip(timings[name].seconds, timings[peer].seconds, strict=True)]
    best = timings[peer].best / timings[name].best
    return [
        Claim(f"{name} against {peer}", statistics.median(rates), target, True, "of the rate", best),
        Claim("   by processor time", spent[peer] / spent[name], unit="of the rate"),
    ]


def _jpeg_rate(folder: Path, size: int, rounds: int) -> Section:
    from datacheck.torch import SafeDataset

    inner = Pictures(folder, size)
    contenders = [
        Contender(BARE, _epochs(inner), size),
        Contender(SAFE, _epochs(SafeDataset(inner)), size),
        Contender(TORCH, _epochs(Checked(inner, _torch_is_finite)), size),
    ]
    section = Section("loader-jpeg", "a DataLoader over JPEGs of 224 x 224, 2 workers")
    turns = _turns(contenders, rounds, size)
    section.add_timings(turns[0].values())
    section.claims = [*_rate_claims(turns, SAFE, BARE, 0.98), *_rate_claims(turns, TORCH, BARE, None)]
    return _shown(section)


def _bad_rate(folder: Path, size: int, rounds: int) -> Section:
    from datacheck.torch import SafeDataset

    nan = frozenset(range(7, size, 100))
    first, later, clean = "1 % bad, first epoch", "1 % bad, later epochs", "clean"
    known = SafeDataset(Pictures(folder, size, nan), max_bad_fraction=0.05)
    fresh: list[Callable[[], int]] = []

    def forget() -> None:
        fresh[:] = [_epochs(SafeDataset(Pictures(folder, size, nan), max_bad_fraction=0.05))]

    contenders = [
        Contender(clean, _epochs(SafeDataset(Pictures(folder, size))), size),
        Contender(first, lambda: fresh[0](), size, forget),
        Contender(later, _epochs(known), size),
    ]
    section = Section(
        "loader-bad",
        f"{len(nan)} of {size:,} JPEGs are bad, SafeDataset in 2 workers",
        ["In the first epoch a bad sample is looked at twice and another one is loaded for it: two loads more."],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        turns = _turns(contenders, rounds, size)
    if known.report().num_bad != len(nan):
        raise AssertionError(f"{known.report().num_bad} of {len(nan)} bad samples were found")
    section.add_timings(turns[0].values())
    section.claims = [*_rate_claims(turns, first, clean, 0.97), *_rate_claims(turns, later, clean, 0.97)]
    return _shown(section)


class Huge:
    """10 million numbers, of which every ten-thousandth is NaN."""

    def __len__(self) -> int:
        return 10_000_000

    def __getitem__(self, index: int) -> float:
        return float("nan") if index % 10_000 == 0 else float(index)


def _memory(scale: float) -> Section:
    from datacheck.torch import SafeDataset

    section = Section(
        "loader-memory",
        "10 million samples, 1,000 of them bad",
        ["Python's and NumPy's allocations by tracemalloc, from the making of the data set on."],
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tracemalloc.start()
        safe: Any = SafeDataset(Huge(), max_bad_fraction=1.0)

        def epoch() -> float:
            for index in range(0, 10_000_000, 10_000):
                safe[index]
            gc.collect()
            return tracemalloc.get_traced_memory()[0] / 1e6

        first = epoch()
        good = safe.compact()
        if len(good) != 10_000_000 - 1000 or len(safe.report().samples) != 1000:
            raise AssertionError("the bad samples were not found")
        peak = tracemalloc.get_traced_memory()[1] / 1e6
        later = [epoch() for _ in range(max(1, int(5 * scale)))][-1]
        tracemalloc.stop()
    section.claims = [
        Claim("held after an epoch", first, 16.0, unit="MB"),
        Claim("most at a time, with compact() and report()", peak, unit="MB"),
        Claim("growth over further epochs", later - first, 0.5, unit="MB"),
    ]
    return _shown(section)


def _shown(section: Section) -> Section:
    print(render_section(section), flush=True)
    return section


if __name__ == "__main__":
    raise SystemExit(main())
