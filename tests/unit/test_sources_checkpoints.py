"""Checkpoints: non-finite and absurd weights by the name of the parameter, and files that lie about what they hold."""

from __future__ import annotations

import json
import pickle
import re
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from source_files import gguf_bytes

import datacheck
from datacheck.findings import Severity
from datacheck.numerics import Bounds, suspicious

NAN = np.nan


def found(data: Any, **options: Any) -> list[tuple[str, str | None, int]]:
    findings = datacheck.scan(data, **options).findings
    return [(one.code, one.field, one.num_violations) for one in findings]


def write_safetensors(path: Path, tensors: dict[str, np.ndarray[Any, Any]]) -> None:
    dtypes = {"float32": "F32", "float64": "F64", "float16": "F16", "uint16": "BF16", "int64": "I64"}
    header, data = {}, b""
    for name, values in tensors.items():
        begin = len(data)
        data += values.tobytes()
        header[name] = {"dtype": dtypes[values.dtype.name], "shape": values.shape, "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def bf16(values: Any) -> np.ndarray[Any, Any]:
    return (np.asarray(values, np.float32).view(np.uint32) >> 16).astype(np.uint16)


# Weights


@pytest.fixture
def weights() -> dict[str, np.ndarray[Any, Any]]:
    random = np.random.default_rng(0)
    return {f"layers.{i}.mlp.weight": random.standard_normal((8, 16)).astype(np.float32) for i in range(4)}


def test_absurd_weights_are_named_in_every_dtype_that_can_hold_them(tmp_path: Path, weights: Any) -> None:
    weights["layers.0.mlp.weight"][3, 4] = -2e30
    wide = weights["layers.1.mlp.weight"].astype(np.float64)
    wide[0, :2] = 1e31, 1e30
    narrow = weights["layers.2.mlp.weight"].copy()
    narrow[7, 15] = 3e38
    weights |= {"layers.1.mlp.weight": wide, "layers.2.mlp.weight": bf16(narrow), "half.weight": np.float16([[6e4]])}
    write_safetensors(tmp_path / "m.safetensors", weights)
    errors = [one for one in found(tmp_path / "m.safetensors") if one[0] == "DC209"]
    assert errors == [("DC209", f"layers.{index}.mlp.weight", 1) for index in range(3)]


def test_the_screen_of_bfloat16_magnitudes_never_misses() -> None:
    bits = np.arange(1 << 16, dtype=np.uint16)
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    for limit in (1e30, 1.0, 0.0, 3e38):
        wanted = ~(np.abs(values) <= limit)
        for position in np.flatnonzero(wanted)[::97]:
            assert list(suspicious(bits[position : position + 1], "bfloat16", Bounds(ge=-limit, le=limit)))


def test_large_values_of_data_are_no_weights(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "d.safetensors", {"x": np.full((4, 2), 1e35, np.float32)})
    assert found(tmp_path / "d.safetensors") == []


def test_bounds_of_a_schema_replace_the_limit_of_weights(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"a.weight": np.full((4, 2), 1e35, np.float32)})
    schema = {"version": 1, "fields": {"a.weight": {"le": 1e36}}}
    assert found(tmp_path / "m.safetensors", schema=schema) == []


def test_a_mask_that_a_model_stores_is_no_defect(tmp_path: Path) -> None:
    mask = np.triu(np.full((4, 4), -np.inf, np.float32), 1)
    tensors = {"attn.causal_mask": mask, "attn.bias": mask.copy()}
    write_safetensors(tmp_path / "m.safetensors", tensors)
    findings = datacheck.scan(tmp_path / "m.safetensors").findings
    assert [(one.field, one.code, one.severity) for one in findings] == [
        ("attn.causal_mask", "DC103", Severity.INFO),
        ("attn.bias", "DC103", Severity.ERROR),
    ]


def test_a_nan_in_a_mask_is_a_defect(tmp_path: Path) -> None:
    write_safetensors(tmp_path / "m.safetensors", {"attn.mask": np.float32([NAN]), "attn.bias": np.float32([0.0])})
    assert [one.is_error for one in datacheck.scan(tmp_path / "m.safetensors").findings] == [True]


def test_zero_weights_are_noted_of_each_of_the_files_that_are_checked_together(tmp_path: Path) -> None:
    for name, value in (("a", 0.0), ("b", 1.0), ("c", 0.0)):
        write_safetensors(tmp_path / f"{name}.safetensors", {"head.weight": np.full((2, 2), value, np.float32)})
    found = [(Path(one.uri or "").stem, one.code) for one in datacheck.scan(tmp_path).findings if one.code == "DC010"]
    assert found == [("a", "DC010"), ("c", "DC010")]


