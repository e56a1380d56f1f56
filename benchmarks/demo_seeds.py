"""The demo for several seeds: how much both overall scores gain on held-out prompts, and what it cost.

Runs that are already finished (runs/demo-seed<N>/summary.json) are kept, so the script can be stopped and started
again.
Run: python benchmarks/demo_seeds.py --seeds 0 1 2 3 --out docs/demo.json
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path
from typing import Any

from rich.console import Console

from sync_r1.config import load_config
from sync_r1.experiment import run_experiment
from sync_r1.recipes import apply_recipes

OVERALL = ("understanding", "generation")


def demo(seed: int, concept: str, runs: Path) -> dict[str, Any]:
    """Summary of the demo with this seed and concept, from its file or from a new run."""
    name = f"demo-seed{seed}" if concept == "bo" else f"demo-{concept}-seed{seed}"
    finished = runs / name / "summary.json"
    if finished.is_file():
        return json.loads(finished.read_text())
    base = apply_recipes(["demo"])
    base.run.name, base.run.output_dir, base.run.seed, base.data.concepts = name, str(runs), seed, [concept]
    return run_experiment(load_config(base=base), Console())


def phases(runs: Path) -> dict[str, dict[str, float]]:
    """Median seconds per step and phase over all runs, of steps that drew and of those that ended with their texts."""
    rows = [
        json.loads(line) for path in sorted(runs.glob("demo-*/metrics.jsonl")) for line in path.read_text().splitlines()
    ]
    names = sorted({name for row in rows for name in row if name.startswith("perf/") and name.endswith("_time_s")})
    kinds = {
        "drawn": [row for row in rows if "image/reward" in row],
        "texts alone": [row for row in rows if "image/reward" not in row],
    }
    return {
        kind: {
            name: round(statistics.median(row[name] for row in own if name in row), 3)
            for name in names
            if any(name in row for row in own)
        }
        for kind, own in kinds.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3])
    parser.add_argument("--concepts", nargs="+", default=["bo"])
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--out", type=Path, default=Path("docs/demo.json"))
    arguments = parser.parse_args()
    keep = ("concept", "seed", *OVERALL, "tasks", "steps", "nfe", "wall_time_s", "peak_memory_mb", "versions")
    summaries = [demo(seed, concept, arguments.runs) for concept in arguments.concepts for seed in arguments.seeds]
    result = {
        "runs": [{key: summary[key] for key in keep} for summary in summaries],
        "mean_delta": {
            part: round(statistics.mean(summary[part]["delta"] for summary in summaries), 4) for part in OVERALL
        },
        "median_seconds_per_step": phases(arguments.runs),
    }
    arguments.out.write_text(json.dumps(result, indent=1) + "\n")
    print("| concept | seed | part | n | before | after | change | 95 % interval |\n|---|---|---|---|---|---|---|---|")
    for summary in summaries:
        for part in OVERALL:
            row = summary[part]
            low, high = row["ci95"]
            scores = f"{row['n']} | {row['before']:.3f} | {row['after']:.3f} | {row['delta']:+.3f}"
            print(f"| {summary['concept']} | {summary['seed']} | {part} | {scores} | [{low:+.3f}, {high:+.3f}] |")


if __name__ == "__main__":
    main()
