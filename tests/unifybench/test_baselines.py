"""Baselines that have learned nothing: told in words, or shown a photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from sync_r1.data import Concept
from sync_r1.unifybench.baselines import ImagePrompt, TextPrompt, name_in_words
from sync_r1.unifybench.protocol import Protocol, load_protocol
from tests.helpers import tiny_model
from tests.unifybench.conftest import one_of_each

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


def test_told_in_words(concept: Concept, root: Path) -> None:
    some = one_of_each(concept, root)
    told = TextPrompt(tiny_model(max_text_tokens=120), concept, SMALL)
    asked = told.request(some["qa"])
    assert (
        "<kip>" in asked.text
        and "name: kip" in asked.text
        and "bo" not in asked.text
        and concept.facts[0] not in asked.text
    )
    rewriting = told.request(some["rea"])
    assert concept.facts[0].replace("<bo>", "<kip>") in rewriting.text and "<kip>" in rewriting.reference
    description = concept.info.removeprefix("<bo> is ").rstrip(".")
    assert (
        told.request(replace(some["pure_gen"], prompt="a photo of <bo> at sea")).text
        == f"a photo of {description} at sea"
    )
    assert told.request(some["rea_gen"], "a photo of <kip>, at sea").text == f"a photo of {description}, at sea"
    assert told.request(some["rea_gen"], "a photo of a cup").text == "a photo of a cup"
    assert told.request(some["rea_gen"], "x").item.truth == some["rea_gen"].truth
    assert len(told.model.concepts) == 0


def test_the_published_text_prompt_keeps_the_name(concept: Concept, root: Path) -> None:
    some, described = one_of_each(concept, root), concept.info.removeprefix("<bo> is ").rstrip(".")
    published = TextPrompt(tiny_model(), concept, load_protocol("unifybenchpp-2026"))
    drawing = published.request(replace(some["pure_gen"], prompt="a <bo> at sea"))
    assert drawing.text == f"name: bo\ninfo: {concept.info}\na <bo> at sea" and drawing.words == "a <bo> at sea"
    rewriting = published.request(some["rea"])
    assert "These things are known about <bo>: " in rewriting.text and rewriting.reference == some["rea"].truth
    assert published.request(some["rea_gen"], "<bo> in a tree").words == "<bo> in a tree"
    spoken = TextPrompt(tiny_model(name_pool=[]), concept, load_protocol("unifybenchpp-2026", ["baseline_name=spoken"]))
    text = spoken.request(replace(some["pure_gen"], prompt="a <bo> at sea")).text
    assert text == f"name: dog\ninfo: the dog is {described}.\na dog at sea"
    assert "These things are known about the dog: " in spoken.request(some["rea"]).text


def test_shown_a_photo(concept: Concept, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImagePrompt, "answers", lambda self, requests: ["a small blue cat."] * len(requests))
    shown, some = ImagePrompt(tiny_model(max_text_tokens=120), concept, SMALL), one_of_each(concept, root)
    assert shown.spoken.info == "<kip> is a small blue cat." and concept.info[5:] not in shown.request(some["qa"]).text
    assert shown.request(some["qa"]).image == concept.train_images[0] == shown.request(some["rec"]).photos[0]
    assert shown.request(some["rec"]).image == some["rec"].image and shown.request(some["rea"]).image is None
    assert shown.request(replace(some["pure_gen"], prompt="<bo> at sea")).text == "a small blue cat at sea"
    with pytest.raises(ValueError, match="has no training photo to show"):
        ImagePrompt(shown.model, replace(concept, train_images=[]), SMALL)


def test_words_for_the_name() -> None:
    assert name_in_words("a <x> in the snow, <x> asleep", "<x>", "owl") == "an owl in the snow, an owl asleep"
    assert name_in_words("a red <x> and the <x>", "<x>", "owl", "my grey owl") == "a red owl and my grey owl"
