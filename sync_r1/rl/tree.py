"""DGS, second version: spend evaluations where they teach (docs/dgs.md).

The promise of a drawing prompt is the picture that the model foretells from it before anything is drawn: one evaluation
with every image token masked, each token filled in with its likeliest code. The score of that picture stands for the
scores of pictures that are not drawn.

All G texts of a prompt teach the text part. Every distinct drawing prompt has its promise scored, and only few of the
texts are drawn: each as a trunk of k decoding steps that branches into M leaves, because late steps decide most of the
reward of a picture of one text (branching as in TreeGRPO, arXiv 2512.08153, here late instead of early).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sync_r1.distributed import Processes
from sync_r1.rl.advantages import group_std
from sync_r1.rl.dgs import Draw, Selection, keep_all
from sync_r1.rl.rollout import Rollout, Sampler, Tree
from sync_r1.training.prompts import Prompt, derive_seed

SMOOTHING = 0.5  # weight of the newest spread in a prompt's remembered one


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
        """Every text is kept, for all of them teach the text part."""
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


class TreeSampler(Sampler):
    """Draws all texts, what their drawing prompts promise, and the pictures of those that its scaling picks."""

    scaling: TreeScaling

    @torch.no_grad()
    def roll_out(
        self, prompts: Sequence[Prompt], *, seed: int, step: int, first: int = 0, draw: bool = True
    ) -> Rollout:
        """All trajectories of one step, see `Sampler.roll_out`. Processes need not agree on anything.

        Raises:
            ValueError: the model draws in one order, so that nothing can branch.
        """
        if not draw:
            return super().roll_out(prompts, seed=seed, step=step, first=first, draw=False)
        writer = replace(self, draw_images=False, processes=Processes())
        rollout = Sampler.roll_out(writer, prompts, seed=seed, step=step, first=first)
        groups = rollout.grouped_prompts()
        promised, nfe = self._promised(groups)
        shown = [replace(one, preview=picture) for one, picture in zip(rollout.candidates, promised, strict=True)]
        rollout = replace(rollout, candidates=shown, images_per_text=self.images_per_text)
        tree = Tree(
            drawn=self.scaling.pick(groups, lambda: self._score(rollout, promised), seed, step, first),
            branch_step=self.scaling.stop_at or 1,
            promised=promised,
            nfe_previews=nfe,
            nfe_trunks=0,
            nfe_leaves=0,
            ties=self.scaling.by_promises,
        )
        return self._grow(rollout, tree, seed, step, first)

    def observe(self, rollout: Rollout, rewards: Tensor) -> None:
        """Let the scaling remember how much the rewards of pictures, [P, G, M], differ."""
        if rollout.tree is not None:
            self.scaling.observe(rollout.grouped_prompts(), rewards)

    def _promised(self, groups: Sequence[Sequence[str]]) -> tuple[Tensor, int]:
        """uint8 [P·G, 3, H, W]: what drawing prompts [P][G] promise; and the evaluations of the model that it took."""
        distinct = [(group, prompt) for group, prompts in enumerate(groups) for prompt in dict.fromkeys(prompts)]
        asked = [prompt for _, prompt in distinct]
        begun = self.model.generate_image(asked, self.sampling, [0] * len(asked), stop_at=1)
        if begun.fills is None:
            raise ValueError(
                f"rl.dgs_keep draws trees, but {type(self.model).__name__} draws in one order, so that no picture can "
                "branch and nothing foretells it; set rl.dgs_keep=best"
            )
        pictures = self.model.decode_image(begun.likely(0)).cpu()
        place = {key: row for row, key in enumerate(distinct)}
        rows = [place[group, prompt] for group, prompts in enumerate(groups) for prompt in prompts]
        return pictures[rows], begun.nfe * len(distinct)

    def _score(self, rollout: Rollout, promised: Tensor) -> list[float]:
        """[P·G] scores of what the drawing prompts promise, NaN where unknown."""
        assert self.preview_score is not None, "promises need a score"
        columns = replace(rollout, images=promised, images_per_text=1).columns("image")
        return [math.nan if value is None else float(value) for value in self.preview_score(**columns)]

    def _grow(self, rollout: Rollout, tree: Tree, seed: int, step: int, first: int) -> Rollout:
        """The rollout with the pictures of the texts that `tree` names, each a trunk that branches into leaves."""
        chosen = [(group, number) for group, numbers in enumerate(tree.drawn) for number in numbers]
        if not chosen:
            return replace(rollout, tree=tree)
        groups, leaves = rollout.grouped_prompts(), range(self.images_per_text)
        seeds = [derive_seed(seed, step, first + group, number, "image", m) for group, number in chosen for m in leaves]
        asked = [groups[group][number] for group, number in chosen]
        first_leaves = seeds[:: len(leaves)]
        trunk = self.model.generate_image(asked, self.sampling, first_leaves, stop_at=tree.branch_step)
        fork = trunk.select([row for row in range(len(chosen)) for _ in leaves])
        fork = replace(fork, seeds=torch.tensor(seeds, device=fork.seeds.device))
        repeated = [prompt for prompt in asked for _ in leaves]
        trace = self.model.generate_image(repeated, self.sampling, None, state=fork)
        leaf_steps = trace.nfe - trunk.nfe
        tree = replace(tree, nfe_trunks=trunk.nfe * len(asked), nfe_leaves=leaf_steps * len(seeds))
        return replace(rollout, trace=trace, images=self.model.decode_image(trace.tokens).cpu(), tree=tree)
