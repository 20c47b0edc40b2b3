"""What is done with a bad sample: replaced, raised, skipped or repaired, and when it is called bad at all."""

from __future__ import annotations

import copy
import errno
import inspect
import json
import pickle
import random
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from loader_sets import Batched, FailsFirst, Listed, Numbered, ending, safe_of
from torch.utils.data import ConcatDataset, DataLoader, Subset, random_split

import datacheck
from datacheck.cleaning.fit.statistics import Statistics
from datacheck.cleaning.plan import parse_plan
from datacheck.errors import CleaningError, PipelineError, SchemaError, UsageError
from datacheck.torch import BadSampleError, BadSampleWarning, SafeCollate, SafeDataset, TooManyBadSamplesError
from datacheck.torch.loader.index_complement import IndexComplement
from datacheck.torch.loader.replacement import candidates
from datacheck.torch.loader.retry import is_transient

pytestmark = pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning")


def served(safe: Any) -> list[int]:
    return [safe[index][1] for index in range(len(safe))]


def test_a_bad_sample_is_replaced_by_a_good_one_and_the_length_stays() -> None:
    inner = Numbered(100, nan=(3, 4), broken=(50,))
    safe = safe_of(inner)
    given = served(safe)
    assert len(safe) == len(given) == 100
    assert [index for index in range(100) if given[index] != index] == [3, 4, 50]
    assert {given[3], given[4], given[50]}.isdisjoint({3, 4, 50})


def test_the_first_bad_sample_is_warned_of_and_the_others_are_counted() -> None:
    safe = safe_of(Numbered(100, nan=(3, 4), broken=(50,)))
    with pytest.warns(BadSampleWarning, match="sample 3: DC101 .* report") as told:
        served(safe)
    assert len(told) == 1
    report = safe.report()
    assert report.bad_indices == (3, 4, 50)
    assert report.counts["replaced"] == 3
    assert report.counts["seen"] == 100


def test_a_replacement_is_the_same_in_any_order_and_after_anything_else() -> None:
    forwards = safe_of(Numbered(60, nan=(5, 6, 30)))
    backwards = safe_of(Numbered(60, nan=(5, 6, 30)))
    first = served(forwards)
    second = [backwards[index][1] for index in reversed(range(60))][::-1]
    assert first == second == served(forwards)


def test_a_replacement_changes_with_the_seed_and_the_epoch() -> None:
    def replacements(seed: int, epoch: int) -> list[int]:
        safe = safe_of(Numbered(1000, nan=tuple(range(0, 100, 10))), seed=seed)
        safe.set_epoch(epoch)
        return [safe[index][1] for index in range(0, 100, 10)]

    assert replacements(0, 0) == replacements(0, 0)
    assert replacements(0, 0) != replacements(1, 0)
    assert replacements(0, 0) != replacements(0, 1)


@given(st.integers(0, 5), st.integers(0, 9), st.integers(1, 50), st.data())
@settings(max_examples=100)
def test_candidates_are_all_others_and_the_neighbours_last(seed: int, epoch: int, size: int, data: Any) -> None:
    index = data.draw(st.integers(0, size - 1))
    found = list(candidates(seed, epoch, index, size, 1))
    assert found == list(candidates(seed, epoch, index, range(size), 1))
    assert sorted(found) == [other for other in range(size) if other != index]
    neighbours = {index - 1, index + 1} & set(found)
    assert set(found[len(found) - len(neighbours) :]) == neighbours


@pytest.mark.parametrize(("size", "bad"), [(2, {0}), (3, {1}), (4, {1, 3}), (4, {0, 1, 3}), (6, {0, 1, 2, 4, 5})])
def test_the_good_samples_of_a_small_dataset_replace_the_bad_ones(size: int, bad: set[int]) -> None:
    safe = safe_of(Numbered(size, nan=tuple(bad)), max_bad_fraction=1.0)
    for index in (*range(size), *range(size)):
        assert safe[index][1] == index if index not in bad else safe[index][1] not in bad


