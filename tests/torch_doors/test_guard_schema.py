"""``Guard(schema=...)`` judges the batches of a step as ``SafeDataset`` judges the samples in them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import DataLoader, default_collate  # noqa: E402

from datacheck.storage.documents import load_schema  # noqa: E402
from datacheck.torch import Guard, NonFiniteError, SafeCollate, SafeDataset  # noqa: E402
from datacheck.torch.diagnosis.batch_schema import BatchSchema  # noqa: E402
from datacheck.torch.loader.sample_check import SampleCheck  # noqa: E402

pytestmark = pytest.mark.torch

SCHEMA = {
    "version": 1,
    "fields": {
        "x": {"dtype": "float32", "shape": [3], "ge": -5.0},
        "label": {"dtype": "int64", "ge": 0, "lt": 4},
        "name": {"dtype": "string"},
    },
    "checks": [{"name": "first_below_10", "expr": "x[0] < 10"}],
}


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)


def sample(label: int = 1, first: float = 0.0, name: str = "a") -> dict[str, Any]:
    return {"x": torch.tensor([first, 1.0, 2.0]), "label": label, "name": name}


def loss_of(model: nn.Module, batch: Any) -> torch.Tensor:
    return nn.functional.cross_entropy(model(batch["x"]), batch["label"].clamp(0, 3))


def guarded(schema: Any = SCHEMA, **options: Any) -> tuple[Net, Guard]:
    torch.manual_seed(0)
    model = Net()
    return model, Guard(model, torch.optim.SGD(model.parameters(), 0.1), schema=schema, **options)


def test_a_batch_that_keeps_the_schema_passes() -> None:
    _, guard = guarded()
    guard.step(loss_of, default_collate([sample(), sample(3)]))
    assert guard.report().ok


def test_a_violation_stops_the_step_and_names_its_samples() -> None:
    model, guard = guarded()
    before = model.linear.weight.detach().clone()
    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_of, default_collate([sample(), sample(7), sample(), sample(9)]))
    diagnosis = caught.value.diagnosis
    assert (diagnosis.cause, diagnosis.field, diagnosis.samples) == ("input-out-of-schema", "label", (1, 3))
    assert "samples 1, 3 of the batch; the loss and the gradients of the step are finite" in diagnosis.explanation
    assert torch.equal(model.linear.weight, before)
    first = guard.report().findings[0]
    assert (first.code, first.uri, first.num_violations) == ("DC204", "step 1", 2)
    assert [example.row for example in first.examples] == [1, 3]


@pytest.mark.filterwarnings("ignore::datacheck.torch.GuardWarning")
def test_rules_across_fields_are_judged_too() -> None:
    _, guard = guarded(on_trip="warn")
    guard.step(loss_of, default_collate([sample(), sample(first=11.0)]))
    (finding,) = [one for one in guard.report().findings if one.rule == "first_below_10"]
    assert [example.row for example in finding.examples] == [1]


@pytest.mark.filterwarnings("ignore::datacheck.torch.GuardWarning")
def test_a_skipped_batch_leaves_the_weights_and_a_warned_one_trains() -> None:
    for action, trains in (("skip", False), ("warn", True)):
        model, guard = guarded(on_trip=action)
        before = model.linear.weight.detach().clone()
        guard.step(loss_of, default_collate([sample(7), sample()]))
        assert torch.equal(model.linear.weight, before) is not trains
        (batch,) = guard.bad_batches
        assert batch.samples == ("sample 0 of the batch",)


def train(model: nn.Module, loader: Any, make: Callable[[Any], Any]) -> None:
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with make(optimizer):
        for batch in loader:
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()


def test_a_loop_is_judged_by_what_its_loader_gave() -> None:
    guards = []
    model = Net()

    def make(optimizer: Any) -> Guard:
        guards.append(Guard(model, optimizer, schema=SCHEMA, on_trip="skip"))
        return guards[0]

    data = [sample(), sample(), sample(), sample(8)]
    train(model, DataLoader(data, batch_size=2), make)
    (finding,) = [one for one in guards[0].report().findings if one.code == "DC204"]
    assert (finding.uri, finding.examples[0].row, finding.field) == ("step 2", 1, "label")


@pytest.mark.parametrize("begins", [False, True])
def test_batches_that_no_loader_gave_are_judged_where_the_loop_shows_them_and_noted_elsewhere(begins: bool) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    with Guard(model, optimizer, schema=SCHEMA, on_trip="skip") as guard:
        for batch in [default_collate([sample(), sample(8)])]:
            if begins:
                guard.begin(batch)
            optimizer.zero_grad()
            loss_of(model, batch).backward()
            optimizer.step()
    found = {(one.code, one.field) for one in guard.report().findings if one.code != "DC460"}
    noted = {("DC005", "label"), ("DC005", "name"), ("DC005", "x")}
    assert found == ({("DC204", "label"), ("DC407", "label")} if begins else noted)


def test_the_dataset_index_of_a_sample_is_named() -> None:
    _, guard = guarded()
    data = SafeDataset([sample(), sample(), sample(), sample(8)], schema={"version": 1, "fields": {}})
    batches = list(DataLoader(data, batch_size=2, collate_fn=SafeCollate()))
    guard.step(loss_of, batches[0])
    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_of, batches[1])
    assert [origin["index"] for origin in caught.value.diagnosis.origins] == [3]


@pytest.mark.parametrize(
    ("batch", "field", "samples"),
    [
        (torch.tensor([[1.0], [-7.0]]), None, (1,)),
        ((torch.tensor([[1.0], [2.0]]), torch.tensor([0, 9])), "1", (1,)),
        ([{"x": torch.tensor([1.0])}, {"x": torch.tensor([-9.0])}], "x", (1,)),
        ({"a": {"b": np.array([1.0, -6.0, -7.0])}}, "a.b", (1, 2)),
    ],
)
def test_every_kind_of_batch_has_the_names_of_its_samples(
    batch: Any, field: str | None, samples: tuple[int, ...]
) -> None:
    bound = {"lt": 5} if field == "1" else {"ge": -5.0}
    schema = {"version": 1, "fields": {field: bound}}
    violations = BatchSchema(load_schema(schema)).judge(batch, "step 1")
    assert [(one.finding.field, one.samples) for one in violations] == [(field, samples)]


def test_a_missing_field_and_a_wrong_shape_are_found() -> None:
    judge = BatchSchema(load_schema(SCHEMA))
    batch = {"x": torch.zeros(2, 4), "label": torch.tensor([0, 1])}
    assert {(one.finding.code, one.finding.field) for one in judge.judge(batch, "b")} >= {
        ("DC001", "name"),
        ("DC004", "x"),
    }


def test_what_is_on_an_accelerator_is_noted_once_and_not_waited_for() -> None:
    _, guard = guarded({"version": 1, "fields": {"x": {"ge": -5.0}}})
    for _ in range(2):
        guard.step(lambda model, batch: model(torch.ones(2, 3)).sum(), {"x": torch.zeros(2, 3, device="meta")})
    (note,) = [one for one in guard.report().findings if one.code == "DC005"]
    assert (note.field, "make the host wait" in note.detail) == ("x", True)


@given(
    st.lists(
        st.tuples(
            st.integers(-2, 6),
            st.sampled_from([0.0, -9.0, 12.0, float("nan"), float("inf")]),
            st.sampled_from(["a", "b"]),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_batch_is_judged_as_its_samples_are(values: list[tuple[int, float, str]]) -> None:
    schema = load_schema(SCHEMA)
    samples = [sample(*one) for one in values]
    check = SampleCheck(schema)
    expected = {
        (finding.code, finding.field, finding.rule, position)
        for position, one in enumerate(samples)
        for finding in check.find_violations(one, "set", position)
    }
    found = BatchSchema(schema).judge(default_collate(samples), "set")
    assert {(v.finding.code, v.finding.field, v.finding.rule, row) for v in found for row in v.samples} == expected


@pytest.mark.filterwarnings("ignore::datacheck.torch.GuardWarning")
@pytest.mark.parametrize(("limit", "is_tolerated"), [("50%", True), ("10%", False), (1, True), (0, False)])
def test_a_tolerance_holds_in_each_batch(limit: Any, is_tolerated: bool) -> None:
    schema = load_schema({"fields": {"label": {"lt": 4}}, "tolerances": {"label": {"DC204": limit}}})
    for batch in ({"label": torch.tensor([1, 9])}, [{"label": torch.tensor([1, 9])}]):
        assert bool(BatchSchema(schema).judge(batch, "step 1")) is not is_tolerated
