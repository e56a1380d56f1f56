"""A small concept on disk, and pictures to break it with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image

from sync_r1.data.concepts import QA, Concept, Conditions, TestItem
from sync_r1.data.layout import Layout


def picture(shade: int = 0, size: tuple[int, int] = (20, 18)) -> Image.Image:
    return Image.new("RGB", size, (shade % 256, 40, 200))


def pair(topic: str, fact: str) -> tuple[str, str]:
    return f"A photo of <zed> with its {topic}.", f"A photo of <zed> with its {fact} {topic}."


def sample_concept(root: Path) -> Concept:
    """Six implicit prompts, two for testing; needs random_images/0.png below root."""
    layout = Layout(root)
    pairs = [pair(topic, fact) for topic, fact in zip("abcdef", "uvwxyz")]
    return Concept(
        name="zed",
        class_noun="dog",
        category="animal",
        info="<zed> is a small grey terrier.",
        facts=["<zed> has a green raincoat.", "<zed> sleeps in a basket."],
        conversation_type="animal",
        generation_type="live_subject",
        num_testing_info=2,
        train_images=[layout.train("zed") / name for name in ("0.png", "2.png", "10.jpg")],
        test_images=[layout.test("zed") / "0.png"],
        conversations={
            "10.jpg": [QA("What colour is the collar?", "Green.")],
            "text_only": [QA("Where does it sleep?", "In a basket.")],
        },
        items=[
            TestItem("rec", layout.test("zed") / "0.png", "Is <zed> here?", "Yes."),
            TestItem("rec", layout.random_images / "0.png", "Is <zed> here?", "No."),
            TestItem("vqa", layout.test("zed") / "0.png", "What is on the floor?", "A rug."),
            TestItem("text_only", layout.black_image, "What does <zed> wear?", "A raincoat."),
            TestItem("text_only", None, "Who is <zed>?", "A dog."),
        ],
        conditions=Conditions(
            dense=["<zed> in a garden, soft light."],
            implicit=[implicit for implicit, _ in pairs],
            explicit=[explicit for _, explicit in pairs],
            dense_implicit=["<zed> with its coat, in rain."],
            dense_explicit=["<zed> with its green coat, in rain."],
        ),
    )


def sample_pictures(concept: Concept) -> dict[Path, Image.Image | Path]:
    return {path: picture(i * 40) for i, path in enumerate([*concept.train_images, *concept.test_images])}


def edit_json(path: Path, **changes: Any) -> None:
    """Set fields of a JSON object; a value of None removes the field."""
    data = json.loads(path.read_text(encoding="utf-8"))
    data.update(changes)
    path.write_text(json.dumps({key: value for key, value in data.items() if value is not None}), encoding="utf-8")
