"""Every private name of torch that datacheck uses, each with what replaces it where a release of torch lacks it.

Nothing else in the package spells such a name. A name is looked up once, when this module is imported; where it is absent,
the function here that stands for it falls back, and :func:`warn_missing` says once what the user loses.

Private dunders of Python (``sys._getframe``, a namedtuple's ``_fields``) are documented and are not listed.
"""

from __future__ import annotations

import operator
import warnings
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cache
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, MutableMapping, Sequence

__all__ = [
    "PRIVATE_NAMES",
    "WRAPPER_ATTRIBUTES",
    "DispatchMode",
    "MissingPrivateNameWarning",
    "PrivateName",
    "batch_norm_classes",
    "buffers_of",
    "children_of",
    "collate_functions",
    "current_graph_task_id",
    "current_node",
    "foreach_norm",
    "foreach_sub_",
    "forward_class",
    "forward_sequence_number",
    "gradient_hooks",
    "is_transformed",
    "is_unscaled",
    "is_zero_tensor",
    "loader_iterator_class",
    "mark_stepped",
    "missing",
    "parameters_of",
    "recording_problem",
    "schema_of",
    "sequence_number",
    "sparse_parts",
    "storage_id",
    "unrecorded",
    "version_of",
    "warn_missing",
    "without_compile_wrapper",
]


class MissingPrivateNameWarning(UserWarning):
    """This release of torch lacks a private name that a feature of datacheck relies on."""


@dataclass(frozen=True, slots=True)
class PrivateName:
    """One private name.

    Attributes:
        path: where it is. A first part other than ``torch`` names a class of objects.
        features: who uses it: ``diagnosis``, ``guard``, ``loader``.
        seen: the releases of torch in which it was looked up and found.
        without: what is lost where it is absent.
    """

    path: str
    features: tuple[str, ...]
    without: str
    seen: tuple[str, ...] = ("2.6", "2.13")


_DIAGNOSIS, _GUARD, _LOADER = "diagnosis", "guard", "loader"

#: The private names. What stands for each of them is the function of the same subject below.
PRIVATE_NAMES: tuple[PrivateName, ...] = (
    PrivateName(
        "torch.utils._python_dispatch.TorchDispatchMode",
        (_DIAGNOSIS,),
        "operations cannot be recorded: a diagnosis says only that the loss is non-finite, not where it became so",
    ),
    PrivateName(
        "torch.utils._python_dispatch._disable_current_modes",
        (_GUARD,),
        "what tells a float16 underflow from a plain root of 0 may be missed in a user's own loop",
    ),
    PrivateName(
        "torch.ops.aten.add.Tensor._schema",
        (_DIAGNOSIS,),
        "operations cannot be recorded: a diagnosis says only that the loss is non-finite, not where it became so",
    ),
    PrivateName(
        "torch._C._current_autograd_node",
        (_DIAGNOSIS,),
        "operations of the backward pass are not matched to the forward lines that they are derivatives of",
    ),
    PrivateName(
        "torch._C._autograd._get_sequence_nr",
        (_DIAGNOSIS,),
        "operations of the backward pass are not matched to the forward lines that they are derivatives of",
    ),
    PrivateName(
        "Node._sequence_nr",
        (_DIAGNOSIS,),
        "operations of the backward pass are not matched to the forward lines that they are derivatives of",
    ),
    PrivateName(
        "torch.autograd.Function._backward_cls._forward_cls",
        (_DIAGNOSIS,),
        "a fault in the backward of a custom autograd Function is reported as one of the operation in it",
    ),
    PrivateName(
        "torch.Tensor._post_accumulate_grad_hooks",
        (_DIAGNOSIS,),
        "post-accumulate-grad hooks also run in a replay; one that steps an optimizer would change the weights",
    ),
    PrivateName(
        "torch.Tensor._is_zerotensor",
        (_DIAGNOSIS,),
        "gradients under torch.func transforms may not be checked",
    ),
    PrivateName("torch.UntypedStorage._cdata", (_DIAGNOSIS,), "empty tensors cannot be told apart by their memory"),
    PrivateName(
        "torch.Tensor._values",
        (_DIAGNOSIS, _GUARD, _LOADER),
        "sparse tensors are coalesced before they are checked, which costs a copy",
    ),
    PrivateName(
        "torch.Tensor._indices",
        (_GUARD, _LOADER),
        "sparse tensors are coalesced before they are checked, which costs a copy",
    ),
    PrivateName(
        "torch._C._current_graph_task_id",
        (_GUARD,),
        "forward passes that activation checkpointing runs again count as new ones",
    ),
    PrivateName(
        "torch._C._functorch.is_functorch_wrapped_tensor",
        (_GUARD,),
        "tensors under torch.func transforms are recognised by their lack of storage",
    ),
    PrivateName("torch._foreach_norm", (_GUARD,), "gradient norms are computed one tensor at a time, which is slower"),
    PrivateName("torch._foreach_sub_", (_GUARD,), "updates are measured one tensor at a time, which is slower"),
    PrivateName("torch.Tensor._version", (_GUARD,), "every buffer is copied at every step, for changes are not seen"),
    PrivateName(
        "torch.nn.modules.batchnorm._NormBase",
        (_GUARD,),
        "running statistics of normalisation layers other than torch's own public ones are copied at every step",
    ),
    PrivateName("Module._buffers", (_DIAGNOSIS, _GUARD), "buffers that are None are not restored"),
    PrivateName("Module._parameters", (_GUARD,), "parameters that are None are lost from an unsharded copy"),
    PrivateName("Module._modules", (_GUARD,), "submodules that are None are lost from an unsharded copy"),
    PrivateName(
        "GradScaler._per_optimizer_states",
        (_GUARD,),
        "the gradient norm that guard.check reports before a trainer unscales is that under the loss scale",
    ),
    PrivateName(
        "Optimizer._opt_called", (_GUARD,), "a scheduler may warn that it was stepped before its optimizer after a skip"
    ),
    PrivateName(
        "OptimizedModule._orig_mod", (_DIAGNOSIS, _GUARD), "names in a compiled model begin with the wrapper's name"
    ),
    PrivateName(
        "torch.utils.data.dataloader._BaseDataLoaderIter",
        (_GUARD,),
        "a batch that a loop changes before it calls the model is not traced to the line that changes it",
    ),
    PrivateName(
        "torch.utils.data._utils.collate.default_collate_fn_map",
        (_LOADER,),
        "torch's default_collate describes a skipped sample by its type, not by what to do about it",
    ),
)

