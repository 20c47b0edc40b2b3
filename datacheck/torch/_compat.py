"""Torch's private names, each behind a function that falls back where a release of torch lacks the name.

Nothing else in the package spells such a name. A name is looked up once, when this module is imported;
:mod:`datacheck.torch._private_names` lists them and says what is lost without each.

Private dunders of Python (``sys._getframe``, a namedtuple's ``_fields``) are documented and are not listed.
"""

from __future__ import annotations

import operator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
import torch.utils.checkpoint
from torch import Tensor, nn

from datacheck.torch._private_names import RECORDING, lookup, missing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, MutableMapping, Sequence

__all__ = [
    "WRAPPER_ATTRIBUTES",
    "DispatchMode",
    "as_leaf",
    "batch_norm_classes",
    "buffers_of",
    "children_of",
    "collate_functions",
    "current_graph_task_id",
    "current_node",
    "flattened",
    "foreach_norm",
    "foreach_sub_",
    "forward_class",
    "forward_sequence_number",
    "functional_gradient",
    "gradient_function",
    "gradient_hooks",
    "is_transformed",
    "is_unscaled",
    "is_zero_tensor",
    "loader_iterator_class",
    "mark_stepped",
    "parameters_of",
    "recording_problem",
    "schema_of",
    "sequence_number",
    "sparse_parts",
    "storage_id",
    "unrecorded",
    "untransformed",
    "version_of",
    "without_checkpointing",
    "without_compile_wrapper",
]


#: Attributes under which wrappers keep the module that they wrap; they occur in the qualified names of parameters.
WRAPPER_ATTRIBUTES = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


# Recording operations.

if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode
else:
    DispatchMode = lookup("torch.utils._python_dispatch.TorchDispatchMode")
    if DispatchMode is None:

        class DispatchMode:
            """Replaces torch's dispatch mode where there is none, so that the recorder can be defined."""


_without_modes: Callable[[], AbstractContextManager[Any]] | None = lookup(
    "torch.utils._python_dispatch._disable_current_modes"
)


_checkpoint_generator = lookup("torch.utils.checkpoint._checkpoint_without_reentrant_generator")


class _Uncheckpointed:
    """Takes the place of torch's ``CheckpointFunction``, and keeps what the function computes."""

    @staticmethod
    def apply(function: Callable[..., Any], _preserve: bool, *args: Any) -> Any:
        return function(*args)


@contextmanager
def without_checkpointing() -> Iterator[None]:
    """Runs the block with everything kept that activation checkpointing would run again in the backward pass."""
    module: Any = torch.utils.checkpoint
    if _checkpoint_generator is None:
        yield
        return
    function = module.CheckpointFunction
    module._checkpoint_without_reentrant_generator = lambda *_, **__: (None for _ in range(1))
    module.CheckpointFunction = _Uncheckpointed
    try:
        yield
    finally:
        module._checkpoint_without_reentrant_generator = _checkpoint_generator
        module.CheckpointFunction = function


def unrecorded() -> AbstractContextManager[Any]:
    """Runs the block without recording its operations; records them where torch has no way not to."""
    return nullcontext() if _without_modes is None else _without_modes()


def recording_problem() -> str | None:
    """Why operations cannot be recorded; None where they can."""
    absent = [name.path for name in missing("diagnosis") if name.path in RECORDING]
    return f"torch {torch.__version__} has no {' and no '.join(absent)}" if absent else None


def schema_of(func: Any) -> Any:
    """The schema of an operation: its arguments and which of them it writes."""
    return func._schema


_current_node: Callable[[], Any] | None = lookup("torch._C._current_autograd_node")
_sequence: Callable[[], int] | None = lookup("torch._C._autograd._get_sequence_nr")


def current_node() -> Any:
    """The node of the graph that the backward pass is at; None outside one, or where torch does not say."""
    return None if _current_node is None else _current_node()


def forward_sequence_number() -> int:
    """The sequence number of the node that was made last on this thread; -1 where torch does not say."""
    return -1 if _sequence is None else _sequence() - 1


def sequence_number(node: Any) -> int:
    """The sequence number of a node of the graph; -1 where it has none."""
    number = getattr(node, "_sequence_nr", None)
    return -1 if number is None else int(number())


