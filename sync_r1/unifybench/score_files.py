"""Score files of a benchmark: what was measured of predictions on disk, kept after every batch, so that an outage of
the judge costs only what is missing.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sync_r1.data import Concept
from sync_r1.files import read_object, sha256
from sync_r1.scorers.text import is_negative
from sync_r1.unifybench.metrics import BenchmarkJudges, ItemMetrics, matcher_of, metrics_of
from sync_r1.unifybench.prediction_store import (
    PredictionStore,
    clear_partial,
    family_of,
    read_task,
    records_of,
)
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import GENERATION, RECOGNITION, write_result
from sync_r1.unifybench.score import Measured, Outage, measure_all, unmeasured


def score_path(store: PredictionStore, task: str) -> Path:
    return store.out.joinpath(
        "scores", family_of(task), task, f"model_epoch_{store.model_epoch}", f"{store.concept}.json"
    )


def score_task(
    store: PredictionStore, task: str, concept: Concept, protocol: Protocol, judges: BenchmarkJudges, outage: Outage
) -> dict[str, Any]:
    """Score one task of one concept; what an earlier score file holds of the same predictions, by the same means, is
    not scored again.

    Items that the model left unanswered stay open. Returns the new file's content.

    Raises:
        ValueError: no predictions, predictions of another protocol, or a picture that is not the one that was drawn.
    """
    manifest = read_task(store, task)
    _check_protocol(manifest, protocol, store, task)
    records = records_of(manifest)
    measure = ItemMetrics(concept, protocol, judges)
    settings = {metric: measure.setting(metric) for metric in metrics_of(task, protocol, judges)}
    items = unmeasured(store, task, records)
    _take_over(score_path(store, task), settings, items)
    _check_pictures(items, records)
    clear_partial(score_path(store, task).parent)

    def write() -> dict[str, Any]:
        return _write(store, task, manifest, items, settings, protocol, judges)

    measure_all(items, list(settings), measure, outage, write)
    return write()


def _check_protocol(manifest: dict[str, Any], protocol: Protocol, store: PredictionStore, task: str) -> None:
    made, wanted = manifest["protocol"], protocol.prediction_options()
    if changed := [name for name, value in wanted.items() if made.get(name) != value]:
        raise ValueError(
            f"task {task} of {store.concept} was predicted under protocol {made['name']!r}, which differs in "
            f"{', '.join(changed)}; score it under that one, or predict again"
        )


def _check_pictures(items: Sequence[Measured], records: Sequence[dict[str, Any]]) -> None:
    for item, record in zip(items, records, strict=True):
        hashes = record["metadata"].get("image_sha256", [])
        for path, wanted in zip(item.row.images, hashes, strict=True):
            if not path.is_file() or sha256(path) != wanted:
                raise ValueError(
                    f"{path} is missing or damaged; `sync-r1 bench run` with the same options draws it again"
                )


def _take_over(path: Path, settings: dict[str, str], items: Sequence[Measured]) -> None:
    """Fill in what an earlier scoring measured of the same predictions, by metrics whose setting is the one of now."""
    earlier = read_object(path) or {}
    same = {name for name, setting in settings.items() if (earlier.get("settings") or {}).get(name) == setting}
    rows = {row["item_id"]: row for row in earlier.get("items") or earlier.get("prompt_results") or []}
    for item in items:
        row = rows.get(item.id, {})
        if (row.get("content_hash"), row.get("truth")) != (item.content, item.row.truth):
            continue
        for name, value in row["metrics"].items():
            if name in same and value is not None:
                item.metrics[name] = value


def _write(
    store: PredictionStore,
    task: str,
    manifest: dict[str, Any],
    items: Sequence[Measured],
    settings: dict[str, str],
    protocol: Protocol,
    judges: BenchmarkJudges,
) -> dict[str, Any]:
    results = [_result(item) for item in items]
    finished = 0
    for result in results:
        finished += all(result["metrics"].get(name) is not None for name in settings)
    content = {
        **{
            key: manifest[key]
            for key in ("task", "family", "concept", "token_epoch", "model_epoch", "adapter", "model")
        },
        "protocol": asdict(protocol),
        "judge": judges.judge_name,
        "clip": judges.clip_name,
        "scored_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "settings": settings,
        "complete": finished == len(results),
        "progress": {"completed": finished, "total": len(results)},
        "summary": summary_of(task, results, list(settings), protocol),
        "notes": manifest["notes"],
        "prompt_results" if task in GENERATION else "items": results,
    }
    write_result(score_path(store, task), content)
    return content


def _result(item: Measured) -> dict[str, Any]:
    """An item as score files hold it."""
    return {
        "item_id": item.id,
        "source_prompt": item.row.prompt,
        "truth": item.row.truth,
        "content_hash": item.content,
        "metrics": item.metrics,
    }


def summary_of(
    task: str, results: Sequence[dict[str, Any]], metrics: Sequence[str], protocol: Protocol
) -> dict[str, Any]:
    """Means over the items of one concept that could be scored, and how many those are."""
    if task in RECOGNITION:
        return _recognition(results, protocol)
    summary: dict[str, Any] = {"n": len(results)}
    for name in metrics:
        values = [result["metrics"][name] for result in results if result["metrics"].get(name) is not None]
        summary[name] = None
        if values:
            summary[name] = sum(values) / len(values)
        summary[f"{name}_n"] = len(values)
    return summary


def sides_of(results: Sequence[dict[str, Any]], protocol: Protocol) -> dict[bool, list[float]]:
    """Hits of the items whose answer is yes (False) and no (True)."""
    sides: dict[bool, list[float]] = {False: [], True: []}
    matcher = matcher_of(protocol)
    for result in results:
        if result["metrics"].get("recognition") is not None:
            sides[is_negative(result["truth"], matcher)].append(result["metrics"]["recognition"])
    return sides


def _recognition(results: Sequence[dict[str, Any]], protocol: Protocol) -> dict[str, Any]:
    """The mean of both recalls; a side without items counts 0 or not at all, as the protocol says."""
    sides = sides_of(results, protocol)
    recalls = [sum(side) / len(side) if side else None for side in sides.values()]
    counted = [
        0.0 if recall is None else recall for recall in recalls if recall is not None or protocol.empty_side == "zero"
    ]
    hits = [*sides[False], *sides[True]]
    return {
        "n": len(results),
        "weight": sum(counted) / len(counted) if counted else None,
        "weight_n": len(hits),
        "accuracy": sum(hits) / len(hits) if hits else None,
        "recall": recalls[0],
        "no_recall": recalls[1],
    }