#: Attributes under which wrappers keep the module that they wrap; they occur in the qualified names of parameters.
WRAPPER_ATTRIBUTES = frozenset({"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})


def _lookup(path: str) -> Any:
    """What is at a path under ``torch``; None where it is absent."""
    try:
        return operator.attrgetter(path.removeprefix("torch."))(torch)
    except AttributeError:
        return None


def _example(kind: str) -> object | None:
    """An object of the class that a path begins with; None for one that would be costly to make."""
    if kind == "Node":
        with torch.inference_mode(False), torch.enable_grad():
            return torch.zeros((), requires_grad=True).add(1).grad_fn
    if kind == "Module":
        return nn.Module()
    return None


@cache
def missing(feature: str | None = None) -> tuple[PrivateName, ...]:
    """The names that this release of torch lacks, of one feature or of all."""
    absent = []
    for name in PRIVATE_NAMES:
        kind, _, rest = name.path.partition(".")
        if kind == "torch":
            is_absent = _lookup(name.path) is None
        else:
            example = _example(kind)
            is_absent = example is not None and not hasattr(example, rest)
        if is_absent and (feature is None or feature in name.features):
            absent.append(name)
    return tuple(absent)


@cache
def warn_missing(feature: str) -> None:
    """Warn, once a process, of each name that a feature needs and this torch lacks."""
    for name in missing(feature):
        warnings.warn(
            f"torch {torch.__version__} has no {name.path}: {name.without}", MissingPrivateNameWarning, stacklevel=3
        )


# Recording operations.

if TYPE_CHECKING:
    from torch.utils._python_dispatch import TorchDispatchMode as DispatchMode
else:
    DispatchMode = _lookup("torch.utils._python_dispatch.TorchDispatchMode")
    if DispatchMode is None:

        class DispatchMode:
            """Stands for torch's dispatch mode where there is none, so that the recorder can be defined."""


_without_modes: Callable[[], AbstractContextManager[Any]] | None = _lookup(
    "torch.utils._python_dispatch._disable_current_modes"
)


def unrecorded() -> AbstractContextManager[Any]:
    """Runs the block without recording its operations; records them where torch has no way not to."""
    return nullcontext() if _without_modes is None else _without_modes()


def recording_problem() -> str | None:
    """Why operations cannot be recorded; None where they can."""
    needed = {"torch.utils._python_dispatch.TorchDispatchMode", "torch.ops.aten.add.Tensor._schema"}
    absent = [name.path for name in missing(_DIAGNOSIS) if name.path in needed]
    return f"torch {torch.__version__} has no {' and no '.join(absent)}" if absent else None


def schema_of(func: Any) -> Any:
    """The schema of an operation: its arguments and which of them it writes."""
    return func._schema


_current_node: Callable[[], Any] | None = _lookup("torch._C._current_autograd_node")
_sequence: Callable[[], int] | None = _lookup("torch._C._autograd._get_sequence_nr")


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

if hasattr(Tensor, "_is_zerotensor"):

    def is_zero_tensor(tensor: Tensor) -> bool:
        """Whether a tensor stands for zeros without memory, as functional transforms make them."""
        return tensor._is_zerotensor()

else:

    def is_zero_tensor(tensor: Tensor) -> bool:
        """Whether a tensor has no memory of its own; zeros of functional transforms have none."""
        try:
            return tensor.numel() > 0 and tensor.data_ptr() == 0
        except (NotImplementedError, RuntimeError):
            return True


if hasattr(torch.UntypedStorage, "_cdata"):

    def storage_id(tensor: Tensor) -> int:
        """What tells storages apart while they live."""
        return int(tensor.untyped_storage()._cdata)

else:

    def storage_id(tensor: Tensor) -> int:
        """What tells storages apart while they live: their address, which is 0 for all empty ones."""
        return tensor.untyped_storage().data_ptr()


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

    def version_of(tensor: Tensor) -> int:  # noqa: ARG001 - the signature of the one above
        """A number that was never given before."""
        return next(_readings)


_is_wrapped: Callable[[Tensor], bool] | None = _lookup("torch._C._functorch.is_functorch_wrapped_tensor")


def is_transformed(tensor: Tensor) -> bool:
    """Whether a functional transform (``vmap``, ``grad``) stands it in for another tensor."""
    if _is_wrapped is not None:
        return _is_wrapped(tensor)
    if tensor.layout is not torch.strided:
        return False
    try:
        tensor.untyped_storage()
    except (NotImplementedError, RuntimeError):
        return True
    return False


_graph_task: Callable[[], int] | None = _lookup("torch._C._current_graph_task_id")


def _no_graph_task() -> int:
    return -1


#: The id of the backward pass that runs on this thread; -1 outside one, and everywhere where torch does not say.
current_graph_task_id: Callable[[], int] = _no_graph_task if _graph_task is None else _graph_task

_foreach_norm: Callable[..., Sequence[Tensor]] | None = _lookup("torch._foreach_norm")
_foreach_sub_: Callable[..., None] | None = _lookup("torch._foreach_sub_")


def foreach_norm(tensors: Sequence[Tensor], dtype: torch.dtype | None = None) -> Sequence[Tensor]:
    """The Euclidean norm of each tensor, computed in ``dtype``, in one kernel where torch has it."""
    if _foreach_norm is not None:
        return _foreach_norm(tensors, 2, dtype=dtype)
    return [torch.linalg.vector_norm(tensor, dtype=dtype) for tensor in tensors]


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


_norm_base: type[nn.Module] | None = _lookup("torch.nn.modules.batchnorm._NormBase")


def batch_norm_classes() -> tuple[type[nn.Module], ...]:
    """The classes whose running statistics a forward pass updates in place."""
    if _norm_base is not None:
        return (_norm_base,)
    return (
        nn.BatchNorm1d,
        nn.BatchNorm2d,
        nn.BatchNorm3d,
        nn.SyncBatchNorm,
        nn.InstanceNorm1d,
        nn.InstanceNorm2d,
        nn.InstanceNorm3d,
    )


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

    return _lookup("torch.utils.data.dataloader._BaseDataLoaderIter") or Unused


def collate_functions() -> dict[type, Any]:
    """Torch's table of collate functions by the type of a sample, to add to; a table that nobody reads where it has none."""
    table: dict[type, Any] | None = _lookup("torch.utils.data._utils.collate.default_collate_fn_map")
    return {} if table is None else table