def test_the_error_says_how_many_samples_were_tried_as_a_replacement() -> None:
    safe = safe_of(Numbered(4, nan=(0, 1, 2, 3)), max_bad_fraction=1.0)
    for tried in ("3 tried, 0 known to be bad", "0 tried, 3 known to be bad"):
        with pytest.raises(BadSampleError, match=f"no good sample was found to replace it .{tried}.$"):
            safe[1]


def test_the_last_sample_can_be_replaced() -> None:
    assert safe_of(Numbered(50, broken=(49,)))[49][1] < 48


def test_a_dataset_without_good_samples_raises_in_bounded_time() -> None:
    inner = Numbered(100, nan=tuple(range(100)))
    safe = safe_of(inner, max_attempts=4)
    with pytest.raises(BadSampleError, match=r"sample 7: DC101.*4 tried"):
        safe[7]
    assert sum(inner.loads.values()) == 10  # each looked at twice


def test_replacements_come_from_replace_from() -> None:
    train = list(range(0, 100, 2))
    safe = safe_of(Numbered(100, nan=(10, 20, 30)), replace_from=train)
    assert all(safe[index][1] in train for index in (10, 20, 30))


def test_random_generators_are_not_used() -> None:
    safe = safe_of(Numbered(30, nan=(3,)))
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    random.seed(0)
    before = (torch.get_rng_state(), np.random.get_state()[1], random.getstate())  # noqa: NPY002
    served(safe)
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])  # type: ignore[index]  # noqa: NPY002
    assert before[2] == random.getstate()


def test_raise_chains_the_error_of_the_dataset() -> None:
    safe = safe_of(Numbered(10, broken=(4,)), on_bad="raise")
    with pytest.raises(BadSampleError, match="sample 4: DC901 cannot be read: ValueError: no sample 4") as told:
        safe[4]
    assert isinstance(told.value.__cause__, ValueError)
    assert told.value.index == 4
    with pytest.raises(BadSampleError, match="sample 4: DC901"):
        safe[4]


def test_raise_from_a_worker_still_names_the_sample() -> None:
    loader = DataLoader(safe_of(Numbered(10, broken=(4,)), on_bad="raise"), batch_size=2, num_workers=1)
    with ending(loader) as batches, pytest.raises(BadSampleError) as told:
        list(batches)
    assert told.value.index == 4
    assert told.value.codes == ("DC901",)


def test_skip_leaves_bad_samples_out_through_the_collate() -> None:
    safe = safe_of(Numbered(20, nan=(3,), broken=(11,)), on_bad="skip")
    batches = [batch[1].tolist() for batch in DataLoader(safe, batch_size=5, collate_fn=SafeCollate())]
    assert batches == [[0, 1, 2, 4], [5, 6, 7, 8, 9], [10, 12, 13, 14], [15, 16, 17, 18, 19]]
    assert safe.report().counts["skipped"] == 2


@pytest.mark.parametrize("skipped", [0, 3])
@pytest.mark.parametrize("shape", [torch.tensor, float, np.array, lambda value: (value, 1), lambda value: {"x": value}])
def test_skip_without_safe_collate_suggests_the_fix(shape: Any, skipped: int) -> None:
    values = [shape(float("nan") if index == skipped else float(index)) for index in range(6)]
    safe = safe_of(Listed(values), on_bad="skip")
    assert "SafeCollate" in repr(safe[skipped])
    with pytest.raises(UsageError, match=rf"sample {skipped} is bad .* collate_fn=SafeCollate\(\)"):
        list(DataLoader(safe, batch_size=6))


def test_a_batch_of_skipped_samples_only_is_an_error() -> None:
    safe = safe_of(Numbered(4, nan=(0, 1)), on_bad="skip")
    with pytest.raises(BadSampleError, match=r"all samples of a batch were skipped \(samples 0, 1"):
        list(DataLoader(safe, batch_size=2, collate_fn=SafeCollate()))


