"""Thumbs: kept whole, understood by Bayes' rule, practised, guarded, and taken back bit for bit."""

from __future__ import annotations

import dataclasses
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sync_r1.apps.feedback import (
    Event,
    Store,
    Update,
    belief,
    learn,
    naming,
    next_question,
    practice,
    rate_picture,
    rate_rewrite,
    reward,
    save_update,
    undo,
    undo_saved,
)
from sync_r1.apps.feedback.beliefs import CARELESS, SETTLED, Belief, phrases, without_phrases
from sync_r1.apps.feedback.naming import facts_named
from sync_r1.apps.feedback.practice import compare, practice_config
from sync_r1.apps.feedback.rating import reward_reader
from sync_r1.apps.feedback.rewards import WishReward, kept_share
from sync_r1.apps.feedback.rewrite_practice import Candidates, RewritePractice
from sync_r1.apps.feedback.updates import Guarded
from sync_r1.apps.feedback.wish_start import Own, WishStart
from sync_r1.config import Config, EvalConfig, ModelConfig
from sync_r1.data import load_concept
from sync_r1.session import Session
from sync_r1.training.answers import answer_ids
from sync_r1.training.prompts import Prompt
from sync_r1.types import Sampling, TextContext
from sync_r1.world.export import export_world
from sync_r1.world.grammar import PLACES
from tests.helpers import tiny_model

FACTS = ["<bo> wears a beanie.", "<bo> carries a flower.", "<bo> lives in a meadow."]
HAT, ITEM, PLACE = FACTS


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture
def session(root: Path, monkeypatch: pytest.MonkeyPatch) -> Session:
    """A random model and small updates; credit, which has tests of its own, finds nothing in what it writes."""

    def small(*given: Any) -> Config:
        config = practice_config(*given)
        config.rl.num_generations, config.rl.prompts_per_step = 2, 4
        return config

    monkeypatch.setattr(practice, "practice_config", small)
    monkeypatch.setattr(naming, "facts_credits", lambda session, rewrites: [[0.0] * 3 for _ in rewrites])
    settings = ModelConfig(num_tokens=2, reading_tokens=2)
    model, options = tiny_model(max_text_tokens=160), EvalConfig(batch_size=64, max_completion_length=8)
    concept = load_concept(root, "bo")
    photo = concept.train_images[0].name
    few = dataclasses.replace(concept, conversations={photo: concept.conversations[photo][:4]})
    return Session(model=model, concept=few, options=options, settings=settings)


def thumb(word: str, fact: str, good: bool) -> Event:
    return Event(
        what="rewrite",
        prompt=f"a photo of <bo> with its {word}",
        output="a photo of <bo>",
        good=good,
        named=[fact],
        facts=FACTS,
    )


def settled_store(folder: Path) -> Store:
    store = Store.of("bo", folder)
    for word, fact in zip(("treasure", "pride", "joy", "secret", "comfort", "habit"), FACTS * 2, strict=True):
        store.add(thumb(word, fact, True))
    return store


def logits(session: Session) -> Tensor:
    context = TextContext("USER: <token_0>? ASSISTANT:")
    ids = torch.arange(1, 9)[None]
    with torch.no_grad():
        return session.model.text_logps([context], ids, torch.ones_like(ids, dtype=torch.bool), Sampling())[0]


# the store


def test_a_store_is_only_added_to_and_half_a_line_does_not_count(tmp_path: Path) -> None:
    store = Store.of("bo", tmp_path / "feedback")
    assert store.events() == []
    first, second = thumb("treasure", HAT, True), thumb("joy", ITEM, False)
    store.add(first)
    with store.path.open("a") as file:
        file.write('{"what": "rewr')  # a writer was killed here
    assert store.events() == [first]
    store.add(second)
    assert store.events() == [first, second]


def test_several_writers_lose_nothing(tmp_path: Path) -> None:
    stores = [Store.of("bo", tmp_path) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda own=own: [own.add(thumb("joy", HAT, True)) for _ in range(8)]) for own in stores
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(stores[0].events()) == 32


