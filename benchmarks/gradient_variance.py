"""How noisy the image half's gradient is, by rule: what a step is compared with, and which steps are replayed.

    python benchmarks/gradient_variance.py --concepts ivo lumen cleo rex --out docs/gradient_variance.json

For every policy one pool of finished trajectories is drawn, with the previews of every step, and the gradient of every
step of every trajectory is kept as a sketch. All rules are evaluated on the same pool, so their ratios are paired.
The policy is the start of a run (the shipped model after the look at the photos), or the last checkpoint of each --run.
Definitions are in docs/dgs.md.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from sync_r1.config import Config, load_config
from sync_r1.experiment import open_session, warm_up
from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.recipes import apply_recipes
from sync_r1.rl.advantages import step_advantages
from sync_r1.rl.dgs import NoScaling
from sync_r1.rl.rewards import build_rewards
from sync_r1.rl.rollout import Rollout, Sampler
from sync_r1.scorer_factory import build_scorers
from sync_r1.session import Session
from sync_r1.training.prompts import prompt_stream, session_prompts
from sync_r1.types import Sampling

SKETCH = 2048
GROUP = 8  # G of the estimated gradients
REPLAYED = 4  # K

Rule = Callable[[Tensor, Tensor, torch.Generator], Tensor]  # rewards [G], previews [G, T] → weights [G, T]


class CountSketch:
    """A random projection that keeps inner products in expectation: every number is added, with a random sign, to one
    of `size` places (Charikar et al., 2002)."""

    def __init__(self, numbers: int, size: int = SKETCH, seed: int = 0) -> None:
        generator = torch.Generator().manual_seed(seed)
        self.size = size
        self.place = torch.randint(size, (numbers,), generator=generator)
        self.sign = torch.randint(2, (numbers,), generator=generator) * 2.0 - 1

    def __call__(self, values: Tensor) -> Tensor:
        """[numbers] → [size]."""
        return torch.zeros(self.size).index_add_(0, self.place, values * self.sign)


def credit(rewards: Tensor, previews: Tensor | None) -> Tensor:
    """[G, T] what every step is told, by the training's own function; without previews, all steps the same."""
    steps = previews.shape[1] if previews is not None else 1
    columns = []
    for step in range(steps):
        promised = torch.zeros_like(rewards) if previews is None else previews[:, step]
        columns.append(step_advantages(rewards.view(1, -1, 1), promised.view(1, -1, 1), torch.ones(1)).flatten())
    return torch.stack(columns, dim=1)


def replay_weights(steps: int, late: int, generator: torch.Generator) -> Tensor:
    """[T] weights of a random choice of REPLAYED steps, the last `late` always among them; unbiased."""
    weights = torch.zeros(steps)
    weights[steps - late :] = 1.0
    order = torch.randperm(steps - late, generator=generator)[: REPLAYED - late]
    weights[order] = (steps - late) / (REPLAYED - late)
    return weights


