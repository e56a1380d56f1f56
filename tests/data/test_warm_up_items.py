from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from archive import build_archive, put, talk

from sync_r1.data import QA, Concept, TrainingItem, cropped_images, load_concept, load_training_items, negative_images

STAGE_1 = "showo_training_data_stage_1/bo.json"


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    return build_archive(tmp_path / "data")


@pytest.fixture
def bo(archive: Path) -> Concept:
    return load_concept(archive, "bo")


def test_published_items_by_anchors_with_all_turns(archive: Path, bo: Concept) -> None:
    expected = [
        TrainingItem(archive / "concept/train/bo/1.png", [QA("What is this?", "A dog."), QA("Where?", "Inside.")]),
        TrainingItem(archive / "random_images/2.png", [QA("Is <bo> here?", "No.")]),
        TrainingItem(None, [QA("Is it grey?", "Yes.")]),
    ]
    (archive / "showo_training_data_stage_3/bo.json").write_text("[]")
    for stage in (1, 2):
        with pytest.warns(
            UserWarning,
            match=r"stage_1/bo.json: 1 of 3 items have no field 'image'; they train as questions from memory",
        ):
            assert load_training_items(archive, bo, stage) == expected
    with pytest.raises(ValueError, match=r"stage_3/bo.json: field '\(list\)' is \[\]; it must hold at least one item"):
        load_training_items(archive, bo, 3)
    with pytest.raises(ValueError, match="stage is 4; it must be 1, 2 or 3"):
        load_training_items(archive, bo, 4)


def test_the_black_image_is_no_picture(archive: Path, bo: Concept) -> None:
    put(archive / STAGE_1, [{"image": "/old/black_512x512.png", "conversations": talk("Is it old?", "No.")}])
    assert load_training_items(archive, bo, 1) == [TrainingItem(None, [QA("Is it old?", "No.")])]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            {"image": "/wrong/bo/1.png", "conversations": talk("a", "b")},
            r"item\[1\]: field 'image' is '/wrong/bo/1.png', which is not below",
        ),
        (
            {"image": "concept/train/bo/12.png", "conversations": talk("a", "b")},
            (
                r"item\[1\]: field 'image' is 'concept/train/bo/12.png', but '.*concept/train/bo/12.png' is no file; "
                r"copy the picture there"
            ),
        ),
        ({"image": 3, "conversations": talk("a", "b")}, r"item\[1\]: field 'image' is 3; it must be non-empty text"),
        ({"conversations": talk("a", "b", "c")}, r"item\[1\]: field 'conversations' has 3 turns; it must be pairs"),
        ({"conversations": []}, r"item\[1\]: field 'conversations' has 0 turns"),
        (
            {"conversations": talk("a", "b")[::-1]},
            r"item\[1\], conversations\[0\]: field 'from' is 'gpt'; .* must be 'human'",
        ),
        ({"conversations": talk("", "b")}, r"item\[1\]: field 'conversations\[0\]' holds no words besides <image>"),
        (
            {"conversations": [{"from": "human", "value": None}] * 2},
            r"item\[1\], conversations\[0\]: field 'value' is None",
        ),
        ("text", r"item\[1\]: must be a JSON object, not text"),
    ],
)
def test_bad_items_name_file_item_and_field(archive: Path, bo: Concept, entry: object, message: str) -> None:
    put(archive / STAGE_1, [{"image": "concept/train/bo/1.png", "conversations": talk("a", "b")}, entry])
    with pytest.raises(ValueError, match=f"stage_1/bo.json: {message}"):
        load_training_items(archive, bo, 1)


def test_nothing_trains_on_blanks(archive: Path, bo: Concept, tmp_path: Path) -> None:
    put(archive / STAGE_1, [{"image": "random_images/2.png", "conversations": talk("a", "b")}])
    (archive / "random_images/2.png").write_bytes(b"\x89PNG")
    with pytest.raises(ValueError, match=r"random_images/2.png: a PNG picture that is damaged"):
        load_training_items(archive, bo, 1)
    with pytest.raises(ValueError, match="elsewhere/concept/train: no such folder"):
        load_training_items(tmp_path / "elsewhere", bo, 1)
    with pytest.raises(
        ValueError, match=r"other/concept/train/bo/info.json: no concept 'bo' here; name the data root it was read from"
    ):
        load_training_items(build_archive(tmp_path / "other", "kim"), bo, 1)
    (archive / "concept/train/bo/cropped/1.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"cropped/1.jpg: not a PNG"):
        cropped_images(archive, bo)


def test_items_follow_from_the_concept_when_there_is_no_file(archive: Path, bo: Concept) -> None:
    (archive / STAGE_1).unlink()
    items = load_training_items(archive, bo, 2)
    train = archive / "concept/train/bo"
    assert items[:2] == [TrainingItem(train / f"{i}.png", [QA(f"About {i}.png?", "Yes.")]) for i in (1, 11)]
    assert items[2:13] == [TrainingItem(train / f"{i}.png", [QA("Do you see <bo>?", "Yes.")]) for i in range(1, 12)]
    assert items[13:14] == [TrainingItem(archive / "random_images/3.png", [QA("Do you see <bo>?", "No.")])]
    assert items[14:] == [
        TrainingItem(None, [QA("What does <bo> look like?", bo.info)]),
        TrainingItem(None, [QA("What is <bo>?", "<bo> is a German shepherd.")]),
        TrainingItem(None, [QA("What do you know about <bo>?", "<bo> has a green coat.")]),
        TrainingItem(None, [QA("Where does it sleep?", "Inside.")]),
    ]


def test_recognition_takes_turns_and_spares_test_pictures(archive: Path, bo: Concept) -> None:
    train = archive / "concept/train/bo"
    for path in (archive / STAGE_1, train / "positive_recognitions.json", train / "random_recognitions.json"):
        path.unlink()
    negatives = [train / "negative_example/0.png", archive / "random_images/1.png", train / "negative_example/1.png"]
    negatives += [archive / f"random_images/{i}.png" for i in (2, 3)]  # 0.png is asked about in testing
    assert negative_images(archive, bo) == negatives
    said = [
        (item.image, item.turns[0].answer)
        for item in load_training_items(archive, bo, 1)
        if "in this picture" in item.turns[0].question
    ]
    assert said == [(path, "Yes.") for path in bo.train_images] + [(path, "No.") for path in negatives]


def test_without_any_other_picture_it_is_said(archive: Path, bo: Concept) -> None:
    (archive / STAGE_1).unlink()
    shutil.rmtree(archive / "random_images")
    shutil.rmtree(archive / "concept/train/bo/negative_example")
    with pytest.warns(UserWarning) as caught:
        load_training_items(archive, bo, 1)
    said = " ".join(str(warning.message) for warning in caught)
    assert (
        "random_recognitions.json: 1 of 1 entries are not understood" in said
        and "recognition only ever learns to say yes" in said
    )


def test_close_ups_without_masks_else_the_photos(archive: Path, bo: Concept) -> None:
    folder = archive / "concept/train/bo/cropped"
    assert cropped_images(archive, bo) == [folder / "0.jpg", folder / "1.jpg"]
    shutil.rmtree(folder)
    assert cropped_images(archive, bo) == bo.train_images
