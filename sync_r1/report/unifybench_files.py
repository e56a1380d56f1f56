"""What benchmark folders say, read into a few plain values: the table, and per prompt what every model made of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sync_r1.files import read_object
from sync_r1.report.run_page import finite
from sync_r1.unifybench.results import ALL_TASKS

Key = tuple[str, str, str]  # task, concept, id of the item


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What one model made of one prompt."""

    prompt: str
    truth: str
    reference: str = ""  # the truth in the words this model was given, which its text is scored against
    text: str = ""  # what it wrote, or why it did not; of a drawing the words it was drawn from
    seen: Path | None = None  # the picture it was asked about; of a drawing a photo of the concept
    pictures: tuple[Path, ...] = ()  # what it drew
    metrics: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class BenchmarkModel:
    """One checkpoint of one benchmark folder."""

    folder: Path
    epoch: int
    label: str
    protocol: str
    judge: str
    clip: str
    columns: dict[str, dict[str, Any]]  # "task.metric" → {mean, ci95, n, unscored, concepts, complete, per_concept}
    answers: dict[Key, Answer]


def read_models(places: Sequence[str]) -> list[BenchmarkModel]:
    """Every checkpoint of `<folder>`, or one as `<folder>@<model epoch>`, in the order given. Labels are made distinct.

    Raises ValueError for a folder that holds no predictions.
    """
    found = [model for place in places for model in _of_place(place)]
    labels = [model.label for model in found]
    return [model if labels.count(model.label) == 1 else _with_label(model, labels) for model in found]


def _with_label(model: BenchmarkModel, labels: Sequence[str]) -> BenchmarkModel:
    values = {
        **vars(model),
        "label": f"{model.label} ({model.folder.name}{f', epoch {model.epoch}' if model.epoch else ''})",
    }
    return BenchmarkModel(**values)


def _of_place(place: str) -> Iterator[BenchmarkModel]:
    name, at, number = place.rpartition("@")
    one = None
    if at and number.isdigit() and not Path(place).is_dir():
        one = int(number)
    folder = Path(name if one is not None else place)
    notes = read_object(folder / "bench.json") or {}
    manifests: dict[int, list[Path]] = {}
    for path in sorted(folder.glob("artifacts/*/*/*/token_epoch_*/model_epoch_*/manifest.json")):
        manifests.setdefault(int(path.parent.name.removeprefix("model_epoch_")), []).append(path)
    epochs = [epoch for epoch in sorted(manifests) if one in (None, epoch)]
    if not epochs:
        if one is None:
            which = ""
        else:
            which = f" of model epoch {one}"
        raise ValueError(f"{folder} holds no predictions{which}; `sync-r1 bench run --out {folder}` writes them")
    labels = notes.get("models") or {}
    for epoch in epochs:
        yield _model(folder, epoch, str(labels.get(str(epoch)) or f"{folder.name} {epoch}"), manifests[epoch])


def _model(folder: Path, epoch: int, label: str, manifests: Sequence[Path]) -> BenchmarkModel:
    answers: dict[Key, Answer] = {}
    judges: dict[str, list[str]] = {"protocol": [], "judge": [], "clip": []}
    for path in manifests:
        manifest = read_object(path) or {}
        task, concept, family = (str(manifest.get(key) or "") for key in ("task", "concept", "family"))
        scores = read_object(folder / "scores" / family / task / f"model_epoch_{epoch}" / f"{concept}.json") or {}
        metrics = {row["item_id"]: row for row in [*(scores.get("items") or []), *(scores.get("prompt_results") or [])]}
        protocol = (scores or manifest).get("protocol") or {}
        judges["protocol"].append(str(protocol.get("name") or ""))
        for key in ("judge", "clip"):
            judges[key].append(str(scores.get(key) or ""))
        for record in [*(manifest.get("items") or []), *(manifest.get("prompt_artifacts") or [])]:
            item_id = str(record.get("item_id") or record.get("prompt_id"))
            answers[task, concept, item_id] = _answer(path.parent, record, metrics.get(item_id, {}))
    summary = read_object(folder / "scores" / "_aggregates" / f"model_epoch_{epoch}" / "summary.json") or {}
    columns = summary.get("columns") or {}
    named = {key: ", ".join(sorted(set(filter(None, values)))) for key, values in judges.items()}
    return BenchmarkModel(folder=folder, epoch=epoch, label=label, columns=columns, answers=answers, **named)


def _answer(folder: Path, record: dict[str, Any], scored: dict[str, Any]) -> Answer:
    drawn = "prompt_id" in record
    item_folder = folder / str(record.get("prompt_id") or "")
    references = (record.get("metadata") or {}).get("clip_i_reference_image_paths") or []
    seen = record.get("image_path") or (references[0] if references else None)
    failure = (record.get("metadata") or {}).get("failure")
    values = {
        name: number for name, value in (scored.get("metrics") or {}).items() if (number := finite(value)) is not None
    }
    text = f"(no answer: {failure})"
    if not failure:
        text = str(record.get("drawn_words" if drawn else "prediction") or "")
    truth = str(record.get("scoring_prompt" if drawn else "ground_truth") or "")
    return Answer(
        prompt=str(record.get("source_prompt") or ""),
        truth=truth,
        reference=str(record.get("reference") or truth),
        text=text,
        seen=folder / seen if seen else None,
        pictures=tuple(item_folder / name for name in record.get("image_files") or []),
        metrics=values,
    )


def tasks_of(models: Sequence[BenchmarkModel]) -> list[str]:
    """Tasks that any model did, understanding first."""
    done = {key[0] for model in models for key in model.answers}
    return [task for task in ALL_TASKS if task in done]
