"""Label files of images: boxes in their image, categories and files that exist; whatever else the file holds."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import datacheck

image = pytest.importorskip("PIL.Image")

GOOD: dict[str, Any] = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 64, 48], "area": 3072.0}
VOC = "<annotation><filename>a.png</filename><size><width>64</width><height>48</height></size>{}</annotation>"
OBJECT = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object>"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    for number, name in enumerate(("a", "b")):
        picture = image.new("RGB", (64, 48))
        picture.putpixel((number, 0), (255, 0, 0))
        picture.save(tmp_path / "images" / f"{name}.png")
    return tmp_path


def problems(folder: Path) -> list[tuple[str, int, int]]:
    found = [one for one in datacheck.scan(folder).findings if one.code == "DC607"]
    return [(one.detail.partition(":")[0], one.num_violations, one.num_checked) for one in found]


def coco(folder: Path, *annotations: Any, **more: Any) -> None:
    images = [
        {"id": number, "file_name": f"{name}.png", "width": 64, "height": 48} for number, name in enumerate("ab", 1)
    ]
    record = {"images": images, "categories": [{"id": 1, "name": "cat"}], "annotations": list(annotations), **more}
    (folder / "instances.json").write_text(json.dumps(record))


def test_labels_that_are_right_are_no_findings(folder: Path) -> None:
    coco(folder, GOOD, {**GOOD, "id": 2, "bbox": [0.0, 0.0, 64.5, 48.2]})
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 1 1\n3 0.25 0.25 0.5 0.5\n\n")
    (folder / "labels" / "b.txt").write_text("0 0.1 0.1 0.9 0.1 0.9 0.9\n")
    (folder / "images" / "a.xml").write_text(VOC.format(OBJECT.format("cat", 1, 1, 64, 48)))
    report = datacheck.scan(folder)
    assert problems(folder) == []
    assert "DC913" not in {finding.code for finding in report.findings}


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"bbox": [60, 0, 10, 10]}, "its box reaches beyond its image"),
        ({"bbox": [-3, 0, 10, 10]}, "its box reaches beyond its image"),
        ({"bbox": [0, 0, 0, 10]}, "its box has no area"),
        ({"bbox": [0, 0, float("nan"), 10]}, "its box is not 4 finite numbers"),
        ({"bbox": [0, 0, 1]}, "its box is not 4 finite numbers"),
        ({"bbox": "0 0 1 1"}, "its box is not 4 finite numbers"),
        ({"bbox": {"x": 1}}, "its box is not 4 finite numbers"),
        ({"category_id": 7}, "its category is not in the list of categories"),
        ({"category_id": [1]}, "its category is not in the list of categories"),
        ({"image_id": 9}, "its image is not in the list of images"),
        ({"image_id": None}, "its image is not in the list of images"),
        ({"area": 0}, "its area is not a positive number"),
        ({"area": "much"}, "its area is not a positive number"),
        ({"id": 2}, "two annotations have the same id"),
    ],
)
def test_an_annotation_of_coco(change: dict[str, Any], problem: str, folder: Path) -> None:
    coco(folder, {**GOOD, "id": 2}, {**GOOD, **change})
    assert problems(folder) == [(problem, 1, 2)]


def test_images_of_coco(folder: Path) -> None:
    coco(folder, GOOD)
    record = json.loads((folder / "instances.json").read_text())
    record["images"] += [{"id": 1, "file_name": "a.png"}, {"file_name": "b.png"}, {"id": 5, "file_name": "gone.png"}, 3]
    (folder / "instances.json").write_text(json.dumps(record))
    assert problems(folder) == [
        ("two images have the same id", 1, 6),
        ("an image has no id", 2, 6),
        ("an image that it names is not among the files", 1, 6),
    ]


def test_a_size_that_is_not_that_of_the_image(folder: Path) -> None:
    turned = image.Exif()
    turned[274] = 6
    image.effect_noise((48, 64), 50).save(folder / "images" / "c.jpg", exif=turned)
    (folder / "images" / "d.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    names = ("a.png", "b.png", "c.jpg", "d.png")
    images = [{"id": number, "file_name": name, "width": 64, "height": 48} for number, name in enumerate(names, 1)]
    coco(folder, GOOD, images=images)
    (folder / "images" / "a.xml").write_text(VOC.format(""))
    assert problems(folder) == []
    images[1]["width"] = 32
    coco(folder, GOOD, images=images)
    (folder / "images" / "a.xml").write_text(VOC.format("").replace("64", "128"))
    says = "says {} x 48 pixels, but the image has 64 x 48"
    report = datacheck.scan(folder)
    assert {Path(one.uri).name: one.detail for one in report.findings if one.code == "DC607"} == {
        "a.png": f"a.xml {says.format(128)}",
        "b.png": f"instances.json {says.format(32)}",
    }
    assert report == replace(datacheck.scan(folder, executor="processes", workers=2), seconds=report.seconds)
    (folder / "other").mkdir()
    image.new("RGB", (10, 10)).save(folder / "other" / "b.png")
    assert "b.png" not in {Path(one.uri).name for one in datacheck.scan(folder).findings if one.code == "DC607"}


def test_a_changed_label_file_is_compared_with_an_unchanged_image(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    coco(folder, GOOD)
    assert datacheck.check(["."]).ok
    (folder / "instances.json").write_text((folder / "instances.json").read_text().replace("64", "32"))
    found = [(one.uri, one.code) for one in datacheck.check(["."]).findings if one.uri.endswith(".png")]
    assert found == [("./images/a.png", "DC607"), ("./images/b.png", "DC607")]
    assert not [one for one in datacheck.check(["."], exclude=["*.json"]).findings if one.uri.endswith(".png")]


@pytest.mark.parametrize("text", ['{"images": 3, "annotations": []}', '{"images": [], "x": 1}', '{"model": "images"}'])
def test_other_json_is_left_alone(text: str, folder: Path) -> None:
    (folder / "other.json").write_text(text)
    assert problems(folder) == []


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_coco_is_read_one_element_at_a_time(block_bytes: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datacheck.sources.json_stream._BLOCK_BYTES", block_bytes)
    monkeypatch.setattr("datacheck.sources.json_stream.MAX_VALUE_CHARS", 300)
    beyond = [{**GOOD, "id": number, "bbox": [60, 0, 10, 10]} for number in range(10)]
    coco(folder, *beyond, info=["\u00e9\u4e2d"] * 100, licenses=[])
    (finding,) = datacheck.scan(folder).findings
    assert (finding.code, Path(finding.uri).name, finding.num_violations) == ("DC607", "instances.json", 10)
    assert finding.detail == "its box reaches beyond its image: annotation '0', '1', '2' and 7 more"


def test_annotations_may_come_before_the_images_of_coco(folder: Path) -> None:
    coco(folder, {**GOOD, "bbox": [60, 0, 10, 10]})
    record = json.loads((folder / "instances.json").read_text())
    (folder / "instances.json").write_text(json.dumps(dict(reversed(record.items())), indent=1))
    assert [problem for problem, *_ in problems(folder)] == ["its box reaches beyond its image"]


def test_coco_with_a_value_that_is_too_large_is_said_not_to_be_checked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("datacheck.sources.json_stream.MAX_VALUE_CHARS", 1 << 20)
    coco(folder, {**GOOD, "bbox": [60, 0, 10, 10]}, info={"x": "x" * (4 << 20)})
    (finding,) = datacheck.scan(folder).findings
    assert (finding.code, Path(finding.uri).name) == ("DC913", "instances.json")
    assert finding.detail.startswith("the labels were not checked: one value in it has more than 64 MiB; check a copy")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"images": [{"id": 1, ', "Expecting property name enclosed in double quotes at character 22"),
        ('{"images": [1 2]}', "expected ',' or ']' at character 14"),
        ('{"images": [1]', "expected ',' or '}' where it ends"),
        ('{"images": [],}', "expected a name in double quotes at character 14"),
        ('{"images": []} x', "there is text after its end at character 15"),
        ('{"images": [1e', "expected ',' or ']' at character 13"),
    ],
)
def test_coco_that_is_not_valid_json(text: str, problem: str, folder: Path) -> None:
    (folder / "instances.json").write_text(text)
    assert [problem for problem, *_ in problems(folder)] == [f"it is not valid JSON ({problem})"]


@pytest.mark.parametrize(
    ("inner", "problem"),
    [
        (OBJECT.format("cat", 1, 1, 99, 10), "a box reaches beyond its image"),
        (OBJECT.format("cat", 9, 1, 9, 10), "a box has no area"),
        (OBJECT.format("cat", "inf", 1, 9, 10), "a box is not 4 finite numbers"),
        (OBJECT.format("", 1, 1, 9, 10), "an object has no name"),
        ("<object><name>cat</name></object>", "a box is not 4 finite numbers"),
    ],
)
def test_an_object_of_voc(inner: str, problem: str, folder: Path) -> None:
    (folder / "images" / "a.xml").write_text(VOC.format(inner))
    (folder / "images" / "b.xml").write_text(VOC.format(OBJECT.format("cat", 1, 1, 9, 9)))
    assert problems(folder) == [(problem, 1, 2)]


def test_no_entity_of_xml_is_expanded(folder: Path) -> None:
    inner = "".join(f'<!ENTITY e{n} "{f"&e{n - 1};" * 10 if n else "x" * 100}">' for n in range(12))
    for name, declared in (("a", inner), ("b", '<!ENTITY e11 SYSTEM "file:///etc/passwd">')):
        text = f"<!DOCTYPE annotation [{declared}]>" + VOC.format("<folder>&e11;</folder>")
        (folder / "images" / f"{name}.xml").write_text(text)
    ((problem, number, checked),) = problems(folder)
    assert (number, checked) == (2, 2)
    assert "document type" in problem


def test_an_image_of_voc_that_is_not_there(folder: Path) -> None:
    (folder / "images" / "gone.xml").write_text(VOC.replace("a.png", "gone.png").format(""))
    assert problems(folder) == [("the image that it names is not among the files", 1, 1)]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("0 0.9 0.5 0.5 0.5", "a box reaches beyond its image"),
        ("0 1.5 0.5 0.5 0.5", "a coordinate is not between 0 and 1"),
        ("0 320 240 64 64", "a coordinate is not between 0 and 1"),
        ("0 0.5 0.5 0 0.5", "a box has no area"),
        ("0.5 0.5 0.5 0.5 0.5", "a class is not an integer of at least 0"),
        ("-1 0.5 0.5 0.5 0.5", "a class is not an integer of at least 0"),
        ("2 0.5 0.5 0.5 0.5", "a class is beyond the 2 that the dataset names"),
        ("0 0.5 nan 0.5 0.5", "a line is not a class and at least 4 finite numbers"),
        ("0 0.5 0.5", "a line is not a class and at least 4 finite numbers"),
        ("0 0.1 0.1 0.9 0.1 0.9 2.0", "a coordinate is not between 0 and 1"),
    ],
)
def test_a_line_of_yolo(line: str, problem: str, folder: Path) -> None:
    (folder / "data.yaml").write_text("train: images\nnames: [cat, dog]\n")
    (folder / "labels" / "a.txt").write_text(f"1 0.5 0.5 0.1 0.1\n{line}\n")
    assert problems(folder) == [(problem, 1, 1)]
    report = datacheck.scan(folder)
    assert "'a.txt:2'" in next(one for one in report.findings if one.code == "DC607").message


def test_a_caption_is_no_label(folder: Path) -> None:
    (folder / "images" / "a.txt").write_text("a cat on a mat")
    assert problems(folder) == []


def test_names_of_yolo_that_are_not_numbered_give_no_number_of_classes(folder: Path) -> None:
    (folder / "labels" / "a.txt").write_text("7 0.5 0.5 1 1\n")
    for names, expected in (("{0: cat}", 1), ("{0;cat: 1}", 0), ("{[1]: 1}", 0)):
        (folder / "data.yaml").write_text(f"train: images\nnames: {names}\n")
        assert len(problems(folder)) == expected


POSE = "0 0.5 0.5 0.4 0.4 0.1 0.2 2 0 0 0"


@pytest.mark.parametrize(
    ("description", "line", "problem"),
    [
        ("", POSE, ""),
        ("kpt_shape: [2, 3]", POSE, ""),
        ("kpt_shape: [2, 3]", POSE.replace("0.2 2", "1.2 2"), "a coordinate is not between 0 and 1"),
        ("kpt_shape: [3, 2]", POSE, "a coordinate is not between 0 and 1"),
        ("kpt_shape: [2, 2]", "0 0.5 0.5 0.4 0.4 0.1 0.2 0 0", ""),
        ("", POSE.replace("0.2 2", "0.2 3"), "a coordinate is not between 0 and 1"),
        ("kpt_shape: 3", POSE.replace("0.1 0.2", "nan 0.2"), "a line is not a class and at least 4 finite numbers"),
    ],
)
def test_keypoints_of_yolo_are_no_polygons(description: str, line: str, problem: str, folder: Path) -> None:
    (folder / "data.yaml").write_text(f"train: images\nnames: [person]\n{description}\n")
    (folder / "labels" / "a.txt").write_text(line)
    assert problems(folder) == ([(problem, 1, 1)] if problem else [])


def test_labels_are_no_tables_of_numbers(folder: Path) -> None:
    for name, more in (("a", ""), ("b", " 0.9 0.9")):
        (folder / "labels" / f"{name}.txt").write_text(f"0 0.1 0.1 0.9 0.1 0.9 0.9{more}\n")
    (folder / "numbers.txt").write_text("1 2\n3 nan\n")
    report = datacheck.scan(folder)
    assert [(one.code, Path(one.uri).name) for one in report.findings] == [("DC101", "numbers.txt")]
    assert report.num_rows == 4
    assert datacheck.scan(folder / "labels" / "a.txt").num_rows == 1


@pytest.mark.parametrize("name", ["metadata.jsonl", "metadata.csv"])
def test_files_that_the_metadata_of_a_folder_names_must_be_there(name: str, folder: Path) -> None:
    pytest.importorskip("msgspec")
    names = ["a.png", "c.png", "./b.png", "../../secret"]
    lines = [json.dumps({"file_name": one, "x": 1}) for one in names]
    text = "\n".join(lines if name.endswith("jsonl") else ["file_name,x", *(f"{one},1" for one in names)])
    (folder / "images" / name).write_text(text)
    assert problems(folder) == [("its file is not there", 1, 3)]
    (finding,) = [one for one in datacheck.scan(folder).findings if one.code == "DC607"]
    assert (finding.uri, "row '1 (c.png)'" in finding.detail) == (str(folder / "images" / name), True)


def test_lists_of_image_names_are_no_tables_of_numbers_and_what_numbers_they_have_is(tmp_path: Path) -> None:
    for number in range(12):
        picture = image.new("RGB", (64, 48))
        picture.putpixel((number, 0), (255, 0, 0))
        picture.save(tmp_path / f"{number:06d}.png")
    (tmp_path / "train.txt").write_text("".join(f"{number:06d}\n" for number in range(12)))
    (tmp_path / "cat_train.txt").write_text("".join(f"{number:06d} {number % 3 - 1:2d}\n" for number in range(12)))
    (tmp_path / "scores.txt").write_text("".join(f"{number:06d} {number / 7}\n" for number in range(12)))
    assert datacheck.scan(tmp_path).num_files == 13

    (tmp_path / "scores.txt").unlink()
    # Images of one size and mode are as they should be.
    assert "image.width" in datacheck.infer(tmp_path).fields
    assert "DC504" not in {one.code for one in datacheck.find_notes(tmp_path)}
