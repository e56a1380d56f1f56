"""The published archive, as it comes and as it may come."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
from archive import CONDITIONS, build_archive, edit, put, talk

from sync_r1.data import QA, TestItem, list_concepts, load_concept
from sync_r1.data.undocumented_files import picture_of, read_loose, read_scores

INFO = "concept/train/bo/info.json"
T2I = "concept/test/bo/t2i_conditions.json"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return build_archive(tmp_path / "my archive")


def test_the_whole_layout_is_read_without_a_warning(archive: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bo = load_concept(archive, "bo")
    test = archive / "concept/test/bo"
    assert (bo.class_noun, bo.category, bo.generation_type, bo.num_testing_info) == (
        "German shepherd",
        "animal",
        "live_subject",
        2,
    )
    assert (
        bo.facts == ["<bo> has a green coat."]
        and bo.conditions.implicit == CONDITIONS["personalized_driven_generation"]
    )
    assert [path.name for path in bo.train_images] == [f"{i}.png" for i in range(1, 12)] and len(bo.test_images) == 2
    assert bo.conversations == {
        "1.png": [QA("About 1.png?", "Yes.")],
        "11.png": [QA("About 11.png?", "Yes.")],
        "text_only": [QA("Where does it sleep?", "Inside.")],
    }
    assert bo.items == [
        TestItem("rec", test / "0.png", "Is <bo> here?", "Yes."),
        TestItem("rec", archive / "random_images/0.png", "Is <bo> here?", "No."),
        TestItem("vqa", test / "1.png", "What colour?", "Grey."),
        TestItem("text_only", archive / "black_512x512.png", "Is it old?", "No."),
    ]
    assert list(bo.rl_indices) == [0, 1, 2] and list(bo.test_indices) == [3, 4] and bo.overlap == 0


def test_conversations_of_human_make_a_person(archive: Path) -> None:
    edit(archive / INFO, **{"class": "mandolin", "conversation_type": "Human"})
    assert load_concept(archive, "bo").category == "person"


def test_without_the_black_image_questions_from_memory_remain(archive: Path) -> None:
    (archive / "black_512x512.png").unlink()
    assert load_concept(archive, "bo").items[-1] == TestItem("text_only", None, "Is it old?", "No.")


def test_a_prompt_asked_in_testing_is_never_trained(archive: Path) -> None:
    prompts = list(CONDITIONS["personalized_driven_generation"])
    prompts[1], prompts[2] = (
        f" {prompts[4].upper()} ".replace("<BO>", "<bo>"),
        CONDITIONS["personalized_dense_prompt_generation"][0],
    )
    edit(archive / T2I, personalized_driven_generation=prompts)
    with pytest.warns(
        UserWarning, match="bo: 2 training prompts are asked word for word in testing; training leaves them out"
    ):
        assert list(load_concept(archive, "bo").rl_indices) == [0]


def test_a_concept_without_a_test_split_says_what_still_runs(archive: Path) -> None:
    shutil.rmtree(archive / "concept/test/bo")
    put(archive / "test_data/bo.json", [{"type": "text_only", "conversations": talk("Is it old?", "No.")}])
    with pytest.warns(
        UserWarning,
        match=r"no test split: concept/test/bo/t2i_.* the warm-up, pure_gen, training on questions .*, qa can",
    ):
        bo = load_concept(archive, "bo")
    assert not bo.rl_indices and not bo.test_indices and bo.num_testing_info == 0


def test_repeated_prompts_are_counted(archive: Path) -> None:
    edit(
        archive / T2I,
        personalized_driven_generation=["<bo> with it."] * 3 + CONDITIONS["personalized_driven_generation"][3:],
    )
    with pytest.warns(UserWarning, match="bo: 2 of 5 implicit prompts repeat another word for word"):
        assert list(load_concept(archive, "bo").rl_indices) == [0, 1, 2]


@pytest.mark.parametrize(
    ("testing", "message"),
    [
        (0, "num_testing_info is 0, so that no implicit prompt is for testing: rea and rea_gen cannot run"),
        (3, "the published rule would train on the first 3, 1 of them test prompts. Training uses the first 2 only"),
        (5, "all 5 implicit prompts are for testing, so that none is left to train on; the warm-up"),
    ],
)
def test_splits_worth_a_word(archive: Path, testing: int, message: str) -> None:
    edit(archive / INFO, num_testing_info=testing)
    with pytest.warns(UserWarning, match=message):
        load_concept(archive, "bo")


def test_a_root_one_level_off_is_named(archive: Path, tmp_path: Path) -> None:
    for wrong in (archive.parent, archive / "concept", archive / "concept/train"):
        with pytest.raises(ValueError, match=rf"no such folder; --data must .* did you mean {archive}\?"):
            list_concepts(wrong)
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="no such folder"):
        list_concepts(tmp_path / "file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            '{"class": "caf\xe9"}'.encode("latin-1"),
            r"info.json: cannot be read as UTF-8 text \(byte 14 is 0xe9\); save it as UTF-8",
        ),
        ("[" * 100_000, "info.json: not valid JSON: lists or objects are nested too deeply"),
        ('{"num_testing_info": ' + "9" * 5000 + "}", "info.json: not valid JSON: Exceeds the limit"),
        ("", "info.json: not valid JSON at line 1, column 1"),
        ("[]", "info.json: must be a JSON object, not a list"),
    ],
)
def test_files_that_are_no_json(archive: Path, content: str | bytes, message: str) -> None:
    (archive / INFO).write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(ValueError, match=message):
        load_concept(archive, "bo")


def test_a_folder_in_place_of_a_file(archive: Path) -> None:
    (archive / T2I).unlink()
    (archive / T2I).mkdir()
    with pytest.raises(ValueError, match=r"t2i_conditions.json: must be a file, not a folder, pipe or device"):
        load_concept(archive, "bo")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"num_testing_info": "9" * 5000}, "info.json: field 'num_testing_info' is '999"),
        ({"num_testing_info": 10**30}, r"field 'num_testing_info' is 10+; allowed are 0 to 5"),
        ({"num_testing_info": float("nan")}, "field 'num_testing_info' is nan; it must be a whole number"),
        ({"class": float("nan")}, "field 'class' is nan; it must be non-empty text"),
        ({"info": "half \ud800"}, "field 'info' is .*; it must be non-empty text"),
        ({"extra_info": ["\ud800"]}, r"field 'extra_info\[0\]' is"),
    ],
)
def test_values_no_field_takes(archive: Path, changes: dict[str, object], message: str) -> None:
    edit(archive / INFO, **changes)
    with pytest.raises(ValueError, match=message):
        load_concept(archive, "bo")


def test_a_byte_order_mark_is_no_mistake(archive: Path) -> None:
    path = archive / INFO
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_concept(archive, "bo").class_noun == "German shepherd"


def test_two_keys_of_one_photo_are_refused(archive: Path) -> None:
    edit(archive / "concept/train/bo/conversations.json", **{"1.png": []})
    with pytest.raises(ValueError, match=r"conversations.json: two fields are about '1.png'"):
        load_concept(archive, "bo")


def test_an_unreadable_picture_names_where_it_is_named(archive: Path) -> None:
    (archive / "concept/train/bo/11.png").write_bytes(b"")
    with pytest.raises(ValueError, match=r"11.png: empty \(0 bytes\).* \(named in .*train_images.json, field 'bo'\)"):
        load_concept(archive, "bo")
    shutil.copy(archive / "concept/train/bo/1.png", archive / "concept/train/bo/11.png")
    (archive / "random_images/0.png").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"random_images/0.png: .* \(named in .*test_data/bo.json, field 'image'\)"):
        load_concept(archive, "bo")


def test_photos_without_a_list_leave_masks_out(archive: Path) -> None:
    (archive / "concept/train/train_images.json").unlink()
    shutil.copy(archive / "concept/train/bo/1.png", archive / "concept/train/bo/1_mask.png")
    assert len(load_concept(archive, "bo").train_images) == 11


def test_without_test_data_the_undocumented_files_are_tried(archive: Path) -> None:
    (archive / "test_data/bo.json").unlink()
    picture = archive / "concept/test/bo/0.png"
    assert load_concept(archive, "bo").items == [
        TestItem("vqa", picture, "What colour?", "Grey."),
        TestItem("text_only", None, "Is it old?", "No."),
    ]
    put(archive / "concept/test/bo/vqa.json", [{"image": "10.png", "question": "q?", "answer": "a"}, {"x": 1}])
    with pytest.warns(
        UserWarning, match=r"vqa.json: 2 of 2 entries are not understood or name no picture and are left out"
    ):
        assert len(load_concept(archive, "bo").items) == 1


@pytest.mark.parametrize(
    ("data", "found", "total"),
    [
        (
            [{"query": "a?", "answer": "b"}, {"question": "c?", "response": "d", "img": "0.png"}],
            [("", "a?", "b"), ("0.png", "c?", "d")],
            2,
        ),
        ({"0.png": [{"prompt": "a?", "answer": "b"}]}, [("0.png", "a?", "b")], 1),
        ({"a?": "b", "c": "d"}, [("", "a?", "b")], 2),
        ([["a?", "b"], ["one", "two"]], [("", "a?", "b")], 3),
        (
            {"image": "x/0.png", "conversations": talk("a?", "b", "c?", "d")},
            [("x/0.png", "a?", "b"), ("x/0.png", "c?", "d")],
            2,
        ),
        (
            [{"conversations": talk("a?", "b")[:1]}, {"conversations": [1, 2]}, {"query": "a?"}, None, 3.5, "text", {}],
            [],
            6,
        ),
        (float("nan"), [], 1),
    ],
)
def test_undocumented_files_are_understood_or_counted(
    tmp_path: Path, data: object, found: list[tuple[str, ...]], total: int
) -> None:
    loose = read_loose(put(tmp_path / "loose.json", data))
    assert [(item.image, item.question, item.answer) for item in loose.items] == found and loose.total == total


def test_undocumented_files_never_stop_anything(tmp_path: Path) -> None:
    path = tmp_path / "loose.json"
    assert read_loose(path).total == 0 and read_scores(path).total == 0
    for content in (b"\xff", b"{", ("[" * 700 + "]" * 700).encode(), b"[" * 100_000):
        path.write_bytes(content)
        assert not read_loose(path).items and not read_scores(path).items
    assert read_loose(path).total == read_scores(path).total == 1


def test_scores_in_two_forms(tmp_path: Path) -> None:
    for data in (
        {"0.png": 0.5, "1.png": "high"},
        [{"image": "0.png", "score": 1}, {"image": "1.png"}],
        [1, {"image": "0.png", "score": 2}],
    ):
        scores = read_scores(put(tmp_path / "score.json", data))
        assert [item.image for item in scores.items] == ["0.png"] and scores.total == 2


def test_pictures_of_undocumented_files_have_exact_names(archive: Path) -> None:
    folder = archive / "concept/train/bo"
    stored = {
        "1.png": folder / "1.png",
        "": None,
        "111.png": None,
        "a\\concept\\train\\bo\\11.png": folder / "11.png",
        "x/1.png": None,
    }
    for image, found in stored.items():
        (item,) = read_loose(put(archive / "x.json", [{"image": image, "query": "a?", "answer": "b"}])).items
        assert picture_of(archive, folder, item) == found


def test_legacy_lists_still_load(archive: Path) -> None:
    put(archive / T2I, ["A photo of <bo>.", "A photo of <bo> in its hat."])
    edit(archive / INFO, num_testing_info=None)
    with pytest.warns(
        UserWarning, match="old list form of UnifyBench, .* the warm-up, pure_gen, training on questions"
    ):
        bo = load_concept(archive, "bo")
    assert bo.conditions.legacy and json.loads((archive / T2I).read_text()) == bo.conditions.plain
