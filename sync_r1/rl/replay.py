"""Replay trajectories with gradients: the loss of both parts, piece by piece with a backward each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from accelerate import Accelerator
from torch import Tensor

from sync_r1.config import RLConfig
from sync_r1.distributed import Processes
from sync_r1.models.base import UnifiedModel
from sync_r1.rl.advantages import Advantages
from sync_r1.rl.loss import merge_metrics, policy_loss, token_weights
from sync_r1.rl.rollout import Rollout
from sync_r1.rl.tree import Tree
from sync_r1.training.parameters import Reference
from sync_r1.training.prompts import derive_seed

P = TypeVar("P")


@dataclass
class Replay:
    """λ_text·(L_text + β·KL_text) + λ_image·(L_image + β·KL_image) of one rollout: β counts within its part.

    Pieces hold at most `sequences_per_backward` sequences. Each of several `processes` replays its own rollout: the
    mean of their losses and gradients is that of one process with all groups, and metrics are those of all.
    """

    policy: UnifiedModel
    rl: RLConfig
    reference: Reference
    accelerator: Accelerator
    seed: int
    processes: Processes = field(default_factory=Processes)

    def backward(self, rollout: Rollout, advantages: Advantages, *, step: int) -> tuple[Tensor, dict[str, float]]:
        """Add the gradients of both parts. Returns the loss (scalar, detached) and metrics text/… and image/…."""
        loss = torch.zeros(())
        metrics: dict[str, float] = {}
        if self.rl.optimise != "image":
            value, found = self._text(rollout, advantages.text.flatten())
            loss += value
            metrics |= {f"text/{name}": figure for name, figure in found.items()}
        if self.rl.optimise != "text" and (rollout.trace is not None or rollout.tree is not None):
            value, found = self._image(rollout, advantages, timesteps(self.rl, self.seed, step))
            loss += value
            metrics |= {f"image/{name}": figure for name, figure in found.items()}
        for name in ("kl", "entropy"):
            found_in = [metrics[key] for key in (f"text/{name}", f"image/{name}") if key in metrics]
            if found_in:
                metrics[name] = sum(found_in) / len(found_in)
        return loss, metrics

    def _text(self, rollout: Rollout, advantages: Tensor) -> tuple[Tensor, dict[str, float]]:
        rl, device = self.rl, self.policy.device
        texts = rollout.completions
        counts = self.processes.gather(int(texts.mask.sum()))
        weights = token_weights(texts.mask, rl.loss_type, rl.max_completion_length, sum(counts) / len(counts)).to(
            device
        )
        total, pieces = torch.zeros(()), []
        parts = list(self._rows(advantages, rl.sequences_per_backward, always=rl.entropy_coef > 0))

        def read(model: UnifiedModel, rows: list[int]) -> tuple[Tensor, Tensor]:
            return model.text_logps(
                [rollout.contexts[row] for row in rows], texts.ids[rows], texts.mask[rows], rl.sampling()
            )

        for rows, ref_logps in zip(parts, self._reference_logps(parts, read)):
            with self.accelerator.autocast():
                logps, entropy = read(self.policy, rows)
            loss, metrics = policy_loss(
                logps,
                texts.logps[rows].to(device),
                weights[rows],
                advantages[rows].to(device),
                **self._clipping(),
                ref_logps=ref_logps,
                entropy=entropy,
                entropy_coef=rl.entropy_coef,
            )
            self.accelerator.backward(rl.text_loss_weight * loss)
            total += rl.text_loss_weight * loss.detach().cpu()
            pieces.append(metrics)
        return total, merge_metrics(self.processes.join(pieces))

    def _image(
        self, rollout: Rollout, advantages: Advantages, steps: dict[int, float]
    ) -> tuple[Tensor, dict[str, float]]:
        rl, trace = self.rl, rollout.trace
        if trace is None:  # a tree that skipped all prompts of this process; the others may have drawn
            return torch.zeros(()), merge_metrics(self.processes.join([]))
        prompts = rollout.image_prompts()
        device = self.policy.device
        rows_drawn = torch.tensor(rollout.drawn_rows())
        credit = step_table(advantages, steps, trace.timesteps, rows_drawn)
        longest = int(trace.drawn.sum(1).max())  # all tokens, or those of the region that was redrawn
        weights = token_weights(trace.drawn, rl.loss_type, longest).cpu()
        if rollout.tree is not None:  # a prompt that was skipped counts like one whose images all have the same reward
            weights *= len(rows_drawn) / (len(rollout.prompts) * rl.dgs_trunks)
        share = torch.zeros(trace.timesteps + 1)  # of tokens by the step that committed them; the last place is unused
        share[list(steps)] = torch.tensor(list(steps.values()))
        together = max(rl.sequences_per_backward // max(len(credit), 1), 1)
        total, pieces = torch.zeros(()), []
        parts: list[tuple[list[int], list[int]]] = []
        for chunk in _chunks(list(steps), together, rollout.tree):
            moved = credit[:, chunk].abs().sum(1)
            parts += [(chunk, rows) for rows in self._rows(moved, max(rl.sequences_per_backward // len(chunk), 1))]

        def read(model: UnifiedModel, piece: tuple[list[int], list[int]]) -> tuple[Tensor, Tensor]:
            chunk, rows = piece
            return model.image_logps([prompts[row] for row in rows], trace.select(rows), rl.sampling(), chunk)

        for piece, ref_logps in zip(parts, self._reference_logps(parts, read)):
            with self.accelerator.autocast():
                logps, committed = read(self.policy, piece)
            rows = piece[1]
            part = trace.select(rows)
            when = part.unmask_step.cpu() % (trace.timesteps + 1)  # tokens that were given have −1, the unused place
            loss, metrics = policy_loss(
                logps,
                part.logps.to(device),
                (weights[rows] * share[when]).to(device) * committed,
                credit[rows].gather(1, when).to(device),
                **self._clipping(),
                segments=part.unmask_step.clamp(min=0).to(device),  # kept tokens weigh 0 in any segment
                ref_logps=ref_logps,
            )
            self.accelerator.backward(rl.image_loss_weight * loss)
            total += rl.image_loss_weight * loss.detach().cpu()
            pieces.append(metrics)
        return total, merge_metrics(self.processes.join(pieces))

    def _reference_logps(
        self, parts: Sequence[P], read: Callable[[UnifiedModel, P], tuple[Tensor, Tensor]]
    ) -> list[Tensor | None]:
        """The reference's log-probabilities of every piece; None for each where no reference is kept.

        They are read for all pieces before the first is replayed: the reference may put its weights into the policy's
        modules while it reads, and a gradient through a graph that was built before would then be wrong.
        """
        with torch.no_grad(), self.accelerator.autocast(), self.reference.policy() as reference:
            if reference is None:
                return [None] * len(parts)
            return [read(reference, part)[0] for part in parts]

    def _clipping(self) -> dict:
        rl = self.rl
        return {
            "epsilon": rl.epsilon,
            "epsilon_high": rl.epsilon_high,
            "level": rl.importance_sampling_level,
            "beta": rl.beta,
        }

    def _rows(self, advantages: Tensor, at_most: int, always: bool = False) -> Iterator[list[int]]:
        """Rows in pieces. Rows without advantage are left out unless KL or something else (`always`) moves them: their
        gradient is 0."""
        if always or self.rl.beta > 0:
            moved = torch.ones_like(advantages, dtype=torch.bool)
        else:
            moved = advantages != 0
        rows = moved.nonzero().flatten().tolist()
        yield from (rows[i : i + at_most] for i in range(0, len(rows), at_most))


def _chunks(steps: list[int], at_most: int, tree: Tree | None) -> list[list[int]]:
    """Decoding steps in pieces; those before a tree's branch apart, because few images are replayed there."""
    parts = [steps]
    if tree is not None:
        parts = [[one for one in steps if one < tree.branch_step], [one for one in steps if one >= tree.branch_step]]
    return [part[start : start + at_most] for part in parts for start in range(0, len(part), at_most)]


