"""The report page of a run: one HTML file with everything inside, for a reader who has never heard of the project."""

from __future__ import annotations

import base64
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from PIL import Image, UnidentifiedImageError

from sync_r1.files import write_text
from sync_r1.report import plots
from sync_r1.report.run_files import Item, Run, read_run, spread

# task → (family, title, what is asked)
TASKS = {
    "rec": ("understanding", "Recognise", "Is it in this picture? Yes or no."),
    "lookalikes": ("understanding", "Recognise among look-alikes", "Others that may differ in a single attribute."),
    "lookalikes_drawn": ("understanding", "The same by drawing", "Is it what the model would draw of it?"),
    "vqa": ("understanding", "Answer about a picture", "A question about what a picture of it shows."),
    "qa": ("understanding", "Answer from memory", "A question about it, without any picture."),
    "rea": ("understanding", "Spell out a hint", "The prompt only hints at a private fact; rewrite it with the fact."),
    "dense_rea": ("understanding", "Spell out several hints", "A long prompt with hints; rewrite it with the facts."),
    "pure_gen": ("generation", "Draw it somewhere new", "A short prompt with a scene or an outfit."),
    "dense_gen": ("generation", "Draw it from a long description", "Several details have to be right at once."),
    "rea_gen": ("generation", "Draw from its own rewrite", "The hint has to be understood before it can be drawn."),
    "dense_rea_gen": ("generation", "Draw from its own long rewrite", "Several hints, understood and then drawn."),
}
TASKS["text_only"] = TASKS["qa"]

MARKS = {"right": "✓", "partly": "≈", "wrong": "✗", "unknown": "–"}
PIXEL_ART = 96  # pictures up to this many pixels a side are shown enlarged with hard pixels
THUMBNAIL = 288


@dataclass(frozen=True)
class Change:
    """A score before and after, with the interval of the difference."""

    name: str
    title: str
    about: str
    family: str
    metric: str
    before: float
    after: float
    delta: float
    low: float | None
    high: float | None
    n: int | None

    @property
    def verdict(self) -> str:
        """Up or down only when the 95 % interval excludes 0."""
        if self.low is not None and self.low > 0:
            return "up"
        if self.high is not None and self.high < 0:
            return "down"
        return "same"


def write_report(folder: Path | str) -> Path:
    """Render `<folder>/report.html`. FileNotFoundError when the folder is no run.

    The old page stays until the new one is complete.
    """
    run = read_run(folder)
    target = run.folder / "report.html"
    return write_text(target, render_report(run))


