"""What a stage reads and draws, cut into batches: dialogues with true answers, and codes of photos. B rows, N codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from PIL import Image, ImageOps
from torch import Tensor

from sync_r1.config import Config
from sync_r1.data.concepts import QA, Concept
from sync_r1.data.pictures import load_image
from sync_r1.data.prompts import drawing_prompt, placeholder, understanding_prompt
from sync_r1.data.warm_up_items import cropped_images, load_training_items
from sync_r1.session import Session
from sync_r1.sft.stages import Stage
from sync_r1.training.prompts import Prompt, context, derive_seed, prompt_stream, session_prompts
from sync_r1.types import TextContext


@dataclass(frozen=True)
class Reading:
    """One turn: what the model reads, and the answer it should give."""

    context: TextContext
    answer: str


Dialogue = list[Reading]


@dataclass(frozen=True)
class Batch:
    """One step of both streams; a stream that is off is empty."""

    readings: list[Reading]
    codes: Tensor | None  # [B, N] of pictures to draw


def rl_dialogues(session: Session, prompts: Sequence[Prompt]) -> list[Dialogue]:
    """What RL asks, with the answers that would have been right."""
    photo_codes: dict[Path, Tensor] = {}
    return [[Reading(context(session.model, prompt, photo_codes), prompt.answer)] for prompt in prompts]


def stage_dialogues(session: Session, stage: Stage, described: bool = False) -> list[Dialogue]:
    """What stage 1, 2 or 3 asks: the published training file, or what follows from the concept."""
    concept = session.concept
    if session.root is None:
        raise ValueError(
            f"stage {stage.name} reads the data root, which this session has not; open it with data=<folder>"
        )
    items = load_training_items(session.root, concept, int(stage.name))
    paths = list(dict.fromkeys(item.image for item in items if item.image))
    codes = dict(zip(paths, session.encode(paths) if paths else ()))
    tokens = stage.introduction(session.tokens)
    texts = [turn_contexts(concept, item.turns, tokens, described) for item in items]
    dialogues = []
    for item, asked in zip(items, texts):
        photo = codes.get(item.image) if item.image else None
        dialogues.append([Reading(TextContext(text, photo), turn.answer) for text, turn in zip(asked, item.turns)])
    return dialogues


def turn_contexts(concept: Concept, turns: Sequence[QA], tokens: Sequence[str], described: bool) -> list[str]:
    """What precedes each answer of a dialogue: the soft tokens' introduction and all earlier turns."""
    introduction = ""
    if tokens:
        introduction = f"{concept.placeholder} is {''.join(tokens)}.\n"
    plain = f"USER: {introduction}{turns[0].question} ASSISTANT:"
    contexts = [understanding_prompt(concept, turns[0].question, tokens) if described else plain]
    for before, turn in pairwise(turns):
        contexts.append(f"{contexts[-1]} {before.answer} USER: {turn.question} ASSISTANT:")
    return contexts


def view(image: Image.Image, size: int, scale: float, flip: bool, seed: int) -> Image.Image:
    """A random square of the picture enlarged to short side `scale`·size (1: the picture as it is), mirrored half of
    the time.
    """
    generator = torch.Generator().manual_seed(seed)
    if scale > 1:
        factor = round(scale * size) / min(image.size)
        image = image.resize(
            (max(size, round(image.width * factor)), max(size, round(image.height * factor))), Image.Resampling.BICUBIC
        )
        left = int(torch.randint(image.width - size + 1, (), generator=generator))
        top = int(torch.randint(image.height - size + 1, (), generator=generator))
        image = image.crop((left, top, left + size, top + size))
    if flip and torch.rand((), generator=generator) < 0.5:
        return ImageOps.mirror(image)
    return image


