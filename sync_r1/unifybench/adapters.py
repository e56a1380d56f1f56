"""Models under test. An adapter knows one concept and turns items into requests: the literal text, picture and seeds a
model gets."""

from __future__ import annotations

import random
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Protocol as Interface

from PIL import Image, ImageOps
from torch import Tensor

from sync_r1.data import Concept, load_image
from sync_r1.drawings import decoded
from sync_r1.models.base import UnifiedModel
from sync_r1.models.batches import draw_traces, encode_pictures, write_texts
from sync_r1.scorers.chat.endpoint import ChatFailure
from sync_r1.session import Session
from sync_r1.types import TextContext
from sync_r1.unifybench.fingerprint import model_fingerprint
from sync_r1.unifybench.prompts import (
    drawing_text,
    drawn_words,
    prefix_lines,
    question_text,
    rewriting_text,
    tokens_line,
)
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import ALL_TASKS, GENERATION, REWRITTEN, TASKS
from sync_r1.unifybench.tasks import REWRITING, EvalItem, item_seed

QUESTIONS = ("rec", "vqa", "qa", "lookalikes", "lookalikes_drawn")


@dataclass(frozen=True, kw_only=True)
class Request:
    """One item as a model gets it."""

    item: EvalItem
    text: str  # literal input
    words: str  # the input as people read it: without soft tokens and, in drawings, without prefix lines
    reference: str  # the right answer in the words this model was given, such as another name for the placeholder
    image: Path | None = None  # picture read
    flip: bool = False  # that picture is mirrored
    seeds: tuple[int, ...] = ()  # one per picture to draw
    rewrite: str = ""  # what *_rea_gen started from
    prefix: str = ""  # name and info lines
    conditioning: str = ""  # soft tokens, or a photo's caption
    photos: tuple[Path, ...] = ()  # pictures of the concept the model was shown


class Adapter(Interface):
    """What predict needs of a model under test that knows one concept."""

    kind: str
    tasks: tuple[str, ...]  # those it can do
    concept: Concept
    protocol: Protocol  # under which it is tested

    @property
    def fingerprint(self) -> str:
        """Changes whenever weights, vocabulary or configuration do."""
        ...

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        """`rewrite`: the model's own, for *_rea_gen."""
        ...

    def answers(self, requests: Sequence[Request]) -> Sequence[str | ChatFailure]:
        """One text per request, or why there is none."""
        ...

    def pictures(self, requests: Sequence[Request]) -> list[list[Image.Image]]:
        """len(request.seeds) pictures per request."""
        ...