CLEAN = [
    {"action": "impute", "strategy": "constant", "value": 0, "codes": "DC101", "fields": ["x", "meta.*"]},
    {"action": "clip", "ge": -10, "le": 10, "fields": "x", "codes": ["DC102", "DC103", "DC201", "DC202"]},
    {"action": "quarantine", "codes": ["DC2"]},
]
REPAIR_SCHEMA = {
    "fields": {
        "x": {"dtype": "float32", "shape": [3], "ge": -10, "le": 10},
        "label": {"dtype": "int64", "ge": 0, "le": 1},
    }
}


def repairable(**changes: Any) -> dict[str, Any]:
    return {"x": torch.ones(3), "label": torch.tensor(1), "meta": {"y": [1.0, 2.0], "z": np.float32(1)}, **changes}


def test_repair_follows_the_rules_of_the_pipeline_and_keeps_the_original() -> None:
    nan = float("nan")
    bad = repairable(x=torch.tensor([nan, float("inf"), 99.0]), meta={"y": [1.0, nan], "z": np.float32(nan)})
    kept = copy.deepcopy(bad)
    safe = safe_of(Listed([repairable(), bad]), schema=REPAIR_SCHEMA, on_bad="repair", cleaning=CLEAN)
    mended = safe[1]
    assert mended["x"].tolist() == [0.0, 10.0, 10.0]
    assert mended["x"].dtype == torch.float32
    assert mended["meta"] == {"y": [1.0, 0.0], "z": np.float32(0)}
    assert type(mended["meta"]["z"]) is np.float32
    assert str(bad) == str(kept)
    report = safe.report()
    assert [(sample.index, sample.verdict) for sample in report.samples] == [(1, "repaired")]
    assert report.counts["repaired"] == 1
    assert safe[1]["x"].tolist() == [0.0, 10.0, 10.0]
    assert safe.report().counts["repaired"] == 2


@pytest.mark.parametrize("bad", [{"label": torch.tensor(7)}, {"x": torch.ones(4)}, {"x": None}])
@pytest.mark.parametrize("second", ["replace", "raise"])
def test_the_second_policy_applies_to_what_cannot_be_repaired(bad: dict[str, Any], second: str) -> None:
    samples = [repairable(**bad), *(repairable() for _ in range(8))]
    safe = safe_of(Listed(samples), schema=REPAIR_SCHEMA, on_bad=("repair", second), cleaning=CLEAN)
    if second == "raise":
        with pytest.raises(BadSampleError, match="sample 0"):
            safe[0]
    else:
        served_sample = safe[0]
        assert any(served_sample is sample for sample in samples[2:])
    assert safe.report().bad_indices == (0,)


@pytest.mark.parametrize(
    "sample",
    [
        torch.tensor([1.0, float("nan")], dtype=torch.bfloat16),
        torch.tensor([[1.0, float("nan")]], dtype=torch.float64).t(),
        torch.tensor(float("nan"), dtype=torch.float16),
        np.array([1.0, np.nan], ">f4"),
        np.asfortranarray(np.array([[1.0, np.nan], [2.0, 3.0]])),
        (torch.ones(2), np.float64("nan")),
        [torch.ones(2), torch.tensor([float("nan")])],
        float("nan"),
    ],
)
def test_repaired_values_keep_their_type_dtype_and_shape(sample: Any) -> None:
    rules = [{"action": "nan_to_num", "nan": 0}]
    mended = safe_of(Listed([sample]), on_bad="repair", cleaning=rules)[0]

    def form(value: Any) -> Any:
        if isinstance(value, list | tuple):
            return type(value), [form(part) for part in value]
        return type(value), getattr(value, "dtype", None), getattr(value, "shape", None)

    assert form(mended) == form(sample)
    assert not np.isnan(np.concatenate([np.ravel(torch.as_tensor(part).double()) for part in _flat(mended)])).any()


