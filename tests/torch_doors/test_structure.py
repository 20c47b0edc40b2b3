from __future__ import annotations

from collections import OrderedDict, UserDict, defaultdict, deque
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from torch.nn.utils.rnn import PackedSequence, pack_sequence  # noqa: E402

from datacheck.torch.structure import map_structure, parts_of, tensors_in, walk, with_parts  # noqa: E402

pytestmark = pytest.mark.torch

X = torch.ones(2)


class Pair(NamedTuple):
    x: Any
    y: Any


@dataclass
class Record:
    x: Any
    name: str = "record"
    size: int = field(init=False, default=3)


class Graph:
    def __init__(self, x: Any) -> None:
        self.x = x

    def to_dict(self) -> dict[str, Any]:
        return {"x": self.x}


CONTAINERS = {
    "dict": {"x": X},
    "OrderedDict": OrderedDict(x=X),
    "defaultdict": defaultdict(list, x=X),
    "UserDict": UserDict({"x": X}),
    "list": [X],
    "tuple": (X,),
    "deque": deque([X]),
    "set": {X},
    "named tuple": Pair(X, 1),
    "dataclass": Record(X),
    "nested": {"a": [Pair((X,), None)]},
}


@pytest.mark.parametrize("value", CONTAINERS.values(), ids=CONTAINERS.keys())
def test_every_container_is_walked_and_keeps_its_type(value: Any) -> None:
    assert [tensor is X for tensor in tensors_in(value)] == [True]
    doubled = map_structure(value, lambda leaf: leaf * 2 if isinstance(leaf, torch.Tensor) else leaf)
    assert type(doubled) is type(value)
    assert [tensor.tolist() for tensor in tensors_in(doubled)] == [[2.0, 2.0]]
    assert X.tolist() == [1.0, 1.0]


def test_paths_join_names_with_dots() -> None:
    found = dict(walk({"a": [Pair(1, {"b": 2})], "c": Record(3)}))
    assert found == {"a.0.x": 1, "a.0.y.b": 2, "c.x": 3, "c.name": "record", "c.size": 3}
    assert dict(walk(5)) == {None: 5}


@pytest.mark.parametrize("leaf", [None, 1, "text", b"bytes", X, X.shape, np.ones(2), np.float32(1), object()])
def test_leaves_have_no_parts(leaf: Any) -> None:
    assert parts_of(leaf) is None
    assert parts_of(leaf, objects=True) is None


def test_packed_sequences_stay_packed() -> None:
    packed = pack_sequence([torch.ones(2), torch.ones(1)])
    doubled = map_structure(packed, lambda leaf: leaf * 2 if isinstance(leaf, torch.Tensor) else leaf)
    assert isinstance(doubled, PackedSequence)
    assert doubled.data.tolist() == [2.0] * 3


def test_objects_that_list_their_parts_are_opened_only_where_asked() -> None:
    assert list(tensors_in(Graph(X))) == []
    assert dict(walk(Graph(X), objects=True)) == {"x": X}
    assert with_parts(Graph(X), {"x": 5}).x == 5


def test_tensordicts_are_opened() -> None:
    tensordict = pytest.importorskip("tensordict")
    found = dict(walk({"batch": tensordict.TensorDict({"x": torch.ones(2, 3)}, batch_size=[2])}, objects=True))
    assert found["batch.x"].shape == (2, 3)


def test_keys_that_look_the_same_stay_apart() -> None:
    assert map_structure({1: 10, "1": 20}, lambda leaf: leaf + 1) == {1: 11, "1": 21}
    assert map_structure(MappingProxyType({"a": 1}), lambda leaf: leaf + 1) == {"a": 2}


def test_lists_and_mappings_are_copied_and_unchanged_objects_are_not() -> None:
    value = {"list": [1], "record": Record(X)}
    copied = map_structure(value, lambda leaf: leaf)
    value["list"].append(2)  # type: ignore[union-attr]
    assert copied["list"] == [1]
    assert copied["record"] is value["record"]


def test_a_structure_that_holds_itself_ends() -> None:
    value: list[Any] = [X]
    value += [value, value]
    assert [tensor is X for tensor in tensors_in(value)] == [True]
    assert [path for path, _ in walk(value)] == ["0", "1", "2"]
    assert map_structure(value, lambda leaf: leaf)[0] is X
