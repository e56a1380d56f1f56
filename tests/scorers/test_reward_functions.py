"""The rewards that ship: who is scored by what, and where a reward does not apply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from PIL import Image

from sync_r1.scorers import reward_functions
from sync_r1.scorers.base import check_fallback


def columns(**more: Any) -> dict[str, Any]:
    bo = SimpleNamespace(name="bo", class_noun="dog", info="<bo> is a red dog.", train_images=[])
    return {
        "prompts": ["p", "p"],
        "completions": ["a photo of <bo> in the snow", "red"],
        "answer": ["a photo of <bo> at the beach", "Red."],
        "kind": ["reason", "look"],
        "concept": [bo, bo],
        "images": torch.zeros(2, 3, 4, 4, dtype=torch.uint8),
        **more,
    }


def with_photos(folder: Path, count: int = 2) -> dict[str, Any]:
    given = columns()
    paths = [folder / f"{i}.png" for i in range(count)]
    for path in paths:
        Image.new("RGB", (20, 20)).save(path)
    for who in given["concept"]:
        who.train_images = paths
    return given


def test_text_rewards_take_their_own_kind() -> None:
    shared_words = 5  # of 7 in each: a photo of <bo> … the
    assert reward_functions.rewrite(**columns()) == [pytest.approx(0.5 * shared_words / 7), None]
    assert reward_functions.answer(**columns()) == [None, 1.0]


def test_a_recognition_is_scored_by_its_decision() -> None:
    said = ["a red dog with a star. no", "No.", "a red dog. yes", "a red dog", ""]
    found = reward_functions.answer(completions=said, answer=["no"] * 5, kind=["recognize"] * 5)
    assert found == [1.0, 1.0, 0.0, 0.0, 0.0]


def test_what_was_not_asked_for_costs_half_a_point_each() -> None:
    asked: list[str] = []

    def count(images: torch.Tensor, texts: Sequence[str]) -> list[int | None]:
        asked.extend(texts)
        return [0, 1][: len(images)]

    given = {**columns(), "drawing_prompts": ["a photo of <bo>", "a photo of <bo> at the beach"]}
    assert reward_functions.RestraintRewards(count).unasked(**given) == [1.0, 0.5]
    assert asked[1].endswith("a photo of <bo> at the beach") and asked[0].startswith(given["concept"][0].info)
    many = reward_functions.RestraintRewards(lambda images, texts: [3, None])
    assert many.unasked(**given) == [0.0, None]


def test_wanted_picture_says_it_without_the_name() -> None:
    bo = columns()["concept"][0]
    assert (
        reward_functions.wanted_picture(bo, "reason", "a photo of <bo> at the beach") == "a photo of dog at the beach"
    )
    assert reward_functions.wanted_picture(bo, "look", "Red.") == "a photo of dog"


class FakeJudge:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[list[str], Any]] = []

    def __call__(self, images: torch.Tensor, texts: Sequence[str], *, references: Any = None) -> list[float]:
        self.asked.append((list(texts), references))
        return [0.25] * len(images)


def test_the_judge_is_asked_for_looks_and_for_the_request_apart() -> None:
    judge = FakeJudge()
    scored = reward_functions.JudgeRewards(judge)
    assert scored.likeness(**columns()) == [0.25, 0.25]
    assert scored.faithfulness(**columns()) == [0.25, None]
    assert judge.asked == [(["<bo> is a red dog."] * 2, None), (["a photo of  at the beach", ""], None)]


def test_a_judge_that_compares_gets_the_photos_and_the_class_noun(tmp_path: Path) -> None:
    judge, given = FakeJudge(), with_photos(tmp_path)
    scored = reward_functions.JudgeRewards(judge, photos=True)
    scored.likeness(**given)
    scored.faithfulness(**given)
    photos = [tmp_path / "0.png", tmp_path / "1.png"]
    assert judge.asked == [(["<bo> is a red dog."] * 2, [photos, photos]), (["a photo of dog at the beach", ""], None)]


class FakeNetwork:
    """Photos have the features (1, 0) and (0, 1), drawings (1, 0) and (−1, 0). Counts how often photos are embedded."""

    calls = 0

    def image_features(self, images: Any) -> torch.Tensor:
        if not isinstance(images, torch.Tensor):
            self.calls += 1
            return torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        return torch.tensor([[1.0, 0.0], [-1.0, 0.0]])[: len(images)]

    def clip_t(self, images: torch.Tensor, texts: list[str], truncate: bool) -> torch.Tensor:
        assert truncate
        return torch.tensor([float(len(text)) for text in texts])

    def embed(self, images: Any) -> tuple[torch.Tensor, torch.Tensor]:
        """The second picture, drawn or photographed, has no face."""
        return self.image_features(images), torch.tensor([True, False])


def test_clip_rewards_embed_photos_once(tmp_path: Path) -> None:
    given, clip = with_photos(tmp_path), FakeNetwork()
    scored = reward_functions.ClipRewards(clip)  # type: ignore[arg-type]
    assert scored.identity(**given) == [0.5, 0.0]  # cosine to the mean photo, never below 0
    assert scored.identity(**given) == [0.5, 0.0]
    assert clip.calls == 1
    assert scored.alignment(**given) == [len("a photo of dog at the beach"), len("a photo of dog")]


def test_dino_reward_embeds_photos_once(tmp_path: Path) -> None:
    given, dino = with_photos(tmp_path), FakeNetwork()
    scored = reward_functions.DinoRewards(dino)  # type: ignore[arg-type]
    assert [scored.dino(**given) for _ in range(2)] == [[0.5, 0.0]] * 2
    assert dino.calls == 1


def test_a_picture_without_a_face_is_not_scored_and_no_reference(tmp_path: Path) -> None:
    given, face = with_photos(tmp_path), FakeNetwork()
    scored = reward_functions.FaceRewards(face)  # type: ignore[arg-type]
    assert [scored.face(**given) for _ in range(2)] == [
        [1.0, None]
    ] * 2  # the photo without a face does not pull the mean down
    assert face.calls == 1


def test_a_concept_whose_photos_show_no_face_cannot_be_scored(tmp_path: Path) -> None:
    def embed(images: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.ones(2, 2), torch.tensor([isinstance(images, torch.Tensor)] * 2)

    scored = reward_functions.FaceRewards(SimpleNamespace(embed=embed))  # type: ignore[arg-type]
    assert scored.face(**with_photos(tmp_path)) == [None, None]


def test_a_concept_without_photos_is_named() -> None:
    with pytest.raises(ValueError, match="concept 'bo' has no training photos to compare drawings with"):
        reward_functions.ClipRewards(FakeNetwork()).identity(**columns())  # type: ignore[arg-type]


def test_blend() -> None:
    def fixed(*values: float | None) -> Any:
        return lambda **_: list(values)

    score = reward_functions.blend(fixed(1.0, None, 0.5, None), fixed(0.0, 0.4, math.nan, None), 0.65)
    assert list(score()) == [pytest.approx(0.65), 0.4, 0.5, None]


@pytest.mark.parametrize(
    ("fallback", "said"),
    [
        ({"fase": "identity"}, "scorers.fallback names 'fase', which is no reward; did you mean face"),
        ({"face": "identitty"}, "scorers.fallback.face names 'identitty', which is no reward; did you mean identity"),
        ({"face": "face"}, "goes in a circle: face → face"),
        ({"face": "dino", "dino": "identity", "identity": "face"}, "goes in a circle: face → dino → identity → face"),
        ({"face": "answer"}, "scorers.fallback.face is 'answer', which judges the text; use one that judges the image"),
    ],
)
def test_stand_ins_that_cannot_work_are_refused(fallback: dict[str, str], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check_fallback(fallback, {"face": "image", "dino": "image", "identity": "image", "answer": "text"})


def test_a_chain_of_stand_ins_is_fine() -> None:
    check_fallback({"face": "dino", "dino": "identity"}, {"face": "image", "dino": "image", "identity": "image"})
