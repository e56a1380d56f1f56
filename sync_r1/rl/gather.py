"""One step's groups of all processes as one rollout: what advantages, metrics and files are made from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from sync_r1.distributed import Processes
from sync_r1.rl.rewards import Breakdown
from sync_r1.rl.rollout import Candidate, Rollout, Tree, select_completions
from sync_r1.types import TextCompletions


def gather_rollout(
    processes: Processes, rollout: Rollout, scores: Breakdown, pictures: bool
) -> tuple[Rollout, Breakdown]:
    """The rollouts and scores of all processes in their order, as one process with all prompts would have made them.

    Args:
        pictures: whether the others want them, which costs their bytes; what only replay needs never travels.
    """
    if processes.count == 1:
        return rollout, scores
    found = processes.gather((_without_replay(rollout, pictures), scores))
    return join_rollouts([part for part, _ in found]), Breakdown.cat([part for _, part in found])


def _without_replay(rollout: Rollout, pictures: bool) -> Rollout:
    """The rollout on the CPU without what only replay needs, and with `pictures` off also without its pictures."""
    texts, tree = rollout.completions, rollout.tree
    if tree is not None and not pictures:
        tree = replace(tree, promised=tree.promised[:0])
    return replace(
        rollout,
        tree=tree,
        contexts=[],
        trace=None,
        completions=TextCompletions(texts.ids.cpu(), texts.logps.cpu(), texts.mask.cpu(), texts.texts),
        images=rollout.images if pictures else None,
        candidates=rollout.candidates if pictures else [],
    )


def join_rollouts(parts: Sequence[Rollout]) -> Rollout:
    """One rollout with the prompts of all `parts`, of which each has equally many, one part after the other."""
    first = parts[0]
    prompt_count = len(first.prompts)
    row_count = prompt_count * first.group_size
    candidates: list[Candidate] = []
    for number, part in enumerate(parts):
        candidates += [_moved(one, number * prompt_count, number * row_count) for one in part.candidates]
    pieces = [part.completions for part in parts]
    trees = [part.tree for part in parts if part.tree is not None]
    return replace(
        first,
        prompts=[prompt for part in parts for prompt in part.prompts],
        completions=select_completions(pieces, range(sum(len(piece.texts) for piece in pieces))),
        drawing_prompts=[prompt for part in parts for prompt in part.drawing_prompts],
        images=_cat([part.images for part in parts]),
        tree=Tree.join(trees) if trees else None,
        selection=replace(
            first.selection,
            kept=[group for part in parts for group in part.selection.kept],
            scores=[group for part in parts for group in part.selection.scores],
        ),
        candidates=candidates,
    )


def _cat(images: Sequence[Tensor | None]) -> Tensor | None:
    """The pictures of all processes; None where no process hands any on."""
    found = [image for image in images if image is not None]
    if found:
        return torch.cat(found)
    return None


def _moved(candidate: Candidate, groups_before: int, rows_before: int) -> Candidate:
    """The candidate as it is numbered behind so many groups and rows of other processes."""
    row = candidate.row
    if row is not None:
        row += rows_before
    return replace(candidate, group=candidate.group + groups_before, row=row)
