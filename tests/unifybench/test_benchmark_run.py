"""Predictions of a tiny model and their scores."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from sync_r1.data import Concept
from sync_r1.report.run_files import read_run
from sync_r1.session import Session
from sync_r1.unifybench.adapters import TokensAdapter
from sync_r1.unifybench.compare import compare
from sync_r1.unifybench.evaluate import evaluate
from sync_r1.unifybench.metrics import class_text
from sync_r1.unifybench.predict import Prediction, predict
from sync_r1.unifybench.results import TASKS
from sync_r1.unifybench.score import score
from sync_r1.unifybench.tasks import EvalItem, build_items
from tests.helpers import tiny_model
from tests.unifybench.conftest import ReferenceClip


class Brightness:
    """A judge that gives the mean brightness and remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def __call__(self, images: Tensor, texts: Sequence[str]) -> list[float | None]:
        assert images.dtype == torch.uint8 and images.shape[1] == 3
        self.told += texts
        return [float(image.float().mean() / 255) for image in images]


def test_nine_tasks_end_to_end(session: Session, tmp_path: Path) -> None:
    judge, seen = Brightness(), []
    out = tmp_path / "run" / "eval"
    before = evaluate(session, out, "before", image_judge=judge, progress=lambda *row: seen.append(row))
    assert list(before.tasks) == list(TASKS) and all(row["n"] == 2 for row in before.tasks.values())
    assert {(task, done) for task, done, total in seen if done == total} == {(task, 2) for task in TASKS}
    assert all(text.startswith(session.concept.info) for text in judge.told)
    stored = json.loads((out / "before.json").read_text())
    keys = {"task", "id", "prompt", "input", "prediction", "truth", "score", "metrics", "image", "seed"}
    assert (
        all(set(item) == keys for item in stored["items"])
        and stored["judge"] == "Brightness"
        and stored["seed"] == 3407
    )
    by_task = {task: [item for item in before.items if item.task == task] for task in TASKS}
    rewrites = {item.prompt: item.prediction for item in by_task["rea"]}
    assert [item.prediction for item in by_task["rea_gen"]] == [rewrites[item.prompt] for item in by_task["rea_gen"]]
    assert set(by_task["rea"][0].metrics) == {"exact", "token_f1", "bleu"}
    assert all(item.image for item in before.items if item.task in ("rec", "vqa") or item.task.endswith("_gen"))
    assert not list(tmp_path.rglob("*.tmp"))

    after = evaluate(session, out, "after", image_judge=judge)
    assert after.items == [
        replace(item, image=other.image) for item, other in zip(before.items, after.items)
    ]  # nothing was trained
    found = compare(before, after)
    assert (
        found["understanding"]["ci95"] == found["generation"]["ci95"] == [0.0, 0.0]
        and found["understanding"]["n"] == 10
    )
    pairs = read_run(tmp_path / "run").pairs("pure_gen")
    assert len(pairs) == 2 and all(pair.before.image != pair.after.image and pair.after.image for pair in pairs)


def test_batch_size_changes_nothing(session: Session, tmp_path: Path) -> None:
    items = build_items(session.concept, root=session.root, tasks=["vqa", "rea_gen", "pure_gen"], max_items=3)
    together = predict(session, items, tmp_path / "a")
    session.options = replace(session.options, batch_size=1)
    alone = predict(session, items, tmp_path / "b")
    assert [p.text for p in together] == [p.text for p in alone]
    pairs = [(a, b) for p, q in zip(together, alone) for a, b in zip(p.images, q.images, strict=True)]
    gaps = [np.abs(np.asarray(Image.open(a), float) - np.asarray(Image.open(b), float)).max() for a, b in pairs]
    assert gaps and max(gaps) <= 1, (
        gaps
    )  # on some processors a batch's size changes the last float bit, and so the last bit of a pixel


def test_one_model_can_draw_what_another_wrote(session: Session, root: Path, concept: Concept, tmp_path: Path) -> None:
    drawer = Session(
        model=tiny_model(seed=1, max_text_tokens=120), concept=concept, root=root, run="other", options=session.options
    )
    items = build_items(concept, root=root, tasks=["vqa", "rea", "pure_gen", "rea_gen"], max_items=1)
    wrote, drew, both = (
        predict(reader, items, tmp_path / name, drawer=painter)
        for name, reader, painter in (("reader", session, None), ("drawer", drawer, None), ("both", session, drawer))
    )
    assert [(row.task, row.text) for row in both] == [
        (row.task, row.text) for row in wrote
    ]  # rea_gen draws what the reader rewrote
    plain = {
        name: next(row for row in rows if row.task == "pure_gen")
        for name, rows in (("wrote", wrote), ("drew", drew), ("both", both))
    }
    pixels = {name: np.asarray(Image.open(row.images[0])) for name, row in plain.items()}
    assert np.array_equal(pixels["both"], pixels["drew"]) and not np.array_equal(pixels["both"], pixels["wrote"])


