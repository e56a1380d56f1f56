"""Names in any script: the id made from them, where texts mention them, and which are refused or warned about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from concept_samples import picture

from sync_r1.data.add import AddedConcept, add_concept_folder
from sync_r1.data.check import check_root
from sync_r1.data.concepts import find_concept, list_concepts, load_concept
from sync_r1.data.layout import Layout
from sync_r1.data.names import check_mentions, check_not_everyday, clean_name, make_id, mention
from sync_r1.data.phrases import drawing_pairs, info_sentence, with_article, with_placeholder
from sync_r1.unifybench.builder.propose import chosen_names
from sync_r1.unifybench.protocol import load_protocol
from sync_r1.unifybench.run import choose_concepts


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(3):
        picture(number * 40).save(folder / f"{number}.png")
    return folder


def add(root: Path, photos: Path, name: str, *facts: str, **more: Any) -> AddedConcept:
    given = facts or (f"{name} wears a red scarf.",)
    return add_concept_folder(root, name, photos, "dog", f"{name} is a brown terrier.", given, **more)


@pytest.mark.parametrize(
    ("name", "concept_id"),
    [
        ("bo", "bo"),
        ("Bo_2", "Bo_2"),
        ("Ünal", "unal"),
        ("Zoe\u0308", "zoe"),
        ("O'Neil", "oneil"),
        ("O’Neil", "oneil"),
        ("  New   York ", "new-york"),
        ("Łódź", "lodz"),
        ("Straße", "strasse"),
        ("猫Tom", "tom"),
        ("猫咪", ""),
        ("🐶", ""),
        ("../evil", "evil"),
    ],
)
def test_an_id_is_made_of_ascii_letters(name: str, concept_id: str) -> None:
    assert make_id(clean_name(name)) == concept_id


@pytest.mark.parametrize("name", ["", " ", "<bo>", "a\x00b", "…", "x" * 41, "caf\udce9"])
def test_names_that_no_text_can_mention(name: str) -> None:
    with pytest.raises(ValueError, match=r"concept('s)? name"):
        clean_name(name)


@pytest.mark.parametrize(
    ("name", "concept_id", "text", "said"),
    [
        ("猫咪", "concept-1", "a photo of 猫咪 at the beach", "a photo of <c> at the beach"),
        ("猫咪", "concept-1", "我家的猫咪喜欢红色的围巾", "我家的<c>喜欢红色的围巾"),
        ("猫咪", "concept-1", "What colour is <猫咪>?", "What colour is <c>?"),
        ("猫咪", "concept-1", "<猫咪2> and concept-1", "<猫咪2> and <c>"),
        ("モモ", "concept-1", "モモンガとモモちゃん", "モモンガと<c>ちゃん"),
        ("나비", "concept-1", "나비는 빨간 모자", "<c>는 빨간 모자"),
        ("मोती", "concept-1", "मोतीलाल, मोती", "मोतीलाल, <c>"),
        ("Барсик", "concept-1", "БАРСИК и барсики", "<c> и барсики"),
        ("New York", "new-york", "What colour is new  york? newyork", "What colour is <c>? newyork"),
        ("O'Neil", "oneil", "O’Neil’s hat, oneil", "<c>’s hat, <c>"),
        ("Zoë", "zoe", "ZOE\u0308 and zoe, Zoës", "<c> and <c>, Zoës"),
        ("Straße", "strasse", "STRASSE", "<c>"),
        (
            "momo",
            "momo",
            "momo喜欢 momoは momoko momo_2 momo-shaped <momo2>",
            "<c>喜欢 <c>は momoko momo_2 momo-shaped <momo2>",
        ),
        ("blue", "blue", "Blue has a blue hat. Is blue its colour?", "<c> has a blue hat. Is blue its colour?"),
        ("blue", "blue", "blue sky", "blue sky"),
    ],
)
def test_a_text_mentions_the_concept(name: str, concept_id: str, text: str, said: str) -> None:
    assert mention(text, concept_id, name) == said.replace("<c>", f"<{concept_id}>")


@pytest.mark.parametrize(
    ("fact", "told"),
    [
        ("it has a blue raincoat", "<blue> has a blue raincoat"),
        ("wears a blue scarf", "<blue> wears a blue scarf"),
        ("Blue carries a ball", "<blue> carries a ball"),
        ("blue carries a ball", "<blue> carries a ball"),
        ("its bowl is blue", "<blue>'s bowl is blue"),
    ],
)
def test_a_thing_called_like_a_colour(fact: str, told: str) -> None:
    assert with_placeholder(fact, "blue") == told


@pytest.mark.parametrize(
    ("fact", "told", "implicit", "explicit"),
    [
        ("it's Zoë's dog", "<rex> is Zoë's dog", "", ", who is Zoë's dog"),
        ("he’s got a red ball", "<rex> has got a red ball", "", ", who has got a red ball"),
        ("It'll bark", "<rex> will bark", "", ", who will bark"),
        ("her bowl is blue", "<rex>'s bowl is blue", " with its bowl", ", whose bowl is blue"),
        ("Rex's wearing a hat", "<rex>'s wearing a hat", "", ", who is wearing a hat"),
        ("it can't swim", "<rex> can't swim", "", ", who can't swim"),
        ("never barks at night", "<rex> never barks at night", "", ", who never barks at night"),
        ("There's a scar on its nose", "<rex> There's a scar on its nose", "", ", There's a scar on its nose"),
    ],
)
def test_contractions_make_no_nonsense(fact: str, told: str, implicit: str, explicit: str) -> None:
    assert with_placeholder(fact, "rex") == told
    assert drawing_pairs([told], "rex", "animal") == [(f"A photo of <rex>{implicit}", f"A photo of <rex>{explicit}")]


def test_a_description_begins_with_the_name_or_a_pronoun() -> None:
    for info in ("猫咪是一只棕色的狗", "<猫咪> is brown"):
        assert info_sentence(info, "concept-1", "猫咪").startswith("<concept-1>")
    assert info_sentence("It's a brown terrier", "bo") == "<bo> is a brown terrier"
    assert info_sentence("a terrier called Bo", "bo") == "<bo> is a terrier called Bo"


@pytest.mark.parametrize("name", ["the", "Yes", "is", "A", "photo"])
def test_words_of_every_text_are_no_names(tmp_path: Path, photos: Path, name: str) -> None:
    with pytest.raises(ValueError, match=rf"concept name '{name}' is a word that questions and prompts hold anyway"):
        add(tmp_path / "data", photos, name)
    assert not (tmp_path / "data").exists()


def test_everyday_words_are_warned_about(tmp_path: Path, photos: Path) -> None:
    assert "'blue' is also an everyday word: only 'Blue' and <blue>" in add(tmp_path / "a", photos, "blue").notes[0]
    assert "'cat' is also an everyday word" in check_not_everyday("cat")
    assert "one character" in check_not_everyday("猫") and check_not_everyday("momo") == ""


def test_a_name_in_any_script_is_kept_beside_its_id(tmp_path: Path, photos: Path) -> None:
    root = tmp_path / "data"
    added = {name: add(root, photos, name) for name in ("猫咪", "小狗", "Zoë", "O'Neil", "New York")}
    assert list_concepts(root) == ["concept-1", "concept-2", "zoe", "oneil", "new-york"]
    assert "--id chooses another" in added["猫咪"].notes[0]
    for name, one in added.items():
        concept = load_concept(root, name)
        assert concept == one.concept and concept.called == name and concept.title == f"{name} ({concept.name})"
        assert concept.facts == [f"{concept.placeholder} wears a red scarf."]
        assert concept.info == f"{concept.placeholder} is a brown terrier."
        assert concept.shown(concept.facts[0]) == f"<{name}> wears a red scarf."
    assert find_concept(root, "o’neil") == "oneil" and find_concept(root, "zoe") == "zoe"
    report = check_root(root)
    assert report.usable and [concept.display_name for concept in report.concepts] == list(added)
    assert chosen_names(root, ["Zoë", "all"])[0] == "zoe"
    assert choose_concepts(root, ["猫咪", "oneil"], load_protocol("world")) == ["concept-1", "oneil"]
    with pytest.raises(ValueError, match=r"no concept 'bo' here; known concepts are 猫咪 \(concept-1\)"):
        find_concept(root, "bo")


def test_a_name_that_is_its_own_id_leaves_the_files_as_they_were(tmp_path: Path, photos: Path) -> None:
    add(tmp_path, photos, "bo")
    assert "display_name" not in json.loads(Layout(tmp_path).info("bo").read_text())


def test_an_id_can_be_chosen_and_a_name_replaced(tmp_path: Path, photos: Path) -> None:
    assert add(tmp_path, photos, "猫咪", concept_id="maomi").concept.name == "maomi"
    with pytest.raises(ValueError, match=r"concept name '猫咪' is taken by '猫咪 \(maomi\)'"):
        add(tmp_path, photos, "猫咪")
    with pytest.raises(ValueError, match="concept name '猫咪' is taken by 'maomi'"):
        add(tmp_path, photos, "猫咪", concept_id="cat2")
    replaced = add(tmp_path, photos, "猫咪", "猫咪 has a red ball.", overwrite=True)
    assert replaced.concept.name == "maomi" and list_concepts(tmp_path) == ["maomi"]


def test_another_concept_of_the_same_id_is_never_replaced(tmp_path: Path, photos: Path) -> None:
    add(tmp_path, photos, "zoe")
    with pytest.raises(ValueError, match=r"taken by 'zoe'.* give another id than 'zoe'"):
        add(tmp_path, photos, "Zoë", overwrite=True)
    assert add(tmp_path, photos, "Zoë", concept_id="zoe", overwrite=True).concept.title == "Zoë (zoe)"


@pytest.mark.parametrize("name", ["con", "AUX", "lpt1"])
def test_devices_of_windows_are_no_folders(tmp_path: Path, photos: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be a folder on Windows"):
        add(tmp_path, photos, name)


@pytest.mark.parametrize(
    ("given", "noun"), [("a dog", "dog"), ("an old dog", "old dog"), ("The cat", "cat"), ("my dog", "dog")]
)
def test_a_class_is_given_without_article(tmp_path: Path, photos: Path, given: str, noun: str) -> None:
    with pytest.raises(ValueError, match=rf"class_noun is '{given}'; .* give the noun alone: '{noun}'"):
        add_concept_folder(tmp_path / "data", "momo", photos, given, "brown", ["<momo> has a red ball"])
    assert not (tmp_path / "data").exists()


def test_an_article_in_old_data_is_not_doubled() -> None:
    assert [with_article(noun) for noun in ("a dog", "The cat", "dog")] == ["a dog", "The cat", "a dog"]


def test_placeholders_of_unknown_concepts_are_refused() -> None:
    check_mentions("a photo of <bo> and <kip> and a <b at the beach", ["bo"], ["bo", "kip"], "the prompt")
    with pytest.raises(ValueError, match=r"the prompt names <zed> and <ana>, .* it knows <bo>; train it"):
        check_mentions("<zed> and <bo> with <ana>, <zed>", ["bo"], ["bo", "kip"], "the prompt")
    with pytest.raises(ValueError, match="it knows no concept"):
        check_mentions("<zed>", [], [], "the question")
