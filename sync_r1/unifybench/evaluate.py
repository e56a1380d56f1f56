"""One phase of the benchmark from start to file: build items, predict, score, write."""

from __future__ import annotations

import warnings
from dataclasses import asdict, replace
from pathlib import Path

from sync_r1.distributed import Processes
from sync_r1.scorers.clip import ClipScorer
from sync_r1.session import Session
from sync_r1.unifybench.predict import Progress, predict, silent
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import GENERATION, EvalResult
from sync_r1.unifybench.score import ImageJudge, check_judges, score
from sync_r1.unifybench.tasks import build_items

MAX_NOTES = 20


def evaluate(
    session: Session,
    out: Path | str,
    phase: str = "after",
    *,
    image_judge: ImageJudge | None = None,
    clip: ClipScorer | None = None,
    judge_name: str = "",
    clip_references: int = 1,
    progress: Progress = silent,
    processes: Processes | None = None,
    drawer: Session | None = None,
) -> EvalResult:
    """Run the tasks of `session.options` and write `<out>/<phase>.json` and `<out>/images/`; the report looks for them
    in `<run>/eval`.

    Items and seeds depend on the concept and options only, never on phase or weights: results of two phases can be
    compared item by item. Several `processes` predict different batches; the main one scores and writes, and all return
    the result. A `drawer` of the same concept draws what `session` wrote.

    Raises:
        ValueError: unknown or empty tasks, drawings without a judge or CLIP; before anything is predicted.
    """
    options, out, processes = session.options, Path(out), processes or Processes()
    items = build_items(
        session.concept, root=session.root, tasks=options.tasks, max_items=options.max_items, seed=options.seed
    )
    check_judges(any(item.task in GENERATION for item in items), image_judge, clip)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        predictions = predict(session, items, out, phase, progress, processes, drawer)

    def judged() -> EvalResult:
        result = score(
            items,
            predictions,
            session.concept,
            image_judge,
            clip,
            out=out,
            judge_name=judge_name,
            clip_references=clip_references,
            seed=options.seed,
        )
        result.notes = _notes([str(warning.message) for warning in caught if issubclass(warning.category, UserWarning)])
        protocol = replace(Protocol().with_decoding(options), clip_reference_count=clip_references)
        result.protocol = {"model": session.run, **asdict(protocol)}
        result.write(out / f"{phase}.json")
        return result

    return processes.on_main(judged)


def _notes(messages: list[str]) -> list[str]:
    """Distinct warnings in order, the last line counting those left out."""
    distinct = list(dict.fromkeys(messages))
    more = len(distinct) - MAX_NOTES
    if more <= 0:
        return distinct
    return [*distinct[:MAX_NOTES], f"and {more} more of the kind"]
