"""Attribute readers and the judge built on them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sync_r1.world import grammar
from sync_r1.world.judge import WorldJudge
from sync_r1.world.pretrain.readers import UNKNOWN, labels, render_batch
from sync_r1.world.readers import READ, AttributeReader, ReaderKind, half, truth
from sync_r1.world.render import ATTRIBUTES, Pair, Still, Thing, random_thing


class Oracle(AttributeReader):
    """Logits that are certain of what given pictures, or halves of pictures, show; row by row."""

    def __init__(self, rows: Sequence[Mapping[str, str]]) -> None:
        super().__init__("convolution")
        self.rows = rows

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        assert len(pixels) == len(self.rows)
        logits = {}
        for name, values in self.values.items():
            index = [values.index(row.get(name, values[0])) for row in self.rows]
            logits[name] = 4 * torch.nn.functional.one_hot(torch.tensor(index), len(values)).float()
        return logits


DOG = Thing(kind="dog", colour="red", pattern="striped", mark="star", hat="cap", item="none", scene="beach")


def test_judge_counts_what_the_text_mentions() -> None:
    judge = WorldJudge(Oracle([truth(DOG)] * 3))
    texts = ["<bo> is a red dog. a photo of <bo> wearing a cap", "a blue dog at the beach holding a kite", "a thing"]
    assert judge(render_batch([DOG] * 3), texts) == [1.0, 0.5, None]
    assert judge.breakdown(render_batch([DOG] * 3), texts)[1] == {"colour": 0.0, "kind": 1.0, "scene": 1.0, "item": 0.0}


PAIR = Pair(
    left=Thing(kind="dog", colour="red", mark="star", hat="cap", scene="beach"),
    right=Thing(kind="girl", colour="blue", scene="beach"),
)
BOTH = [truth(PAIR, "left"), truth(PAIR, "right"), truth(PAIR)]


def test_a_text_about_two_is_judged_half_by_half() -> None:
    text = "<bo> is a red dog with a moon. <ana> is a blue girl. a photo of <bo> wearing a cap and <ana> at the beach"
    row = WorldJudge(Oracle(BOTH)).breakdown(render_batch([PAIR]), [text])[0]
    wrong = {name for name, score in row.items() if score == 0}
    assert wrong == {"left mark"} and {"left hat", "right colour", "subjects", "scene"} <= set(row)
    assert "left scene" not in row and len(row) == 8
    weighted = WorldJudge(Oracle(BOTH), weights={"mark": 4.0})(render_batch([PAIR]), [text])
    assert weighted == [pytest.approx(7 / 11)]


def test_a_held_thing_may_be_in_either_hand() -> None:
    two = Thing(kind="dog", colour="red", item="kite", spare="fish")
    judge = WorldJudge(Oracle([truth(two)] * 2))
    assert judge(render_batch([two] * 2), ["a dog holding a fish", "a dog holding a book"]) == [1.0, 0.5]
    soft = WorldJudge(Oracle([truth(two)]), soft=True).breakdown(render_batch([two]), ["a dog holding a fish"])[0]
    assert soft["item"] == pytest.approx(np.exp(4) / (np.exp(4) + 8)) and "spare" not in soft


@pytest.mark.parametrize(
    ("picture", "text", "count"),
    [
        (DOG, "a photo of a red dog", 1),  # the cap
        (DOG, "a photo of a red dog wearing a crown", 0),  # wrong, but asked for
        (replace(DOG, hat="none", item="kite"), "a red dog", 1),
        (replace(DOG, hat="none", item="kite", spare="fish"), "a red dog holding a fish", 1),
        (replace(DOG, item="kite", spare="fish"), "a red dog at the beach", 3),
        (DOG, "nothing the world knows", None),
    ],
)
def test_what_was_not_asked_for_is_counted(picture: Thing, text: str, count: int | None) -> None:
    assert WorldJudge(Oracle([truth(picture)])).unasked(render_batch([picture]), [text]) == [count]


def test_a_second_character_and_the_hats_of_two_are_counted() -> None:
    seen = {**truth(replace(DOG, hat="none")), "subjects": "two"}
    assert WorldJudge(Oracle([seen])).unasked(render_batch([PAIR]), ["a red dog at the beach"]) == [1]
    judge = WorldJudge(Oracle(BOTH[:2]))
    assert judge.unasked(render_batch([PAIR]), ["a dog wearing a cap and a girl at the beach"]) == [0]
    assert judge.unasked(render_batch([PAIR]), ["a dog and a girl wearing a bow at the beach"]) == [1]


def test_readers_of_another_version_are_refused(tmp_path: Path) -> None:
    AttributeReader("convolution").save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    del config["attributes"]["spare"]
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"another version of the embedded world \(kind, .*; version 2 has .*spare"):
        AttributeReader.from_pretrained(tmp_path)


def test_subjects_by_hand() -> None:
    one = "<bo> is a red dog. a photo of <bo> holding a kite at the beach"
    assert grammar.subjects(one) == [{"colour": "red", "kind": "dog", "item": "kite", "scene": "beach"}]
    three = grammar.subjects("a dog and a cat and a girl")
    assert three == [{"kind": "dog"}, {"kind": "cat"}]


@pytest.mark.parametrize("side", ["left", "right"])
def test_half_a_picture_of_two_shows_one_in_the_middle(side: str) -> None:
    whole = render_batch([PAIR])
    alone = half(whole, side)
    columns = slice(0, 16) if side == "left" else slice(16, 32)
    assert torch.equal(alone[..., 8:24], whole[..., columns])
    assert (alone[..., :8] == 127).all() and (alone[..., 24:] == 127).all()
    middle = render_batch([dict(PAIR.sides)[side]])[..., 26, 10:22]  # the feet, on the same ground
    assert torch.equal(alone[..., 26, 10:22], middle)


def test_labels_leave_out_what_a_view_does_not_show() -> None:
    still = Still(what="kite", scene="snow")
    found = labels([DOG, PAIR, PAIR, still], ["whole", "whole", "right", "whole"])
    assert found["kind"].tolist() == [READ["kind"].index("dog"), UNKNOWN, READ["kind"].index("girl"), UNKNOWN]
    assert found["subjects"].tolist() == [1, 2, UNKNOWN, 0]
    assert found["item"].tolist() == [0, UNKNOWN, 0, READ["item"].index("kite")]


def test_judge_weights_and_softness() -> None:
    weighted = WorldJudge(Oracle([truth(DOG)]), weights={"item": 3.0})
    assert weighted(render_batch([DOG]), ["a red dog holding a kite"]) == [pytest.approx(2 / 5)]
    soft = WorldJudge(Oracle([truth(DOG)]), soft=True)(render_batch([DOG]), ["a red thing"])[0]
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


def test_readers_share_no_architecture() -> None:
    names = [set(AttributeReader(kind).trunk.state_dict()) for kind in ("convolution", "patches")]
    assert names[0].isdisjoint(names[1])
    with pytest.raises(ValueError, match="'magic'"):
        AttributeReader("magic")  # type: ignore[arg-type]
