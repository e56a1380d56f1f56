"""What Dynamic Group Scaling can see and what it changes: preview against final score by preview step, and the
gradient's noise.

    python benchmarks/dgs.py --run runs/study/claims/joint/bo-0 --out docs/dgs.json

The first policy is always the start of a run, the shipped model with fresh concept tokens; every --run adds its last
checkpoint. Definitions are in docs/dgs.md.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from matplotlib.figure import Figure
from rich.console import Console
from rich.progress import track
from torch import Tensor

from sync_r1.config import Config, load_config
from sync_r1.models.concept_tokens import learned_row_ids
from sync_r1.open_run import open_session
from sync_r1.recipes import apply_recipes
from sync_r1.report.plots import BLUE, INK, ORANGE, QUIET, style
from sync_r1.rl.advantages import advantages
from sync_r1.rl.dgs import GroupScaling, NoScaling, Scaling, SpreadScaling, Threshold
from sync_r1.rl.replay import Replay
from sync_r1.rl.rewards import RewardEnsemble, build_rewards
from sync_r1.rl.rollout import Rollout, Sampler
from sync_r1.scorer_factory import Scorers, build_scorers
from sync_r1.scorers.reward_functions import blend
from sync_r1.session import Session
from sync_r1.training.parameters import Trainables
from sync_r1.training.prompts import Prompt, prompt_stream, session_prompts

PARTS = ("image", "text", "both")
PLAIN = "plain"


def open_policy(run: Path | None, seed: int) -> tuple[Config, Session]:
    if run is None:
        base = apply_recipes(["world"])
        base.data.concepts, base.run.seed, base.run.name, base.run.output_dir = ["bo"], seed, "dgs", "runs/benchmarks"
        return base, open_session(base)
    return load_config(run / "config.yaml"), Session.open(checkpoint=run)


def correlation(first: Tensor, second: Tensor) -> float:
    """Pearson within groups, of [P, C] and [P, C]: groups are centred, so that easy and hard prompts do not count as
    agreement."""
    a, b = ((values - values.mean(dim=1, keepdim=True)).flatten() for values in (first, second))
    return float((a @ b) / (a.norm() * b.norm()).clamp(min=1e-12))


def interval(first: Tensor, second: Tensor, draws: int = 2000) -> list[float]:
    """95 % interval of `correlation` by a bootstrap over prompts."""
    generator = torch.Generator().manual_seed(0)
    chosen = torch.randint(len(first), (draws, len(first)), generator=generator)
    values = torch.tensor([correlation(first[rows], second[rows]) for rows in chosen])
    return [float(torch.quantile(values, q)) for q in (0.025, 0.975)]


def preview_table(
    config: Config, sampler: Sampler, scorers: Scorers, rewards: RewardEnsemble, prompts: list[Prompt], seed: int
) -> list[dict[str, Any]]:
    """Per preview step: correlation within a prompt of two preview scores with the final image reward, and the cost of
    filtering there.
    """
    rl, timesteps = config.rl, config.rl.generation_timesteps
    clip_score = blend(scorers.library["identity"][0], scorers.library["alignment"][0], rl.dgs_image_weight)
    rollout = sampler.roll_out(prompts, seed=seed, step=0)
    final = rewards.score(rollout).image.reshape(len(prompts), -1)
    assert rollout.trace is not None
    seeds, texts = rollout.trace.seeds.tolist(), rollout.image_prompts()
    rows, state = [], None
    for step in track(range(1, timesteps + 1), description="previews", console=Console(stderr=True)):
        state = sampler.model.generate_image(
            texts, sampler.sampling, None if state else seeds, state=state, stop_at=step
        )
        shown = replace(rollout, images=sampler.model.preview(state).cpu())
        clip = torch.tensor([float(value) for value in clip_score(**shown.columns("image"))]).reshape(len(prompts), -1)
        reward = rewards.score(shown).image.reshape(len(prompts), -1)
        found = {
            name: {"r": correlation(score, final), "ci95": interval(score, final)}
            for name, score in (("reward", reward), ("clip", clip))
        }
        factor = rl.dgs_candidate_factor
        rows.append({"step": step, **found, "nfe_share": (factor * step + timesteps - step) / (factor * timesteps)})
    return rows


def part_gradients(
    config: Config, session: Session, trainables: Trainables, rewards: RewardEnsemble, rollout: Rollout, step: int
) -> dict[str, Tensor]:
    """The update's gradient for one rollout, flat, fp32: of the image part, of the text part, and their sum,
    weighted as in training."""
    scores = rewards.score(rollout)
    credit = advantages(
        scores.text,
        scores.image,
        rollout.same_prompts(),
        credit=config.rl.credit,
        scale_rewards=config.rl.scale_rewards,
    )
    found = {}
    for part in ("image", "text"):
        for parameter in trainables.parameters():
            parameter.grad = None
        rl = replace(config.rl, optimise=part)
        replay = Replay(
            session.model, rl, trainables.reference(session.model), Accelerator(cpu=True), seed=config.run.seed
        )
        replay.backward(rollout, credit, step=step)
        found[part] = torch.cat(
            [(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in trainables.parameters()]
        )
    return {**found, "both": found["image"] + found["text"]}


def moments(gram: Tensor) -> tuple[float, float]:
    """Variance tr Σ and squared signal ‖μ‖², both without bias, from the inner products [R, R] of R independent
    gradients.
    """
    count = len(gram)
    power = float(gram.diagonal().mean())
    signal = float((gram.sum() - gram.trace()) / (count * (count - 1)))
    return power - signal, signal


def noise_ratio(gram: Tensor, nfe: Tensor, plain: Tensor, plain_nfe: Tensor) -> float:
    """(tr Σ / ‖μ‖²) · NFE of one way to draw over that of plain drawing; NaN when a signal is lost in the noise."""
    (variance, signal), (plain_variance, plain_signal) = moments(gram), moments(plain)
    if signal <= 0 or plain_signal <= 0:
        return math.nan
    return variance / signal * float(nfe.mean()) / (plain_variance / plain_signal * float(plain_nfe.mean()))


def compared(gradients: Tensor, nfe: Tensor, plain: Tensor, plain_nfe: Tensor) -> dict[str, Any]:
    """One way to draw against plain drawing, from [R, D] gradients and [R] evaluations of each.

    Returns: variance, signal, noise_to_signal; relative_to_plain with a 95 % interval by a jackknife over the repeats,
        on the log scale; and
        cosine: between the two mean gradients, from pairs of different repeats only. None where the signal is lost in
            the noise.
    """
    gram, plain_gram, cross = gradients @ gradients.T, plain @ plain.T, gradients @ plain.T
    variance, signal = moments(gram)
    between, plain_signal = moments(cross)[1], moments(plain_gram)[1]
    ratio, count = noise_ratio(gram, nfe, plain_gram, plain_nfe), len(gram)
    keep = [[j for j in range(count) if j != i] for i in range(count)]
    left = [noise_ratio(gram[k][:, k], nfe[k], plain_gram[k][:, k], plain_nfe[k]) for k in keep]
    logs = torch.tensor(left, dtype=torch.float64).log()
    error = float(((count - 1) / count * (logs - logs.mean()).square().sum()).sqrt())
    known = math.isfinite(ratio) and math.isfinite(error)
    positive = signal > 0 and plain_signal > 0
    return {
        "variance": variance,
        "signal": signal,
        "noise_to_signal": variance / signal if signal > 0 else None,
        "relative_to_plain": ratio if known else None,
        "ci95": [ratio * math.exp(side * 1.96 * error) for side in (-1, 1)] if known else None,
        "cosine": between / math.sqrt(signal * plain_signal) if positive else None,
    }


def gradient_table(
    config: Config, session: Session, sampler: Sampler, rewards: RewardEnsemble, prompts: list[Prompt], repeats: int
) -> dict[str, Any]:
    """The same prompts again and again with other noise: plain, DGS, and plain with groups that cost what DGS costs."""
    config.rl.beta, config.rl.entropy_coef = 0.0, 0.0  # the reward's gradient alone
    trainables = Trainables(session.model, config.rl, learned_row_ids(session.model))
    rl, size = config.rl, config.rl.num_generations
    factor, stop = rl.dgs_candidate_factor, rl.dgs_preview_step

    def best() -> Scaling:  # a fresh threshold each time: repeats must not depend on one another
        return GroupScaling(Threshold(None, rl.dgs_target_acceptance, rl.dgs_rate), factor, stop)

    kinds: dict[str, tuple[Callable[[], Scaling], int]] = {
        PLAIN: (NoScaling, size),
        "DGS, best": (best, size),
        "DGS, spread": (lambda: SpreadScaling(factor, stop), size),
        "plain, larger group": (
            NoScaling,
            round(size * (factor * stop + rl.generation_timesteps - stop) / rl.generation_timesteps),
        ),
    }
    table: dict[str, Any] = {}
    plain: dict[str, Tensor] = {}
    for name, (scaling, group) in kinds.items():
        gradients: dict[str, list[Tensor]] = {part: [] for part in PARTS}
        nfe, spreads, means = [], [], []
        for repeat in track(range(repeats), description=f"gradients, {name}", console=Console(stderr=True)):
            drawer = replace(sampler, scaling=scaling(), group_size=group)
            rollout = drawer.roll_out(prompts, seed=1000 + repeat, step=0)
            for part, value in part_gradients(config, session, trainables, rewards, rollout, repeat).items():
                gradients[part].append(value)
            nfe.append(
                float(
                    rollout.selection.candidates * rollout.nfe_preview
                    + len(prompts) * group * (rollout.nfe_final - rollout.nfe_preview)
                )
            )
            image = rewards.score(rollout).image.flatten(1)
            spreads.append(float(image.var(dim=1).mean()))
            means.append(float(image.mean()))
        stacked = {part: torch.stack(values) for part, values in gradients.items()}
        if name == PLAIN:
            plain, plain_nfe = stacked, torch.tensor(nfe)
        table[name] = {
            "group": group,
            "nfe": statistics.fmean(nfe),
            "image_reward": statistics.fmean(means),
            "image_reward_variance": statistics.fmean(spreads),
            **{part: compared(stacked[part], torch.tensor(nfe), plain[part], plain_nfe) for part in PARTS},
        }
    trainables.rows.release()
    return table


def label(run: Path | None) -> str:
    return "start" if run is None else f"after {run}"


def measure(run: Path | None, options: argparse.Namespace) -> dict[str, Any]:
    """Both tables of one policy."""
    config, session = open_policy(run, options.seed)
    scorers = build_scorers(config)
    rewards = build_rewards(scorers.weights, scorers.library, scorers.fallback)
    prompts = prompt_stream(
        session_prompts(session), count=options.prompts, shares={"reason": 1.0}, seed=options.seed, first=0
    )
    sampler = Sampler(
        model=session.model,
        sampling=config.rl.sampling(),
        scaling=NoScaling(),
        preview_score=scorers.preview,
        group_size=config.rl.num_generations,
    )
    wide = replace(sampler, group_size=options.candidates)
    few = prompts[: config.rl.prompts_per_step]
    return {
        "policy": label(run),
        "preview_step": config.rl.dgs_preview_step,
        "timesteps": config.rl.generation_timesteps,
        "previews": preview_table(config, wide, scorers, rewards, prompts, options.seed),
        "gradient": gradient_table(config, session, sampler, rewards, few, options.repeats) if options.repeats else {},
    }


def draw(policies: Sequence[dict[str, Any]]) -> Figure:
    """Per policy: correlation by preview step, and the gradient's variance and noise at equal NFE."""
    figure = Figure(figsize=(10, 3.4 * len(policies)), layout="constrained")
    for row, policy in enumerate(policies):
        left, right = (figure.add_subplot(len(policies), 2, 2 * row + side) for side in (1, 2))
        for axes in (left, right):
            style(axes)
        steps = [found["step"] for found in policy["previews"]]
        for key, color, label in (
            ("reward", BLUE, "preview scored by the reward"),
            ("clip", ORANGE, "preview scored by CLIP"),
        ):
            low, high = zip(*(found[key]["ci95"] for found in policy["previews"]), strict=True)
            left.fill_between(steps, low, high, color=color, alpha=0.12, linewidth=0)
            left.plot(
                steps, [found[key]["r"] for found in policy["previews"]], "o-", color=color, label=label, markersize=4
            )
        left.axvline(
            policy["preview_step"], color=QUIET, linestyle=":", linewidth=1.2, label="the recipe's preview step"
        )
        left.set(
            ylim=(-0.25, 1.05),
            xlabel=f"preview after step k of {policy['timesteps']}",
            ylabel="correlation with the final reward",
        )
        left.set_title(f"policy: {policy['policy']}", fontsize=10, color=INK, loc="left")
        left.legend(fontsize=8, frameon=False, loc="lower right")
        names = list(policy["gradient"])[1:]
        for shift, part, color in ((-0.1, "image", BLUE), (0.1, "text", ORANGE)):
            known = [(place + shift, policy["gradient"][name][part]) for place, name in enumerate(names)]
            known = [(at, found) for at, found in known if found["relative_to_plain"] is not None]
            right.plot(
                [at for at, _ in known],
                [found["relative_to_plain"] for _, found in known],
                "o",
                color=color,
                label=f"{part} part",
            )
            for at, found in known:
                right.plot([at, at], found["ci95"], color=color, linewidth=1.6)
        right.axhline(1, color=QUIET, linewidth=1)
        right.set_yscale("log")
        right.set_ylim(0.05, 50)
        right.set_yticks([0.1, 0.3, 1, 3, 10, 30], ["0.1", "0.3", "1", "3", "10", "30"])
        right.set_xticks(range(len(names)), names)
        right.set_title("gradient noise to signal at equal NFE, plain = 1", fontsize=10, color=INK, loc="left")
        if names:
            right.legend(fontsize=8, frameon=False, ncols=2)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--run", type=Path, action="append", default=[], help="finished run whose last checkpoint is one more policy"
    )
    parser.add_argument(
        "--prompts", type=int, default=8, help="of the preview table; gradients take as many as a step of training"
    )
    parser.add_argument("--candidates", type=int, default=24, help="pictures per prompt in the preview table")
    parser.add_argument("--repeats", type=int, default=12, help="independent rollouts per way to draw")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--out", type=Path, help="JSON, and a figure beside it; policies it holds already are not measured again"
    )
    options = parser.parse_args()
    sizes = {name: getattr(options, name) for name in ("prompts", "candidates", "repeats", "seed")}
    known = json.loads(options.out.read_text(encoding="utf-8")) if options.out and options.out.is_file() else {}
    done = {
        found["policy"]: found
        for found in known.get("policies", [])
        if all(known[name] == size for name, size in sizes.items())
    }
    for run in (None, *options.run):
        if label(run) not in done:
            done[label(run)] = measure(run, options)
        text = json.dumps({**sizes, "policies": list(done.values())}, indent=1)
        if options.out:  # after each: a policy takes minutes
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(text + "\n", encoding="utf-8")
            draw(list(done.values())).savefig(options.out.with_suffix(".png"), dpi=130)
    print(text)


if __name__ == "__main__":
    main()
