"""From understanding to drawing: what became of rewrites and of their pictures, and examples chosen by a rule.

Reads run folders.
"""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from sync_r1.report.before_after import PAPER, PLACE, cell, font
from sync_r1.report.plots import GREEN, INK, QUIET, RED
from sync_r1.report.run_files import Pair, Run

TASKS = ("rea_gen", "dense_rea_gen")
LOW, RIGHT = 0.5, 0.999  # a wrong picture's score at most; a right picture's at least
RULE = (
    f"prompts with private words, rewritten wrongly and drawn with a score of at most {LOW} before, both right after "
    "(picture's score 1); of each run the one whose score rose most"
)
NOTE = "A score of 1 says that the evaluator read everything it was asked about right, not that the picture is clean."
EXAMPLES = 3
SIDE, GAP, MARGIN, TEXT, SAID, LINE, SMALL = 192, 16, 28, 260, 220, 19, 56
Word = tuple[str, str]  # text, colour


def words(text: str) -> list[str]:
    """Lower case, without punctuation at the ends: what decides whether two rewrites say the same."""
    return [bare for word in text.lower().split() if (bare := word.strip(".,;:!?\"'"))]


def rewritten(runs: Sequence[Run]) -> list[tuple[Run, Pair]]:
    """Every prompt with private words that was drawn and scored in both phases."""
    pairs = [(run, pair) for run in runs for task in TASKS for pair in run.pairs(task)]
    return [(run, pair) for run, pair in pairs if pair.before.score is not None and pair.after.score is not None]


def says_right(pair: Pair) -> tuple[bool, bool]:
    """Whether the words that were drawn say what they should, before and after."""
    truth = words(pair.before.truth)
    return words(pair.before.input) == truth, words(pair.after.input) == truth


def gain(pair: Pair) -> float:
    """Of the picture's score."""
    return (pair.after.score or 0.0) - (pair.before.score or 0.0)


def examples(runs: Sequence[Run]) -> list[tuple[Run, Pair]]:
    """The examples of RULE: at most one a run, at most EXAMPLES, in the order of the runs."""
    found = []
    for run in runs:
        fitting = [
            (own, pair)
            for own, pair in rewritten([run])
            if says_right(pair) == (False, True)
            and (pair.before.score or 0.0) <= LOW
            and (pair.after.score or 0.0) >= RIGHT
        ]
        if fitting:
            found.append(max(fitting, key=lambda entry: gain(entry[1])))
    return found[:EXAMPLES]


def rewrites_summary(runs: Sequence[Run]) -> dict[str, Any]:
    """Items by what became of their rewrite, with their pictures' mean scores, and the examples chosen."""
    pairs = [pair for _, pair in rewritten(runs)]
    fates = []
    for before in (False, True):
        for after in (False, True):
            own = [pair for pair in pairs if says_right(pair) == (before, after)]
            scores = []
            for side in zip(*((pair.before, pair.after) for pair in own), strict=True):
                scores.append([item.score or 0.0 for item in side])
            means = [sum(side) / len(side) for side in scores] or [None, None]
            right = sum((pair.after.score or 0.0) >= RIGHT for pair in own)
            fates.append(
                {"before": before, "after": after, "items": len(own), "scores": means, "right_pictures_after": right}
            )
    chosen = [
        {
            "run": f"{run.folder.parent.name}/{run.name}",
            "task": pair.before.task,
            "item": pair.before.id,
            "prompt": pair.before.prompt,
        }
        for run, pair in examples(runs)
    ]
    return {"runs": len(runs), "rule": RULE, "rewrites": fates, "examples": chosen}


def rewrites_section(summary: dict[str, Any], figure: str | None) -> list[str]:
    """Lines of the page."""
    lines = ["## From the rewrite to the picture", ""]
    if not summary["runs"]:
        return [*lines, "The run folders are not here, so nothing can be said about single pictures.", ""]
    word = {False: "wrong", True: "right"}
    lines += [
        (
            f"Held-out prompts with private words in {summary['runs']} runs. A rewrite is right when it says what it "
            "should word for word."
        ),
        (
            "Pictures gain in every row, as training also teaches the looks; what a right rewrite adds is the "
            "difference between rows."
        ),
        "",
        "| rewrite before → after | prompts | picture's score before | after | right pictures after |",
        "|---|---|---|---|---|",
    ]
    for row in summary["rewrites"]:
        scores = " | ".join("–" if score is None else f"{score:.3f}" for score in row["scores"])
        lines.append(
            f"| {word[row['before']]} → {word[row['after']]} | {row['items']} | {scores} | "
            f"{row['right_pictures_after']} |"
        )
    if figure:
        return [*lines, "", f"![{figure}]({figure})", "", f"Examples chosen by rule: {RULE}.", NOTE, ""]
    return [*lines, "", f"No example fits the rule: {RULE}.", ""]