def _flat(value: Any) -> list[Any]:
    parts = list(value) if isinstance(value, list | tuple) else [value]
    return [part.astype("f8") if isinstance(part, np.ndarray) else part for part in parts]


def test_impossible_repairs_are_refused_at_the_start(tmp_path: Path) -> None:
    learned = [{"action": "impute", "strategy": "mean", "fields": "x"}]
    with pytest.raises(UsageError, match="cleaning="):
        SafeDataset(Listed([1.0]), on_bad="repair")
    with pytest.raises(UsageError, match="datacheck fit"):
        SafeDataset(Listed([1.0]), on_bad="repair", cleaning=learned)
    with pytest.raises(UsageError, match="datacheck fit"):
        SafeDataset(Listed([1.0]), on_bad="repair", cleaning=learned, statistics=tmp_path / "none.json")
    (tmp_path / "odd.json").write_text(json.dumps({"x": 1}))
    with pytest.raises(CleaningError, match=r"odd\.json"):
        SafeDataset(Listed([1.0]), on_bad="repair", cleaning=learned, statistics=tmp_path / "odd.json")
    rules = [{"action": "impute", "strategy": "constant", "value": 0, "indicator": True}]
    with pytest.raises(PipelineError, match="indicator"):
        SafeDataset(Listed([1.0]), on_bad="repair", cleaning=rules)


def test_a_sample_that_is_bad_only_once_is_served_and_reported(tmp_path: Path) -> None:
    nan, good = torch.tensor([float("nan")]), torch.tensor([1.0])
    flips = iter([nan, good, good])
    safe = safe_of(Listed([lambda: next(flips), good]), quarantine=tmp_path / "bad.json", fingerprint="flips")
    assert safe[0] is good
    report = safe.report()
    assert [(sample.index, sample.verdict) for sample in report.samples] == [(0, "unstable")]
    assert report.bad_indices == ()
    assert safe[0] is good


def test_transient_errors_are_retried_with_growing_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(time, "sleep", waits.append)
    good = torch.ones(2)
    flaky = FailsFirst(OSError(errno.EIO, "Input/output error"), 3, good)
    safe = safe_of(Listed([flaky, good]), retries=3, backoff=0.5)
    assert safe[0] is good
    assert waits == [0.5, 1.0]
    report = safe.report()
    assert not report.samples
    assert report.counts["retried"] == 2


def test_a_persistent_transient_error_is_replaced_and_never_quarantined(tmp_path: Path) -> None:
    good = torch.ones(2)
    flaky = FailsFirst(ConnectionResetError(errno.ECONNRESET, "reset"), 10, good)
    safe = safe_of(Listed([flaky, *[good] * 5]), retries=2, quarantine=tmp_path / "bad.json", fingerprint="x")
    assert safe[0] is good
    report = safe.report()
    assert [(sample.verdict, sample.codes) for sample in report.samples] == [("passing", ("DC901",))]
    assert not (tmp_path / "bad.json").exists()
    flaky.left = 0
    assert safe[0] is good
    assert safe.report().counts["replaced"] == 1


@pytest.mark.parametrize(
    ("error", "passes"),
    [
        (OSError(errno.EIO, "x"), True),
        (OSError(errno.ESTALE, "x"), True),
        (OSError(errno.EMFILE, "x"), True),
        (TimeoutError(), True),
        (ConnectionResetError(), True),
        (MemoryError(), True),
        (OSError("image file is truncated"), False),
        (FileNotFoundError(errno.ENOENT, "x"), False),
        (PermissionError(errno.EACCES, "x"), False),
        (ValueError("x"), False),
    ],
)
def test_which_errors_are_transient(error: Exception, passes: bool) -> None:
    assert is_transient(error) is passes