class ModelAdapter(ABC):
    """A `UnifiedModel` that reads and draws requests in batches; how they are worded is the sub-class's part."""

    kind = "model"
    tasks: tuple[str, ...] = (*TASKS, "lookalikes")

    def __init__(self, model: UnifiedModel, concept: Concept, protocol: Protocol, batch_size: int = 16) -> None:
        self.model, self.concept, self.protocol, self.batch_size = model, concept, protocol, batch_size
        self._fingerprint: str | None = None

    @property
    def fingerprint(self) -> str:
        if self._fingerprint is None:
            self._fingerprint = model_fingerprint(self.model)
        return self._fingerprint

    @abstractmethod
    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        """See Adapter."""

    def answers(self, requests: Sequence[Request]) -> list[str]:
        """Greedy texts."""
        codes = self._codes(requests)
        contexts = []
        for row in requests:
            seen = None
            if row.image is not None:
                seen = codes[row.image, row.flip]
            contexts.append(TextContext(row.text, seen))
        return write_texts(self.model, contexts, self.protocol.text_sampling, self.batch_size)

    def _codes(self, requests: Sequence[Request]) -> dict[tuple[Path, bool], Tensor]:
        """What the model reads of every picture that is asked about, as it is or mirrored."""
        wanted = list(dict.fromkeys((row.image, row.flip) for row in requests if row.image is not None))
        if not wanted:
            return {}
        images = (ImageOps.mirror(load_image(path)) if flip else load_image(path) for path, flip in wanted)
        return dict(zip(wanted, encode_pictures(self.model, images, self.batch_size), strict=True))

    def pictures(self, requests: Sequence[Request]) -> list[list[Image.Image]]:
        texts: list[str] = []
        seeds: list[int] = []
        for request in requests:
            texts += [request.text] * len(request.seeds)
            seeds += request.seeds
        traces = draw_traces(self.model, texts, seeds, self.protocol.image_sampling, self.batch_size)
        images = decoded(self.model, traces)
        return [list(islice(images, len(request.seeds))) for request in requests]

    def seeds(self, item: EvalItem) -> tuple[int, ...]:
        """The item's own seed for the first picture, derived ones for more."""
        return tuple(
            item.seed if copy == 0 else item_seed(item.seed, copy) for copy in range(self.protocol.images_per_prompt)
        )

    def flips(self, item: EvalItem) -> bool:
        """Two coins by the item's seed: one picture in four is mirrored, where the protocol does so."""
        return self.protocol.eval_flip and item.image is not None and random.Random(item.seed).getrandbits(2) == 3

    def source(self, item: EvalItem, rewrite: str | None) -> str:
        """The words a *_rea_gen item draws. ValueError when the rewrite is missing."""
        if self.protocol.gen_input == "truth":
            return item.truth
        if rewrite is None:
            raise ValueError(
                f"{item.task} {item.id} needs the model's own rewrite; predict {REWRITTEN[item.task]} first"
            )
        return drawn_words(self.protocol, self.concept.name, item.prompt, rewrite)


class TokensAdapter(ModelAdapter):
    """A model with the concept's tokens: ours after training, or the base with tokens that start at the class noun."""

    kind = "tokens"
    tasks: tuple[str, ...] = ALL_TASKS

    def __init__(self, session: Session, protocol: Protocol) -> None:
        super().__init__(session.model, session.concept, protocol, session.options.batch_size)
        self.session, self.tokens = session, session.tokens

    def answers(self, requests: Sequence[Request]) -> list[str]:
        if requests and requests[0].item.task == "lookalikes_drawn":
            return self._recognised(requests)
        return super().answers(requests)

    def _recognised(self, requests: Sequence[Request]) -> list[str]:
        """Yes or no by what the model would draw, see sync_r1/recognition.py."""
        images = []
        for request in requests:
            assert request.image is not None, "a look-alike is a picture"
            image = load_image(request.image)
            images.append(ImageOps.mirror(image) if request.flip else image)
        margins, _ = self.session.margins(images)
        return ["yes" if margin > 0 else "no" for margin in margins]

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        protocol, concept = self.protocol, self.concept
        line = tokens_line(concept.name, self.introduction())
        if item.task in QUESTIONS:
            text, words, conditioning = question_text(protocol, concept, item.prompt, line), item.prompt, line
        elif item.task in REWRITING:
            text, words, conditioning = rewriting_text(protocol, concept, item.task, item.prompt), item.prompt, ""
        else:
            if item.task in REWRITTEN:
                words = self.source(item, rewrite)
            else:
                words = item.prompt
            text = drawing_text(protocol, concept, words, self.tokens.drawing_tokens)
            conditioning = "".join(self.tokens.drawing_tokens)
        drawing = item.task in GENERATION
        return Request(
            item=item,
            text=text,
            words=words if drawing else text,
            reference=item.truth,
            image=item.image,
            flip=self.flips(item),
            seeds=self.seeds(item) if drawing else (),
            rewrite=rewrite or "",
            prefix=prefix_lines(protocol, concept, drawing),
            conditioning=conditioning,
        )

    def introduction(self) -> list[str]:
        """Soft tokens that introduce the concept in questions (UniCTokens: the 16 shared ones, later also the 8 for
        understanding).
        """
        shared = self.tokens.tokens[: self.tokens.read]
        return {"none": [], "shared": shared, "all": self.tokens.reading_tokens}[self.protocol.reading_tokens]
