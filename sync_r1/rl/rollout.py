"""Build trajectories: prompt → understanding text → drawing prompt → image tokens, completions of all prompts batched
together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from sync_r1.distributed import Processes
from sync_r1.models.base import Fill, UnifiedModel
from sync_r1.rl.dgs import NoScaling, Scaling, Selection
from sync_r1.training.prompts import Prompt, context, derive_seed, drawing_text
from sync_r1.types import ImageTrace, Sampling, TextCompletions, TextContext

PreviewScore = Callable[..., Sequence[float | None]]  # a reward function, see rewards.py


@dataclass(frozen=True)
class Candidate:
    """One drawn candidate, for the record. `row` is its place in the rollout, None when it was dropped."""

    group: int
    number: int
    text: str
    score: float  # of the preview; NaN without one
    row: int | None
    preview: Tensor | None  # uint8 [3, H, W], first image of the text


@dataclass(frozen=True)
class Tree:
    """Which texts of a rollout were drawn, and what that cost: see rl/tree.py. P prompts, G texts each, M leaves per
    drawn text."""

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
class Rollout:
    """P·G trajectories, those of a group next to each other.

    Row = prompt · G + number in the group; image row = row · M + image.
    """

    prompts: list[Prompt]  # P
    group_size: int  # G
    images_per_text: int  # M
    contexts: list[TextContext]  # P·G
    completions: TextCompletions  # P·G rows
    drawing_prompts: list[str]  # P·G
    trace: ImageTrace | None  # P·G·M rows; None when nothing is drawn
    images: Tensor | None  # uint8 [P·G·M, 3, H, W]
    selection: Selection
    candidates: list[Candidate] = field(default_factory=list)
    nfe_preview: int = 0  # per candidate, all its images
    nfe_final: int = 0
    tree: Tree | None = None  # only some texts are drawn, and images are theirs alone (rl/tree.py)

    def drawn_rows(self) -> list[int]:
        """Text rows that were drawn: all of them, or the trunks of a tree; M image rows each."""
        if self.tree is None:
            return list(range(len(self.drawing_prompts)))
        return self.tree.flags(self.group_size).flatten().nonzero().flatten().tolist()

    def first_image(self, row: int) -> Tensor | None:
        """uint8 [3, H, W], the first picture of a text row; None where none was drawn."""
        rows = self.drawn_rows()
        if self.images is None or row not in rows:
            return None
        return self.images[rows.index(row) * self.images_per_text]

    def image_prompts(self) -> list[str]:
        """Drawing prompt of every image row."""
        return [self.drawing_prompts[row] for row in self.drawn_rows() for _ in range(self.images_per_text)]

    def by_text(self, values: Tensor) -> Tensor:
        """One value per image row → [P, G, M], NaN for texts that were not drawn."""
        table = values.new_full((len(self.drawing_prompts), self.images_per_text), torch.nan)
        table[self.drawn_rows()] = values.reshape(-1, self.images_per_text)
        return table.reshape(-1, self.group_size, self.images_per_text)

    def grouped_prompts(self) -> list[list[str]]:
        """[P][G] drawing prompts."""
        size = self.group_size
        return [self.drawing_prompts[start : start + size] for start in range(0, len(self.drawing_prompts), size)]

    def promises(self) -> Rollout | None:
        """With a tree: the rollout whose one image per text is what its drawing prompt promises."""
        if self.tree is None:
            return None
        return replace(self, images=self.tree.promised, images_per_text=1, tree=None, trace=None)

    def same_prompts(self) -> Tensor:
        """[P, G] long: of each completion the number of the first one in its group with the same drawing prompt."""
        return torch.tensor([list(map(group.index, group)) for group in self.grouped_prompts()])

    def columns(self, part: Literal["text", "image"]) -> dict[str, Any]:
        """What reward functions are given (see rewards.py), one entry per text row or per image row."""
        prompts = [prompt for prompt in self.prompts for _ in range(self.group_size)]
        if part == "image":
            rows, images = [row for row in self.drawn_rows() for _ in range(self.images_per_text)], self.images
        else:
            rows, images = list(range(len(prompts))), None
        return _columns(prompts, self.completions.texts, self.drawing_prompts, images, rows)


def _columns(
    prompts: Sequence[Prompt],
    texts: Sequence[str],
    drawing_prompts: Sequence[str],
    images: Tensor | None,
    rows: Sequence[int],
) -> dict[str, Any]:
    return {
        "prompts": [prompts[row].prompt for row in rows],
        "completions": [texts[row] for row in rows],
        "images": images,
        "drawing_prompts": [drawing_prompts[row] for row in rows],
        "concept": [prompts[row].concept for row in rows],
        "kind": [prompts[row].kind for row in rows],
        "answer": [prompts[row].answer for row in rows],
    }


@dataclass
class Sampler:
    """Draws, previews and finishes the candidates of one step."""

    model: UnifiedModel
    sampling: Sampling
    scaling: Scaling
    preview_score: PreviewScore | None = None
    group_size: int = 8
    images_per_text: int = 1
    draw_images: bool = True
    preview_fill: Fill = "sampled"
    processes: Processes = field(default_factory=Processes)  # that draw groups of the same step
    photo_codes: dict[Path, Tensor] = field(default_factory=dict)  # photos are encoded once

    @torch.no_grad()
    def roll_out(
        self, prompts: Sequence[Prompt], *, seed: int, step: int, first: int = 0, draw: bool = True
    ) -> Rollout:
        """All trajectories of one step.

        Every random number is a function of (seed, step, first + prompt, candidate, image): reruns and resumed runs
        repeat it. Every process draws for its own groups, and all of them decide with the scores of all groups: they
        agree on one threshold.

        Args:
            prompts: of this process; the others have as many.
            first: number of this process's first prompt among those of all.
            draw: off, the trajectories end with their texts.
        """
        sampler = self
        if not draw:
            sampler = self.without_scaling(draw_images=False)
        pool = CandidatePool(sampler, prompts, seed, step, first)
        count, processes = len(prompts), self.processes

        def propose(wanted: list[int]) -> list[list[float]]:
            """How many more of every group of all processes → their scores; each process draws its own."""
            return processes.join(pool.draw(list(processes.share(wanted))))

        selection = sampler.scaling.select(propose, groups=count * processes.count, size=self.group_size)
        own = slice(processes.index * count, (processes.index + 1) * count)
        return pool.finish(selection.of(own))

    def observe(self, rollout: Rollout, rewards: Tensor) -> None:
        """Take note of the rewards of pictures, [P, G, M], of a rollout of all processes. Only trees remember any."""

    def without_scaling(self, **changes: Any) -> Sampler:
        """This sampler without Dynamic Group Scaling, which finishes all it draws. `changes` are to other fields."""
        own = {one.name: getattr(self, one.name) for one in fields(Sampler)}
        return Sampler(**{**own, "scaling": NoScaling(), **changes})


class CandidatePool:
    """Candidates of all groups in the order they were drawn."""

    def __init__(self, sampler: Sampler, prompts: Sequence[Prompt], seed: int, step: int, first: int) -> None:
        self.sampler, self.prompts, self.key, self.first = sampler, list(prompts), (seed, step), first
        self.contexts = [context(sampler.model, prompt, sampler.photo_codes) for prompt in prompts]
        self.places: dict[tuple[int, int], int] = {}  # (group, number) → pool row
        self.completions: list[TextCompletions] = []
        self.drawing_prompts: list[str] = []
        self.traces: list[ImageTrace] = []
        self.previews: list[Tensor] = []

    def draw(self, wanted: list[int]) -> list[list[float]]:
        """Propose `wanted[p]` more candidates for group p, all in one batch, and score their previews."""
        rows: list[tuple[int, int]] = []  # (group, number) of each new candidate
        for p, count in enumerate(wanted):
            drawn = sum(group == p for group, _ in self.places)
            rows += [(p, drawn + i) for i in range(count)]
        if not rows:  # only another process's groups are short
            return [[] for _ in wanted]
        sampler = self.sampler
        self.places |= {row: len(self.places) + i for i, row in enumerate(rows)}
        seeds = [derive_seed(*self.key, self.first + p, number, "text") for p, number in rows]
        completions = sampler.model.generate_text([self.contexts[p] for p, _ in rows], sampler.sampling, seeds)
        self.completions.append(completions)
        drawing_prompts = [drawing_text(self.prompts[p], text) for (p, _), text in zip(rows, completions.texts)]
        self.drawing_prompts += drawing_prompts
        scores = [math.nan] * len(rows)
        if sampler.draw_images:
            self._draw_images(rows, drawing_prompts)
            if sampler.scaling.stop_at is not None:
                scores = self._preview([self.prompts[p] for p, _ in rows], completions.texts, drawing_prompts)
        found: list[list[float]] = [[] for _ in wanted]
        for (p, _), score in zip(rows, scores):
            found[p].append(score)
        return found

    def _draw_images(self, rows: list[tuple[int, int]], drawing_prompts: list[str]) -> None:
        images = range(self.sampler.images_per_text)
        seeds = [derive_seed(*self.key, self.first + p, number, "image", m) for p, number in rows for m in images]
        repeated = [prompt for prompt in drawing_prompts for _ in images]
        self.traces.append(
            self.sampler.model.generate_image(
                repeated, self.sampler.sampling, seeds, stop_at=self.sampler.scaling.stop_at
            )
        )

    def _preview(self, prompts: list[Prompt], texts: list[str], drawing_prompts: list[str]) -> list[float]:
        sampler, repeat = self.sampler, self.sampler.images_per_text
        assert sampler.preview_score is not None, "previews need a score"
        pictures = sampler.model.preview(self.traces[-1], sampler.preview_fill)
        self.previews.append(pictures[::repeat].cpu())
        rows = [row for row in range(len(prompts)) for _ in range(repeat)]
        values = sampler.preview_score(**_columns(prompts, texts, drawing_prompts, pictures, rows))
        table = torch.tensor([math.nan if value is None else float(value) for value in values]).reshape(-1, repeat)
        return [float(value) for value in table.nanmean(dim=1)]

    def finish(self, selection: Selection) -> Rollout:
        """Carry the kept candidates on from their re-masked state; the others end here."""
        sampler, repeat = self.sampler, self.sampler.images_per_text
        rows = [self.places[p, number] for p, kept in enumerate(selection.kept) for number in kept]
        drawing_prompts = [self.drawing_prompts[row] for row in rows]
        trace = images = None
        nfe_preview = 0
        if sampler.draw_images:
            trace = ImageTrace.cat(self.traces).select([row * repeat + m for row in rows for m in range(repeat)])
            nfe_preview = trace.nfe * repeat
            if not trace.finished:
                repeated = [prompt for prompt in drawing_prompts for _ in range(repeat)]
                trace = sampler.model.generate_image(repeated, sampler.sampling, None, state=trace)
            images = sampler.model.decode_image(trace.tokens).cpu()
        return Rollout(
            prompts=self.prompts,
            group_size=sampler.group_size,
            images_per_text=repeat,
            contexts=[self.contexts[p] for p, kept in enumerate(selection.kept) for _ in kept],
            completions=select_completions(self.completions, rows),
            drawing_prompts=drawing_prompts,
            trace=trace,
            images=images,
            selection=selection,
            candidates=self._record(selection, rows),
            nfe_preview=nfe_preview,
            nfe_final=trace.nfe * repeat if trace is not None else 0,
        )

    def _record(self, selection: Selection, rows: list[int]) -> list[Candidate]:
        texts = [text for piece in self.completions for text in piece.texts]
        previews = None
        if self.previews:
            previews = torch.cat(self.previews)
        place = {row: i for i, row in enumerate(rows)}
        return [
            Candidate(
                group=p,
                number=number,
                text=texts[row],
                score=selection.scores[p][number] if selection.scores[p] else math.nan,
                row=place.get(row),
                preview=previews[row] if previews is not None else None,
            )
            for (p, number), row in sorted(self.places.items())
        ]


def select_completions(pieces: Sequence[TextCompletions], rows: Sequence[int]) -> TextCompletions:
    """Rows of several batches of texts as one batch, as wide as its longest text.

    Padding is repeated from each row's last column.
    """
    width = max(piece.ids.shape[1] for piece in pieces)

    def widen(values: Tensor, pad: Tensor) -> Tensor:
        return torch.cat([values, pad.expand(-1, width - values.shape[1])], dim=1)[:, :width]

    ids = torch.cat([widen(piece.ids, piece.ids[:, -1:]) for piece in pieces])[list(rows)]
    logps = torch.cat([widen(piece.logps, piece.logps.new_zeros(len(piece.texts), 1)) for piece in pieces])[list(rows)]
    mask = torch.cat([widen(piece.mask, piece.mask.new_zeros(len(piece.texts), 1)) for piece in pieces])[list(rows)]
    texts = [text for piece in pieces for text in piece.texts]
    longest = max(int(mask.sum(dim=1).max()), 1)
    return TextCompletions(ids[:, :longest], logps[:, :longest], mask[:, :longest], [texts[row] for row in rows])
