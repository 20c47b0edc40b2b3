"""Which line of the user's code, and which module, an operation was called from.

Both are read from the Python stack, not from hooks: hooks are silent where a module is called by ``.forward()``, and
fire twice under checkpointing, while the frames are always there.
"""

from __future__ import annotations

import linecache
import os
import re
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from types import CodeType, FrameType


_TORCH = str(Path(torch.__file__).parent) + os.sep
_OWN = str(Path(__file__).parents[2]) + os.sep
_STDLIB = sysconfig.get_paths()["stdlib"]
_INSTALLED = (f"{os.sep}site-packages{os.sep}", f"{os.sep}dist-packages{os.sep}")

#: The function through which torch enters its backward engine: what lies below it only asked for gradients.
_ENGINE = "_engine_run_backward"


@dataclass(frozen=True, slots=True)
class SourceLine:
    """A line of code, and the function it is in."""

    filename: str
    lineno: int
    function: str

    @property
    def source(self) -> str | None:
        """The line itself, where the file can be read."""
        return linecache.getline(self.filename, self.lineno).strip() or None


@dataclass(frozen=True, slots=True)
class CodeLocation:
    """Where an operation ran: the user's line, the innermost module, and whether any frame was of the model's forward pass.

    What a method like ``training_step`` or ``compute_loss`` computes itself is no part of that.
    ``code`` and ``offset`` are the function of that line and the instruction in it. ``caller`` is the user's line that called
    it, where it is in an installed library.
    """

    line: SourceLine | None
    module: str | None
    in_model: bool
    code: CodeType | None = None
    offset: int = -1
    caller: SourceLine | None = None


def definition(owner: type, method: str) -> SourceLine | None:
    """Where a method is defined."""
    code = getattr(getattr(owner, method, None), "__code__", None)
    if code is None:
        return None
    lineno = code.co_firstlineno
    while linecache.getline(code.co_filename, lineno).lstrip().startswith("@"):
        lineno += 1
    return SourceLine(code.co_filename, lineno, code.co_name)


class ModuleNames:
    """Qualified names of modules by identity. Without a model, the outermost module that is met is the root."""

    def __init__(self, model: nn.Module | None) -> None:
        self._names: dict[int, str] = {}
        self._roots: list[nn.Module] = []
        self._fixed = model is not None
        #: Modules on the stack that are not in the model, such as a loss with weights.
        self.outside_modules: list[nn.Module] = []
        if model is not None:
            self._add(model)

    def _add(self, root: nn.Module) -> None:
        self._roots.append(root)
        for name, module in root.named_modules():
            self._names.setdefault(id(module), name.replace("_orig_mod.", ""))

    @property
    def roots(self) -> list[nn.Module]:
        return self._roots

    def module(self, name: str | None) -> nn.Module | None:
        """The module of a name that :meth:`find` gave; None where there is none."""
        if name is not None:
            for root in self._roots:
                for module in root.modules():
                    if self.find([module])[0] == name:
                        return module
        return None

    def find(self, modules: list[nn.Module]) -> tuple[str | None, bool]:
        """The name of the innermost known module of a stack, innermost first, and whether one was known."""
        if not modules:
            return None, False
        if not self._fixed and id(modules[-1]) not in self._names:
            self._add(modules[-1])
        for module in modules:
            name = self._names.get(id(module))
            if name is not None:
                return name or type(module).__name__, True
        if all(module is not modules[-1] for module in self.outside_modules):
            self.outside_modules.append(modules[-1])
        return None, False


#: Methods of a module that compute the loss from what the module computes.
_COMPUTES_LOSS = re.compile(r"step|loss")
_kinds: dict[str, str] = {}


def kind_of(filename: str) -> str:
    """Whose code a file holds: ``internal`` (torch's, Python's or our own), ``library`` (installed), or ``user``."""
    known = _kinds.get(filename)
    if known is None:
        is_installed = any(part in filename for part in _INSTALLED)
        if filename.startswith((_TORCH, _OWN, "<frozen", "<eval_with_key", "<__array_function__")):
            known = "internal"
        elif is_installed:
            known = "library"
        else:
            known = "internal" if filename.startswith(_STDLIB) else "user"
        _kinds[filename] = known
    return known


def _is_method_of(code: CodeType, owner: nn.Module) -> bool:
    """Whether the code is of a method: but not a loss function that takes the model first."""
    defined_in = code.co_qualname.rpartition(".")[0].rpartition(".")[2]
    return any(defined_in == kind.__name__ for kind in type(owner).__mro__)


def locate(names: ModuleNames, boundary: CodeType, in_engine: bool, frame: FrameType | None = None) -> CodeLocation:
    """Where the operation that is being dispatched was called from.

    ``boundary`` is the code of the function that started the replay: the stack below it is not the program's. With
    ``in_engine``, only frames above the backward engine count: a custom backward, a hook, a recomputed forward.

    Of an installed library the line is named where a module of its own ran; what else it did, it did for the line of the
    user's that called it.
    """
    frame = frame or sys._getframe(1)
    line: SourceLine | None = None
    library: SourceLine | None = None
    caller: SourceLine | None = None
    code: CodeType | None = None
    offset = -1
    modules: list[nn.Module] = []
    called: list[nn.Module] = []
    is_of_loss = False
    while frame is not None:
        current = frame.f_code
        if current is boundary or (in_engine and current.co_name == _ENGINE):
            break
        kind = kind_of(current.co_filename)
        if line is not None:
            if kind == "user" and line is library and caller is None:
                caller = SourceLine(current.co_filename, frame.f_lineno, current.co_name)
            kind = "internal"
        if kind == "user" or (kind == "library" and library is None):
            here = SourceLine(current.co_filename, frame.f_lineno, current.co_name)
            code, offset = current, frame.f_lasti
            if kind == "user":
                line = here
            else:
                library = here
        if current.co_argcount and current.co_filename != __file__:
            owner = frame.f_locals.get(current.co_varnames[0])
            if isinstance(owner, nn.Module) and _is_method_of(current, owner):
                if current.co_name == "forward" or (frame.f_back and frame.f_back.f_code.co_name == "_call_impl"):
                    called.append(owner)
                is_of_loss = is_of_loss or _COMPUTES_LOSS.search(current.co_name) is not None
                if owner not in modules[-1:]:
                    modules.append(owner)
                    if kind == "library" and line is None:
                        line = library
        frame = frame.f_back
    name, in_model = names.find(modules)
    if is_of_loss:
        in_model = names.find(called)[1]
    return CodeLocation(line or library, name, in_model, code, offset, caller)
