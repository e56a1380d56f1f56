"""The pretraining recipe: resumable, deterministic, and its losses look at the right tokens."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sync_r1.files import manifest_problems, read_manifest
from sync_r1.models.base import to_bytes
from sync_r1.models.showo.magvit import Magvit
from sync_r1.models.showo.model import Showo
from sync_r1.world import grammar, tasks
from sync_r1.world.pretrain.clip import caption as clip_caption
from sync_r1.world.pretrain.clip import clip_tokenizer, encode_texts
from sync_r1.world.pretrain.measure import inpainting
from sync_r1.world.pretrain.model_card import bars, missed
from sync_r1.world.pretrain.recipe import TOKENIZER, Recipe, pretrain, pretrain_larger
from sync_r1.world.pretrain.stage import Schedule, run_stage
from sync_r1.world.pretrain.tokenizer import random_pictures
from sync_r1.world.pretrain.unified import COURSES, GENERAL, drawing_loss, reading_loss, world_config, world_tokenizer
from sync_r1.world.readers import to_pixels
from sync_r1.world.render import Pair, Still, Thing, random_picture


def fresh_model() -> Showo:
    torch.manual_seed(0)
    magvit, tokenizer = Magvit(TOKENIZER), world_tokenizer()
    return Showo.from_config(world_config(tokenizer, magvit), tokenizer, magvit)


def line(rng: np.random.Generator, model: nn.Linear) -> tuple[Tensor, dict[str, float]]:
    x = torch.from_numpy(rng.standard_normal((8, 3)).astype(np.float32))
    value = (model(x) - x.sum(1, keepdim=True)).square().mean()
    return value, {"seen": float(x.sum())}


def train_line(folder: Path, steps: int, total: int = 40) -> nn.Linear:
    torch.manual_seed(1)
    model = nn.Linear(3, 1)
    schedule = Schedule(steps=total, learning_rate=0.05, warmup_steps=5, average=0.9, save_every=10)
    if steps < total:

        def stop(rng: np.random.Generator, step: int) -> tuple[Tensor, dict[str, float]]:
            if step == steps:
                raise KeyboardInterrupt
            return line(rng, model)

        with pytest.raises(KeyboardInterrupt):
            run_stage("line", model, stop, schedule, folder)
    else:
        run_stage("line", model, lambda rng, step: line(rng, model), schedule, folder)
    return model


def test_a_resumed_stage_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    whole = train_line(tmp_path / "whole", 40)
    train_line(tmp_path / "parts", 23)
    again = train_line(tmp_path / "parts", 40)
    for a, b in zip(whole.parameters(), again.parameters()):
        assert torch.equal(a, b)
    steps = [json.loads(row)["step"] for row in (tmp_path / "whole" / "line.jsonl").read_text().splitlines()]
    assert steps == [25]


def test_a_stage_stops_on_nan(tmp_path: Path) -> None:
    model = nn.Linear(3, 1)
    with pytest.raises(ValueError, match=r"line: loss is nan at step 0; lower the learning rate"):
        run_stage(
            "line",
            model,
            lambda rng, step: (model.weight.sum() * float("nan"), {}),
            Schedule(steps=2, learning_rate=1.0),
            tmp_path,
        )


def test_every_world_word_is_one_token_and_other_text_survives() -> None:
    tokenizer = world_tokenizer()
    for text in (
        " crown",
        " striped",
        " treasure",
        " ASSISTANT",
        " beanie",
        " and",
        " friends",
        " means",
        " middle",
        "Which",
    ):
        assert len(tokenizer(text)["input_ids"]) == 1, text
    odd = "a photo of Zoë's 🦊"
    assert tokenizer.decode(tokenizer(odd)["input_ids"]) == odd


def test_clip_texts_end_in_the_pooled_token() -> None:
    tokenizer = clip_tokenizer()
    batch = encode_texts(tokenizer, ["a dog", "a red dog at the beach"])
    assert (batch["input_ids"] == tokenizer.eos_token_id).sum(1).tolist() == [1, 1]
    assert batch["attention_mask"].sum(1).tolist() == [3, 7]


def test_losses_depend_on_answers_not_on_contexts() -> None:
    model = fresh_model()
    rng = np.random.default_rng(3)
    reading = tasks.rewriting(rng)
    loss = reading_loss(model, [reading], [None])
    loss.backward()
    head = model.showo.lm_head.weight.grad
    assert head is not None and head[model.config.image_rows].abs().sum() == 0
    model.zero_grad()
    codes = torch.randint(0, model.codebook_size, (2, model.num_image_tokens))
    drawn = drawing_loss(model, [tasks.drawing(rng) for _ in range(2)], codes, rng)
    drawn.backward()
    head = model.showo.lm_head.weight.grad
    assert head is not None and head[model.config.text_rows].abs().sum() == 0
    assert drawn.item() == pytest.approx(np.log(model.codebook_size), rel=0.15)


class SeesCrowns:
    """A reader to whom every picture shows a crown, a red figure on a beach and a kite in the other hand."""

    def read(self, images: Tensor) -> list[dict[str, str]]:
        seen = {"hat": "crown", "item": "none", "spare": "kite", "scene": "beach", "colour": "red"}
        return [seen for _ in images]


def test_inpainting_asks_for_another_value_and_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    model, rng = fresh_model(), np.random.default_rng(5)
    looks = {"kind": "dog", "colour": "blue", "pattern": "plain", "mark": "none"}
    plain = Thing(**looks, hat="none", item="none", scene="room")
    prompts: list[str] = []
    redraw = model.redraw_image

    def recorded(texts: Any, *args: Any) -> Any:
        prompts.extend(texts)
        return redraw(texts, *args)

    monkeypatch.setattr(model, "redraw_image", recorded)
    found = inpainting(model, SeesCrowns(), rng, [plain] * 40)  # type: ignore[arg-type]
    wanted = [grammar.parse(prompt) for prompt in prompts]
    hats, items, scenes, colours = wanted[:10], wanted[10:20], wanted[20:30], wanted[30:]
    right = sum(one["hat"] == "crown" for one in hats) + sum(one["item"] == "kite" for one in items)
    right += sum(one["scene"] == "beach" for one in scenes) + sum(one["colour"] == "red" for one in colours)
    assert found == {"asked": right / 40, "kept": 1.0} and 0 < right < 40
    assert all(one["scene"] != "room" for one in scenes) and all(one["colour"] != "blue" for one in colours)


def test_the_whole_recipe_runs(tmp_path: Path) -> None:
    card = pretrain(Recipe().shortened(2), tmp_path / "work", tmp_path / "assets")
    assert set(card["training"]) == {"tokenizer", "reward_reader", "evaluator_reader", "clip", *COURSES}
    assert 0 <= card["measured"]["drawing"]["mean"] <= 1
    assert (tmp_path / "assets" / "MODEL_CARD.md").is_file()
    model = Showo.from_pretrained(tmp_path / "assets" / "model")
    assert model.name_pool == list(tasks.NAME_POOL)
    again = pretrain(Recipe().shortened(2), tmp_path / "work", tmp_path / "assets2")
    assert again["measured"] == card["measured"]
    assert manifest_problems(tmp_path / "assets") == []
    assert read_manifest(tmp_path / "assets2") == read_manifest(tmp_path / "assets")


def test_a_larger_model_is_made_and_its_training_is_not_mixed_up_with_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    card = pretrain_larger(64, 2, 2, tmp_path / "work", tmp_path / "out", measured=2)
    lines = capsys.readouterr().out.splitlines()
    assert any(line.startswith("unified  2/2  ") and "loss " in line for line in lines)
    assert any(line.startswith("measuring  ") for line in lines)
    model = Showo.from_pretrained(tmp_path / "out" / "model")
    assert (model.config.hidden_size, model.config.num_hidden_layers) == (64, 2) and model.magvit is not None
    assert json.loads((tmp_path / "out" / "card.json").read_text()) == json.loads(json.dumps(card))
    steps = {name: stage["steps"] for name, stage in card["training"].items()}
    assert steps == {"unified": 2, "decisions": 1, "finishing": 1, "comparing": 1, "binding": 1, "painting": 2}
    with pytest.raises(ValueError, match=r"unified\.pt is from a training of 2 steps, not 3"):
        pretrain_larger(64, 2, 3, tmp_path / "work", tmp_path / "out", measured=2)
    with pytest.raises(ValueError, match=r"unified\.pt holds the training of a network of other sizes"):
        pretrain_larger(96, 2, 2, tmp_path / "work", tmp_path / "out", measured=2)
    with pytest.raises(ValueError, match=r"width is 100; it must be a multiple of 32; use 96"):
        pretrain_larger(100, 2, 2, tmp_path / "work", tmp_path / "out", measured=2)


def test_sequences_are_counted_per_phase() -> None:
    (_, first), (start, _), *_, (last, sizes) = GENERAL.mix
    assert GENERAL.sequences(start) == sum(first) * start
    assert GENERAL.sequences(last + 10) - GENERAL.sequences(last) == 10 * sum(sizes)


def test_the_weights_learn_from_the_pixels_that_readers_see() -> None:
    pictures = random_pictures(np.random.default_rng(0), 2)
    assert pictures.shape == (2, 3, 32, 32) and pictures.min() >= -1 and pictures.max() <= 1
    torch.testing.assert_close(to_pixels(to_bytes(pictures)), pictures, rtol=0, atol=0)


def test_grammar_vocabulary_covers_captions() -> None:
    tokenizer = world_tokenizer()
    for seed in range(150):
        caption = grammar.caption(random_picture(np.random.default_rng(seed)))
        assert len(tokenizer(caption)["input_ids"]) == len(caption.split())


def test_clip_captions_say_what_is_in_the_picture() -> None:
    kinds = set()
    for seed in range(150):
        picture = random_picture(np.random.default_rng(seed))
        kinds.add(type(picture))
        text = clip_caption(np.random.default_rng(seed), picture)
        if isinstance(picture, Still):
            assert picture.what in text
            continue
        things = [picture] if isinstance(picture, Thing) else [thing for _, thing in picture.sides]
        for asked, thing in zip(grammar.subjects(text), things, strict=True):
            assert asked.items() <= vars(thing).items() and asked["kind"] == thing.kind
    assert kinds == {Thing, Pair, Still}


def test_bars_are_computed_and_what_misses_one_is_named() -> None:
    names = ("visual_questions", "yes_or_no", "counting", "pair_questions", "told_by_picture")
    measured: dict[str, Any] = {
        "n": 512,
        "drawing": {"colour": 0.92, "hat": 1.0, "mean": 0.98},
        "two_subjects": {"attributes": 0.99, "both": 0.91},
        "captions": 0.95,
        "recognition": 0.89,
        "inpainting": {"asked": 0.96, "kept": 0.998},
        "rewriting": 0.75,
        "siblings": {"differ": 0.9},
        **dict(zip(names, (1.0, 1.0, 0.9, 0.98, 0.97))),
    }
    found = bars(measured)
    assert found["questions"] == {"value": 0.97, "n": 512} and found["worst_attribute"]["value"] == 0.92
    assert missed(found) == ["worst_attribute", "recognition", "inpainting", "private_words"]
    measured["inpainting"]["kept"] = 1.0
    assert bars(measured)["inpainting"] == {"value": 0.96, "n": 512}
