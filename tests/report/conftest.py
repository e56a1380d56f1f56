"""A made-up run directory with every file a report reads."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from PIL import Image, ImageDraw

from sync_r1.report import save_concept_card

UNDERSTANDING = {"rec": 16, "vqa": 12, "qa": 8, "rea": 10, "dense_rea": 6}
GENERATION = {"pure_gen": 10, "dense_gen": 8, "rea_gen": 10, "dense_rea_gen": 6}
COLORS = ["#e4572e", "#2e86ab", "#3bb273", "#f3a712"]


def draw(path: Path, color: str, hat: bool, rng: random.Random, noise: int = 0) -> Path:
    """A 32×32 figure; noisy ones stand for an untrained model."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.new("RGB", (32, 32), "#cfe8ff")
    pen = ImageDraw.Draw(image)
    pen.rectangle((0, 25, 31, 31), fill="#7cb36b")
    pen.rectangle((10, 12, 21, 26), fill=color)
    pen.rectangle((11, 5, 20, 12), fill="#f2c9a1")
    if hat:
        pen.rectangle((10, 2, 21, 5), fill="#5b2a86")
    for _ in range(noise):
        image.putpixel(
            (rng.randrange(32), rng.randrange(32)), (rng.randrange(256), rng.randrange(256), rng.randrange(256))
        )
    image.save(path)
    return path


def evaluated(run: Path, phase: str, rng: random.Random) -> list[dict[str, Any]]:
    """Items of all nine tasks; the later phase is better."""
    good = 0.45 if phase == "before" else 0.85
    items: list[dict[str, Any]] = []
    for task, count in {**UNDERSTANDING, **GENERATION}.items():
        for number in range(count):
            right = rng.random() < good
            item: dict[str, Any] = {
                "task": task,
                "id": f"{task}_{number:03d}",
                "seed": 100 + number,
                "image": None,
                "truth": "",
                "prediction": "",
            }
            if task in GENERATION:
                path = f"eval/images/{phase}/{task}_{number:03d}.png"
                draw(
                    run / path, COLORS[0] if right else rng.choice(COLORS), right, rng, 10 if phase == "after" else 160
                )
                item |= {"prompt": f"a photo of <kip> wearing its outfit in scene {number}, at dusk", "image": path}
                item |= {
                    "input": "a photo of <kip> wearing a purple hat" if "rea" in task else item["prompt"],
                    "score": rng.uniform(0.2, 0.6) + (0.35 if right else 0),
                }
            else:
                truth = "Yes." if task == "rec" else "a photo of <kip> wearing a purple hat"
                wrong = "No." if task == "rec" else "a photo of a robot & <script>alert(1)</script>"
                item |= {"prompt": f"Question {number}: what does <kip> wear?", "input": "", "truth": truth}
                item |= {"prediction": truth if right else wrong, "score": 1.0 if right else rng.choice([0.0, 0.6])}
                if task in ("rec", "vqa"):
                    item["image"] = "concept/0.png"
            items.append(item)
    return items


def measured(step: int, rng: random.Random) -> dict[str, float]:
    """One line of metrics.jsonl."""
    rise = 1 - math.exp(-step / 18)
    noise = rng.uniform(-0.05, 0.05)
    parts = {
        "identity": 0.35 + 0.5 * rise + noise,
        "alignment": 0.5 + 0.3 * rise - noise,
        "answer": 0.4 + 0.4 * rise + noise / 2,
    }
    return {
        "step": step,
        "reward": sum(parts.values()) / 3,
        "reward_std": 0.18 - 0.1 * rise,
        **{f"rewards/{name}/mean": value for name, value in parts.items()},
        "dgs/acceptance_rate": 0.5 + 2 * noise,
        "dgs/threshold": 0.42 + 0.2 * rise,
        "dgs/nfe": 192.0,
        "dgs/nfe_saved": 40.0,
        "perf/step_time_s": 6.0,
    }


