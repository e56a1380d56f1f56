"""The picture of a run: the same prompts and seeds before and after, on one PNG for a README or a slide."""

from __future__ import annotations

import os
from pathlib import Path

from matplotlib import font_manager
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from sync_r1.report.run_files import Pair, Run, read_run, spread
from sync_r1.report.run_page import TASKS, THUMBNAIL, duration

CELL, GAP, MARGIN, LABEL, LINE = 160, 14, 28, 84, 17
INK, QUIET, PAPER, PLACE = "#1d2733", "#6b7885", "#ffffff", "#eceff2"


def write_sheet(folder: Path | str, columns: int = 6) -> Path | None:
    """Write `<folder>/sheet.png` of at most `columns` prompts.

    None when the run has no pictures from before and after.
    """
    run = read_run(folder)
    pairs = drawn_pairs(run, columns)
    if not pairs:
        return None
    facts = PngImagePlugin.PngInfo()
    facts.add_text("Title", f"Sync-R1 run {run.name}: before and after, same prompts and seeds")
    target = run.folder / "sheet.png"
    partial = target.with_suffix(".png.tmp")
    draw_sheet(run, pairs).save(partial, "PNG", optimize=True, pnginfo=facts)
    os.replace(partial, target)
    return target


def drawn_pairs(run: Run, columns: int) -> list[Pair]:
    """Pairs with both pictures, taken evenly from every drawing task."""
    tasks = [task for task in run.tasks() if TASKS.get(task, ("generation",))[0] == "generation"]
    per_task = {}
    for task in tasks:
        per_task[task] = [pair for pair in run.pairs(task) if pair.before.image and pair.after.image]
    per_task = {task: pairs for task, pairs in per_task.items() if pairs}
    chosen: list[Pair] = []
    for number, pairs in enumerate(per_task.values()):
        share = (columns - len(chosen)) // (len(per_task) - number)
        if share:
            chosen += [pairs[index] for index in spread(len(pairs), share)]
    return chosen


def draw_sheet(run: Run, pairs: list[Pair]) -> Image.Image:
    """Title, references, then one column per prompt: text, before, after."""
    title, plain, small = font(22, bold=True), font(14), font(13)
    shown = run.concept.shown if drawable(run.concept.subject) else str
    texts = [wrap(shown(pair.after.prompt or pair.after.input), small, CELL) for pair in pairs]
    text_height = LINE * max(len(lines) for lines in texts) + 8
    width = 2 * MARGIN + LABEL + len(pairs) * (CELL + GAP) - GAP
    top = MARGIN + 62
    references = [image for path in run.concept.pictures[:8] if (image := cell(path, 64))]
    if references:
        top += 64 + 22
    height = top + text_height + 2 * CELL + GAP + MARGIN
    sheet = Image.new("RGB", (width, height), PAPER)
    pen = ImageDraw.Draw(sheet)
    if run.concept.name:
        subject = shown(f"<{run.concept.name}>")
    else:
        subject = run.name
    pen.text((MARGIN, MARGIN), f"{subject}: before and after Sync-R1", INK, title)
    pen.text((MARGIN, MARGIN + 32), subtitle(run), QUIET, plain)
    if references:
        pen.text((MARGIN, MARGIN + 62 + 24), "given", QUIET, plain)
        for number, image in enumerate(references):
            sheet.paste(image, (MARGIN + LABEL + number * (64 + 10), MARGIN + 62))
    for column, (pair, lines) in enumerate(zip(pairs, texts, strict=True)):
        left = MARGIN + LABEL + column * (CELL + GAP)
        for number, line in enumerate(lines):
            pen.text((left, top + number * LINE), line, INK, small)
        for row, item in enumerate((pair.before, pair.after)):
            image = cell(item.image, CELL) or Image.new("RGB", (CELL, CELL), PLACE)
            sheet.paste(image, (left, top + text_height + row * (CELL + GAP)))
    for row, label in enumerate(("before", "after")):
        pen.text(
            (MARGIN, top + text_height + row * (CELL + GAP) + CELL // 2 - 8), label, QUIET if row == 0 else INK, plain
        )
    return sheet


def subtitle(run: Run) -> str:
    """Steps, time and the fairness of the comparison in one line."""
    parts = []
    if run.summary.get("steps"):
        parts.append(f"{run.summary['steps']} steps")
    if run.summary.get("wall_time_s"):
        parts.append(duration(float(run.summary["wall_time_s"])))
    return " · ".join([*parts, "same prompts, same seeds, evenly spaced, not chosen"])


def cell(path: Path | None, side: int) -> Image.Image | None:
    """A picture filling a square of `side` pixels: pixel art enlarged with hard pixels, photos smoothly.

    None when unreadable.
    """
    if path is None:
        return None
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, Image.DecompressionBombError):
        return None
    hard = max(image.size) < side
    image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
    scale = side / max(image.size)
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    image = image.resize(size, Image.Resampling.NEAREST if hard else Image.Resampling.LANCZOS)
    square = Image.new("RGB", (side, side), PLACE)
    square.paste(image, ((side - size[0]) // 2, (side - size[1]) // 2))
    return square


def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that comes with matplotlib, so that a sheet looks the same on every machine."""
    return ImageFont.truetype(font_manager.findfont(f"DejaVu Sans:{'bold' if bold else 'regular'}"), size)


def drawable(text: str) -> bool:
    """Whether the font has a sign for every letter; it knows no Chinese or Japanese, for which the id stands."""
    signs = font_manager.get_font(font_manager.findfont("DejaVu Sans:regular")).get_charmap()
    return all(ord(letter) in signs for letter in text)


def wrap(text: str, face: ImageFont.FreeTypeFont, width: int, at_most: int = 6) -> list[str]:
    """Break text at spaces into lines of at most `width` pixels; what does not fit `at_most` lines ends in …"""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if face.getlength(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    if len(lines) > at_most:
        lines = [*lines[: at_most - 1], lines[at_most - 1].rstrip(",. ") + " …"]
    return lines