def test_a_rewrite_without_placeholder_gets_no_concept_tokens(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[str] = []
    generate = session.model.generate_image
    monkeypatch.setattr(
        session.model, "generate_image", lambda prompts, *rest: (drawn.extend(prompts), generate(prompts, *rest))[1]
    )
    lost = {"yes": "a photo of <bo> wearing a crown.", "no": "a photo of a dog"}
    texts = [lost["yes"], lost["no"]]
    monkeypatch.setattr(TokensAdapter, "answers", lambda self, requests: texts[: len(requests)])
    items = build_items(session.concept, root=session.root, tasks=["rea_gen"], max_items=2)
    first, second = predict(session, items, tmp_path)
    assert first.input == "a photo of <bo> wearing a crown" and second.input == "a photo of a dog"
    assert drawn == [f"a photo of {''.join(session.tokens.tokens)}<bo> wearing a crown", "a photo of a dog"]


def test_several_images_per_prompt_are_averaged(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, images_per_prompt=2, tasks=["pure_gen"])
    judge = Brightness()
    result = evaluate(session, tmp_path, image_judge=judge)
    files = sorted(tmp_path.glob("images/after/*.png"))
    assert len(files) == 4 and len({path.read_bytes() for path in files}) == 4 and len(judge.told) == 4
    assert result.tasks["pure_gen"]["n"] == 2


def made(task: str, text: str, truth: str) -> tuple[EvalItem, Prediction]:
    item = EvalItem(task=task, id=f"{task}_{text}_{truth}", prompt="p", truth=truth, seed=1)
    return item, Prediction(task=task, id=item.id, input="p", text=text)


def test_text_scores(concept: Concept, tmp_path: Path) -> None:
    rows = [
        made("rec", "no, it is not", "No."),
        made("rec", "yes", "No."),
        made("vqa", "Red ", "red."),
        made("rea", "a red cat", "a red dog"),
    ]
    result = score([item for item, _ in rows], [prediction for _, prediction in rows], concept, out=tmp_path)
    assert [item.score for item in result.items] == [1, 0, 1, 0]
    assert result.items[3].metrics["token_f1"] == pytest.approx(2 / 3) and 0 < result.items[3].metrics["bleu"] < 1
    assert result.metrics == {"rec": "recognition", "vqa": "exact", "rea": "exact"}
    with pytest.raises(ValueError, match="items and predictions differ, first at"):
        score([item for item, _ in rows], [prediction for _, prediction in reversed(rows)], concept, out=tmp_path)


def test_judges_may_abstain_but_not_misbehave(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, tasks=["pure_gen"])
    result = evaluate(session, tmp_path, image_judge=lambda images, texts: [None, float("nan")])
    assert [item.score for item in result.items] == [None, None] and result.tasks["pure_gen"]["unscored"] == 2
    json.loads((tmp_path / "after.json").read_text())
    with pytest.raises(ValueError, match="1 scores for 2 predictions"):
        evaluate(session, tmp_path, image_judge=lambda images, texts: [0.5])
    with pytest.raises(ValueError, match=r"the judge gave 7"):
        evaluate(session, tmp_path, image_judge=lambda images, texts: [7.0] * len(texts))


def test_clip_stands_in_for_a_judge_and_beside_it(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, tasks=["dense_gen"])
    clip = ReferenceClip()
    alone = evaluate(session, tmp_path, clip=clip)  # type: ignore[arg-type]
    assert [item.score for item in alone.items] == pytest.approx([0.4, 0.4]) and alone.metrics == {"dense_gen": "clip"}
    assert clip.references == 1 and all(
        "<bo>" not in text and session.concept.class_noun in text for text in clip.texts
    )
    beside = evaluate(session, tmp_path, image_judge=Brightness(), clip=clip)  # type: ignore[arg-type]
    assert (
        set(beside.items[0].metrics) == {"judge", "clip_t", "clip_i"}
        and beside.items[0].score == beside.items[0].metrics["judge"]
    )
    with pytest.raises(ValueError, match="need a scorer"):
        evaluate(session, tmp_path)


def test_cut_prompts_are_noted(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, tasks=["dense_gen"])
    session.model.config = replace(session.model.config, max_text_tokens=12)  # type: ignore[attr-defined]
    result = evaluate(session, tmp_path, image_judge=Brightness())
    assert result.notes and "lost:" in result.notes[0]


def test_class_noun_for_the_placeholder(concept: Concept) -> None:
    dog = replace(concept, class_noun="dog")
    pairs = {
        "a photo of <bo> at sea": "a photo of a dog at sea",
        "a red <bo>": "a red dog",
        "a cube shaped <bo>": "a cube shaped dog",
        "<bo> asleep": "a dog asleep",
    }
    assert {text: class_text(text, dog) for text in pairs} == pairs
    assert class_text("a photo of <bo>", replace(concept, class_noun="owl")) == "a photo of an owl"
