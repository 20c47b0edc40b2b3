"""Batches that carry their samples, and look as if they did not."""

from __future__ import annotations

import copy
from collections import UserDict, namedtuple
from typing import Any

import numpy as np
import pytest
import torch
from loader_sets import Batched, Listed, Numbered, safe_of
from torch.utils.data import ConcatDataset, DataLoader, Dataset, Subset, default_collate
from torch.utils.data._utils.pin_memory import pin_memory

from datacheck.errors import UsageError
from datacheck.torch import SafeCollate, SampleOrigin, batch_origins
from datacheck.torch.loader.provenance import MAX_BATCHES, remember_batch

pytestmark = [
    pytest.mark.filterwarnings("ignore::datacheck.torch.BadSampleWarning"),
    pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning"),
]

Pair = namedtuple("Pair", ["left", "right"])


class Filed(Dataset[Any]):
    """Random samples with a file and a row; what they look like is up to ``form``."""

    def __init__(self, form: Any, size: int = 24, seed: int = 0) -> None:
        self.form, self.size = form, size
        self.values = torch.randn(size, 6, generator=torch.Generator().manual_seed(seed))

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return self.form(self.values[index], index)

    def origin(self, index: int) -> SampleOrigin:
        return SampleOrigin(index, f"part-{index // 10}.parquet", 0, index % 10)


def as_dict(values: torch.Tensor, index: int) -> dict[str, Any]:
    return {"x": values, "index": index, "text": f"sample {index}"}


def as_tuple(values: torch.Tensor, index: int) -> tuple[torch.Tensor, int]:
    return values, index


def as_pair(values: torch.Tensor, index: int) -> Pair:
    return Pair(values, {"index": index})


def as_tensor(values: torch.Tensor, index: int) -> torch.Tensor:
    return torch.cat([values, torch.tensor([float(index)])])


def as_array(values: torch.Tensor, index: int) -> Any:
    return values.numpy()


FORMS = [as_dict, as_tuple, as_pair, as_tensor, as_array]


def indices_at(batch: Any) -> list[int] | None:
    origins = batch_origins(batch)
    return None if origins is None else [origin.index for origin in origins]


def same(one: Any, other: Any) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other) and one.dtype == other.dtype
    if isinstance(one, dict):
        return list(one) == list(other) and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list | tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return bool(one == other)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_workers", [0, 2])
