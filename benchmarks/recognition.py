"""Is it in the picture? Asked in words, by drawing, and both, on look-alikes of the embedded world.

    python benchmarks/recognition.py --concepts ivo lumen cleo rex --out recognition.json
    python benchmarks/taught_by_drawing.py --concepts bo chai --out taught.json
    python benchmarks/recognition.py --concepts bo chai --run "runs/{concept}" --taught taught.json
    python benchmarks/recognition.py --concepts bo chai --run "runs/study/claims/recognition/{concept}-*"

Half of the pictures show the concept somewhere new, half are others in such a place; of these, half differ in one
attribute only. Phases: `start` is the shipped model with fresh tokens, `before` the same after a look at the photos
(recipe photos-first; a run's own one where it has it), `after` the newest checkpoint of --run. With --taught the
figures of benchmarks/taught_by_drawing.py are written beside these.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sync_r1.config import Config
from sync_r1.files import read_json, write_text
from sync_r1.open_run import data_root, open_session
from sync_r1.recipes import apply_recipes
from sync_r1.run_folder import newest
from sync_r1.session import Session
from sync_r1.sft.trainer import run_sft
from sync_r1.unifybench.bootstrap import bootstrap_interval, macro_interval
from sync_r1.world.concepts import personas
from sync_r1.world.grammar import identity_of
from sync_r1.world.readings import impostor
from sync_r1.world.render import render_image

HOW = ("words", "drawing", "both")
Rights = dict[str, list[np.ndarray]]  # how → per picture 1 or 0: of those that show the concept, and of the others


def lookalikes(name: str, count: int, seed: int) -> tuple[list[Image.Image], np.ndarray]:
    """`count` pictures of the concept, then as many of others; and which of these [count] differ in one attribute."""
    persona, rng = personas()[name], np.random.default_rng([seed, list(personas()).index(name)])
    shown = [persona.thing(rng) for _ in range(count)]
    others = [impostor(rng, persona.thing(rng)) for _ in range(count)]
    differences = [sum(identity_of(other)[key] != value for key, value in persona.identity.items()) for other in others]
    return [render_image(thing) for thing in (*shown, *others)], np.array(differences) == 1


def judge(session: Session, pictures: Sequence[Image.Image]) -> Rights:
    """Who is right on which picture."""
    found = session.recognitions(pictures, "both")
    half = len(found) // 2
    votes = {
        "words": np.array([bool(one.words) for one in found]),
        "drawing": np.array([one.margin is not None and one.margin > 0 for one in found]),
        "both": np.array([one.present for one in found]),
    }
    return {how: [vote[:half].astype(float), 1.0 - vote[half:]] for how, vote in votes.items()}


def phases(name: str, run: Path | None, folder: Path) -> Iterator[tuple[str, Session]]:
    """The sessions to compare."""
    config = apply_recipes(["world", "photos-first"], Config())
    config.data.concepts, config.run.name, config.run.output_dir = [name], name, str(folder)
    config.run.folder.mkdir(parents=True, exist_ok=True)
    looked = next((path for path in (run and run / "sft", config.run.folder / "sft") if path and done(path)), None)
    session = open_session(config)
    yield "start", session
    if looked is None:
        run_sft(session, config, config.run.folder / "sft")
        yield "before", session
    else:
        yield "before", Session.open(checkpoint=looked, data=data_root(config), concept=name)
    if run is not None:
        yield "after", Session.open(checkpoint=run, data=data_root(config), concept=name)


def run_of(pattern: str | None, name: str) -> Path | None:
    """The run of a concept. ValueError unless there is exactly one."""
    if pattern is None:
        return None
    found = glob(pattern.format(concept=name))
    if len(found) != 1:
        raise ValueError(f"--run {pattern}: {len(found)} folders for {name}, there must be one; train it, or narrow it")
    return Path(found[0])


def done(folder: Path) -> bool:
    """Whether a look at the photos has left a checkpoint there."""
    return newest(folder) is not None


def row(rights: list[np.ndarray]) -> dict[str, Any]:
    """The mean of both sides, and each by itself: the concept recognised, and others rejected."""
    shown, others = (float(side.mean()) for side in rights)
    sides = {"recognised": shown, "rejected": others}
    return {"value": (shown + others) / 2, "ci95": bootstrap_interval([rights]), "n": sum(map(len, rights)), **sides}


def summary(concepts: dict[str, Rights]) -> dict[str, dict[str, Any]]:
    """how → the mean over concepts; concepts and pictures are resampled for the interval."""
    found = {}
    for how in HOW:
        own = {name: rights[how] for name, rights in concepts.items()}
        value = float(np.mean([row(rights)["value"] for rights in own.values()]))
        count = sum(len(side) for rights in own.values() for side in rights)
        found[how] = {"value": value, "ci95": macro_interval([own]), "n": count, "n_concepts": len(own)}
    return found


def measure(names: Sequence[str], run: str | None, folder: Path, count: int, seed: int) -> dict[str, Any]:
    """`<how>_<phase>`: accuracy over the concepts, and `concepts`: the same of each, with the share of others that
    differ in one attribute only and are told apart."""
    rights: dict[str, dict[str, Rights]] = {}
    concepts: dict[str, dict[str, Any]] = {}
    runs = {name: run_of(run, name) for name in names}
    for name in names:
        pictures, one = lookalikes(name, count, seed)
        for phase, session in phases(name, runs[name], folder):
            start = time.perf_counter()
            found = judge(session, pictures)
            rights.setdefault(phase, {})[name] = found
            seconds = round((time.perf_counter() - start) / len(pictures), 4)
            rows = {how: {**row(found[how]), "one_attribute": float(found[how][1][one].mean())} for how in HOW}
            concepts.setdefault(name, {})[phase] = {**rows, "seconds_per_picture": seconds}
            print(f"{name:8} {phase:7}", *(f"{how} {rows[how]['value']:.3f}" for how in HOW), flush=True)
    result: dict[str, Any] = {}
    for phase, own in rights.items():
        result |= {f"{how}_{phase}": found for how, found in summary(own).items()}
    return {**result, "concepts": concepts}


def taught_figures(path: Path | None) -> dict[str, Any]:
    """What benchmarks/taught_by_drawing.py wrote there, without its details. ValueError for another file."""
    if path is None:
        return {}
    content = read_json(path)
    if "taught_by_drawing" not in content:
        raise ValueError(f"{path} has no field taught_by_drawing; write it with benchmarks/taught_by_drawing.py --out")
    return {"taught_by_drawing": content["taught_by_drawing"]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["ivo", "lumen", "cleo", "rex"])
    parser.add_argument("--run", help="trained runs, with {concept} for the name, * for anything")
    parser.add_argument(
        "--folder", type=Path, default=Path("runs/recognition"), help="where looks are trained, and kept"
    )
    parser.add_argument("--pictures", type=int, default=60, help="of the concept, and as many of others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--taught", type=Path, help="what benchmarks/taught_by_drawing.py wrote")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    taught = taught_figures(arguments.taught)
    warnings.simplefilter("ignore", UserWarning)
    found = measure(arguments.concepts, arguments.run, arguments.folder, arguments.pictures, arguments.seed) | taught
    give(found, arguments, ("concepts", "run", "pictures", "seed"))


def give(found: dict[str, Any], arguments: argparse.Namespace, named: Sequence[str]) -> None:
    """Write the figures, with the arguments of these names, to `arguments.out`, or print them."""
    settings = {key: getattr(arguments, key) for key in named}
    text = json.dumps({**found, "arguments": settings}, indent=2)
    if arguments.out:
        write_text(arguments.out, text + "\n")
    else:
        print(text)


if __name__ == "__main__":
    main()