def chunks(count: int, size: int, seed: int) -> list[list[int]]:
    """0 … count−1 in random order, `size` at a time."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed)).tolist()
    return [order[start : start + size] for start in range(0, count, size)]


class Streams:
    """Both streams of one stage. Crops, flips and order are drawn once before the first epoch, or anew in each
    (`sft.fresh_epochs`).

    The baseline's questions are RL's endless stream of prompts (`prompt_stream`, same mix, same seed), cut into epochs
    of as many as there are prompts. `prompts` are RL's; by default everything that may be asked.
    """

    def __init__(self, session: Session, stage: Stage, config: Config, prompts: Sequence[Prompt] | None = None) -> None:
        self.session, self.stage, self.config, self.sft, self.seed = session, stage, config, config.sft, config.run.seed
        concept = session.concept
        self.draws = stage.drawing_batch > 0 and (self.sft.drawing_weight > 0 or stage.understanding_batch == 0)
        self.reads = stage.understanding_batch > 0 and (self.sft.understanding_weight > 0 or stage.drawing_batch == 0)
        if stage.name == "baseline" and self.reads:
            self.prompts = list(session_prompts(session) if prompts is None else prompts)
        else:
            self.prompts = []
        if self.reads:
            self.dialogues = self._dialogues()
        else:
            self.dialogues = []
        if self.reads and not self.dialogues:
            raise ValueError(
                f"stage {stage.name} has nothing to ask about <{concept.name}>; give it facts with prompts, or "
                "questions"
            )
        text = self.sft.photo_prompt.replace("{name}", placeholder(concept.name))
        self.prompt = drawing_prompt(concept.name, text, session.tokens.drawing_tokens)
        if self.draws:
            self.photos = self._photos()
        else:
            self.photos = []
        self._drawn: tuple[int, list[Batch]] | None = None

    def _dialogues(self) -> list[Dialogue]:
        if self.stage.name == "baseline":
            return rl_dialogues(self.session, self.prompts)
        return stage_dialogues(self.session, self.stage, self.sft.described)

    def _photos(self) -> list[Path]:
        root, concept = self.session.root, self.session.concept
        if self.stage.crops and root is not None:
            return cropped_images(root, concept)
        return concept.train_images

    def epoch(self, number: int) -> list[Batch]:
        """Batches of epoch `number`: as many as the longer stream has; the shorter one starts over."""
        drawn = 0
        if self.sft.fresh_epochs or self.prompts:
            drawn = number
        if self._drawn is None or self._drawn[0] != drawn:
            self._drawn = (drawn, self._materialise(drawn))
        return self._drawn[1]

    def _materialise(self, number: int) -> list[Batch]:
        sft, stage = self.sft, self.stage
        key = (self.seed, stage.name, number)
        size = sft.understanding_batch or max(stage.understanding_batch, 1)
        if self.prompts:
            asked = self._rl_order(number, size)
        else:
            asked = chunks(len(self.dialogues), size, derive_seed(*key, "questions"))
        shown = chunks(
            len(self.photos), sft.drawing_batch or max(stage.drawing_batch, 1), derive_seed(*key, "pictures")
        )
        scale, side = sft.crop_scale if stage.crops else 1.0, self.session.model.image_size
        views = [
            view(load_image(path), side, scale, stage.flips, derive_seed(*key, "view", i))
            for i, path in enumerate(self.photos)
        ]
        many = self.session.options.batch_size
        parts = [self.session.model.encode_image(views[start : start + many]) for start in range(0, len(views), many)]
        codes = torch.cat(parts) if parts else None
        batches = []
        for step in range(max(len(asked), len(shown))):
            rows = []
            if asked:
                rows = asked[step % len(asked)]
            readings = [reading for row in rows for reading in self.dialogues[row]]
            batches.append(Batch(readings, None if codes is None else codes[shown[step % len(shown)]]))
        return batches

    def _rl_order(self, number: int, size: int) -> list[list[int]]:
        place = {id(prompt): row for row, prompt in enumerate(self.prompts)}
        count, shares = len(self.prompts), self.config.rl.shares()
        chosen = prompt_stream(self.prompts, count=count, shares=shares, seed=self.seed, first=number * count)
        rows = [place[id(prompt)] for prompt in chosen]
        return [rows[start : start + size] for start in range(0, count, size)]
