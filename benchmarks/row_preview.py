"""How much the upper rows of a picture say about the whole: what to fill the missing rows with, and how many rows a
preview needs.

The pictures of a prompt are drawn by the embedded world's Show-o. A row-by-row drawer that had made the same pictures
would have, after a share of its steps, their upper rows of codes; the rest is filled in one of several ways, decoded
and scored as DGS scores previews. Printed are the correlations, within a prompt, of that score with the finished
picture's score, and with what a reader finds in the finished picture. "maskgit" is the model's own preview after as
many of its steps.

Run: python benchmarks/row_preview.py
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from sync_r1.types import Sampling
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader, load_world_clip, load_world_model
from sync_r1.world.judge import WorldJudge
from sync_r1.world.pretrain.measure import unseen_things
from sync_r1.world.pretrain.readers import render_batch

STEPS, IMAGE_WEIGHT = 8, 0.65


def within(first: Tensor, second: Tensor) -> float:
    """Correlation of two [P, G] tables after taking each group's mean off."""
    first, second = (table - table.mean(1, keepdim=True) for table in (first, second))
    return float((first * second).sum() / (first.square().sum() * second.square().sum()).sqrt().clamp(min=1e-12))


def fills(side: int, grey: Tensor) -> dict[str, Callable[[Tensor, int], Tensor]]:
    """Name → (codes [B, N], rows that are known) → codes with the rest filled in."""

    def repeat(codes: Tensor, rows: int) -> Tensor:
        grid = codes.view(-1, side, side)
        return torch.cat([grid[:, :rows], grid[:, rows - 1 : rows].expand(-1, side - rows, -1)], 1).flatten(1)

    def plain(codes: Tensor, rows: int) -> Tensor:
        return torch.cat([codes[:, : rows * side], grey[:, rows * side :].expand(len(codes), -1)], 1)

    def one(codes: Tensor, rows: int) -> Tensor:
        return torch.cat([codes[:, : rows * side], codes[:1, rows * side :].expand(len(codes), -1)], 1)

    def other(codes: Tensor, rows: int) -> Tensor:
        mixed = codes[torch.randperm(len(codes), generator=torch.Generator().manual_seed(0))]
        return torch.cat([codes[:, : rows * side], mixed[:, rows * side :]], 1)

    return {"grey": plain, "repeat the last row": repeat, "one picture for all": one, "random pictures": other}


@torch.no_grad()
def measure(prompts_count: int, group: int) -> dict[str, dict[str, list[float]]]:
    """Name of a fill → share of steps done → correlation with the finished picture's score, and with what the reader
    finds.
    """
    model, clip, judge = load_world_model(), load_world_clip(), WorldJudge(load_evaluator_reader())
    things = unseen_things(np.random.default_rng(7), prompts_count)
    prompts = [
        grammar.scene_prompt("a photo of", grammar.describe(grammar.identity_of(thing)), grammar.context_of(thing))
        for thing in things
    ]
    references = clip.image_features(render_batch(things)).repeat_interleave(group, 0)
    repeated = [prompt for prompt in prompts for _ in range(group)]
    words, sampling = clip.text_features(repeated, truncate=True), Sampling(generation_timesteps=STEPS)

    def score(codes: Tensor) -> Tensor:
        features = clip.image_features(model.decode_image(codes))
        return (features * (IMAGE_WEIGHT * references + (1 - IMAGE_WEIGHT) * words)).sum(-1).view(-1, group)

    states = [model.generate_image(repeated, sampling, list(range(len(repeated))), stop_at=1)]
    for step in range(2, STEPS + 1):
        states.append(model.generate_image(repeated, sampling, None, state=states[-1], stop_at=step))
    codes, side = states[-1].tokens, round(model.num_image_tokens**0.5)
    found = judge.breakdown(model.decode_image(codes), repeated)
    targets = [score(codes), torch.tensor([float(np.mean(list(row.values()))) for row in found]).view(-1, group)]

    def against(preview: Tensor) -> list[float]:
        return [round(within(score(preview), target), 2) for target in targets]

    grey = model.encode_image(torch.full((1, 3, model.image_size, model.image_size), 0.5))
    table = {"maskgit": {f"{state.step}/{STEPS}": against(state.tokens) for state in states}}
    for name, fill in fills(side, grey).items():
        table[name] = {f"{rows}/{side}": against(fill(codes, rows)) for rows in range(1, side + 1)}
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=32)
    parser.add_argument("--group", type=int, default=12)
    arguments = parser.parse_args()
    for name, row in measure(arguments.prompts, arguments.group).items():
        print(f"{name:20}", json.dumps(row))


if __name__ == "__main__":
    main()
