"""Predict step time and memory against GPUs, group size and judge latency. A PREDICTION: nothing here is measured on
these GPUs.

    python benchmarks/scale_model.py --out docs/scale.json --figure docs/scale.png

FLOPs and bytes come from the estimator of `sync-r1 train --dry-run` (sync_r1/costs/estimate.py); ASSUMED lists
everything else.
"""

from __future__ import annotations

import argparse
import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from sync_r1.config import Config
from sync_r1.costs.estimate import CostEstimate, estimate
from sync_r1.costs.model_sizes import ModelSizes, read_sizes
from sync_r1.costs.throughput import Throughput
from sync_r1.costs.workload import Prompts, Workload
from sync_r1.recipes import apply_recipes

GPUS, GROUPS, LATENCIES = (1, 2, 4, 8, 16), (4, 9, 16, 32), (0.0, 1.0, 3.0, 10.0, 30.0)


@dataclass(frozen=True)
class Assumed:
    """The machine and the judge. Rates are of an 80 GB GPU of the H100 class, below its data sheet."""

    matmul: float = 600e12  # FLOP/s of bf16 matrix products; the estimator takes half of it for a transformer
    memory_bandwidth: float = 2.5e12  # bytes/s; bounds decoding of texts, whose weights are read for every token
    token_s: float = (
        0.06  # seconds that starting one token's kernels takes, the larger bound (measured: docs/full_size_gpu.json)
    )
    inside: float = 200e9  # bytes/s of an all-reduce within 8 GPUs (NVLink)
    between: float = 40e9  # bytes/s of an all-reduce between machines (400 Gbit/s)
    per_machine: int = 8
    scorer_s: float = 0.01  # seconds per picture for CLIP and the like, on the GPU
    judge_latency_s: float = 3.0  # of one request
    judge_rewards: int = 2  # likeness and faithfulness, asked one after the other (sync_r1/rl/rewards.py)
    pictures_per_request: int = 9
    endpoints: int = 1
    concurrency: int = 8  # requests each endpoint serves at once without slowing down
    sync_share: float = 0.05  # of the rollout spent waiting for the slowest process, per doubling of GPUs


def configured(recipe: str, group: int, lora: int, sharding: Literal["none", "fsdp2", "zero1"] = "none") -> Config:
    """A recipe with another group size; `lora` 0 trains the body itself."""
    config = apply_recipes([recipe])
    config.rl.num_generations, config.rl.lora_rank, config.run.sharding = group, lora, sharding
    return config.validate()


def step_seconds(config: Config, sizes: ModelSizes, gpus: int, assumed: Assumed) -> dict[str, float]:
    """Seconds of one step by phase, every GPU with `rl.prompts_per_step` groups of its own (weak scaling)."""
    workload = Workload(config, sizes, Prompts())
    rows = config.rl.prompts_per_step * workload.candidates
    # a decoding step does 2 FLOP per weight and row, and reads 2 bytes per weight
    narrow = min(assumed.matmul, rows * assumed.memory_bandwidth)
    found = estimate(config, sizes, Throughput(wide=assumed.matmul, narrow=narrow, device="assumed"))
    seconds = found.seconds
    seconds["text rollout"] = max(seconds["text rollout"], config.rl.max_completion_length * assumed.token_s)
    rollout = sum(seconds[name] for name in ("text rollout", "image rollout", "pictures"))
    replay = sum(seconds[name] for name in ("text replay", "image replay", "reference"))
    requests = math.ceil(workload.images * gpus / assumed.pictures_per_request)
    rounds = assumed.judge_rewards * math.ceil(requests / (assumed.endpoints * assumed.concurrency))
    return {
        "rollout": rollout,
        "waiting": rollout * assumed.sync_share * math.log2(gpus),
        "scorers": workload.images * assumed.scorer_s,
        "judge": rounds * assumed.judge_latency_s,
        "replay": replay,
        "all-reduce": _all_reduce(4.0 * found.parameters["trainable"], gpus, assumed),
        "optimizer": 28.0
        * found.parameters["trainable"]
        / assumed.memory_bandwidth,  # weight, gradient, two moments; three written
    }


def sharded_exchange(sizes: ModelSizes, reference: bool, gpus: int, assumed: Assumed) -> float:
    """Seconds that FSDP2 sends for in a step: layers gathered once, twice more per half around the reference.

    Gradients scattered once.
    """
    times = 2 + 4 * reference
    return times / 2 * _all_reduce(4.0 * sizes.in_layers, gpus, assumed)  # each is half an all-reduce