def forward_class(node: Any) -> type | None:
    """The custom autograd Function that a node belongs to; None for torch's own nodes."""
    owner = getattr(node, "_forward_cls", None)
    return owner if isinstance(owner, type) else None


def gradient_hooks(leaf: Tensor) -> MutableMapping[Any, Any] | None:
    """The dictionary of a leaf's post-accumulate-grad hooks, which the graph reads; None where there are none."""
    hooks: MutableMapping[Any, Any] | None = getattr(leaf, "_post_accumulate_grad_hooks", None)
    return hooks


# Tensors.


def is_zero_tensor(tensor: Tensor) -> bool:
    """Whether a tensor represents zeros without memory of its own, as functional transforms make them."""
    if hasattr(tensor, "_is_zerotensor"):
        return tensor._is_zerotensor()
    try:
        return tensor.numel() > 0 and tensor.data_ptr() == 0
    except (NotImplementedError, RuntimeError):
        return True


def storage_id(tensor: Tensor) -> int:
    """What tells storages apart while they live; where torch does not say, their address, 0 for all empty ones."""
    storage = tensor.untyped_storage()
    return int(storage._cdata) if hasattr(storage, "_cdata") else storage.data_ptr()


def sparse_parts(tensor: Tensor) -> tuple[Tensor, Tensor]:
    """The indices ``(sparse dims, entries)`` and the values of a COO tensor, as they are stored where torch says."""
    if hasattr(tensor, "_indices") and hasattr(tensor, "_values"):
        return tensor._indices(), tensor._values()
    tensor = tensor.detach().coalesce()
    return tensor.indices(), tensor.values()


#: The number of in-place changes that a tensor has seen. Where torch does not say, no two readings are the same.
version_of: Callable[[Tensor], int]
if hasattr(Tensor, "_version"):
    version_of = operator.attrgetter("_version")
else:
    _readings = count()
    version_of = lambda _: next(_readings)  # noqa: E731


_is_wrapped: Callable[[Tensor], bool] | None = lookup("torch._C._functorch.is_functorch_wrapped_tensor")


def is_transformed(tensor: Tensor) -> bool:
    """Whether a functional transform (``vmap``, ``grad``) replaces it by a wrapper."""
    if _is_wrapped is not None:
        return _is_wrapped(tensor)
    if tensor.layout is not torch.strided:
        return False
    try:
        tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return True
    return False


_unwrap: Callable[[Tensor], Tensor] | None = lookup("torch._C._functorch.get_unwrapped")


def untransformed(tensor: Tensor) -> Tensor:
    """The tensor that functional transforms have wrapped; under ``vmap`` it has more dimensions."""
    while _unwrap is not None and is_transformed(tensor):
        tensor = _unwrap(tensor)
    return tensor


_allow_leaves: Callable[[bool], AbstractContextManager[None]] | None = lookup(
    "torch._functorch.eager_transforms.enable_inplace_requires_grad"
)


def as_leaf(tensor: Tensor) -> Tensor:
    """The same values, as a leaf of the graph; under ``vmap`` too where torch allows that."""
    with nullcontext() if _allow_leaves is None else _allow_leaves(True):
        return tensor.detach().requires_grad_()


def functional_gradient() -> tuple[Any, str] | None:
    """The module and the name of what ``torch.func.grad`` calls; None where torch has no such function."""
    return _owner_of("torch._functorch.eager_transforms", "grad_and_value_impl")


def gradient_function() -> tuple[Any, str] | None:
    """The module and the name of what ``torch.autograd.grad`` calls, wherever it was imported to, with the outputs, their
    gradients, ``retain_graph``, ``create_graph`` and the inputs; None where torch has no such function.
    """
    return _owner_of("torch.autograd", "_engine_run_backward")


def _owner_of(module: str, name: str) -> tuple[Any, str] | None:
    return None if lookup(f"{module}.{name}") is None else (lookup(module), name)


