"""What a loop gave its targets before it changed them: an item of its list, or a batch of its DataLoader."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor
from torch.utils.data import DataLoader

from datacheck.torch.guard.batch_values import KeptBatch
from datacheck.torch.guard.call_stack import Frame
from datacheck.torch.guard.source_path import path_of
from datacheck.torch.guard.statements import dotted, names_mutated, names_stored, value_of

#: Items of a list that are tried.
MAX_ITEMS = 64


@dataclass(frozen=True, slots=True)
class Item:
    """What a loop may have given its targets, by name, before it changed some of them."""

    values: Mapping[str, Any]


def find_items(frame: Frame, fetched: Sequence[KeptBatch]) -> Iterator[Item]:
    """What the innermost loop around a place may have given targets that the loop has changed since.

    That is an item of the list that it goes through or, of a DataLoader, one of those that were ``fetched`` last. Targets
    that are unchanged tell which; else the replay does.
    """
    path = path_of(frame)
    loops = [] if path is None else [owner for owner, _ in path.around if isinstance(owner, ast.For)]
    if path is None or not loops:
        return
    known = {**frame.globals, **frame.names}
    stored = {name for statement in path.before for name in names_stored(statement, known)}
    changed = {name for statement in path.before for name in names_mutated(statement, known)}
    target, source = _target_and_source(loops[-1])
    if not names_stored(target, {}) & stored:
        return
    values = value_of(dotted(source) or "", known)
    items: Sequence[Any] = values if isinstance(values, (list, tuple)) else ()
    copied: set[int] = set()
    if isinstance(values, DataLoader):
        items = [kept.batch for kept in fetched]
        copied = {id(one.tensor) for kept in fetched for one in kept.tensors if one.copy is not None}
    for item in items[:MAX_ITEMS]:
        given = _unpacked(target, item)
        if given is None or any(
            value is known.get(name) and id(value) not in copied for name, value in given.items() if name in changed
        ):
            # An item that the loop has changed in place is no longer what it was.
            continue
        if all(_is_like(value, known.get(name), is_same=name not in stored) for name, value in given.items()):
            yield Item(given)


def _target_and_source(loop: ast.For) -> tuple[ast.expr, ast.expr]:
    """What a loop gives its items to, and what it goes through, without what counts or shows progress."""
    target, source = loop.target, loop.iter
    while isinstance(source, ast.Call) and source.args:
        if isinstance(source.func, ast.Name) and source.func.id == "enumerate" and isinstance(target, ast.Tuple):
            target = target.elts[-1]
        source = source.args[0]
    return target, source


def _unpacked(target: ast.expr, item: Any) -> dict[str, Any] | None:
    """The names of a target with their parts of an item; None where it does not fit."""
    if isinstance(target, ast.Name):
        return {target.id: item}
    if not isinstance(target, (ast.Tuple, ast.List)) or not isinstance(item, (list, tuple)):
        return None
    if len(item) != len(target.elts):
        return None
    parts = [_unpacked(inner, part) for inner, part in zip(target.elts, item, strict=True)]
    return None if None in parts else {name: value for part in parts if part for name, value in part.items()}


def _is_like(value: Any, now: Any, *, is_same: bool) -> bool:
    """Whether a variable has this value, or may have had it."""
    if is_same:
        return value is now
    return not isinstance(value, Tensor) or not isinstance(now, Tensor) or value.shape[:1] == now.shape[:1]