def test_zero_weights_and_layers_of_another_dtype_are_notes(tmp_path: Path, weights: Any) -> None:
    weights["layers.2.mlp.weight"] = weights["layers.2.mlp.weight"].astype(np.float64)
    weights |= {"head.weight": np.zeros((3, 5), np.float32), "head.bias": np.zeros(3, np.float32)}
    write_safetensors(tmp_path / "m.safetensors", weights)
    report = datacheck.scan(tmp_path / "m.safetensors")
    assert report.ok
    assert [(one.code, one.field) for one in report.findings] == [
        ("DC010", "head.weight"),
        ("DC011", "layers.*.mlp.weight"),
    ]
    assert "3 float32" in report.findings[1].message
    assert "1 float64 ('layers.2.mlp.weight')" in report.findings[1].message


def test_comparing_checkpoints_names_shapes_and_dtypes_that_differ_and_no_leaks(tmp_path: Path, weights: Any) -> None:
    pytest.importorskip("scipy")
    write_safetensors(tmp_path / "a.safetensors", weights)
    changed = {**weights, "layers.1.mlp.weight": weights["layers.1.mlp.weight"][:5], "new.weight": np.float32([[1]])}
    changed["layers.3.mlp.weight"] = changed["layers.3.mlp.weight"] + 100
    del changed["layers.0.mlp.weight"]
    write_safetensors(tmp_path / "b.safetensors", changed)
    findings = datacheck.compare(tmp_path / "a.safetensors", tmp_path / "b.safetensors").findings
    assert [(one.code, one.field) for one in findings] == [
        ("DC001", "layers.0.mlp.weight"),
        ("DC004", "layers.1.mlp.weight"),
        ("DC315", "new.weight"),
    ]
    assert "(5, 16), but (8, 16) in the training data" in findings[1].message


@pytest.mark.torch
def test_state_dicts_and_states_of_optimizers_are_read_by_name(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    model = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.BatchNorm1d(3))
    optimizer = torch.optim.AdamW(model.parameters())
    model(torch.randn(5, 4)).sum().backward()
    optimizer.step()
    optimizer.state[model[0].weight]["exp_avg_sq"][1, 2] = float("inf")
    model[1].running_var[0] = 1e35
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": 1}, tmp_path / "c.pt")
    errors = [one for one in found(tmp_path / "c.pt") if one[0].startswith(("DC1", "DC2"))]
    assert errors == [("DC209", "model.1.running_var", 1), ("DC102", "optimizer.state.0.exp_avg_sq", 1)]


