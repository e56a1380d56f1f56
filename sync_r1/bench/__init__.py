"""UnifyBench++: nine tasks, predicted, then scored, then compared. Knows nothing of training.

`evaluate` is one phase of one run in memory; `run` is the whole benchmark on disk, for any model (docs/benchmark.md).
"""

from sync_r1.bench.evaluate import evaluate
from sync_r1.bench.predict import Prediction, predict
from sync_r1.bench.result import GENERATION, TASKS, UNDERSTANDING, EvalResult, ScoredItem
from sync_r1.bench.score import ImageJudge, score
from sync_r1.bench.stats import compare
from sync_r1.bench.tasks import EvalItem, build_items, item_seed

__all__ = [
    "GENERATION",
    "TASKS",
    "UNDERSTANDING",
    "EvalItem",
    "EvalResult",
    "ImageJudge",
    "Prediction",
    "ScoredItem",
    "build_items",
    "compare",
    "evaluate",
    "item_seed",
    "predict",
    "score",
]
