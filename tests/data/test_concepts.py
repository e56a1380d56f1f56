from __future__ import annotations

import dataclasses
import json
import os
import shutil
import warnings
from pathlib import Path

import pytest
from concept_samples import edit_json, picture, sample_concept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sync_r1.data.category import category_of
from sync_r1.data.concepts import QA, Conditions, TestItem, list_concepts, load_concept, random_images
from sync_r1.data.layout import Layout, validate_name
from sync_r1.data.write import write_concept

TEXT = st.text(st.characters(categories=("L", "N", "P"), exclude_characters="<>\\"), min_size=1, max_size=12)
ABOUT_ZED = TEXT.map(lambda text: f"<zed> {text}")
QAS = st.builds(QA, TEXT, TEXT)


def test_written_concept_loads_equal(root: Path) -> None:
    assert load_concept(root, "zed") == sample_concept(root)
    assert [path.name for path in load_concept(root, "zed").train_images] == ["0.png", "2.png", "10.jpg"]


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_round_trip_of_any_texts(root: Path, data: st.DataObject) -> None:
    base = sample_concept(root)
    pairs = data.draw(st.lists(st.tuples(ABOUT_ZED, ABOUT_ZED), max_size=6))
    dense = data.draw(st.lists(st.tuples(ABOUT_ZED, ABOUT_ZED), max_size=3))
    human = data.draw(st.booleans())
    concept = dataclasses.replace(
        base,
        class_noun=data.draw(TEXT),
        category="person" if human else data.draw(st.sampled_from(["person", "animal", "object"])),
        conversation_type="human" if human else data.draw(st.sampled_from(["", "animal", "object"])),
        generation_type=data.draw(st.sampled_from(["object", "live_subject"])),
        facts=data.draw(st.lists(ABOUT_ZED, min_size=1, max_size=4)),
        num_testing_info=data.draw(st.integers(0, len(pairs))),
        conversations=data.draw(
            st.dictionaries(st.sampled_from(["0.png", "2.png", "text_only"]), st.lists(QAS, max_size=2))
        ),
        items=[*base.items, TestItem("vqa", base.test_images[0], data.draw(TEXT), data.draw(TEXT))],
        conditions=Conditions(
            dense=data.draw(st.lists(ABOUT_ZED, max_size=2)),
            implicit=[implicit for implicit, _ in pairs],
            explicit=[explicit for _, explicit in pairs],
            dense_implicit=[implicit for implicit, _ in dense],
            dense_explicit=[explicit for _, explicit in dense],
        ),
    )
    write_concept(root, concept, overwrite=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert load_concept(root, "zed") == concept


@settings(max_examples=50, deadline=None)
@given(length=st.integers(0, 30), testing=st.integers(0, 30))
def test_training_and_test_prompts_never_overlap(length: int, testing: int) -> None:
    testing = min(testing, length)
    prompts = [f"<zed> {i}" for i in range(length)]
    concept = dataclasses.replace(
        sample_concept(Path("r")), num_testing_info=testing, conditions=Conditions(implicit=prompts, explicit=prompts)
    )
    assert not set(concept.rl_indices) & set(concept.test_indices)
    assert list(concept.test_indices) == list(range(length))[length - testing :]
    assert len(concept.rl_indices) == min((length + 1) // 2, length - testing)


def test_overlap_of_the_published_rule_warns_with_counts(root: Path) -> None:
    edit_json(Layout(root).info("zed"), num_testing_info="4")
    with pytest.warns(
        UserWarning,
        match=r"6 implicit prompts, the last 4 .* first 3, 1 of them test prompts\. Training uses the first 2 only",
    ):
        concept = load_concept(root, "zed")
    assert (
        concept.num_testing_info == 4
        and list(concept.rl_indices) == [0, 1]
        and list(concept.test_indices) == [2, 3, 4, 5]
    )


def test_no_warning_without_overlap(root: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_concept(root, "zed")


def test_legacy_list_gives_plain_prompts_only(root: Path) -> None:
    Layout(root).conditions("zed").write_text('["A photo of <zed>.", "A photo of <zed> wearing its hat."]')
    edit_json(Layout(root).info("zed"), num_testing_info=None)
    concept = load_concept(root, "zed")
    assert concept.conditions == Conditions(
        plain=["A photo of <zed>.", "A photo of <zed> wearing its hat."], legacy=True
    )
    assert not concept.rl_indices and not concept.test_indices
    write_concept(root, concept, overwrite=True)
    assert load_concept(root, "zed") == concept


def test_optional_files_may_be_absent(root: Path) -> None:
    layout = Layout(root)
    for path in (layout.train_images, layout.conversations("zed"), layout.items("zed")):
        path.unlink()
    concept = load_concept(root, "zed")
    assert [path.name for path in concept.train_images] == ["0.png", "2.png", "10.jpg"]
    assert concept.conversations == {} and concept.items == []


def test_info_variants(root: Path) -> None:
    edit_json(
        Layout(root).info("zed"),
        category=None,
        generation_type="Live Subject",
        extra_info="<zed> has a hat.",
        **{"class": "German shepherd"},
    )
    concept = load_concept(root, "zed")
    assert (concept.category, concept.generation_type, concept.facts) == (
        "animal",
        "live_subject",
        ["<zed> has a hat."],
    )
    edit_json(Layout(root).info("zed"), conversation_type="human", generation_type=None)
    assert load_concept(root, "zed").category == "person"
    edit_json(Layout(root).info("zed"), extra_info=[])
    assert load_concept(root, "zed", allow_empty_facts=True).facts == []


@pytest.mark.parametrize(
    ("noun", "category"),
    [
        ("man", "person"), ("young woman", "person"), ("Women", "person"), ("human", "person"), ("boys", "person"),
        (("German "
            "shepherd"), "animal"), ("dog", "animal"), ("Cats", "animal"), (("guinea "
                "pig"), "animal"), ("toy poodle", "animal"),
        ("mug", "object"), (("dog "
            "mug"), "object"), ("stuffed dog", "object"), ("teddy bear", "object"), ("talisman", "object"),
        ("mandolin", "object"), ("catapult", "object"), ("church", "object"),
        ("woman with a dog", "person"), ("dog in a hat", "animal"), ("", "object"),
    ],
)  # fmt: skip
def test_category_by_head_word(noun: str, category: str) -> None:
    assert category_of(noun) == category
    assert category_of(noun, "human") == "person"


BAD_INFO = [
    ({"class": None}, "info.json: field 'class' is missing; it must be non-empty text"),
    ({"class": 3}, "info.json: field 'class' is 3; it must be non-empty text"),
    ({"info": "  "}, "info.json: field 'info' is '  '"),
    ({"extra_info": []}, r"info.json: field 'extra_info' is \[\]; it must be a list of at least one text"),
    ({"extra_info": None}, "info.json: field 'extra_info' is missing"),
    ({"extra_info": ["<zed> runs.", 4]}, r"info.json: field 'extra_info\[1\]' is 4"),
    ({"num_testing_info": "two"}, "info.json: field 'num_testing_info' is 'two'; it must be a whole number from 0 on"),
    ({"num_testing_info": -1}, "info.json: field 'num_testing_info' is -1"),
    ({"num_testing_info": True}, "info.json: field 'num_testing_info' is True"),
    ({"num_testing_info": None}, "info.json: field 'num_testing_info' is missing"),
    (
        {"num_testing_info": 7},
        "info.json: field 'num_testing_info' is 7; allowed are 0 to 6, the number of personalized_driven_generation",
    ),
    (
        {"generation_type": "plant"},
        "info.json: field 'generation_type' is 'plant'; allowed are object and live_subject",
    ),
    ({"category": "plant"}, "info.json: field 'category' is 'plant'; it must be one of person, animal, object"),
    (
        {"category": "object", "conversation_type": "human"},
        "info.json: field 'category' is 'object' but 'conversation_type' is 'human'",
    ),
]


@pytest.mark.parametrize(("changes", "message"), BAD_INFO)
def test_bad_info_names_file_and_field(root: Path, changes: dict[str, object], message: str) -> None:
    edit_json(Layout(root).info("zed"), **changes)
    with pytest.raises(ValueError, match=message):
        load_concept(root, "zed")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "t2i_conditions.json: no such file"),
        ("{", "t2i_conditions.json: not valid JSON at line 1, column 2"),
        ('"A photo"', "t2i_conditions.json: must be a JSON object, not text"),
        ("{}", "t2i_conditions.json: field 'dense_prompt_generation' is missing; it must be a list of texts"),
        (b"\xff\xfe", "t2i_conditions.json: cannot be read as UTF-8 text"),
    ],
)
def test_bad_conditions_file(root: Path, text: str | bytes | None, message: str) -> None:
    path = Layout(root).conditions("zed")
    path.unlink()
    if text is not None:
        path.write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(ValueError, match=message):
        load_concept(root, "zed")


