"""Screens by path: what to test at each path of a sample, learned from the samples that come.

Without a schema all paths are tested alike. With one, each path tests dtype and shape, which are looked up once found valid,
and then the values. A failed test only sends the sample to the exact check.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

import numpy as np
import torch
from numpy.ma import MaskedArray

from datacheck.batch import Batch
from datacheck.checks.checker import RuleSet
from datacheck.checks.rules import run_rules
from datacheck.checks.structure import dtype_matches, is_of_values, shape_matches
from datacheck.leaves import FLOAT_FORMATS, Leaf
from datacheck.schema.dtypes import dtype_kind
from datacheck.schema.model import Field
from datacheck.torch.loader.lists import ListPaths
from datacheck.torch.loader.screens import NumberScreen, Screen, always, finite_screen, never, range_screen, screen_kind
from datacheck.torch.loader.walker import SampleLeaf, parts_of, walk_sample
from datacheck.torch.structure import is_container
from datacheck.torch.values import dtype_name

#: Paths, shapes and single values to remember, so that samples with ever new keys do not fill the memory.
MAX_KNOWN = 4096

_PYTHON_NUMBERS = {bool: "bool", int: "int64", float: "float64"}


class PathScreens:
    """The screens for one path, by the type of the value.

    ``lists`` become Arrow lists, and ``null_screen`` tests a None in a field that the schema does not mention.
    ``is_uniform`` means that there is no schema, so that one object serves all paths.
    """

    def __init__(
        self,
        rule_set: RuleSet,
        lists: ListPaths,
        null_screen: Screen = always,
        path: str | None = None,
        reported: set[type] | None = None,
    ) -> None:
        schema = rule_set.schema
        self.path = path
        self.is_uniform = not schema.fields and not schema.strict and not schema.missing
        self.screens: dict[type, Screen] = {}
        #: The types that cannot be checked and were reported; one set for all paths.
        self.reported: set[type] = set() if reported is None else reported
        self._rule_set, self._lists, self._null_screen = rule_set, lists, null_screen
        self._children: dict[Any, PathScreens] = {}
        self._field = schema.field_for(path)
        self._required = _required_names(rule_set, path)

    def screen(self, value: Any) -> bool:
        """Whether a value at this path is certainly clean."""
        return (self.screens.get(type(value)) or self.learn(value))(value)

    def learn(self, value: Any) -> Screen:
        """Make the screen for values of this type."""
        kind = type(value)
        leaf = None if issubclass(kind, Mapping) else screen_kind(kind)
        if kind is type(None) and self._field is None:
            leaf = self._null_screen
        test: Screen
        if self._lists.may_hold(self.path, kind):
            is_array = kind is list and self.path not in self._lists.entered
            test = self._number_list_screen(self._field) if is_array and self._field is not None else never
        elif leaf is None and is_container(kind, objects=True):
            is_mistaken = self._field is not None and self.path is not None and is_of_values(self._field)
            test = never if is_mistaken else self._container_screen(kind)
        elif leaf is None:
            is_free = self._field is None and not self._rule_set.schema.strict
            test = self._opaque_screen() if is_free else never
        else:
            test = leaf if self.is_uniform else self._leaf_screen(kind, leaf)
        self.screens[kind] = test
        return test

    def child(self, name: Any) -> PathScreens:
        """The screens for a part."""
        if self.is_uniform:
            return self
        node = self._children.get(name)
        if node is None:
            path = f"{self.path}.{name}" if self.path is not None else str(name)
            node = PathScreens(self._rule_set, self._lists, self._null_screen, path, self.reported)
            if len(self._children) < MAX_KNOWN:
                self._children[name] = node
        return node

    def has_required(self, names: Any) -> bool:
        """Whether a container with these part names has all required fields."""
        return not self._required or self._required <= {str(name) for name in names}

    def _opaque_screen(self) -> Screen:
        """The screen for types that cannot be checked: the first value goes to the exact check, which reports the type."""
        reported = self.reported
        return lambda value: type(value) in reported

    def _container_screen(self, kind: type) -> Screen:
        if issubclass(kind, Mapping):
            return self._mapping_screen()
        if issubclass(kind, list):
            return self._list_screen()
        if issubclass(kind, tuple | set | frozenset | deque) and self.is_uniform:
            return self._screen_each
        if is_dataclass(kind) and self.is_uniform:
            names = [field.name for field in fields(kind)]
            return lambda value: self._screen_each([getattr(value, name) for name in names if hasattr(value, name)])
        return self._parts_screen

    def _screen_each(self, values: Any) -> bool:
        screens = self.screens
        for value in values:
            test = screens.get(type(value)) or self.learn(value)
            if not test(value):
                return False
        return True

    def _parts_screen(self, value: Any) -> bool:
        parts = parts_of(value)
        if parts is None:
            return False
        known = list(parts)
        return all(self.child(name).screen(part) for name, part in known) and self.has_required(dict(known))

    def _mapping_screen(self) -> Screen:
        if self.is_uniform:
            return lambda mapping: self._screen_each(mapping.values())
        children, required = self._children, self._required

        def screen(mapping: Mapping[Any, Any]) -> bool:
            for name, value in mapping.items():
                child = children.get(name) or self.child(name)
                test = child.screens.get(type(value)) or child.learn(value)
                if not test(value):
                    return False
            return not required or self.has_required(mapping)

        return screen

    def _list_screen(self) -> Screen:
        def screen(values: list[Any]) -> bool:
            if not values:
                return self.has_required(())
            first = type(values[0])
            if first is float and self.is_uniform:
                try:
                    with np.errstate(over="ignore", invalid="ignore"):  # a float16 array may be among them
                        total = sum(values)
                    return isinstance(total, float) and math.isfinite(total)  # an array may be complex
                except (TypeError, ValueError, OverflowError):
                    return False
            if self.is_uniform:
                return self._screen_each(values)
            if first in _PYTHON_NUMBERS or first is list:
                return False  # an array: converting it to NumPy is as slow as the exact check
            return self._parts_screen(values)

        return screen

    def _leaf_screen(self, kind: type, finite: Screen) -> Screen:
        """The screen for a leaf with a schema."""
        schema, field = self._rule_set.schema, self._field
        if field is None:
            is_extra = schema.strict and self.path is not None and "." not in self.path
            return never if is_extra or schema.missing else finite
        if field.coerce or schema.coerce:
            return never
        if kind is type(None):
            return always if field.nullable else never
        if kind in _PYTHON_NUMBERS:
            return self._number_screen(kind, field)
        if issubclass(kind, torch.Tensor | np.ndarray | np.number | np.bool_):
            return never if issubclass(kind, MaskedArray) else TypedScreen(self, kind, field)
        return self._remembering_screen(field) if issubclass(kind, str) and shape_fits((), field) else never

    def _number_screen(self, kind: type, field: Field) -> Screen:
        """The screen for Python numbers, which must be of the field's kind; they have no width."""
        dtype = _PYTHON_NUMBERS[kind]
        if (field.dtype is not None and dtype_kind(field.dtype) != dtype_kind(dtype)) or not shape_fits((), field):
            return never
        rules = self._rule_set.rules_for(Leaf(self.path, np.empty(0, dtype), dtype))
        if not rules.has_screen:
            return self._remembering_screen(field)
        if rules.bounds is not None:
            return NumberScreen(rules.bounds, is_float=kind is float)
        return math.isfinite if rules.screened else always

    def _number_list_screen(self, field: Field) -> Screen:
        """The screen for lists of Python integers or floats; other lists go to the exact check."""
        typed = TypedScreen(self, np.ndarray, field.model_copy(update={"dtype": None}))
        kinds: dict[type, str] = {
            kind: dtype
            for kind, dtype in ((int, "int64"), (float, "float64"))
            if field.dtype is None or dtype_kind(field.dtype) == dtype_kind(dtype)
        }

        def screen(values: list[Any]) -> bool:
            found = set(map(type, values))
            dtype = kinds.get(found.pop()) if len(found) == 1 else None
            try:
                return dtype is not None and typed(np.array(values, dtype))
            except OverflowError:
                return False

        return screen if not (field.coerce or self._rule_set.schema.coerce) else never

    def value_screen(self, kind: type, dtype: Any, field: Field) -> Screen:
        """The screen for tensors or arrays of one dtype."""
        if field.columns or field.channels:
            return never
        is_tensor = issubclass(kind, torch.Tensor)
        name = dtype_name(dtype) if is_tensor else dtype.name
        if field.dtype is not None and not dtype_matches(name, field.dtype):
            return never
        try:
            storage = FLOAT_FORMATS.get(name) or np.dtype(name)
        except TypeError:
            return never
        if storage.kind not in "?biufc":
            return never
        leaf = self._rule_set.prepared(Leaf(self.path, np.empty(0, storage), name))
        rules, logical = self._rule_set.rules_for(leaf), leaf.dtype
        if not rules.has_screen:
            return never
        if rules.bounds is not None:
            return range_screen(rules.bounds, logical, is_tensor=is_tensor)
        return finite_screen(logical, is_tensor=is_tensor) if rules.screened else always

    def _remembering_screen(self, field: Field) -> Screen:
        """The screen for single values whose rules have no screen: each distinct value is checked once."""
        good: set[Any] = set()

        def screen(value: Any) -> bool:
            if value in good:
                return True
            if not all(self._is_good(one, field) for one in walk_sample(value, self.path)):
                return False
            if len(good) < MAX_KNOWN:
                good.add(value)
            return True

        return screen

    def _is_good(self, one: SampleLeaf, field: Field) -> bool:
        leaves = [self._rule_set.prepared(leaf) for leaf in one.leaves()]
        if (
            one.is_typed
            and field.dtype is not None
            and any(not dtype_matches(leaf.dtype, field.dtype) for leaf in leaves)
        ):
            return False
        row = Batch((), 1)
        outcomes = (run_rules(leaf, self._rule_set.rules_for(leaf), row, with_rows=False) for leaf in leaves)
        return not any(outcome.num_violations for found in outcomes for outcome in found)


