"""A family that draws in one order is served, too; what it cannot do is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from PIL import Image

from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.session import Session
from tests.models.janus_toys import tiny_janus
from tests.serve.serving import Fixed, client_of, data_url, picture, png, serving


@pytest.fixture(scope="module")
def janus(root: Path) -> Session:
    options = EvalConfig(batch_size=4, generation_timesteps=4, max_completion_length=8)
    concept = load_concept(root, "bo", verify=False)
    return Session(model=tiny_janus(positions=600), concept=concept, run="janus", options=options)


@pytest.fixture(scope="module")
def talker(janus: Session) -> Iterator[openai.OpenAI]:
    with serving(Fixed(janus=janus)) as (server, _):
        yield client_of(server)


def test_answers_and_drawings_are_those_of_the_session(
    talker: openai.OpenAI, janus: Session, photo: Image.Image
) -> None:
    shown = {"type": "image_url", "image_url": {"url": data_url(photo)}}
    messages: Any = [{"role": "user", "content": [{"type": "text", "text": "What is bo?"}, shown]}]
    reply = talker.chat.completions.create(model="janus", messages=messages)
    assert reply.choices[0].message.content == janus.ask("What is bo?", photo)
    events: Any = list(
        talker.images.generate(
            model="janus", prompt="a photo of bo", stream=True, partial_images=1, extra_body={"seed": 2}
        )
    )
    drawn = janus.draw("a photo of bo", seed=2)[0]
    assert [event.type.rpartition(".")[2] for event in events] == ["partial_image", "completed"]
    assert picture(events[-1].b64_json).tobytes() == drawn.tobytes()
    assert picture(events[0].b64_json).tobytes() != drawn.tobytes()


def test_what_it_cannot_do_is_named(talker: openai.OpenAI, photo: Image.Image) -> None:
    mask = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    with pytest.raises(openai.BadRequestError, match="cannot redraw a region"):
        talker.images.edit(model="janus", prompt="a bo", image=("a.png", png(photo)), mask=("m.png", png(mask)))
    messages: Any = [{"role": "user", "content": "What is " + "very " * 700 + "big?"}]
    with pytest.raises(openai.BadRequestError):
        talker.chat.completions.create(model="janus", messages=messages)
