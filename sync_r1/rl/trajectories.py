"""What was tried at one step: a table of candidates and the pictures it names."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from sync_r1.config import Config
from sync_r1.held_folders import check_held
from sync_r1.rl.advantages import Advantages
from sync_r1.rl.rewards import Breakdown
from sync_r1.rl.rollout import Candidate, Rollout


def are_due(config: Config, step: int) -> bool:
    """Whether the trajectories of this drawn step are saved: of the first and the last drawn one, and of the first in
    every `run.completions_steps` steps."""
    run, every = config.run, config.rl.draw_every
    before, after = step - every, step + every  # the neighbours that are drawn too
    ends = before < 1 or after > config.rl.max_steps
    return run.log_completions and (ends or step // run.completions_steps > before // run.completions_steps)


def save_trajectories(
    folder: Path, step: int, rollout: Rollout, rewards: Breakdown, advantages: Advantages, *, max_images: int
) -> Path:
    """Write step_*.parquet (a row per candidate, dropped ones too) and the pictures it names, which lie in images/
    beside it.
    """
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    check_held()
    images = folder / "images"
    images.mkdir(parents=True, exist_ok=True)
    rows: list[dict[str, Any]] = []
    for candidate in rollout.candidates:
        row = _row(step, candidate, rollout, rewards, advantages)
        stem = f"step_{step:05d}_prompt_{candidate.group}_candidate_{candidate.number:02d}"
        drawn = rollout.first_image(candidate.row) if candidate.row is not None else None
        if drawn is not None:
            row["image"] = _picture(images, f"{stem}.png", drawn, len(rows) < max_images)
        if candidate.preview is not None:
            row["preview"] = _picture(images, f"{stem}_preview.png", candidate.preview, len(rows) < max_images)
        rows.append(row)
    path = folder / f"step_{step:05d}.parquet"
    partial = path.with_suffix(".partial")
    parquet.write_table(arrow.Table.from_pylist(rows), partial)
    partial.replace(path)
    return path


def _row(
    step: int, candidate: Candidate, rollout: Rollout, rewards: Breakdown, advantages: Advantages
) -> dict[str, Any]:
    prompt = rollout.prompts[candidate.group]
    row: dict[str, Any] = {
        "step": step,
        "prompt_index": candidate.group,
        "candidate": candidate.number,
        "concept": prompt.concept.name,
        "kind": prompt.kind,
        "prompt": prompt.prompt,
        "answer": prompt.answer,
        "completion": candidate.text,
        "kept": candidate.row is not None,
        "preview_score": _number(candidate.score),
        "reward": None,
        "text_reward": None,
        "image_reward": None,
        "text_advantage": None,
        "image_advantage": None,
        "drawing_prompt": None,
        "image": None,
        "preview": None,
        **{f"rewards/{name}": None for name in rewards.scores},
    }
    if candidate.row is None:
        return row
    group, completion = divmod(candidate.row, rollout.group_size)
    text, image = rewards.text[group, completion], rewards.image[group, completion].nanmean()
    return row | {
        "drawing_prompt": rollout.drawing_prompts[candidate.row],
        "reward": _number(text + image),
        "text_reward": _number(text),
        "image_reward": _number(image),
        "text_advantage": _number(advantages.text[group, completion]),
        "image_advantage": _number(advantages.image[group, completion].mean()),
        **{f"rewards/{name}": _number(values[group, completion].nanmean()) for name, values in rewards.scores.items()},
    }


def _number(value: float | Tensor) -> float | None:
    value = float(value)
    if math.isfinite(value):
        return value
    return None


def _picture(folder: Path, name: str, pixels: Tensor, wanted: bool) -> str | None:
    """Save uint8 [3, H, W]; the name, or None when the step's pictures are used up."""
    if not wanted:
        return None
    Image.fromarray(pixels.permute(1, 2, 0).contiguous().numpy()).save(folder / name)
    return name
