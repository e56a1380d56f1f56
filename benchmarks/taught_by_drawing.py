"""The drawing half teaches the words: is it in the picture, asked in words before and after?

    python benchmarks/taught_by_drawing.py --concepts ivo lumen cleo rex --out taught.json

Nothing is told but photos: no facts, no answers, no labels of other pictures. Questions begin with the concept's
one-line description, as the benchmark's do; with --undescribed they name its class alone, and only the photos say what
it looks like. After a look at the photos the image part teaches the words (recipes demo and taught-by-drawing). The
look-alikes are those of benchmarks/recognition.py, and `vqa` are the benchmark's questions about held-out photos.
Stopped, it goes on where it was; what has been trained below --folder is not trained again.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from recognition import HOW, Rights, give, judge, lookalikes, row, summary
from rich.console import Console

from sync_r1.config import Config
from sync_r1.data.layout import Layout
from sync_r1.data.phrases import with_article
from sync_r1.experiment import run_experiment
from sync_r1.files import read_json, write_json
from sync_r1.recipes import apply_recipes
from sync_r1.run_folder import checkpoint_name, newest
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.unifybench.bootstrap import RESAMPLES, paired_interval
from sync_r1.world.concepts import personas
from sync_r1.world.export import export_world

PHASES = ("before", "taught")


def concept_folder(name: str, folder: Path, described: bool) -> Path:
    """The concept's data below `folder`; without a description its info line names the class alone."""
    root = folder / ("data" if described else "data-undescribed") / name
    if not root.is_dir():
        partial = root.with_name(f".{name}.partial")
        export_world(partial, [name], overwrite=True)
        if not described:
            path, persona = Layout(partial).info(name), personas()[name]
            said = f"{persona.placeholder} is {with_article(persona.identity['kind'])}."
            write_json(path, {**read_json(path), "info": said})
        partial.rename(root)
    return root


def taught(name: str, folder: Path, described: bool) -> Config:
    """The configuration of the run in which the words are taught; the run is made, or finished, if need be."""
    config = apply_recipes(["demo", "taught-by-drawing"], Config())
    config.data.root, config.data.concepts = str(concept_folder(name, folder, described)), [name]
    config.run.output_dir, config.run.name = str(folder), name if described else f"{name}-undescribed"
    run = config.run.folder
    last = newest(run)
    if last is None or last.name != checkpoint_name(config.rl.max_steps):
        begun = (run / "config.yaml").is_file()
        resume = "latest" if last is not None else None
        summary = run_experiment(config, Console(quiet=True), resume, False, fresh=begun and last is None)
        if "stopped" in summary:
            raise SystemExit(128 + int(summary["stopped"]))
    return config


def answers_about_photos(session: Session) -> np.ndarray:
    """1 or 0 for every question of the benchmark's task vqa."""
    items = [item for item in session.concept.items if item.kind == "vqa"]
    codes = session.encode([item.image for item in items if item.image is not None])
    contexts = [session.question_context(item.question, own) for item, own in zip(items, codes, strict=True)]
    return np.array([exact(text, item.answer) for text, item in zip(session.answers(contexts), items, strict=True)])


def rise(before: Mapping[str, Sequence[np.ndarray]], after: Mapping[str, Sequence[np.ndarray]]) -> dict[str, Any]:
    """Mean over concepts of the mean over strata, after minus before; concepts and items are resampled in pairs.

    Both: concept → its strata, each of which holds 1 or 0 per item, [n].
    """
    pairs = [[[np.stack(both) for both in zip(before[name], after[name], strict=True)]] for name in before]
    changes = [np.mean([side[1].mean() - side[0].mean() for side in tasks[0]]) for tasks in pairs]
    interval = paired_interval(pairs, lambda first, second: second - first, resamples=RESAMPLES)
    count = sum(side.shape[1] for tasks in pairs for side in tasks[0])
    return {"value": float(np.mean(changes)), "ci95": interval, "n": count, "n_concepts": len(pairs)}


def measure(names: Sequence[str], folder: Path, count: int, seed: int, described: bool) -> dict[str, Any]:
    """`taught_by_drawing`: the rise of the accuracy in words; with its `vqa_change` and all accuracies by phase."""
    rights: dict[str, dict[str, Rights]] = {phase: {} for phase in PHASES}
    answers: dict[str, dict[str, list[np.ndarray]]] = {phase: {} for phase in PHASES}
    concepts: dict[str, dict[str, Any]] = {}
    for name in names:
        config = taught(name, folder, described)
        run = config.run.folder
        pictures, one = lookalikes(name, count, seed)
        summary_file = read_json(run / "summary.json")
        concepts[name] = {"training_seconds": summary_file["wall_time_s"]}
        for phase, checkpoint in zip(PHASES, (run / "sft", run), strict=True):
            session = Session.open(checkpoint=checkpoint, data=config.data.root, concept=name)
            found = rights[phase][name] = judge(session, pictures)
            answers[phase][name] = [answers_about_photos(session)]
            rows = {how: {**row(found[how]), "one_attribute": float(found[how][1][one].mean())} for how in HOW}
            vqa = float(answers[phase][name][0].mean())
            concepts[name][phase] = {**rows, "vqa": vqa}
            values = [f"{how} {rows[how]['value']:.3f}" for how in HOW]
            print(f"{name:8} {phase:7}", *values, f"vqa {vqa:.3f}", flush=True)
    words = [{name: found["words"] for name, found in rights[phase].items()} for phase in PHASES]
    figures: dict[str, Any] = {**rise(*words), "vqa_change": rise(*(answers[phase] for phase in PHASES))}
    for phase in PHASES:
        figures |= {f"{how}_{phase}": found for how, found in summary(rights[phase]).items()}
    return {"taught_by_drawing": figures, "concepts": concepts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["ivo", "lumen", "cleo", "rex"])
    parser.add_argument("--undescribed", action="store_true", help="questions name the concept's class alone")
    parser.add_argument("--folder", type=Path, default=Path("runs/taught-by-drawing"), help="of runs, which are kept")
    parser.add_argument("--pictures", type=int, default=60, help="of the concept, and as many of others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    found = measure(given.concepts, given.folder, given.pictures, given.seed, not given.undescribed)
    give(found, given, ("concepts", "undescribed", "pictures", "seed"))


if __name__ == "__main__":
    main()