def test_a_line_that_is_no_event_is_named(tmp_path: Path) -> None:
    store = Store.of("bo", tmp_path)
    store.add(thumb("joy", HAT, True))
    row = json.loads(store.path.read_text())
    store.path.write_text(store.path.read_text() + json.dumps({**row, "good": "maybe"}) + "\n")
    with pytest.raises(ValueError, match=r"bo\.jsonl, line 2: good: .*; mend the line or delete it"):
        store.events()


# the belief


def test_phrases_are_found_and_taken_out() -> None:
    prompt = "a photo of <bo>, with its Treasure, with its joy at the beach"
    assert phrases(prompt) == ["its treasure", "its joy"]
    assert without_phrases(prompt) == "a photo of <bo>,, at the beach"
    even = dict.fromkeys(FACTS, 1 / 3)
    known = Belief({"its treasure": even, "its joy": even})
    assert kept_share(prompt, "a photo of <bo>, wearing a cap, at the beach", known) == 1
    prompt = "a photo of <bo> with its joy at the beach"
    assert kept_share(prompt, "a photo of <bo>", known) == pytest.approx(4 / 7)
    said = "a photo of <bo> plain bear with a photo of <bo> holding a flower at the beach"
    assert kept_share(prompt, said, known) == pytest.approx(5 / 10), "ten words more, where five can tell a fact"


def test_one_thumb_up_or_two_down_settle_a_word(tmp_path: Path) -> None:
    """By hand: three facts, one thumb up gives (1 − c) : c : c, one down the opposite."""
    store, right = Store.of("bo", tmp_path), 1 - CARELESS
    store.add(thumb("treasure", HAT, True))
    store.add(thumb("joy", HAT, False))
    known = belief(store)
    assert known.words["its treasure"][HAT] == pytest.approx(right / (right + 2 * CARELESS))
    assert known.words["its joy"][ITEM] == pytest.approx(right / (2 * right + CARELESS))
    assert known.settled == ["its treasure"]
    store.add(thumb("joy", ITEM, False))
    assert belief(store).meaning("its joy")[0] == PLACE and "its joy" in belief(store).settled


def test_thumbs_that_contradict_one_another_teach_nothing(tmp_path: Path, session: Session) -> None:
    store = Store.of("bo", tmp_path)
    for good in (True, False):
        store.add(thumb("treasure", HAT, good))
    known = belief(store)
    assert known.meaning("its treasure")[1] == pytest.approx(1 / 3)
    assert "is open" in known.sentences()[0] and "1 for, 1 against" in known.sentences()[0]
    with pytest.raises(ValueError, match=r"the thumbs settle nothing yet.*not learned.*rate --ask"):
        learn(session, store, 1)
    with pytest.raises(ValueError, match="there are no thumbs"):
        learn(session, Store.of("none", tmp_path), 1)


def test_a_prompt_with_two_words_says_something_about_both(tmp_path: Path) -> None:
    store = Store.of("bo", tmp_path)
    both = Event(
        what="rewrite",
        prompt="a photo of <bo> with its joy with its pride",
        output="x",
        good=True,
        named=[HAT, ITEM],
        facts=FACTS,
    )
    store.add(both)
    known = belief(store)
    assert known.words["its joy"][PLACE] < 0.1 and known.words["its joy"][HAT] == pytest.approx(
        known.words["its joy"][ITEM]
    )
    store.add(thumb("joy", HAT, True))
    store.add(both)
    assert belief(store).meaning("its pride")[0] == ITEM
    assert belief(store).meant("its joy and its pride", [ITEM, HAT]) > 0.8


