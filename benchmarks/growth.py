"""How seconds grow with the group, the steps, the text and the image: drawing a group and replaying all its steps with
a backward pass.

One number at a time departs from a base case of a small random Show-o (hidden 128, 4 layers, 1024 codes). Exponents are
least-squares slopes of log seconds on log size: 1 is proportional. On a CPU, processor seconds, the least of --runs.
Plain code (benchmarks/plain.py) pads every prompt to 129 tokens.

Run: OMP_NUM_THREADS=1 python benchmarks/growth.py --out docs/growth.json --figure docs/growth.png
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import plain
import torch
from counting import synchronize
from workload import random_showo

from sync_r1.models.showo.config import ShowoConfig
from sync_r1.models.showo.model import Showo
from sync_r1.types import Sampling

matplotlib.use("Agg")
import matplotlib.pyplot as plt

BASE = {"trajectories G": 4, "steps T": 4, "text tokens": 16, "image tokens": 64}
VALUES = {
    "trajectories G": [2, 4, 8, 16],
    "steps T": [2, 4, 8, 16],
    "text tokens": [8, 16, 32, 64, 120],
    "image tokens": [36, 64, 144, 256],
}
SIZES: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 512,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "codebook_size": 1024,
}


def ours(model: Showo, prompts: list[str], sampling: Sampling) -> None:
    trace = model.generate_image(prompts, sampling, range(len(prompts)))
    for step in range(trace.timesteps):
        (-model.image_logps(prompts, trace, sampling, [step])[0].sum()).backward()


def plainly(model: Showo, prompts: list[str], sampling: Sampling) -> None:
    trace = plain.draw_images(model, prompts, sampling, range(len(prompts)))
    rows = [
        plain.image_logps(model, prompt, trace.select([row]), sampling, range(trace.timesteps))
        for row, prompt in enumerate(prompts)
    ]
    (-torch.cat(rows).sum()).backward()


def seconds(way: Callable[..., None], case: dict[str, int], device: str, runs: int) -> float:
    """Of the fastest run."""
    config = ShowoConfig(
        text_vocab=4096, bos_id=0, eos_id=0, num_image_tokens=case["image tokens"], image_size=16, **SIZES
    )
    model, found = random_showo(config, None, device), []
    words = case["text tokens"] - 1
    prompts = [
        " ".join(f"w{10 + word}" for word in range(words)) + f" w{2000 + row}" for row in range(case["trajectories G"])
    ]
    clock = time.perf_counter if device.startswith("cuda") else time.process_time
    for _ in range(runs):
        synchronize(device)
        started = clock()
        way(model, prompts, Sampling(guidance_scale=2.0, generation_timesteps=case["steps T"]))
        synchronize(device)
        found.append(clock() - started)
    return min(found)


def exponent(values: list[int], times: list[float]) -> float:
    return float(np.polyfit(np.log(values), np.log(times), 1)[0])


def figure(result: dict, path: Path) -> None:
    """A panel for each number."""
    panels = plt.subplots(1, len(VALUES), figsize=(3.2 * len(VALUES), 3.2), sharey=True)[1]
    for panel, (name, curves) in zip(panels, result["curves"].items()):
        for side, colour in (("ours", "tab:blue"), ("plain", "tab:orange")):
            curve = curves[side]
            panel.loglog(
                curves["values"],
                curve["seconds"],
                "o-",
                color=colour,
                label=f"{side}: exponent {curve['exponent']:.2f}",
            )
        panel.set_xlabel(name)
        panel.set_xticks(curves["values"], [str(value) for value in curves["values"]])
        panel.minorticks_off()
        panel.legend(fontsize=8, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    panels[0].set_ylabel("seconds")
    plt.tight_layout()
    plt.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument("--figure", type=Path, default=None)
    options = parser.parse_args()
    result: dict = {
        "base": BASE,
        "torch": torch.__version__,
        "threads": torch.get_num_threads(),
        "device": options.device,
        "curves": {},
    }
    for name, values in VALUES.items():
        curves: dict = {"values": values}
        for side, way in (("ours", ours), ("plain", plainly)):
            times = [seconds(way, {**BASE, name: value}, options.device, options.runs) for value in values]
            curves[side] = {
                "seconds": [round(value, 3) for value in times],
                "exponent": round(exponent(values, times), 2),
            }
            print(name, side, json.dumps(curves[side]), flush=True)
        result["curves"][name] = curves
        if options.out:
            options.out.write_text(json.dumps(result, indent=1) + "\n")
    if options.figure:
        figure(result, options.figure)


if __name__ == "__main__":
    main()
