"""The drawing half teaches the words: is it in the picture, asked in words before and after?

    python benchmarks/taught_by_drawing.py --concepts ivo lumen cleo rex --out taught.json
    python benchmarks/taught_by_drawing.py --by training --undescribed

Nothing is told but photos: no facts, no answers, no labels of other pictures. After a look at the photos (recipe demo)
the image part teaches the words in one of two ways. --by description, the default: questions name the class alone, then
the description under which the image part finds the photos likeliest (apps/describe.py). --by training: its answers
about pictures are the reward (recipe taught-by-drawing); questions begin with the concept's one-line description, as
the benchmark's do, and with --undescribed they name its class alone.

The look-alikes are those of benchmarks/recognition.py, and `vqa` are the benchmark's questions about held-out photos.
Stopped, it goes on where it was; what has been trained below --folder is not trained again.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from recognition import HOW, Rights, give, judge, lookalikes, row, summary
from rich.console import Console

from sync_r1.apps.describe import describe_photos
from sync_r1.config import Config
from sync_r1.data.layout import Layout
from sync_r1.data.phrases import with_article
from sync_r1.experiment import run_experiment
from sync_r1.files import read_json, write_json
from sync_r1.open_run import open_session
from sync_r1.recipes import apply_recipes
from sync_r1.run_folder import checkpoint_name, newest
from sync_r1.scorers.text import exact
from sync_r1.session import Session
from sync_r1.sft.trainer import run_sft
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


def configured(name: str, folder: Path, described: bool) -> Config:
    """The configuration of the run in which the words are taught."""
    config = apply_recipes(["demo", "taught-by-drawing"], Config())
    config.data.root, config.data.concepts = str(concept_folder(name, folder, described)), [name]
    config.run.output_dir, config.run.name = str(folder), name if described else f"{name}-undescribed"
    return config


def looked(config: Config) -> Path:
    """The checkpoint after the look at the photos; the look is taken if need be."""
    folder = config.run.folder / "sft"
    if newest(folder) is None:
        config.run.folder.mkdir(parents=True, exist_ok=True)
        run_sft(open_session(config), config, folder)
    return folder


def taught(config: Config) -> Path:
    """The run in which the words are taught; it is made, or finished, if need be."""
    run = config.run.folder
    last = newest(run)
    if last is None or last.name != checkpoint_name(config.rl.max_steps):
        begun = (run / "config.yaml").is_file()
        resume = "latest" if last is not None else None
        summary = run_experiment(config, Console(quiet=True), resume, False, fresh=begun and last is None)
        if "stopped" in summary:
            raise SystemExit(128 + int(summary["stopped"]))
    return run


def trained_phases(config: Config) -> Iterator[tuple[str, Session]]:
    """After the look, and after the words were trained; both are made if need be."""
    run = taught(config)
    for phase, checkpoint in zip(PHASES, (run / "sft", run), strict=True):
        yield phase, Session.open(checkpoint=checkpoint, data=config.data.root, concept=config.data.concepts[0])


def described_phases(config: Config) -> Iterator[tuple[str, Session]]:
    """After the look, and with what the image part then says of the photos as the concept's info line."""
    session = Session.open(checkpoint=looked(config), data=config.data.root, concept=config.data.concepts[0])
    yield PHASES[0], session
    concept = session.concept
    look = describe_photos(session, concept.train_images)[0].text
    print(f"{concept.name:8} {look}", flush=True)
    yield PHASES[1], replace(session, concept=replace(concept, info=f"{concept.placeholder} is {look}."))


WAYS = {"description": described_phases, "training": trained_phases}


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


def measure(names: Sequence[str], folder: Path, count: int, seed: int, by: str, described: bool) -> dict[str, Any]:
    """`taught_by_drawing`: the rise of the accuracy in words; with its `vqa_change` and all accuracies by phase."""
    rights: dict[str, dict[str, Rights]] = {phase: {} for phase in PHASES}
    answers: dict[str, dict[str, list[np.ndarray]]] = {phase: {} for phase in PHASES}
    concepts: dict[str, dict[str, Any]] = {}
    for name in names:
        config = configured(name, folder, described)
        pictures, one = lookalikes(name, count, seed)
        concepts[name] = {}
        for phase, session in WAYS[by](config):
            found = rights[phase][name] = judge(session, pictures)
            answers[phase][name] = [answers_about_photos(session)]
            rows = {how: {**row(found[how]), "one_attribute": float(found[how][1][one].mean())} for how in HOW}
            vqa = float(answers[phase][name][0].mean())
            concepts[name][phase] = {**rows, "vqa": vqa}
            values = [f"{how} {rows[how]['value']:.3f}" for how in HOW]
            print(f"{name:8} {phase:7}", *values, f"vqa {vqa:.3f}", flush=True)
        if by == "training":
            concepts[name]["training_seconds"] = read_json(config.run.folder / "summary.json")["wall_time_s"]
    words = [{name: found["words"] for name, found in rights[phase].items()} for phase in PHASES]
    figures: dict[str, Any] = {**rise(*words), "vqa_change": rise(*(answers[phase] for phase in PHASES))}
    for phase in PHASES:
        figures |= {f"{how}_{phase}": found for how, found in summary(rights[phase]).items()}
    return {"taught_by_drawing": figures, "concepts": concepts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["ivo", "lumen", "cleo", "rex"])
    parser.add_argument("--by", choices=list(WAYS), default="description", help="how the image part teaches")
    parser.add_argument("--undescribed", action="store_true", help="with --by training: questions name the class alone")
    parser.add_argument("--folder", type=Path, default=Path("runs/taught-by-drawing"), help="of runs, which are kept")
    parser.add_argument("--pictures", type=int, default=60, help="of the concept, and as many of others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    described = given.by == "training" and not given.undescribed
    found = measure(given.concepts, given.folder, given.pictures, given.seed, given.by, described)
    give(found, given, ("concepts", "by", "undescribed", "pictures", "seed"))


if __name__ == "__main__":
    main()