def test_pictures_tell_a_wish(tmp_path: Path) -> None:
    """Snow is liked where no place is asked for; hats vary and mean nothing; nor does a prompt that names a place."""
    store = Store.of("bo", tmp_path)
    seen = [
        ("snow", "cap", True),
        ("city", "cap", False),
        ("snow", "bow", True),
        ("room", "crown", False),
        ("snow", "cap", True),
    ]
    for scene, hat, good in seen:
        store.add(Event(what="picture", prompt="<bo>", output="x.png", good=good, seen={"scene": scene, "hat": hat}))
    store.add(Event(what="picture", prompt="<bo> at the beach", output="x.png", good=False, seen={"hat": "cap"}))
    known = belief(store)
    assert known.wish == ("scene", "snow") and known.wishes[("scene", "snow")] > SETTLED
    assert (
        known.sentences() == ["where no scene is asked for: snow (0.86; 2 for, 3 against)"]
        or "snow" in known.sentences()[0]
    )


# what a rewrite names, and its reward


def test_facts_are_named_by_their_own_words(session: Session) -> None:
    facts = session.concept.facts
    word = facts[0].rstrip(".").split()[-1]
    assert facts_named(session, [("a photo of bo with its joy", f"a photo of bo {word}")]) == [[facts[0]]]
    (empty,) = facts_named(session, [("a photo of bo", " ")])
    assert empty == []


def test_the_reward_is_the_belief_in_what_is_named(tmp_path: Path, session: Session) -> None:
    store = Store.of("bo", tmp_path)
    facts = session.concept.facts
    event = thumb("joy", facts[0], True)
    store.add(Event(**{**event.__dict__, "facts": facts}))
    known = belief(store)
    word = facts[0].rstrip(".").split()[-1]
    score = reward(session, known)
    prompt = "a photo of <bo> with its joy"
    right, other, question = score(
        prompts=[prompt, "a photo of <bo> with its pride", "What is <bo>?"],
        completions=[f"a photo of <bo> {word}", "a photo of <bo>", "a dog"],
        kind=["reason", "reason", "look"],
    )
    assert right == pytest.approx(known.words["its joy"][facts[0]])
    assert other is None and question is None


def test_a_wish_is_not_asked_of_prompts_that_name_the_attribute() -> None:
    images = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    prompts = ["a photo of <bo>", "a photo of <bo> at the beach"]
    free, named = WishReward(("scene", "snow"))(images=images, drawing_prompts=prompts)
    assert free is not None and 0 <= free <= 1 and named is None


# rating


def test_rating_keeps_what_the_text_named_and_a_correction(tmp_path: Path, session: Session) -> None:
    store = Store.of("bo", tmp_path)
    word = session.concept.facts[1].rstrip(".").split()[-1]
    rate_rewrite(session, store, "a photo of bo with its joy", "a photo of bo", False, f"a photo of bo {word}")
    wrong, right = store.events()
    assert (wrong.good, right.good) == (False, True) and right.named == [session.concept.facts[1]]
    assert wrong.prompt == "a photo of <bo> with its joy" and wrong.facts == session.concept.facts
    with pytest.raises(ValueError, match="the text is empty"):
        rate_rewrite(session, store, "a photo of bo", "  ", True)
    with pytest.raises(ValueError, match="goes with a thumb down"):
        rate_rewrite(session, store, "a photo of bo", "a photo", True, "a picture")
    with pytest.raises(ValueError, match="the embedded world's reader"):
        rate_picture(session, store, session.concept.test_images[0], True, "a photo of bo")
    assert len(store.events()) == 2


# learning


def test_practice_changes_the_model_and_undo_is_exact(tmp_path: Path, session: Session) -> None:
    before = logits(session)
    steps: list[int] = []
    update = learn(session, settled_store(tmp_path), 1, progress=lambda step, spent: steps.append(step))
    assert update.steps == len(steps) >= 1 and update.seconds >= 1 and not update.rolled_back
    assert set(update.after) == set(update.before) < {name for name, _ in session.model.named_parameters()}
    after = logits(session)
    assert not torch.equal(before, after)
    assert not session.model.training and all(value.grad is None for value in session.model.parameters())
    undo(session, update)
    assert torch.equal(before, logits(session))


