"""Measure the pretrained world on attribute combinations it never saw; the figures of the model card."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sync_r1.models.showo.model import Showo
from sync_r1.scorers.text import exact
from sync_r1.types import Sampling, TextContext
from sync_r1.world import grammar, tasks
from sync_r1.world.judge import WorldJudge
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.readers import AttributeReader
from sync_r1.world.render import Thing, random_thing

GREEDY = Sampling(top_k=1)
SIBLINGS = 8


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
    prompts = [
        grammar.scene_prompt("a photo of", grammar.describe(grammar.identity_of(thing)), grammar.context_of(thing))
        for thing in things
    ]
    judge = WorldJudge(reader)
    rows: list[dict[str, float]] = []
    for start in range(0, len(prompts), batch_size):
        part = prompts[start : start + batch_size]
        trace = model.generate_image(part, sampling, seeds=list(range(start, start + len(part))))
        rows += judge.breakdown(model.decode_image(trace.tokens), part)
    names = sorted({name for row in rows for name in row})
    each = {name: float(np.mean([row[name] for row in rows if name in row])) for name in names}
    return {**each, "mean": float(np.mean([np.mean(list(row.values())) for row in rows]))}


def answer_all(
    model: Showo, readings: Sequence[tasks.Reading], sampling: Sampling, seeds: Sequence[int], batch_size: int = 64
) -> list[str]:
    """The model's answers to readings, in batches."""
    texts: list[str] = []
    for start in range(0, len(readings), batch_size):
        part = readings[start : start + batch_size]
        shown = [item.thing for item in part if item.thing is not None]
        codes = iter(model.encode_image(render_batch(shown))) if shown else iter(())
        contexts = [TextContext(item.context, next(codes) if item.thing is not None else None) for item in part]
        texts += model.generate_text(contexts, sampling, seeds=list(seeds[start : start + batch_size])).texts
    return texts


def exact_share(model: Showo, readings: Sequence[tasks.Reading]) -> float:
    """Share of readings that greedy decoding answers word for word."""
    answers = answer_all(model, readings, GREEDY, range(len(readings)))
    return float(np.mean([exact(given, item.answer) for given, item in zip(answers, readings, strict=True)]))


def sibling_diversity(model: Showo, readings: Sequence[tasks.Reading]) -> dict[str, float]:
    """Sampled rewrites per prompt:

    share of prompts whose siblings differ, mean number of distinct texts, share of exact samples.
    """
    repeated = [item for item in readings for _ in range(SIBLINGS)]
    answers = answer_all(model, repeated, Sampling(), range(len(repeated)))
    groups = [answers[start : start + SIBLINGS] for start in range(0, len(answers), SIBLINGS)]
    right = [exact(given, item.answer) for given, item in zip(answers, repeated, strict=True)]
    return {
        "differ": float(np.mean([len(set(group)) > 1 for group in groups])),
        "distinct": float(np.mean([len(set(group)) for group in groups])),
        "sampled_exact": float(np.mean(right)),
    }


def measure(model: Showo, reader: AttributeReader, count: int = 256, seed: int = 123) -> dict[str, object]:
    """Every figure of the card, `count` items each.

    Captions, which must be right in every word, apart from questions about one thing.
    """
    rng = np.random.default_rng(seed)
    things = unseen_things(rng, count)
    identities = [grammar.identity_of(thing) for thing in things]
    ambiguous = [tasks.rewriting(rng, identity, ambiguous=True) for identity in identities]
    plain = [tasks.rewriting(rng, identity, ambiguous=False) for identity in identities]
    asked = [tasks.visual_question(rng, thing) for thing in things for _ in range(2)]
    captions = [item for item in asked if "\nDescribe" in item.context]
    return {
        "n": count,
        "drawing": drawing_accuracy(model, reader, things, Sampling()),
        "drawing_guided": drawing_accuracy(model, reader, things, Sampling(guidance_scale=2.0))["mean"],
        "visual_questions": exact_share(model, [item for item in asked if item not in captions]),
        "captions": exact_share(model, captions),
        "text_questions": exact_share(model, [tasks.text_question(rng, thing) for thing in things]),
        "recognition": exact_share(model, [tasks.recognition(rng, thing) for thing in things]),
        "rewriting": exact_share(model, ambiguous),
        "rewriting_plain_words": exact_share(model, plain),
        "siblings": sibling_diversity(model, ambiguous[:32]),
    }
