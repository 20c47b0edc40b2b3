"""Iterable datasets: replaced in step or skipped, resumed, and never cut short in silence."""

from __future__ import annotations

import gc
import io
import tarfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from loader_sets import GeneratorStream, Listed, Numbered, Stream, ended, safe_of
from torch.utils.data import DataLoader, IterableDataset

from datacheck.errors import UsageError
from datacheck.torch import (
    BadSampleError,
    BadSampleWarning,
    SafeCollate,
    SafeDataset,
    TooManyBadSamplesError,
    batch_origins,
    continue_and_report,
)

pytestmark = [
    pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
    # What torchdata 0.11 calls, and torch 2.13 no longer likes.
    pytest.mark.filterwarnings("ignore:'set_vital' is deprecated:UserWarning"),
]


def test_a_stream_stays_a_stream() -> None:
    safe = safe_of(Stream(Numbered(5)))
    assert isinstance(safe, IterableDataset)
    assert isinstance(safe, SafeDataset)
    assert [index for _, index in safe] == [0, 1, 2, 3, 4]
    with pytest.raises(TypeError, match="no index"):
        safe[0]
    for refused in (safe.check, safe.compact):
        with pytest.raises(UsageError, match="iterable"):
            refused()


def test_skip_leaves_bad_samples_out() -> None:
    safe = safe_of(Stream(Numbered(8, nan=(2,), broken=(5,))), on_bad="skip")
    assert [index for _, index in safe] == [0, 1, 3, 4, 6, 7]
    report = safe.report()
    assert [(sample.index, sample.codes) for sample in report.samples] == [(2, ("DC101",)), (5, ("DC901",))]
    assert report.num_samples is None
    assert "a stream" in str(report)


@pytest.mark.parametrize("bad", [(4, 5), (0, 1), (0,), (9,), tuple(range(5))])
def test_replace_keeps_the_number_of_samples(bad: tuple[int, ...]) -> None:
    safe = safe_of(Stream(Numbered(10, nan=bad)))
    given = [index for _, index in safe]
    assert len(given) == 10
    assert set(given).isdisjoint(bad)
    assert [index for _, index in safe] == given
    assert safe.report().counts["replaced"] == 2 * len(bad)


def test_a_stream_without_a_good_sample_is_an_error() -> None:
    safe = safe_of(Stream(Numbered(3, nan=(0, 1, 2))))
    with pytest.raises(BadSampleError, match="no good sample"):
        list(safe)


def test_a_replacement_is_a_copy() -> None:
    shared = {"x": torch.ones(2)}
    first, second = safe_of(Stream(Listed([shared, {"x": torch.tensor([float("nan")])}])))
    assert second is not first
    assert second["x"] is not first["x"]


def test_raise_names_the_position_in_the_stream() -> None:
    with pytest.raises(BadSampleError, match="sample 2: DC101"):
        list(safe_of(Stream(Numbered(5, nan=(2,))), on_bad="raise"))


def test_repair_works_in_streams() -> None:
    safe = safe_of(Stream(Numbered(5, nan=(2,))), on_bad="repair", cleaning=[{"action": "nan_to_num", "nan": 7}])
    assert [vector.tolist() for vector, _ in safe][2] == [2.0, 2.0, 7.0, 2.0]


def test_workers_report_their_shares() -> None:
    safe = safe_of(Stream(Numbered(40, nan=(4, 7), broken=(20,))), on_bad="skip")
    loader = DataLoader(safe, batch_size=5, num_workers=2, multiprocessing_context="fork", collate_fn=SafeCollate())
    indices = []
    for batch in loader:
        origins = batch_origins(batch)
        assert origins is not None
        assert len(origins) == len(batch[1])
        indices += batch[1].tolist()
    assert sorted(indices) == [index for index in range(40) if index not in (4, 7, 20)]
    # Worker 0 has the even numbers: 4 is its third sample, and 20 its eleventh.
    assert {(sample.worker, sample.index) for sample in safe.report().samples} == {(0, 2), (1, 3), (0, 10)}
    assert all(f"[worker {sample.worker}]" in str(safe.report()) for sample in safe.report().samples)


