"""The private names of torch that datacheck uses, and what is lost where a release of torch lacks one."""

from __future__ import annotations

import operator
import warnings
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import nn


class MissingPrivateNameWarning(UserWarning):
    """This release of torch lacks a private name that a feature of datacheck relies on."""


@dataclass(frozen=True, slots=True)
class PrivateName:
    """One private name.

    Attributes:
        path: where it is. A first part other than ``torch`` names a class of objects.
        features: who uses it: ``diagnosis``, ``guard``, ``loader``.
        without: what is lost where it is absent.
        seen: the releases of torch in which it was looked up and found.
    """

    path: str
    features: tuple[str, ...]
    without: str
    seen: tuple[str, ...] = ("2.6", "2.13")


#: Without these no operation can be recorded.
RECORDING = ("torch.utils._python_dispatch.TorchDispatchMode", "torch.ops.aten.add.Tensor._schema")

#: What is lost without a private name, which features lose it, and the names that they need.
_LOSSES = (
    (
        "operations cannot be recorded: a diagnosis says only that the loss is non-finite, not where it became so",
        "diagnosis",
        RECORDING,
    ),
    (
        "backward operations are not matched to the forward lines that they belong to",
        "diagnosis",
        ("torch._C._current_autograd_node", "torch._C._autograd._get_sequence_nr", "Node._sequence_nr"),
    ),
    (
        "a fault in the backward of a custom autograd Function is reported as one of the operation in it",
        "diagnosis",
        ("torch.autograd.Function._backward_cls._forward_cls",),
    ),
    (
        "post-accumulate-grad hooks also run in a replay; one that steps an optimizer would change the weights",
        "diagnosis",
        ("torch.Tensor._post_accumulate_grad_hooks",),
    ),
    ("gradients under torch.func transforms may not be checked", "diagnosis", ("torch.Tensor._is_zerotensor",)),
    ("empty tensors cannot be told apart by their memory", "diagnosis", ("torch.UntypedStorage._cdata",)),
    (
        "fixes to lines that activation checkpointing runs again are suggested untried",
        "diagnosis",
        ("torch.utils.checkpoint._checkpoint_without_reentrant_generator",),
    ),
    (
        "sparse tensors are coalesced before they are checked, which costs a copy",
        "diagnosis guard loader",
        ("torch.Tensor._values", "torch.Tensor._indices"),
    ),
    (
        "a float16 underflow may be reported as a plain root of 0 in a user's own loop",
        "guard",
        ("torch.utils._python_dispatch._disable_current_modes",),
    ),
    (
        "forward passes that activation checkpointing runs again count as new ones",
        "guard",
        ("torch._C._current_graph_task_id",),
    ),
    (
        "tensors under torch.func transforms are recognised by their lack of storage",
        "guard",
        ("torch._C._functorch.is_functorch_wrapped_tensor",),
    ),
    (
        "losses of torch.autograd.grad and torch.func.grad are not found",
        "guard",
        ("torch.autograd._engine_run_backward",),
    ),
    (
        "losses of torch.func.grad are not replayed",
        "guard",
        (
            "torch._C._functorch.get_unwrapped",
            "torch._functorch.eager_transforms.grad_and_value_impl",
            "torch._functorch.eager_transforms.enable_inplace_requires_grad",
        ),
    ),
    ("gradient norms are computed one tensor at a time, which is slower", "guard", ("torch._foreach_norm",)),
    ("updates are measured one tensor at a time, which is slower", "guard", ("torch._foreach_sub_",)),
    (
        "small gradients are read one tensor at a time, which is slower",
        "guard",
        ("torch._utils._flatten_dense_tensors",),
    ),
    ("every buffer is copied at every step, because changes are not seen", "guard", ("torch.Tensor._version",)),
    (
        "running statistics of normalisation layers other than torch's own public ones are copied at every step",
        "guard",
        ("torch.nn.modules.batchnorm._NormBase",),
    ),
    ("buffers that are None are not restored", "diagnosis guard", ("Module._buffers",)),
    ("parameters that are None are lost from an unsharded copy", "guard", ("Module._parameters",)),
    ("submodules that are None are lost from an unsharded copy", "guard", ("Module._modules",)),
    (
        "the gradient norm that guard.check reports before a trainer unscales is that under the loss scale",
        "guard",
        ("GradScaler._per_optimizer_states",),
    ),
    ("a scheduler may warn that it was stepped before its optimizer after a skip", "guard", ("Optimizer._opt_called",)),
    ("names in a compiled model begin with the wrapper's name", "diagnosis guard", ("OptimizedModule._orig_mod",)),
    (
        "a batch that a loop changes before it calls the model is not traced to the line that changes it",
        "guard",
        ("torch.utils.data.dataloader._BaseDataLoaderIter",),
    ),
    (
        "torch's default_collate describes a skipped sample by its type, not by what to do about it",
        "loader",
        ("torch.utils.data._utils.collate.default_collate_fn_map",),
    ),
)

#: The private names. What replaces each of them is a function of :mod:`datacheck.torch._compat`.
PRIVATE_NAMES = tuple(
    PrivateName(path, tuple(features.split()), without) for without, features, paths in _LOSSES for path in paths
)


def lookup(path: str) -> Any:
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
            is_absent = lookup(name.path) is None
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
