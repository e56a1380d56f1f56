"""What an evaluation found: one scored item per prompt, and the file it is kept in."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.files import write_json

UNDERSTANDING = ("rec", "vqa", "qa", "rea", "dense_rea")
GENERATION = ("pure_gen", "dense_gen", "rea_gen", "dense_rea_gen")
REWRITTEN = {"rea_gen": "rea", "dense_rea_gen": "dense_rea"}  # draws the rewrite of the other
TASKS = UNDERSTANDING + GENERATION  # published
LOOKALIKES = ("lookalikes", "lookalikes_drawn")  # asked in words, and recognised by drawing; with the option lookalikes
ALL_TASKS = TASKS + LOOKALIKES
RECOGNITION = ("rec", *LOOKALIKES)  # their answers are yes or no, and both count equally
COLUMNS = (  # of the published table
    "rec.weight", "rea.bleu", "dense_rea.gpt", "vqa.bleu", "vqa.gpt", "qa.bleu", "qa.gpt", "pure_gen.clip_t",
    "pure_gen.clip_i", "dense_gen.gpt", "dense_gen.clip_i", "rea_gen.clip_t", "rea_gen.clip_i", "dense_rea_gen.gpt",
    "dense_rea_gen.clip_i",
)  # fmt: skip

ALL_COLUMNS = (
    *COLUMNS,
    # with the protocol options lookalikes and unasked
    *(f"{task}.weight" for task in LOOKALIKES),
    *(f"{task}.unasked" for task in GENERATION),
)


def write_result(path: Path, value: Any) -> Path:
    """Write JSON in the form of all files of a benchmark. ValueError for a number that is not finite."""
    return write_json(path, value, indent=1, finite=True)


@dataclass(frozen=True, kw_only=True)
class ScoredItem:
    """One evaluated prompt. `image` is the picture asked about (understanding) or the first one drawn (generation)."""

    task: str
    id: str
    prompt: str
    input: str  # what the model read, or the words it drew
    prediction: str  # what the model wrote
    truth: str
    # in [0, 1], a cosine where CLIP alone scores; None could not be scored and is left out of every mean
    score: float | None
    # everything that was measured, the score's own metric included
    metrics: dict[str, float] = field(default_factory=dict)
    image: str | None = None  # relative to the folder of the result file
    seed: int | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """What makes two items the same question."""
        return self.task, self.id, self.prompt, self.truth, self.seed


def strata(items: Iterable[ScoredItem]) -> dict[str, list[ScoredItem]]:
    """Items of one task in the parts that count equally: yes and no for recognition (the published weight), else a
    single part."""
    parts: dict[str, list[ScoredItem]] = {}
    for item in items:
        side = "all"
        if item.task in RECOGNITION:
            side = "recall"
            if item.truth.strip().lower().startswith("no"):
                side = "no_recall"
        parts.setdefault(side, []).append(item)
    return parts


def mean(values: Iterable[float]) -> float:
    numbers = list(values)
    return sum(numbers) / len(numbers)


@dataclass(kw_only=True)
class EvalResult:
    """Everything measured in one phase."""

    items: list[ScoredItem]
    metrics: dict[str, str]  # task → name of the metric that is its score
    judge: str = ""
    seed: int = 3407
    concept: str = ""
    protocol: dict[str, Any] = field(default_factory=dict)  # how predictions were made
    notes: list[str] = field(default_factory=list)  # such as prompts that were cut

    @property
    def tasks(self) -> dict[str, dict[str, Any]]:
        """Per task: mean (None when nothing could be scored), n scored, unscored, metric, and the means of all
        metrics."""
        names = []
        for task in ALL_TASKS:
            if any(item.task == task for item in self.items):
                names.append(task)
        found: dict[str, dict[str, Any]] = {}
        for task in names:
            found[task] = self._task([item for item in self.items if item.task == task])
        return found

    def _task(self, items: list[ScoredItem]) -> dict[str, Any]:
        scored = [item for item in items if item.score is not None]
        sides = {}
        for side, part in strata(scored).items():
            sides[side] = mean(item.score or 0.0 for item in part)
        metrics: dict[str, float] = {}
        for name in dict.fromkeys(name for item in items for name in item.metrics):
            metrics[name] = mean(item.metrics[name] for item in items if name in item.metrics)
        return {
            "mean": mean(sides.values()) if sides else None,
            "n": len(scored),
            "unscored": len(items) - len(scored),
            "metric": self.metrics.get(items[0].task, ""),
            **metrics,
            **({} if "all" in sides else sides),
        }

    def to_dict(self) -> dict[str, Any]:
        items = [{**vars(item)} for item in self.items]
        facts = {
            "concept": self.concept,
            "judge": self.judge,
            "seed": self.seed,
            "protocol": self.protocol,
            "notes": self.notes,
        }
        return {**facts, "metrics": self.metrics, "tasks": self.tasks, "items": items}

    def write(self, path: Path | str) -> Path:
        """Write JSON; the file appears under its name only when complete."""
        return write_result(Path(path), self.to_dict())

    @staticmethod
    def read(path: Path | str) -> EvalResult:
        """Read what `write` wrote. ValueError when it is missing or something else."""
        path = Path(path)
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            known = {name: values[name] for name in ("metrics", "judge", "seed", "concept", "protocol", "notes")}
            return EvalResult(items=[ScoredItem(**item) for item in values["items"]], **known)
        except (OSError, json.JSONDecodeError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is no result of an evaluation ({error!r}); write one with `sync-r1 evaluate`"
            ) from error