def test_retry_on_adds_transient_errors() -> None:
    good = torch.ones(2)
    safe = safe_of(Listed([FailsFirst(KeyError("lease"), 1, good)]), retry_on=(KeyError,))
    assert safe[0] is good
    assert not safe.report().samples


def test_retry_on_takes_a_single_class() -> None:
    good = torch.ones(2)
    safe = safe_of(Listed([FailsFirst(KeyError("lease"), 1, good)]), retry_on=KeyError)
    assert safe[0] is good
    assert not safe.report().samples


def test_interrupts_are_not_bad_samples() -> None:
    def interrupt() -> Any:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        safe_of(Listed([interrupt]))[0]


def test_too_many_bad_samples_raise_with_counts_and_reasons() -> None:
    safe = SafeDataset(Numbered(300, nan=tuple(range(0, 300, 20)), broken=(7,)), name="birds")
    with pytest.raises(TooManyBadSamplesError) as told:
        served(safe)
    message = str(told.value)
    assert "4 samples of 300 are bad" in message
    assert "max_bad_fraction=0.01" in message
    assert "3 samples: DC101 nan in '0'" in message
    assert "1 sample: DC901 unreadable" in message


def test_few_bad_samples_do_not_raise() -> None:
    safe = SafeDataset(Numbered(300, nan=(1, 100, 200)))
    served(safe)
    served(safe)
    assert safe.report().num_bad == 3


def test_a_large_dataset_is_measured_by_the_samples_seen() -> None:
    safe = SafeDataset(Numbered(100_000, nan=tuple(range(0, 100_000, 50))))
    with pytest.raises(TooManyBadSamplesError, match="11 samples of the 501 seen so far"):
        list(safe)


def test_the_cap_holds_in_workers() -> None:
    safe = SafeDataset(Numbered(300, nan=tuple(range(0, 300, 20))))
    loader = DataLoader(safe, batch_size=10, num_workers=2)
    with ending(loader) as batches, pytest.raises(TooManyBadSamplesError, match="samples of 300 are bad"):
        list(batches)


def test_check_covers_all_samples_and_compact_leaves_out_bad_ones() -> None:
    safe = safe_of(Numbered(50, nan=(0, 20), broken=(49,)))
    told: list[tuple[int, int, int]] = []
    report = safe.check(batch_size=16, progress=lambda *numbers: told.append(numbers))
    assert report.bad_indices == (0, 20, 49)
    assert told == [(16, 50, 1), (32, 50, 2), (48, 50, 2), (50, 50, 3)]
    good = safe.compact()
    assert isinstance(good, Subset)
    assert [good[place][1] for place in range(len(good))] == [index for index in range(50) if index not in (0, 20, 49)]
    assert [index for batch in DataLoader(good, batch_size=10) for index in batch[1].tolist()][:2] == [1, 2]
    assert report.counts["replaced"] == 0


def test_check_reports_too_many_bad_samples_and_compact_refuses_them(capsys: pytest.CaptureFixture[str]) -> None:
    safe = SafeDataset(Numbered(50, nan=tuple(range(25))))
    assert safe.check(progress=True).num_bad == 25
    assert "50 of 50 samples, 25 bad" in capsys.readouterr().err
    with pytest.raises(TooManyBadSamplesError, match="25 samples of 50"):
        safe.compact()


@given(st.integers(0, 200), st.sets(st.integers(0, 199)))
def test_index_complement_has_the_indices_that_are_not_bad(size: int, bad: set[int]) -> None:
    good = IndexComplement(size, sorted(bad))
    expected = [index for index in range(size) if index not in bad]
    assert list(good) == expected
    assert len(good) == len(expected)
    assert good[:3] == expected[:3]
    if expected:
        assert good[-1] == expected[-1]


