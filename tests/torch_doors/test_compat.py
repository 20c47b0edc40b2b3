"""Every private name of torch that datacheck uses: what happens where a release of torch does not have it."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

import datacheck.torch  # noqa: E402
from datacheck.torch import (  # noqa: E402
    _compat,
    _private_names,
    diagnose,
)
from datacheck.torch.loader.skipped import SkippedSample  # noqa: E402

ROOM = Path(datacheck.torch.__file__).parent
NAMES = [name.path for name in _private_names.PRIVATE_NAMES]


class _Absent:
    """A descriptor that makes an attribute look absent, also on the classes of C that cannot be changed."""

    def __get__(self, instance: object, owner: type | None = None) -> Any:
        raise AttributeError("absent")

    def __set__(self, instance: object, value: object) -> None:
        raise AttributeError("absent")


Remove = Callable[[str], None]


@pytest.fixture
def remove(monkeypatch: pytest.MonkeyPatch) -> Iterator[Remove]:
    """Takes a name out of torch and lets datacheck look again; both are undone after the test."""

    def take_out(path: str) -> None:
        owner_path, _, name = path.removeprefix("torch.").rpartition(".")
        owner = torch
        for part in owner_path.split(".") if owner_path else []:
            owner = getattr(owner, part)
        if name == "_schema":
            monkeypatch.setattr(type(owner), name, _Absent(), raising=False)
        elif isinstance(owner, type) and name not in vars(owner):
            monkeypatch.setattr(owner, name, _Absent(), raising=False)
        else:
            monkeypatch.delattr(owner, name)
        look_again()

    yield take_out
    monkeypatch.undo()
    look_again()


def look_again() -> None:
    importlib.reload(_private_names)
    importlib.reload(_compat)


def bad_loss() -> torch.Tensor:
    return torch.log(torch.zeros(3, requires_grad=True)).sum()


def bad_gradient() -> torch.Tensor:
    return torch.sqrt(torch.zeros(3, requires_grad=True)).sum()


def sparse_loss() -> torch.Tensor:
    layer = nn.Embedding(4, 2, sparse=True)
    return torch.sqrt(layer(torch.tensor([1, 1])) * 0).sum()


class Doubled(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x * 2

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> torch.Tensor:
        return gradients[0] / torch.zeros_like(gradients[0])


def custom_loss() -> torch.Tensor:
    return Doubled.apply(torch.ones(3, requires_grad=True)).sum()  # type: ignore[no-any-return]


def batch_norm_loss() -> torch.Tensor:
    return torch.log(nn.BatchNorm1d(2)(torch.ones(4, 2)) * 0).sum()


def lacks_operation_lines() -> None:
    diagnosis = diagnose(bad_gradient)
    assert diagnosis is not None
    assert diagnosis.phase == "backward"


def lacks_recording() -> None:
    for loss, phase in ((bad_loss, "loss"), (bad_gradient, "backward")):
        diagnosis = diagnose(loss)
        assert diagnosis is not None
        assert (diagnosis.phase, diagnosis.cause, diagnosis.op) == (phase, "unknown", None)
        assert f"torch {torch.__version__} has no torch." in diagnosis.explanation
    assert diagnose(lambda: torch.ones(3, requires_grad=True).sum()) is None


def still_diagnoses() -> None:
    for loss in (bad_loss, bad_gradient, sparse_loss, custom_loss, batch_norm_loss):
        assert diagnose(loss) is not None
    first = diagnose(bad_loss)
    assert first is not None
    assert (first.cause, first.op) == ("log-of-zero-or-negative", "aten.log.default")


def lacks_stored_sparse() -> None:
    tensor = torch.sparse_coo_tensor([[1, 1, 0]], [1.0, 2.0, 3.0], (3,), check_invariants=True)
    indices, values = _compat.sparse_parts(tensor)
    assert indices.tolist() == [[0, 1]]
    assert values.tolist() == [3.0, 3.0]
    still_diagnoses()


def lacks_graph_task() -> None:
    seen: list[int] = []
    x = torch.ones(2, requires_grad=True)
    x.register_hook(lambda _: seen.append(_compat.current_graph_task_id()))
    x.sum().backward()
    assert seen == [-1]


def lacks_transform_test() -> None:
    seen: list[bool] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(_compat.is_transformed(x))
        return x.sum()

    torch.func.grad(look)(torch.ones(2))
    torch.func.vmap(look)(torch.ones(2, 2))
    assert seen == [True, True]
    assert not _compat.is_transformed(torch.ones(2))
    assert not _compat.is_transformed(torch.ones(2, 2).to_sparse())


def lacks_gradient_functions() -> None:
    leaf = _compat.as_leaf(torch.ones(2))
    assert leaf.is_leaf
    assert leaf.requires_grad
    assert _compat.untransformed(leaf) is leaf
    assert None in (_compat.gradient_function(), _compat.functional_gradient()) or not hasattr(
        torch._functorch.eager_transforms, "enable_inplace_requires_grad"
    )


def lacks_unwrapping() -> None:
    seen: list[bool] = []

    def look(x: torch.Tensor) -> torch.Tensor:
        seen.append(_compat.untransformed(x) is x)
        return x.sum()

    torch.func.grad(look)(torch.ones(2))
    assert seen == [True]


def lacks_foreach_norm() -> None:
    norms = _compat.foreach_norm([torch.tensor([3.0, 4.0]), torch.tensor([2.0])], dtype=torch.float64)
    assert [norm.item() for norm in norms] == [5.0, 2.0]
    assert {norm.dtype for norm in norms} == {torch.float64}


def lacks_foreach_sub() -> None:
    tensors = [torch.tensor([3.0, 4.0]), torch.tensor([2.0])]
    _compat.foreach_sub_(tensors, [torch.tensor([1.0, 1.0]), torch.tensor([5.0])])
    assert [tensor.tolist() for tensor in tensors] == [[2.0, 3.0], [-3.0]]


def lacks_flatten() -> None:
    vector = _compat.flattened([torch.tensor([[3.0, 4.0]]).mT, torch.tensor(2.0)])
    assert vector.tolist() == [3.0, 4.0, 2.0]


def lacks_version() -> None:
    x = torch.ones(2)
    assert _compat.version_of(x) != _compat.version_of(x)


def lacks_norm_base() -> None:
    assert isinstance(nn.BatchNorm2d(3), _compat.batch_norm_classes())
    assert isinstance(nn.InstanceNorm1d(3), _compat.batch_norm_classes())
    assert not isinstance(nn.LayerNorm(3), _compat.batch_norm_classes())


def lacks_loader_iterator() -> None:
    assert _compat.loader_iterator_class() not in type(iter(torch.utils.data.DataLoader(range(1)))).__mro__  # type: ignore[arg-type]


def lacks_disabled_modes() -> None:
    with _compat.unrecorded():
        assert torch.ones(1).sum() == 1


def lacks_collate_table() -> None:
    _compat.collate_functions()[SkippedSample] = lambda *_, **__: None
    assert _compat.collate_functions() == {}


#: What must hold where a name is absent.
WITHOUT: dict[str, Callable[[], None]] = {
    "torch.utils._python_dispatch.TorchDispatchMode": lacks_recording,
    "torch.ops.aten.add.Tensor._schema": lacks_recording,
    "torch._C._current_autograd_node": lacks_operation_lines,
    "torch._C._autograd._get_sequence_nr": lacks_operation_lines,
    "torch.autograd.Function._backward_cls._forward_cls": still_diagnoses,
    "torch.Tensor._post_accumulate_grad_hooks": still_diagnoses,
    "torch.Tensor._is_zerotensor": still_diagnoses,
    "torch.UntypedStorage._cdata": still_diagnoses,
    "torch.utils.checkpoint._checkpoint_without_reentrant_generator": still_diagnoses,
    "torch.Tensor._values": lacks_stored_sparse,
    "torch.Tensor._indices": lacks_stored_sparse,
    "torch._C._current_graph_task_id": lacks_graph_task,
    "torch._C._functorch.is_functorch_wrapped_tensor": lacks_transform_test,
    "torch._C._functorch.get_unwrapped": lacks_unwrapping,
    "torch._functorch.eager_transforms.grad_and_value_impl": lacks_gradient_functions,
    "torch._functorch.eager_transforms.enable_inplace_requires_grad": lacks_gradient_functions,
    "torch.autograd._engine_run_backward": lacks_gradient_functions,
    "torch._foreach_norm": lacks_foreach_norm,
    "torch._foreach_sub_": lacks_foreach_sub,
    "torch._utils._flatten_dense_tensors": lacks_flatten,
    "torch.Tensor._version": lacks_version,
    "torch.nn.modules.batchnorm._NormBase": lacks_norm_base,
    "torch.utils._python_dispatch._disable_current_modes": lacks_disabled_modes,
    "torch.utils.data.dataloader._BaseDataLoaderIter": lacks_loader_iterator,
    "torch.utils.data._utils.collate.default_collate_fn_map": lacks_collate_table,
}


def test_this_torch_has_every_private_name() -> None:
    assert _private_names.missing() == ()


@pytest.mark.parametrize("path", sorted(WITHOUT))
def test_without_a_private_name_the_feature_degrades_and_says_so(path: str, remove: Remove) -> None:
    remove(path)
    [absent] = _private_names.missing()
    assert absent.path == path
    with pytest.warns(UserWarning, match=re.escape(f"torch {torch.__version__} has no {path}: {absent.without}")):
        _private_names.warn_missing(absent.features[0])
    WITHOUT[path]()


@pytest.mark.parametrize(
    ("path", "found", "expected"),
    [
        ("Node._sequence_nr", lambda: _compat.sequence_number(object()), -1),
        (
            "Module._buffers",
            lambda: sorted(_compat.buffers_of(Public(nn.BatchNorm1d(2)))),  # type: ignore[arg-type]
            ["num_batches_tracked", "running_mean", "running_var"],
        ),
        ("Module._parameters", lambda: sorted(_compat.parameters_of(Public(nn.Linear(2, 1)))), ["bias", "weight"]),  # type: ignore[arg-type]
        ("Module._modules", lambda: sorted(_compat.children_of(Public(nn.Sequential(nn.ReLU())))), ["0"]),  # type: ignore[arg-type]
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_object_without_a_private_attribute_has_a_fallback(
    path: str, found: Callable[[], object], expected: object
) -> None:
    assert path in NAMES
    assert found() == expected


def test_an_uncompiled_module_is_not_unwrapped_and_any_optimizer_can_be_marked() -> None:
    model = nn.Linear(1, 1)
    assert _compat.without_compile_wrapper(model) is model
    wrapper = nn.Module()
    wrapper._orig_mod = model
    assert _compat.without_compile_wrapper(wrapper) is model
    optimizer = SimpleNamespace()
    _compat.mark_stepped(optimizer)  # type: ignore[arg-type]
    assert optimizer._opt_called


def test_every_private_name_is_tested() -> None:
    by_object = {
        "Node._sequence_nr",
        "GradScaler._per_optimizer_states",
        "Optimizer._opt_called",
        "OptimizedModule._orig_mod",
    }
    by_object |= {"Module._buffers", "Module._parameters", "Module._modules"}
    assert set(WITHOUT) | by_object == set(NAMES)


class Public:
    """A module of which only the public methods are there."""

    def __init__(self, module: nn.Module) -> None:
        self.named_buffers = module.named_buffers
        self.named_parameters = module.named_parameters
        self.named_children = module.named_children


def private_names_in(path: Path) -> list[str]:
    """Names that begin with one underscore and are read from torch or from objects of it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    spelt = {name.rpartition(".")[2] for name in NAMES if name.rpartition(".")[2].startswith("_")}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "self":
            continue
        dotted = ast.unparse(node) if isinstance(node, ast.Attribute) else ""
        if dotted.rpartition(".")[2] in spelt or re.search(r"^torch\.(\w+\.)*_[a-z]", dotted, re.IGNORECASE):
            found.append(f"{path.name}:{node.lineno} {dotted}")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("torch"):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            found += [f"{path.name}:{node.lineno} {name}" for name in names if "._" in name]
    return found


MODULES = sorted(path for path in ROOM.rglob("*.py") if path.name != "_compat.py")


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOM)))
def test_only_compat_spells_private_names(path: Path) -> None:
    assert private_names_in(path) == []
