"""A chat model proposes, and templates fill up what it leaves out."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from sync_r1.data import QA, load_concept
from sync_r1.unifybench.builder.apply import apply_review
from sync_r1.unifybench.builder.chat_writer import ChatWriter
from sync_r1.unifybench.builder.propose import build_test_set
from sync_r1.unifybench.builder.review_file import review_path, write_review
from tests.scorers.fake_endpoint import Body, Response, config, endpoint
from tests.unifybench.builder.conftest import no_leaks


def chat(body: Body, _: int) -> Response | str:
    """A model that mixes good proposals with every kind of bad one."""
    content = body["messages"][-1]["content"]
    text = content if isinstance(content, str) else content[0]["text"]
    if not isinstance(content, str):
        assert content[1]["image_url"]["url"].startswith("data:image/png")
        return json.dumps(
            {
                "questions": [
                    {"question": "What is behind <zed>?", "answer": "noise"},
                    {"question": "Where?", "answer": "x"},
                ]
            }
        )
    if "The fact: <zed> is five" in text:
        good = {
            "implicit": "A photo of <zed> with a cake for its age",
            "explicit": "A photo of <zed>, five years old, with a cake.",
        }
        bad = [
            {"implicit": "A photo of <zed>, five years old.", "explicit": "A photo of <zed>, now five years old."},
            {"implicit": "A photo of a dog at its age.", "explicit": "A photo of <zed>, five years old."},
            {"implicit": "A photo of <zed> on its birthday.", "explicit": "A photo of <zed>, six years old."},
            {
                "implicit": "A photo of <zed>, with a cake for its age!",
                "explicit": "A photo of <zed>, five years old, and a cake.",
            },
        ]
        return json.dumps({"pairs": [good, *bad]})
    if "The fact:" in text:
        return Response(status=400, text="no")
    if "pairs of long" in text:
        row = {
            "implicit": "<zed> in its raincoat, where it sleeps, at noon",
            "explicit": "<zed> in its green raincoat, it sleeps in a wicker basket, at noon",
        }
        return json.dumps({"pairs": [{**row, "facts": [1, 2]}, {**row, "facts": [1]}, {**row, "facts": [1, 7]}]})
    if "long drawing prompts" in text:
        return json.dumps(
            {"prompts": ["A photo of <zed>, running, on ice.", "A photo of <zed>.", "A dog, on ice, at noon."]}
        )
    return json.dumps(
        {
            "questions": [
                {"question": "How old is <zed>?", "answer": "Five years old"},
                {"question": "Who?", "answer": "x"},
            ]
        }
    )


def test_a_model_proposes_and_templates_fill_up(root: Path) -> None:
    with endpoint(chat) as server:
        made = build_test_set(root, "zed", writer=ChatWriter(config(server, max_retries=0)))
    aged = [pair for pair in made.test if pair.facts == (3,)]
    assert [pair.implicit for pair in aged] == ["A photo of <zed> with a cake for its age."]
    assert (
        Counter(pair.facts for pair in made.test) == {(0,): 4, (1,): 4, (2,): 4, (3,): 1}
        and made.made_by == "eyes-1 and templates"
    )
    assert made.dense_pairs[0].facts == (0, 1) and len(made.dense_pairs) == 12 and len(made.dense) == 12
    assert (
        made.dense[0] == "A photo of <zed>, running, on ice."
        and QA("How old is <zed>?", "Five years old.") in made.questions
    )
    assert {row.question for row in made.photo_questions} == {"What is behind <zed>?", "What does <zed> look like?"}
    notes = " | ".join(made.notes)
    for reason in (
        "1 proposals left out: the implicit prompt gives",
        "the implicit prompt lacks",
        "the explicit prompt leaves out",
    ):
        assert reason in notes
    assert (
        "it asks what another prompt asks" in notes
        and "3 × no reply" in notes
        and "2 × dense pairs that name no two facts" in notes
    )
    apply_review(write_review(review_path(root, "zed"), made))
    no_leaks(load_concept(root, "zed"))


def test_a_dead_endpoint_leaves_the_templates(root: Path) -> None:
    writer = ChatWriter(config("http://127.0.0.1:9/v1", max_retries=0))
    made, plain = build_test_set(root, "zed", writer=writer), build_test_set(root, "zed")
    assert (made.test, made.dense, made.questions) == (plain.test, plain.dense, plain.questions)
    assert any("no reply" in note for note in made.notes)
