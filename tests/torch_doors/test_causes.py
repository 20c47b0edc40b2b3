from __future__ import annotations

import ast
import inspect
import math
import re

import pytest

from datacheck.torch.diagnosis import diagnosis
from datacheck.torch.diagnosis.causes import rules
from datacheck.torch.diagnosis.causes.evidence import Evidence
from datacheck.torch.diagnosis.causes.rules import classify
from datacheck.torch.diagnosis.diagnosis import CAUSES
from datacheck.torch.diagnosis.fixes.advice import ADVICE
from datacheck.torch.diagnosis.fixes.rules import RULES

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("cause", "evidence"),
    [
        ("log-of-zero-or-negative", {"op": "log", "value": -INF, "inputs": (0.0,)}),
        ("log-of-zero-or-negative", {"op": "log1p", "value": NAN, "inputs": (-2.0,)}),
        ("division-by-zero", {"op": "div", "value": INF, "inputs": (1.0, 0.0)}),
        ("division-by-zero", {"op": "div", "value": INF, "inputs": (1.0,), "scalars": (0.0,)}),
        ("overflow", {"op": "div", "value": INF, "inputs": (1e30, 1e-30)}),
        ("division-by-zero", {"op": "rsqrt", "value": INF, "inputs": (0.0,)}),
        ("domain-error", {"op": "rsqrt", "value": NAN, "inputs": (-1.0,)}),
        ("division-by-zero", {"op": "pow", "value": INF, "inputs": (0.0,), "scalars": (-1.0,)}),
        ("domain-error", {"op": "pow", "value": NAN, "inputs": (-1.0, 0.5)}),
        ("exp-overflow", {"op": "pow", "value": INF, "inputs": (1e10,), "scalars": (40.0,)}),
        ("overflow", {"op": "pow", "value": INF, "inputs": (1e30,), "scalars": (2.0,)}),
        ("domain-error", {"op": "sqrt", "value": NAN, "inputs": (-1.0,)}),
        ("domain-error", {"op": "acos", "value": NAN, "inputs": (1.5,)}),
        ("exp-overflow", {"op": "exp", "value": INF, "inputs": (100.0,)}),
        (
            "sqrt-gradient-at-zero",
            {"op": "sqrt", "value": INF, "in_backward": True, "in_gradient": True, "gradient": 1.0},
        ),
        ("sqrt-gradient-at-zero", {"op": "pow", "value": INF, "in_backward": True, "scalars": (0.5,)}),
        (
            "masked-branch-gradient",
            {"op": "log", "value": NAN, "in_backward": True, "in_gradient": True, "gradient": 0.0},
        ),
        (
            "log-of-zero-or-negative",
            {
                "op": "log",
                "value": NAN,
                "in_backward": True,
                "in_gradient": True,
                "gradient": 0.0,
                "masked_by": "clamp",
            },
        ),
        ("masked-branch-gradient", {"op": "exp", "value": INF, "in_gradient": True, "gradient": 0.0}),
        ("exp-overflow", {"op": "exp", "value": INF, "in_gradient": True, "gradient": 1.0}),
        ("fully-masked-softmax", {"op": "softmax", "value": NAN, "joint": True, "intended": True}),
        ("fully-masked-softmax", {"op": "sub", "value": NAN, "intended": True, "inputs": (-INF, -INF)}),
        ("domain-error", {"op": "sub", "value": NAN, "intended": True, "inputs": (INF, INF)}),
        ("empty-reduction", {"op": "amin", "value": INF, "joint": True, "intended": True}),
        ("constant-not-finite", {"op": "masked_fill", "value": -INF, "intended": True, "scalars": (-INF,)}),
        ("constant-not-finite", {"op": "mul", "value": NAN, "inputs": (0.0,), "scalars": (-INF,)}),
        ("empty-reduction", {"op": "mean", "value": NAN, "num_reduced": 0}),
        ("empty-reduction", {"op": "nll_loss_forward", "value": NAN}),
        ("variance-of-one", {"op": "std", "value": NAN, "num_reduced": 1}),
        ("empty-reduction", {"op": "var", "value": NAN, "num_reduced": 0}),
        ("degenerate-decomposition", {"op": "linalg_eigh", "value": NAN, "in_backward": True, "gradient": 0.0}),
        ("degenerate-decomposition", {"op": "linalg_inv_ex", "value": INF}),
        ("exp-overflow", {"op": "linalg_matrix_exp", "value": INF}),
        ("log-of-zero-or-negative", {"op": "logdet", "value": NAN, "is_returned": True}),
        ("domain-error", {"op": "HalfNormal.log_prob", "value": -INF, "is_returned": True}),
        ("bad-custom-backward", {"op": "div", "value": NAN, "is_custom_backward": True}),
        (
            "float16-overflow",
            {"op": "exp", "value": INF, "dtype": "float16", "inputs": (15.0,), "finite_in_float32": True},
        ),
        (
            "exp-overflow",
            {"op": "exp", "value": INF, "dtype": "float16", "inputs": (150.0,), "finite_in_float32": False},
        ),
        ("float16-underflow", {"op": "log", "value": -INF, "dtype": "float16", "inputs": (0.0,), "lost_epsilon": 1e-8}),
        (
            "float16-underflow",
            {"op": "log", "value": -INF, "dtype": "float16", "inputs": (0.0,), "lost_value": "aten.mul"},
        ),
        ("learning-rate-too-high", {"op": "mm", "value": INF, "largest_parameter": ("head.weight", 1e20)}),
        ("exploding-gradient", {"op": "mm", "value": INF, "in_backward": True, "in_gradient": True}),
        ("exploding-gradient", {"op": "mm", "value": INF, "times_repeated": 40}),
        ("overflow", {"op": "mm", "value": INF}),
        ("unknown", {"op": "share", "value": NAN, "is_of_torch": False}),
        ("overflow", {"op": "share", "value": INF, "is_of_torch": False, "finite_in_float64": True}),
    ],
    ids=lambda value: value if isinstance(value, str) else value["op"],
)
def test_the_cause_behind_the_evidence(cause, evidence):
    classification = classify(Evidence(**{"ran": evidence["op"], **evidence}))
    assert classification.cause == cause
    assert cause in CAUSES
    assert classification.explanation


