"""Which statements of a loop may run a second time: those that compute, and fetch or change nothing."""

from __future__ import annotations

import ast
import builtins
import dis
import random
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np
import torch
from torch import nn

from datacheck.torch._compat import storage_id
from datacheck.torch.guard.call_stack import Graph, holds_graph
from datacheck.torch.guard.statements import GROWS, dotted, value_of, walk_scope
from datacheck.torch.structure import tensors_in

#: Libraries whose functions compute without side effects.
_LIBRARIES = frozenset({"math", "numpy", "torch", "einops", "functools", "itertools", "operator"})
#: Methods and functions that give their argument's values in another place, order or type.
_MOVES = frozenset({
    "clone", "contiguous", "cpu", "cuda", "detach", "dict", "float", "double", "half", "bfloat16", "long", "int",
    "bool", "expand", "flatten", "get", "items", "keys", "list", "permute", "pin_memory", "reshape", "squeeze", "t",
    "to", "transpose", "tuple", "type", "unbind", "unsqueeze", "values", "view", "zip", "from_numpy", "as_tensor",
    "asarray", "tensor", "array", "numpy", "requires_grad_", "chunk", "split", "unfold", "repeat", "stack", "cat",
    "concat",
})  # fmt: skip
#: Functions that draw random numbers.
_RANDOM = frozenset({
    "rand", "randn", "randint", "randperm", "rand_like", "randn_like", "randint_like", "bernoulli", "multinomial", "normal",
    "uniform", "random", "sample", "choice", "choices", "shuffle", "permutation", "permuted", "standard_normal", "poisson",
})  # fmt: skip
_GENERATORS = (random.Random, np.random.Generator, np.random.RandomState, torch.Generator)
#: Names in code that fetches or changes something.
_FETCHES = frozenset({
    "next", "__next__", "open", "input", "pop", "popleft", "popitem", "get_nowait", "read", "readline", "readlines",
    "recv", "send", "write", "writelines", "append", "appendleft", "extend", "insert", "remove", "put", "step",
    "zero_grad", "save", "load", "system", "log_dict", "add_scalar", "print",
})  # fmt: skip


def holds_hidden_graph(value: Any) -> bool:
    """Whether a value has a tensor with a graph among its attributes, as a distribution does."""
    if isinstance(value, (nn.Module, type, ModuleType, FunctionType, torch.Tensor)):
        return False
    attributes = getattr(value, "__dict__", None)
    return isinstance(attributes, dict) and len(attributes) < 64 and any(map(holds_graph, attributes.values()))


def is_data(value: Any) -> bool:
    """Whether a value is made of tensors, arrays and plain values: a model or an optimizer must not be made again."""
    if isinstance(value, (torch.Tensor, np.ndarray, np.generic, int, float, complex, str, type(None), torch.Size)):
        return not isinstance(value, nn.Parameter)
    if isinstance(value, Mapping):
        return len(value) <= 64 and all(map(is_data, value.values()))
    return isinstance(value, (list, tuple)) and len(value) <= 64 and all(map(is_data, value))


def only_moves(statement: ast.stmt, values: Mapping[str, Any]) -> bool:
    """Whether a statement fetches values, or gives the same ones another place, order or type."""
    for node in walk_scope(statement):
        if isinstance(node, (ast.BinOp, ast.AugAssign)) or (
            isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not)
        ):
            return False
        if isinstance(node, ast.Call) and _called(node) not in _MOVES and _has_tensor_argument(node, values):
            return False
    return True


def _called(call: ast.Call) -> str:
    if isinstance(call.func, ast.Attribute):
        return call.func.attr
    return call.func.id if isinstance(call.func, ast.Name) else ""


def _has_tensor_argument(call: ast.Call, values: Mapping[str, Any]) -> bool:
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if isinstance(call.func, ast.Attribute):
        arguments.append(call.func.value)
    for argument in arguments:
        for node in ast.walk(argument):
            value = value_of(dotted(node) or "", values)
            if isinstance(value, (Graph, torch.Tensor, np.ndarray)):
                return True
            if isinstance(value, (Mapping, list, tuple)) and not isinstance(value, type):
                return True
    return False


def draws_numbers(statement: ast.stmt) -> bool:
    """Whether a statement draws random numbers itself."""
    return any(isinstance(node, ast.Call) and _called(node).rstrip("_") in _RANDOM for node in walk_scope(statement))


def only_computes(statement: ast.stmt, values: Mapping[str, Any]) -> bool:
    """Whether a statement does arithmetic and nothing else. One that only gives a value another name does none."""
    if not any(isinstance(node, (ast.Call, ast.BinOp, ast.UnaryOp)) for node in walk_scope(statement)):
        return False
    for node in walk_scope(statement):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return False
        if isinstance(node, ast.Call) and (_draws(node, values) or not _only_computes_call(node, values)):
            return False
    return True