def test_the_batch_is_what_the_collate_function_makes(form: Any, num_workers: int) -> None:
    options: dict[str, Any] = {
        "batch_size": 5,
        "num_workers": num_workers,
        "multiprocessing_context": "fork" if num_workers else None,
    }
    plain = list(DataLoader(Filed(form), **options))
    carried = list(DataLoader(safe_of(Filed(form)), collate_fn=SafeCollate(), **options))
    for one, other in zip(plain, carried, strict=True):
        assert type(one) is type(other)
        assert same(one, other)
    assert [index for batch in carried for index in indices_at(batch) or [None]] == list(range(24))


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_is_recognized_after_moving(form: Any, num_workers: int) -> None:
    loader = DataLoader(
        safe_of(Filed(form)),
        batch_size=8,
        shuffle=True,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=SafeCollate(),
    )

    def moved(value: Any, change: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return change(value)
        if isinstance(value, dict):
            return {key: moved(part, change) for key, part in value.items()}
        return [moved(part, change) for part in value] if isinstance(value, list | tuple) else value

    def narrow(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(torch.bfloat16) if tensor.is_floating_point() else tensor.clone()

    for batch in loader:
        expected = indices_at(batch)
        assert expected is not None
        assert sorted(set(expected)) == sorted(expected)
        for change in (torch.clone, narrow, lambda tensor: tensor.contiguous().clone().requires_grad_(False)):
            assert indices_at(moved(batch, change)) == expected
        assert indices_at(pin_memory_without_device(batch)) == expected
        assert indices_at(tuple(moved([batch], torch.clone))) == expected


def pin_memory_without_device(batch: Any) -> Any:
    """What the pinning thread does, with a copy where there is no device to pin for."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.Tensor, "pin_memory", torch.Tensor.clone)
        return pin_memory(batch)


def test_origins_are_the_file_and_row() -> None:
    loader = DataLoader(safe_of(Filed(as_dict)), batch_size=12, collate_fn=SafeCollate())
    _, second = loader
    origins = batch_origins(second)
    assert origins is not None
    assert origins[0] == SampleOrigin(12, "part-1.parquet", 0, 2)
    assert str(origins[0]) == "sample 12 (part-1.parquet, row group 0, row 2)"


@pytest.mark.parametrize("kind", [Numbered, Batched])
def test_a_replacement_says_what_it_is_and_what_it_replaces(kind: type[Numbered]) -> None:
    safe = safe_of(kind(30, nan=(4,)))
    for _ in range(2):  # the second time it is known beforehand
        (batch,) = DataLoader(safe, batch_size=30, collate_fn=SafeCollate())
        origins = batch_origins(batch)
        assert origins is not None
        assert [origin.index for origin in origins] == batch[1].tolist()
        assert [origin.replaces for origin in origins] == [None] * 4 + [4] + [None] * 25


def test_skipped_samples_are_not_in_the_batch() -> None:
    safe = safe_of(Numbered(10, nan=(4, 7)), on_bad="skip")
    (batch,) = DataLoader(safe, batch_size=10, collate_fn=SafeCollate())
    assert indices_at(batch) == batch[1].tolist() == [0, 1, 2, 3, 5, 6, 8, 9]


def test_any_collate_function() -> None:
    def by_name(samples: list[Any]) -> UserDict[str, Any]:
        return UserDict(x=torch.stack([vector for vector, _ in samples]), label=[index for _, index in samples])

    (batch,) = DataLoader(safe_of(Numbered(6)), batch_size=6, collate_fn=SafeCollate(by_name))
    assert isinstance(batch, UserDict)
    assert indices_at(batch) == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UsageError, match="collate_fn"):
        SafeCollate(3)  # type: ignore[arg-type]


def test_one_object_served_many_times_is_told_apart_by_order() -> None:
    shared = torch.ones(3)
    safe = safe_of(Listed([shared] * 6))
    batches = list(DataLoader(safe, batch_size=3, collate_fn=SafeCollate()))
    assert [indices_at(batch) for batch in batches] == [[0, 1, 2], [3, 4, 5]]


def test_wrapping_datasets_and_subsets() -> None:
    first, second = safe_of(Filed(as_tuple)), safe_of(Filed(as_tuple, seed=1))
    loader = DataLoader(ConcatDataset([first, Subset(second, range(6, 12))]), batch_size=10, collate_fn=SafeCollate())
    assert [indices_at(batch) for batch in loader] == [
        list(range(10)),
        list(range(10, 20)),
        [*range(20, 24), *range(6, 12)],
    ]


class Wrapped(Dataset[Any]):
    """A dataset around a SafeDataset that changes its samples, or their order."""

    def __init__(self, change: Any) -> None:
        self.safe, self.change = safe_of(Filed(as_tuple)), change

    def __len__(self) -> int:
        return 24

    def __getitem__(self, index: int) -> Any:
        return self.change(self.safe, index)


def doubled(safe: Any, index: int) -> Any:
    return safe[index][0] * 2


def one_late(safe: Any, index: int, kept: list[Any] = []) -> Any:  # noqa: B006 - the buffer of a shuffling dataset
    kept.append(safe[index][0] * 1)
    return kept[-2] if len(kept) > 1 else kept[-1]


def test_what_a_wrapping_dataset_makes_of_samples_is_unknown() -> None:
    for change in (doubled, one_late):
        loader = DataLoader(Wrapped(change), batch_size=12, collate_fn=SafeCollate())
        assert [indices_at(batch) for batch in loader] == [None, None]


def test_a_wrapping_dataset_may_reorder_and_leave_out() -> None:
    def reordered(safe: Any, index: int) -> Any:
        safe[index]
        return {"x": safe[23 - index][0]}

    loader = DataLoader(Wrapped(reordered), batch_size=12, collate_fn=SafeCollate())
    assert [indices_at(batch) for batch in loader] == [list(range(23, 11, -1)), list(range(11, -1, -1))]


def test_samples_loaded_before_do_not_shift_the_indices() -> None:
    safe = safe_of(Filed(as_tuple))
    loader = DataLoader(safe, batch_size=6, collate_fn=SafeCollate())
    for index in (9, 3, 5):
        safe[index]
    assert [indices_at(batch) for batch in loader] == [list(range(start, start + 6)) for start in range(0, 24, 6)]


def test_single_samples_without_batching() -> None:
    loader = DataLoader(safe_of(Filed(as_dict)), batch_size=None, collate_fn=SafeCollate(lambda sample: sample))
    assert [indices_at(sample) for sample in loader][:3] == [[0], [1], [2]]


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_function_around_the_collate_gets_the_batch_itself(num_workers: int) -> None:
    inner = SafeCollate()

    def around(samples: list[Any]) -> Any:
        vectors, indices = inner(samples)
        return vectors + 1, indices

    loader = DataLoader(
        safe_of(Numbered(6)),
        batch_size=3,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=around,
    )
    assert [indices.tolist() for _, indices in loader] == [[0, 1, 2], [3, 4, 5]]


def test_other_batches_are_unknown() -> None:
    assert batch_origins(torch.randn(3, 3)) is None
    assert batch_origins({"text": ["a", "b"]}) is None
    assert batch_origins(None) is None


def some_batch(seed: int = 0) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return (
        torch.randn(8, 6, generator=generator),
        torch.ones(8, 6, dtype=torch.bool),
        torch.arange(8) % 3,
        torch.zeros(8, 6),
    )


ORIGINS = [SampleOrigin(index) for index in range(8)]


@pytest.mark.parametrize("change", [torch.clone, lambda tensor: tensor], ids=["copied", "the same object"])
def test_equal_labels_and_masks_prove_no_origin(change: Any) -> None:
    values, *constant = some_batch()
    remember_batch((values, *constant), ORIGINS)
    others = some_batch(seed=1)[0]
    assert indices_at((others, *map(change, constant))) is None
    changed = values.clone()
    changed[7, 5] = -changed[7, 5]
    assert indices_at((changed, *map(change, constant))) is None
    assert indices_at((values.clone(), *map(change, constant))) == list(range(8))


def test_a_part_of_the_values_proves_no_origin() -> None:
    batch = some_batch()
    remember_batch(batch, ORIGINS)
    for part in batch:
        assert indices_at(part.clone()) is None
        assert indices_at(part) == list(range(8))
    assert indices_at([part.clone() for part in batch]) == list(range(8))


def test_equal_tensors_with_other_texts_or_numbers_prove_no_origin() -> None:
    def batch(text: str, number: int) -> dict[str, Any]:
        return {"mask": torch.ones(8, 4), "text": [text] * 8, "number": number}

    known = batch("a", 1)
    remember_batch(known, ORIGINS)
    assert indices_at(batch("a", 1)) == list(range(8))
    assert indices_at(batch("b", 1)) is indices_at(batch("a", 2)) is None


def test_an_object_in_several_batches_belongs_to_none() -> None:
    shared, first, second = torch.ones(8, 4), torch.randn(8, 3), torch.randn(8, 3)
    remember_batch({"x": first, "mask": shared}, ORIGINS)
    remember_batch({"x": second, "mask": shared}, [SampleOrigin(index) for index in range(8, 16)])
    assert indices_at(shared) is None
    assert indices_at({"x": first, "mask": shared}) == list(range(8))
    assert indices_at({"x": first.clone(), "mask": shared}) == list(range(8))
    assert indices_at({"x": torch.randn(8, 3), "mask": shared}) is None


def test_one_buffer_for_all_batches_is_known_by_its_present_values() -> None:
    buffer = torch.empty(8, 3)
    for start in (0, 8):
        buffer.copy_(torch.randn(8, 3))
        remember_batch(buffer, [SampleOrigin(start + index) for index in range(8)])
    assert indices_at(buffer) == list(range(8, 16))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_cast_images_that_differ_in_one_pixel_are_told_apart(dtype: torch.dtype) -> None:
    images = torch.rand(8, 1, 28, 28)
    remember_batch(images, ORIGINS)
    assert indices_at(images.to(dtype)) == list(range(8))
    images[3, 0, 14, 14] += 1
    assert indices_at(images.to(dtype)) is None


def test_large_cast_tensors_that_are_mostly_constant_prove_no_origin() -> None:
    sparse = torch.zeros(8, 50_000)
    sparse[:, 17] = 1.0
    remember_batch(sparse, ORIGINS)
    assert indices_at(sparse.clone()) == list(range(8))
    assert indices_at(sparse.to(torch.bfloat16)) is None


class RemoveColumns:
    """Leaves out columns before the collator that it wraps, as the Trainer of Transformers does."""

    def __init__(self, collate_fn: Any, *kept: str) -> None:
        self.collate_fn, self.kept = collate_fn, kept

    def __call__(self, samples: list[dict[str, Any]]) -> Any:
        return self.collate_fn([{name: sample[name] for name in sample if name in self.kept} for sample in samples])


def as_tokens(values: torch.Tensor, index: int) -> dict[str, Any]:
    return {"x": [index, *range(5)], "label": 1, "text": "removed"}


@pytest.mark.parametrize("form", [as_dict, as_tokens])
@pytest.mark.parametrize("num_workers", [0, 2])
def test_origins_survive_a_collator_that_removes_columns(form: Any, num_workers: int) -> None:
    loader = DataLoader(
        safe_of(Filed(form)),
        batch_size=5,
        shuffle=True,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=RemoveColumns(SafeCollate(), "x", "label", "index"),
    )
    found = []
    for batch in loader:
        expected = indices_at(batch)
        assert expected is not None
        assert expected == indices_at(
            {name: value.clone() for name, value in batch.items()} if form is as_dict else batch
        )
        if form is as_dict:
            assert expected == batch["index"].tolist()
        found += expected
    assert sorted(found) == list(range(24))


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_that_a_function_around_the_collate_changed_is_unknown(num_workers: int) -> None:
    inner = SafeCollate()

    def reversed_rows(samples: list[Any]) -> Any:
        return {name: value.flip(0) for name, value in inner(samples).items() if name != "text"}

    loader = DataLoader(
        safe_of(Filed(as_dict)),
        batch_size=6,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=reversed_rows,
    )
    assert [indices_at(batch) for batch in loader] == [None] * 4


def test_two_batches_that_look_the_same_are_told_apart_only_where_they_can_be() -> None:
    values = torch.randn(4, 3)
    first, second = values.clone(), values.clone()
    remember_batch(first, [SampleOrigin(index) for index in range(4)])
    remember_batch(second, [SampleOrigin(index) for index in range(4, 8)])
    assert indices_at(first) == [0, 1, 2, 3]
    assert indices_at(second) == [4, 5, 6, 7]
    assert indices_at(values) is None


def test_old_batches_are_forgotten() -> None:
    old = torch.randn(4, 3)
    remember_batch(copy.deepcopy(old), [SampleOrigin(index) for index in range(4)])
    for _ in range(MAX_BATCHES):
        remember_batch(torch.randn(4, 3), [SampleOrigin(index) for index in range(4)])
    assert indices_at(old) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.int8, torch.bool, torch.complex64, torch.uint16])
def test_batches_of_any_dtype_and_size_are_known(dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(3)
    for shape in ((8,), (8, 700), (8, 3, 40, 40)):
        batch = (torch.randn(shape, generator=generator) * 50).to(dtype)
        remember_batch(batch, [SampleOrigin(index) for index in range(8)])
        assert indices_at(batch.clone()) == list(range(8))


def test_a_nan_in_the_batch_does_not_hide_it() -> None:
    batch = torch.randn(8, 4)
    batch[2, 1] = float("nan")
    remember_batch(batch, [SampleOrigin(index) for index in range(8)])
    assert indices_at(batch.clone()) == list(range(8))
    assert indices_at(batch.numpy().copy()) == list(range(8))


def field_is(first: Any, *others: Any) -> list[Any]:
    return [{"x": value, "y": 0} for value in (first, *others)]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("samples", "note"),
    [
        ([torch.ones(3), torch.ones(3), torch.ones(4)], "of shape (3,) in samples 0, 1, of shape (4,) in sample 2"),
        (
            field_is(np.ones((2, 8)), np.ones((2, 9)), np.ones((2, 8))),
            "'x' is of shape (2, 8) in samples 0, 2, of shape (2, 9) in sample 1",
        ),
        (field_is([1, 2], [1, 2], [1]), "'x' is of length 2 in samples 0, 1, of length 1 in sample 2"),
        (field_is(1.5, None, 2.5), "'x' is a number in samples 0, 2, None in sample 1"),
        ([{"x": 1, "y": 2}, {"x": 1}, {"x": 1, "y": 2}], "'y' is a number in samples 0, 2, absent in sample 1"),
        (
            [(torch.ones(2), {"boxes": torch.ones(size, 4)}) for size in (1, 3, 1)],
            "'1.boxes' is of shape (1, 4) in samples 0, 2, of shape (3, 4) in sample 1",
        ),
    ],
    ids=["tensors", "arrays", "lists", "nulls", "keys", "nested"],
)
@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_batch_that_cannot_be_collated_names_the_samples_that_differ(
    samples: list[Any], note: str, num_workers: int
) -> None:
    loader = DataLoader(
        safe_of(Listed(samples)),
        batch_size=3,
        num_workers=num_workers,
        multiprocessing_context="fork" if num_workers else None,
        collate_fn=SafeCollate(default_collate),
    )
    with pytest.raises((RuntimeError, TypeError, KeyError)) as raised:
        list(loader)
    notes = "\n".join([str(raised.value), *getattr(raised.value, "__notes__", ())])
    assert f"while collating samples 0, 1, 2: {note}" in notes


def test_samples_of_an_unknown_index_are_named_by_position() -> None:
    samples = [torch.ones(3), torch.ones(4)]
    with pytest.raises(RuntimeError, match="equal size") as raised:
        SafeCollate()(samples)
    assert raised.value.__notes__ == [
        "while collating 2 samples: of shape (3,) in sample 0, of shape (4,) in sample 1, by position in the batch, from 0"
    ]


@pytest.mark.slow
def test_nothing_is_tracked_without_safe_collate(run_python: Any) -> None:
    program = """
import torch
from datacheck.torch import SafeDataset, SafeCollate
from datacheck.torch.loader import index_tracking as tracking
safe = SafeDataset([torch.ones(2)] * 4)
list(safe)
assert not tracking._tracked.refs
SafeCollate()
list(safe)
assert len(tracking._tracked.refs) == 4
"""
    run_python(program)


@pytest.mark.slow
def test_graphs_and_tensordicts_as_batches() -> None:
    class Graphs:
        def __init__(self, samples: list[Any]) -> None:
            self.x = torch.stack([vector for vector, _ in samples])

        def to_dict(self) -> dict[str, Any]:
            return dict(self.__dict__)

    (batch,) = DataLoader(safe_of(Numbered(6)), batch_size=6, collate_fn=SafeCollate(Graphs))
    batch.x = batch.x.clone()
    assert indices_at(batch) == list(range(6))
    tensordict = pytest.importorskip("tensordict")

    def stack(samples: list[Any]) -> Any:
        return tensordict.TensorDict({"x": torch.stack([vector for vector, _ in samples])}, batch_size=[len(samples)])

    (batch,) = DataLoader(safe_of(Numbered(6)), batch_size=6, collate_fn=SafeCollate(stack))
    assert indices_at(batch.clone()) == list(range(6))


def test_numpy_batches() -> None:
    def stack(samples: list[Any]) -> Any:
        return {"x": np.stack([vector.numpy() for vector, _ in samples])}

    (batch,) = DataLoader(safe_of(Numbered(6)), batch_size=6, collate_fn=SafeCollate(stack))
    assert isinstance(batch["x"], np.ndarray)
    assert indices_at(batch) == indices_at(torch.from_numpy(batch["x"]).clone()) == list(range(6))