def step_table(advantages: Advantages, steps: Iterable[int], timesteps: int, rows: Tensor) -> Tensor:
    """[images, T + 1] credit of the tokens committed at each of `steps`; 0 at other steps and in the last place.

    Args:
        rows: long, the texts, counted over all prompts, that were drawn: their images count.
    """
    table = torch.zeros(len(rows) * advantages.image.shape[2], timesteps + 1)
    for step in steps:
        if advantages.steps is None:
            credit = advantages.image
        else:
            credit = advantages.steps[step]
        table[:, step] = credit.flatten(0, 1)[rows].flatten()
    return table


def timesteps(rl: RLConfig, seed: int, step: int) -> dict[int, float]:
    """K of the T decoding steps → their weights: another subset at every update, the same for all rows; ascending.

    Every step's weight is one over the probability that it is chosen, so the sum over steps stays unbiased. With
    `timestep_sampling` "late", the last ⌊K/2⌋ are always chosen.
    """
    total, count = rl.generation_timesteps, rl.replayed_timesteps()
    always = 0
    if rl.timestep_sampling == "late" and count < total:
        always = count // 2
    generator = torch.Generator().manual_seed(derive_seed(seed, "timesteps", step))
    order = torch.randperm(total - always, generator=generator)[: count - always].tolist()
    chosen = dict.fromkeys(order, (total - always) / (count - always)) | dict.fromkeys(
        range(total - always, total), 1.0
    )
    return dict(sorted(chosen.items()))
