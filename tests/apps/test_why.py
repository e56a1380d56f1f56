"""Credit of facts: by hand on a tiny model, and the meant fact on the shipped one."""

from __future__ import annotations

import dataclasses

import pytest
from typer.testing import CliRunner

from sync_r1.apps.why import PICTURE, answer_credit, fact_credit
from sync_r1.cli import app
from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.data.prompts import rewrite_prompt
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.types import Sampling, TextContext
from sync_r1.world.export import export_world
from tests.helpers import tiny_model


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Session:
    root = tmp_path_factory.mktemp("world")
    export_world(root, ["bo"])
    model = tiny_model(max_text_tokens=60)
    return Session(model=model, concept=load_concept(root, "bo"), options=EvalConfig(batch_size=2))


@pytest.fixture(scope="module")
def world() -> Session:
    return Session.open(concept="bo", device="cpu")


def logp(session: Session, context: str, text: str) -> float:
    ids, mask = answer_ids(session.model, [text])
    return float(session.model.text_logps([TextContext(context)], ids, mask, Sampling())[0].detach().sum())


def test_a_credit_is_what_the_text_loses_without_the_fact(session: Session) -> None:
    """Three facts in batches of two: the credits are those of one replay at a time."""
    prompt, text = "a photo of <bo> holding its toy", "a photo of <bo> holding a flower"
    facts = session.concept.facts
    everything = logp(session, rewrite_prompt(session.concept, prompt), text)
    for number, credit in enumerate(fact_credit(session, prompt.replace("<bo>", "bo"), text)):
        left = dataclasses.replace(session.concept, facts=facts[:number] + facts[number + 1 :])
        assert credit.fact == facts[number]
        assert credit.nats == pytest.approx(everything - logp(session, rewrite_prompt(left, prompt), text), abs=1e-4)


def test_every_sentence_of_the_info_line_and_the_picture_count(session: Session) -> None:
    info = "<bo> is a red dog. It sleeps a lot!"
    two = dataclasses.replace(session, concept=dataclasses.replace(session.concept, info=info))
    photo = session.concept.test_images[0]
    sources = [credit.fact for credit in answer_credit(two, "What is bo?", "a dog", photo)]
    assert sources == ["<bo> is a red dog.", "It sleeps a lot!", PICTURE]
    bare = dataclasses.replace(session, concept=dataclasses.replace(session.concept, info="<bo> is a dog."))
    (nothing,) = answer_credit(bare, "What is bo?", "a dog")  # the class alone says the same
    assert nothing.nats == pytest.approx(0, abs=1e-5) and not nothing.used


def test_mistakes_are_explained(session: Session) -> None:
    with pytest.raises(ValueError, match="the text is empty"):
        fact_credit(session, "a photo of bo", " ")
    bare = dataclasses.replace(session, concept=dataclasses.replace(session.concept, facts=[]))
    with pytest.raises(ValueError, match="has no facts"):
        fact_credit(bare, "a photo of bo", "a photo")


def test_the_named_fact_is_the_meant_one(world: Session) -> None:
    """Plain references on the shipped model; a prompt that hints at nothing uses nothing."""
    for words, meant in {"holding its toy": "carries", "at its home": "lives", "at the beach": None}.items():
        prompt = f"a photo of bo {words}"
        credits = fact_credit(world, prompt, world.rewrite(prompt))
        used = [credit.fact.split()[1] for credit in credits if credit.used]
        assert used == ([meant] if meant else [])


def test_commands_say_what_was_used(world: Session) -> None:
    def lines(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, [*arguments, "--concept", "bo", "--device", "cpu"], catch_exceptions=False)
        return result.stdout.splitlines()

    text, first, *others = lines("rewrite", "a photo of bo holding its toy", "--why")
    assert text == "a photo of <bo> holding a flower" and len(others) == 2
    assert first.startswith("used") and first.endswith("<bo> carries a flower.")
    assert not any(line.startswith("used") for line in others)
    answer, credit = lines("ask", "What colour is bo?", "--why")
    assert answer == "red" and credit.startswith("used") and credit.endswith(world.concept.info)
