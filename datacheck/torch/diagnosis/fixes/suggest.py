"""The suggested fix of a diagnosis: a rewritten line that was run, or advice that was not."""

from __future__ import annotations

import ast
import itertools
import math
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from datacheck.text import count
from datacheck.torch.diagnosis.fixes.advice import advice_for
from datacheck.torch.diagnosis.fixes.patterns import match, repeats_work, rewrite
from datacheck.torch.diagnosis.fixes.rules import IDENTITIES, RULES, Rule
from datacheck.torch.diagnosis.fixes.source import Expression
from datacheck.torch.diagnosis.fixes.trial import Patch, Site, Trial, run_trial
from datacheck.torch.values import nonfinite_mask

if TYPE_CHECKING:
    from datacheck.torch.diagnosis.context import Context
    from datacheck.torch.diagnosis.record import Operation


#: Trials of one diagnosis, and how long they may take, against the recorded replay.
MAX_TRIALS = 24
TRIAL_TIME = 8.0
#: Sites that are repaired together: a line with two logarithms needs both.
MAX_SITES = 4
#: A loss or a gradient norm above these is finite and trains to nothing.
LARGE_LOSS = 1e4
LARGE_GRADIENT = 1e7

_EPSILON = {torch.float16: 1e-4, torch.float64: 1e-12}


@dataclass(frozen=True, slots=True)
class Fix:
    """A suggested fix: code, and what is known of it. ``check`` is empty for advice that was not run."""

    code: str
    is_verified: bool = False
    check: str = ""


@dataclass(frozen=True, slots=True)
class _Candidate:
    """One rewriting of one expression."""

    rule: Rule
    patch: Patch
    text: str
    imports: tuple[str, ...]
    hoisted: Mapping[str, ast.expr]


def suggest_fix(context: Context, cause: str, operations: Sequence[Operation], dtype: torch.dtype, op: str) -> Fix:
    """The best fix that could be verified for operations that made the step non-finite; else advice for the cause.

    ``op`` is the family of the operation at fault.
    """
    sites = _sites(operations)
    if sites:
        try:
            fix = _Search(context, cause, sites, dtype).run()
        except Exception:  # a failed search must not lose the diagnosis
            fix = None
        if fix is not None:
            return fix
    return Fix(advice_for(cause, op))


def _sites(operations: Sequence[Operation]) -> list[Site]:
    found: dict[tuple[int, int], Site] = {}
    for operation in operations:
        code, offset = operation.where.code, operation.where.offset
        if code is not None and offset >= 0:
            found.setdefault((id(code), offset), Site(code, offset))
    return list(found.values())[:MAX_SITES]


