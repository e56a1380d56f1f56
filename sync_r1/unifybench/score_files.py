"""The score stage: predictions on disk → score files, kept after every batch, so that an outage of the judge costs only
what is missing.
"""

from __future__ import annotations

import datetime
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sync_r1.data import Concept
from sync_r1.files import sha256
from sync_r1.scorers.text import is_negative
from sync_r1.unifybench.metrics import JUDGED, Evaluators, ItemMetrics, Row, matcher_of, metrics_of
from sync_r1.unifybench.predict import batches
from sync_r1.unifybench.prediction_store import (
    PredictionStore,
    family_of,
    forget_partial,
    read_object,
    read_task,
    records_of,
    unanswered,
    write_json,
)
from sync_r1.unifybench.protocol import Protocol, digest
from sync_r1.unifybench.results import UNDERSTANDING

BATCH = 32
PATIENCE = 8  # failed requests in a row after which a judge counts as down


def score_path(store: PredictionStore, task: str) -> Path:
    return store.out.joinpath(
        "scores", family_of(task), task, f"model_epoch_{store.model_epoch}", f"{store.concept}.json"
    )


class Outage:
    """Notices that a judge has stopped answering, so that it is not asked thousands of times in vain.

    Refusals and unreadable replies are no outage: a judge that counts its failures (`RemoteJudge.counts`) tells them
    apart.
    """

    def __init__(self) -> None:
        self.misses, self.down, self._unavailable = 0, False, 0

    def see(self, scores: Sequence[float | None], judge: Any) -> None:
        """Scores of one batch: batches without a single score add up until one has some."""
        lost = sum(score is None for score in scores)
        if counts := getattr(judge, "counts", None):
            lost, self._unavailable = counts["unavailable"] - self._unavailable, counts["unavailable"]
        if all(score is None for score in scores):
            self.misses = self.misses + lost
        else:
            self.misses = 0
        self.down = self.down or self.misses >= PATIENCE


def score_task(
    store: PredictionStore, task: str, concept: Concept, protocol: Protocol, judges: Evaluators, outage: Outage
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
    known = _known(score_path(store, task), settings)
    results = [_start(record, known, task) for record in records]
    _check_pictures(store, task, records)
    forget_partial(score_path(store, task).parent)
    for metric in settings:
        open_items = [number for number, result in enumerate(results) if result["metrics"].get(metric) is None]
        missing = [number for number in open_items if not unanswered(records[number])]
        for part in batches(missing, BATCH):
            if metric in JUDGED and outage.down:
                break
            values = measure(metric, [_row(store, task, records[number]) for number in part])
            for number, value in zip(part, values, strict=True):
                results[number]["metrics"][metric] = value
            if metric in JUDGED:
                outage.see(values, judges.judge)
                _write(store, task, manifest, results, settings, protocol, judges)
    return _write(store, task, manifest, results, settings, protocol, judges)


def _check_protocol(manifest: dict[str, Any], protocol: Protocol, store: PredictionStore, task: str) -> None:
    made, wanted = manifest["protocol"], protocol.prediction_options()
    if changed := [name for name, value in wanted.items() if made.get(name) != value]:
        raise ValueError(
            f"task {task} of {store.concept} was predicted under protocol {made['name']!r}, which differs in "
            f"{', '.join(changed)}; score it under that one, or predict again"
        )


def _check_pictures(store: PredictionStore, task: str, records: Sequence[dict[str, Any]]) -> None:
    for record in [] if task in UNDERSTANDING else records:
        hashes = record["metadata"]["image_sha256"]
        for path, wanted in zip(_pictures(store, task, record), hashes, strict=True):
            if not path.is_file() or sha256(path) != wanted:
                raise ValueError(
                    f"{path} is missing or damaged; `sync-r1 bench run` with the same options draws it again"
                )


def _pictures(store: PredictionStore, task: str, record: dict[str, Any]) -> tuple[Path, ...]:
    return tuple(store.folder(task) / record["prompt_id"] / name for name in record["image_files"])


def _known(path: Path, settings: dict[str, str]) -> dict[str, dict[str, Any]]:
    """Item id → result of an earlier scoring, with the metrics whose setting is the one of now."""
    earlier = read_object(path) or {}
    same = {name for name, setting in settings.items() if (earlier.get("settings") or {}).get(name) == setting}
    found = {}
    for result in earlier.get("items") or earlier.get("prompt_results") or []:
        metrics = {name: value for name, value in result["metrics"].items() if name in same}
        found[result["item_id"]] = {**result, "metrics": metrics}
    return found


def _start(record: dict[str, Any], known: dict[str, dict[str, Any]], task: str) -> dict[str, Any]:
    """A result without metrics, or with those an earlier scoring gave the same prediction."""
    if task in UNDERSTANDING:
        item_id = record["item_id"]
    else:
        item_id = record["prompt_id"]
    if task in UNDERSTANDING:
        truth = record["reference"]
    else:
        truth = record["scoring_prompt"]
    # A model of unknown weights may answer the same request in other words.
    content = digest(
        [record["metadata"]["content_hash"], record.get("prediction"), record["metadata"].get("image_sha256")]
    )
    earlier = known.get(item_id, {})
    same = (earlier.get("content_hash"), earlier.get("truth")) == (content, truth)
    metrics = {}
    if same:
        metrics = {name: value for name, value in earlier.get("metrics", {}).items() if value is not None}
    asked = {"item_id": item_id, "source_prompt": record["source_prompt"], "truth": truth, "content_hash": content}
    return {**asked, "metrics": metrics}


def _row(store: PredictionStore, task: str, record: dict[str, Any]) -> Row:
    if task in UNDERSTANDING:
        return Row(task=task, prompt=record["scoring_query"], truth=record["reference"], text=record["prediction"])
    return Row(
        task=task, prompt=record["source_prompt"], truth=record["scoring_prompt"], images=_pictures(store, task, record)
    )


def _write(
    store: PredictionStore,
    task: str,
    manifest: dict[str, Any],
    results: Sequence[dict[str, Any]],
    settings: dict[str, str],
    protocol: Protocol,
    judges: Evaluators,
) -> dict[str, Any]:
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
        "items" if task in UNDERSTANDING else "prompt_results": list(results),
    }
    write_json(score_path(store, task), content)
    return content


def summary_of(
    task: str, results: Sequence[dict[str, Any]], metrics: Sequence[str], protocol: Protocol
) -> dict[str, Any]:
    """Means over the items of one concept that could be scored, and how many those are."""
    if task == "rec":
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