def test_pairs_must_be_equally_many(root: Path) -> None:
    edit_json(Layout(root).conditions("zed"), explicit_personalized_driven_generation=["A photo of <zed>."])
    with pytest.raises(
        ValueError,
        match=r"'personalized_driven_generation' has 6 .* and 'explicit_personalized_driven_generation' has 1",
    ):
        load_concept(root, "zed")


def test_missing_placeholder_warns_and_is_never_written(root: Path) -> None:
    concept = sample_concept(root)
    bare = dataclasses.replace(concept, conditions=dataclasses.replace(concept.conditions, dense=["a garden"]))
    with pytest.raises(ValueError, match=r"dense_prompt_generation\[0\] lacks <zed>: 'a garden'"):
        write_concept(root, bare, overwrite=True)
    edit_json(Layout(root).conditions("zed"), dense_prompt_generation=["a garden"])
    edit_json(Layout(root).conversations("zed"), **{"train/3.png": [{"query": "q", "answer": "a"}]})
    with pytest.warns(UserWarning, match=r"zed: 2 doubtful entries, first: .*dense_prompt_generation\[0\] lacks <zed>"):
        assert load_concept(root, "zed").conversations["3.png"] == [QA("q", "a")]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ([], r"train_images.json: field 'zed' is \[\]; it must be a list of at least one text"),
        (None, "train_images.json: field 'zed' is missing"),
        (["1.png"], "train_images.json: field 'zed' names '1.png', which is not in"),
        (["../zed/0.png"], "train_images.json: field 'zed' holds '../zed/0.png'; allowed are bare file names"),
        (["0.png", "0.png"], "train_images.json: field 'zed' names a picture twice"),
    ],
)
def test_bad_train_images(root: Path, names: list[str] | None, message: str) -> None:
    edit_json(Layout(root).train_images, zed=names)
    with pytest.raises(ValueError, match=message):
        load_concept(root, "zed")


