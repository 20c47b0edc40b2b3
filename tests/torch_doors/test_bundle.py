"""A bundle replays a step elsewhere, and reading one never executes code."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("safetensors")

from torch import nn  # noqa: E402

from datacheck.cli.replay import replay  # noqa: E402
from datacheck.errors import SourceError, UsageError  # noqa: E402
from datacheck.torch import Guard, NonFiniteError  # noqa: E402
from datacheck.torch.guard.bundle import read_bundle  # noqa: E402
from datacheck.torch.guard.tree_file import read_tree, write_tree  # noqa: E402

pytestmark = pytest.mark.torch

PROGRAM = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(3, 4)
        self.norm = nn.BatchNorm1d(4)
        self.drop = nn.Dropout(0.5)
        self.last = nn.Linear(4, 3)
        self.last.weight = nn.Parameter(self.first.weight.detach().T.clone())

    def forward(self, x):
        return self.last(self.drop(self.norm(self.first(x))))


def loss_fn(model, batch):
    spread = torch.rand(())
    return (model(batch["x"]) - batch["y"]).pow(2).mean() / (batch["weight"] * spread).prod()  # divides


def build():
    torch.manual_seed(99)
    return Net(), loss_fn


def build_badly():
    raise OSError("no weights here")


def build_for(device):
    return build()


def bad_loss(model, batch):
    return batch["colour"]


def build_with_bad_loss():
    return Net(), bad_loss
"""


@pytest.fixture
def program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The user's module, named ``bundled_program``."""
    (tmp_path / "bundled_program.py").write_text(PROGRAM, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "bundled_program", raising=False)
    import importlib

    module = importlib.import_module("bundled_program")
    yield module
    sys.modules.pop("bundled_program", None)


def batch(bad: bool) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    weight = torch.ones(4)
    if bad:
        weight[3] = 0.0
    return {"x": torch.randn(4, 3, generator=generator), "y": torch.zeros(4, 3), "weight": weight, "name": "a"}


def tripped(program: Any, **options: Any) -> tuple[Guard, NonFiniteError]:
    model, loss_fn = program.build()
    guard = Guard(model, torch.optim.AdamW(model.parameters()), **options)
    for _ in range(3):
        guard.step(loss_fn, batch(bad=False))
    with pytest.raises(NonFiniteError) as caught:
        guard.step(loss_fn, batch(bad=True))
    return guard, caught.value


