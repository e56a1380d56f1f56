"""Metrics of answers and drawings, in [0, 1] but for CLIP's cosines: the same scorers that rewards use, applied as a
protocol says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sync_r1.data import Concept, load_image
from sync_r1.data.pictures import natural_key
from sync_r1.files import sha256
from sync_r1.scorers.base import Score, is_scored
from sync_r1.scorers.clip import ClipScorer
from sync_r1.scorers.text import Matching, char_bleu, exact, recognition, token_f1
from sync_r1.unifybench.baselines import name_in_words
from sync_r1.unifybench.protocol import Protocol, digest
from sync_r1.unifybench.results import GENERATION, LOOKALIKES, RECOGNITION

UNASKED = "unasked"  # things per drawing that neither prompt nor concept names; a count, not a share
JUDGED = ("gpt", "judge", UNASKED)  # metrics that ask a judge
TEXTS = {"bleu": char_bleu, "exact": exact, "token_f1": token_f1}
NEEDED = {  # what the published table reads
    "rec": ["recognition"],
    **{task: ["recognition"] for task in LOOKALIKES},
    "vqa": ["bleu", "gpt"],
    "qa": ["bleu", "gpt"],
    "rea": ["bleu"],
    "dense_rea": ["gpt"],
    "pure_gen": ["clip_t", "clip_i"],
    "dense_gen": ["gpt", "clip_i"],
    "rea_gen": ["clip_t", "clip_i"],
    "dense_rea_gen": ["gpt", "clip_i"],
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """One predicted item, as metrics see it."""

    task: str
    prompt: str
    truth: str  # of a drawing the words it is scored against
    text: str = ""
    images: tuple[Path, ...] = ()


@dataclass
class BenchmarkJudges:
    """Who scores. A missing judge or CLIP leaves its metrics out."""

    judge: Any = None  # image judge with score_text_answer, score_prompt_similarity and score_clauses
    judge_name: str = ""
    judge_setting: str = ""  # hash of what its replies follow from besides the name
    clip: ClipScorer | None = None
    clip_name: str = ""
    clip_setting: str = ""  # hash of its content


def metrics_of(task: str, protocol: Protocol, judges: BenchmarkJudges) -> list[str]:
    """Names of what a benchmark measures: the published metrics of the task, then ours."""
    if task in GENERATION:
        names = [*NEEDED[task], "clip_t"]
        names += ["judge"] if protocol.image_judge == "both" else []
        names += [UNASKED] if protocol.unasked else []
    else:
        names = [*NEEDED[task], *(TEXTS if task not in RECOGNITION else [])]
    return _measurable(names, judges)


def phase_metrics_of(task: str, judges: BenchmarkJudges) -> list[str]:
    """Names of what the evaluation of a run's phase measures, the metric of the score first."""
    if task in GENERATION:
        return _measurable(["judge", "clip_t", "clip_i", UNASKED], judges)
    if task in RECOGNITION:
        return ["recognition"]
    return ["exact", "token_f1", "bleu"]


def _measurable(names: Sequence[str], judges: BenchmarkJudges) -> list[str]:
    """Those whose judge or CLIP is there, each once."""
    absent: set[str] = set()
    if judges.judge is None:
        absent.update(JUDGED)
    if judges.clip is None:
        absent.update(("clip_t", "clip_i"))
    if not counts_unasked(judges.judge):
        absent.add(UNASKED)
    return [name for name in dict.fromkeys(names) if name not in absent]


