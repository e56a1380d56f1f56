"""UnifyBench++: nine tasks in four steps: build items, predict, score, compare. Knows nothing of training."""

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