class TypedScreen:
    """Tests tensors or arrays with a schema: dtype and shape, each validated once, then the values."""

    __slots__ = ("_field", "_kind", "_node", "_shapes", "_tests")

    def __init__(self, node: PathScreens, kind: type, field: Field) -> None:
        self._node, self._kind, self._field = node, kind, field
        self._tests: dict[Any, Screen] = {}
        self._shapes: set[Any] | None = None if field.shape is None else set()

    @property
    def has_shape(self) -> bool:
        """Whether the field has a shape."""
        return self._shapes is not None

    def __call__(self, value: Any) -> bool:
        shapes = self._shapes
        if shapes is not None and value.shape not in shapes:
            if not shape_fits(tuple(value.shape), self._field):
                return False
            if len(shapes) < MAX_KNOWN:
                shapes.add(value.shape)
        return self.test_values(value)

    def test_values(self, value: Any) -> bool:
        """Whether the dtype is valid and the values are clean."""
        dtype = value.dtype
        test = self._tests.get(dtype)
        if test is None:
            test = self._tests[dtype] = self._node.value_screen(self._kind, dtype, self._field)
        return test(value)


def shape_fits(shape: tuple[int, ...], field: Field) -> bool:
    """Whether the shape of a value fits its field."""
    if field.shape is None:
        return True
    return shape_matches(as_declared(shape, field), field.shape)


def as_declared(shape: tuple[int, ...], field: Field | None) -> tuple[int | None, ...]:
    """A sample's shape in the form of its field, which for an array file starts with the rows."""
    if field is None or field.shape is None:
        return shape
    is_of_rows = len(field.shape) == len(shape) + 1 and not isinstance(field.shape[0], int)
    return (None, *shape) if is_of_rows else shape


def _required_names(rule_set: RuleSet, path: str | None) -> set[str]:
    """The required parts of a container at a path."""
    start = "" if path is None else f"{path}."
    paths = [name for name, field in rule_set.schema.fields.items() if name is not None and field.required]
    parts = {name.removeprefix(start).partition(".")[0].partition("[]")[0] for name in paths if name.startswith(start)}
    return {part for part in parts if part and "*" not in part}