def test_a_generator_that_raised_is_reported_as_ended() -> None:
    for policy in ("skip", "replace"):
        safe = safe_of(GeneratorStream(Numbered(10, broken=(4,))), on_bad=policy)
        with pytest.raises(BadSampleError, match=r"generator, which cannot continue.*continue_and_report") as told:
            list(safe)
        assert isinstance(told.value.__cause__, ValueError)
        assert told.value.index == 4


def test_a_stream_that_ends_after_an_error_warns() -> None:
    class Wrapped(Stream):
        def __iter__(self) -> Iterator[Any]:
            return map(tuple, iter(GeneratorStream(self.inner)))

    with pytest.warns(BadSampleWarning, match="ended right after it raised"):
        assert len(list(safe_of(Wrapped(Numbered(10, broken=(4,))), on_bad="skip"))) == 4


def test_errors_in_transform_do_not_end_the_stream() -> None:
    def double(sample: Any) -> Any:
        if sample[1] == 4:
            raise ValueError("no")
        return sample[0] * 2, sample[1]

    safe = safe_of(GeneratorStream(Numbered(10)), on_bad="skip", transform=double)
    assert [index for _, index in safe] == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_too_many_bad_samples_in_a_stream_raise() -> None:
    safe = SafeDataset(Stream(Numbered(5000, nan=tuple(range(0, 5000, 20)))), on_bad="skip")
    with pytest.raises(TooManyBadSamplesError, match="11 samples of the 201 seen so far"):
        list(safe)


def test_transient_errors_are_retried() -> None:
    class Flaky(Stream):
        def __iter__(self) -> Iterator[Any]:
            return Passing()

    class Passing(Iterator[Any]):
        place, left = 0, 2

        def __next__(self) -> Any:
            if self.place == 3 and self.left:
                self.left -= 1
                raise ConnectionResetError("reset")
            if self.place == 6:
                raise StopIteration
            self.place += 1
            return self.place

    safe = safe_of(Flaky(Numbered(0)))
    assert list(safe) == [1, 2, 3, 4, 5, 6]
    assert safe.report().counts["retried"] == 2
    assert not safe.report().samples


class Stateful(Stream):
    """Keeps its own state, as Hugging Face's iterable sets do."""

    def __init__(self, inner: Any) -> None:
        super().__init__(inner)
        self.start = 0
        self.place = 0

    def __iter__(self) -> Iterator[Any]:
        self.place, self.start = self.start, 0
        while self.place < len(self.inner):
            self.place += 1
            yield self.inner[self.place - 1]

    def state_dict(self) -> dict[str, int]:
        return {"place": self.place}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.start = state["place"]


