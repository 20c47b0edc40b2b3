"""Runs a step with some of its expressions replaced, and measures what that changes.

A replacement is evaluated where the program would go on with the result of the original expression: in the same function,
with the same variables, and with the values that the parts of the expression had.
"""

from __future__ import annotations

import ast
import copy
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import CodeType, FrameType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from datacheck.torch import safe
from datacheck.torch._compat import is_transformed, without_checkpointing
from datacheck.torch.diagnosis.fixes.patterns import is_simple, operands, value_of
from datacheck.torch.diagnosis.fixes.source import Expression, Source
from datacheck.torch.diagnosis.frames import kind_of
from datacheck.torch.diagnosis.program_source import position_of
from datacheck.torch.diagnosis.recorded_replay import check_loss
from datacheck.torch.diagnosis.recorder import dense_tensors_in
from datacheck.torch.diagnosis.restore import force_eager, isolated_gradients, leaves_of, run_backward
from datacheck.torch.values import is_comparable, is_finite, nonfinite_mask, plain_tensor

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context


#: How far a value may be from the original, relative to itself and to the largest of its tensor.
TOLERANCE = {torch.float16: 2e-3, torch.bfloat16: 1e-2}
DEFAULT_TOLERANCE = 1e-4

#: What a replacement may call besides the program's own names.
_SAFE: Mapping[str, Any] = {name: getattr(safe, name) for name in safe.__all__}


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """The instruction at which an operation was called."""

    code: CodeType
    offset: int


@dataclass(frozen=True, slots=True, eq=False)
class Patch:
    """A replacement for an expression.

    ``is_wider`` says that its result may have another dtype, ``spares_nan`` that what was NaN needs no gradient.
    ``is_identity`` says that it is the same function, whose values are right where the original's are not.
    """

    expression: Expression
    tree: ast.expr
    is_wider: bool = False
    spares_nan: bool = False
    is_identity: bool = False


@dataclass(slots=True)
class Trial:
    """What a run with patches showed. ``expressions`` are those found at the sites that were asked for.

    ``changed`` says how a replacement changed what was finite; ``num_repaired`` counts the values that were non-finite and
    now receive a gradient, ``num_dead`` the ones that pass none on, ``num_idle`` the ones that receive none.
    """

    loss: float = math.nan
    error: str = ""
    num_hits: int = 0
    changed: str = ""
    num_repaired: int = 0
    num_dead: int = 0
    num_idle: int = 0
    gradients: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    expressions: list[Expression] = field(default_factory=list)

    @property
    def has_finite_gradients(self) -> bool:
        return all(is_finite(gradient) for _, gradient in self.gradients.values())

    @property
    def has_gradient(self) -> bool:
        """Whether anything is trained."""
        return any(count_nonzero(gradient) > 0 for _, gradient in self.gradients.values())

    @property
    def gradient_norm(self) -> float:
        """The Euclidean norm of all gradients together."""
        return math.hypot(*(float(gradient.detach().double().norm()) for _, gradient in self.gradients.values()))


def run_trial(
    context: Context, sites: Sequence[Site], patches: Sequence[Patch] = (), *, shift_repaired: bool = False
) -> Trial:
    """Replay the step with the patches, forward and backward; an error of the program is part of the result.

    With ``shift_repaired``, 1 is added to what was non-finite: the square of a 0 gives it no gradient, but that of a 1 does.
    """
    watch = _Watch(sites, patches, shift_repaired=shift_repaired)
    trial = watch.trial
    context.restorer.restore()
    hook = nn.modules.module.register_module_forward_hook(watch.after_module)
    try:
        with force_eager(), without_checkpointing(), torch.enable_grad():
            with watch:
                loss = check_loss(context.replay())
            trial.loss = float(loss.detach())
            if math.isfinite(trial.loss) and loss.requires_grad:
                leaves = leaves_of(loss)
                with isolated_gradients(leaves):
                    run_backward(loss, context.scale)
                    trial.gradients = {
                        id(leaf): (leaf, plain_tensor(leaf.grad).clone()) for leaf in leaves if leaf.grad is not None
                    }
                    watch.count_dead()
    except Exception as error:  # a replacement may break any code
        trial.error = f"{type(error).__name__}: {error}"
    finally:
        hook.remove()
        context.restorer.restore()
    return trial


@dataclass(frozen=True, slots=True)
class _Raised:
    error: Exception


@dataclass(frozen=True, slots=True)
class _Repair:
    """A replaced result, where the original was non-finite, and where it passes no gradient on there."""

    result: Tensor
    bad: Tensor
    blocked: Tensor