def rules() -> dict[str, Rule]:
    """Name → rule. All are unbiased and cost the same evaluations."""

    def plain(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, None).expand_as(previews)

    def first_preview(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, previews[:, :1]).expand_as(previews)

    def own_previews(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, previews)

    def replayed(rule: Rule, late: int) -> Rule:
        def weigh(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
            return rule(rewards, previews, generator) * replay_weights(previews.shape[1], late, generator)

        return weigh

    return {
        "group mean, all steps": plain,
        "first preview, all steps": first_preview,
        "own previews, all steps": own_previews,
        "group mean, 4 steps at random": replayed(plain, 0),
        "group mean, 7 and 8 and 2 at random": replayed(plain, 2),
        "own previews, 4 steps at random": replayed(own_previews, 0),
        "own previews, 7 and 8 and 2 at random": replayed(own_previews, 2),
    }


BASE = "group mean, 4 steps at random"


def trace_of_covariance(weights: Tensor, gram: Tensor) -> float:
    """tr Cov of Σ w·g over draws. weights: [D, N] of each draw; gram: [N, N] inner products of the gradients."""
    centred = weights - weights.mean(dim=0)
    return float(((centred @ gram) * centred).sum() / (len(weights) - 1))


def draw_weights(rule: Rule, rewards: Tensor, previews: Tensor, draws: int, generator: torch.Generator) -> Tensor:
    """[D, pool·T] weights of the pool's step gradients in D estimates, each from a random group of the pool."""
    pool, steps = previews.shape
    weights = torch.zeros(draws, pool, steps)
    for row in range(draws):
        chosen = torch.randperm(pool, generator=generator)[:GROUP]
        weights[row, chosen] = rule(rewards[chosen], previews[chosen], generator) / GROUP
    return weights.flatten(1)


def ratios(prompts: Sequence[dict[str, Tensor]], part: str, draws: int, bootstrap: int) -> dict[str, Any]:
    """Per rule the trace of the covariance over that of BASE, with a 95 % bootstrap over prompts and trajectories."""
    table = rules()

    def traces(chosen: Sequence[tuple[int, Tensor]], repeats: int, seed: int) -> dict[str, float]:
        total = dict.fromkeys(table, 0.0)
        for index, rows in chosen:
            pool = prompts[index]
            sketches = pool[part][rows].flatten(0, 1)
            gram = sketches @ sketches.T
            for name, rule in table.items():
                generator = torch.Generator().manual_seed(seed)  # the same groups for every rule
                weights = draw_weights(rule, pool["rewards"][rows], pool["previews"][rows], repeats, generator)
                total[name] += trace_of_covariance(weights, gram)
        return {name: value / total[BASE] for name, value in total.items()}

    everything = [(index, torch.arange(len(pool["rewards"]))) for index, pool in enumerate(prompts)]
    found = traces(everything, draws, 0)
    generator = torch.Generator().manual_seed(1)
    samples = []
    for number in range(bootstrap):
        chosen = []
        for index in torch.randint(len(prompts), (len(prompts),), generator=generator).tolist():
            size = len(prompts[index]["rewards"])
            chosen.append((index, torch.randint(size, (size,), generator=generator)))
        samples.append(traces(chosen, max(draws // 4, 50), number + 1))
    result = {}
    for name, value in found.items():
        values = torch.tensor([sample[name] for sample in samples])
        interval = [round(float(torch.quantile(values, q)), 3) for q in (0.025, 0.975)]
        result[name] = {"ratio": round(value, 3), "ci95": interval}
    return result


def sketch_steps(
    model: UnifiedModel,
    sampling: Sampling,
    rollout: Rollout,
    row: int,
    body: Sequence[Tensor],
    tables: Sequence[Tensor],
    sketchers: tuple[CountSketch, CountSketch],
) -> tuple[Tensor, Tensor]:
    """Sketches [T, SKETCH] of body and of vocabulary rows: the gradient of log p of what each step committed."""
    assert rollout.trace is not None
    trace, prompt = rollout.trace.select([row]), [rollout.image_prompts()[row]]
    learned = list(learned_row_ids(model))
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in range(trace.timesteps):
        model.zero_grad(set_to_none=True)
        logps, committed = model.image_logps(prompt, trace, sampling, [step])
        logps[committed].sum().backward()
        flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in body]
        found[0].append(sketchers[0](torch.cat(flat)))
        found[1].append(sketchers[1](torch.cat([p.grad[learned].flatten() for p in tables if p.grad is not None])))
    return torch.stack(found[0]), torch.stack(found[1])


def pool_of(session: Session, config: Config, prompts: int, trajectories: int, seed: int) -> list[dict[str, Tensor]]:
    """Per prompt: rewards [n], previews [n, T] and sketches [n, T, SKETCH] of body and rows."""
    model, rl = session.model, config.rl
    scorers = build_scorers(config)
    scorers.prepare(session.concept)
    judge = build_rewards(scorers.weights, scorers.library, scorers.fallback).only("image")
    sampler = Sampler(model, rl.sampling(), NoScaling(), group_size=trajectories)
    asked = [prompt for prompt in session_prompts(session) if prompt.kind == "reason"]
    chosen = prompt_stream(asked, count=prompts, shares={"reason": 1.0}, seed=seed, first=0)
    embedding, head = model.get_input_embeddings(), model.get_output_embeddings()
    tables = [embedding.weight, head.weight]
    body = [p for p in model.parameters() if p.requires_grad and all(p is not table for table in tables)]
    learned = len(learned_row_ids(model))
    sketchers = (
        CountSketch(sum(p.numel() for p in body)),
        CountSketch(sum(learned * table.shape[1] for table in tables), seed=1),
    )
    found = []
    for number, prompt in enumerate(chosen):
        rollout = sampler.roll_out([prompt], seed=seed, step=0, first=number)
        assert rollout.trace is not None
        final = judge.score(rollout).image.flatten()
        columns = []
        for step in range(rl.generation_timesteps):
            images = model.decode_image(rollout.trace.likely(step))
            rollout.images = images
            columns.append(judge.score(rollout).image.flatten())
        sketches = [
            sketch_steps(model, rl.sampling(), rollout, row, body, tables, sketchers) for row in range(trajectories)
        ]
        found.append(
            {
                "rewards": final,
                "previews": torch.stack(columns, dim=1),
                "body": torch.stack([body for body, _ in sketches]),
                "rows": torch.stack([rows for _, rows in sketches]),
            }
        )
    return found


def preview_correlation(prompts: Sequence[dict[str, Tensor]]) -> list[float]:
    """Per step: correlation of V with the final reward inside prompts."""
    rewards = torch.cat([pool["rewards"] - pool["rewards"].mean() for pool in prompts])
    columns = torch.cat([pool["previews"] - pool["previews"].mean(dim=0) for pool in prompts])
    norm = columns.norm(dim=0) * rewards.norm()
    return [round(float(value), 3) for value in (rewards @ columns) / norm.clamp(min=1e-12)]


def open_policy(concept: str, run: Path | None, folder: Path, seed: int) -> tuple[Config, Session]:
    """A run's last checkpoint, or the shipped model after the look at the concept's photos."""
    if run is not None:
        return load_config(run / "config.yaml"), Session.open(checkpoint=run)
    config = apply_recipes(["demo"])
    config.data.concepts, config.run.seed = [concept], seed
    config.run.name, config.run.output_dir = f"{concept}-{seed}", str(folder)
    session = open_session(config)
    warm_up(session, config, Console(quiet=True), session_prompts(session))
    return config, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["ivo", "lumen", "cleo", "rex"])
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="trained runs, instead of starts")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--bootstrap", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/gradient_variance"))
    parser.add_argument("--out", type=Path, default=Path("docs/gradient_variance.json"))
    arguments = parser.parse_args()
    result = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {"policies": {}}
    wanted: list[tuple[str, Path | None]] = [(run.name, run) for run in arguments.run]
    wanted = wanted or [(f"{concept}, start", None) for concept in arguments.concepts]
    for name, run in wanted:
        started = time.monotonic()
        config, session = open_policy(name.split(",")[0], run, arguments.folder, arguments.seed)
        pool = pool_of(session, config, arguments.prompts, arguments.trajectories, arguments.seed)
        result["policies"][name] = {
            "prompts": arguments.prompts,
            "trajectories": arguments.trajectories,
            "preview_correlation": preview_correlation(pool),
            **{part: ratios(pool, part, arguments.draws, arguments.bootstrap) for part in ("body", "rows")},
            "minutes": round((time.monotonic() - started) / 60, 1),
        }
        arguments.out.write_text(json.dumps(result, indent=1) + "\n")
        body = result["policies"][name]["body"]
        print(name, {rule: (row["ratio"], row["ci95"]) for rule, row in body.items()}, flush=True)


if __name__ == "__main__":
    main()
