from __future__ import annotations

import json
import pickle
import subprocess
import sys

import pytest

import datacheck.torch
from datacheck.codes import CODES
from datacheck.torch.diagnosis.diagnosis import CAUSES, PHASE_CODES, PHASES, ChainLink, Diagnosis, NonFiniteError


def example(**changes) -> Diagnosis:
    values = {
        "code": "DC402",
        "phase": "forward",
        "cause": "log-of-zero-or-negative",
        "explanation": "log received 0 at [3, 17] (1 of 512 values)",
        "remedy": "from datacheck.torch.safe import safe_log\ny = safe_log(x)",
        "module": "encoder.0",
        "op": "aten.log.default",
        "filename": "/home/me/project/train/model.py",
        "lineno": 31,
        "source": "h = torch.log(h)",
        "field": "features",
        "samples": (3,),
        "origins": ({"index": 41, "uri": "part-3.parquet", "row": 7, "replaces": None},),
        "chain": (
            ChainLink("aten.log.default", "forward", "encoder.0", "/home/me/project/train/model.py", 31, 1, 512),
            ChainLink("loss", "loss"),
        ),
    }
    return Diagnosis(**{**values, **changes})


def test_prints_what_a_person_needs_in_order():
    assert str(example().at_step(1200)).splitlines() == [
        "step 1,200: DC402 log-of-zero-or-negative (forward) in aten.log.default in encoder.0 at train/model.py:31",
        "    31 | h = torch.log(h)",
        "  log received 0 at [3, 17] (1 of 512 values)",
        "  field: features",
        "  batch: sample 3",
        "  origin: index 41, uri part-3.parquet, row 7",
        "  propagation path (phase, operation, module, line, non-finite values):",
        "    forward   aten.log.default  [encoder.0]  train/model.py:31  1 of 512",
        "    loss      loss",
        "  suggested fix:",
        "    from datacheck.torch.safe import safe_log",
        "    y = safe_log(x)",
    ]


def test_fits_on_a_screen_however_long_its_parts():
    link = example().chain[0]
    long = example(
        chain=(link,) * 500,
        samples=tuple(range(400)),
        origins=({"index": 1},) * 400,
        remedy="line\n" * 60,
        source="x" * 4000,
        explanation="\n".join(["e" * 900] * 3),
    )
    lines = str(long).splitlines()
    assert len(lines) <= 40
    assert all(len(line) <= 420 for line in lines)
    assert any("… 492 more …" in line for line in lines)


def test_json_and_pickle_bring_it_back():
    diagnosis = example()
    assert Diagnosis.from_dict(json.loads(diagnosis.to_json())) == diagnosis
    assert pickle.loads(pickle.dumps(diagnosis)) == diagnosis
    error = pickle.loads(pickle.dumps(NonFiniteError(diagnosis, "bundle")))
    assert (error.diagnosis, error.bundle) == (diagnosis, "bundle")


def test_the_error_prints_the_diagnosis_and_how_to_replay_it():
    text = str(NonFiniteError(example(), "runs/trip-12"))
    assert text.startswith("DC402 ")
    assert text.endswith("datacheck replay runs/trip-12")


@pytest.mark.parametrize("name", ["module", "op", "filename", "source", "field"])
def test_control_characters_are_escaped_everywhere(name):
    hostile = example(**{name: "x\x1b[2J\u202e\n\ry"})
    for text in (str(hostile), hostile.headline, hostile.to_json(), str(NonFiniteError(hostile))):
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert "\r" not in text


def test_becomes_a_finding_of_the_reports_that_all_doors_share():
    finding = example().to_finding()
    assert (finding.code, finding.uri, finding.field, finding.rule) == (
        "DC402",
        "train/model.py:31",
        "features",
        "log-of-zero-or-negative",
    )
    assert (finding.num_violations, finding.num_checked) == (1, 512)
    assert "log received 0" in finding.message
    assert example().at_step(7).to_finding("step 7").uri == "step 7"


def test_codes_phases_and_causes_belong_together():
    assert set(PHASE_CODES) == set(PHASES)
    assert all(code in CODES for code in (*PHASE_CODES.values(), "DC408", "DC409"))
    assert list(CAUSES) == sorted(set(CAUSES))


def test_public_names_are_sorted_and_there():
    assert datacheck.torch.__all__ == sorted(datacheck.torch.__all__)
    assert set(datacheck.torch.__all__) <= set(dir(datacheck.torch))
    with pytest.raises(AttributeError, match="no attribute 'Gurad'"):
        _ = datacheck.torch.Gurad


def test_reading_a_diagnosis_needs_no_torch():
    code = (
        "import sys\nfrom datacheck.torch import ChainLink, Diagnosis, NonFiniteError\n"
        "import datacheck.torch.diagnosis.causes, datacheck.torch.diagnosis.dynamics\nassert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