class _Watch(TorchFunctionMode):
    """Sees every call of torch that the program makes, and replaces the results of some."""

    def __init__(self, sites: Sequence[Site], patches: Sequence[Patch], *, shift_repaired: bool) -> None:
        super().__init__()
        self._shift_repaired = shift_repaired
        self.trial = Trial()
        self._sites = sites
        self._patches = {id(patch.expression.node): patch for patch in patches}
        self._by_file = dict(_files(sites, patches))
        self._positions: dict[tuple[int, int], ast.AST | None] = {}
        self._codes: dict[int, tuple[CodeType, Source | None]] = {}
        #: What the nodes of the source were last computed to be.
        self._values: dict[int, Any] = {}
        self._repairs: list[_Repair] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        frame = _program_frame(sys._getframe(1))
        node = None if frame is None else self._node_of(frame)
        name = getattr(func, "__name__", "")
        if id(node) in self._patches and _is_in_place(name):
            # An in-place operation must not change what the replacement reads.
            args = (args[0].clone(), *args[1:])
        result: Any
        try:
            result = func(*args, **(kwargs or {}))
        except Exception as error:  # what the operation refuses, a replacement may take
            result = _Raised(error)
        if frame is not None and node is not None and not _calls_module(node, frame):
            result = self._replace(frame, node, result, args[::-1] if name.startswith(("__r", "rsub")) else args)
        if isinstance(result, _Raised):
            raise result.error
        return result

    def after_module(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        """A forward hook on every module."""
        frame = _program_frame(sys._getframe(1))
        node = None if frame is None else self._node_of(frame)
        if frame is None or not isinstance(node, ast.Call) or value_of(node.func, _names(frame)) is not module:
            return None
        return self._replace(frame, node, output, args)

    def count_dead(self) -> None:
        """Count the repaired values that receive a gradient and pass none on, after the backward pass."""
        for repair in self._repairs:
            received = repair.result.grad
            if repair.result.requires_grad:
                needed = torch.zeros_like(repair.bad) if received is None else repair.bad & (received != 0)
                self.trial.num_idle += int((repair.bad & ~needed).sum())
            else:
                needed = repair.bad
            self.trial.num_repaired += int(needed.sum())
            self.trial.num_dead += int((needed & repair.blocked).sum())

    def _node_of(self, frame: FrameType) -> ast.AST | None:
        """The node that a frame is running, where its file is one of those that matter."""
        code = frame.f_code
        if id(code) not in self._codes:
            self._codes[id(code)] = (code, self._by_file.get(code.co_filename))
        source = self._codes[id(code)][1]
        if source is None:
            return None
        key = (id(code), frame.f_lasti)
        if key not in self._positions:
            position = position_of(code, frame.f_lasti)
            self._positions[key] = None if position is None else source.node_at(position)
        return self._positions[key]

    def _replace(self, frame: FrameType, node: ast.AST, result: Any, args: Sequence[Any]) -> Any:
        if any(site.offset == frame.f_lasti and site.code == frame.f_code for site in self._sites) and not any(
            expression.node is node for expression in self.trial.expressions
        ):
            source = self._codes[id(frame.f_code)][1]
            assert source is not None
            self.trial.expressions.append(Expression(source, node, _names(frame)))
        patch = self._patches.get(id(node))
        if patch is None:
            self._values[id(node)] = result
            return result
        self.trial.num_hits += 1
        self._values.update(_operand_values(node, _names(frame), args))
        new, given = self._evaluate(patch, frame)
        self._compare(result, new, patch, given)
        if self._shift_repaired and isinstance(new, Tensor) and isinstance(result, Tensor):
            new = new + nonfinite_mask(result.detach()).to(new.dtype)
        self._values[id(node)] = new
        return new

    def _evaluate(self, patch: Patch, frame: FrameType) -> tuple[Any, list[Tensor]]:
        """The value of the replacement, and the tensors with a gradient that it was computed from."""
        values: dict[str, Any] = {}
        names = _names(frame)
        tree = _Binder(self._values, values).visit(_copy(patch.tree))
        code = compile(ast.fix_missing_locations(ast.Expression(tree)), "<fix>", "eval")
        new = eval(code, {"torch": torch, "F": nn.functional, **names, **_SAFE, **values})  # noqa: S307 - the user's code
        read = [
            value_of(node, {**names, **values}) for node in ast.walk(tree) if isinstance(node, ast.Name | ast.Attribute)
        ]
        return new, [value for value in read if isinstance(value, Tensor) and value.requires_grad]

    def _compare(self, old: Any, new: Any, patch: Patch, trained: list[Tensor]) -> None:
        if isinstance(old, _Raised):
            return
        before, after = list(dense_tensors_in(old)), list(dense_tensors_in(new))
        if len(before) != len(after):
            self.trial.changed = "it returns something else"
            return
        for was, now in zip(before, after, strict=True):
            if is_transformed(was) or is_transformed(now):
                continue
            self.trial.changed = self.trial.changed or _difference(was, now, patch)
            if is_comparable(was) and not is_finite(was):
                spared = was.detach().isnan() if patch.spares_nan else torch.zeros_like(was, dtype=torch.bool)
                if trained:
                    bad = nonfinite_mask(was.detach()) & ~spared
                    self._repairs.append(_Repair(now, bad, _blocked(now, trained, bad)))
                    if now.requires_grad and not now.is_leaf:
                        now.retain_grad()


def _blocked(result: Tensor, operands: Sequence[Tensor], chosen: Tensor) -> Tensor:
    """Which of the chosen values of a result pass no gradient on to the tensors that it was computed from."""
    if not result.requires_grad or not bool(chosen.any()):
        return chosen
    gradients = torch.autograd.grad(result, operands, chosen.to(result.dtype), retain_graph=True, allow_unused=True)
    blocked = chosen
    for gradient in gradients:
        if gradient is not None and gradient.layout is torch.strided and gradient.shape == chosen.shape:
            blocked = blocked & (gradient == 0)
        elif gradient is not None and count_nonzero(gradient):
            return torch.zeros_like(chosen)
    return blocked


def count_nonzero(tensor: Tensor) -> int:
    """How many values of a tensor of any layout are not 0."""
    return int(plain_tensor(tensor).count_nonzero())


def _files(sites: Sequence[Site], patches: Sequence[Patch]) -> Iterator[tuple[str, Source]]:
    for patch in patches:
        yield patch.expression.source.filename, patch.expression.source
    codes = {site.code.co_filename: site.code for site in sites}
    for filename in codes.keys() - {p.expression.source.filename for p in patches}:
        source = Source.of(codes[filename])
        if source is not None:
            yield filename, source


def _program_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is neither torch's nor our own."""
    while frame is not None and kind_of(frame.f_code.co_filename) == "internal":
        frame = frame.f_back
    return frame


def _names(frame: FrameType) -> dict[str, Any]:
    return {**frame.f_globals, **frame.f_locals}


def _is_in_place(name: str) -> bool:
    return name.startswith("__i") or (name.endswith("_") and not name.endswith("__"))


def _calls_module(node: ast.AST, frame: FrameType) -> bool:
    """Whether the node is the call of a module: what runs inside it is no result of the node."""
    return isinstance(node, ast.Call) and isinstance(value_of(node.func, _names(frame)), nn.Module)


def _operand_values(node: ast.AST, names: Mapping[str, Any], args: Sequence[Any]) -> dict[int, Any]:
    """The values of the operands that a call received, where it is clear which is which."""
    found = [operand for operand in operands(node, names) if not is_simple(operand)]
    given = [argument for argument in args if isinstance(argument, Tensor)]
    return dict(zip(map(id, found), given, strict=True)) if len(found) == len(given) else {}


class _Binder(ast.NodeTransformer):
    """Puts names in the place of the program's nodes whose values are known."""

    def __init__(self, known: Mapping[int, Any], values: dict[str, Any]) -> None:
        self._known = known
        self._values = values

    def visit(self, node: ast.AST) -> Any:
        origin = getattr(node, "origin", None)
        if origin is not None and origin in self._known:
            name = f"_value_{len(self._values)}"
            self._values[name] = self._known[origin]
            return ast.Name(name, ast.Load())
        return self.generic_visit(node)


def _copy(tree: ast.expr) -> ast.expr:
    """A copy whose nodes remember which of the program's they are."""
    for node in ast.walk(tree):
        if isinstance(node, ast.expr) and not isinstance(node, ast.Name | ast.Constant):
            node.origin = id(node)  # type: ignore[attr-defined]
    return copy.deepcopy(tree)


def _difference(was: Tensor, now: Tensor, patch: Patch) -> str:
    """How a replacement differs from the original where that was finite; empty where it does not."""
    if was.shape != now.shape:
        return f"its shape is {tuple(now.shape)}, not {tuple(was.shape)}"
    if was.dtype != now.dtype and not patch.is_wider:
        return f"its dtype is {now.dtype}, not {was.dtype}"
    if patch.is_identity:
        return ""
    if not is_comparable(was):
        return "" if torch.equal(was, now) else "it changes other values"
    keep = ~nonfinite_mask(was.detach())
    wide = torch.complex128 if was.is_complex() else torch.float64
    old, new = was.detach()[keep].to(wide), now.detach()[keep].to(wide)
    if not old.numel():
        return ""
    tolerance = TOLERANCE.get(was.dtype, DEFAULT_TOLERANCE)
    room = tolerance * old.abs() + 0.1 * tolerance * old.abs().max().clamp(min=1.0)
    too_far = int(((new - old).abs() > room).sum() + (~torch.isfinite(new)).sum())
    return f"it changes {too_far} of {old.numel()} values that were finite" if too_far else ""
