"""How many times as long plain code takes (benchmarks/plain.py): same weights, same work, runs in turn, medians of
paired ratios.

Models: tiny (the embedded world's), middle (random: hidden 512, 12 layers, 256 of 8192 codes, 50295 text ids) and full
    (random Show-o at 512 px, for a GPU). Work: `answer` is 64 greedy tokens after a picture and a question, batch 8;
    `draw, alone` is eight images with guidance. `step` is a whole Sync-GRPO step, one prompt × 8 trajectories with
    guidance and KL, all weights and a concept's rows trained, by our trainer, and by plain code with the same seeds,
    hence the same trajectories; its parts are a `draw` and an `update` (log-probabilities and backward). Ours replays K
    of T steps there, as the recipes do; `update, all T steps` is ours without that. Plain code goes row by row and pads
    drawing prompts to one length: with --plain-rows it does some of its eight rows, and their figures stand for
    all. `memory` is the growth of a child process, or of the GPU's memory, during an update over T, and over 2T, steps;
    two trajectories of the middle model, one after the other in plain code, eight of the tiny.

The first run counts FLOPs and bytes and warms up; its seconds are a run only on a CPU, for models whose products are so
large that counting costs nothing beside them. Rows are written after every run, so a stop keeps what is done; the first
run of a unit of work replaces that unit's rows in the file. After --minutes, a unit ends with the runs it has, one at
least.

Run: make speed python benchmarks/speed.py --device cuda --dtype bf16 --models tiny,middle,full --runs 2 --out
    benchmarks/results_gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import torch
from counting import Counter, rates
from workload import SIZES, Parts, Workload

from sync_r1.files import write_text
from sync_r1.rl.trainer import Experience

GOALS = {"answer": 20, "draw": 4, "draw, alone": 4, "update": 4, "step": 5}
UNITS = ["memory", "answer", "draw", "step"]
MEMORY_STEPS = {"tiny": 18, "middle": 6}
Pair = tuple[Parts, Parts]  # ours, plain
Work = Callable[[], Parts]
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="tiny,middle")
    parser.add_argument(
        "--only", default="memory,answer,step", help=f"of {', '.join(UNITS)}; step draws and updates too"
    )
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=["fp32", "bf16"], default="fp32", help="bf16 is autocast")
    parser.add_argument("--runs", type=int, default=5, help="of each unit of work, both sides in turn")
    parser.add_argument(
        "--plain-rows",
        type=int,
        choices=[2, 4, 8],
        default=8,
        help="rows of plain code's step, whose seconds count 8 / rows times",
    )
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which a unit begins no other run")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results.json", help="rows as JSON")
    parser.add_argument("--page", type=Path, default=None, help="write the table to this Markdown file")
    # side, model and T of what a process of its own measures
    parser.add_argument("--child", nargs=3, default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        side, name, timesteps = options.child
        print(peak_growth(side, name, int(timesteps), options.device, options.dtype))
        return
    warnings.filterwarnings("ignore", message="prompt has")
    units = chosen(options.only, UNITS, "--only")
    for name in chosen(options.models, list(SIZES), "--models"):
        if "memory" in units and name in MEMORY_STEPS:
            found = [memory(name, options)]
            write(found, options)
            print(table(found), flush=True)
        if units != ["memory"]:
            measure(name, units, options)
    if options.page:
        write_text(options.page, page(json.loads(options.out.read_text())))


def chosen(given: str, known: Sequence[str], option: str) -> list[str]:
    """Names between commas; the program ends at one that is not `known`."""
    names = given.split(",")
    if unknown := [name for name in names if name not in known]:
        raise SystemExit(f"{option} names {', '.join(unknown)}; it takes {', '.join(known)}, separated by commas")
    return names


def measure(name: str, units: Sequence[str], options: argparse.Namespace) -> None:
    """Rows of one model, written after every run."""
    work = Workload(name, options.device, options.dtype, plain_rows=options.plain_rows)
    limits = rates(options.device, torch.bfloat16 if options.dtype == "bf16" else torch.float32)
    for unit in units:
        if unit != "memory":
            ours, theirs = getattr(work, f"our_{unit}"), getattr(work, f"plain_{unit}")
            keep = name != "tiny" and options.device == "cpu"
            found: list[Row] = []
            for pairs, counts in alternate(ours, theirs, work.counter, options.runs, 60 * options.minutes, keep=keep):
                sampled = {"plain_rows": options.plain_rows} if unit == "step" else {}
                found = [{**row(name, part, pairs, counts, limits, options), **sampled} for part in pairs[0][0]]
                write(found, options)
                print(f"{name}, {unit}: run {len(pairs)} of {options.runs}", file=sys.stderr, flush=True)
            print(table(found), flush=True)
    work.close()


def alternate(
    ours: Work, theirs: Work, counter: Counter, runs: int, seconds: float, *, keep: bool
) -> Iterator[tuple[list[Pair], Pair]]:
    """After every run, figures of both sides so far, in turn, and those of the first run, in which `counter` counted.

    Ends when there are `runs` or `seconds` are over.

    Args:
        keep: the first run is one of them.
    """
    began = time.monotonic()
    with counter:
        counts = (ours(), theirs())
    pairs = [counts] if keep else []
    if keep:
        yield pairs, counts
    while len(pairs) < runs and (not pairs or time.monotonic() < began + seconds):
        pairs.append((ours(), theirs()))
        yield pairs, counts


def row(
    name: str, part: str, pairs: list[Pair], counts: Pair, peak: tuple[float, float], options: argparse.Namespace
) -> Row:
    """Medians of a part, and the seconds that FLOPs at the rate of a large product, and bytes at that of a copy, would
    take.
    """
    seconds = [(ours[part].seconds, theirs[part].seconds) for ours, theirs in pairs]
    middle = [statistics.median(side) for side in zip(*seconds)]
    limits = [(counted[part].flops / peak[0], counted[part].bytes / peak[1]) for counted in counts]
    return {
        "name": part,
        "model": name,
        "goal": GOALS.get(part),
        "ours_s": round(middle[0], 4),
        "plain_s": round(middle[1], 4),
        "ratio": round(statistics.median(theirs / ours for ours, theirs in seconds), 2),
        "runs": len(pairs),
        "machine": machine(options),
        "flop_ratio": round(counts[1][part].flops / counts[0][part].flops, 2),
        "ours_limits_s": [round(limit, 4) for limit in limits[0]],  # FLOPs, bytes
        "plain_limits_s": [round(limit, 4) for limit in limits[1]],
    }


def machine(options: argparse.Namespace) -> str:
    if options.device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, {options.dtype}, torch {torch.__version__}"
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    return (
        f"{processor}, {torch.get_num_threads()} threads, {options.dtype}, torch {torch.__version__}, load "
        f"{os.getloadavg()[0]:.1f}"
    )


def memory(name: str, options: argparse.Namespace) -> Row:
    """MB by which an update over T and over 2T steps grows a process, both sides."""
    timesteps, grown = MEMORY_STEPS[name], {}
    for side in ("ours", "plain"):
        for total in (timesteps, 2 * timesteps):
            command = [
                sys.executable,
                __file__,
                "--child",
                side,
                name,
                str(total),
                "--device",
                options.device,
                "--dtype",
                options.dtype,
            ]
            environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
            done = subprocess.run(command, env=environment, check=True, stdout=subprocess.PIPE, text=True)
            grown[f"{side}_mb_at_{'T' if total == timesteps else '2T'}"] = round(
                int(done.stdout.splitlines()[-1]) / 2**20
            )
    return {"name": "memory", "model": name, "goal": None, "timesteps": timesteps, **grown, "machine": machine(options)}


def peak_growth(side: str, name: str, timesteps: int, device: str, dtype: str) -> int:
    """Bytes by which memory grows during an update over `timesteps` steps."""
    work = Workload(name, device, dtype, group=8 if name == "tiny" else 2, timesteps=timesteps)
    rollout = work.trainer.roll_out()
    experience = Experience(rollout, work.trainer.advantage(rollout, work.trainer.score(rollout)))
    before = used(device)
    clear_peak(device)
    (work.our_update if side == "ours" else work.plain_update)(experience)
    return peak(device) - before


def used(device: str) -> int:
    return torch.cuda.memory_allocated() if device.startswith("cuda") else psutil.Process().memory_info().rss


def clear_peak(device: str) -> None:
    """So that the next peak is of what follows."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
    else:
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak(device: str) -> int:
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


