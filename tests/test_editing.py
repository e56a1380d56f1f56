"""Editing, varying and drawing step by step: what is outside the region never changes."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from sync_r1.cli import app
from sync_r1.config import EvalConfig
from sync_r1.data import load_concept
from sync_r1.drawings import save_pictures
from sync_r1.session import Session
from sync_r1.types import Sampling
from sync_r1.world import grammar
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.export import export_world
from sync_r1.world.render import random_thing, render_image
from tests.helpers import tiny_model
from tests.models.janus_toys import tiny_janus


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("world")
    export_world(folder, ["bo"])
    return folder


@pytest.fixture(scope="module")
def session(root: Path) -> Session:
    options = EvalConfig(batch_size=3, generation_timesteps=4)
    model = tiny_model(max_text_tokens=60)
    return Session(model=model, concept=load_concept(root, "bo"), run="runs/x", options=options)


@pytest.fixture(scope="module")
def world() -> Session:
    return Session.open(concept="bo", device="cpu")


def noise(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def test_an_edit_touches_nothing_outside_the_mask(session: Session) -> None:
    """A photo that is larger than what the model draws, and not square; a mask that ends within cells."""
    picture = noise(52, 40)
    mask = np.zeros((40, 52), dtype=bool)
    mask[3:22, 9:27] = True
    drawn = session.edit(picture, mask, "a photo of bo with a kite", n=4, seed=5)
    square = picture.crop((6, 0, 46, 40))
    codes = session.model.encode_image([square])[0]
    for number, drawing in enumerate(drawn):
        after = np.asarray(drawing.image)
        assert drawing.image.size == (52, 40) and np.array_equal(after[~mask], np.asarray(picture)[~mask])
        assert not np.array_equal(after[mask], np.asarray(picture)[mask])
        kept = ~drawing.trace.drawn[0]
        assert kept.any() and torch.equal(drawing.trace.tokens[0, kept], codes[kept])
        assert drawing.seed == 5 + number and drawing.prompt == "a photo of <bo> with a kite"
    again = session.edit(picture, mask, "a photo of bo with a kite", seed=7)[0]
    assert again.image.tobytes() == drawn[2].image.tobytes() != drawn[0].image.tobytes()


def test_a_drawing_is_edited_from_its_own_tokens(session: Session) -> None:
    first = session.draw_traced("a photo of bo", seed=3)[0]
    assert first.image.tobytes() == session.draw("a photo of bo", seed=3)[0].tobytes()
    second = session.edit(first, (0, 0, 5, 5), "a photo of bo in the snow")[0]
    third = session.edit(second, (12, 12, 16, 16), "a photo of bo in the snow")[0]
    kept = ~third.trace.drawn[0]
    assert torch.equal(third.trace.tokens[0, kept], second.trace.tokens[0, kept])
    assert third.original is second.image and second.region is not None and second.region.sum() == 25


def test_edits_replay_exactly(session: Session) -> None:
    sampling = Sampling(guidance_scale=2.0, top_k=20, generation_timesteps=4)
    drawing = session.edit(noise(16, 16), (2, 2, 13, 9), "a red hat on bo", sampling=sampling)[0]
    prompt = drawing.prompt.replace("<bo>", "".join(session.tokens.drawing_tokens) + "<bo>")
    logps, drawn = session.model.image_logps([prompt], drawing.trace, sampling, range(4))
    torch.testing.assert_close(logps.detach(), drawing.trace.logps, atol=1e-5, rtol=0)
    assert torch.equal(drawn, drawing.trace.drawn)


def test_variations_change_their_share_only(session: Session) -> None:
    first = session.draw_traced("a photo of bo in the snow", seed=1)[0]
    varied = session.vary(first, share=0.25, n=4, seed=2, temperature=2.0)
    assert len({drawing.trace.drawn[0].numpy().tobytes() for drawing in varied}) > 1
    for drawing in varied:
        assert int(drawing.trace.drawn.sum()) == 4 and drawing.prompt == first.prompt
        assert drawing.sampling.temperature == 2.0 and drawing.region is not None
        outside = ~drawing.region
        assert np.array_equal(np.asarray(drawing.image)[outside], np.asarray(first.image)[outside])
    assert session.vary(first, share=0.001, n=1)[0].trace.drawn.sum() == 1


def test_a_saved_picture_remembers_its_prompt(session: Session, tmp_path: Path) -> None:
    first = session.draw("a photo of bo at the beach", seed=1)
    path = save_pictures(first, tmp_path)[0]
    varied = session.vary(path, n=2)
    assert varied[0].prompt == "a photo of <bo> at the beach"
    assert session.vary(noise(16, 16), n=1)[0].prompt == "a photo of <bo>"
    edits = [session.edit(path, region, varied[0].prompt)[0].image for region in ("0,0,4,4", "4,4,8,8")]
    names = [file.name for file in save_pictures([*edits, *first], tmp_path)]
    assert len(set(names)) == 3  # none overwrites another
    with Image.open(tmp_path / names[0]) as image:
        assert image.text["edit"].startswith("0,0,4,4 of ")  # type: ignore[attr-defined]


def test_steps_can_be_watched_and_stopped(session: Session) -> None:
    seen = list(session.draw_steps("a photo of bo", seed=4, previews=3))
    assert [preview.step for preview in seen] == [1, 2, 4] and seen[0].timesteps == 4
    assert seen[-1].image.tobytes() == session.draw("a photo of bo", seed=4)[0].tobytes()
    assert seen[-1].image.info["prompt"] == "a photo of <bo>"
    assert [preview.step for preview in session.draw_steps("a photo of bo")] == [1, 2, 3, 4]
    calls: list[int] = []
    generate = session.model.generate_image

    def counted(prompts, sampling, seeds=None, state=None, stop_at=None):  # type: ignore[no-untyped-def]
        calls.append(stop_at)
        return generate(prompts, sampling, seeds, state, stop_at)

    session.model.generate_image = counted  # type: ignore[method-assign]
    try:
        next(iter(session.draw_steps("a photo of bo")))
    finally:
        del session.model.generate_image
    assert max(calls) == 1


def test_named_regions_of_the_world(world: Session) -> None:
    """The shipped model puts a hat on a photo, and only there."""
    photo = world.concept.test_images[0]
    with Image.open(photo) as image:
        before = np.asarray(image.convert("RGB"))
    drawn = world.edit(photo, "hat", f"a photo of {world.concept.info.split(' is ')[1][:-1]}, wearing a crown and bo")
    after = np.asarray(drawn[0].image)
    assert np.array_equal(after[8:], before[8:]) and not np.array_equal(after[:8], before[:8])
    hands = world.edit(photo, "left hand", "a photo of bo holding a kite")[0]
    assert hands.region is not None and np.argwhere(hands.region).max(0).tolist() == [19, 7]


def test_another_place_is_drawn_all_around_the_character(world: Session) -> None:
    """Nothing of the old place stays that would show through: everything but the place is still read as it was."""
    rng, right, kept = np.random.default_rng(6), [], []
    for number in range(8):
        thing = random_thing(rng, hat="crown", item="none", scene="forest")
        prompt = f"a photo of {grammar.describe(grammar.identity_of(thing))} wearing a crown at the beach"
        edited = world.edit(render_image(thing), "background", prompt, seed=number)[0].image
        pixels = torch.from_numpy(np.array(edited)).permute(2, 0, 1)[None]
        found = load_evaluator_reader().read(pixels)[0]
        right.append(found["scene"] == "beach")
        kept += [found[name] == getattr(thing, name) for name in ("kind", "colour", "pattern", "mark", "hat")]
    assert np.mean(right) >= 0.75 and np.mean(kept) >= 0.9, (right, kept)


def test_a_region_that_is_everything_is_said_to_be_a_new_drawing(session: Session) -> None:
    with pytest.warns(UserWarning, match="a new drawing"):
        session.edit(noise(16, 16), np.ones((16, 16), dtype=bool), "a photo of bo")
    with pytest.warns(UserWarning, match="does not mention <bo>"):
        session.edit(noise(16, 16), (0, 0, 2, 2), "a rainbow")


def test_mistakes_are_explained(session: Session, root: Path) -> None:
    picture = noise(16, 16)
    for call, words in [
        (lambda: session.edit(picture, "hat", "bo"), "unknown region 'hat'; it must be a box"),  # not the world's size
        (lambda: session.edit(picture, np.zeros((16, 16), dtype=bool), "bo"), "the mask is empty"),
        (lambda: session.edit(picture, np.ones((4, 4), dtype=bool), "bo"), "the mask is 4x4 px"),
        (lambda: session.edit(picture, (0, 0, 4, 4), " "), "the prompt is empty"),
        (lambda: session.edit(picture, (0, 0, 4, 4), "bo", n=0), "n is 0"),
        (lambda: session.edit("nowhere.png", (0, 0, 4, 4), "bo"), "no such picture"),
        (lambda: session.vary(picture, share=0), "share is 0"),
        (lambda: session.vary(picture, share=1.5), "share is 1.5"),
        (lambda: session.vary(picture, seed=-1), "seed is -1"),
        (lambda: session.vary(picture, temperature=0), "temperature is 0"),
        (lambda: session.draw_steps("bo", previews=5), "previews is 5; it must be 1 to 4"),
        (lambda: session.draw_steps("bo", previews=0), "previews is 0"),
    ]:
        with pytest.raises(ValueError, match=words):
            call()  # type: ignore[no-untyped-call]
    janus = dataclasses.replace(session, model=tiny_janus())
    with pytest.raises(ValueError, match="cannot redraw a region"):
        janus.edit(picture, (0, 0, 4, 4), "bo")
    assert len(list(janus.draw_steps("bo", previews=2))) == 2


def test_commands(world: Session, tmp_path: Path) -> None:
    photo = str(world.concept.test_images[0])
    given = ["--concept", "bo", "--device", "cpu", "--out", str(tmp_path)]

    def lines(*arguments: str) -> list[str]:
        result = CliRunner().invoke(app, [*arguments, *given], catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return result.stdout.split()

    (edited,) = lines("edit", photo, "a photo of bo wearing a cap", "--region", "8,0,24,8", "--steps", "2")
    with Image.open(edited) as image, Image.open(photo) as original:
        assert np.array_equal(np.asarray(image)[8:], np.asarray(original.convert("RGB"))[8:])
    varied = lines("vary", edited, "--share", "0.2", "-n", "2", "--steps", "2")
    assert len(set(varied)) == 2
    with Image.open(varied[0]) as image:
        assert image.text["prompt"] == "a photo of <bo> wearing a cap"  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match=r"unknown region 'nose'; it must be hat, left hand"):
        lines("edit", photo, "bo", "--region", "nose")
