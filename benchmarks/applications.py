"""What the applications are worth: every claim of studies/applications.yaml, measured on the embedded world.

    python benchmarks/applications.py
    python benchmarks/applications.py --concepts ivo --seeds 0 --claims A1 A2 --most pictures=2
    python benchmarks/applications.py --report

First every concept is trained with every seed, as a study's cells are: what is finished is skipped, what was stopped is
resumed. Then every cell, which is a claim with a concept and a seed, leaves its values in
`<folder>/<weights>/cells/<claim>/<concept>-<seed>.json`; the same command goes on where it was stopped. Other weights,
options or counts are measured anew. At the end --out and the section of --page are written from all cells that are
finished, also those of claims that --claims leaves out; --report does nothing else.

Claim A8 is about simulated learners and comes from docs/learners.json (benchmarks/learners.py), claim A13 about kills
of the studio from docs/studio_kills.json (benchmarks/studio_kills.py).
"""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import Any

import psutil
import torch
from application_claims import kills, simulated_learners
from application_claims.declared import Declared, load, restricted
from application_claims.fact_pictures import confirmed_facts
from application_claims.given import CONFIRMED, TRAINED, Given
from application_claims.judged import judge, judge_elsewhere, waited
from application_claims.section import write_section

from sync_r1.data.layout import Layout
from sync_r1.files import read_json, write_json
from sync_r1.folder_lock import hold
from sync_r1.signals import Stopped, on_signal
from sync_r1.study.runner import Runner
from sync_r1.study.study_file import Arm, Study
from sync_r1.study.weights import world_weights
from sync_r1.world.concepts import personas
from sync_r1.world.export import export_world

Rows = Callable[[Mapping[str, Any]], Iterable[dict[str, Any]]]
ELSEWHERE: dict[str, tuple[Rows, str]] = {  # measured by other commands: from their file to rows, the command
    "simulated_learners": (simulated_learners.rows, "python benchmarks/learners.py --out docs/learners.json"),
    "kills": (kills.rows, "python benchmarks/studio_kills.py --out docs/studio_kills.json"),
}
SECONDS = "seconds"  # what is timed, beside the claims


@dataclass(frozen=True)
class Cell:
    """A claim with a concept and a seed, and where its values go."""

    claim: str
    measure: str
    given: Given
    path: Path
    made_with: dict[str, Any]

    @property
    def name(self) -> str:
        return f"{self.claim}/{self.given.concept}-{self.given.seed}"

    def found(self) -> dict[str, Any] | None:
        """What it left; None where it is not finished, or was measured with other options."""
        if not self.path.is_file():
            return None
        values = read_json(self.path)
        if values["made_with"] != self.made_with:
            return None
        return dict(values)


def cells_of(study: Declared, place: Path) -> list[Cell]:
    """Every cell, claim by claim as declared; what is timed comes last, with the first seed."""
    found: list[Cell] = []
    for claim in study.claims:
        if claim.measure not in ELSEWHERE:
            found += _cells(study, place, claim.id, claim.measure, dict(claim.counts), study.seeds)
    return [*found, *_cells(study, place, SECONDS, SECONDS, study.seconds, study.seeds[:1])]


def _cells(
    study: Declared, place: Path, claim: str, measure: str, counts: dict[str, float], seeds: Sequence[int]
) -> Iterator[Cell]:
    for number, concept in enumerate(study.concepts):
        partner = study.concepts[(number + 1) % len(study.concepts)] if len(study.concepts) > 1 else ""
        for seed in seeds:
            given = Given(concept=concept, seed=seed, counts=counts, runs=place / "runs", partner=partner)
            made_with = {"counts": counts, "recipes": study.recipes, "set": study.set}
            if measure == "together":
                made_with["partner"] = partner
            yield Cell(claim, measure, given, place / "cells" / claim / f"{concept}-{seed}.json", made_with)