def test_a_trip_that_raises_writes_a_bundle_that_replays(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, error = tripped(program, bundle_dir=tmp_path / "bundles")
    assert error.bundle is not None
    assert error.bundle.endswith("step-00000004")
    assert "datacheck replay" in str(error)
    assert replay(Path(error.bundle), "bundled_program:build", "json") == 1
    record = json.loads(capsys.readouterr().out)
    assert record["step"] == 4
    assert record["differences"] == []
    assert record["diagnosis"] == record["recorded"], "the same diagnosis as in the run, line by line"
    assert record["diagnosis"]["cause"] == "division-by-zero"
    assert "# divides" in record["diagnosis"]["source"]
    assert record["diagnosis"] == error.diagnosis.to_dict()


def test_text_is_one_screen(program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    guard, _ = tripped(program)
    path = guard.bundle(tmp_path / "here")
    assert replay(path, "bundled_program:build", "text") == 1
    printed = capsys.readouterr().out
    assert printed.startswith("step 4: DC401 division-by-zero (loss)")
    assert len(printed.splitlines()) < 40


def test_a_bundle_restores_weights_buffers_and_random_states_of_the_step(program: Any, tmp_path: Path) -> None:
    guard, _ = tripped(program)
    model = guard._runner.training.model
    bundle = read_bundle(guard.bundle(tmp_path / "here"))
    other, _ = program.build()
    assert not torch.equal(other.first.weight, model.first.weight)
    bundle.load_into(other)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name
    part = bundle.parts[0]
    assert part["batch"]["name"] == "a"
    assert set(part["random"]) == {"torch", "python", "numpy"}
    moments = bundle.optimizers[0]["state"][0]
    assert torch.equal(moments["exp_avg"], next(iter(guard._runner.training.optimizers[0].state.values()))["exp_avg"])


def test_a_clean_replay_is_reported(program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, loss_fn = program.build()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1))
    calls = []

    def flaky(model: nn.Module, batch: Any) -> torch.Tensor:
        calls.append(1)
        return loss_fn(model, batch) * (float("nan") if len(calls) == 1 else 1.0)

    with pytest.raises(NonFiniteError):
        guard.step(flaky, batch(bad=False))
    assert replay(guard.bundle(tmp_path / "here"), "bundled_program:build", "text") == 0
    printed = capsys.readouterr().out
    assert "are finite here" in printed
    assert "not-reproducible" in printed


def test_a_users_loop_is_replayed_with_the_model_alone(
    program: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, _ = program.build()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x = torch.randn(4, 3)
    x[1] = float("inf")
    with Guard(model, optimizer) as guard:
        model(x).sum().backward()
        with pytest.raises(NonFiniteError):
            optimizer.step()
        path = guard.bundle(tmp_path / "here")
    assert replay(path, "bundled_program:build", "json") == 1
    assert json.loads(capsys.readouterr().out)["diagnosis"]["cause"] == "input-not-finite"


def test_a_bundle_is_never_written_over_and_needs_a_step(program: Any, tmp_path: Path) -> None:
    guard, _ = tripped(program)
    path = guard.bundle(tmp_path / "here")
    with pytest.raises(UsageError, match="already exists"):
        guard.bundle(path)
    guard.step(program.loss_fn, batch(bad=False))
    with pytest.raises(UsageError, match="no step to write"):
        guard.bundle(tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_a_batch_that_cannot_be_written_is_named_and_leaves_nothing(program: Any, tmp_path: Path) -> None:
    model, _ = program.build()
    guard = Guard(model, torch.optim.SGD(model.parameters(), lr=0.1), bundle_dir=tmp_path / "bundles")
    held = {"x": torch.full((2, 3), float("nan")), "image": [object()]}
    with pytest.raises(NonFiniteError) as caught:
        guard.step(lambda model, batch: model(batch["x"]).sum(), held)
    assert caught.value.bundle is None
    assert any("parts.0.batch.image.0" in finding.detail for finding in guard.report().findings)
    assert list((tmp_path / "bundles").iterdir()) == []


Point = namedtuple("Point", ["x", "y"])


@dataclass
class Record:
    x: torch.Tensor
    label: str


def equal(first: Any, second: Any) -> bool:
    if isinstance(first, torch.Tensor):
        if first.is_sparse:
            return equal(first.to_dense(), second.to_dense())
        same = first.dtype is second.dtype and first.shape == second.shape
        left, right = (t.detach().contiguous().reshape(-1).view(torch.uint8) for t in (first, second))
        return same and torch.equal(left, right) and first.requires_grad == second.requires_grad
    if isinstance(first, np.ndarray):
        return first.dtype == second.dtype and np.array_equal(first, second, equal_nan=first.dtype.kind in "fc")
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(equal, first, second))
    if isinstance(first, dict):
        return list(first) == list(second) and all(equal(first[key], second[key]) for key in first)
    return type(first) is type(second) and (first == second or (first != first and second != second))


@pytest.mark.parametrize(
    "value",
    [
        None,
        {"a": 1, 2: [3.5, float("nan"), float("-inf")], (1, "x"): {"deep": (True, b"\x00\xff", 2**70)}},
        [torch.randn(3, 2, requires_grad=True), torch.ones(2, 3).T, torch.zeros(0, 4), torch.tensor(7)],
        [
            torch.ones(3, dtype=dtype)
            for dtype in (torch.bfloat16, torch.float16, torch.complex64, torch.bool, torch.int8)
        ],
        [torch.ones(4).to(dtype) for dtype in (torch.float8_e4m3fn, torch.float8_e5m2fnuz)],
        torch.tensor([[0.0, 2.0], [0.0, 0.0]]).to_sparse(),
        [np.arange(6, dtype=">f4").reshape(2, 3).T, np.array(["a", "bc"]), np.float64(1.5), np.array(3)],
        {1, 2},
        [torch.float32, torch.device("cpu"), 2 + 3j],
    ],
    ids=lambda value: type(value).__name__,
)
def test_values_round_trip(value: Any, tmp_path: Path) -> None:
    write_tree(value, tmp_path)
    assert equal(value, read_tree(tmp_path))


def test_named_tuples_and_dataclasses_keep_their_attributes_but_not_their_classes(tmp_path: Path) -> None:
    write_tree([Point(1, torch.ones(2)), Record(torch.zeros(2), "a")], tmp_path)
    point, record = read_tree(tmp_path)
    assert point.x == 1
    assert torch.equal(point[1], torch.ones(2))
    assert record.label == "a"
    assert type(record) is not Record


def test_tensors_that_share_memory_are_written(tmp_path: Path) -> None:
    shared = torch.randn(4)
    write_tree([shared, shared, shared[1:]], tmp_path)
    first, second, part = read_tree(tmp_path)
    assert torch.equal(first, second)
    assert torch.equal(first[1:], part)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tree.json", b"{"),
        ("tree.json", b"[" * 100_000),
        ("tree.json", b'{"is": "call", "values": ["os.system"]}'),
        (
            "tree.json",
            b'{"is": "tensor", "name": "not there", "dtype": "float32", "shape": [1], "requires_grad": false}',
        ),
        ("tree.json", b'{"is": "namedtuple", "keys": ["x, y=print(1)"], "values": [1]}'),
        ("tree.json", b'{"is": "namedtuple", "keys": ["__class__"], "values": [1]}'),
        ("tree.json", b'{"is": "array", "name": "0:", "dtype": "O", "shape": [1]}'),
        ("tensors.safetensors", b"\xff\xff\xff\xff\xff\xff\xff\x7f{}"),
        ("tensors.safetensors", pickle.dumps({"a": 1})),
    ],
)
def test_a_broken_or_hostile_bundle_is_an_error_that_names_it(name: str, content: bytes, tmp_path: Path) -> None:
    write_tree(torch.ones(2), tmp_path)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(SourceError, match=str(tmp_path.name)):
        read_bundle(tmp_path)


def changed(parts: Any) -> Any:
    def change(tree: dict[str, Any]) -> None:
        tree["parts"] = parts(tree["parts"][0]) if callable(parts) else parts

    return change


@pytest.mark.parametrize(
    "change",
    [
        changed([]),
        changed({}),
        changed([3]),
        changed(lambda part: [{**part, "random": 1}]),
        changed(lambda part: [{**part, "is_whole": "yes"}]),
        changed(lambda part: [{**part, "is_whole": False, "batch": 3}]),
        changed(lambda part: [{**part, "is_whole": False, "batch": ((), {1: 2})}]),
        changed(lambda part: [{**part, "is_whole": False, "batch": ((), {}), "root": "__class__"}]),
        changed(lambda part: [{**part, "random": {"os.system": 1}}]),
        changed(lambda part: [{**part, "random": {"torch": "x"}}]),
        changed(lambda part: [{**part, "random": {"python": (1, 2)}}]),
        changed(lambda part: [{"batch": 1}]),
    ],
)
def test_invalid_parts_are_an_error(program: Any, tmp_path: Path, change: Any) -> None:
    guard, _ = tripped(program)
    tree = read_tree(guard.bundle(tmp_path / "sound"))
    change(tree)
    (tmp_path / "hostile").mkdir()
    write_tree(tree, tmp_path / "hostile")
    with pytest.raises((SourceError, UsageError)):
        replay(tmp_path / "hostile", "bundled_program:build", "text")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="needs /dev/zero")
