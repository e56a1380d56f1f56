"""`sync-r1 data check` and the world as a data folder."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from archive import build_archive, edit, put, talk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from sync_r1 import cli
from sync_r1.data import check_root

FIELDS = [
    "type",
    "image",
    "conversations",
    "from",
    "value",
    "query",
    "answer",
    "class",
    "info",
    "extra_info",
    "num_testing_info",
    "score",
]
INFO = "concept/train/bo/info.json"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return build_archive(tmp_path / "data")


def run(*arguments: str | Path) -> tuple[int, str]:
    result = CliRunner().invoke(cli.app, list(map(str, arguments)), env={"COLUMNS": "80"})
    assert result.exception is None or isinstance(result.exception, (SystemExit, ValueError)), result.exception
    return result.exit_code, result.output + str(result.exception or "")


def test_counts_of_a_sound_archive(archive: Path) -> None:
    report = check_root(archive)
    (bo,) = report.concepts
    assert (bo.photos, bo.cropped, bo.test_photos, bo.negatives, bo.facts, bo.stages) == (11, 3, 2, 2, 1, [1, 3])
    assert (bo.implicit, bo.test_prompts, bo.rl_prompts, bo.overlap, bo.dense, bo.dense_pairs) == (5, 2, 3, 0, 2, 1)
    assert (bo.rec, bo.vqa, bo.text_only, bo.conditions, report.random_images) == (2, 1, 1, "++", 4)
    assert report.usable and not bo.errors
    bare = "1 of 3 items have no field 'image'; they train as questions from memory"
    assert bo.doubts == [f"{archive}/showo_training_data_stage_{number}/bo.json: {bare}" for number in (1, 3)]
    assert report.doubts == [
        f"{archive}/concepts_list.json: names bingbing, of which there is no folder in {archive}/concept/train"
    ]


def test_table_and_json(archive: Path) -> None:
    code, output = run("data", "check", archive)
    assert code == 0 and "1 of 1 concepts usable, 4 random images" in output and "German shepherd" in output
    assert re.search(r"bo +\+\+ +5 +2 +3 +0 +2 +1 +2 +1 +1 *\n", output)
    code, output = run("data", "check", archive, "--json")
    told = json.loads(output)
    assert code == 0 and told["usable"] and told["concepts"][0]["rl_prompts"] == 3


def test_every_mistake_is_listed_with_file_and_field(archive: Path) -> None:
    edit(archive / INFO, num_testing_info=9)
    edit(archive / "concept/train/train_images.json", bo=["12.png"])
    edit(archive / "concept/train/bo/conversations.json", **{"2.png": "text"})
    put(
        archive / "test_data/bo.json",
        [{"type": "vqa", "image": f"/wrong/{i}.png", "conversations": talk("a", "b")} for i in range(8)],
    )
    put(
        archive / "showo_training_data_stage_3/bo.json",
        [{"image": "/wrong/1.png", "conversations": talk("a", "b", "c")}],
    )
    (archive / "random_images/1.png").write_bytes(b"x")
    (archive / "concept/train/bo/cropped/0.jpg").write_bytes(b"x")
    (archive / "concept/train/half").mkdir()
    report = check_root(archive)
    (bo,) = report.concepts
    found = "\n".join(bo.errors)
    assert (bo.photos, bo.test_prompts, bo.rl_prompts, bo.implicit) == (None, None, None, 5)
    for part in (
        "info.json: field 'num_testing_info' is 9",
        "train_images.json: field 'bo' names '12.png'",
        "conversations.json: field '2.png' is 'text'",
        "test_data/bo.json: item[0]: field 'image' is '/wrong/0.png'",
        "more like this)",
        "stage_3/bo.json: item[0]: field 'conversations' has 3 turns",
        "stage_3/bo.json: item[0]: field 'image' is '/wrong/1.png'",
        "cropped/0.jpg: not a PNG",
    ):
        assert part in found
    assert found.count("test_data/bo.json") == 5 and "(and 3 more like this)" in found
    assert "random_images/1.png: not a PNG" in report.errors[
        0
    ] and "half: no info.json, so it is no concept" in "\n".join(report.doubts)
    code, output = run("data", "check", archive)
    assert code == 1 and "0 of 1 concepts usable" in output and "✗" in output


def test_doubts_do_not_make_it_unusable(archive: Path) -> None:
    edit(archive / INFO, **{"class": "small bo", "num_testing_info": 3, "extra_info": "It has a coat."})
    shutil.copy(archive / "concept/train/bo/1.png", archive / "concept/test/bo/1.png")
    for number in (1, 3):
        put(
            archive / f"showo_training_data_stage_{number}/bo.json",
            [{"image": "concept/test/bo/0.png", "conversations": talk("a", "b")}],
        )
    put(archive / "concept/train/bo/positive_recognitions.json", {"what": 1})
    shutil.rmtree(archive / "random_images")
    put(archive / "test_data/bo.json", [])
    report = check_root(archive)
    (bo,) = report.concepts
    assert report.usable and bo.overlap == 1 and bo.rl_prompts == 2
    for part in (
        "1 of them test prompts",
        "field 'class' is 'small bo'",
        "extra_info[0] lacks <bo>",
        "test/bo/1.png: the same picture as the training photo 1.png",
        "stage_1/bo.json: 1 of its pictures lie in",
        "positive_recognitions.json: 1 of 1 entries are not understood",
    ):
        assert part in "\n".join(bo.doubts)
    assert "no easy negatives" in "\n".join(report.doubts)


def test_legacy_and_missing_test_splits_show(archive: Path) -> None:
    put(archive / "concept/test/bo/t2i_conditions.json", ["A photo of <bo>."])
    assert (check_root(archive).concepts[0].conditions, check_root(archive).concepts[0].plain) == ("legacy", 1)
    (archive / "test_data/bo.json").unlink()
    shutil.rmtree(archive / "concept/test/bo")
    (bo,) = check_root(archive).concepts
    assert bo.conditions == "none" and not bo.errors
    assert any("no test split" in doubt for doubt in bo.doubts) and any(
        "test_data/bo.json: no such file" in doubt for doubt in bo.doubts
    )


def test_broken_shared_files(archive: Path) -> None:
    (archive / "concepts_list.json").write_text("{")
    (archive / "template.json").write_text("nope")
    report = check_root(archive)
    assert [concept.name for concept in report.concepts] == ["bo"] and not report.usable
    assert (
        "concepts_list.json: not valid JSON" in report.errors[0] and "template.json: not valid JSON" in report.errors[1]
    )
    shutil.move(archive / "concept/train/bo", archive / "concept/train/my bo")
    assert "concept id 'my bo' is not allowed" in check_root(archive).concepts[0].errors[0]


def test_no_data_root_at_all(archive: Path) -> None:
    code, output = run("data", "check", archive / "concept")
    assert code == 1 and f"did you mean {archive}?" in output
    shutil.rmtree(archive / "concept/train/bo")
    assert "no concept, which is a folder with an info.json" in "\n".join(check_root(archive).errors)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from([*FIELDS, "bo", "1.png", "x?"]), inner, max_size=4)
    ),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_content_of_any_file_stops_the_check(archive: Path, data: st.DataObject) -> None:
    path = data.draw(st.sampled_from(sorted(archive.rglob("*.json"))))
    before = path.read_bytes()
    path.write_bytes(data.draw(st.binary(max_size=8) | ANY_JSON.map(lambda value: json.dumps(value).encode())))
    check_root(archive)
    path.write_bytes(before)


def test_a_folder_that_may_not_be_read(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(Path, "iterdir", denied)
    with pytest.raises(ValueError, match=r"concept/train: cannot be read \(Permission denied\)"):
        check_root(archive)


def test_concept_commands_say_what_is_doubtful(archive: Path) -> None:
    edit(archive / INFO, num_testing_info=3)
    code, output = run("concept", "list", "--data", archive)
    assert code == 0 and "1 doubtful place; see it with: sync-r1 data check" in output
    code, output = run("concept", "show", "bo", "--data", archive)
    assert code == 0 and "note: concept bo: 5 implicit prompts" in output


def test_the_world_is_a_data_folder_too() -> None:
    code, output = run("concept", "show", "bo", "--data", "world", "--json")
    assert code == 0 and json.loads(output)["class"] == "dog"
    code, output = run("concept", "show", "zed", "--data", "world")
    assert code == 1 and "the world has no concept 'zed'" in output
    code, output = run(
        "concept", "add", "me", "--pictures", ".", "--class", "dog", "--info", "x", "--fact", "y", "--data", "world"
    )
    assert code == 1 and "--data is 'world', which ships with the package" in output