def measure(cell: Cell) -> float:
    """Measure one cell and write what it found. Returns the seconds that it took."""
    began = time.perf_counter()
    load_before = round(psutil.getloadavg()[0], 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        values = importlib.import_module(f"application_claims.{cell.measure}").measure(cell.given)
    spent = time.perf_counter() - began
    content = {
        "claim": cell.claim,
        "concept": cell.given.concept,
        "seed": cell.given.seed,
        "made_with": cell.made_with,
        "took_s": round(spent, 1),
        "load": load_before,
        "values": values,
    }
    write_json(cell.path, content)
    return spent


def measure_all(cells: Sequence[Cell], jobs: int) -> None:
    """Measure what is not finished, so many cells at a time, each in a process with one thread; timings alone."""
    todo = [cell for cell in cells if cell.found() is None]
    claims = [cell for cell in todo if cell.claim != SECONDS]
    timed = [cell for cell in todo if cell.claim == SECONDS]
    if jobs == 1:
        for cell in claims:
            _say(cell, measure(cell))
    else:
        with ProcessPoolExecutor(jobs, get_context("spawn"), _one_thread) as pool:
            running = {pool.submit(measure, cell): cell for cell in claims}
            try:
                for future in as_completed(running):
                    _say(running[future], future.result())
            except BaseException:
                for process in active_children():
                    process.terminate()  # a cell that was begun is measured anew
                pool.shutdown(cancel_futures=True)
                raise
    for cell in timed:
        _say(cell, measure(cell))


def _one_thread() -> None:
    torch.set_num_threads(1)


def _say(cell: Cell, seconds: float) -> None:
    print(f"{cell.name}: {seconds:.0f} s", flush=True)


def train(study: Declared, concepts: Sequence[str], place: Path, training: str, jobs: int, **options: Any) -> None:
    """Train concepts with every seed, as the cells of a study. ValueError names what failed."""
    if not concepts:
        return
    pairs = [(concept, seed) for concept in concepts for seed in study.seeds]
    arms = Study(
        name=study.name,
        recipes=study.recipes,
        set={**study.set, **options},
        cells=pairs,
        arms={training: Arm()},
    )
    failed = Runner(arms, place / "runs", jobs).run()
    if failed:
        raise ValueError(f"{len(failed)} trainings failed, first {failed[0].name}; see its log.txt, then run it again")


def train_confirmed(study: Declared, place: Path, jobs: int) -> None:
    """Train the concepts whose facts, read from pictures and confirmed, are not those that were typed."""
    facts = {name: confirmed_facts(personas()[name]) for name in study.concepts}
    differing = [name for name, found in facts.items() if found and found != personas()[name].sentences]
    root = place / "confirmed"
    if differing:
        export_world(root, differing, overwrite=True)
    for name in differing:
        path = Layout(root).info(name)
        write_json(path, {**read_json(path), "extra_info": facts[name]})
    train(study, differing, place, CONFIRMED, jobs, **{"data.root": str(root)})


def summarise(study: Declared, place: Path, files: Mapping[str, Path]) -> dict[str, Any]:
    """What docs/applications.json holds, from all cells that are finished and the `files` of other commands."""
    found: dict[str, list[dict[str, Any]]] = {}
    for cell in cells_of(study, place):
        values = cell.found()
        if values is not None:
            found.setdefault(cell.claim, []).append(values)
    claims = []
    for claim in study.claims:
        if claim.measure in ELSEWHERE:
            rows, command = ELSEWHERE[claim.measure]
            claims.append(judge_elsewhere(claim, rows(read_json(files[claim.measure])), command))
        else:
            claims.append(judge(claim, found.get(claim.id, []), f"{study.command} --claims {claim.id}"))
    timed = found.get(SECONDS, [])
    return {
        "study": study.name,
        "command": study.command,
        "setting": {
            "concepts": study.concepts,
            "seeds": study.seeds,
            "recipes": study.recipes,
            "weights": weights_name(),
            "torch": torch.__version__,
            "device": f"CPU, one thread; {psutil.cpu_count()} cores",
            "load": max((cell["load"] for cell in timed), default=None),
        },
        "claims": claims,
        "seconds": waited(timed),
    }


def weights_name() -> str:
    """Short name of the shipped networks by their content."""
    return world_weights()[:8]


def chosen(study: Declared, names: Sequence[str]) -> set[str]:
    """The claims to measure, and what is timed. ValueError for a claim that is not declared."""
    known = [claim.id for claim in study.claims] + [SECONDS]
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise ValueError(f"unknown claims {', '.join(unknown)}; there are {', '.join(known)}")
    return set(names or known)


def counted(study: Declared, pairs: Sequence[str]) -> dict[str, float]:
    """["pictures=2"] → {"pictures": 2.0}. ValueError for anything else, and for what no claim counts."""
    known = {name for claim in study.claims for name in claim.counts} | set(study.seconds)
    found = {}
    for pair in pairs:
        name, _, number = pair.partition("=")
        if name not in known or not number.replace(".", "", 1).isdigit():
            raise ValueError(f"--most {pair!r}: write NAME=NUMBER; names are {', '.join(sorted(known))}")
        found[name] = float(number)
    return found


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Train and measure what is missing, then write the results."""
    declared = load(given.study)
    study = restricted(declared, given.concepts, given.seeds, counted(declared, given.most))
    wanted, place = chosen(study, given.claims), given.folder / weights_name()
    if not given.report:
        with hold(place, "name another --folder"):
            cells = [cell for cell in cells_of(study, place) if cell.claim in wanted]
            open_cells = [cell for cell in cells if cell.found() is None]
            if open_cells:
                train(study, study.concepts, place, TRAINED, given.jobs)
            if any(cell.measure == "fact_pictures" for cell in open_cells):
                train_confirmed(study, place, given.jobs)
            measure_all(cells, given.jobs)
    result = summarise(study, place, {"simulated_learners": given.learners, "kills": given.kills})
    result["setting"]["most"] = given.most
    write_json(given.out, result)
    write_section(given.page, result)
    return result


def parser() -> argparse.ArgumentParser:
    """The options of this script."""
    found = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    found.add_argument("study", nargs="?", type=Path, default=Path("studies/applications.yaml"))
    found.add_argument("--claims", nargs="+", default=[], help="measure only these, such as A1 A6 seconds")
    found.add_argument("--concepts", nargs="+", default=[], help="in place of the study's")
    found.add_argument("--seeds", nargs="+", type=int, default=[], help="in place of the study's")
    found.add_argument("--most", nargs="+", default=[], help="other counts, such as pictures=2 practice_s=5")
    found.add_argument("--folder", type=Path, default=Path("runs/applications"), help="of trainings and cells")
    found.add_argument("--jobs", type=int, default=2, help="trainings or cells at a time, one thread each")
    found.add_argument("--report", action="store_true", help="write the results of what is finished; run nothing")
    found.add_argument("--out", type=Path, default=Path("docs/applications.json"))
    found.add_argument("--page", type=Path, default=Path("docs/applications.md"), help="whose section is written")
    found.add_argument("--learners", type=Path, default=Path("docs/learners.json"))
    found.add_argument("--kills", type=Path, default=Path("docs/studio_kills.json"))
    return found


def verdict(claim: dict[str, Any]) -> str:
    """One line for the terminal."""
    words = {True: "holds", False: "does not hold", None: "too few cells yet"}[claim["holds"]]
    return f"{claim['id']}  {words}  {json.dumps([claim['value'], claim['ci95'], claim['n']])}"


def main() -> None:
    """Run the study and print a line for every claim. A signal stops trainings and cells as well."""
    given = parser().parse_args()
    try:
        with on_signal():
            result = run(given)
    except Stopped as stopped:
        stopped.kept = stopped.kept or f"{given.folder} keeps what is finished"
        stopped.command = shlex.join(["python", *sys.argv])
        print(stopped.line(), file=sys.stderr)
        raise
    for claim in result["claims"]:
        print(verdict(claim))


if __name__ == "__main__":
    main()
