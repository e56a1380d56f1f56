"""Drawings, edits and variations: the official client gets what the session draws, whole or step by step."""

from __future__ import annotations

import dataclasses
import threading
import time
from typing import Any

import numpy as np
import openai
import pytest
from PIL import Image

from sync_r1.drawings import png_bytes
from sync_r1.models.base import UnifiedModel
from sync_r1.serve.drawing import Watch
from sync_r1.serve.options import ServeOptions
from sync_r1.session import Session
from tests.serve.serving import Fixed, client_of, picture, png, serving, wait_until

PROMPT = "a photo of bo in the snow"


def generated(client: openai.OpenAI, seed: int | None = 7, **more: Any) -> Any:
    extra = {name: more.pop(name) for name in ("rewrite", "steps", "guidance", "temperature") if name in more}
    return client.images.generate(**{"model": "tiny", "prompt": PROMPT, "extra_body": {"seed": seed, **extra}, **more})


def same(first: Image.Image, second: Image.Image) -> bool:
    return first.size == second.size and first.convert("RGB").tobytes() == second.convert("RGB").tobytes()


def half_mask(image: Image.Image, clear: int = 0) -> Image.Image:
    """Its upper half is transparent: to be drawn again."""
    mask = Image.new("RGBA", image.size, (9, 9, 9, 255))
    mask.paste((9, 9, 9, clear), (0, 0, image.width, image.height // 2))
    return mask


def test_pictures_are_those_of_draw_with_what_made_them(client: openai.OpenAI, session: Session) -> None:
    reply = generated(client, n=3)
    for number, (found, wanted) in enumerate(zip(reply.data, session.draw(PROMPT, 3, 7), strict=True)):
        image = picture(found.b64_json)
        assert same(image, wanted) and found.seed == 7 + number
        assert image.info["prompt"] == "a photo of <bo> in the snow" and image.info["seed"] == str(7 + number)
        assert found.revised_prompt is None
    assert reply.usage.output_tokens == 3 * session.model.num_image_tokens
    assert not same(
        picture(generated(client, None).data[0].b64_json), picture(generated(client, None).data[0].b64_json)
    )


def test_sizes_are_the_model_s_or_multiples(client: openai.OpenAI, session: Session) -> None:
    reply = generated(client, size="48x48")
    assert picture(reply.data[0].b64_json).size == (48, 48) and reply.size == "48x48"
    assert picture(generated(client, size="auto").data[0].b64_json).size == (16, 16)
    for size in ("17x17", "16x32", "0x0", "2048x2048", "99999999999999x1", "big"):
        with pytest.raises(openai.BadRequestError, match="this model draws 16x16"):
            generated(client, size=size)


def test_the_rewrite_is_the_revised_prompt(client: openai.OpenAI, session: Session) -> None:
    found = generated(client, rewrite=True).data[0]
    text = session.drawn_text("a photo of <bo> in the snow", session.rewrites(["a photo of <bo> in the snow"])[0])
    assert found.revised_prompt == session.concept.shown(text)
    assert same(picture(found.b64_json), session.draw(text, 1, 7)[0])


def test_a_prompt_without_the_concept_is_drawn_with_a_note(client: openai.OpenAI) -> None:
    assert generated(client, prompt="a rainbow").notes == [
        "the prompt does not mention <bo>, so it is drawn without it"
    ]
    assert generated(client).notes == []


def test_other_notes(session: Session, client: openai.OpenAI, photo: Image.Image) -> None:
    whole = Image.new("RGBA", photo.size, (0, 0, 0, 0))
    files = {"image": ("a.png", png(photo)), "mask": ("m.png", png(whole))}
    (note,) = client.images.edit(model="tiny", prompt=PROMPT, **files).model_dump()["notes"]
    assert note.startswith("every part of the picture")
    bare = dataclasses.replace(session, concept=dataclasses.replace(session.concept, facts=[]))
    with serving(Fixed(tiny=bare)) as (server, _):
        found = generated(client_of(server), rewrite=True)
    assert found.notes == ["the concept has no facts, so the prompt was not rewritten"]
    assert found.data[0].revised_prompt is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_variation_is_drawn_from_the_prompt_in_the_picture(client: openai.OpenAI, session: Session) -> None:
    drawn = session.draw("a <bo> at the beach", seed=3)[0]
    for prompt, wanted in (("a <bo> at the beach", "a <bo> at the beach"), ("x" * 5000, "a photo of <bo>")):
        drawn.info["prompt"] = prompt
        reply = client.images.create_variation(model="tiny", image=("a.png", png_bytes(drawn)))
        assert picture(reply.data[0].b64_json).info["prompt"] == wanted


def test_words_that_the_model_has_no_room_for_are_named(client: openai.OpenAI) -> None:
    (note,) = generated(client, prompt="a photo of bo " + "in the snow " * 30 + "with an umbrella").notes
    assert note.startswith("the prompt is longer than the model reads") and note.endswith("umbrella")


def test_a_stream_shows_the_steps_and_ends_with_the_picture(client: openai.OpenAI, session: Session) -> None:
    events = list(generated(client, stream=True, partial_images=3))
    assert [event.type for event in events] == [*["image_generation.partial_image"] * 3, "image_generation.completed"]
    assert [event.partial_image_index for event in events[:3]] == [0, 1, 2]
    steps = list(session.draw_steps("a photo of <bo> in the snow", 7))
    for event, step in zip(events, steps, strict=True):
        assert same(picture(event.b64_json), step.image)
    assert same(picture(events[-1].b64_json), picture(generated(client).data[0].b64_json))
    (only,) = generated(client, stream=True)
    assert only.type == "image_generation.completed" and only.usage.output_tokens == 16
    with pytest.raises(openai.BadRequestError, match="n must be 1"):
        generated(client, stream=True, n=2)


def test_an_edit_keeps_every_pixel_outside_the_mask(
    client: openai.OpenAI, session: Session, photo: Image.Image
) -> None:
    given: dict[str, Any] = {"model": "tiny", "prompt": PROMPT, "extra_body": {"seed": 5}}
    files = {"image": ("a.png", png(photo)), "mask": ("m.png", png(half_mask(photo)))}
    reply = client.images.edit(**given, **files, n=2)
    wanted = session.edit(photo, half_mask(photo), PROMPT, 2, 5)
    for found, drawing in zip(reply.data, wanted, strict=True):
        image = picture(found.b64_json)
        assert same(image, drawing.image) and image.info["edit"] == drawing.image.info["edit"]
        below = (0, photo.height // 2, photo.width, photo.height)
        assert image.crop(below).convert("RGB").tobytes() == photo.crop(below).tobytes()
        assert not same(image, photo)
    *partial, last = client.images.edit(**given, **files, stream=True, partial_images=2)
    assert [event.type for event in partial] == ["image_edit.partial_image"] * 2
    assert last.type == "image_edit.completed" and same(picture(last.b64_json), wanted[0].image)
    several = {**files, "image": [files["image"]]}
    assert same(picture(client.images.edit(**given, **several).data[0].b64_json), wanted[0].image)


def test_a_picture_s_own_transparency_is_a_mask(client: openai.OpenAI, session: Session, photo: Image.Image) -> None:
    holed = photo.convert("RGBA")
    holed.putalpha(half_mask(photo).getchannel("A"))
    reply = client.images.edit(model="tiny", prompt=PROMPT, image=("a.png", png(holed)), extra_body={"seed": 5})
    below = (0, photo.height // 2, photo.width, photo.height)
    found = picture(reply.data[0].b64_json).convert("RGB")
    assert found.crop(below).tobytes() == photo.crop(below).tobytes()


def test_a_mask_is_never_passed_over(client: openai.OpenAI, photo: Image.Image) -> None:
    def edit(**files: Any) -> None:
        client.images.edit(**{"model": "tiny", "prompt": PROMPT, "image": ("a.png", png(photo)), **files})

    small = half_mask(photo).resize((16, 16))
    for files, words in (
        ({}, "nothing is transparent"),
        ({"mask": ("m.png", png(half_mask(photo, clear=255)))}, "nothing is transparent"),
        ({"mask": ("m.png", png(photo))}, "nothing is transparent"),
        ({"mask": ("m.png", png(small))}, "same size"),
        ({"mask": ("m.png", b"GIF89a")}, "mask: not a picture"),
        ({"image": ("a.png", png(photo)[:99]), "mask": ("m.png", png(half_mask(photo)))}, "image: unreadable"),
        ({"image": [("a.png", png(photo)), ("b.png", png(photo))]}, "2 pictures"),
        ({"size": "1024x1024", "mask": ("m.png", png(half_mask(photo)))}, "keeps its own"),
        ({"prompt": " ", "mask": ("m.png", png(half_mask(photo)))}, "empty"),
    ):
        with pytest.raises(openai.BadRequestError, match=words):
            edit(**files)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_variations_are_those_of_vary(client: openai.OpenAI, session: Session, photo: Image.Image) -> None:
    reply = client.images.create_variation(
        model="tiny", image=("a.png", png(photo)), n=2, extra_body={"seed": 4, "share": 0.5}
    )
    for found, drawing in zip(reply.data, session.vary(photo, 0.5, 2, 4), strict=True):
        assert same(picture(found.b64_json), drawing.image)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"n": 1000}, "n: "),
        ({"prompt": "x" * 1_000_000}, "at most 4000"),
        ({"prompt": ""}, "is empty"),
        ({"prompt": "<bo> and <nosuch>"}, "<nosuch>"),
        ({"response_format": "url"}, "b64_json"),
        ({"output_format": "webp"}, "png"),
        ({"background": "transparent"}, "opaque"),
        ({"steps": 63}, "at most 32"),
        ({"steps": 1000}, "steps: "),
        ({"guidance": -1}, "guidance: "),
        ({"temperature": 0}, "temperature: "),
        ({"partial_images": 99, "stream": True}, "partial_images: "),
    ],
)
def test_what_cannot_be_drawn_is_named(client: openai.OpenAI, given: dict[str, Any], words: str) -> None:
    with pytest.raises(openai.BadRequestError, match=words):
        generated(client, **given)