def test_bad_conversations(root: Path) -> None:
    edit_json(Layout(root).conversations("zed"), **{"0.png": [{"query": "Who?"}]})
    with pytest.raises(ValueError, match=r"conversations.json: 0.png\[0\]: field 'answer' is missing"):
        load_concept(root, "zed")


def item(
    kind: str = "vqa", image: str | None = "unictokens_data/concept/test/zed/0.png", turns: int = 2
) -> dict[str, object]:
    talk = [{"from": "human", "value": "<image>\nWhat?"}, {"from": "gpt", "value": "That."}][:turns]
    return {"type": kind, "conversations": talk} | ({"image": image} if image else {})


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (item("quiz"), r"zed.json: item\[1\]: field 'type' is 'quiz'; it must be one of rec, vqa, text_only"),
        (item(turns=1), r"zed.json: item\[1\]: field 'conversations' has 1 turns"),
        (item(image=None), r"zed.json: item\[1\]: field 'image' is missing; items of type vqa need a picture"),
        (
            item(image="/other/place/0.png"),
            r"zed.json: item\[1\]: field 'image' is '/other/place/0.png', which is not below",
        ),
        (item(image="concept/../../secret.png"), r"zed.json: item\[1\]: field 'image' is 'concept/../../secret.png'"),
        ("text", r"zed.json: item\[1\]: must be a JSON object, not text"),
    ],
)
def test_bad_items_name_number_and_field(root: Path, entry: object, message: str) -> None:
    Layout(root).items("zed").write_text(json.dumps([item(), entry]))
    with pytest.raises(ValueError, match=message):
        load_concept(root, "zed")


@pytest.mark.parametrize(
    ("stored", "found"),
    [
        ("unictokens_data/concept/test/zed/0.png", "concept/test/zed/0.png"),
        ("/home/me/unictokens_data/random_images/1.png", "random_images/1.png"),
        ("/home/me/renamed/concept/test/zed/0.png", "concept/test/zed/0.png"),
        ("D:\\data\\random_images\\0.png", "random_images/0.png"),
        ("/concept/of/mine/concept/train/zed/10.jpg", "concept/train/zed/10.jpg"),
        ("../black_512x512.png", "black_512x512.png"),
        ("random_images/1.png", "random_images/1.png"),
    ],
)
def test_stored_paths_are_found_by_anchors(root: Path, stored: str, found: str) -> None:
    moved = root.rename(root.with_name("moved"))
    Layout(moved).items("zed").write_text(json.dumps([item(image=stored), item("single choice", image="nowhere.png")]))
    assert load_concept(moved, "zed").items == [TestItem("vqa", moved / found, "What?", "That.")]


