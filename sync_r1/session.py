"""One inference path: open a model with a concept, then ask, recognise, rewrite and draw.

The benchmark uses the same methods, batched.
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sync_r1 import __version__
from sync_r1.config import WORLD, Config, EvalConfig, ModelConfig
from sync_r1.config_fields import LARGEST, check_unicode
from sync_r1.data import Concept, list_concepts, load_concept, load_image
from sync_r1.data.names import mention
from sync_r1.data.phrases import with_article
from sync_r1.data.prompts import (
    RECOGNITION_QUESTION,
    compose,
    drawing_prompt,
    rewrite_prompt,
    understanding_prompt,
)
from sync_r1.data.regions import Region, read_region
from sync_r1.data.warm_up_items import negative_images
from sync_r1.drawings import EDIT, METADATA, Canvas, Drawing, Preview, drawings, to_images
from sync_r1.files import read_tensors
from sync_r1.models import loading
from sync_r1.models.base import ConceptTokens, UnifiedModel
from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.loading import pick_device
from sync_r1.models.sampling import random_cells
from sync_r1.models.weight_files import put_parameters
from sync_r1.recognition import HOW, Calibration, How, Recognition, calibrate, recognised, token_evidence, token_logps
from sync_r1.run_folder import AFTER_FILE, checkpoint_to_use, config_of, data_of, has_adapters, name_of, weights_of
from sync_r1.scorers.text import DECISIONS, split_decision
from sync_r1.types import ImageTrace, Sampling, TextContext
from sync_r1.world.export import data_folder
from sync_r1.world.regions import NAMED_REGIONS
from sync_r1.world.render import SIZE

LONGEST_TEXT = 4000  # letters of a question or a prompt

Picture = Image.Image | Path | str


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
    settings: ModelConfig = field(
        default_factory=ModelConfig
    )  # soft tokens and their start, if the concept is new to the model
    face: Tensor | None = None  # mean face embedding [512], for settings.init = "images" of a person
    tokens: ConceptTokens = field(init=False)
    _calibration: tuple[int, Calibration] | None = field(init=False, default=None, repr=False)

    def __post_init__(self) -> None:
        known = {tokens.name: tokens for tokens in self.model.concepts}
        self.tokens = known.get(self.concept.name) or self._new_tokens()

    def _new_tokens(self) -> ConceptTokens:
        settings = self.settings
        return add_concept(
            self.model,
            self.concept.name,
            self.concept.class_noun,
            settings.num_tokens,
            settings.init,
            reading_tokens=settings.reading_tokens,
            drawing_tokens=settings.drawing_tokens,
            photos=self.concept.train_images,
            face=self.face,
        )

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
        Raises:
            ValueError: a folder that is no model, run or data root, or an unknown concept.
        """
        step = checkpoint_to_use(checkpoint) if checkpoint is not None else None
        config = config_of(step) if step is not None else Config()
        source = str(data or (WORLD if step is None else data_of(step)))
        name = concept or _only_concept(source, config.data.concepts)
        root = data_folder(source, [name])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about training prompts; nothing is trained here
            known = load_concept(root, name, allow_empty_facts=True, verify=False)
        settings = settings or config.model
        if step is not None and has_adapters(step):
            settings = dataclasses.replace(
                settings, dtype="fp32"
            )  # its adapters were added in fp32; bf16 would round small ones away
        session = cls(
            model=load_model(model if step is None else weights_of(step), device, settings),
            concept=known,
            root=root,
            run=str(model) if step is None else name_of(step),
            options=options or config.eval,
            settings=settings,
            face=face,
        )
        if step is not None and (step / AFTER_FILE).is_file():  # an update from feedback
            put_parameters(session.model, read_tensors(step / AFTER_FILE))
        return session

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
        size = self.options.batch_size
        parts = []
        for start in range(0, len(images), size):
            parts.append([_as_image(image) for image in images[start : start + size]])
        return torch.cat([self.model.look(part) for part in parts])

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
        size, sampling = self.options.batch_size, self.text_sampling
        texts: list[str] = []
        for start in range(0, len(contexts), size):
            part = contexts[start : start + size]
            texts += self.model.generate_text(part, sampling, [0] * len(part)).texts
        return texts

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
        texts = [drawing_prompt(self.concept.name, prompt, self.tokens.drawing_tokens) for prompt in prompts]
        for start in range(0, len(texts), self.options.batch_size):
            rows = slice(start, start + self.options.batch_size)
            if codes is None or cells is None:
                yield self.model.generate_image(texts[rows], sampling, seeds[rows])
            else:
                yield self.model.redraw_image(texts[rows], codes[rows], cells[rows], sampling, seeds[rows])

    def drawn_text(self, prompt: str, rewrite: str) -> str:
        """What is drawn after the model rewrote `prompt`: the same rule as in training."""
        return compose("reason", self.concept.name, prompt, rewrite)

    # one at a time: what people call

    def mention(self, text: str) -> str:
        """The text with the concept's name written as placeholder, unless it holds the placeholder already."""
        return mention(text, self.concept.name, self.concept.display_name)

    def ask(self, question: str, image: Picture | None = None) -> str:
        """Answer a question about the concept, or about a picture."""
        question = _said(question, "question")
        if image is None:
            codes = None
        else:
            codes = self.encode([image])[0]
        return self.concept.shown(self.answers([self.question_context(self.mention(question), codes)])[0])

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
        pictures = [_as_image(image) for image in images]
        answers: Sequence[str | None] = [None] * len(pictures)
        margins: Sequence[float | None] = [None] * len(pictures)
        unsure = 0.0
        if how != "drawing" and pictures:
            question = RECOGNITION_QUESTION.format(name=self.concept.placeholder)
            written = self.answers([self.question_context(question, codes) for codes in self.encode(pictures)])
            if looking:
                answers = written
            else:
                answers = [split_decision(text, DECISIONS)[1] or text for text in written]
        if how != "words" and pictures:
            margins, unsure = self.margins(pictures)
        return [recognised(answer, margin, unsure) for answer, margin in zip(answers, margins, strict=True)]

    def margins(self, images: Sequence[Picture]) -> tuple[list[float], float]:
        """By how much the drawing half recognises the concept in each picture, above 0 is yes; below what size it is
        unsure."""
        learned = self.calibration()
        return learned.margins(self._evidence(images)).tolist(), learned.unsure

    def calibration(self) -> Calibration:
        """What tells the concept's photos from other pictures by drawing: learned once for the weights as they are.

        The others are its negatives for training and the random pictures, never those of a test.
        """
        version = sum(parameter._version for parameter in self.model.parameters())  # training changes it
        if self._calibration is None or self._calibration[0] != version:
            others = []
            if self.root is not None:
                others = negative_images(self.root, self.concept)
            learned = calibrate(self._evidence(self.concept.train_images), self._evidence(others))
            self._calibration = version, learned
        return self._calibration[1]

    def _evidence(self, images: Sequence[Picture]) -> Tensor:
        """How much every token [P, N] of the pictures is what the name leads to expect, and the class does not."""
        size, evidence = self.options.batch_size, [torch.zeros(0, self.model.num_image_tokens)]
        photo = f"a photo of {self.concept.placeholder}"
        named = drawing_prompt(self.concept.name, photo, self.tokens.drawing_tokens)
        plain = f"a photo of {with_article(self.concept.class_noun)}"
        for start in range(0, len(images), size):
            codes = self.model.encode_image([_as_image(image) for image in images[start : start + size]])
            logps = [token_logps(self.model, prompt, codes, size) for prompt in (named, plain)]
            evidence.append(token_evidence(*logps))
        return torch.cat(evidence)

    def rewrite(self, prompt: str) -> str:
        """Spell out a drawing prompt from the concept's private facts."""
        return self.concept.shown(self.rewrites([self.mention(_said(prompt, "prompt"))])[0])

    def draw(self, prompt: str, n: int = 1, seed: int = 0, sampling: Sampling | None = None) -> list[Image.Image]:
        """Draw `n` pictures with the seeds seed, seed+1, …; each carries what made it in its `info` (see
        `save_pictures`).

        Warns when the prompt does not mention the concept, and about words that the text slot has no room for.
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
        total = sampling.generation_timesteps
        if previews is None:
            count = total
        else:
            count = previews
        if not 1 <= count <= total:
            raise ValueError(f"previews is {previews}; it must be 1 to {total}, the number of steps")
        return self._shown(text, seed, [total * (number + 1) // count for number in range(count)], sampling)

    def _shown(self, text: str, seed: int, stops: Sequence[int], sampling: Sampling) -> Iterator[Preview]:
        drawn = [drawing_prompt(self.concept.name, text, self.tokens.drawing_tokens)]
        state = self.model.generate_image(drawn, sampling, [seed], stop_at=0)
        for stop in stops:
            state = self.model.generate_image(drawn, sampling, state=state, stop_at=stop)
            image = to_images(self.model.preview(state))[0]
            image.info = self.made_from(text, seed)
            yield Preview(stop, sampling.generation_timesteps, image)

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
        canvas = Canvas.of(self.model, _given(image))
        pixels = read_region(mask, canvas.square, NAMED_REGIONS if self.model.image_size == SIZE else None)
        cells = canvas.square.cells(pixels)
        if cells.all():
            warnings.warn("the region touches every image token, so nothing guides it: a new drawing", stacklevel=2)
        if isinstance(mask, str):
            what = mask
        else:
            what = f"{int(pixels.sum())} px"
        masks, rows = [pixels] * n, torch.from_numpy(cells).expand(n, -1)
        return self._redrawn(canvas, masks, rows, text, seeds, sampling or self.image_sampling, what)

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
        if not 0 < share <= 1:
            raise ValueError(f"share is {share}; it must be above 0 and at most 1")
        canvas = Canvas.of(self.model, given := _given(image))
        if isinstance(given, Drawing):
            known = given.prompt
        else:
            known = str(given.info.get("prompt", ""))
        text, seeds = self._asked(prompt or known or f"a photo of {self.concept.placeholder}", n, seed)
        cells = random_cells(len(canvas.codes), share, seeds)
        masks = [canvas.square.pixels(row) for row in cells.numpy()]
        sampling = sampling or self.image_sampling
        if temperature is not None:
            sampling = dataclasses.replace(sampling, temperature=temperature)
        return self._redrawn(canvas, masks, cells, text, seeds, sampling, f"share {share:g}")

    def _redrawn(
        self,
        canvas: Canvas,
        masks: Sequence[np.ndarray],
        cells: Tensor,
        text: str,
        seeds: Sequence[int],
        sampling: Sampling,
        what: str,
    ) -> list[Drawing]:
        """One drawing per seed: `cells` [n, N] are drawn again, pasted where the `masks` are True."""
        traces = self._traces([text] * len(seeds), seeds, sampling, canvas.codes.expand(len(seeds), -1), cells)
        drawn = drawings(self.model, traces, text, seeds, sampling, canvas, masks)
        for drawing in drawn:
            drawing.image.info = {**self.made_from(text, drawing.seed), EDIT: f"{what} of {canvas.digest}"}
        return drawn

    def _asked(self, prompt: str, n: int, seed: int) -> tuple[str, list[int]]:
        """The prompt with the placeholder, and the seeds. Warns when it does not mention the concept."""
        if n < 1:
            raise ValueError(f"n is {n}; it must be at least 1 picture")
        if not 0 <= seed <= LARGEST - n + 1:
            raise ValueError(f"seed is {seed}; it must lie between 0 and {LARGEST - n + 1}, so that {n} fit behind it")
        text, mark = self.mention(_said(prompt, "prompt")), self.concept.placeholder
        if mark not in text:
            shown = self.concept.shown(mark)
            warnings.warn(f"the prompt does not mention {shown}, so it is drawn without it", stacklevel=4)
        return text, list(range(seed, seed + n))

    def made_from(self, prompt: str, seed: int) -> dict[Any, Any]:
        """What a saved picture says about itself."""
        values = (prompt, seed, self.run, self.concept.name, f"sync-r1 {__version__}")
        return dict(zip(METADATA, values, strict=True))


def _said(text: str, what: str) -> str:
    if not text.strip():
        raise ValueError(f"the {what} is empty; write a few words")
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the {what} has {len(text)} letters; at most {LONGEST_TEXT} are read, so shorten it")
    return check_unicode(text.strip(), f"the {what}")


def _given(image: Picture | Drawing) -> Image.Image | Drawing:
    if isinstance(image, Drawing):
        return image
    return _as_image(image)


def _as_image(image: Picture) -> Image.Image:
    if isinstance(image, Image.Image):
        return image
    return load_image(image)


def load_model(path: str | Path, device: str = "auto", settings: ModelConfig | None = None) -> UnifiedModel:
    """Read a model onto a device: "world", or whatever `models.loading.load_model` reads.

    ValueError when it is none.
    """
    settings = settings or ModelConfig()
    if str(path) == WORLD:
        from sync_r1.world.assets import load_world_model

        return load_world_model().to(pick_device(device)).eval()
    return loading.load_model(
        path,
        device=device,
        dtype=loading.DTYPES[settings.dtype],
        image_tokenizer=settings.image_tokenizer,
        text_tokenizer=settings.text_tokenizer,
    )


def _only_concept(source: str, trained: Sequence[str]) -> str:
    """The concept that needs no naming."""
    names = list(trained) or (_world_names() if source == WORLD else list_concepts(source))
    if len(names) == 1:
        return names[0]
    raise ValueError(
        f"which concept? name one of {', '.join(names) or 'none yet: add one with `sync-r1 concept add`'} with "
        "--concept"
    )


def _world_names() -> list[str]:
    from sync_r1.world.concepts import personas

    return list(personas())