def test_an_explanation_has_the_numbers():
    evidence = Evidence(op="log", ran="log", value=-INF, inputs=(0.0,), index=(3, 17), num_bad=1, num_values=512)
    assert classify(evidence).explanation == "log received 0 at [3, 17] (1 of 512 values)"


@pytest.mark.parametrize(
    ("evidence", "said"),
    [
        ({"op": "mse_loss", "value": INF, "scalars": (2.0,), "num_reduced": 192}, "mse_loss produced inf"),
        ({"op": "mul", "value": INF, "inputs": (20.0,), "in_backward": True}, "the gradient of mul became inf"),
        ({"op": "cudnn_ctc_loss", "value": INF}, "a target is too long"),
    ],
)
def test_an_explanation_leaves_out_numbers_that_are_no_reason(evidence, said):
    assert classify(Evidence(ran=evidence["op"], **evidence)).explanation.startswith(said)


@pytest.mark.parametrize("text", ADVICE.values(), ids=ADVICE.keys())
def test_advice_is_code_or_comments(text):
    assert len(text.splitlines()) <= 6
    ast.parse(text)


@pytest.mark.torch
@pytest.mark.parametrize("rule", RULES, ids=lambda rule: f"{rule.pattern} to {rule.replacement}")
def test_a_rewriting_reads_only_what_its_pattern_binds_and_functions_that_exist(rule):
    torch = pytest.importorskip("torch")
    from datacheck.torch import safe

    def names(code):
        return {node.id for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Name)}

    known = names(rule.pattern) | {"torch", "F", "eps", "dtype", "module", *safe.__all__}
    assert names(rule.replacement) <= known
    assert set(rule.causes) <= set(CAUSES)
    for node in ast.walk(ast.parse(rule.replacement)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in ("torch", "F"):
            assert hasattr(torch if node.value.id == "torch" else torch.nn.functional, node.attr)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in safe.__all__:
            keywords = {keyword.arg: None for keyword in node.keywords}
            inspect.signature(getattr(safe, node.func.id)).bind(*node.args, **keywords)


def test_there_is_advice_for_every_known_cause():
    assert set(CAUSES) - set(ADVICE) == {"unknown", "not-reproducible"}


def test_causes_that_the_rules_name_are_known():
    source = inspect.getsource(rules)
    named = set(re.findall(r'"([a-z0-9]+(?:-[a-z0-9]+)+)"', source))
    assert named <= set(CAUSES)
    assert list(CAUSES) == sorted(CAUSES)


def test_every_phase_has_a_code():
    assert set(diagnosis.PHASE_CODES) == set(diagnosis.PHASES)