def write(found: list[Row], options: argparse.Namespace) -> None:
    """Put rows into the file, in place of those of the same name and model."""
    earlier = json.loads(options.out.read_text()) if options.out.exists() else []
    new = {(row["model"], row["name"]) for row in found}
    kept = [row for row in earlier if (row["model"], row["name"]) not in new]
    write_text(options.out, json.dumps([*kept, *found], indent=1) + "\n")


def table(found: list[Row]) -> str:
    """Markdown."""
    lines = []
    for row in found:
        if row["name"] == "memory":
            ours, theirs = (
                [f"{row[f'{side}_mb_at_{total}']:,} MB" for total in ("T", "2T")] for side in ("ours", "plain")
            )
            steps = f"T = {row['timesteps']}, {2 * row['timesteps']}"
            lines.append(
                f"| {row['model']} | memory of an update, {steps} | {', '.join(ours)} | {', '.join(theirs)} |"
                + " |" * 6
            )
            continue
        share = max(row["ours_limits_s"]) / row["ours_s"]
        goal = f"≥ {row['goal']}×" if row["goal"] else ""
        limits = " / ".join(f"{limit:.3g}" for limit in row["ours_limits_s"])
        part = f" ({row['plain_rows']} of 8 rows)" if row.get("plain_rows", 8) < 8 else ""
        lines.append(
            f"| {row['model']} | {row['name']} | {row['ours_s']:.3g} | {row['plain_s']:.4g}{part} | "
            f"**{row['ratio']}×** | {goal} | {row['flop_ratio']}× | {limits} | {share:.0%} | {row['runs']} |"
        )
    return "\n".join(lines)


def page(found: list[Row]) -> str:
    columns = ["model", "work", "ours, s", "plain, s", "plain / ours", "goal", "FLOPs plain / ours"]
    head = "| " + " | ".join([*columns, "limits of ours: FLOPs / bytes, s", "share reached", "runs"]) + " |"
    places = sorted({f"{row['model']}, {row['name']}: {row['machine']}" for row in found})
    text = "# Benchmark\n\nWritten by `make speed`; what the columns mean is in [performance.md](performance.md).\n\n"
    text += head + "\n" + "|---" * head.count(" |") + "|\n" + table(found) + "\n"
    if any(row.get("plain_rows", 8) < 8 for row in found):
        text += "\n*n of 8 rows*: plain code goes row by row; it did n of them, and its seconds count 8 / n times.\n"
    return text + "\nMeasured on:\n" + "".join(f"- {place}\n" for place in places)


if __name__ == "__main__":
    main()
