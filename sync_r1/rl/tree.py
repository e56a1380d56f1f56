"""DGS, second version: spend evaluations where they teach (docs/dgs.md).

The promise of a drawing prompt is the picture that the model foretells from it before anything is drawn: one evaluation
with every image token masked, each token filled in with its likeliest code. The score of that picture stands for the
scores of pictures that are not drawn.

All G texts of a prompt teach the text part. Every distinct drawing prompt has its promise scored, and only few of the
texts are drawn: each as a trunk of k decoding steps that branches into M leaves, because late steps decide most of the
reward of a picture of one text (branching as in TreeGRPO, arXiv 2512.08153, here late instead of early).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sync_r1.rl.advantages import group_std
from sync_r1.rl.dgs import Draw, Selection, keep_all
from sync_r1.training.prompts import derive_seed

SMOOTHING = 0.5  # weight of the newest spread in a prompt's remembered one


@dataclass(frozen=True)
class Tree:
    """Which texts of a rollout were drawn, and what that cost. P prompts, G texts each, M leaves per drawn text."""

    drawn: list[list[int]]  # [P] numbers of the texts whose pictures were drawn; empty where a prompt was skipped
    branch_step: int  # k: steps before it belong to the trunk, the others to a leaf
    promised: Tensor  # uint8 [P·G, 3, H, W]: what a text's drawing prompt promises before anything is drawn
    nfe_previews: int  # backbone evaluations: one per distinct drawing prompt of each group,
    nfe_trunks: int  # to step k of every drawn text,
    nfe_leaves: int  # and from there to the end of every leaf
    ties: bool = False  # drawn are the texts whose promises are alike, not some at random

    def flags(self, size: int) -> Tensor:
        """[P, G] bool: texts that were drawn."""
        flags = torch.zeros(len(self.drawn), size, dtype=torch.bool)
        for group, numbers in enumerate(self.drawn):
            flags[group, numbers] = True
        return flags

    @property
    def nfe(self) -> int:
        return self.nfe_previews + self.nfe_trunks + self.nfe_leaves

    def metrics(self) -> dict[str, float]:
        """Where the evaluations went: dgs/nfe and its three parts, texts drawn, prompts skipped."""
        return {
            "dgs/nfe": float(self.nfe),
            "dgs/nfe_previews": float(self.nfe_previews),
            "dgs/nfe_trunks": float(self.nfe_trunks),
            "dgs/nfe_leaves": float(self.nfe_leaves),
            "dgs/texts_drawn": float(sum(map(len, self.drawn))),
            "dgs/prompts_skipped": float(sum(not numbers for numbers in self.drawn)),
        }

    @staticmethod
    def join(parts: Sequence[Tree]) -> Tree:
        """The trees of several processes as one."""
        return replace(
            parts[0],
            drawn=[numbers for part in parts for numbers in part.drawn],
            promised=torch.cat([part.promised for part in parts]),
            nfe_previews=sum(part.nfe_previews for part in parts),
            nfe_trunks=sum(part.nfe_trunks for part in parts),
            nfe_leaves=sum(part.nfe_leaves for part in parts),
        )


@dataclass
class TreeScaling:
    """Which texts are drawn. Its memory of prompts whose pictures do not differ is part of the checkpoint.

    A prompt is skipped where all of its texts ask for the same picture and the rewards of the pictures that they asked
    for last differed by less than `skip_below`. Being skipped doubles what is remembered, so that it is drawn again
    after a while.
    """

    trunks: int  # texts per prompt that are drawn
    stop_at: int | None  # k
    skip_below: float = 0.0  # 0 skips nothing
    spreads: dict[str, float] = field(default_factory=dict)  # drawing prompt → std of its pictures' rewards
    by_promises: ClassVar[bool] = False  # whether texts are chosen by the scores of their promises

    def pick(
        self, groups: Sequence[Sequence[str]], promises: Callable[[], Sequence[float]], seed: int, step: int, first: int
    ) -> list[list[int]]:
        """[P] lists of the numbers of the texts that are drawn.

        Args:
            groups: [P][G] drawing prompts. promises: scores what they promise, [P·G], when it is called.
            first: number of the first group among those of all processes.
        """
        return self.choose(groups, seed, step, first)

    def choose(self, groups: Sequence[Sequence[str]], seed: int, step: int, first: int) -> list[list[int]]:
        """[P] lists of `trunks` text numbers, ascending, every text of a group as likely as the others.

        Args:
            groups: [P][G] drawing prompts. first: number of the first group among those of all processes.
        """
        chosen: list[list[int]] = []
        for number, prompts in enumerate(groups):
            if len(set(prompts)) == 1 and self.spreads.get(prompts[0], self.skip_below) < self.skip_below:
                chosen.append([])
                continue
            generator = torch.Generator().manual_seed(derive_seed(seed, step, first + number, "trunks"))
            chosen.append(sorted(torch.randperm(len(prompts), generator=generator)[: self.trunks].tolist()))
        return chosen

    def observe(self, groups: Iterable[Sequence[str]], rewards: Tensor) -> None:
        """Remember how much pictures of prompts differ whose texts all agree: rewards [P, G, M], NaN where none."""
        spreads = group_std(rewards.flatten(1)).tolist()
        known = (~rewards.flatten(1).isnan()).sum(1).tolist()
        for prompts, spread, count in zip(groups, spreads, known, strict=True):
            prompt = prompts[0]
            if len(set(prompts)) > 1:
                continue
            if count > 1:
                self.spreads[prompt] = (1 - SMOOTHING) * self.spreads.get(prompt, spread) + SMOOTHING * spread
            elif prompt in self.spreads:
                self.spreads[prompt] *= 2

    def select(self, draw: Draw, *, groups: int, size: int) -> Selection:
        """Every text is kept."""
        return keep_all(draw, groups=groups, size=size)

    def metrics(self, selection: Selection, rewards: Tensor, *, nfe_preview: int, nfe_final: int) -> dict[str, float]:
        """The tree itself knows what it cost: see `Tree.metrics`."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        return {"spreads": dict(self.spreads)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        spreads = dict(state["spreads"])
        if not all(type(spread) in (int, float) and spread >= 0 for spread in spreads.values()):
            raise ValueError("the remembered spreads of Dynamic Group Scaling are not all numbers of at least 0")
        self.spreads = spreads