def _only_computes_call(call: ast.Call, values: Mapping[str, Any]) -> bool:
    root: ast.AST = call.func
    is_indexed = False
    while isinstance(root, (ast.Attribute, ast.Subscript, ast.Call)):
        is_indexed = is_indexed or isinstance(root, ast.Subscript)
        root = root.func if isinstance(root, ast.Call) else root.value
    if not isinstance(root, ast.Name):
        # A constant, or the result of an expression that is checked itself.
        return True
    value = values.get(root.id, getattr(builtins, root.id, None))
    if isinstance(value, ModuleType):
        return value.__name__.split(".")[0] in _LIBRARIES
    if isinstance(value, (Graph, torch.Tensor, np.ndarray)):
        return True
    if is_indexed and isinstance(value, (Mapping, list, tuple)):
        return True
    module = getattr(value, "__module__", None)
    if callable(value) and not isinstance(value, nn.Module) and isinstance(call.func, ast.Name):
        # A function that was imported from such a library by name, or one of Python's own.
        is_library = isinstance(module, str) and module.split(".")[0] in _LIBRARIES
        return is_library or (module == "builtins" and root.id not in _FETCHES)
    return False


def holds_any(value: Any, storages: frozenset[int]) -> bool:
    """Whether a value is made of tensors with one of the storages, among others."""
    return any(storage_id(tensor) in storages for tensor in tensors_in(value) if tensor.layout is torch.strided)


def calls_with(statement: ast.stmt, values: Mapping[str, Any], holds: Callable[[str, Any], bool]) -> bool:
    """Whether a statement calls the user's code, or a method that changes a tensor, with a name for which ``holds``."""
    for node in walk_scope(statement):
        if not isinstance(node, ast.Call):
            continue
        is_in_place = _called(node).endswith("_") and not _called(node).endswith("__")
        callee = value_of(dotted(node.func) or "", values)
        if not is_in_place and (_only_computes_call(node, values) or isinstance(callee, nn.Module)):
            continue
        arguments = [*node.args, *(keyword.value for keyword in node.keywords)]
        if isinstance(node.func, ast.Attribute):
            arguments.append(node.func.value)
        read = (dotted(one) for argument in arguments for one in ast.walk(argument))
        if any(name is not None and holds(name, value_of(name, values)) for name in read):
            return True
    return False


def may_be_repeated(statement: ast.stmt, values: Mapping[str, Any]) -> bool:
    """Whether a statement neither fetches nor changes anything, as far as its code and the functions it calls show.

    It may change what a variable holds: its value from before must then be made again, too.
    """
    if any(isinstance(node, (ast.Yield, ast.YieldFrom, ast.Await)) for node in ast.walk(statement)):
        return False
    for node in ast.walk(statement):
        if isinstance(node, ast.Call):
            callee = value_of(dotted(node.func) or "", values)
            is_of_variable = isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
            is_harmless = _called(node) == "get" or (_called(node) in GROWS and is_of_variable)
            if (_called(node) in _FETCHES and not is_harmless) or _may_fetch(callee) or _draws(node, values):
                return False
        if isinstance(node, (ast.Name, ast.Attribute)) and _is_iterator(value_of(dotted(node) or "", values)):
            return False
    return True


def _draws(call: ast.Call, values: Mapping[str, Any]) -> bool:
    """Whether a call draws numbers from a generator of its own, whose state from before is not known."""
    used = [call.func.value] if isinstance(call.func, ast.Attribute) else []
    used += [keyword.value for keyword in call.keywords if keyword.arg == "generator"]
    return any(isinstance(value_of(dotted(node) or "", values), _GENERATORS) for node in used)


def _may_fetch(function: Any, depth: int = 3) -> bool:
    """Whether a function's code names anything that fetches, or it reads an iterator."""
    if isinstance(function, MethodType):
        if any(map(_is_iterator, getattr(function.__self__, "__dict__", {}).values())):
            return True
        function = function.__func__
    if not isinstance(function, FunctionType) or depth == 0:
        return _is_iterator(function)
    code = function.__code__
    if _FETCHES & set(code.co_names):
        return True
    return any(_is_iterator(value) or _may_fetch(value, depth - 1) for value in _outer_values(function))


def _outer_values(function: FunctionType) -> Iterator[Any]:
    for cell in function.__closure__ or ():
        try:
            yield cell.cell_contents
        except ValueError:
            continue
    for name in function.__code__.co_names:
        value = function.__globals__.get(name)
        if isinstance(value, FunctionType) or _is_iterator(value):
            yield value


@cache
def stores_outside(code: CodeType, offset: int) -> bool:
    """Whether a function has changed an object or a global name before it comes to an instruction."""
    stores = ("STORE_ATTR", "STORE_SUBSCR", "STORE_GLOBAL")
    return any(one.opname.startswith(stores) for one in dis.get_instructions(code) if one.offset < offset)


def _is_iterator(value: Any) -> bool:
    return hasattr(type(value), "__next__") and not isinstance(value, nn.Module)