def _all_reduce(size: float, gpus: int, assumed: Assumed) -> float:
    """Ring within a machine, then between machines."""
    inside, machines = min(gpus, assumed.per_machine), math.ceil(gpus / assumed.per_machine)
    return 2 * size * ((inside - 1) / inside / assumed.inside + (machines - 1) / machines / assumed.between)


def memory(found: CostEstimate) -> dict[str, float]:
    """GiB per GPU."""
    rows = {**found.memory, "largest phase": max(found.phases.values())}
    return {name: value / 2**30 for name, value in {**rows, "peak": sum(rows.values())}.items()}


def predict(recipe: str, assumed: Assumed) -> dict[str, Any]:
    """Every table of one recipe."""
    base = configured(recipe, 9, 0)
    sizes = read_sizes(base.model)

    def rows(values: Any, make: Any) -> list[dict[str, Any]]:
        found = []
        for value in values:
            config, gpus, setting = make(value)
            seconds = step_seconds(config, sizes, gpus, setting)
            total = sum(seconds.values())
            made = gpus * Workload(config, sizes, Prompts()).images
            found.append({"at": value, "seconds": seconds, "step_s": total, "trajectories_per_s": made / total})
        return found

    fsdp2, zero1 = configured(recipe, 9, 0, "fsdp2"), configured(recipe, 9, 0, "zero1")
    return {
        "gpus": rows(GPUS, lambda gpus: (base, gpus, assumed)),
        "gpus, one endpoint per 2 GPUs": rows(
            GPUS, lambda gpus: (base, gpus, replace(assumed, endpoints=max(gpus // 2, 1)))
        ),
        "group size, 8 GPUs": rows(GROUPS, lambda size: (configured(recipe, size, 0), 8, assumed)),
        "judge latency, 8 GPUs": rows(LATENCIES, lambda wait: (base, 8, replace(assumed, judge_latency_s=wait))),
        "memory_gib": {
            "full": memory(estimate(base, sizes)),
            **{f"full, fsdp2 over {gpus}": memory(estimate(fsdp2, sizes, processes=gpus)) for gpus in (2, 8, 16)},
            **{f"full, zero1 over {gpus}": memory(estimate(zero1, sizes, processes=gpus)) for gpus in (2, 8, 16)},
            "LoRA 16": memory(estimate(configured(recipe, 9, 16), sizes)),
        },
        "fsdp2_exchange_s": {gpus: sharded_exchange(sizes, base.rl.beta > 0, gpus, assumed) for gpus in (2, 8, 16)},
    }


def draw(tables: dict[str, Any], path: Path) -> None:
    """Three panels for one recipe: throughput against GPUs, step time against group size and judge latency."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name in ("gpus", "gpus, one endpoint per 2 GPUs"):
        points = tables[name]
        label = "1 judge endpoint" if name == "gpus" else "1 per 2 GPUs"
        axes[0].plot(
            [row["at"] for row in points], [row["trajectories_per_s"] for row in points], marker="o", label=label
        )
    axes[0].plot(GPUS, [tables["gpus"][0]["trajectories_per_s"] * gpus for gpus in GPUS], "k:", label="linear")
    axes[0].set(xlabel="GPUs", ylabel="trajectories per second")
    axes[0].legend()
    for axis, name, label in (
        (axes[1], "group size, 8 GPUs", "group size G"),
        (axes[2], "judge latency, 8 GPUs", "judge latency, s"),
    ):
        axis.plot([row["at"] for row in tables[name]], [row["step_s"] for row in tables[name]], marker="o")
        axis.set(xlabel=label, ylabel="seconds per step (8 GPUs)", ylim=(0, None))
    figure.suptitle("Show-o-512, predicted (not measured)")
    figure.savefig(path, dpi=120)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("docs/scale.json"))
    parser.add_argument("--figure", type=Path, default=Path("docs/scale.png"))
    options = parser.parse_args()
    assumed = Assumed()
    tables = {recipe: predict(recipe, assumed) for recipe in ("showo-256", "showo-512")}
    facts = {"kind": "prediction, not measured", "assumed": asdict(assumed), **tables}
    options.out.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    draw(tables["showo-512"], options.figure)
    for recipe, found in tables.items():
        for row in found["gpus"]:
            print(
                f"{recipe} {row['at']:2d} GPUs: {row['step_s']:.1f} s, {row['trajectories_per_s']:.2f} trajectories/s"
            )


if __name__ == "__main__":
    main()
