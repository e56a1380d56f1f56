"""Facts become hints and questions, and nothing tells a fact that should not."""

from __future__ import annotations

import pytest

from sync_r1.unifybench.builder.fact_templates import read_fact, single_pairs, tell_apart
from sync_r1.unifybench.builder.rules import Pair, alike, content_words, malformed, repeats, useless


@pytest.mark.parametrize(
    ("fact", "implicit", "explicit", "question"),
    [
        (
            "<zed> has a green raincoat.",
            "with its raincoat",
            "with its green raincoat",
            "What kind of raincoat does <zed> have?",
        ),
        (
            "<zed> always wears red boots",
            "wearing its boots",
            "wearing its red boots",
            "What kind of boots does <zed> wear?",
        ),
        ("<zed> wears a hat.", "wearing something of its own", "wearing its hat", "What does <zed> wear?"),
        ("<zed>'s collar is red.", "with its collar", "with its red collar", "What is <zed>'s collar?"),
        ("<zed>'s toy is a duck", "with its toy", "with a duck as its toy", "What is <zed>'s toy?"),
        ("<zed> loves peanut butter.", "with what it loves", "with peanut butter", "What does <zed> love?"),
        (
            "<zed> sleeps in a box.",
            "at the place where it sleeps",
            "in a box where it sleeps",
            "Where does <zed> sleep?",
        ),
        (
            "<zed> was born in Hanoi.",
            "at the place where it was born",
            "in Hanoi where it was born",
            "Where was <zed> born?",
        ),
        (
            "<zed> is afraid of cats.",
            "with what it is afraid of",
            "with cats that it is afraid of",
            "What is <zed> afraid of?",
        ),
        (
            "<zed>'s favourite tea is smoked lapsang.",
            "with its favourite tea",
            "with smoked lapsang as its favourite tea",
            "What is <zed>'s favourite tea?",
        ),
        ("<zed>'s collar is dark red.", "with its collar", "with its dark red collar", "What is <zed>'s collar?"),
        ("<zed> carries a bag, and a rope", "carrying something of its own", "", ""),
        (
            "<zed> plays with a ball.",
            "with what it plays with",
            "with a ball that it plays with",
            "What does <zed> play with?",
        ),
        ("<zed> never barks.", None, "", ""),
        ("<zed> is five years old.", None, "", ""),
    ],
)
def test_facts_become_hints_and_questions(fact: str, implicit: str | None, explicit: str, question: str) -> None:
    hints, asked = read_fact(fact, "zed", "animal")
    if implicit is None:
        assert not hints and not asked
    elif question:
        assert (hints[0].implicit, hints[0].explicit, asked[0].question) == (implicit, explicit, question)
        assert useless(Pair(f"<zed> {implicit}", f"<zed> {explicit}", (0,)), [fact], "<zed>") is None
    assert all("," not in hint.explicit for hint in hints)  # a comma would begin a clause of its own


def test_people_are_they_and_equal_hints_tell_nothing() -> None:
    assert read_fact("<ana> carries a red bag.", "ana", "person")[0][0].explicit == "carrying their red bag"
    assert read_fact("<ana> is allergic to nuts.", "ana", "person")[0][0].implicit == "with what they are allergic to"
    hats = [
        read_fact(fact, "zed", "animal")[0]
        for fact in ("<zed> has a red hat.", "<zed> has a blue hat.", "<zed> has a green coat.")
    ]
    assert [len(own) for own in tell_apart(hats)] == [0, 0, 1]


def test_rules() -> None:
    facts = ["<zed> has a green raincoat."]
    good = Pair("A photo of <zed> in its raincoat.", "A photo of <zed> in its green raincoat.", (0,))
    assert malformed(good, "<zed>") is None and useless(good, facts, "<zed>") is None
    given_away = useless(Pair(good.explicit, good.explicit, (0,)), facts, "<zed>")
    assert "gives fact 1 away (green, raincoat)" in str(given_away)
    assert "leaves out green" in str(useless(Pair(good.implicit, good.implicit, (0,)), facts, "<zed>"))
    assert "explicit prompt lacks <zed>" in str(malformed(Pair(good.implicit, "A dog in its green raincoat."), "<zed>"))
    assert "the same" in str(malformed(Pair(good.implicit, good.implicit.upper().replace("<ZED>", "<zed>")), "<zed>"))
    assert content_words("<zed> sleeps, sleeping and carries", "<zed>") == content_words("sleep carrying it")
    assert alike("A photo of <zed> in its raincoat!", "a picture of <zed> with the raincoat", "<zed>")
    assert not alike(
        "A photo of <zed> in its raincoat in a kitchen.", "A photo of <zed> in its raincoat on a bench.", "<zed>"
    )
    assert repeats(Pair("<zed> by a lake", good.explicit), [good], "<zed>")


def test_a_scene_never_tells_a_fact() -> None:
    hints = [read_fact("<zed> has an old workshop.", "zed", "animal")[0]]
    texts = [pair.implicit for pair in single_pairs(hints, ["<zed> has an old workshop."], "<zed>", train=False)]
    assert texts and not any("in a workshop" in text for text in texts)
