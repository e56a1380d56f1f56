"""Evaluate two models as one: the first answers and rewrites, the second draws.

`python -m sync_r1.study.joined_models A B OUT`.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path
from typing import Any

from sync_r1.config import load_config
from sync_r1.files import read_json, write_json
from sync_r1.scorer_factory import build_evaluator
from sync_r1.session import Session
from sync_r1.unifybench.evaluate import evaluate
from sync_r1.unifybench.results import EvalResult


def join(understanding: Path, generation: Path, out: Path) -> EvalResult:
    """Write `<out>/eval/{before,after}.json` and summary.json as a training run would.

    Args:
        understanding, generation: finished runs on the same concept. The start is the first one's.
    """
    reader, drawer = (Session.open(checkpoint=run) for run in (understanding, generation))
    if reader.concept.name != drawer.concept.name:
        raise ValueError(
            f"{understanding} learned {reader.concept.name!r} and {generation} {drawer.concept.name!r}; join one "
            "concept's runs"
        )
    reader.run = f"{reader.run} + {drawer.run}"
    config = load_config(understanding / "config.yaml")
    judge, clip, name = build_evaluator(config)
    (out / "eval").mkdir(parents=True, exist_ok=True)
    shutil.copyfile(understanding / "eval" / "before.json", out / "eval" / "before.json")
    result = evaluate(reader, out / "eval", "after", image_judge=judge, clip=clip, judge_name=name, drawer=drawer)
    parts: list[dict[str, Any]] = [read_json(run / "summary.json") for run in (understanding, generation)]
    summary = {key: parts[0][key] for key in ("versions", "device")}
    for key in ("nfe", "steps"):
        summary[key] = sum(part[key] for part in parts)
    write_json(out / "summary.json", summary)
    return result


if __name__ == "__main__":
    join(*map(Path, sys.argv[1:4]))