def test_datasets_can_wrap_and_be_wrapped() -> None:
    inner = ConcatDataset([Numbered(10, nan=(3,)), Subset(Numbered(10, broken=(8,)), range(9))])
    safe = safe_of(inner)
    first, second = random_split(safe, [10, 9], torch.Generator().manual_seed(0))
    both = ConcatDataset([first, second])
    values = [both[index] for index in range(19)]
    assert all(torch.isfinite(vector).all() for vector, _ in values)
    assert safe.report().bad_indices == (3, 18)
    assert isinstance(safe.dataset, ConcatDataset)
    with pytest.raises(AttributeError):
        safe.cumulative_sizes  # noqa: B018


def test_a_nested_dataset_keeps_its_limit() -> None:
    inner = SafeDataset(Numbered(30, nan=tuple(range(30))))
    with pytest.raises(TooManyBadSamplesError):
        safe_of(inner)[0]


def test_indices_are_those_of_a_sequence() -> None:
    safe = safe_of(Numbered(5))
    assert safe[-1][1] == 4
    assert safe[np.int64(2)][1] == 2
    assert safe[torch.tensor(3)][1] == 3
    assert [sample[1] for sample in safe] == [0, 1, 2, 3, 4]
    for index in (5, -6):
        with pytest.raises(IndexError):
            safe[index]
    with pytest.raises(TypeError, match="expected an integer index"):
        safe["x"]
    assert not safe.report().samples


def test_attributes_of_the_wrapped_dataset_are_not_forwarded() -> None:
    inner = Batched(5)
    safe = safe_of(inner)
    assert safe.dataset.size == 5
    with pytest.raises(AttributeError):
        safe.size  # noqa: B018
    # What a loader would take to go round the checks, and what recursed without an end while it was unpickled.
    assert safe.__getitems__.__func__ is SafeDataset.__getitems__
    assert pickle.loads(pickle.dumps(safe)).dataset.size == 5
    assert len(repr(safe_of([1.0] * 1000))) < 60


def test_errors_beyond_the_end_are_not_bad_samples() -> None:
    class Files(Numbered):
        def __getitem__(self, index: int) -> Any:
            if index >= self.size:
                raise FileNotFoundError(f"{index}.png")
            return super().__getitem__(index)

    safe = safe_of(Files(5))
    for _ in range(2):
        with pytest.raises(FileNotFoundError):
            safe[5]
    with pytest.raises(FileNotFoundError):
        safe.__getitems__([1, 5])
    assert not safe.report().samples


def test_copies_share_what_is_known() -> None:
    safe = safe_of(Numbered(20, nan=(3,)))
    twin = pickle.loads(pickle.dumps(safe))
    assert twin[3][1] == safe[3][1]
    assert twin.report().bad_indices == safe.report().bad_indices == (3,)
    del safe
    assert copy.deepcopy(twin).report().bad_indices == (3,)


def test_errors_in_transform_are_caught() -> None:
    def invert(sample: Any) -> Any:
        return 1 / sample

    safe = safe_of(Listed([1.0, 0.0, 2.0, 4.0]), transform=invert)
    assert [safe[0], safe[2]] == [1.0, 0.5]
    assert safe[1] in (1.0, 0.25, 0.5)
    assert safe.report().samples[0].error is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"on_bad": "replac"}, "did you mean 'replace'"),
        ({"on_bad": ("replace", "skip")}, "expected one policy"),
        ({"on_bad": ("repair", "repair")}, "expected one policy"),
        ({"max_bad_fraction": 2}, "from 0 to 1"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"retries": -1}, "retries"),
        ({"on_bad": None}, "unknown policy None"),
        ({"max_bad_fraction": "1%"}, "from 0 to 1, got '1%'"),
        ({"max_attempts": 1.5}, "max_attempts must be an integer"),
        ({"retries": 1.5}, "retries must be an integer"),
        ({"backoff": "1s"}, "backoff must be seconds"),
        ({"seed": "a"}, "seed must be an integer"),
        ({"retry_on": ("OSError",)}, "retry_on must be an exception class or a tuple"),
        ({"retry_on": int}, "retry_on must be an exception class or a tuple"),
        ({"transform": 3}, "transform"),
        ({"quarantine": 3}, "the path of a JSON file"),
        ({"replace_from": []}, "non-empty"),
        ({"replace_from": [0, 9]}, r"replace_from has indices from 0 to 9, but Numbered has \d samples"),
        ({"cleaning": []}, "repairs nothing; set on_bad='repair'"),
        ({"statistics": "statistics.json"}, "cleaning='pipeline.yaml'"),
    ],
)
def test_invalid_options_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        SafeDataset(Numbered(3), **options)