@pytest.mark.parametrize("name", ["tree.json", "tensors.safetensors"])
def test_a_device_in_place_of_a_file_is_not_read(name: str, tmp_path: Path) -> None:
    write_tree(torch.ones(2), tmp_path)
    (tmp_path / name).unlink()
    (tmp_path / name).symlink_to("/dev/zero")
    with pytest.raises(SourceError, match="not a regular file"):
        read_bundle(tmp_path)


def test_a_folder_that_is_not_a_bundle_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="does not exist"):
        read_bundle(tmp_path)
    write_tree({"format": "other"}, tmp_path)
    with pytest.raises(SourceError, match="not a datacheck bundle"):
        read_bundle(tmp_path)
    write_tree({"format": "datacheck-bundle", "version": 99}, tmp_path)
    with pytest.raises(SourceError, match="version 99"):
        read_bundle(tmp_path)


def test_a_model_that_does_not_match_the_bundle_is_an_error(program: Any, tmp_path: Path) -> None:
    guard, _ = tripped(program)
    bundle = read_bundle(guard.bundle(tmp_path / "here"))
    with pytest.raises(UsageError, match=r"missing 'first\.weight'.*unexpected 'weight'"):
        bundle.load_into(nn.Linear(2, 2))
    other, _ = program.build()
    other.last = nn.Linear(4, 5)
    with pytest.raises(UsageError, match=r"'last\.weight' has shape \(5, 4\), expected \(3, 4\)"):
        bundle.load_into(other)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        ("bundled_program", "expected the function that builds"),
        ("bundled_program:buildd", "did you mean 'build'"),
        ("bundled_program:nn", "not a function"),
        ("no_such_module:build", "no_such_module"),
        ("bundled_program:Net", "loss function"),
        ("bundled_program:build_badly", r"build_badly raised OSError: no weights here \(.*bundled_program\.py:30\)"),
        ("bundled_program:build_for", "build_for raised TypeError.*missing 1 required"),
        ("bundled_program:build_with_bad_loss", r"the step raised KeyError: 'colour' \(.*bundled_program\.py:38\)"),
    ],
)
def test_an_invalid_build_is_an_error(program: Any, tmp_path: Path, build: str, message: str) -> None:
    guard, _ = tripped(program)
    from datacheck.errors import DatacheckError

    with pytest.raises(DatacheckError, match=message):
        replay(guard.bundle(tmp_path / "here"), build, "text")


@pytest.mark.slow
def test_a_bundle_replays_in_another_process(program: Any, tmp_path: Path) -> None:
    _, error = tripped(program, bundle_dir=tmp_path / "bundles")
    code = (
        "import sys; from pathlib import Path; from datacheck.cli.replay import replay; "
        f"sys.exit(replay(Path({error.bundle!r}), 'bundled_program:build', 'text'))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert done.stdout.startswith("step 4: DC401 division-by-zero")