def test_pictures_outside_the_root_are_refused(root: Path, tmp_path: Path) -> None:
    picture().save(tmp_path / "own.png")
    up = "../" * (len(root.relative_to(tmp_path).parts))
    for stored in (
        str(tmp_path / "own.png"),
        f"{up}own.png",
        f"concept/{up}../own.png",
        f"random_images/../{up}own.png",
    ):
        Layout(root).items("zed").write_text(json.dumps([item(image=stored)]))
        with pytest.raises(ValueError, match="which is not below"):
            load_concept(root, "zed")


def test_absolute_pictures_below_the_root_and_links_in_it_are_used(root: Path, tmp_path: Path) -> None:
    (root / "own").mkdir()
    picture().save(tmp_path / "shared.png")
    (root / "own/a.png").symlink_to(tmp_path / "shared.png")
    for stored in (str(root / "own/a.png"), "own/a.png", "/elsewhere/unictokens_data/own/a.png"):
        Layout(root).items("zed").write_text(json.dumps([item(image=stored)]))
        assert load_concept(root, "zed").items[0].image == root / "own/a.png"


def test_concepts_are_listed_in_order_and_only_when_complete(root: Path) -> None:
    layout = Layout(root)
    for name in ("bo", "amy"):
        shutil.copytree(layout.train("zed"), layout.train(name))
    layout.train("half").mkdir()
    assert list_concepts(root) == ["zed", "amy", "bo"]
    layout.concepts_list.write_text('["bo", "gone", "zed"]')
    assert list_concepts(root) == ["bo", "zed", "amy"]
    assert [path.name for path in random_images(root)] == ["0.png", "1.png"]
    with pytest.raises(ValueError, match=r"nowhere.*no such folder; --data must point at"):
        list_concepts(root / "nowhere")


def test_unknown_concept_names_the_known_ones(root: Path) -> None:
    with pytest.raises(ValueError, match="no concept 'bo' here; known concepts are zed"):
        load_concept(root, "bo")
    with pytest.raises(ValueError, match=r"no concept '\.\./zed' here"):
        load_concept(root, "../zed")


@pytest.mark.parametrize("name", ["", "a b", "a/b", ".hidden", "-x", "é", "x" * 41, "a<b", "token_0", "zed\n"])
def test_names_that_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="concept id"):
        validate_name(name)


def test_writer_refuses_what_would_not_read_back(root: Path, tmp_path: Path) -> None:
    concept = sample_concept(root)

    def fails(message: str, pictures: dict[Path, object] | None = None, **changes: object) -> None:
        with pytest.raises(ValueError, match=message):
            write_concept(root, dataclasses.replace(concept, **changes), pictures or {}, overwrite=True)  # type: ignore[arg-type]

    fails("field 'info' is ' spaced' but would be read back as 'spaced'", info=" spaced")
    fails("info.json: field 'extra_info' is", facts=[])
    fails("field 'train_images' is", train_images=concept.train_images[::-1])
    fails("field 'num_testing_info' is 9; allowed are 0 to 6", num_testing_info=9)
    fails(
        "of type rec has the answer 'Maybe'; it must begin with Yes or No",
        items=[TestItem("rec", concept.test_images[0], "q", "Maybe")],
    )
    fails("key '9.png' is no training picture", conversations={"9.png": []})
    fails("no field of concept 'zed' uses it", pictures={tmp_path / "x.png": picture()})
    fails("pictures must lie below", items=[TestItem("vqa", tmp_path / "x.png", "q", "a")])
    fails("no such picture", train_images=[*concept.train_images, Layout(root).train("zed") / "11.png"])
    fails("8x8 px is too small", pictures={concept.train_images[0]: picture(size=(8, 8))})
    fails("'.bmp' is not supported", train_images=[Layout(root).train("zed") / "0.bmp"], conversations={})
    assert load_concept(root, "zed") == concept
    assert sorted(path.name for path in root.iterdir() if path.name.startswith(".")) == [".lock"]
    with pytest.raises(ValueError, match=r"concept name 'zed' is taken by 'zed' in .*choose another name"):
        write_concept(root, concept)


def test_a_failure_while_moving_in_leaves_the_old_concept(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = {path: path.read_bytes() for path in root.rglob("*") if path.is_file()}
    real, calls = os.rename, []

    def broken(source: Path, target: Path) -> None:
        calls.append(target)
        if len(calls) == 6:
            raise OSError("disk full")
        real(source, target)

    monkeypatch.setattr(os, "rename", broken)
    concept = dataclasses.replace(sample_concept(root), info="<zed> is another.")
    with pytest.raises(OSError, match="disk full"):
        write_concept(root, concept, {path: picture(200) for path in concept.train_images}, overwrite=True)
    assert {path: path.read_bytes() for path in root.rglob("*") if path.is_file()} == before
