"""Run the cells of a study: each is a run folder, made in a process of its own, skipped when finished, resumed when
stopped.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console

from sync_r1.config import Config, load_config, save_config
from sync_r1.console import say
from sync_r1.files import read_json, write_text
from sync_r1.folder_lock import clear, hold
from sync_r1.metrics_file import read_metrics
from sync_r1.progress import WorkProgress
from sync_r1.run_folder import CHECKPOINTS, checkpoints
from sync_r1.study.dgs_summary import TREE
from sync_r1.study.study_file import Study, fingerprint, run_order
from sync_r1.unifybench.results import EvalResult, ScoredItem, strata

CELL_FILE = "cell.json"
DGS = (
    "dgs/acceptance_rate",
    "dgs/threshold",
    "dgs/preview_corr",
    "dgs/nfe",
    "dgs/nfe_saved",
    "dgs/reward_var_kept",
    "dgs/reward_var_all",
    *TREE.values(),
)
CURVE = (
    "step",
    "nfe_total",
    "reward",
    "text/reward",
    "image/reward",
    "val/reward",
    "val/evaluator",
    "test/evaluator",
    "kl",
    "grad_norm",
    *DGS,
)


@dataclass(frozen=True)
class Cell:
    """One arm on one concept with one seed."""

    arm: str
    concept: str
    seed: int

    @property
    def name(self) -> str:
        return f"{self.arm}/{self.concept}-{self.seed}"


def name_of(values: Mapping[str, Any]) -> str:
    """Name of the cell whose cell.json this is."""
    return Cell(values["arm"], values["concept"], values["seed"]).name


@dataclass
class Runner:
    """Works through a study's cells, `jobs` at a time, one compute thread each.

    Args:
        folder: receives <arm>/<concept>-<seed>/, one run folder per cell, with cell.json when finished.
    """

    study: Study
    folder: Path
    jobs: int = 2
    console: Console = field(default_factory=Console)
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    stopping: bool = False

    def cells(self) -> list[Cell]:
        """Every cell, arm by arm as declared: what is declared first is complete first."""
        return [Cell(arm, *pair) for arm in run_order(self.study.arms) for pair in self.study.pairs(arm)]

    def place(self, cell: Cell) -> Path:
        return self.folder / cell.arm / f"{cell.concept}-{cell.seed}"

    def run(self) -> list[Cell]:
        """Run what is not finished; returns the cells that failed.

        A signal stops all of them; they resume at the next call.
        """
        todo = [cell for cell in self.cells() if not self.finished(cell)]
        failed: list[Cell] = []
        if not todo:
            return failed
        total = len(todo)
        title = f"study {self.study.name}, cells"
        with WorkProgress(self.console, title, total) as work, ThreadPoolExecutor(self.jobs) as pool:
            running: dict[Future[None], Cell] = {}
            done: set[Cell] = {cell for cell in self.cells() if cell not in todo}
            try:
                while todo or running:
                    for cell in self._ready(todo, done, self.jobs - len(running)):
                        todo.remove(cell)
                        running[pool.submit(self.make, cell)] = cell
                    if not running:  # the rest needs cells that failed
                        failed += todo
                        break
                    finished, _ = wait(running, timeout=5, return_when=FIRST_COMPLETED)
                    for future in finished:
                        cell = running.pop(future)
                        if error := future.exception():
                            failed.append(cell)
                            say(f"{cell.name}: {error}", "red", console=self.console)
                        else:
                            done.add(cell)
                            minutes = self._read(cell)["wall_time_s"] / 60
                            so_far = f"{len(done)} of {len(self.cells())} cells finished"
                            say(f"{cell.name}: {minutes:.1f} min, {so_far}", console=self.console)
                    work.update(total - len(todo) - len(running) + sum(map(self._share, running.values())))
            except BaseException:
                self.stop()
                raise
        return failed

    def stop(self, patience: float = 60.0) -> None:
        """Ask the runs to finish their step and to save, for which they get `patience` seconds."""
        self.stopping = True
        running = list(self.processes)
        for process in running:
            process.terminate()
        deadline = time.monotonic() + patience
        for process in running:
            try:
                process.wait(max(deadline - time.monotonic(), 0))
            except subprocess.TimeoutExpired:
                process.kill()

    def _ready(self, todo: Sequence[Cell], done: set[Cell], free: int) -> list[Cell]:
        def needs(cell: Cell) -> set[Cell]:
            return {Cell(arm, cell.concept, cell.seed) for arm in self.study.arms[cell.arm].needs}

        return [cell for cell in todo if needs(cell) <= done][: max(free, 0)]

    def _share(self, cell: Cell) -> float:
        """How much of a running cell is done, by its lines of metrics."""
        path = self.place(cell) / "metrics.jsonl"
        steps = self.config(cell).rl.max_steps
        if path.is_file():
            return min(path.read_bytes().count(b"\n") / steps, 1.0) * 0.95
        return 0.0

    def finished(self, cell: Cell) -> bool:
        """Whether cell.json is there and was made with what the study says now, and so were the cells it builds on."""
        if not (self.place(cell) / CELL_FILE).is_file():
            return False
        if not all(self.finished(Cell(arm, cell.concept, cell.seed)) for arm in self.study.arms[cell.arm].needs):
            return False
        return self._read(cell)["made_with"] == self._made_with(cell)

    def restore(self, path: Path) -> list[dict[str, Any]]:
        """Take over what an earlier study wrote to `<out>_cells.json`, so that a lost run folder does not mean to start
        anew.

        Returns all of its cells, those of arms that are gone too. Raises ValueError for a file that is none of ours.
        """
        declared = set(self.cells())
        try:
            earlier = []
            if path.is_file():
                earlier = json.loads(path.read_text(encoding="utf-8"))
            cells = [(Cell(values["arm"], values["concept"], values["seed"]), values) for values in earlier]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(
                f"{path} is damaged ({error!r}); put an undamaged copy there, or delete it to start anew"
            ) from error
        missing = [
            (cell, values)
            for cell, values in cells
            if cell in declared and not (self.place(cell) / CELL_FILE).is_file()
        ]
        for cell, values in missing:
            write_text(self.place(cell) / CELL_FILE, json.dumps(values) + "\n")
        if taken := sum(self.finished(cell) for cell, _ in missing):
            taken_over = f"{taken} finished cells taken over from {path}"
            say(f"{taken_over}; --folder and --out elsewhere would run them anew", console=self.console)
        return [values for _, values in cells]

    def results(self) -> list[dict[str, Any]]:
        """cell.json of every finished cell of the study as it is declared now.

        Its curve is read anew where all of it is still there.
        """
        cells = [(self._read(cell), curve_of(self.place(cell))) for cell in self.cells() if self.finished(cell)]
        return [
            {**values, "curve": curve if len(curve) >= len(values["curve"]) else values["curve"]}
            for values, curve in cells
        ]

    def _made_with(self, cell: Cell) -> str:
        arm = self.study.arms[cell.arm]
        if arm.joined:
            parts = [
                self._read(Cell(name, cell.concept, cell.seed))["made_with"]
                for name in (arm.understanding, arm.generation)
            ]
            return "+".join(parts)
        return fingerprint(self.config(cell), arm.command)

    def _read(self, cell: Cell) -> dict[str, Any]:
        return json.loads((self.place(cell) / CELL_FILE).read_text(encoding="utf-8"))

    def config(self, cell: Cell) -> Config:
        """The cell's configuration; `same_nfe_as` is turned into steps.

        FileNotFoundError while that other cell is not finished.
        """
        config = self.study.config(cell.arm, cell.concept, cell.seed, self.folder)
        if other := self.study.arms[cell.arm].same_nfe_as:
            rl = config.rl
            spent = self._read(Cell(other, cell.concept, cell.seed))["nfe"]
            per_step = rl.prompts_per_step * rl.num_generations * rl.images_per_text * rl.generation_timesteps
            per_step *= 2 if rl.guidance_scale else 1
            if not spent:
                raise RuntimeError(f"arm {other!r} spent no image evaluations to compare with; drop same_nfe_as")
            rl.max_steps = max(round(spent / per_step), 1) * rl.draw_every
            config.validate()
        return config

    def make(self, cell: Cell) -> None:
        """Train and evaluate one cell (or join two finished ones), then write its cell.json.

        RuntimeError with the log's end on failure.
        """
        place, arm = self.place(cell), self.study.arms[cell.arm]
        config = self.config(cell)
        wanted = place / "wanted.yaml"
        with hold(place, "name another --folder"):  # a run that outlived its study may still work there
            if not _same(wanted, config):
                clear(place)  # what is there was made with other options
            save_config(config, wanted)
        started = time.monotonic()
        if arm.joined:
            parts = [Cell(name, cell.concept, cell.seed) for name in (arm.understanding, arm.generation)]
            for part in parts:
                if not checkpoints(self.place(part)):
                    self.make(part)  # taken over from an earlier study without its weights
            self._process(
                place,
                [sys.executable, "-m", "sync_r1.study.joined_models", *map(str, map(self.place, parts)), str(place)],
            )
        else:
            resume = ["--resume", "latest"] if checkpoints(place) else []
            if not resume:
                shutil.rmtree(place / CHECKPOINTS, ignore_errors=True)
            if arm.command == "sft":
                command = ["sft", "--evaluate"]
            else:
                command = ["train"]
            self._process(place, [sys.executable, "-m", "sync_r1.cli", *command, "--config", str(wanted), *resume])
        self._finish(cell, place, time.monotonic() - started)

    def _process(self, place: Path, command: list[str]) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
        with (place / "log.txt").open("ab") as log:
            if self.stopping:
                raise RuntimeError("the study is being stopped")
            # a session of its own: Ctrl-C reaches the study alone, and each run is asked to stop once
            process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True
            )
            self.processes.append(process)
            code = process.wait()
            self.processes.remove(process)
        if code:
            last = (place / "log.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
            raise RuntimeError(f"exit status {code}; {place / 'log.txt'} ends: {' | '.join(last)}")

    def _finish(self, cell: Cell, place: Path, seconds: float) -> None:
        before, after = (EvalResult.read(place / "eval" / f"{phase}.json") for phase in ("before", "after"))
        summary = read_json(place / "summary.json")
        values = {
            "arm": cell.arm,
            "concept": cell.concept,
            "seed": cell.seed,
            "made_with": self._made_with(cell),
            "steps": summary["steps"],
            "nfe": summary["nfe"],
            "wall_time_s": round(seconds, 1),
            "versions": summary["versions"],
            "device": summary["device"],
            "judge": after.judge,
            "items": scores_of(before, after),
            "curve": curve_of(place),
        }
        write_text(place / CELL_FILE, json.dumps(values) + "\n")
        for checkpoint in checkpoints(place)[:-1]:
            shutil.rmtree(checkpoint)  # the last one is enough to look at and to join


def _same(wanted: Path, config: Config) -> bool:
    """Whether a folder was begun with this configuration; not when its file names options that are gone."""
    try:
        return wanted.is_file() and load_config(wanted) == config
    except ValueError:
        return False


def scores_of(before: EvalResult, after: EvalResult) -> list[list[Any]]:
    """[task, stratum, score before, score after, item] of every item that both phases scored."""
    found = {item.key: item.score for item in after.items}
    rows: list[list[Any]] = []
    for task in before.tasks:
        own: list[ScoredItem] = [item for item in before.items if item.task == task]
        for stratum, items in strata(own).items():
            pairs = [(item.score, found.get(item.key), item.id) for item in items]
            rows += [
                [task, stratum, first, second, name]
                for first, second, name in pairs
                if first is not None and second is not None
            ]
    return rows


def curve_of(place: Path) -> list[dict[str, float]]:
    """The finite values of metrics.jsonl that a study needs, one row per step; empty without that file."""
    rows = read_metrics(place / "metrics.jsonl")
    found: list[dict[str, float]] = []
    for row in rows:
        found.append({key: row[key] for key in CURVE if math.isfinite(row.get(key, math.nan))})
    return found