@pytest.mark.torch
@pytest.mark.parametrize("is_zip", [True, False])
def test_weights_of_torch_are_found_in_a_folder_under_every_usual_name(is_zip: bool, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    for name in ("pytorch_model.bin", "optimizer.bin", "epoch=1.ckpt", "last.pt"):
        weights = {"w": torch.tensor([1.0, float("nan")])}
        torch.save(weights, tmp_path / name, _use_new_zipfile_serialization=is_zip)
    # Arguments of a run, and other files of bytes.
    torch.save({"lr": float("nan")}, tmp_path / "training_args.bin")
    (tmp_path / "other.bin").write_bytes(bytes(range(256)))
    findings = datacheck.scan(tmp_path).findings
    assert [(one.code, one.field) for one in findings] == [("DC101", "w")] * 4 + [("DC913", None)]
    assert "1 file was not checked" in findings[-1].message


# DCP


@pytest.fixture
def dcp(tmp_path: Path) -> Path:
    """A checkpoint of torch: a matrix with a NaN, one stored transposed, a bfloat16 vector, a scalar and a number."""
    torch = pytest.importorskip("torch")
    checkpoint = pytest.importorskip("torch.distributed.checkpoint")
    matrix = torch.arange(800.0).reshape(100, 8)
    matrix[3, 2] = float("nan")
    transposed = torch.arange(12.0).reshape(3, 4).t()
    transposed[3, 1] = float("inf")
    state = {
        "model": {"w": matrix, "t": transposed, "b": torch.ones(8, dtype=torch.bfloat16)},
        "opt": {"lr": 0.1, "step": torch.tensor(3.0)},
    }
    with pytest.warns(UserWarning, match="single process"):
        checkpoint.save(state, checkpoint_id=tmp_path / "ckpt")
    return tmp_path / "ckpt"


@pytest.mark.torch
def test_a_distributed_checkpoint_is_read_by_the_names_of_its_tensors(dcp: Path) -> None:
    findings = datacheck.scan(dcp).findings
    assert [(one.code, one.field, one.examples[0].row, one.examples[0].index) for one in findings] == [
        ("DC101", "model.w", 3, (2,)),
        ("DC102", "model.t", 3, (1,)),
    ]
    assert [finding.code for finding in datacheck.scan(dcp.parent).findings] == ["DC101", "DC102"]


@pytest.mark.torch
def test_files_that_are_missing_cut_or_not_named_are_findings(dcp: Path) -> None:
    (dcp / "__9_0.distcp").write_bytes(b"x")
    file = dcp / "__0_0.distcp"
    file.write_bytes(file.read_bytes()[:-10])
    codes = {one.code for one in datacheck.scan(dcp).findings}
    assert {"DC901", "DC912"} <= codes
    file.unlink()
    findings = datacheck.scan(dcp).findings
    assert "'__0_0.distcp'" in next(one for one in findings if one.code == "DC911").message
    assert {one.field for one in findings if one.code == "DC005"} == {"model.w", "model.t", "model.b", "opt.step"}
    # Also where nothing but the metadata is left, or where they were not written.
    (dcp / "__9_0.distcp").unlink()
    assert "DC911" in {one.code for one in datacheck.scan(dcp).findings}
    (dcp / ".metadata").rename(dcp / "__0_0.distcp")
    (finding,) = datacheck.scan(dcp.parent).findings
    assert (finding.code, "'.metadata' is missing" in finding.message) == ("DC911", True)


@pytest.mark.torch
@pytest.mark.parametrize("module", ["pathlib", "pathlib._local"])
def test_metadata_of_every_python_are_read(module: str, dcp: Path) -> None:
    # Without frames, whose lengths would change with the name.
    plain = pickle.dumps(pickle.loads((dcp / ".metadata").read_bytes()), protocol=2)
    renamed, number = re.subn(rb"cpathlib(\._local)?\n", f"c{module}\n".encode(), plain)
    assert number
    (dcp / ".metadata").write_bytes(renamed)
    assert [one.code for one in datacheck.scan(dcp).findings] == ["DC101", "DC102"]


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("/tmp/datacheck-was-here"),)


@pytest.mark.torch
@pytest.mark.parametrize("payload", [Evil(), {"storage_data": Evil()}])
def test_metadata_that_run_code_are_refused(dcp: Path, payload: Any) -> None:
    (dcp / ".metadata").write_bytes(pickle.dumps(payload))
    assert [one.code for one in datacheck.scan(dcp).findings] == ["DC903"]
    assert not Path("/tmp/datacheck-was-here").exists()


def write_chunked(folder: Path, chunks: dict[tuple[int, int], np.ndarray[Any, Any]], shape: tuple[int, int]) -> None:
    """A checkpoint with one tensor in several boxes, as tensor parallelism writes it."""
    import torch
    from torch.distributed.checkpoint import metadata as names
    from torch.distributed.checkpoint.filesystem import _StorageInfo

    folder.mkdir()
    described, stored = [], {}
    for number, (start, values) in enumerate(chunks.items()):
        torch.save(torch.from_numpy(values.copy()), folder / f"__{number}_0.distcp")
        size = (folder / f"__{number}_0.distcp").stat().st_size
        described.append(names.ChunkStorageMetadata(torch.Size(start), torch.Size(values.shape)))
        stored[names.MetadataIndex("w", torch.Size(start), number)] = _StorageInfo(f"__{number}_0.distcp", 0, size)
    tensor = names.TensorStorageMetadata(names.TensorProperties(torch.float32), torch.Size(shape), described)
    record = names.Metadata({"w": tensor}, storage_data=stored)
    (folder / ".metadata").write_bytes(pickle.dumps(record))