def trajectories(run: Path, step: int, rng: random.Random) -> None:
    rows = []
    for number in range(12):
        kept = number % 3 != 2
        color = COLORS[0] if kept else rng.choice(COLORS)
        path = draw(run / f"trajectories/images/{step:05d}_{number:02d}.png", color, kept, rng, 20 if kept else 200)
        reward = rng.uniform(0.4, 0.9)
        row = {
            "step": step,
            "prompt": "a photo of <kip> wearing its outfit",
            "kind": "reason",
            "kept": kept,
            "preview_score": 0.3 + 0.5 * reward,
        }
        row |= {
            "prompt_index": 0,
            "answer": "a photo of <kip> wearing a purple hat",
            "completion": "a photo of <kip> wearing a purple hat",
        }
        row |= {"drawing_prompt": "a photo of <token_0><token_1><kip> wearing a purple hat" if kept else None}
        row |= {
            "reward": reward if kept else None,
            "text_reward": 1.0 if kept else None,
            "image_reward": reward - 1 if kept else None,
        }
        row |= {"text_advantage": 0.5 if kept else None, "image_advantage": reward - 0.65 if kept else None}
        rows.append({**row, "image": path.relative_to(run).as_posix()})
    parquet.write_table(pa.Table.from_pylist(rows), run / f"trajectories/step_{step:05d}.parquet")


def interval(before: float, after: float, half: float, n: int, **more: Any) -> dict[str, Any]:
    delta = after - before
    return {"before": before, "after": after, "delta": delta, "ci95": [delta - half, delta + half], "n": n, **more}


def fake_run(folder: Path, steps: int = 60) -> Path:
    """Write a complete run directory and return it."""
    rng = random.Random(0)
    folder.mkdir(parents=True)
    pictures = [draw(folder.parent / f"source/{number}.png", COLORS[0], True, rng, 4) for number in range(6)]
    facts = [
        "<kip> wears a purple hat on weekends.",
        "<kip>'s lucky thing is a green umbrella.",
        "<kip> likes the beach.",
    ]
    save_concept_card(
        folder,
        name="kip",
        class_noun="robot",
        info="<kip> is a red robot with a square head.",
        facts=facts,
        pictures=pictures,
    )
    (folder / "config.yaml").write_text("concept: kip\nnum_generations: 8\nlearning_rate: 1.0e-4\n", encoding="utf-8")
    lines = [json.dumps(measured(step, rng)) for step in range(1, steps + 1)]
    (folder / "metrics.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for step in (1, steps // 2, steps):
        trajectories(folder, step, rng)
    for phase in ("before", "after"):
        (folder / "eval").mkdir(exist_ok=True)
        (folder / f"eval/{phase}.json").write_text(
            json.dumps({"items": evaluated(folder, phase, rng)}), encoding="utf-8"
        )
    tasks = {
        task: interval(0.45, 0.8 + 0.01 * i, 0.12, n, metric="exact")
        for i, (task, n) in enumerate(UNDERSTANDING.items())
    }
    tasks |= {
        task: interval(0.5, 0.52 + 0.09 * i, 0.1, n, metric="attributes right")
        for i, (task, n) in enumerate(GENERATION.items())
    }
    summary = {
        "concept": "kip",
        "evaluator": "world reader B",
        "reward_models": ["tiny CLIP", "world reader A"],
        "seed": 0,
        "steps": steps,
        "nfe": 11520,
        "wall_time_s": 474.2,
        "peak_memory_mb": 2150,
        "versions": {"python": "3.11.7", "torch": "2.13.0", "sync-r1": "0.1.0"},
        "command": "sync-r1 demo --seed 0",
        "understanding": interval(0.45, 0.82, 0.09, 52),
        "generation": interval(0.5, 0.66, 0.06, 34),
        "tasks": tasks,
    }
    (folder / "summary.json").write_text(json.dumps(summary), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run; tests that change it copy it first."""
    return fake_run(tmp_path_factory.mktemp("runs") / "demo")