stateful = pytest.importorskip("torchdata.stateful_dataloader")


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [Stream, Stateful])
@pytest.mark.parametrize(("policy", "stop"), [("skip", 4), ("replace", 1), ("replace", 4), ("replace", 8)])
def test_a_stream_resumes_where_it_was(num_workers: int, kind: type[Stream], policy: str, stop: int) -> None:
    def loader_of() -> Any:
        safe = safe_of(kind(Numbered(40, nan=(0, 9, 10, 31, 37, 38))), on_bad=policy)
        context = "fork" if num_workers else None
        return stateful.StatefulDataLoader(safe, batch_size=4, num_workers=num_workers, multiprocessing_context=context)

    whole = [batch[1].tolist() for batch in loader_of()]
    loader = loader_of()
    begun = []
    for batch in loader:
        begun.append(batch[1].tolist())
        if len(begun) == stop:
            state = loader.state_dict()
            break
    with ended(loader._iterator):
        resumed = loader_of()
        resumed.load_state_dict(state)
        rest = [batch[1].tolist() for batch in resumed]
    assert begun == whole[:stop]
    if policy == "skip" or kind is Stream or (stop == 8 and num_workers):
        assert rest == whole[stop:]
    else:
        # Without an earlier state, those before this one are not there to stand in for a bad sample after it; a worker has
        # one after each batch.
        given = [index for batch in rest for index in batch]
        expected = [index for batch in whole[stop:] for index in batch]
        assert len(given) == len(expected)
        assert sum(one != other for one, other in zip(given, expected, strict=True)) <= 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_map_style_dataset_resumes_with_its_bad_samples(num_workers: int) -> None:
    def loader_of(inner: Numbered) -> Any:
        context = "fork" if num_workers else None
        safe = safe_of(inner)
        loader = stateful.StatefulDataLoader(
            safe, batch_size=5, num_workers=num_workers, multiprocessing_context=context
        )
        return safe, loader

    safe, loader = loader_of(Numbered(40, nan=(3, 30)))
    safe.set_epoch(2)
    whole = [batch[1].tolist() for batch in loader]
    safe, loader = loader_of(Numbered(40, nan=(3, 30)))
    safe.set_epoch(2)
    for number, _ in enumerate(loader):
        if number == 2:
            state = loader.state_dict()
            break
    inner = Numbered(40, nan=(3, 30))
    resumed_safe, resumed = loader_of(inner)
    with ended(loader._iterator):
        resumed.load_state_dict(state)
        rest = [batch[1].tolist() for batch in resumed]
    assert rest == whole[3:]
    assert inner.loads.get(3) is None
    assert resumed_safe.report().bad_indices == (3, 30)


def test_a_state_of_something_else_is_refused() -> None:
    for state in ({}, {"version": 2}, {"version": 1, "samples": [3], "epoch": 0}):
        with pytest.raises(UsageError, match="state"):
            safe_of(Numbered(3)).load_state_dict(state)


datasets = pytest.importorskip("datasets")


def hugging_face() -> Any:
    x = np.arange(40, dtype=np.float32).reshape(20, 2)
    x[7, 1] = np.nan
    return datasets.Dataset.from_dict({"x": x.tolist(), "label": list(range(20)), "text": ["a"] * 20})


@pytest.mark.parametrize("format_", [None, "torch", "numpy"])
@pytest.mark.parametrize("num_workers", [0, 1])
def test_hugging_face_datasets(format_: str | None, num_workers: int) -> None:
    inner = hugging_face() if format_ is None else hugging_face().with_format(format_)
    schema = {"fields": {"label": {"ge": 0, "lt": 20}, "x": {"ge": 0}, "text": {"dtype": "string"}}}
    safe = safe_of(inner, schema=schema, name="rows")
    loader = DataLoader(
        safe, batch_size=10, num_workers=num_workers, multiprocessing_context="fork" if num_workers else None
    )
    labels = [label for batch in loader for label in batch["label"].tolist()]
    assert [place for place in range(20) if labels[place] != place] == [7]
    (sample,) = safe.report().samples
    assert (sample.index, sample.codes, sample.findings[0].field) == (7, ("DC101",), "x")
    assert safe_of(hugging_face()).report().num_samples == 20


def test_hugging_face_streams() -> None:
    inner = hugging_face().to_iterable_dataset().with_format("torch")
    safe = safe_of(inner, on_bad="skip")
    assert [int(sample["label"]) for sample in safe] == [index for index in range(20) if index != 7]
    loader = stateful.StatefulDataLoader(safe_of(inner, on_bad="skip"), batch_size=4)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    resumed = stateful.StatefulDataLoader(safe_of(inner, on_bad="skip"), batch_size=4)
    resumed.load_state_dict(state)
    assert [batch["label"].tolist() for batch in resumed] == [
        [4, 5, 6, 8],
        [9, 10, 11, 12],
        [13, 14, 15, 16],
        [17, 18, 19],
    ]


webdataset = pytest.importorskip("webdataset")
image = pytest.importorskip("PIL.Image")


