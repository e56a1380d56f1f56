"""Measure the pretrained world on attribute combinations it never saw; the figures of the model card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from sync_r1.data.regions import Square
from sync_r1.models.showo.model import Showo
from sync_r1.scorers.text import exact
from sync_r1.types import Sampling, TextContext
from sync_r1.world import grammar, pair_readings, readings, tasks
from sync_r1.world.judge import WorldJudge
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.readers import AttributeReader, half
from sync_r1.world.regions import redrawn_mask
from sync_r1.world.render import IDENTITY, SIZE, Pair, Thing, make_pair, random_thing

GREEDY = Sampling(top_k=1)
COMPLETIONS = 8
REDRAWN = ("hat", "item", "scene", "colour")


def unseen_things(rng: np.random.Generator, count: int) -> list[Thing]:
    """Things whose identity pretraining was never shown."""
    found: list[Thing] = []
    while len(found) < count:
        thing = random_thing(rng)
        if grammar.held_out(grammar.identity_of(thing)):
            found.append(thing)
    return found


def drawing_accuracy(
    model: Showo, reader: AttributeReader, things: Sequence[Thing], sampling: Sampling, batch_size: int = 64
) -> dict[str, float]:
    """Share of asked attributes the reader finds, full descriptions of unseen things, per attribute and as "mean" over
    prompts.
    """
    prompts = [grammar.caption(thing) for thing in things]
    judge = WorldJudge(reader)
    rows = judge.breakdown(draw(model, prompts, sampling, batch_size), prompts)
    names = sorted({name for row in rows for name in row})
    each = {}
    for name in names:
        each[name] = float(np.mean([row[name] for row in rows if name in row]))
    return {**each, "mean": float(np.mean([np.mean(list(row.values())) for row in rows]))}


def draw(model: Showo, prompts: Sequence[str], sampling: Sampling, batch_size: int = 64) -> Tensor:
    """uint8 [B, 3, 32, 32], picture b with seed b."""
    images = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        trace = model.generate_image(part, sampling, seeds=list(range(start, start + len(part))))
        images.append(model.decode_image(trace.tokens))
    return torch.cat(images)


def answer_all(
    model: Showo, asked: Sequence[tasks.Reading], sampling: Sampling, seeds: Sequence[int], batch_size: int = 64
) -> list[str]:
    """The model's answers to readings, in batches."""
    texts: list[str] = []
    for start in range(0, len(asked), batch_size):
        part = asked[start : start + batch_size]
        shown = [item.picture for item in part if item.picture is not None]
        if shown:
            codes = iter(model.encode_image(render_batch(shown)))
        else:
            codes = iter(())
        contexts = [TextContext(item.context, next(codes) if item.picture is not None else None) for item in part]
        texts += model.generate_text(contexts, sampling, seeds=list(seeds[start : start + batch_size])).texts
    return texts


def exact_share(model: Showo, asked: Sequence[tasks.Reading]) -> float:
    """Share of readings that greedy decoding answers word for word."""
    answers = answer_all(model, asked, GREEDY, range(len(asked)))
    return float(np.mean([exact(given, item.answer) for given, item in zip(answers, asked, strict=True)]))


def completion_diversity(model: Showo, asked: Sequence[tasks.Reading]) -> dict[str, float]:
    """Sampled rewrites per prompt: share of prompts whose completions differ, mean number of distinct texts, share of
    exact samples."""
    repeated = [item for item in asked for _ in range(COMPLETIONS)]
    answers = answer_all(model, repeated, Sampling(), range(len(repeated)))
    groups = [answers[start : start + COMPLETIONS] for start in range(0, len(answers), COMPLETIONS)]
    right = [exact(given, item.answer) for given, item in zip(answers, repeated, strict=True)]
    return {
        "differ": float(np.mean([len(set(group)) > 1 for group in groups])),
        "distinct": float(np.mean([len(set(group)) for group in groups])),
        "sampled_exact": float(np.mean(right)),
    }


def pair_accuracy(model: Showo, reader: AttributeReader, pairs: Sequence[Pair], sampling: Sampling) -> dict[str, float]:
    """Prompts for two: share of identity attributes right, and of pictures in which "both" identities are right."""
    prompts = [grammar.caption(pair) for pair in pairs]
    images = draw(model, prompts, sampling)
    right = []
    for side in ("left", "right"):
        found = reader.read(half(images, side))
        for seen, pair in zip(found, pairs, strict=True):
            right.append([seen[name] == getattr(dict(pair.sides)[side], name) for name in IDENTITY])
    table = np.array(right).reshape(2, len(pairs), len(IDENTITY))
    return {"attributes": float(table.mean()), "both": float(table.all((0, 2)).mean())}


