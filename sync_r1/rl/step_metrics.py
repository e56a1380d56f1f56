"""What metrics.jsonl says about the rollout of one step: its texts, rewards and credit, and what drawing it took."""

from __future__ import annotations

from sync_r1.rl.advantages import Advantages
from sync_r1.rl.dgs import NoScaling, Scaling
from sync_r1.rl.rewards import Breakdown
from sync_r1.rl.rollout import Rollout


def step_metrics(
    rollout: Rollout, scores: Breakdown, credit: Advantages, scaling: Scaling, *, texts_only: bool, max_length: int
) -> dict[str, float]:
    """The metrics of a rollout of all processes.

    Args:
        scaling: which chose the candidates; it counts their evaluations.
        texts_only: the rollout ended with its texts (`rl.draw_every`).
        max_length: completions of this many tokens were cut off.
    """
    return {
        **completion_metrics(rollout, max_length),
        **scores.metrics,
        **_drawing(rollout, scores, NoScaling() if texts_only else scaling),
        **_credit(rollout, credit, texts_only),
    }


def completion_metrics(rollout: Rollout, max_length: int) -> dict[str, float]:
    """Lengths of the texts and how much those of a group differ: a group whose texts are all the same has nothing to
    learn from."""
    lengths = rollout.completions.mask.sum(dim=1).float()
    groups = [rollout.completions.texts[i : i + rollout.group_size] for i in range(0, len(lengths), rollout.group_size)]
    return {
        "completions/mean_length": lengths.mean().item(),
        "completions/min_length": lengths.min().item(),
        "completions/max_length": lengths.max().item(),
        "completions/clipped_ratio": (lengths >= max_length).float().mean().item(),
        "completions/distinct": sum(len(set(group)) / len(group) for group in groups) / len(groups),
        "completions/identical_groups": sum(len(set(group)) == 1 for group in groups) / len(groups),
    }


def _drawing(rollout: Rollout, scores: Breakdown, scaling: Scaling) -> dict[str, float]:
    """dgs/…: how many evaluations of the model the pictures took, and what previews and filtering changed."""
    total = scores.text + scores.image.nanmean(dim=2)
    found = scaling.metrics(rollout.selection, total, nfe_preview=rollout.nfe_preview, nfe_final=rollout.nfe_final)
    if rollout.tree is not None:
        found |= rollout.tree.metrics()
    return found


def _credit(rollout: Rollout, credit: Advantages, texts_only: bool) -> dict[str, float]:
    """The advantages' own metrics, without those that would mean something else than on steps with pictures."""
    left_out: tuple[str, ...] = ()
    if texts_only:
        left_out = ("reward", "reward_std", "image/reward")
    elif rollout.tree is not None and not any(rollout.tree.drawn):
        left_out = ("reward_std", "image/reward")
    return {name: value for name, value in credit.metrics.items() if name not in left_out}