def test_a_drawing_stops_between_steps_when_its_client_goes(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    call = Watch.__call__

    def slowly(self: Watch, trace: Any) -> None:
        steps.append(trace.step)
        time.sleep(0.15)
        call(self, trace)

    monkeypatch.setattr(Watch, "__call__", slowly)
    with serving(Fixed(tiny=session)) as (server, _):
        stream = generated(client_of(server), steps=32, stream=True, partial_images=8)
        next(iter(stream))
        stream.close()
        later = threading.Thread(target=lambda: generated(client_of(server), steps=1))
        later.start()
        later.join(60)
        assert steps[-1] == 1 and max(steps) < 32, "the rest was not drawn, and the next request was"
        steps.clear()
        with pytest.raises(openai.APITimeoutError):  # not streamed
            generated(client_of(server).with_options(timeout=0.5), steps=32)
        generated(client_of(server), steps=1)
        assert max(steps) < 32


def test_when_one_client_of_a_batch_goes_the_others_get_their_pictures(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, rows = threading.Event(), []
    draw = type(session.model).generate_image
    call = Watch.__call__

    def slowly(self: Watch, trace: Any) -> None:
        rows.append(len(trace.tokens))
        time.sleep(0.1)
        call(self, trace)

    def waits(self: UnifiedModel, *given: Any, **more: Any) -> Any:
        gate.wait(30)
        return draw(self, *given, **more)

    monkeypatch.setattr(Watch, "__call__", slowly)
    monkeypatch.setattr(type(session.model), "generate_image", waits)
    found: dict[int, Any] = {}
    with serving(Fixed(tiny=session)) as (server, app):

        def ask(seed: int, timeout: float) -> None:
            try:
                found[seed] = generated(client_of(server).with_options(timeout=timeout), seed, steps=16)
            except openai.APITimeoutError as error:
                found[seed] = error

        threads = [threading.Thread(target=ask, args=(0, 60))]
        threads[0].start()
        wait_until(lambda: app.state.sync_r1.worker.waiting == 0)
        time.sleep(0.2)
        threads += [threading.Thread(target=ask, args=(seed, 60.0)) for seed in (1, 2)]
        threads.append(threading.Thread(target=ask, args=(3, 3.0)))
        for thread in threads[1:]:
            thread.start()
        wait_until(lambda: app.state.sync_r1.worker.waiting == 3)
        gate.set()
        for thread in threads:
            thread.join(60)
    monkeypatch.undo()
    assert 3 in rows and 2 in rows and isinstance(found[3], openai.APITimeoutError)
    sampling = session.image_sampling
    for seed in (0, 1, 2):
        assert found[seed].data[0].seed == seed
        wanted = session.draw(PROMPT, 1, seed, type(sampling)(generation_timesteps=16))[0]
        assert same(picture(found[seed].data[0].b64_json), wanted)


def test_the_server_can_rewrite_by_default(session: Session) -> None:
    with serving(Fixed(tiny=session), rewrite=True) as (server, _):
        assert generated(client_of(server)).data[0].revised_prompt
        assert generated(client_of(server), rewrite=False).data[0].revised_prompt is None


def test_pixels_of_a_preview_differ_from_those_of_the_picture(client: openai.OpenAI) -> None:
    first, *_, last = generated(client, stream=True, partial_images=1, steps=8)
    images = [np.asarray(picture(event.b64_json)) for event in (first, last)]
    assert (images[0] != images[1]).any()


def test_limits_of_the_options_are_named() -> None:
    with pytest.raises(ValueError, match="max_rows is 0"):
        ServeOptions(max_rows=0)
