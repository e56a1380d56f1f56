"""Baselines for any unified model that have learned nothing: the concept is described in words (TP) or shown in a photo
(IP).

By the published rule both write "<bo>" as every other model does (`baseline_name=own`). With `spoken` they write a
name the model met in pretraining, or "the dog" where it knows none, and what they wrote is compared with the truth in
the same words. Drawings are compared with the same words and pictures as those of every other model.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sync_r1.data import Concept
from sync_r1.data.phrases import with_article
from sync_r1.models.base import UnifiedModel
from sync_r1.unifybench.adapters import QUESTIONS, ModelAdapter, Request
from sync_r1.unifybench.prompts import drawing_text, prefix_lines, question_text, rewriting_text
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import GENERATION, REWRITTEN
from sync_r1.unifybench.tasks import REWRITING, EvalItem

_BEFORE_NAME = "of|with|and|or|for|by|near|beside|behind|on|to|from|at|where|while"


@dataclass(frozen=True)
class Spoken:
    """The concept in plain words, as the prompts want it."""

    name: str
    placeholder: str  # what stands in prompts for the concept
    info: str
    facts: list[str]


class TextPrompt(ModelAdapter):
    """The info line as text, no concept tokens. Facts are in rewriting prompts, which list them for every model.

    Drawings get the prefix lines where the name is the concept's own (the published form) or the protocol puts them
    before drawings; else the info line's description in the place of the name.
    """

    kind = "text-prompt"

    def __init__(self, model: UnifiedModel, concept: Concept, protocol: Protocol, batch_size: int = 16) -> None:
        super().__init__(model, concept, protocol, batch_size)
        self.own = protocol.baseline_name == "own"
        known = ""
        if model.name_pool:
            known = model.name_pool[0]
        if self.own:
            self.mention = concept.placeholder
        else:
            self.mention = known or f"the {concept.class_noun}"
        if self.own:
            name = concept.name
        else:
            name = known.strip("<>") or concept.class_noun
        facts = [self.in_words(fact) for fact in concept.facts]
        self.spoken = Spoken(name, self.mention, self.in_words(concept.info), facts)

    def in_words(self, text: str) -> str:
        """The text with this model's words for the placeholder."""
        return text.replace(self.concept.placeholder, self.mention)

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        drawing = item.task in GENERATION
        in_prefix = replace(self.protocol, text_prefix="all")  # this baseline is given everything in words
        if self.own or not drawing:
            protocol = in_prefix
        else:
            protocol = self.protocol
        prefix = prefix_lines(protocol, self.spoken, drawing)
        if item.task in QUESTIONS:
            text = question_text(in_prefix, self.spoken, self.in_words(item.prompt))
        elif item.task in REWRITING:
            text = rewriting_text(in_prefix, self.spoken, item.task, self.in_words(item.prompt))
        else:
            text = self._drawing(item, rewrite, protocol)
        return Request(
            item=item,
            text=text,
            words=text.removeprefix(f"{prefix}\n") if drawing else text,
            reference=item.truth if drawing else self.in_words(item.truth),
            image=item.image,
            flip=self.flips(item),
            seeds=self.seeds(item) if drawing else (),
            rewrite=rewrite or "",
            prefix=prefix,
            conditioning=self.description(),
        )

    def description(self) -> str:
        """The info line as a noun phrase: "a red striped dog with a star"."""
        phrase = re.sub(rf"^{re.escape(self.mention)} is ", "", self.spoken.info).strip().rstrip(".")
        if re.match(r"(an?|the|my)\b", phrase):
            return phrase
        return f"{with_article(self.concept.class_noun)}, {phrase}"

    def _drawing(self, item: EvalItem, rewrite: str | None, protocol: Protocol) -> str:
        placeholder = self.concept.placeholder
        if item.task in REWRITTEN:
            words = self.source(item, rewrite).replace(self.mention, placeholder)
        else:
            words = item.prompt
        if self.own:
            return drawing_text(protocol, self.spoken, words, ())
        if protocol.text_prefix == "all":
            return drawing_text(protocol, self.spoken, name_in_words(words, placeholder, self.concept.class_noun), ())
        return name_in_words(words, placeholder, self.concept.class_noun, self.description())


class ImagePrompt(TextPrompt):
    """The first training photo, and of the concept in words nothing but its class noun.

    A model that reads one picture at a time gets the photo itself for questions without a picture (qa), and its own
    description of the photo as the info line everywhere, drawings included. So what it draws is like for like with TP:
    both draw from words.
    """

    kind = "image-prompt"

    def __init__(self, model: UnifiedModel, concept: Concept, protocol: Protocol, batch_size: int = 16) -> None:
        super().__init__(model, concept, protocol, batch_size)
        if not concept.train_images:
            raise ValueError(
                f"concept {concept.name!r} has no training photo to show; add some to concept/train/{concept.name}/"
            )
        self.photo = concept.train_images[0]
        self.spoken = replace(self.spoken, info=f"{self.mention} is {with_article(concept.class_noun)}.")
        self.spoken = replace(self.spoken, info=f"{self.mention} is {self._caption()}.")

    def _caption(self) -> str:
        item = EvalItem(
            task="vqa", id="caption", prompt=f"Describe {self.mention}.", truth="", seed=0, image=self.photo
        )
        text = question_text(replace(self.protocol, text_prefix="all"), self.spoken, item.prompt)
        written = self.answers([Request(item=item, text=text, words=text, reference="", image=self.photo)])[0]
        caption = " ".join(written.split()).rstrip(".")
        return caption or with_article(self.concept.class_noun)

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        request = replace(super().request(item, rewrite), photos=(self.photo,))
        if item.task == "qa" and item.image is None:
            return replace(request, image=self.photo)
        return request


def name_in_words(prompt: str, placeholder: str, noun: str, phrase: str | None = None) -> str:
    """The prompt with words instead of `placeholder`: `phrase` (default: article and noun), or the bare noun behind an
    adjective.

    "a photo of <bo> at sea" → "a photo of a dog at sea"; "a <bo> in the snow" → "a dog in the snow"; "a red <bo>" → "a
    red dog".
    """
    if phrase is None:
        named = with_article(noun)
    else:
        named = phrase
    quoted = re.escape(placeholder)
    articles = "an?|the|my"
    if phrase is None:
        articles = "an?"
    text = re.sub(rf"\b(?:{articles}) {quoted}", lambda _: named, prompt, flags=re.IGNORECASE)
    text = re.sub(
        rf"(^|\b(?:{_BEFORE_NAME}) |, |\n){quoted}", lambda found: found[1] + named, text, flags=re.IGNORECASE
    )
    return text.replace(placeholder, noun)
