"""One inference path: open a model with a concept, then ask, recognise, rewrite and draw.

The benchmark uses the same methods, batched.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from sync_r1 import __version__
from sync_r1.asked_texts import asked_prompt, asked_text, with_placeholders
from sync_r1.config import EvalConfig, ModelConfig
from sync_r1.constants import WORLD
from sync_r1.data import Concept, Picture, as_image
from sync_r1.data.prompts import (
    RECOGNITION_QUESTION,
    compose,
    drawing_prompt,
    rewrite_prompt,
    understanding_prompt,
    with_looks,
)
from sync_r1.data.regions import Region
from sync_r1.data.warm_up_items import negative_images
from sync_r1.drawings import (
    EDIT,
    METADATA,
    Canvas,
    Drawing,
    Patch,
    Preview,
    drawing_previews,
    drawings,
    following_seeds,
    preview_steps,
)
from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.models.batches import draw_traces, encode_pictures, write_texts
from sync_r1.opening import apply_update, open_model_and_concept, tokens_of
from sync_r1.recognition import HOW, Calibration, How, Recognition, all_recognised, calibrate, picture_evidence
from sync_r1.types import ImageTrace, Sampling, TextContext
from sync_r1.world.regions import NAMED_REGIONS
from sync_r1.world.render import SIZE


@dataclass(kw_only=True)
class Session:
    """A model, one concept, and how answers and pictures are drawn.

    A model that lacks the concept gets its tokens on construction.
    """

    model: UnifiedModel
    concept: Concept
    root: Path | None = None  # data root of the concept, for prompt templates
    run: str = ""  # where the weights come from, for the record
    options: EvalConfig = field(default_factory=EvalConfig)
    # soft tokens and their start, if the concept is new to the model
    settings: ModelConfig = field(default_factory=ModelConfig)
    face: Tensor | None = None  # mean face embedding [512], for settings.init = "images" of a person
    others: list[Concept] = field(default_factory=list)  # may be drawn beside the concept; see `apps.together`
    tokens: ConceptTokens = field(init=False)
    _calibrations: dict[tuple[int, bool], Calibration] = field(init=False, default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        self.tokens = self._tokens_of(self.concept)
        for other in self.others:
            self._tokens_of(other)

    def _tokens_of(self, concept: Concept) -> ConceptTokens:
        """The vocabulary of a concept; one that the model lacks gets new tokens."""
        return tokens_of(self.model, concept, self.settings, self.face)

    @classmethod
    def open(
        cls,
        model: str | Path = WORLD,
        data: str | Path | None = None,
        concept: str | None = None,
        checkpoint: str | Path | None = None,
        device: str = "auto",
        options: EvalConfig | None = None,
        settings: ModelConfig | None = None,
        face: Tensor | None = None,
        concepts: Sequence[str] = (),
    ) -> Session:
        """Load weights and concept.

        Args:
            model: a folder or hub id, or "world" for the model shipped with the package. Not used when `checkpoint` is
                given.
            data: data root, or "world"; by default the one the run was trained on, else "world".
            concept: its name; not needed when the run was trained on one, or the data holds one.
            checkpoint: a run folder (its newest complete checkpoint counts) or one checkpoint folder.
            device: "auto", "cpu", "cuda".
            options: how to decode; by default as the run's configuration says.
            settings: dtype, tokenizers, and the soft tokens of a concept that is new to the model; by default as the
                run says.
            face: mean face embedding [512] of a person, with settings.init = "images".
            concepts: names of several, in place of `concept`: the first is the session's own, the others may be drawn
                beside it. `apps.together` also takes what other runs learned of them.
        Raises:
            ValueError: a folder that is no model, run or data root, or an unknown concept, or one named twice.
        """
        names = [concept, *concepts] if concept is not None else list(concepts)
        opened = open_model_and_concept(model, data, names, checkpoint, device, options, settings)
        session = cls(**vars(opened), face=face)
        if checkpoint is not None:
            apply_update(session.model, checkpoint)
        return session

    @property
    def draws_world(self) -> bool:
        """Whether the model draws the embedded world, whose pictures and words can be checked by its own rules."""
        return self.model.image_size == SIZE

    # batched: what the benchmark calls

    @property
    def text_sampling(self) -> Sampling:
        """Greedy, as UnifyBench++ answers."""
        return Sampling(top_k=1, max_completion_length=self.options.max_completion_length)

    @property
    def image_sampling(self) -> Sampling:
        options = self.options
        return Sampling(
            temperature=options.temperature,
            guidance_scale=options.guidance_scale,
            generation_timesteps=options.generation_timesteps,
        )

    def encode(self, images: Sequence[Picture]) -> Tensor:
        """Pictures or their paths → what the model reads of them, row by row.

        ValueError names a file that is no usable picture.
        """
        return encode_pictures(self.model, map(as_image, images), self.options.batch_size)

    def question_context(self, question: str, codes: Tensor | None = None) -> TextContext:
        """A question, with a picture (codes [N]) or without."""
        return TextContext(understanding_prompt(self.concept, question, self.tokens.reading_tokens), codes)

    def rewrite_context(self, prompt: str) -> TextContext:
        """A drawing prompt to be spelled out from the facts. ValueError when there are none."""
        if not self.concept.facts:
            raise ValueError(
                f"concept {self.concept.title!r} has no facts to rewrite with; add some to extra_info of its info.json"
            )
        return TextContext(rewrite_prompt(self.concept, prompt))

    def answers(self, contexts: Sequence[TextContext]) -> list[str]:
        """The model's greedy texts, one per context."""
        return write_texts(self.model, contexts, self.text_sampling, self.options.batch_size)

    def rewrites(self, prompts: Sequence[str]) -> list[str]:
        """Every prompt spelled out by the model from the concept's facts."""
        return self.answers([self.rewrite_context(prompt) for prompt in prompts])

    def pictures(self, prompts: Sequence[str], seeds: Sequence[int], sampling: Sampling | None = None) -> Tensor:
        """Draw: uint8 [B, 3, H, W]. The soft tokens go before every placeholder; a prompt without it gets none.

        Picture b depends on prompts[b] and seeds[b] only. A UserWarning names the words of a prompt that were cut.
        """
        if len(prompts) != len(seeds):
            raise ValueError(f"got {len(seeds)} seeds for {len(prompts)} prompts; give one seed per prompt")
        drawn = [torch.empty(0, 3, self.model.image_size, self.model.image_size, dtype=torch.uint8)]
        for trace in self._traces(prompts, seeds, sampling or self.image_sampling):
            drawn.append(self.model.decode_image(trace.tokens).cpu())
        return torch.cat(drawn)

    def _traces(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        sampling: Sampling,
        codes: Tensor | None = None,
        cells: Tensor | None = None,
    ) -> Iterator[ImageTrace]:
        """Draw in batches: whole pictures, or the `cells` [B, N] bool of the pictures `codes` [B, N]."""
        texts = [self.with_tokens(prompt) for prompt in prompts]
        return draw_traces(self.model, texts, seeds, sampling, self.options.batch_size, codes, cells)

    def with_tokens(self, prompt: str) -> str:
        """What the model reads to draw a prompt: before every placeholder the soft tokens of its concept.

        A prompt that mentions several also says what each looks like, as long as the text slot holds it: tokens that
        were learned in pictures of one thing, some of them with other weights, do not keep two apart.
        """
        described, plain = with_looks(prompt, self._concepts), prompt
        for concept in self._concepts:
            tokens = self._tokens_of(concept).drawing_tokens
            described, plain = (drawing_prompt(concept.name, text, tokens) for text in (described, plain))
        return plain if self.model.lost_words(described) else described

    def drawn_text(self, prompt: str, rewrite: str) -> str:
        """What is drawn after the model rewrote `prompt`: the same rule as in training."""
        return compose("reason", self.concept.name, prompt, rewrite)

    # one at a time: what people call

    @property
    def _concepts(self) -> list[Concept]:
        return [self.concept, *self.others]

    def mention(self, text: str) -> str:
        """The text with every concept's name written as placeholder, unless it holds the placeholder already."""
        return with_placeholders(text, self._concepts)

    def ask(self, question: str, image: Picture | None = None) -> str:
        """Answer a question about the concept, or about a picture."""
        question = asked_text(self.model, question, self._concepts, "question")
        codes = None
        if image is not None:
            codes = self.encode([image])[0]
        return self.concept.shown(self.answers([self.question_context(question, codes)])[0])

    def recognize(self, image: Picture, how: How = "words", looking: bool = True) -> tuple[bool, str]:
        """Whether the concept is in the picture, and the answer: in the model's words, or how sure the drawing is.

        See `recognitions`.
        """
        found = self.recognitions([image], how, looking)[0]
        return found.present, found.answer

    def recognitions(self, images: Sequence[Picture], how: How = "words", looking: bool = True) -> list[Recognition]:
        """Whether the concept is in each picture.

        Args:
            how: "words" asks; neither yes nor no counts as no. "drawing" compares the picture with what the model
                would draw (sync_r1/recognition.py). "both" combines the two.
            looking: whether answers show what the model says it sees before it decides ("a red dog. no"), or only the
                decision. The model looks either way.
        Raises:
            ValueError: an unknown `how`, or a drawing without photos and other pictures to learn its threshold from.
        """
        if how not in HOW:
            raise ValueError(f"how is {how!r}; it must be one of {', '.join(HOW)}")
        pictures = [as_image(image) for image in images]
        answers, margins, unsure = None, None, 0.0
        if how != "drawing" and pictures:
            question = RECOGNITION_QUESTION.format(name=self.concept.placeholder)
            answers = self.answers([self.question_context(question, codes) for codes in self.encode(pictures)])
        if how != "words" and pictures:
            margins, unsure = self.margins(pictures, described=True)
        return all_recognised(answers, margins, unsure, looking)

    def margins(self, images: Sequence[Picture], described: bool = False) -> tuple[list[float], float]:
        """By how much the image part recognises the concept in each picture, above 0 is yes; below what size it is
        unsure.

        Args:
            described: whether it reads what the info line says of the look, as the words do, or the name alone.
        """
        learned = self.calibration(described)
        return learned.margins(self._evidence(images, described)).tolist(), learned.unsure

    def calibration(self, described: bool = False) -> Calibration:
        """What separates the concept's photos from other pictures by drawing: learned once for the weights as they are.

        The others are its negatives for training and the random pictures, never those of a test.
        """
        version = sum(parameter._version for parameter in self.model.parameters())  # training changes it
        key = version, described
        if key not in self._calibrations:
            others = [] if self.root is None else negative_images(self.root, self.concept)
            photos = self._evidence(self.concept.train_images, described)
            kept = {known: found for known, found in self._calibrations.items() if known[0] == version}
            self._calibrations = {**kept, key: calibrate(photos, self._evidence(others, described))}
        return self._calibrations[key]

    def _evidence(self, images: Sequence[Picture], described: bool) -> Tensor:
        """How much every token [P, N] of the pictures is what the name leads to expect, and the class does not."""
        pictures = map(as_image, images)
        return picture_evidence(self.model, self.concept, self.tokens, pictures, self.options.batch_size, described)

    def rewrite(self, prompt: str) -> str:
        """Spell out a drawing prompt from the concept's private facts."""
        asked = asked_text(self.model, prompt, self._concepts, "prompt")
        return self.concept.shown(self.rewrites([asked])[0])

    def draw(self, prompt: str, n: int = 1, seed: int = 0, sampling: Sampling | None = None) -> list[Image.Image]:
        """Draw `n` pictures with the seeds seed, seed+1, …; each carries what made it in its `info` (see
        `save_pictures`).

        Warns when the prompt does not mention the concept, and about words that do not fit the text slot.
        """
        return [drawing.image for drawing in self.draw_traced(prompt, n, seed, sampling)]

    def draw_traced(self, prompt: str, n: int = 1, seed: int = 0, sampling: Sampling | None = None) -> list[Drawing]:
        """The same, each picture with the trace of its tokens."""
        text, seeds = self._asked(prompt, n, seed)
        sampling = sampling or self.image_sampling
        drawn = drawings(self.model, self._traces([text] * n, seeds, sampling), text, seeds, sampling)
        for drawing in drawn:
            drawing.image.info = self.made_from(text, drawing.seed)
        return drawn

    def draw_steps(
        self, prompt: str, seed: int = 0, previews: int | None = None, sampling: Sampling | None = None
    ) -> Iterator[Preview]:
        """Draw one picture and show it on the way: that many `previews`, evenly spaced, the last is the finished one.

        By default every step is shown. What is not asked for is not drawn: leaving the loop stops the drawing.
        """
        text, (seed,) = self._asked(prompt, 1, seed)
        sampling = sampling or self.image_sampling
        stops = preview_steps(previews, sampling.generation_timesteps)
        return drawing_previews(self.model, self.with_tokens(text), seed, stops, sampling, self.made_from(text, seed))

    def edit(
        self,
        image: Picture | Drawing,
        mask: Region,
        prompt: str,
        n: int = 1,
        seed: int = 0,
        sampling: Sampling | None = None,
    ) -> list[Drawing]:
        """Draw a part of a picture again, `n` times, as the prompt says. Pixels outside the mask stay as they are.

        Args:
            mask: what to draw again: see `data.regions.read_region`; on the embedded world also hat, left hand, right
                hand, chest, body and background.
            prompt: of the whole picture as it is to become.
        Raises:
            ValueError: a mask that is empty, of another size or unknown, or a model that cannot redraw a region.
        """
        text, seeds = self._asked(prompt, n, seed)
        canvas = Canvas.of(self.model, image if isinstance(image, Drawing) else as_image(image))
        names = None
        if self.draws_world:
            names = NAMED_REGIONS
        return self._redrawn(canvas, canvas.region(mask, n, names), text, seeds, sampling or self.image_sampling)

    def vary(
        self,
        image: Picture | Drawing,
        share: float = 0.4,
        n: int = 4,
        seed: int = 0,
        temperature: float | None = None,
        prompt: str | None = None,
        sampling: Sampling | None = None,
    ) -> list[Drawing]:
        """Draw a random share of a picture's image tokens again; another share for every seed.

        Args:
            share: above 0, up to 1.
            temperature: by default as usual. In the embedded world a quarter of the tokens of a share of 0.4 change at
                temperature 1, half of them at 2 and four fifths at 3, where one drawing in ten loses an attribute.
            prompt: by default the one the picture was drawn from, else "a photo of" the concept.
        Raises:
            ValueError: a share out of range, or a model that cannot redraw a region.
        """
        if isinstance(image, Drawing):
            given: Image.Image | Drawing = image
            known = image.prompt
        else:
            given = as_image(image)
            known = str(given.info.get("prompt", ""))
        canvas = Canvas.of(self.model, given)
        text, seeds = self._asked(prompt or known or f"a photo of {self.concept.placeholder}", n, seed)
        sampling = sampling or self.image_sampling
        if temperature is not None:
            sampling = dataclasses.replace(sampling, temperature=temperature)
        return self._redrawn(canvas, canvas.random_share(share, seeds), text, seeds, sampling)

    def _redrawn(
        self, canvas: Canvas, patch: Patch, text: str, seeds: Sequence[int], sampling: Sampling
    ) -> list[Drawing]:
        """One drawing per seed: what the patch says is drawn again and pasted into the canvas."""
        traces = self._traces([text] * len(seeds), seeds, sampling, canvas.codes.expand(len(seeds), -1), patch.cells)
        drawn = drawings(self.model, traces, text, seeds, sampling, canvas, patch.masks)
        for drawing in drawn:
            drawing.image.info = {**self.made_from(text, drawing.seed), EDIT: f"{patch.what} of {canvas.digest}"}
        return drawn

    def _asked(self, prompt: str, n: int, seed: int) -> tuple[str, list[int]]:
        """The prompt with the placeholder, and the seeds. Warns when it does not mention the concept.

        ValueError for a concept that the model does not know, and for more than two characters of the embedded world.
        """
        seeds = following_seeds(seed, n)
        return asked_prompt(self.model, prompt, self._concepts), seeds

    def made_from(self, prompt: str, seed: int) -> dict[Any, Any]:
        """What a saved picture says about itself."""
        names = "+".join(concept.name for concept in self._concepts)
        values = (prompt, seed, self.run, names, f"sync-r1 {__version__}")
        return dict(zip(METADATA, values, strict=True))