@dataclass
class TieScaling(TreeScaling):
    """Draws a text only where its promise does not tell it from another text of the prompt.

    One evaluation of a drawing prompt shows most of what it asks for, but is blind to small things. Texts that it tells
    apart are taken at its word; of the others every distinct drawing prompt is drawn, so that pictures decide.
    """

    tie_below: float = 0.05
    by_promises: ClassVar[bool] = True

    def pick(
        self, groups: Sequence[Sequence[str]], promises: Callable[[], Sequence[float]], seed: int, step: int, first: int
    ) -> list[list[int]]:
        return self.ties(groups, promises())

    def ties(self, groups: Sequence[Sequence[str]], promised: Sequence[float]) -> list[list[int]]:
        """[P] lists of text numbers, ascending: the first text of every drawing prompt whose promise is less than
        `tie_below` from that of another drawing prompt of its group, or has no score.

        Args:
            groups: [P][G] drawing prompts. promised: [P·G] scores of their promises, NaN where unknown.
        """
        chosen: list[list[int]] = []
        start = 0
        for prompts in groups:
            values = {prompt: promised[start + prompts.index(prompt)] for prompt in prompts}
            start += len(prompts)
            tied = [prompt for prompt in values if self._is_tied(prompt, values)]
            chosen.append(sorted(map(prompts.index, tied)))
        return chosen

    def _is_tied(self, prompt: str, values: dict[str, float]) -> bool:
        """Whether another drawing prompt's value is less than `tie_below` away from this one's, or unknown (NaN)."""
        for other, value in values.items():
            told_apart = abs(values[prompt] - value) >= self.tie_below
            if other != prompt and not told_apart:
                return True
        return False