class ItemMetrics:
    """Measures rows of one concept. CLIP's reference pictures are embedded once."""

    def __init__(self, concept: Concept, protocol: Protocol, judges: BenchmarkJudges) -> None:
        self.concept, self.protocol, self.judges = concept, protocol, judges
        self._references: Tensor | None = None

    def __call__(self, metric: str, rows: Sequence[Row]) -> list[Score]:
        """One score per row; None: could not be scored.

        Pictures of one prompt are averaged, and None while one of them is.
        """
        if metric == "recognition":
            return [self._recognition(row) for row in rows]
        if metric in TEXTS:
            return [TEXTS[metric](row.text, row.truth) for row in rows]
        if rows and rows[0].task not in GENERATION:
            return self._judged_texts(rows)
        return self._pictures(metric, rows)

    def setting(self, metric: str) -> str:
        """Hash of all that a score of `metric` follows from besides prediction and truth.

        What it names anew is scored anew.
        """
        judges, concept = self.judges, self.concept
        facts: list[Any] = [metric, self.protocol.scoring_options()]
        if metric in JUDGED:
            facts += [judges.judge_name, judges.judge_setting]
        if metric in ("judge", UNASKED) or (metric == "gpt" and self.protocol.image_judge == "whole"):
            facts.append(concept.info)
        if metric in ("clip_i", "clip_t"):
            facts += [judges.clip_name, judges.clip_setting]
        if metric == "clip_i":
            facts += [sha256(path) for path in reference_pictures(concept, self.protocol)]
        if metric == "clip_t":
            facts.append(concept.class_noun)
        return digest(facts)

    def _recognition(self, row: Row) -> Score:
        return recognition(row.text, row.truth, matcher_of(self.protocol))

    def _judged_texts(self, rows: Sequence[Row]) -> list[Score]:
        """An empty answer is wrong without asking."""
        asked = [row for row in rows if row.text.strip()]
        columns = [[row.prompt for row in asked], [row.truth for row in asked], [row.text for row in asked]]
        found: list[Score] = []
        if asked and asked[0].task == "dense_rea":
            found = checked(self.judges.judge.score_prompt_similarity(*columns[1:]), len(asked))
        elif asked:
            found = checked(self.judges.judge.score_text_answer(*columns), len(asked))
        scores = iter(found)
        return [next(scores) if row.text.strip() else 0.0 for row in rows]

    def _pictures(self, metric: str, rows: Sequence[Row]) -> list[Score]:
        flat = [(row, path) for row in rows for path in row.images]
        images = load_pictures([path for _, path in flat])
        values = iter(self._of_pictures(metric, images, [row for row, _ in flat]))
        found: list[Score] = []
        for row in rows:
            found.append(_mean([next(values) for _ in row.images]))
        return found

    def _of_pictures(self, metric: str, images: Tensor, rows: Sequence[Row]) -> Sequence[Score]:
        clip = self.judges.clip
        if metric == "clip_i" and clip is not None:
            return clip.clip_i(images, self.references(clip), unit=False).tolist()
        if metric == "clip_t" and clip is not None:
            texts = [clip_text(row, self.concept, self.protocol) for row in rows]
            return clip.clip_t(images, texts, unit=False, truncate=self.protocol.long_text == "truncate").tolist()
        if metric == "gpt" and self.protocol.image_judge != "whole":
            return checked(self.judges.judge.score_clauses(images, [row.truth for row in rows]), len(rows))
        asked = [f"{self.concept.info} {row.truth}" for row in rows]
        if metric == UNASKED:
            return list(self.judges.judge.unasked(images, asked))
        return checked(self.judges.judge(images, asked), len(rows))

    def references(self, clip: ClipScorer) -> Tensor:
        """Features [R, D] of the pictures CLIP-I compares with. ValueError when the concept has none."""
        if self._references is None:
            paths = reference_pictures(self.concept, self.protocol)
            self._references = clip.image_features([load_image(path) for path in paths])
        return self._references


def counts_unasked(judge: Any) -> bool:
    """Whether a judge can count what drawings show that nothing asked for."""
    return bool(getattr(judge, "counts_unasked", False))


def matcher_of(protocol: Protocol) -> Matching:
    """The rule of `scorers.text` that the protocol names."""
    if protocol.recognition == "substring":
        return "legacy"
    return "unifybench++"


def reference_pictures(concept: Concept, protocol: Protocol) -> list[Path]:
    """The pictures CLIP-I compares with; training pictures where there are no test pictures."""
    if protocol.clip_references == "test":
        wanted = concept.test_images
    else:
        wanted = concept.train_images
    key = natural_key if protocol.clip_reference_order == "natural" else lambda path: str(path.name)
    paths = sorted(wanted or concept.train_images, key=key)[: protocol.clip_reference_count]
    if not paths:
        raise ValueError(
            f"concept {concept.name!r} has no pictures to compare drawings with; add some to "
            f"concept/test/{concept.name}/"
        )
    return paths


def clip_text(row: Row, concept: Concept, protocol: Protocol) -> str:
    """What CLIP-T reads. Published: the class noun in pure_gen, the literal placeholder elsewhere."""
    if protocol.clip_text == "class-noun":
        return class_text(row.truth, concept)
    if row.task == "pure_gen":
        return row.truth.replace(concept.placeholder, concept.class_noun)
    return row.truth


def class_text(prompt: str, concept: Concept) -> str:
    """The prompt with the class noun for the placeholder: "a photo of <bo> at sea" → "a photo of a dog at sea"."""
    return name_in_words(prompt, concept.placeholder, concept.class_noun)


def checked(values: Sequence[Score], count: int) -> list[Score]:
    """A judge's scores; NaN becomes None. ValueError when the judge breaks its contract."""
    if len(values) != count:
        raise ValueError(
            f"the judge gave {len(values)} scores for {count} predictions; it must give one each, None if unknown"
        )
    for value in values:
        if value is not None and not math.isnan(value) and not 0 <= value <= 1:
            raise ValueError(f"the judge gave {value}; a score must lie in [0, 1], or be None")
    return [value if is_scored(value) else None for value in values]


def load_pictures(paths: Sequence[Path]) -> Tensor:
    """PNG files of one size → uint8 [B, 3, H, W]."""
    return torch.stack([torch.from_numpy(np.array(load_image(path))).permute(2, 0, 1) for path in paths])


def _mean(values: Sequence[Score]) -> Score:
    known = [value for value in values if value is not None]
    if known and len(known) == len(values):
        return sum(known) / len(known)
    return None