def unseen_pairs(things: Sequence[Thing]) -> list[Pair]:
    """Every thing beside the next one, in its place."""
    return [make_pair(left, right) for left, right in zip(things, [*things[1:], things[0]], strict=True)]


def inpainting(
    model: Showo, reader: AttributeReader, rng: np.random.Generator, things: Sequence[Thing], batch_size: int = 64
) -> dict[str, float]:
    """True pictures in which the hat, what is held, the place or the colour, in turn, is drawn anew with another value.

    Returns {"asked": share in which the new value is seen, "kept": share whose tokens outside the region are the old}.
    """
    square = Square(SIZE, SIZE, round(model.num_image_tokens**0.5))
    asked, kept = [], []
    for start in range(0, len(things), batch_size):
        part = things[start : start + batch_size]
        names = [REDRAWN[(start + index) % len(REDRAWN)] for index in range(len(part))]
        wanted = [tasks.changed(rng, thing, name) for thing, name in zip(part, names, strict=True)]
        regions = [square.cells(redrawn_mask(name)) for name in names]
        before, region = model.encode_image(render_batch(part)), torch.from_numpy(np.stack(regions))
        after = torch.empty_like(before)
        for name in REDRAWN:  # regions that are redrawn together are equally large
            rows = [row for row, other in enumerate(names) if other == name]
            if rows:
                prompts, seeds = [grammar.caption(wanted[row]) for row in rows], [start + row for row in rows]
                after[rows] = model.redraw_image(prompts, before[rows], region[rows], Sampling(), seeds).tokens
        for name, thing, seen in zip(names, wanted, reader.read(model.decode_image(after)), strict=True):
            found = {seen[name], seen.get("spare")} if name == "item" else {seen[name]}
            asked.append(getattr(thing, name) in found)
        kept += ((before == after) | region).all(1).tolist()
    return {"asked": float(np.mean(asked)), "kept": float(np.mean(kept))}


def decisions(model: Showo, asked: Sequence[tasks.Reading]) -> float:
    """Share of recognition questions whose last word, yes or no, is right, whatever was seen before it."""
    answers = answer_all(model, asked, GREEDY, range(len(asked)))
    right = [given.split()[-1:] == item.answer.split()[-1:] for given, item in zip(answers, asked, strict=True)]
    return float(np.mean(right))


def measure(model: Showo, reader: AttributeReader, count: int = 512, seed: int = 123) -> dict[str, object]:
    """Every figure of the card, `count` items each, on identities that pretraining never saw."""
    rng = np.random.default_rng(seed)
    things = unseen_things(rng, count)
    pairs = unseen_pairs(things)
    identities = [grammar.identity_of(thing) for thing in things]
    ambiguous = [tasks.rewriting(rng, identity, ambiguous=True) for identity in identities]
    plain = [tasks.rewriting(rng, identity, ambiguous=False) for identity in identities]
    close = [readings.recognition(rng, thing, how) for thing in things for how in ("same", "one attribute")][:count]
    other = [readings.recognition(rng, thing, "other kind") for thing in things]
    asked = {
        "visual_questions": [readings.visual_question(rng, thing) for thing in things],
        "yes_or_no": [readings.checked(rng, thing) for thing in things],
        "counting": [readings.counting(rng, thing) for thing in things[: count // 2]]
        + [readings.counting(rng, pair) for pair in pairs[: count // 2]],
        "pair_questions": [pair_readings.pair_question(rng, pair) for pair in pairs],
        "told_by_picture": [readings.told_by_picture(rng) for _ in things],
        "captions": [readings.caption(rng, thing) for thing in things],
        "pair_captions": [pair_readings.pair_caption(rng, pair) for pair in pairs],
        "text_questions": [readings.text_question(rng, thing) for thing in things],
        "fact_questions": [readings.fact_question(rng) for _ in things],
        "rewriting": ambiguous,
        "rewriting_plain_words": plain,
        "rewriting_defined_words": [tasks.defined_rewriting(rng) for _ in things],
        "rewriting_friend": [tasks.friend_rewriting(rng) for _ in things],
    }
    return {
        "n": count,
        "drawing": drawing_accuracy(model, reader, things, Sampling()),
        "drawing_guided": drawing_accuracy(model, reader, things, Sampling(guidance_scale=2.0))["mean"],
        "two_subjects": pair_accuracy(model, reader, pairs, Sampling()),
        "inpainting": inpainting(model, reader, rng, things),
        "recognition": decisions(model, close),
        "recognition_other_kind": decisions(model, other),
        "siblings": completion_diversity(model, ambiguous),
        **{name: exact_share(model, items) for name, items in asked.items()},
    }
