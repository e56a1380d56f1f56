"""How noisy the image part's gradient is, by rule: what a step is compared with, which steps are replayed, which
candidates are finished, and what branches.

    python benchmarks/gradient_variance.py --concepts bo ana chai miso finn
    python benchmarks/gradient_variance.py --run runs/study/claims/plain/*

For every policy one pool of finished trajectories is drawn, with the previews of every step, and the gradient of every
step of every trajectory is kept as a sketch. All rules are evaluated on the same pool, so their ratios are paired.
The policy is the start of a run (the shipped model after the look at the photos), or the last checkpoint of each --run.
What is finished is kept, policy by policy in --out and prompt by prompt in --folder: the same command goes on after a
stop. Definitions are in docs/dgs.md.
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
from sync_r1.experiment import warm_up
from sync_r1.files import read_object, write_text
from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.open_run import open_session
from sync_r1.recipes import apply_recipes
from sync_r1.rl.advantages import step_advantages, trunk_advantages
from sync_r1.rl.rewards import build_rewards
from sync_r1.rl.rollout import Rollout
from sync_r1.rl.tree import TreeSampler, TreeScaling
from sync_r1.scorer_factory import build_scorers
from sync_r1.session import Session
from sync_r1.study.weights import world_weights
from sync_r1.training.prompts import Prompt, prompt_stream, session_prompts
from sync_r1.types import Sampling
from sync_r1.unifybench.fingerprint import model_fingerprint

SKETCH = 2048
GROUP = 8  # G of the estimated gradients
REPLAYED = 4  # K
LEAVES, BRANCH = 4, 6  # of the pool's trees: M at most, and k
SHAPES = ((2, 4), (3, 4), (4, 2), (6, 2))  # trunks and leaves, n and M, of the trees that are compared
CANDIDATES, PREVIEW = 16, 2  # of the filter, version 1: drawn to step k, of which the best G are finished

# rewards [D, G] and previews [D, G, T] of D estimates → weights [D, G, T]
Rule = Callable[[Tensor, Tensor, torch.Generator], Tensor]
Pool = dict[str, Tensor]


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


def credit(rewards: Tensor, previews: Tensor) -> Tensor:
    """[D, G, T] the advantage of every step in D groups, by the training's own function.

    Args:
        rewards: [D, G]. previews: [D, G, T], or [D, G, 1] for the same advantage at all steps.
    """
    draws, size, steps = previews.shape
    found = rewards.unsqueeze(1).expand(-1, steps, -1).reshape(-1, size, 1)
    promised = previews.transpose(1, 2).reshape(-1, size, 1)
    told = step_advantages(found, promised, torch.ones(len(found)))
    return told.view(draws, steps, size).transpose(1, 2)


def replay_weights(steps: int, late: int, draws: int, generator: torch.Generator) -> Tensor:
    """[D, T] weights of random choices of REPLAYED steps, the last `late` always among them; unbiased."""
    weights = torch.zeros(draws, steps)
    weights[:, steps - late :] = 1.0
    order = torch.rand(draws, steps - late, generator=generator).argsort(1)[:, : REPLAYED - late]
    return weights.scatter(1, order, (steps - late) / (REPLAYED - late))


def rules() -> dict[str, Rule]:
    """Name → rule. All are unbiased and cost the same evaluations."""

    def plain(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, torch.zeros_like(previews[:, :, :1])).expand_as(previews)

    def first_preview(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, previews[:, :, :1]).expand_as(previews)

    def own_previews(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
        return credit(rewards, previews)

    def replayed(rule: Rule, late: int) -> Rule:
        def weigh(rewards: Tensor, previews: Tensor, generator: torch.Generator) -> Tensor:
            replay = replay_weights(previews.shape[2], late, len(previews), generator)
            return rule(rewards, previews, generator) * replay.unsqueeze(1)

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
FILTER = "filter (version 1), 4 steps at random"
TREES = {f"tree of {n} × {m} (version 2), own previews, 7 and 8 and 2 at random": (n, m) for n, m in SHAPES}
PLAIN_SMALL = "group mean of 4, 4 steps at random"
ARMS = {  # of the study: the rule that stands for each
    "plain": BASE,
    "plain-small": PLAIN_SMALL,
    "joint": FILTER,
    "tree": next(iter(TREES)),
}


def evaluations(name: str, steps: int) -> int:
    """Evaluations of one estimate; of the tree, with one look at each of G texts, as if all differed."""
    if name in TREES:
        trunks, leaves = TREES[name]
        return GROUP + trunks * (BRANCH + leaves * (steps - BRANCH))
    if name == FILTER:
        return CANDIDATES * PREVIEW + GROUP * (steps - PREVIEW)
    if name == PLAIN_SMALL:
        return GROUP // 2 * steps
    return GROUP * steps


def trace_of_covariance(weights: Tensor, gram: Tensor) -> float:
    """tr Cov of Σ w·g over draws. weights: [D, N] of each draw; gram: [N, N] inner products of the gradients."""
    centred = weights - weights.mean(dim=0)
    return float(((centred @ gram) * centred).sum() / (len(weights) - 1))


def draw_weights(name: str, pool: Pool, draws: int, generator: torch.Generator) -> Tensor:
    """[D, N] weights of the pool's step gradients (see `gradients_of`) in D estimates by the rule of this name."""
    size, steps = pool["previews"].shape
    first = torch.zeros(draws, size, steps)
    late = torch.zeros(draws, size, LEAVES - 1, steps - BRANCH)
    order = torch.rand(draws, size, generator=generator).argsort(1)  # who is in the group, anew in every estimate
    row = torch.arange(draws).unsqueeze(1)
    if name in TREES:
        trunks, leaves = TREES[name]
        chosen = order[:, :trunks]
        weights = tree_weights(pool, chosen, leaves, generator)
        first[row, chosen] = weights[:, :, 0]
        late[row, chosen, : leaves - 1] = weights[:, :, 1:, BRANCH:]
    else:
        chosen = order[:, :GROUP]
        if name == FILTER:
            candidates = order[:, :CANDIDATES]
            best = pool["previews"][:, PREVIEW][candidates].topk(GROUP).indices
            chosen = candidates.gather(1, best)
        elif name == PLAIN_SMALL:
            chosen = order[:, : GROUP // 2]
        rule = rules().get(name, rules()[BASE])
        weights = rule(pool["rewards"][chosen], pool["previews"][chosen], generator)
        first[row, chosen] = weights / chosen.shape[1]
    return torch.cat([first.flatten(1), late.flatten(1)], dim=1)


def tree_weights(pool: Pool, trunks: Tensor, leaves: int, generator: torch.Generator) -> Tensor:
    """[D, n, M, T] weights of every step of every leaf in D estimates, by the training's own functions.

    Args:
        trunks: [D, n] long, trajectories of the pool. leaves: M.
    """
    rewards = pool["leaves"][trunks, :leaves]  # [D, n, M]
    steps, ones = pool["previews"].shape[1], torch.ones(len(trunks))
    columns = []
    for step in range(steps):
        if step < BRANCH:
            promised = pool["previews"][trunks, step].unsqueeze(2).expand_as(rewards)
            columns.append(trunk_advantages(rewards, promised, ones))
        else:
            promised = pool["leaf_previews"][trunks, :leaves, step - BRANCH]
            columns.append(step_advantages(rewards, promised, ones))
    replay = replay_weights(steps, 2, len(trunks), generator)[:, None, None]
    return torch.stack(columns, dim=3) * replay / rewards[0].numel()


def gradients_of(pool: Pool, part: str) -> Tensor:
    """[N, SKETCH]: all steps of every trajectory, then the steps behind the branch of every other leaf."""
    return torch.cat([pool[part].flatten(0, 1), pool[f"{part}_leaves"].flatten(0, 2)])


def measured(
    prompts: Sequence[Pool], part: str, chosen: Sequence[tuple[int, Tensor]], draws: int, seed: int
) -> tuple[dict[str, list[float]], dict[str, float]]:
    """Per rule: the trace of the covariance times evaluations of every chosen prompt, and the cosine of the mean
    estimate with BASE's.

    Args:
        chosen: (prompt, rows of its pool), with repetitions.
    """
    names = [*rules(), PLAIN_SMALL, FILTER, *TREES]
    traces: dict[str, list[float]] = {name: [] for name in names}
    products = {name: torch.zeros(3) for name in names}  # with BASE's mean, own square, BASE's square
    for index, rows in chosen:
        pool = {name: values[rows] for name, values in prompts[index].items()}
        sketches = gradients_of(pool, part)
        gram, means = sketches @ sketches.T, {}
        for name in names:
            generator = torch.Generator().manual_seed(seed)  # the same groups for every rule
            weights = draw_weights(name, pool, draws, generator)
            traces[name].append(trace_of_covariance(weights, gram) * evaluations(name, pool["previews"].shape[1]))
            means[name] = weights.mean(0)
        for name in names:
            pairs = (means[name], means[BASE]), (means[name], means[name]), (means[BASE], means[BASE])
            products[name] += torch.stack([a @ gram @ b for a, b in pairs])
    cosines = {}
    for name, (cross, own, base) in products.items():
        cosines[name] = float(cross / (own * base).sqrt().clamp(min=1e-12))
    return traces, cosines


def ratios(prompts: Sequence[Pool], part: str, draws: int, bootstrap: int) -> dict[str, Any]:
    """Per rule: the trace of the covariance times evaluations over that of BASE, with a 95 % bootstrap over prompts
    and trajectories; the traces of every prompt; and the cosine of the mean estimate with BASE's, which is 1 but for
    noise where a rule has no bias."""
    everything = [(index, torch.arange(len(pool["rewards"]))) for index, pool in enumerate(prompts)]
    traces, cosines = measured(prompts, part, everything, draws, 0)
    generator = torch.Generator().manual_seed(1)
    samples = []
    for number in range(bootstrap):
        chosen = []
        for index in torch.randint(len(prompts), (len(prompts),), generator=generator).tolist():
            size = len(prompts[index]["rewards"])
            chosen.append((index, torch.randint(size, (size,), generator=generator)))
        again, _ = measured(prompts, part, chosen, max(draws // 4, 50), number + 1)
        samples.append({name: sum(values) / sum(again[BASE]) for name, values in again.items()})
    result = {}
    for name, values in traces.items():
        drawn = torch.tensor([sample[name] for sample in samples])
        result[name] = {
            "ratio": round(sum(values) / sum(traces[BASE]), 3),
            "ci95": [round(float(torch.quantile(drawn, q)), 3) for q in (0.025, 0.975)],
            "cosine": round(cosines[name], 3),
            "traces": [float(f"{value:.6g}") for value in values],
        }
    return result


def sketch_steps(
    model: UnifiedModel,
    sampling: Sampling,
    rollout: Rollout,
    row: int,
    body: Sequence[Tensor],
    tables: Sequence[Tensor],
    sketchers: tuple[CountSketch, CountSketch],
    steps: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Sketches [steps, SKETCH] of body and of vocabulary rows: the gradient of log p of what each step committed."""
    assert rollout.trace is not None
    trace, prompt = rollout.trace.select([row]), [rollout.image_prompts()[row]]
    learned = learned_row_ids(model)
    found: tuple[list[Tensor], list[Tensor]] = ([], [])
    for step in steps:
        model.zero_grad(set_to_none=True)
        logps, committed = model.image_logps(prompt, trace, sampling, [step])
        logps[committed].sum().backward()
        flat = [torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten() for p in body]
        found[0].append(sketchers[0](torch.cat(flat)))
        found[1].append(sketchers[1](torch.cat([p.grad[learned].flatten() for p in tables if p.grad is not None])))
    return torch.stack(found[0]), torch.stack(found[1])


class Measurer:
    """Draws pools of one policy, and sketches its gradients."""

    def __init__(self, session: Session, config: Config, trajectories: int, seed: int) -> None:
        self.model, self.rl, self.seed, self.trajectories = session.model, config.rl, seed, trajectories
        scorers = build_scorers(config)
        scorers.prepare(session.concept)
        self.judge = build_rewards(scorers.weights, scorers.library, scorers.fallback).only("image")
        scaling = TreeScaling(trajectories, BRANCH)
        self.sampler = TreeSampler(
            self.model, self.rl.sampling(), scaling, group_size=trajectories, images_per_text=LEAVES
        )
        embedding, head = self.model.get_input_embeddings(), self.model.get_output_embeddings()
        self.tables: list[Tensor] = [embedding.weight, head.weight]  # type: ignore[list-item]
        trained = [p for p in self.model.parameters() if p.requires_grad]
        self.body = [p for p in trained if all(p is not table for table in self.tables)]
        learned = len(learned_row_ids(self.model))
        self.sketchers = (
            CountSketch(sum(p.numel() for p in self.body)),
            CountSketch(sum(learned * table.shape[1] for table in self.tables), seed=1),
        )

    def pool(self, prompt: Prompt, number: int) -> Pool:
        """n trajectories of one prompt, each a tree of LEAVES behind step BRANCH, whose first leaf counts as the
        trajectory: rewards [n], previews [n, T], leaves [n, M], leaf_previews [n, M, T − k], and sketches of body and
        rows, [n, T, SKETCH] and, of the other leaves behind the branch, [n, M − 1, T − k, SKETCH]."""
        total = self.rl.generation_timesteps
        rollout = self.sampler.roll_out([prompt], seed=self.seed, step=0, first=number)
        assert rollout.trace is not None
        leaves = self.judge.score(rollout).image[0]  # [n, M]
        columns = []
        for step in range(total):
            rollout.images = self.model.decode_image(rollout.trace.likely(step))
            columns.append(self.judge.score(rollout).image[0])
        previews = torch.stack(columns, dim=2)  # [n, M, T]
        first = self._sketched(rollout, 0, range(total))
        late = [self._sketched(rollout, leaf, range(BRANCH, total)) for leaf in range(1, LEAVES)]
        return {
            "rewards": leaves[:, 0],
            "previews": previews[:, 0],
            "leaves": leaves,
            "leaf_previews": previews[:, :, BRANCH:],
            "body": first[0],
            "rows": first[1],
            "body_leaves": torch.stack([part for part, _ in late], dim=1),
            "rows_leaves": torch.stack([part for _, part in late], dim=1),
        }

    def _sketched(self, rollout: Rollout, leaf: int, steps: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Sketches of these steps of one leaf of every trajectory: [n, steps, SKETCH] of body and of rows."""
        made = []
        for row in range(leaf, self.trajectories * LEAVES, LEAVES):
            arguments = (rollout, row, self.body, self.tables, self.sketchers, steps)
            made.append(sketch_steps(self.model, self.rl.sampling(), *arguments))
        return torch.stack([one for one, _ in made]), torch.stack([other for _, other in made])


def pools_of(session: Session, config: Config, folder: Path, prompts: int, trajectories: int, seed: int) -> list[Pool]:
    """The pools of a policy, each kept in `folder` as soon as it is there."""
    measurer = Measurer(session, config, trajectories, seed)
    asked = [prompt for prompt in session_prompts(session) if prompt.kind == "reason"]
    chosen = prompt_stream(asked, count=prompts, shares={"reason": 1.0}, seed=seed, first=0)
    folder.mkdir(parents=True, exist_ok=True)
    found = []
    for number, prompt in enumerate(chosen):
        path = folder / f"seed_{seed}_trajectories_{trajectories}_prompt_{number}.pt"
        if not path.is_file():
            torch.save(measurer.pool(prompt, number), path.with_suffix(".tmp"))
            path.with_suffix(".tmp").rename(path)
            print(f"{path}: prompt {number + 1} of {prompts}", flush=True)
        found.append(torch.load(path, weights_only=True))
    return found


def preview_correlation(prompts: Sequence[Pool]) -> list[float]:
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
    warm_up(session, config, Console(quiet=True), session_prompts(session), resumed=False, command="")
    return config, session


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--concepts", nargs="+", default=["bo", "ana", "chai", "miso", "finn"])
    parser.add_argument("--run", type=Path, nargs="*", default=[], help="trained runs, instead of starts")
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--trajectories", type=int, default=24)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--bootstrap", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("runs/gradient_variance"))
    parser.add_argument("--out", type=Path, default=Path("docs/gradient_variance.json"))
    arguments = parser.parse_args()
    result = read_object(arguments.out) or {}
    result |= {"arms": ARMS, "seed": arguments.seed, "policies": result.get("policies", {})}
    folder = arguments.folder / (world_weights() or "first_weights")
    wanted: list[tuple[str, Path | None]] = [(concept, None) for concept in arguments.concepts]
    if arguments.run:
        wanted = [(load_config(run / "config.yaml").data.concepts[0], run) for run in arguments.run]
    for concept, run in wanted:
        name = f"{concept}, {'trained' if run else 'start'}"
        settings = {
            **{key: getattr(arguments, key) for key in ("prompts", "trajectories", "draws", "bootstrap")},
            "weights": world_weights(),
            "run": str(run or ""),
        }
        if settings.items() <= result["policies"].get(name, {}).items():
            print(f"{name}: measured already", flush=True)
            continue
        started = time.monotonic()
        config, session = open_policy(concept, run, folder, arguments.seed)
        place = folder / "pools" / (f"trained_{model_fingerprint(session.model)[:12]}" if run else f"start_{concept}")
        pools = pools_of(session, config, place, arguments.prompts, arguments.trajectories, arguments.seed)
        drawn = time.monotonic()
        result["policies"][name] = {
            **settings,
            "preview_correlation": preview_correlation(pools),
            **{part: ratios(pools, part, arguments.draws, arguments.bootstrap) for part in ("body", "rows")},
            "minutes_drawing": round((drawn - started) / 60, 1),
            "minutes_comparing": round((time.monotonic() - drawn) / 60, 1),
        }
        write_text(arguments.out, json.dumps(result, indent=1) + "\n")
        body = result["policies"][name]["body"]
        print(name, {rule: (row["ratio"], row["ci95"]) for rule, row in body.items()}, flush=True)


if __name__ == "__main__":
    main()