@pytest.mark.torch
def test_a_tensor_in_boxes_is_put_together(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    whole = np.arange(60, dtype=np.float32).reshape(10, 6)
    whole[7, 5] = NAN
    boxes = {(row, column): whole[row : row + 5, column : column + 2] for row in (0, 5) for column in (0, 2, 4)}
    write_chunked(tmp_path / "c", boxes, (10, 6))
    (finding,) = datacheck.scan(tmp_path / "c").findings
    assert (finding.code, finding.num_checked, finding.examples[0].row, finding.examples[0].index) == (
        "DC101",
        60,
        7,
        (5,),
    )
    del boxes[0, 2]
    write_chunked(tmp_path / "gap", boxes, (10, 6))
    (finding,) = datacheck.scan(tmp_path / "gap").findings
    assert finding.code == "DC005"
    assert "its chunks have 50 values" in finding.message


# GGUF


def q8(rows: int, blocks: int, scales: np.ndarray[Any, Any]) -> bytes:
    packed = np.random.default_rng(1).integers(0, 256, (rows, blocks, 34), np.uint8)
    packed[..., :2] = scales.astype("<f2")[..., None].view(np.uint8)
    return packed.tobytes()


def test_plain_tensors_and_scales_of_quantised_ones_are_checked(tmp_path: Path) -> None:
    plain = np.ones((4, 3), "<f4")
    plain[2, 1] = NAN
    scales = np.ones((5, 2), np.float32)
    scales[4, 1], scales[0, 0] = np.inf, NAN
    metadata = struct.pack("<Q", 1) + b"k" + struct.pack("<IIQ", 9, 8, 2) + 2 * (struct.pack("<Q", 1) + b"x")
    content = gguf_bytes(
        {
            "a.weight": (0, (4, 3), plain.tobytes()),
            "q.weight": (8, (5, 64), q8(5, 2, scales)),
            "b.weight": (30, (2, 2), bf16([[1, NAN], [2, 3e38]]).tobytes()),
        },
        metadata=metadata,
        num_values=1,
    )
    (tmp_path / "m.gguf").write_bytes(content)
    findings = datacheck.scan(tmp_path / "m.gguf").findings
    assert [(one.code, one.field, one.examples[0].row, one.examples[0].index) for one in findings] == [
        ("DC101", "a.weight", 2, (1,)),
        ("DC101", "q.weight.scale", 0, (0,)),
        ("DC102", "q.weight.scale", 4, (1,)),
        ("DC101", "b.weight", 0, (1,)),
        ("DC209", "b.weight", 1, (1,)),
    ]


def test_tensors_of_a_gguf_file_that_share_their_bytes_are_read_once(tmp_path: Path) -> None:
    content = gguf_bytes({"empty": (0, (0,), b""), "a": (0, (8,), bytes(32)), "b": (0, (8,), b""), "c": (0, (8,), b"")})
    shared = content.replace(struct.pack("<IQ", 0, 32), struct.pack("<IQ", 0, 0))
    (tmp_path / "m.gguf").write_bytes(shared)
    report = datacheck.scan(tmp_path / "m.gguf")
    assert [(one.code, one.field) for one in report.findings if one.code == "DC005"] == [("DC005", "a"), ("DC005", "b")]
    assert report.num_rows == 8


def test_a_gguf_file_in_the_other_byte_order_is_read(tmp_path: Path) -> None:
    values = np.array([[1, NAN]], ">f4")
    (tmp_path / "m.gguf").write_bytes(gguf_bytes({"a.weight": (0, (1, 2), values.tobytes())}, order=">"))
    assert found(tmp_path / "m.gguf") == [("DC101", "a.weight", 1)]


@pytest.mark.parametrize(
    ("tensors", "problem"),
    [
        ({"a": (0, (4, 4), bytes(32))}, "claims 64 bytes"),
        ({"a": (0, (1 << 60, 1 << 60), bytes(32))}, "claims"),
        ({"a": (99, (4,), bytes(32))}, "unknown type number 99"),
        ({"a": (8, (33,), bytes(64))}, "not whole Q8_0 blocks"),
        ({"a": (29, (256,), bytes(64))}, "IQ1_M"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_and_the_others_are_checked(
    tmp_path: Path, tensors: Any, problem: str
) -> None:
    tensors["last"] = (0, (2,), np.array([1, NAN], "<f4").tobytes())
    (tmp_path / "m.gguf").write_bytes(gguf_bytes(tensors))
    report = datacheck.scan(tmp_path / "m.gguf")
    assert [(one.code, one.field) for one in report.findings] == [("DC005", "a"), ("DC101", "last")]
    assert problem in report.findings[0].message


@pytest.mark.parametrize("at", [4, 8, 16, 24, 40])
def test_hostile_counts_of_a_header_are_refused(tmp_path: Path, at: int) -> None:
    content = bytearray(gguf_bytes({"a": (0, (4,), bytes(32))}))
    content[at : at + 8] = b"\xff" * 8
    (tmp_path / "m.gguf").write_bytes(content)
    assert {one.code for one in datacheck.scan(tmp_path / "m.gguf").findings} <= {"DC901", "DC904", "DC005"}