def test_only_datasets_are_accepted() -> None:
    with pytest.raises(UsageError, match="expected a Dataset, got int"):
        SafeDataset(3)
    with pytest.raises(UsageError, match=r"open paths with datacheck\.torch\.open_dataset"):
        SafeDataset("data/train")
    with pytest.raises(UsageError, match="got a DataLoader; wrap its dataset"):
        SafeDataset(DataLoader(Numbered(3)))
    with pytest.raises(SchemaError):
        SafeDataset(Numbered(3), schema={"fields": {"x": {"dtype": "flot32"}}})


def test_a_dataset_without_a_length_cannot_replace() -> None:
    class Endless:
        def __getitem__(self, index: int) -> float:
            return float("nan") if index == 2 else float(index)

    with pytest.raises(UsageError, match="no length"):
        SafeDataset(Endless())
    safe = safe_of(Endless(), on_bad="raise")
    assert safe[1] == 1.0
    with pytest.raises(BadSampleError, match="sample 2"):
        safe[2]


class TestBatchedPath:
    def test_the_inner_batched_path_is_used(self) -> None:
        inner = Batched(20)
        assert [batch[1].tolist() for batch in DataLoader(safe_of(inner), batch_size=10)] == [
            list(range(10)),
            list(range(10, 20)),
        ]
        assert inner.calls == [list(range(10)), list(range(10, 20))]

    def test_every_sample_that_comes_by_it_is_checked(self) -> None:
        safe = safe_of(Batched(20, nan=(3,)))
        batches = list(DataLoader(safe, batch_size=20))
        assert torch.isfinite(batches[0][0]).all()
        assert safe.report().bad_indices == (3,)
        assert safe.report().counts["seen"] == 20

    def test_one_bad_row_does_not_lose_the_others(self) -> None:
        inner = Batched(20, broken=(3,))
        safe = safe_of(inner)
        ((_, indices),) = DataLoader(safe, batch_size=20)
        assert [index for place, index in enumerate(indices.tolist()) if place != index] == [indices[3].item()]
        assert safe.report().bad_indices == (3,)

    def test_known_bad_samples_are_not_asked_for_again(self) -> None:
        inner = Batched(20, broken=(3,))
        safe = safe_of(inner)
        list(DataLoader(safe, batch_size=20))
        inner.calls.clear()
        inner.loads.clear()
        ((_, indices),) = DataLoader(safe, batch_size=20)
        assert inner.calls == [[index for index in range(20) if index != 3]]
        assert inner.loads.get(3) is None
        assert indices.tolist()[4:] == list(range(4, 20))

    @pytest.mark.parametrize("returned", [None, {"x": torch.ones(4)}, [1.0], "abcd"])
    def test_a_batched_path_that_gives_no_list_of_samples_is_not_used(self, returned: Any) -> None:
        inner = Batched(4, nan=(1,))
        inner.__class__ = type("Odd", (Batched,), {"__getitems__": lambda self, indices: returned})
        safe = safe_of(inner)
        assert [sample[1] for sample in safe.__getitems__([0, 2, 3])] == [0, 2, 3]

    def test_a_subset_of_a_set_without_one_is_asked_sample_by_sample(self) -> None:
        inner = Numbered(10, broken=(4,))
        safe = safe_of(Subset(inner, range(10)))
        list(DataLoader(safe, batch_size=10))
        assert max(inner.loads.values()) <= 2
        assert inner.loads[0] == 1

    def test_a_schema_holds_for_many_at_once(self) -> None:
        schema = {"fields": {"x": {"dtype": "float32", "shape": [2], "le": 5}, "y": {"dtype": "int64", "lt": 100}}}
        samples = [{"x": torch.full((2,), float(i % 5)), "y": i} for i in range(99)]
        samples[40] = {"x": torch.tensor([1.0, 6.0]), "y": 3}
        samples[41] = {"x": torch.ones(3), "y": 3}
        samples[42] = {"x": torch.ones(2), "y": 100}
        samples[43] = {"y": 4}
        samples[44] = {"x": torch.ones(2).double(), "y": 100}
        inner = Listed(samples)
        inner.__class__ = type("Quick", (Listed,), {"__getitems__": lambda self, keys: [self[key] for key in keys]})
        safe = safe_of(inner, schema=schema)
        got = safe.__getitems__(list(range(99)))
        assert safe.report().bad_indices == (40, 41, 42, 43, 44)
        assert all(got[index] is samples[index] for index in range(99) if not 40 <= index <= 44)


