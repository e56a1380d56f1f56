"""What Dynamic Group Scaling can see and what it changes: preview against final score by preview step, and the gradient's noise.

    python benchmarks/dgs.py --run runs/demo --out docs/dgs.json

Without --run the policy is the shipped model with fresh concept tokens, the start of every run.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sync_r1.config import Config, load_config
from sync_r1.experiment import open_session, questions
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.recipes import apply_recipes
from sync_r1.rl.advantage import advantages
from sync_r1.rl.group_scaling import GroupScaling, NoScaling, SpreadScaling, Threshold
from sync_r1.rl.replay import Replay
from sync_r1.rl.rewards import RewardEnsemble, build_rewards
from sync_r1.rl.rollout import Rollout, Sampler, Task, choose_tasks
from sync_r1.rl.setup import scaling
from sync_r1.rl.weights import Trainables
from sync_r1.scorers.rewards import blend
from sync_r1.scoring import Scorers, build_scorers
from sync_r1.session import Session


def open_policy(run: Path | None, seed: int) -> tuple[Config, Session]:
    base = apply_recipes(["demo"])
    base.data.concepts, base.run.seed, base.run.name, base.run.output_dir = ["bo"], seed, "dgs", "runs/benchmarks"
    if run is None:
        return base, open_session(base)
    config = load_config(run / "config.yaml")
    session = Session.open(checkpoint=run)
    return config, session


def within(values: Tensor) -> Tensor:
    return values - values.mean(dim=1, keepdim=True)


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson, within groups, of [P, C] and [P, C]."""
    a, b = within(first).flatten(), within(second).flatten()
    return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-12))


def preview_table(
    config: Config, sampler: Sampler, scorers: Scorers, rewards: RewardEnsemble, tasks: list[Task], seed: int
) -> list[dict[str, Any]]:
    """Per preview step: correlation within siblings of two preview scores with the final image reward, and NFE spent per candidate."""
    timesteps = config.rl.generation_timesteps
    clip_score = blend(scorers.library["identity"][0], scorers.library["alignment"][0], config.rl.dgs_image_weight)
    plain = replace(sampler, scaling=NoScaling())
    rollout = plain.roll_out(tasks, seed=seed, step=0)
    final = rewards.score(rollout).image.reshape(len(tasks), -1)
    assert rollout.trace is not None
    seeds, prompts = rollout.trace.seeds.tolist(), rollout.image_prompts()
    rows, state = [], None
    for step in track(range(1, timesteps + 1), description="previews", console=Console(stderr=True)):
        state = sampler.model.generate_image(prompts, sampler.sampling, None if state else seeds, state=state, stop_at=step)
        shown = replace(rollout, images=sampler.model.preview(state).cpu())
        clip = torch.tensor([float(value) for value in clip_score(**shown.columns("image"))]).reshape(len(tasks), -1)
        reward = rewards.score(shown).image.reshape(len(tasks), -1)
        rows.append({"step": step, "clip": correlation(clip, final), "reward": correlation(reward, final), "nfe": step})
    return rows


def gradient(config: Config, session: Session, trainables: Trainables, rewards: RewardEnsemble, rollout: Rollout, step: int) -> Tensor:
    """The update's direction for one rollout, flat, fp32."""
    from accelerate import Accelerator

    for parameter in trainables.parameters():
        parameter.grad = None
    scores = rewards.score(rollout)
    credit = advantages(scores.text, scores.image, rollout.same_prompts(), credit=config.rl.credit, scale_rewards=config.rl.scale_rewards)
    replay = Replay(session.model, config.rl, trainables.reference(session.model), Accelerator(cpu=True), seed=config.run.seed)
    replay.backward(rollout, credit, step=step)
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trainables.parameters()])


def noise(gradients: list[Tensor]) -> dict[str, float]:
    """Noise-to-signal ratio tr Σ / ‖μ‖² of the gradient, both without bias, from independent rollouts of the same prompts."""
    stacked = torch.stack(gradients)
    mean = stacked.mean(dim=0)
    variance = float((stacked - mean).square().sum() / (len(gradients) - 1))
    signal = float(mean.square().sum()) - variance / len(gradients)
    return {"variance": variance, "signal": signal, "noise_to_signal": variance / signal if signal > 0 else float("inf")}


def gradient_table(
    config: Config, session: Session, sampler: Sampler, rewards: RewardEnsemble, tasks: list[Task], repeats: int
) -> dict[str, Any]:
    """The same prompts again and again with other noise: DGS, plain with the same group, plain with as many evaluations."""
    config.rl.beta, config.rl.entropy_coef = 0.0, 0.0  # the reward's gradient alone
    trainables = Trainables(session.model, config.rl, learned_row_ids(session.model))
    factor = config.rl.dgs_candidate_factor
    step = config.rl.dgs_preview_step
    kinds = {
        "dgs, best": (replace(sampler, scaling=GroupScaling(Threshold(None), factor, step)), config.rl.num_generations),
        "dgs, spread": (replace(sampler, scaling=SpreadScaling(factor, step)), config.rl.num_generations),
        "plain": (replace(sampler, scaling=NoScaling()), config.rl.num_generations),
        "plain, as many candidates": (replace(sampler, scaling=NoScaling()), round(config.rl.num_generations * factor)),
    }
    table = {}
    for name, (draw, size) in kinds.items():
        gradients, nfe, spreads = [], [], []
        for repeat in track(range(repeats), description=f"gradients, {name}", console=Console(stderr=True)):
            rollout = replace(draw, group_size=size).roll_out(tasks, seed=1000 + repeat, step=0)
            gradients.append(gradient(config, session, trainables, rewards, rollout, repeat))
            kept = len(tasks) * size
            nfe.append(rollout.selection.candidates * rollout.nfe_preview + kept * (rollout.nfe_final - rollout.nfe_preview))
            spreads.append(float(rewards.score(rollout).image.flatten(1).std(dim=1).mean()))
        found = noise(gradients)
        cost = statistics.fmean(nfe)
        table[name] = {
            **found,
            "nfe": cost,
            "noise_to_signal_at_equal_nfe": found["noise_to_signal"] * cost,
            "image_reward_std": statistics.fmean(spreads),
        }
    reference = table["plain"]["noise_to_signal_at_equal_nfe"]
    for row in table.values():
        row["relative_to_plain"] = row["noise_to_signal_at_equal_nfe"] / reference
    trainables.rows.release()
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="finished run whose last checkpoint is the policy; default: the start")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--candidates", type=int, default=24, help="siblings per prompt in the preview table")
    parser.add_argument("--repeats", type=int, default=12, help="independent rollouts per gradient")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    config, session = open_policy(options.run, options.seed)
    scorers = build_scorers(config)
    rewards = build_rewards(scorers.weights, scorers.library, scorers.fallback)
    tasks = choose_tasks(questions(session), count=options.prompts, shares={"reason": 1.0}, seed=options.seed, first=0)
    sampler = Sampler(
        model=session.model,
        sampling=config.rl.sampling(),
        scaling=scaling(config.rl),
        preview_score=scorers.preview,
        group_size=config.rl.num_generations,
    )
    wide = replace(sampler, group_size=options.candidates)
    result: dict[str, Any] = {
        "policy": str(options.run or "start"),
        "prompts": options.prompts,
        "candidates": options.candidates,
        "repeats": options.repeats,
        "previews": preview_table(config, wide, scorers, rewards, tasks, options.seed),
        "gradient": gradient_table(config, session, sampler, rewards, tasks[:3], options.repeats) if options.repeats else {},
    }
    text = json.dumps(result, indent=1)
    print(text)
    if options.out:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