#: The id of the backward pass that runs on this thread; -1 outside one, and everywhere where torch does not say.
current_graph_task_id: Callable[[], int] = lookup("torch._C._current_graph_task_id") or (lambda: -1)
_foreach_norm: Callable[..., Sequence[Tensor]] | None = lookup("torch._foreach_norm")
_foreach_sub_: Callable[..., None] | None = lookup("torch._foreach_sub_")
_flatten: Callable[[Sequence[Tensor]], Tensor] | None = lookup("torch._utils._flatten_dense_tensors")


def flattened(tensors: Sequence[Tensor]) -> Tensor:
    """The values of dense tensors in one vector, copied in one call where torch has it."""
    return torch.cat([tensor.reshape(-1) for tensor in tensors]) if _flatten is None else _flatten(tensors)


def foreach_norm(tensors: Sequence[Tensor], dtype: torch.dtype | None = None, order: float = 2) -> Sequence[Tensor]:
    """The norm of each tensor, Euclidean unless ``order`` says otherwise, in ``dtype`` and in one kernel if torch has it."""
    if _foreach_norm is not None:
        return _foreach_norm(tensors, order, dtype=dtype)
    return [torch.linalg.vector_norm(tensor, order, dtype=dtype) for tensor in tensors]


def foreach_sub_(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """Subtract each of ``others`` from each tensor, in place, in one kernel where torch has it."""
    if _foreach_sub_ is not None:
        _foreach_sub_(tensors, others)
        return
    for tensor, other in zip(tensors, others, strict=True):
        tensor.sub_(other)


# Modules, optimizers, scalers, collate functions.


def _members(module: nn.Module, name: str, public: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    members = vars(module).get(name)
    return dict(public) if members is None else members


def buffers_of(module: nn.Module) -> dict[str, Tensor | None]:
    """A module's own buffers by name: the dictionary itself where torch has it, else a copy."""
    return _members(module, "_buffers", module.named_buffers(recurse=False, remove_duplicate=False))


def parameters_of(module: nn.Module) -> dict[str, nn.Parameter | None]:
    """A module's own parameters by name: the dictionary itself where torch has it, else a copy."""
    return _members(module, "_parameters", module.named_parameters(recurse=False, remove_duplicate=False))


def children_of(module: nn.Module) -> dict[str, nn.Module | None]:
    """A module's children by name: the dictionary itself where torch has it, else a copy."""
    return _members(module, "_modules", module.named_children())


def batch_norm_classes() -> tuple[type[nn.Module], ...]:
    """The classes whose running statistics a forward pass updates in place."""
    base = lookup("torch.nn.modules.batchnorm._NormBase")
    if base is not None:
        return (base,)
    batch_norms = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    return (*batch_norms, nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d)


def without_compile_wrapper(model: nn.Module) -> nn.Module:
    """The module inside the wrapper that ``torch.compile`` makes; the module itself where it is not wrapped."""
    inner = getattr(model, "_orig_mod", None)
    return inner if isinstance(inner, nn.Module) else model


def mark_stepped(optimizer: torch.optim.Optimizer) -> None:
    """Say that an optimizer was stepped, so that its scheduler does not warn of the order after a skipped step."""
    optimizer._opt_called = True  # type: ignore[attr-defined]


def is_unscaled(scaler: object, optimizer: torch.optim.Optimizer) -> bool:
    """Whether a GradScaler has unscaled the gradients of an optimizer in this step; true where torch hides it."""
    states = getattr(scaler, "_per_optimizer_states", None)
    if states is None:
        return True
    # Not a stage of its own until it is unscaled; ``get`` leaves the scaler's default out.
    stage = states.get(id(optimizer), {}).get("stage")
    return stage is not None and stage.name != "READY"


def loader_iterator_class() -> Any:
    """The class whose ``__next__`` fetches the batches of a DataLoader; one that nobody uses where torch has none."""

    class Unused:
        def __next__(self) -> Any: ...

    return lookup("torch.utils.data.dataloader._BaseDataLoaderIter") or Unused


def collate_functions() -> dict[type, Any]:
    """Torch's table of collate functions by the type of a sample, to add to; a table that nobody reads where it has none."""
    table: dict[type, Any] | None = lookup("torch.utils.data._utils.collate.default_collate_fn_map")
    return {} if table is None else table