def test_type_checkers_infer_the_sample_type_from_the_dataset() -> None:
    # With Any among them, a type checker infers nothing from the argument.
    told = inspect.signature(SafeDataset.__init__).parameters["dataset"].annotation
    assert told == "Dataset[T] | Indexed[T] | Iterable[T]"


def test_a_column_of_a_sample_is_repaired_by_the_rule_that_names_it() -> None:
    schema = {"fields": {"x": {"columns": {0: {}, 1: {}}}}}
    rules = [{"action": "impute", "strategy": "constant", "value": 5, "fields": "x[1]"}]
    bad = torch.tensor([1.0, float("nan")])
    safe = safe_of(Listed([{"x": bad}, {"x": bad.flip(0)}]), schema=schema, on_bad="repair", cleaning=rules)
    assert safe[0]["x"].tolist() == [1, 5]
    with pytest.warns(BadSampleWarning, match=r"are NaN in 'x'"):
        assert safe[1]["x"].tolist() == [1, 5]


@pytest.mark.parametrize("column", [None, 1])
def test_statistics_of_an_array_file_repair_the_field_that_the_schema_names(column: int | None, tmp_path: Path) -> None:
    values = np.arange(12.0).reshape(4, 3)
    values[3, 1] = np.nan
    np.save(tmp_path / "x.npy", values)
    path = "x" if column is None else f"x[{column}]"
    clean = [{"action": "impute", "strategy": "mean", "fields": path}]
    field = {} if column is None else {"columns": {column: {}}}
    pipeline = {"inputs": ["x.npy"], "output": {"path": "out"}, "schema": {"fields": {"x": field}}, "clean": clean}
    (tmp_path / "p.yaml").write_text(json.dumps(pipeline))
    statistics = datacheck.fit(tmp_path / "p.yaml")
    mean = np.nanmean(values if column is None else values[:, column])
    for samples in ([{"x": row} for row in values], list(values)):
        safe = safe_of(Listed(samples), on_bad="repair", cleaning=tmp_path / "p.yaml", statistics=statistics)
        mended = safe[3]["x"] if isinstance(samples[0], dict) else safe[3]
        assert mended.tolist() == [9.0, pytest.approx(mean), 11.0]


def test_a_field_without_statistics_is_said_to_lack_them() -> None:
    plan = parse_plan([{"action": "impute", "strategy": "mean"}], "quarantine", "p.yaml")
    safe = safe_of(
        Listed([{"x": float("nan")}, {"x": 1.0}]),
        on_bad="repair",
        cleaning=plan,
        statistics=Statistics(plan.fingerprint),
        max_bad_fraction=1.0,
    )
    with pytest.warns(BadSampleWarning, match="could not be repaired: .*no statistics for 'x'"):
        assert safe[0] == {"x": 1.0}
