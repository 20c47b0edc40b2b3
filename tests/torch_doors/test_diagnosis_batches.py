from __future__ import annotations

from collections import UserDict
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from datacheck.torch.diagnosis.batches import num_samples, sample_of, take  # noqa: E402
from datacheck.torch.diagnosis.sample_attribution import attribute_samples  # noqa: E402

pytestmark = pytest.mark.torch


class Pair(NamedTuple):
    x: torch.Tensor
    y: torch.Tensor


@dataclass
class Record:
    x: torch.Tensor
    name: str = "record"


X = torch.arange(12.0).view(4, 3)


@pytest.mark.parametrize(
    ("batch", "size"),
    [
        (X, 4),
        ((X, torch.arange(4)), 4),
        ([X, torch.arange(4)], 4),
        ({"x": X, "meta": {"y": torch.arange(4)}, "scale": torch.tensor(2.0)}, 4),
        (UserDict({"x": X}), 4),
        (Pair(X, torch.arange(4)), 4),
        (Record(X), 4),
        ([{"x": X[0]}, {"x": X[1]}], 2),
        ([Record(X[0]), Record(X[1]), Record(X[2])], 3),
        ([(X[0], 1), (X[1], 2)], 2),
        ([torch.ones(3), torch.ones(5)], 2),
        (X.numpy(), 4),
        ({"a": X, "b": torch.ones(7)}, None),
        ({"label": "no tensors"}, None),
        (3, None),
    ],
)
def test_counts_samples(batch, size):
    assert num_samples(batch) == size


@pytest.mark.parametrize(
    "wrap", [lambda x: x, lambda x: (x, x), lambda x: [x], lambda x: {"x": x}, lambda x: Pair(x, x), Record]
)
def test_takes_samples_and_keeps_the_structure(wrap):
    batch = wrap(X)
    taken = take(batch, [0, 2], 4)
    assert type(taken) is type(batch)
    leaf = taken if isinstance(taken, torch.Tensor) else taken.x if isinstance(taken, Pair | Record) else None
    if leaf is None:
        leaf = taken["x"] if isinstance(taken, dict) else taken[0]
    assert torch.equal(leaf, X[[0, 2]])


def test_keeps_values_that_are_not_per_sample():
    batch = {"x": X, "weight": torch.ones(3), "n": torch.tensor(1.0), "ids": ["a", "b", "c", "d"], "flag": True}
    taken = take(batch, [3], 4)
    assert taken["weight"] is batch["weight"]
    assert taken["n"] is batch["n"]
    assert taken["ids"] == ["d"]
    assert taken["flag"] is True


def test_takes_from_a_mapping_other_than_a_dict():
    taken = take(UserDict({"x": X}), [1], 4)
    assert isinstance(taken, UserDict)
    assert torch.equal(taken["x"], X[[1]])


def test_takes_arrays_sparse_tensors_and_lists_of_samples():
    assert np.array_equal(take(X.numpy(), [1, 3], 4), X.numpy()[[1, 3]])
    assert torch.equal(take(X.to_sparse(), [1], 4).to_dense(), X[[1]])
    assert take([{"x": 1}, {"x": 2}, {"x": 3}], [2], 3) == [{"x": 3}]


def test_a_sample_that_requires_a_gradient_still_does():
    assert take(X.clone().requires_grad_(), [1], 4).requires_grad


def test_finds_the_sample_of_a_path():
    assert sample_of([{"x": X[0]}, {"x": X[1]}], "1.x") == 1
    assert sample_of({"x": X}, "x") is None
    assert sample_of((X, X), "1") is None


@pytest.mark.parametrize("bad", [{3}, {0, 7}, {1, 2, 5}, {6, 7}])
@pytest.mark.parametrize("guess", ["right", "wrong", "none"])
def test_finds_exactly_the_bad_samples(bad, guess):
    guesses = {"right": [sorted(bad)], "wrong": [[4]], "none": []}[guess]
    assert attribute_samples(8, lambda samples: bool(bad & set(samples)), guesses, 10.0) == tuple(sorted(bad))


def test_names_no_sample_where_the_whole_batch_is_at_fault():
    assert attribute_samples(8, lambda samples: len(samples) == 8, [[1]], 10.0) == ()


def test_names_no_sample_where_parts_cannot_be_run():
    assert attribute_samples(8, lambda samples: None if len(samples) < 8 else True, [[1]], 10.0) == ()


def test_samples_that_cannot_run_alone_are_replayed_with_others():
    def reproduces_on(samples):
        return None if len(samples) < 2 else 3 in samples

    assert attribute_samples(8, reproduces_on, [[3]], 10.0) == (3,)


def test_gives_up_when_time_is_up():
    calls = []
    assert attribute_samples(64, lambda samples: calls.append(samples) or True, [[1]], -1.0) == ()
    assert calls == []