def jpeg(value: int) -> bytes:
    stream = io.BytesIO()
    image.new("RGB", (8, 8), (value, 0, 0)).save(stream, "JPEG")
    return stream.getvalue()


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of 12 samples; the JPEGs of 3 and 4 are cut short, and the weight of 9 is NaN."""
    path = tmp_path_factory.mktemp("shards") / "train-000.tar"
    with tarfile.open(path, "w") as archive:
        for index in range(12):
            picture = jpeg(index)[: 40 if index in (3, 4) else None]
            weight = b"nan" if index == 9 else b"1.5"
            for name, data in (("jpg", picture), ("cls", str(index).encode()), ("weight.txt", weight)):
                info = tarfile.TarInfo(f"{index:03d}.{name}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return path


@pytest.fixture
def _closed_shards() -> Iterator[None]:
    """WebDataset leaves the file of a pass to the garbage collector."""
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def leaves_files_open(test: Any) -> Any:
    for mark in (
        pytest.mark.usefixtures("_closed_shards"),
        pytest.mark.filterwarnings("ignore::ResourceWarning"),
        pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    ):
        test = mark(test)
    return test


def with_weight(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "weight": float(sample.pop("weight.txt"))}


@leaves_files_open
def test_a_webdataset_pipeline_continues_and_reports_every_bad_sample(shard: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = (
            webdataset.WebDataset(str(shard), shardshuffle=False, handler=continue_and_report)
            .decode("torchrgb", handler=continue_and_report)
            .map(with_weight, handler=continue_and_report)
        )
    safe = safe_of(pipeline, on_bad="skip")
    assert [sample["cls"] for sample in safe] == [0, 1, 2, 5, 6, 7, 8, 10, 11]
    report = safe.report()
    assert sorted(sample.codes for sample in report.samples) == [("DC101",), ("DC901",), ("DC901",)]
    (nan,) = (sample for sample in report.samples if sample.codes == ("DC101",))
    assert nan.origin is not None
    assert nan.origin.uri is not None
    assert nan.origin.uri.endswith("train-000.tar#009")
    assert report.counts["skipped"] == 3


def decode(sample: dict[str, Any]) -> dict[str, Any]:
    picture = image.open(io.BytesIO(sample["jpg"])).convert("RGB")
    return {
        "__key__": sample["__key__"],
        "image": torch.from_numpy(np.array(picture)).permute(2, 0, 1).float() / 255,
        "label": int(sample["cls"]),
        "weight": float(sample["weight.txt"]),
    }


@leaves_files_open
@pytest.mark.parametrize("num_workers", [0, 1])
def test_decoding_in_the_transform_needs_no_handler(shard: Path, num_workers: int) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = webdataset.WebDataset(str(shard), shardshuffle=False)
    safe = safe_of(pipeline, transform=decode, max_bad_fraction=0.5)
    loader = DataLoader(
        safe, batch_size=4, num_workers=num_workers, multiprocessing_context="fork" if num_workers else None
    )
    labels = [label for batch in loader for label in batch["label"].tolist()]
    assert len(labels) == 12
    assert [place for place in range(12) if labels[place] != place] == [3, 4, 9]
    report = safe.report()
    keys = [sample.origin.uri.rpartition("#")[2] for sample in report.samples if sample.origin and sample.origin.uri]
    assert keys == ["003", "004", "009"]


@leaves_files_open
def test_a_webdataset_pipeline_without_handlers_suggests_the_fix(shard: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pipeline = webdataset.WebDataset(str(shard), shardshuffle=False).decode("torchrgb")
    with pytest.raises(BadSampleError, match=r"handler=datacheck\.torch\.continue_and_report"):
        list(safe_of(pipeline, on_bad="skip"))


def test_a_stage_outside_any_dataset_warns() -> None:
    with pytest.warns(BadSampleWarning, match="outside"):
        assert continue_and_report(ValueError("x"))