def test_rewrites_are_practised_among_all_that_could_be_written(tmp_path: Path, session: Session) -> None:
    """By hand: rewards 1 and 0.5 are shares 2/3 and 1/3 of log-probabilities that no normalisation changes."""
    prompt, texts = "a photo of <bo> with its joy", ["a photo of <bo> in a meadow", "a photo of <bo>"]
    known = belief(settled_store(tmp_path))
    rl = practice.practice_config(session, tmp_path, 0).rl
    asked = Prompt("reason", session.concept, prompt, "", session.tokens)
    practising = RewritePractice(session, rl, reward(session, known), [asked], [])
    practising.known[prompt] = 2, Candidates(texts, [1.0, 0.5])
    loss = practising._rewrite_loss([asked], 0)
    ids, mask = answer_ids(session.model, texts)
    logps = session.model.text_logps([practising._context(asked)] * 2, ids, mask, Sampling())[0].sum(1)
    assert loss.item() == pytest.approx(-(2 * logps[0] + logps[1]).item() / 3, rel=1e-5)
    practising.close()


def test_what_is_wished_for_is_drawn_by_asking_and_learned_without(tmp_path: Path) -> None:
    """The world's model: drawings of the snow become likelier under prompts that name no place."""
    world = Session.open(concept="bo", device="cpu")
    rl = practice.practice_config(world, tmp_path, 0).rl
    start = WishStart(world, rl, ("scene", "snow"))
    assert not any(place in text for text in start.wished.texts for place in PLACES.values())
    assert any("wearing" in text and "holding" in text for text in start.wished.texts)
    assert all(any(place in text for place in PLACES.values()) and "snow" not in text for text in start.named.texts)
    images = world.model.decode_image(start.wished.trace.tokens)
    seen = reward_reader().probabilities(images, [{"scene": "snow"} for _ in start.wished.texts])
    assert 20 < len(seen) <= 48 and min(row["scene"] for row in seen) >= 0.5

    def likelihood(own: Own) -> float:
        with torch.no_grad():
            logps, drawn = world.model.image_logps(own.texts, own.trace, start.sampling, [0, 3])
        return float((logps * drawn).sum() / drawn.sum())

    wished, named = likelihood(start.wished), likelihood(start.named)
    told: list[int] = []
    assert start.practise(3.0, lambda step, spent: told.append(step)) == len(told) == told[-1]
    gained, lost = likelihood(start.wished) - wished, abs(likelihood(start.named) - named)
    assert gained > 0.05 and lost < gained / 2


def test_a_wish_that_no_drawing_shows_is_not_learned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sync_r1.apps.feedback.wish_start.SEEN", 1.1)
    monkeypatch.setattr("sync_r1.apps.feedback.wish_start.PICTURES", 2)
    world = Session.open(concept="bo", device="cpu")
    before = logits(world)
    start = WishStart(world, practice.practice_config(world, tmp_path, 0).rl, ("scene", "snow"))
    assert start.wished.texts == [] and start.practise(5.0) == 0
    assert torch.equal(before, logits(world))


def test_what_falls_is_put_back(tmp_path: Path, session: Session) -> None:
    before, scores = logits(session), iter([[1.0] * 10, [1.0] * 5 + [0.0] * 5])
    update = learn(session, settled_store(tmp_path), 1, guard=lambda session: next(scores))
    assert update.rolled_back and update.guard.before == 1 and update.guard.after == 0.5
    assert torch.equal(before, logits(session))
    with pytest.raises(ValueError, match="was rolled back"):
        save_update(session, update, tmp_path)


def test_an_error_in_the_middle_leaves_nothing_behind(tmp_path: Path, session: Session) -> None:
    def fail(step: int, spent: float) -> None:
        raise RuntimeError("in the middle")

    before = logits(session)
    with pytest.raises(RuntimeError, match="in the middle"):
        learn(session, settled_store(tmp_path), 1, progress=fail)
    assert torch.equal(before, logits(session))


def test_two_standard_errors_decide() -> None:
    assert not compare([1.0] * 10, [1.0] * 9 + [0.0]).fell  # one of ten: within chance
    assert compare([1.0] * 10, [1.0] * 4 + [0.0] * 6).fell
    assert not compare([], []).fell


