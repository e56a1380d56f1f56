"""Score: predictions in a store → what was measured of each, by the shared text scorers, a judge and CLIP.

Both files are written from that: a run's eval/<phase>.json (`evaluate`) and a benchmark's scores/*.json
(`score_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sync_r1.models.batches import batches
from sync_r1.scorers.base import Judge, Score
from sync_r1.scorers.clip import ClipScorer
from sync_r1.unifybench.metrics import JUDGED, ItemMetrics, Row
from sync_r1.unifybench.prediction_store import PredictionStore, unanswered
from sync_r1.unifybench.protocol import digest
from sync_r1.unifybench.results import GENERATION

BATCH = 32  # rows, and so about as many pictures, in memory
PATIENCE = 8  # failed requests in a row after which a judge counts as down


@dataclass(frozen=True, kw_only=True)
class Measured:
    """One prediction and what was measured of it."""

    row: Row
    id: str
    input: str  # what the model read, or the words it drew
    seed: int
    content: str  # hash of the request and of what the model made of it
    answered: bool  # False where a chat model was asked in vain
    metrics: dict[str, Score] = field(default_factory=dict)  # None: could not be scored


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


def check_judges(drawings: bool, image_judge: Judge | None, clip: ClipScorer | None) -> None:
    """ValueError when drawings would be made that neither a judge nor CLIP can score."""
    if drawings and image_judge is None and clip is None:
        raise ValueError(
            "drawings need a scorer: give a judge (eval.judge.url) or a CLIP (eval.clip), "
            "or name understanding tasks only"
        )


def unmeasured(store: PredictionStore, task: str, records: Sequence[dict[str, Any]]) -> list[Measured]:
    """The records of one task, nothing measured yet."""
    if task in GENERATION:
        return [_drawing(store, task, record) for record in records]
    return [_answer(task, record) for record in records]


def _answer(task: str, record: dict[str, Any]) -> Measured:
    row = Row(task=task, prompt=record["source_prompt"], truth=record["reference"], text=record["prediction"] or "")
    return Measured(
        row=row,
        id=record["item_id"],
        input=record["model_prompt"],
        seed=record["metadata"]["seed"],
        content=_content(record),
        answered=not unanswered(record),
    )


def _drawing(store: PredictionStore, task: str, record: dict[str, Any]) -> Measured:
    row = Row(
        task=task,
        prompt=record["source_prompt"],
        truth=record["scoring_prompt"],
        text=record["metadata"]["upstream_prediction"] or "",
        images=store.pictures(task, record),
    )
    return Measured(
        row=row,
        id=record["prompt_id"],
        input=record["drawn_words"],
        seed=record["metadata"]["seeds"][0],
        content=_content(record),
        answered=True,
    )


def _content(record: dict[str, Any]) -> str:
    """A model of unknown weights may answer the same request in other words, so these are part of it."""
    facts = record["metadata"]
    return digest([facts["content_hash"], record.get("prediction"), facts.get("image_sha256")])


def measure_all(
    items: Sequence[Measured],
    names: Sequence[str],
    measure: ItemMetrics,
    outage: Outage | None = None,
    kept: Callable[[], object] = lambda: None,
) -> None:
    """Measure what is missing: metric by metric, in batches. Items that the model left unanswered stay open.

    Args:
        items: of one task; their `metrics` are filled in.
        names: of the metrics.
        outage: notices when the judge is down, which is then asked nothing more; None asks everything.
        kept: called after every batch of a metric that asks the judge, with the new scores in `items`.
    """
    for name in names:
        missing = [item for item in items if item.answered and item.metrics.get(name) is None]
        for part in batches(missing, BATCH):
            asks = name in JUDGED
            if asks and outage is not None and outage.down:
                break
            values = measure(name, [item.row for item in part])
            for item, value in zip(part, values, strict=True):
                item.metrics[name] = value
            if asks and outage is not None:
                outage.see(values, measure.judges.judge)
            if asks:
                kept()
