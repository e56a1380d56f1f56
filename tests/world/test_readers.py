"""Attribute readers and the judge built on them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sync_r1.world.judge import WorldJudge
from sync_r1.world.pretrain.readers import render_batch
from sync_r1.world.readers import AttributeReader, ReaderKind
from sync_r1.world.render import ATTRIBUTES, Thing, random_thing


class Oracle(AttributeReader):
    """Logits that are certain of given things."""

    def __init__(self, things: Sequence[Thing]) -> None:
        super().__init__("convolution")
        self.things = things

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        rows = {
            name: [values.index(getattr(thing, name)) for thing in self.things] for name, values in ATTRIBUTES.items()
        }
        return {
            name: 4 * torch.nn.functional.one_hot(torch.tensor(index), len(ATTRIBUTES[name])).float()
            for name, index in rows.items()
        }


DOG = Thing(kind="dog", colour="red", pattern="striped", mark="star", hat="cap", item="none", scene="beach")


def test_judge_counts_what_the_text_mentions() -> None:
    judge = WorldJudge(Oracle([DOG, DOG, DOG]))
    texts = ["<bo> is a red dog. a photo of <bo> wearing a cap", "a blue dog at the beach holding a kite", "somebody"]
    assert judge(render_batch([DOG] * 3), texts) == [1.0, 0.5, None]
    assert judge.breakdown(render_batch([DOG] * 3), texts)[1] == {"colour": 0.0, "kind": 1.0, "scene": 1.0, "item": 0.0}


def test_judge_weights_and_softness() -> None:
    weighted = WorldJudge(Oracle([DOG]), weights={"item": 3.0})
    assert weighted(render_batch([DOG]), ["a red dog holding a kite"]) == [pytest.approx(2 / 5)]
    soft = WorldJudge(Oracle([DOG]), soft=True)(render_batch([DOG]), ["a red thing"])[0]
    assert soft == pytest.approx(np.exp(4) / (np.exp(4) + len(ATTRIBUTES["colour"]) - 1))


@pytest.mark.parametrize("kind", ["convolution", "patches"])
def test_reader_round_trip(tmp_path: Path, kind: ReaderKind) -> None:
    torch.manual_seed(0)
    reader = AttributeReader(kind).eval()
    reader.load_state_dict({name: value.half().float() for name, value in reader.state_dict().items()})
    reader.save_pretrained(tmp_path)
    images = render_batch([random_thing(np.random.default_rng(seed)) for seed in range(3)])
    again = AttributeReader.from_pretrained(tmp_path)
    assert again.read(images) == reader.read(images)
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace("kite", "drone"))
    with pytest.raises(ValueError, match="reads other attributes"):
        AttributeReader.from_pretrained(tmp_path)


def test_readers_share_no_architecture() -> None:
    names = [set(AttributeReader(kind).trunk.state_dict()) for kind in ("convolution", "patches")]
    assert names[0].isdisjoint(names[1])
    with pytest.raises(ValueError, match="'magic'"):
        AttributeReader("magic")  # type: ignore[arg-type]