@pytest.mark.parametrize("seconds", [0, 0.5, 4000])
def test_seconds_out_of_range(tmp_path: Path, session: Session, seconds: float) -> None:
    with pytest.raises(ValueError, match="it must be 1 to 3600"):
        learn(session, settled_store(tmp_path), seconds)


def test_the_least_certain_word_is_asked_about(
    tmp_path: Path, session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model writes two rewrites; the likeliest fact of the word without thumbs is shown."""
    words = [fact.rstrip(".").split()[-1] for fact in session.concept.facts]

    def write(contexts, sampling, seeds):  # type: ignore[no-untyped-def]
        texts = [f"a photo of <bo> {words[seed % 2]}" for seed in seeds]
        return type("Texts", (), {"texts": texts})()

    monkeypatch.setattr(session.model, "generate_text", write)
    prompts = ["a photo of bo with its joy", "a photo of bo with its pride"]
    known = belief(Store.of("none", tmp_path))
    asked = next_question(session, known, prompts)
    assert asked is not None and asked.word == "its joy" and asked.rewrites == (f"a photo of <bo> {words[0]}",)
    store = Store.of("bo", tmp_path)
    rate_rewrite(session, store, prompts[0], asked.rewrites[0], True)
    second = next_question(session, belief(store), prompts, pair=True)
    assert second is not None and second.word == "its pride" and len(second.rewrites) == 2
    rate_rewrite(session, store, prompts[1], second.rewrites[0], True)
    assert next_question(session, belief(store), prompts) is None
    with pytest.raises(ValueError, match="holds a private word"):
        next_question(session, known, ["a photo of bo"])


# on disk


def some_update(session: Session, scale: float) -> Update:
    values = dict(session.model.named_parameters())
    name = next(iter(values))
    before = {name: values[name].detach().clone()}
    with torch.no_grad():
        values[name].mul_(scale)
    return Update(before, {name: values[name].detach().clone()}, ["understood"], 3, 1.0, Guarded(1, 1, 0, 4))


def test_updates_are_opened_and_undone_one_by_one(tmp_path: Path, root: Path) -> None:
    base = tmp_path / "base"
    tiny_model(max_text_tokens=160).save_pretrained(base)
    first = Session.open(model=base, data=root, concept="bo", device="cpu")
    start = logits(first)
    save_update(first, some_update(first, 1.5), tmp_path / "feedback", base)
    once = logits(first)
    run = tmp_path / "feedback" / "bo"
    again = Session.open(checkpoint=run, data=root, concept="bo", device="cpu")
    assert torch.equal(logits(again), once) and not torch.equal(start, once)
    save_update(again, some_update(again, 0.5), tmp_path / "feedback", run)
    twice = logits(again)
    opened = Session.open(checkpoint=run, device="cpu")
    assert torch.equal(logits(opened), twice) and opened.run == "bo/step_00002"
    assert undo_saved("bo", tmp_path / "feedback")[1] == run
    assert torch.equal(logits(Session.open(checkpoint=run, device="cpu")), once)
    gone, now = undo_saved("bo", tmp_path / "feedback")
    assert gone.name == "step_00001" and now == base.resolve()
    with pytest.raises(ValueError, match="holds no update"):
        undo_saved("bo", tmp_path / "feedback")


def test_half_an_update_is_none(tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    tiny_model(max_text_tokens=160).save_pretrained(base)
    session = Session.open(model=base, data=root, concept="bo", device="cpu")
    update = some_update(session, 2.0)

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("sync_r1.apps.feedback.updates.save_config", full)
    with pytest.raises(OSError, match="was not saved"):
        save_update(session, update, tmp_path / "feedback", base)
    assert not list((tmp_path / "feedback").rglob("*.safetensors"))


def test_an_update_of_another_model_is_refused(tmp_path: Path, session: Session) -> None:
    update = some_update(session, 2.0)
    other = Update({"nothing": torch.zeros(1)}, update.after, [], 1, 1.0, update.guard)
    with pytest.raises(ValueError, match="belong to another model or concept"):
        undo(session, other)
