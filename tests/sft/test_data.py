"""What is asked and shown, in which order."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from sync_r1.config import Config, SFTConfig
from sync_r1.data.concepts import QA
from sync_r1.session import Session
from sync_r1.sft.data import Streams, chunks, rl_dialogues, stage_dialogues, turn_contexts, view
from sync_r1.sft.stages import STAGES
from sync_r1.training.prompts import prompt_stream, session_prompts, training_prompts
from tests.rl.toys import concept

Opened = Callable[[], Session]


def config(seed: int = 0, **sft: Any) -> Config:
    made = Config(sft=SFTConfig(**sft))
    made.run.seed = seed
    return made


def test_earlier_turns_stand_in_the_context(tmp_path: Path) -> None:
    turns = [QA("What is <bo>?", "A robot."), QA("Is it red?", "Yes.")]
    first = "USER: <bo> is <token_0><token_1>.\nWhat is <bo>? ASSISTANT:"
    assert turn_contexts(concept(tmp_path), turns, ["<token_0>", "<token_1>"], False) == [
        first,
        f"{first} A robot. USER: Is it red? ASSISTANT:",
    ]
    described = turn_contexts(concept(tmp_path), turns[:1], ["<token_0>"], True)
    assert described == ["USER: name: bo\ninfo: <bo> is a robot.\n<bo> is <token_0>.\nWhat is <bo>? ASSISTANT:"]


def test_the_baseline_asks_what_rl_asks_and_knows_the_answers(opened: Opened) -> None:
    session = opened()
    prompts = training_prompts(session.concept, session.tokens)
    found = [reading for dialogue in rl_dialogues(session, prompts) for reading in dialogue]
    assert [reading.answer for reading in found] == [prompt.answer for prompt in prompts]
    assert "facts: " in found[0].context.text and found[0].context.image is None
    looks = [reading for reading, prompt in zip(found, prompts) if prompt.kind == "look"]
    assert looks and all(
        reading.context.image is not None and "<bo> is <token_0><token_1><token_3>" in reading.context.text
        for reading in looks
    )
    held_out = [session.concept.conditions.implicit[i] for i in session.concept.test_indices]
    assert not any(f"rewrite: {prompt} " in reading.context.text for reading in found for prompt in held_out)


def test_a_published_file_is_read_with_its_pictures_and_turns(opened: Opened) -> None:
    session = opened()
    assert session.root is not None
    file = session.root / "showo_training_data_stage_1" / "bo.json"
    file.parent.mkdir()
    Image.new("RGB", (16, 16), (9, 9, 9)).save(session.root / "concept/train/bo/7.png")
    said = [{"from": "human", "value": "<image>\nWho?"}, {"from": "gpt", "value": "<bo>."}]
    said += [{"from": "human", "value": "Sure?"}, {"from": "gpt", "value": "Yes."}]
    file.write_text(json.dumps([{"image": "/elsewhere/unictokens_data/concept/train/bo/7.png", "conversations": said}]))
    (turns,) = stage_dialogues(session, STAGES["2"])
    assert [turn.answer for turn in turns] == ["<bo>.", "Yes."]
    assert all(turn.context.image is not None for turn in turns)
    assert turns[0].context.text == "USER: <bo> is <token_0><token_1>.\nWho? ASSISTANT:"


def test_the_shorter_stream_starts_over(opened: Opened) -> None:
    session = opened()
    streams = Streams(session, STAGES["2"], config(understanding_batch=2))
    asked, shown = len(streams.dialogues), len(streams.photos)
    batches = streams.epoch(0)
    assert shown == 2 and len(batches) == -(-asked // 2) > shown
    assert all(torch.equal(batches[step].codes, batches[step % shown].codes) for step in range(len(batches)))  # type: ignore[arg-type]
    assert sorted(reading.answer for batch in batches for reading in batch.readings) == sorted(
        reading.answer for dialogue in streams.dialogues for reading in dialogue
    )
    assert streams.prompt == "A photo of <token_0><token_1><token_2><bo>."


def test_order_and_crops_are_frozen_unless_asked(opened: Opened) -> None:
    session = opened()

    def answers(streams: Streams, epoch: int) -> list[str]:
        return [reading.answer for batch in streams.epoch(epoch) for reading in batch.readings]

    frozen, fresh = (Streams(session, STAGES["2"], config(fresh_epochs=fresh)) for fresh in (False, True))
    assert frozen.epoch(1) is frozen.epoch(0)
    assert answers(fresh, 0) == answers(frozen, 0) != answers(fresh, 1)
    assert sorted(answers(fresh, 1)) == sorted(answers(fresh, 0))
    other = Streams(session, STAGES["2"], config(seed=1))
    assert answers(other, 0) != answers(frozen, 0)


def test_streams_that_are_off(opened: Opened) -> None:
    session = opened()
    assert all(batch.codes is None and batch.readings for batch in Streams(session, STAGES["1"], config()).epoch(0))
    drawn = Streams(session, STAGES["2"], config(understanding_weight=0.0)).epoch(0)
    assert len(drawn) == 2 and all(not batch.readings for batch in drawn)
    # has no other stream to be weighed against
    photos = Streams(session, STAGES["photos"], config(drawing_weight=0.0)).epoch(0)
    assert [len(batch.codes) for batch in photos if batch.codes is not None] == [2] and not photos[0].readings
    silent = replace(session.concept, conversations={}, conditions=type(session.concept.conditions)())
    with pytest.raises(ValueError, match="nothing to ask about <bo>"):
        Streams(Session(model=session.model, concept=silent), STAGES["baseline"], config())
    with pytest.raises(ValueError, match="open it with data=<folder>"):
        Streams(Session(model=session.model, concept=session.concept), STAGES["1"], config())


def test_views_are_squares_that_their_seed_chooses() -> None:
    ramp = (torch.arange(40)[None, :, None] * 6).expand(20, 40, 3).byte().numpy()
    image = Image.fromarray(ramp)
    assert view(image, 16, 1.0, False, 0) is image
    crops = [view(image, 16, 1.25, False, seed) for seed in range(8)]
    assert {crop.size for crop in crops} == {(16, 16)} and len({crop.tobytes() for crop in crops}) > 1
    assert view(image, 16, 1.25, True, 3).tobytes() == view(image, 16, 1.25, True, 3).tobytes()
    flipped = {view(image, 16, 1.0, True, seed).getpixel((0, 0)) for seed in range(8)}
    assert flipped == {(0, 0, 0), (234, 234, 234)}


def test_chunks_hold_everything_once() -> None:
    parts = chunks(7, 3, seed=0)
    assert [len(part) for part in parts] == [3, 3, 1] and sorted(row for part in parts for row in part) == list(
        range(7)
    )


def test_the_baseline_follows_rl_s_stream_of_prompts(opened: Opened) -> None:
    session, settings = opened(), config(seed=3)
    streams = Streams(session, STAGES["baseline"], settings)
    prompts, count = session_prompts(session), len(streams.dialogues)
    assert {prompt.kind for prompt in prompts} == {"reason", "look", "recognize"}
    for epoch in (0, 1):
        expected = prompt_stream(prompts, count=count, shares=settings.rl.shares(), seed=3, first=epoch * count)
        asked = [reading.answer for batch in streams.epoch(epoch) for reading in batch.readings]
        assert asked == [prompt.answer for prompt in expected]