def facts_behind(facts: Sequence[str], pair: Pair) -> list[str]:
    """The private facts that the true rewrite needs: those that share with it a word which neither the prompt nor
    another fact has."""
    new = set(words(pair.before.truth)) - set(words(pair.before.prompt))
    meant = [set(words(fact)) for fact in facts]
    alone = []
    for own in meant:
        alone.append(own.difference(*(other for other in meant if other is not own)))
    return [fact for fact, own in zip(facts, alone, strict=True) if new & own]


def marked(text: str, other: str, color: str) -> list[Word]:
    """Words of `text`, in `color` where they do not follow `other`."""
    matcher = difflib.SequenceMatcher(None, words(text), words(other), autojunk=False)
    same = {block.a + offset for block in matcher.get_matching_blocks() for offset in range(block.size)}
    shown = [word for word in text.split() if words(word)]
    return [(word, INK if number in same else color) for number, word in enumerate(shown)]


def rewrites_figure(chosen: Sequence[tuple[Run, Pair]]) -> Image.Image | None:
    """One row per example: prompt and private fact, then rewrite, picture and score before and after.

    None without examples.
    """
    if not chosen:
        return None
    width = 2 * MARGIN + TEXT + 2 * (2 * GAP + SIDE + SAID)
    sheet = Image.new("RGB", (width, 2 * MARGIN + 70 + len(chosen) * (SIDE + 2 * GAP)), PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((MARGIN, MARGIN), "Rewrite and picture were wrong before, both are right after", INK, font(20, bold=True))
    note = (
        "same prompt and seed, held out from training; small: what was given; score: the independent evaluator's; "
        "chosen by a rule"
    )
    pen.text((MARGIN, MARGIN + 32), note, QUIET, font(13))
    for row, (run, pair) in enumerate(chosen):
        _example(sheet, pen, MARGIN + 70 + row * (SIDE + 2 * GAP), run, pair)
    return sheet


def _example(sheet: Image.Image, pen: ImageDraw.ImageDraw, top: int, run: Run, pair: Pair) -> None:
    facts = facts_behind(run.concept.facts, pair) or run.concept.facts
    down = _block(pen, (MARGIN, top), "asked for", [(word, INK) for word in pair.before.prompt.split()], TEXT)
    _block(
        pen,
        (MARGIN, down),
        "private fact" + "s" * (len(facts) > 1),
        [(word, INK) for word in " ".join(facts).split()],
        TEXT,
    )
    for number, path in enumerate(run.concept.pictures[:3]):
        sheet.paste(
            cell(path, SMALL) or Image.new("RGB", (SMALL, SMALL), PLACE),
            (MARGIN + number * (SMALL + 8), top + SIDE - SMALL),
        )
    sides = (
        ("before", pair.before, marked(pair.before.input, pair.before.truth, RED)),
        ("after", pair.after, marked(pair.after.input, pair.before.input, GREEN)),
    )
    for number, (phase, item, found) in enumerate(sides):
        left = MARGIN + TEXT + GAP + number * (2 * GAP + SIDE + SAID)
        sheet.paste(cell(item.image, SIDE) or Image.new("RGB", (SIDE, SIDE), PLACE), (left, top))
        down = _block(pen, (left + SIDE + GAP, top), f"rewritten {phase}", found, SAID)
        score = (f"{item.score or 0.0:.2f}", GREEN if number else RED)
        _block(pen, (left + SIDE + GAP, down), "picture's score", [score], SAID)


def _block(pen: ImageDraw.ImageDraw, at: tuple[int, int], label: str, found: Sequence[Word], width: int) -> int:
    """A quiet label and words below it, coloured ones bold, broken at `width` pixels.

    Returns where the next block starts.
    """
    plain, bold = font(14), font(14, bold=True)
    left, top = at
    pen.text((left, top), label, QUIET, font(12))
    place, down = 0.0, top + LINE
    for word, color in found:
        face: ImageFont.FreeTypeFont = plain if color == INK else bold
        long = face.getlength(word)
        if place and place + long > width:
            place, down = 0.0, down + LINE
        pen.text((left + place, down), word, color, face)
        place += long + plain.getlength(" ")
    return down + LINE + 12
