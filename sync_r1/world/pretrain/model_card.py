"""The model card of the world's weights: its figures, the bars they have to reach, and the text for people."""

from __future__ import annotations

from typing import Any

import numpy as np

from sync_r1.world.pretrain.unified import COURSES

BARS: dict[
    str, tuple[str, float | tuple[float, float]]
] = {  # what the weights must reach before they are shipped; a pair is a range
    "drawing": ("drawing, attributes right", 0.97),
    "worst_attribute": ("drawing, the attribute that is right least often", 0.93),
    "two_subjects": ("two in one picture, both identities right", 0.90),
    "captions": ("descriptions and captions, every word right", 0.95),
    "questions": ("questions about a picture, exact", 0.97),
    "recognition": ("recognition, half of the pictures differ in one attribute", 0.90),
    "inpainting": ("inpainting, the asked attribute right and every other token kept", 0.95),
    "private_words": ("rewriting private words, exact, ambiguous on purpose", (0.30, 0.70)),
    "siblings": ("prompts whose sampled rewrites differ", 0.80),
}
QUESTIONS = ("visual_questions", "yes_or_no", "counting", "pair_questions", "told_by_picture")
OTHER_FIGURES = {
    "pair_captions": "captions of two, every word right",
    "recognition_other_kind": "recognition, other kinds rejected",
    "text_questions": "questions about the info line, exact",
    "fact_questions": "questions about the facts, exact",
    "rewriting_plain_words": "rewriting plain words, exact",
    "rewriting_defined_words": "rewriting private words that a fact defines, exact",
    "rewriting_friend": "rewriting a friend's name, exact",
}


def bars(measured: dict[str, Any]) -> dict[str, dict[str, float]]:
    """The figures that have a bar, as name → {value, n}; every one is computed from `measure`'s."""
    drawn = measured["drawing"]
    values = {
        "drawing": drawn["mean"],
        "worst_attribute": min(value for name, value in drawn.items() if name != "mean"),
        "two_subjects": measured["two_subjects"]["both"],
        "captions": measured["captions"],
        "questions": float(np.mean([measured[name] for name in QUESTIONS])),
        "recognition": measured["recognition"],
        "inpainting": measured["inpainting"]["asked"] * (measured["inpainting"]["kept"] == 1.0),
        "private_words": measured["rewriting"],
        "siblings": measured["siblings"]["differ"],
    }
    return {name: {"value": round(value, 4), "n": measured["n"]} for name, value in values.items()}


def missed(found: dict[str, dict[str, float]]) -> list[str]:
    """Names of the bars that are not met."""
    return [name for name, (_, bar) in BARS.items() if not _meets(found[name]["value"], bar)]


def _meets(value: float, bar: float | tuple[float, float]) -> bool:
    if isinstance(bar, tuple):
        return bar[0] <= value <= bar[1]
    return value >= bar


def _bar_rows(found: dict[str, dict[str, float]]) -> list[str]:
    rows = []
    for name, (title, bar) in BARS.items():
        if isinstance(bar, tuple):
            goal = f"{bar[0]:.2f} to {bar[1]:.2f}"
        else:
            goal = f"at least {bar:.2f}"
        verdict = "**no**"
        if _meets(found[name]["value"], bar):
            verdict = "yes"
        rows.append(f"| {title} | {found[name]['value']:.3f} | {goal} | {verdict} |")
    return rows


def card_text(card: dict[str, Any]) -> str:
    """The card for people; every figure comes from `card`."""
    measured, training = card["measured"], card["training"]
    drawn = ", ".join(f"{name} {value:.2f}" for name, value in measured["drawing"].items() if name != "mean")
    examples = {name: training[name]["steps"] * size for name, size in (("tokenizer", 64), ("clip", 128))}
    examples["unified"] = sum(course.sequences(training[name]["steps"]) for name, course in COURSES.items())
    sizes = [f"| {name} | {count:,} |" for name, count in card["parameters"].items()]
    minutes = [f"| {name} | {stage['steps']} | {stage['minutes']} |" for name, stage in training.items()]
    questions = ", ".join(f"{name.replace('_', ' ')} {measured[name]:.3f}" for name in QUESTIONS)
    others = [f"| {title} | {measured[name]:.3f} |" for name, title in OTHER_FIGURES.items()]
    readers = [
        f"| {name} | {kinds['true']['mean']:.4f} | {kinds['decoded']['mean']:.4f} |"
        for name, kinds in card["readers"].items()
    ]
    return CARD.format(
        sizes="\n".join(sizes),
        unified=examples["unified"],
        tokenizer=examples["tokenizer"],
        clip=examples["clip"],
        minutes="\n".join(minutes),
        n=measured["n"],
        bars="\n".join(_bar_rows(card["bars"])),
        drawn=drawn,
        guided=measured["drawing_guided"],
        questions=questions,
        others="\n".join(others),
        readers="\n".join(readers),
        retrieval=training["clip"]["retrieval"],
    )


CARD = """\
# Model card: the embedded world's weights, version 2

Everything here was trained from random numbers by `sync-r1 world pretrain`, on pictures and sentences that
`sync_r1.world` draws and writes itself; no outside data, no outside weights. Apache-2.0, like the code. The pictures \
are
32×32 pixel art: the weights know nothing else.

| network | parameters |
|---|---|
{sizes}

Trained on {unified:,} sequences (unified), {tokenizer:,} pictures (tokenizer) and {clip:,} pairs (CLIP). One identity \
in
eight (kind × colour × pattern × mark) was kept out, the twenty personal concepts among them.

| stage | steps | minutes |
|---|---|---|
{minutes}

## Measured on held-out identities

{n} items each; pictures are judged by the evaluator reader.

| figure | value | bar | met |
|---|---|---|---|
{bars}

What was tried for bars that are missed is in docs/log.md.

Drawing by attribute: {drawn}. With guidance 2: {guided:.3f}. Questions by kind: {questions}.

| other figures | value |
|---|---|
{others}

A private word ("its treasure") means a random one of the listed facts in pretraining, so the model knows that it \
means a
fact but not which: that is what reinforcement learning on one person's data finds out. Recognition says what it sees \
and
then decides ("a red dog with a star. no").

| reader | true renders | decoded pictures |
|---|---|---|
{readers}

CLIP finds the right one of 128 partial captions for {retrieval:.2f} of the pictures (training average; some captions \
fit
several). The reward reader is convolutional, the evaluator reads patches with attention; seeds and architectures differ
and no data order is shared.
"""
