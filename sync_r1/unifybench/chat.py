"""An external chat model behind an OpenAI-compatible endpoint as a model under test.

It reads and writes; it does not draw.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image, ImageOps

from sync_r1.data import Concept, load_image
from sync_r1.scorers.chat.client import ChatClient, image_part, text_part
from sync_r1.scorers.chat.endpoint import ChatFailure
from sync_r1.unifybench.adapters import QUESTIONS, Request
from sync_r1.unifybench.prompts import prefix_lines, question_text, rewriting_text
from sync_r1.unifybench.protocol import Protocol, digest
from sync_r1.unifybench.results import UNDERSTANDING
from sync_r1.unifybench.tasks import EvalItem


class ChatAdapter:
    """Described in words like the text-prompt baseline: name and info line; the placeholder stays as it is.

    With `photo` it is also shown the first training photo, before the picture that the question is about.
    """

    kind = "chat"
    tasks: tuple[str, ...] = (*UNDERSTANDING, "lookalikes")

    def __init__(self, client: ChatClient, concept: Concept, protocol: Protocol, photo: bool = False) -> None:
        if photo and not concept.train_images:
            raise ValueError(
                f"concept {concept.name!r} has no training photo to show; add some to concept/train/{concept.name}/"
            )
        self.client, self.concept, self.protocol, self.photo = client, concept, protocol, photo
        # an external model was not trained on the short form
        if protocol.rewrite_prompt == "trained":
            rewriting = "instruction"
        else:
            rewriting = protocol.rewrite_prompt
        self.wording = replace(protocol, text_prefix="all", rewrite_prompt=rewriting)

    @property
    def fingerprint(self) -> str:
        """Model name and address: the weights behind an endpoint cannot be seen."""
        return digest(["chat", self.client.config.url, self.client.config.model, self.photo])

    def request(self, item: EvalItem, rewrite: str | None = None) -> Request:
        if item.task not in self.tasks:
            raise ValueError(f"a chat model cannot do task {item.task}; it can do {', '.join(self.tasks)}")
        if item.task in QUESTIONS:
            text = question_text(self.wording, self.concept, item.prompt)
        else:
            text = rewriting_text(self.wording, self.concept, item.task, item.prompt)
        text = text.removeprefix("USER: ").removesuffix(" ASSISTANT:")
        return Request(
            item=item,
            text=text,
            words=text,
            reference=item.truth,
            image=item.image,
            prefix=prefix_lines(self.wording, self.concept, drawing=False),
            photos=(self.concept.train_images[0],) if self.photo else (),
        )

    def answers(self, requests: Sequence[Request]) -> list[str | ChatFailure]:
        """A failure where the endpoint gave no answer. ValueError when it denies every request (key, URL or model)."""
        batch = [[{"role": "user", "content": self._content(request)}] for request in requests]
        answers = self.client.complete_many(batch, max_tokens=self.protocol.max_completion_length)
        for answer in answers:
            if isinstance(answer, ChatFailure) and answer.kind == "denied":
                raise ValueError(answer.message)
        return [answer if isinstance(answer, ChatFailure) else str(answer).strip() for answer in answers]

    def pictures(self, requests: Sequence[Request]) -> list[list[Image.Image]]:
        raise ValueError(f"a chat model does not draw; it can do {', '.join(self.tasks)}")

    def _content(self, request: Request) -> list[dict[str, object]]:
        shown: list[tuple[str, Path, bool]] = [
            (f"A photo of <{self.concept.name}>:", photo, False) for photo in request.photos
        ]
        if request.image is not None:
            shown += [("The picture:", request.image, request.flip)]
        parts = []
        for caption, path, flip in shown:
            image = load_image(path)
            parts += [
                text_part(caption),
                image_part(ImageOps.mirror(image) if flip else image, self.client.config.max_side),
            ]
        return [*parts, text_part(request.text)]
