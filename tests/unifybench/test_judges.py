"""Who scores: judges and CLIP as the protocol wants them, and what they can read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sync_r1.data import Concept
from sync_r1.unifybench.fingerprint import network_content
from sync_r1.unifybench.judges import build_judges, check_world_judges
from sync_r1.unifybench.protocol import Protocol, load_protocol
from sync_r1.world.assets import load_evaluator_reader
from sync_r1.world.judge import WorldJudge
from sync_r1.world.render import Thing, render_image

SMALL = Protocol(generation_timesteps=1, max_completion_length=3)


def test_judges_follow_the_protocol() -> None:
    legacy = build_judges(load_protocol("legacy"), [])
    assert (
        legacy.clip is not None
        and legacy.clip.preprocessing == "legacy"
        and legacy.judge_name
        and legacy.clip_name == "world"
    )
    without_judges = build_judges(SMALL, ["eval.clip=''", "eval.judge.url=''"])
    assert without_judges.judge is None and without_judges.clip is None and without_judges.judge_name == ""
    with pytest.raises(ValueError, match="reads the embedded world's 32-pixel pictures only"):
        build_judges(SMALL, [], model="somewhere/else")


def test_a_judge_that_cannot_count_what_nothing_asked_for_is_refused() -> None:
    counting = load_protocol("world", ["unasked=true"])
    with pytest.raises(ValueError, match="unasked=true needs the embedded world's judge"):
        build_judges(counting, ["eval.judge.url=http://localhost:1/v1", "eval.judge.model=m", "eval.clip=''"])


def test_the_published_judge_client() -> None:
    """Temperature and timeout of the protocol, in the client, beside the score, and not against an option."""
    remote = ["eval.judge.url=http://localhost:1/v1", "eval.judge.model=m", "eval.clip=''"]
    published = load_protocol("unifybenchpp-2026")
    judges = build_judges(published, remote)
    client = judges.judge.config
    assert (client.temperature, client.timeout_s) == (1e-5, 120.0) and judges.judge_name.endswith("; temperature 1e-05")
    assert build_judges(SMALL, remote).judge.config.temperature == 0.0
    assert (
        build_judges(SMALL, [*remote, "eval.judge.temperature=0.5"]).judge_setting
        != build_judges(SMALL, remote).judge_setting
    )
    with pytest.raises(ValueError, match=r"asks with 1e-05; change it with --set judge_temperature=0.5"):
        build_judges(published, [*remote, "eval.judge.temperature=0.5"])


def test_a_clips_content_is_in_its_setting(tmp_path: Path) -> None:
    """Of a folder every file, its preprocessing included."""
    clip = build_judges(SMALL, []).clip
    assert clip is not None and network_content("hub/id", clip.model) == build_judges(SMALL, []).clip_setting
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [0, 0, 0]}')
    before = network_content(str(tmp_path), clip.model)
    (tmp_path / "preprocessor_config.json").write_text('{"image_mean": [1, 1, 1]}')
    assert network_content(str(tmp_path), clip.model) != before


def test_the_worlds_judges_read_the_world_only(concept: Concept, root: Path, tmp_path: Path) -> None:
    real = tmp_path / "concept" / "train" / "bo" / "0.png"
    real.parent.mkdir(parents=True)
    Image.new("RGB", (300, 200)).save(real)
    check_world_judges({"--judge": "world", "--clip": "world"}, root, ["bo"])
    check_world_judges({"--judge": "http://localhost/v1", "--clip": ""}, tmp_path, ["bo"])
    with pytest.raises(
        ValueError,
        match=r"--judge: the default 'world' reads .* but the data is .*; give --judge <URL> or --judge none",
    ):
        check_world_judges({"--judge": "world", "--clip": ""}, tmp_path, ["bo"])


def test_the_worlds_judge_of_texts_and_clauses() -> None:
    judge = WorldJudge(load_evaluator_reader())
    answers = ["It is red", "a red dog", "a blue dog", "", "nothing", "a hat"]
    assert judge.score_text_answer(
        ["?"] * 6, ["red", "a red cat", "a red cat", "red", "nothing", "nothing"], answers
    ) == [
        1,
        0.5,
        0,
        0,
        1,
        0,
    ]
    wanted = "a photo of <bo> wearing a crown at the beach"
    rewrites = [
        wanted,
        "<bo> at the beach, wearing a crown",
        "a dog wearing a crown at the beach",
        "<bo> wearing a crown",
        "<bo>",
    ]
    assert judge.score_prompt_similarity([wanted] * 5, rewrites) == [1, 1, 0.5, 0.5, 0]
    thing = Thing(
        kind="dog",
        colour="red",
        pattern="plain",
        mark="star",
        hat="crown",
        item="apple",
        scene="beach",
        flip=False,
        decor=0,
    )
    picture = torch.from_numpy(np.array(render_image(thing))).permute(2, 0, 1)[None]
    prompts = [
        "a photo of <bo>, wearing a crown, at the beach",
        "a photo of <bo>, wearing a beanie, at the beach",
        "a photo of <bo>",
    ]
    assert judge.score_clauses(picture.repeat(3, 1, 1, 1), prompts) == [1, 0.5, None]