def render_report(run: Run) -> str:
    """The whole page as a string."""
    environment = Environment(
        loader=PackageLoader("sync_r1.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: run.concept.shown(value) if isinstance(value, str) else value,
    )
    environment.filters.update(
        percent=percent, points=points, decimal=decimal, picture=picture, duration=duration, mark=mark
    )
    environment.globals.update(MARKS=MARKS)
    overall = {name: change(name, run.summary.get(name)) for name in ("understanding", "generation")}
    return environment.get_template("report.html.j2").render(
        run=run,
        concept=run.concept,
        subject=run.concept.subject or "the concept",
        headline=headline(run, overall),
        overall=[found for found in overall.values() if found],
        tiles=tiles(run),
        drawings=example_tasks(run, "generation", shown=3),
        texts=example_tasks(run, "understanding", shown=4),
        changes=(changes := task_changes(run)),
        scale=interval_scale(changes),
        curves=curves(run),
        completions=completions_of_a_group(run),
        previews=preview_groups(run),
        versions=run.summary.get("versions") or {},
        command=command(run),
    )


def command(run: Run) -> str:
    """What to type for the same run: as the summary says, else from the settings that every run keeps."""
    if run.summary.get("command"):
        return str(run.summary["command"])
    if run.config_text:
        return f"sync-r1 train --config {run.folder / 'config.yaml'} run.name={run.name}-again"
    return ""


def change(name: str, value: Any) -> Change | None:
    """A summary entry {before, after, delta, ci95, n} as a Change; None when it is missing or lacks a number."""
    if not isinstance(value, dict):
        return None
    before, after = finite(value.get("before")), finite(value.get("after"))
    if before is None or after is None:
        return None
    delta = finite(value.get("delta"))
    interval = value.get("ci95") or [None, None]
    family, title, about = TASKS.get(name, (name, name.replace("_", " ").capitalize(), ""))
    return Change(
        name=name,
        title=title,
        about=about,
        family=family,
        metric=str(value.get("metric") or ""),
        before=before,
        after=after,
        delta=after - before if delta is None else delta,
        low=finite(interval[0]),
        high=finite(interval[1]),
        n=value.get("n"),
    )


def task_changes(run: Run) -> list[Change]:
    """One row per task of the summary, understanding first."""
    found = [change(name, value) for name, value in (run.summary.get("tasks") or {}).items()]
    order = {"understanding": 0, "generation": 1}
    return sorted((row for row in found if row), key=lambda row: order.get(row.family, 2))


def interval_scale(changes: list[Change]) -> tuple[float, float]:
    """Common (lowest, highest) value of the interval plot, always with 0 well inside."""
    values = [value for row in changes for value in (row.low, row.high, row.delta) if value is not None]
    return min([-0.1, *values]) - 0.03, max([0.1, *values]) + 0.03


def headline(run: Run, overall: dict[str, Change | None]) -> str:
    """The result in one sentence; claims a change only where the interval excludes 0."""
    steps = run.summary.get("steps") or len(run.metrics)
    subject = run.concept.subject or "its concept"
    understanding, generation = overall["understanding"], overall["generation"]
    if understanding is None and generation is None:
        about = ""
        if run.concept.name:
            about = f" on {subject}"
        if steps:
            return f"{steps} training steps{about}, not evaluated yet."
        return f"A run{about}, not trained yet."
    start = "Compared with the start"
    if steps:
        start = f"After {steps} training steps"
    words = {"up": "better", "down": "worse", "same": "about as before"}
    ends = {found.family: words[found.verdict] for found in (understanding, generation) if found}
    if len(ends) == 1:
        family, word = ends.popitem()
        return f"{start}, the model {'understands' if family == 'understanding' else 'draws'} {subject} {word}."
    if ends["understanding"] == ends["generation"] == words["same"]:
        return f"{start}, the model understands {subject} and draws it about as before."
    return f"{start}, the model understands {subject} {ends['understanding']} and draws it {ends['generation']}."


def tiles(run: Run) -> list[tuple[str, str, str]]:
    """(label, value, explanation) of the run's plain facts, those that are known."""
    summary = run.summary
    saved = sum(row.get("dgs/nfe_saved", 0.0) for row in run.metrics)
    memory = finite(summary.get("peak_memory_mb"))
    wall = finite(summary.get("wall_time_s"))
    nfe = finite(summary.get("nfe"))
    steps = summary.get("steps") or len(run.metrics)
    facts = [
        ("training steps", str(steps) if steps else None, "updates of the model"),
        ("time", duration(wall) if wall is not None else None, "training and both evaluations"),
        ("peak memory", f"{memory / 1024:.1f} GiB" if memory is not None else None, "of the whole process"),
        ("forward evaluations", f"{nfe:,.0f}" if nfe is not None else None, "of the backbone, while drawing (NFE)"),
        ("evaluations dropped", f"{saved:,.0f}" if saved else None, "with poor previews, which were not finished"),
        ("not asked for", unasked(summary.get("unasked")), "things per drawing that nothing named, before → after"),
        ("seed", str(summary["seed"]) if "seed" in summary else None, "with one compute thread it repeats the run"),
    ]
    return [(label, value, about) for label, value, about in facts if value is not None]


def unasked(value: Any) -> str | None:
    """Things per drawing that neither prompt nor description names, before and after; None where not counted."""
    found = change("unasked", value)
    if found is None:
        return None
    return f"{found.before:.2f} → {found.after:.2f}"


def example_tasks(run: Run, family: str, shown: int) -> list[dict[str, Any]]:
    """Per task of a family: `pairs` evenly spaced over its items, never chosen by score, and the `rest`."""
    found = []
    for name in run.tasks():
        pairs = run.pairs(name)
        guess = "generation"
        if any(pair.after.truth for pair in pairs):
            guess = "understanding"
        known, title, about = TASKS.get(name, (guess, name.replace("_", " ").capitalize(), ""))
        if known != family or not pairs:
            continue
        chosen = list(spread(len(pairs), shown))
        rest = [pair for number, pair in enumerate(pairs) if number not in chosen]
        found.append(
            {"title": title, "about": about, "pairs": [pairs[i] for i in chosen], "rest": rest[:40], "n": len(pairs)}
        )
    return found


def curves(run: Run) -> list[dict[str, str]]:
    """Plots that have data: title, explanation, picture."""
    finished = [
        (score, reward)
        for row in run.trajectories
        if row.get("kept")
        and (score := finite(row.get("preview_score"))) is not None
        and (reward := finite(row.get("reward"))) is not None
    ]
    scores, rewards = [score for score, _ in finished], [reward for _, reward in finished]
    r = plots.correlation(scores, rewards)
    skipped = sum(row.get("dgs/prompts_skipped", 0.0) for row in run.metrics)
    made = [
        (
            "Reward",
            "What the trainer maximises, mean over the completions of a step.",
            plots.reward_figure(run.metrics),
        ),
        ("Its parts", "Every scorer on its own, before weighting.", plots.parts_figure(run.metrics)),
        (
            "Dynamic Group Scaling",
            "Drawings are looked at early. The threshold rises when too many previews pass and falls when too few do.",
            plots.dgs_figure(run.metrics),
        ),
        (
            "Where evaluations went",
            "Every text is looked at once (promises); few are drawn, as trunks that branch into leaves. "
            f"Prompts skipped because their pictures did not differ: {skipped:.0f}.",
            plots.tree_figure(run.metrics),
        ),
        (
            "Do previews predict the reward?",
            f"Preview score against final reward of {len(scores)} finished drawings"
            + (f", correlation {r:.2f}." if r is not None else "."),
            plots.preview_figure(scores, rewards),
        ),
    ]
    return [
        {"title": title, "about": about, "uri": uri} for title, about, figure in made if (uri := plots.svg_uri(figure))
    ]


def grouped(rows: list[dict[str, Any]]) -> dict[tuple[int, int, str], list[dict[str, Any]]]:
    """Trajectory rows by (step, group, prompt): the completions of one group."""
    groups: dict[tuple[int, int, str], list[dict[str, Any]]] = {}
    for row in rows:
        key = (int(row.get("step") or 0), int(row.get("prompt_index") or 0), str(row.get("prompt") or ""))
        groups.setdefault(key, []).append(row)
    return groups


def completions_of_a_group(run: Run, at_most: int = 6) -> dict[str, Any] | None:
    """A group whose completions differ in reward: what one turn of the loop looks like.

    Of those with most pictures kept, the last.
    """
    best, most = None, 0
    for (step, _, prompt), rows in grouped(run.trajectories).items():
        kept = [row for row in rows if row.get("kept", True) and finite(row.get("reward")) is not None]
        pictures = sum(row.get("image") is not None for row in kept)
        if pictures < most or len({round(row["reward"], 4) for row in kept}) < 2:
            continue
        ordered = sorted(kept, key=lambda row: -row["reward"])
        shown = [
            ordered[i] | {"drew_from": spoken(ordered[i].get("drawing_prompt"))} for i in spread(len(ordered), at_most)
        ]
        best = {"step": step, "prompt": prompt, "answer": kept[0].get("answer") or "", "rows": shown, "n": len(kept)}
        most = pictures
    return best


def spoken(prompt: Any) -> str:
    """A drawing prompt as a person reads it: without the soft tokens before the name."""
    return re.sub(r"(<token_\d+>)+\s*", "", str(prompt or ""))


def preview_groups(run: Run, groups: int = 3, at_most: int = 8) -> list[dict[str, Any]]:
    """Groups spread over training with both kept and rejected previews."""
    found = []
    for (step, _, prompt), rows in grouped(run.trajectories).items():
        shown = [
            {
                "image": row.get("preview") or row.get("image"),
                "score": finite(row.get("preview_score")),
                "kept": row.get("kept"),
            }
            for row in rows
        ]
        shown = [row for row in shown if row["image"] and row["score"] is not None]
        kept = [row for row in shown if row["kept"]][:at_most]
        rejected = [row for row in shown if not row["kept"]][:at_most]
        if kept and rejected:
            found.append({"step": step, "prompt": prompt, "kept": kept, "rejected": rejected})
    return [found[index] for index in spread(len(found), groups)]


def picture(path: Path | None) -> dict[str, Any] | None:
    """{uri, pixel} for an <img>: small pictures byte by byte, others as a thumbnail.

    None when it is missing or unreadable.
    """
    if path is None:
        return None
    try:
        with Image.open(path) as opened:
            small = max(opened.size) <= PIXEL_ART
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError):
        return None
    buffer = io.BytesIO()
    if small:
        image.save(buffer, "PNG", optimize=True)
    else:
        image.thumbnail((THUMBNAIL, THUMBNAIL), Image.Resampling.LANCZOS)
        image.save(buffer, "JPEG", quality=86)
    kind = "png" if small else "jpeg"
    return {"uri": f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}", "pixel": small}


def finite(value: Any) -> float | None:
    """A finite float, or None for anything else."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def percent(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.0f} %"


def points(value: float | None) -> str:
    """A difference in percentage points, with its sign."""
    if value is None:
        return "–"
    return f"{100 * value:+.1f}".replace("-", "−")


def decimal(value: Any) -> str:
    number = finite(value)
    if number is None:
        return "–"
    return f"{number:.2f}".replace("-", "−")


def duration(seconds: float) -> str:
    """Seconds as a person says them: 42 s, 7.9 min, 3.2 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:.1f} h"


def mark(item: Item) -> str:
    """right, partly, wrong or unknown, from the score."""
    if item.score is None:
        return "unknown"
    if item.score >= 0.999:
        return "right"
    if item.score >= 0.5:
        return "partly"
    return "wrong"