class _Search:
    """Looks for a combination of rewritings, one a site, with which the step is finite and otherwise the same."""

    def __init__(self, context: Context, cause: str, sites: Sequence[Site], dtype: torch.dtype) -> None:
        self._context = context
        self._cause = cause
        self._sites = sites
        self._dtype = dtype
        self._epsilon = _EPSILON.get(dtype, 1e-6)
        self._deadline = time.monotonic() + max(context.seconds * TRIAL_TIME, 3.0)
        self._baseline = Trial()

    def run(self) -> Fix | None:
        """The first verified fix; else the first of those with which the step at least is finite; None if there is none."""
        self._baseline = run_trial(self._context, self._sites)
        choices = [list(self._candidates(expression)) for expression in self._baseline.expressions]
        best: Fix | None = None
        for number, chosen in enumerate(_combinations([choice for choice in choices if choice])):
            if number >= MAX_TRIALS or time.monotonic() > self._deadline:
                break
            trial = run_trial(self._context, (), [candidate.patch for candidate in chosen])
            problem = self._problem(trial, chosen)
            if problem is None:
                return self._fix(chosen, trial, "")
            if problem and best is None:
                best = self._fix(chosen, trial, problem)
        return best

    def _candidates(self, expression: Expression) -> Iterator[_Candidate]:
        later, seen = list(expression.later()), set()
        for rule in RULES:
            if rule.causes and self._cause not in rule.causes:
                continue
            for inner in (*expression.around(), *(later if rule in IDENTITIES else ())):
                found = match(rule.pattern, inner)
                if found is None or not (inner not in later or expression.node in found.nodes):
                    continue
                found.bindings.setdefault("eps", ast.Constant(self._epsilon))
                found.bindings.setdefault("dtype", ast.parse(str(self._dtype), mode="eval").body)
                if repeats_work(rule.replacement, found):
                    continue
                tree, imports = rewrite(rule.replacement, found, inner.names)
                patch = Patch(
                    inner, ast.fix_missing_locations(tree), rule.is_wider, rule.spares_nan, rule in IDENTITIES
                )
                text = _unparse(tree)
                if (inner.node, text) not in seen:
                    seen.add((inner.node, text))
                    yield _Candidate(rule, patch, text, tuple(imports), found.hoisted)
                break

    def _problem(self, trial: Trial, chosen: Sequence[_Candidate]) -> str | None:
        """Why a fix is not verified; None if it is; empty if it is no fix at all."""
        if trial.error or not trial.num_hits or not math.isfinite(trial.loss) or not trial.has_finite_gradients:
            return ""
        if trial.changed:
            return ""
        before = self._baseline.loss
        if math.isfinite(before) and abs(trial.loss - before) > 1e-3 * max(abs(before), 1e-3):
            return f"the step is finite with it, but the loss changes from {before:.6g} to {trial.loss:.6g}"
        if self._changes_gradients(trial):
            return "the step is finite with it, but gradients change that were finite"
        if abs(trial.loss) > LARGE_LOSS:
            return f"the step is finite with it, but the loss is {trial.loss:.3g}"
        if trial.gradient_norm > LARGE_GRADIENT:
            return f"the step is finite with it, but the gradient norm is {trial.gradient_norm:.3g}"
        # The same function in a stable form has its own gradient, which may be 0; a safe one is a constant at the edge.
        is_stable_form = all(one.patch.is_identity and "safe_" not in one.text for one in chosen)
        num_dead, num_repaired = trial.num_dead, trial.num_repaired
        if is_stable_form:
            num_dead = 0
        elif not trial.has_gradient:
            num_dead = num_repaired = num_repaired or self._count_repaired_gradients(trial)
        elif trial.num_idle and not num_dead:
            shifted = run_trial(self._context, (), [one.patch for one in chosen], shift_repaired=True)
            num_dead, num_repaired = shifted.num_dead, shifted.num_repaired
        if num_dead:
            dead = f"{count(num_dead)} of the {count(num_repaired)} repaired values get no gradient"
            return f"the step is finite with it, but {dead}"
        return None

    def _count_repaired_gradients(self, trial: Trial) -> int:
        """How many values of gradients were non-finite; all of them where there were none, since the loss was."""
        before = [int(nonfinite_mask(gradient).sum()) for _, gradient in self._baseline.gradients.values()]
        return sum(before) if before else sum(gradient.numel() for _, gradient in trial.gradients.values())

    def _changes_gradients(self, trial: Trial) -> bool:
        """Whether gradients have changed that were finite."""
        for key, (_, before) in self._baseline.gradients.items():
            after = trial.gradients.get(key)
            keep = ~nonfinite_mask(before)
            old = before[keep].double()
            new = torch.zeros_like(old) if after is None else after[1][keep].double()
            if old.numel() and bool(((new - old).abs() > 1e-2 * old.abs().max().clamp(min=1e-6)).any()):
                return True
        return False

    def _fix(self, chosen: Sequence[_Candidate], trial: Trial, problem: str) -> Fix:
        lines = _merged({line for candidate in chosen for line in candidate.imports})
        edits: dict[ast.stmt, list[tuple[ast.AST, str]]] = {}
        new_lines: dict[ast.stmt, list[str]] = {}
        source = chosen[0].patch.expression.source
        for candidate in chosen:
            source, node = candidate.patch.expression.source, candidate.patch.expression.node
            for name, inner in candidate.hoisted.items():
                statement = source.statement(inner)
                new_lines.setdefault(statement, []).append(f"{name} = {source.text(inner, ())}")
                edits.setdefault(statement, []).append((inner, name))
            edits.setdefault(source.statement(node), []).append((node, _replacement(candidate)))
        for statement in sorted(edits, key=lambda statement: statement.lineno):
            lines.extend(dict.fromkeys(new_lines.get(statement, ())))
            lines.extend(source.text(statement, list(dict.fromkeys(edits[statement]))).splitlines())
        norm = f", the gradient norm {trial.gradient_norm:.3g}" if trial.gradients else ""
        return Fix("\n".join(lines), not problem, problem or f"replayed with it, the loss is {trial.loss:.6g}{norm}")


def _merged(imports: set[str]) -> list[str]:
    """The import lines, with one line for all of the safe functions."""
    safe = sorted(line.split(" import ")[1] for line in imports if line.startswith("from "))
    others = sorted(line for line in imports if not line.startswith("from "))
    return [*others, f"from datacheck.torch.safe import {', '.join(safe)}"] if safe else others


def _unparse(tree: ast.expr) -> str:
    """The source of a rewritten expression, with quotes and small numbers as people write them."""
    text = re.sub(r"\be-0(\d)\b|(?<=\d)e-0(\d)", lambda found: f"e-{found[1] or found[2]}", ast.unparse(tree))
    return text.replace("'", '"') if '"' not in text and "\\" not in text else text


def _replacement(candidate: _Candidate) -> str:
    expression, text = candidate.patch.expression, candidate.text
    if isinstance(expression.node, ast.AugAssign):
        return f"{ast.unparse(expression.node.target)} = {text}"
    return f"({text})" if expression.source.needs_parentheses(expression.node, candidate.patch.tree) else text


def _combinations(choices: Sequence[Sequence[_Candidate]]) -> Iterator[tuple[_Candidate, ...]]:
    """One candidate for each site; first those that use the same rule, or the same place in the order, everywhere."""
    if not choices:
        return
    if len(choices) > 1:
        # The first site is where the fault begins; the others may only be its effect.
        yield from ((candidate,) for candidate in choices[0][:3])
    depth = max(map(len, choices))
    first = [tuple(choice[min(number, len(choice) - 1)] for choice in choices) for number in range(depth)]
    yield from first
    if len(choices) > 1:
        seen = set(first)
        yield from (chosen for chosen in itertools.product(*choices) if chosen not in seen)
