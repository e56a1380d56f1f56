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
from sync_r1.unifybench.adapters import Request, TokensAdapter
from sync_r1.unifybench.compare import compare
from sync_r1.unifybench.evaluate import evaluate
from sync_r1.unifybench.metrics import BenchmarkJudges, class_text
from sync_r1.unifybench.predict import predict
from sync_r1.unifybench.prediction_store import PredictionStore
from sync_r1.unifybench.protocol import Protocol
from sync_r1.unifybench.results import TASKS
from sync_r1.unifybench.score import Outage
from sync_r1.unifybench.score_files import score_task
from sync_r1.unifybench.tasks import build_items
from tests.helpers import tiny_model
from tests.unifybench.conftest import CountingJudge, ReferenceClip


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
    # nothing was trained
    assert after.items == [replace(item, image=other.image) for item, other in zip(before.items, after.items)]
    found = compare(before, after)
    assert (
        found["understanding"]["ci95"] == found["generation"]["ci95"] == [0.0, 0.0]
        and found["understanding"]["n"] == 10
    )
    pairs = read_run(tmp_path / "run").pairs("pure_gen")
    assert len(pairs) == 2 and all(pair.before.image != pair.after.image and pair.after.image for pair in pairs)


def test_batch_size_changes_nothing(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, tasks=["vqa", "rea_gen", "pure_gen"], max_items=3)
    together = evaluate(session, tmp_path / "a", image_judge=Brightness()).items
    session.options = replace(session.options, batch_size=1)
    alone = evaluate(session, tmp_path / "b", image_judge=Brightness()).items
    assert [item.prediction for item in together] == [item.prediction for item in alone]
    gaps = []
    for item in together:
        if item.task.endswith("_gen"):
            pixels = [np.asarray(Image.open(tmp_path / name / str(item.image)), float) for name in ("a", "b")]
            gaps.append(np.abs(pixels[0] - pixels[1]).max())
    # on some processors a batch's size changes the last float bit, and so the last bit of a pixel
    assert len(gaps) == 6 and max(gaps) <= 1, gaps


def test_one_model_can_draw_what_another_wrote(session: Session, root: Path, concept: Concept, tmp_path: Path) -> None:
    session.options = replace(session.options, tasks=["vqa", "rea", "pure_gen", "rea_gen"], max_items=1)
    drawer = Session(
        model=tiny_model(seed=1, max_text_tokens=120), concept=concept, root=root, run="other", options=session.options
    )
    pixels, wrote = {}, {}
    for name, reader, painter in (("wrote", session, None), ("drew", drawer, None), ("both", session, drawer)):
        items = evaluate(reader, tmp_path / name, image_judge=Brightness(), drawer=painter).items
        wrote[name] = [(item.task, item.prediction) for item in items]
        plain = next(item for item in items if item.task == "pure_gen")
        picture = Image.open(tmp_path / name / str(plain.image))
        pixels[name] = np.asarray(picture)
    assert wrote["both"] == wrote["wrote"] and picture.info["run"] == "other"  # rea_gen draws what the reader rewrote
    assert np.array_equal(pixels["both"], pixels["drew"]) and not np.array_equal(pixels["both"], pixels["wrote"])


def test_a_rewrite_without_placeholder_gets_no_concept_tokens(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Task rea is predicted for the rewrites alone: it is said, and has no scores."""
    drawn: list[str] = []
    generate = session.model.generate_image
    monkeypatch.setattr(
        session.model, "generate_image", lambda prompts, *rest: (drawn.extend(prompts), generate(prompts, *rest))[1]
    )
    texts = ["a photo of <bo> wearing a crown.", "a photo of a dog"]
    monkeypatch.setattr(TokensAdapter, "answers", lambda self, requests: texts[: len(requests)])
    session.options = replace(session.options, tasks=["rea_gen"])
    seen: list[str] = []
    result = evaluate(session, tmp_path, image_judge=Brightness(), progress=lambda task, *_: seen.append(task))
    assert [item.input for item in result.items] == ["a photo of <bo> wearing a crown", "a photo of a dog"]
    assert drawn == [f"a photo of {''.join(session.tokens.tokens)}<bo> wearing a crown", "a photo of a dog"]
    assert result.notes == ["task rea_gen draws the model's own rewrites, so task rea is predicted too"]
    assert list(result.metrics) == ["rea_gen"] and set(seen) == {"rea_gen"}


def test_an_interrupted_evaluation_goes_on(
    session: Session, root: Path, concept: Concept, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The result is that of an uninterrupted one, and nothing but it and the pictures stays."""
    session.options = replace(session.options, tasks=["qa", "pure_gen"], batch_size=1)
    evaluate(session, tmp_path / "whole", image_judge=Brightness())
    calls: list[int] = []
    draw = TokensAdapter.pictures

    def stopped_once(self: TokensAdapter, requests: Sequence[Request]) -> list[list[Image.Image]]:
        calls.append(len(requests))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return draw(self, requests)

    monkeypatch.setattr(TokensAdapter, "pictures", stopped_once)
    with pytest.raises(KeyboardInterrupt):
        evaluate(session, tmp_path / "torn", image_judge=Brightness())
    assert not (tmp_path / "torn" / "after.json").exists()
    evaluate(session, tmp_path / "torn", image_judge=Brightness())
    assert len(calls) == 3  # the first of two pictures was not drawn again
    whole, torn = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "whole", tmp_path / "torn")
    )
    assert whole == torn and {path.parts[0] for path in whole} == {"after.json", "images"}
    assert not (tmp_path / "torn" / "predictions").exists()
    evaluate(session, tmp_path / "torn", image_judge=Brightness())
    assert len(calls) == 5  # a finished evaluation that is asked for again is made again


def test_what_an_interrupted_evaluation_left_of_other_weights_does_not_count(
    session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session.options = replace(session.options, tasks=["rea", "rea_gen"], max_items=1)
    with monkeypatch.context() as patched:
        patched.setattr(TokensAdapter, "pictures", lambda self, requests: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            evaluate(session, tmp_path, image_judge=Brightness())
    assert (tmp_path / "predictions" / "after" / "rea" / "manifest.json").is_file()
    with torch.no_grad():
        session.model.get_output_embeddings().weight[:] = -session.model.get_output_embeddings().weight  # type: ignore[operator, union-attr, index]
    evaluate(session, tmp_path, image_judge=Brightness())
    evaluate(session, tmp_path / "fresh", image_judge=Brightness())
    assert (tmp_path / "after.json").read_bytes() == (tmp_path / "fresh" / "after.json").read_bytes()


def test_both_files_hold_the_same_scores(session: Session, tmp_path: Path) -> None:
    """What an evaluation and a benchmark measure alike comes out alike."""
    clip, tasks = ReferenceClip(), ["vqa", "rea", "dense_gen"]
    session.options = replace(session.options, tasks=tasks)
    protocol = Protocol().with_decoding(session.options)
    evaluated = evaluate(session, tmp_path / "eval", image_judge=CountingJudge(), clip=clip).items  # type: ignore[arg-type]
    items = build_items(session.concept, root=session.root, tasks=tasks, max_items=2, protocol=protocol)
    store = PredictionStore(out=tmp_path / "bench", concept="bo")
    predict(TokensAdapter(session, protocol), items, store, batch_size=session.options.batch_size)
    judges = BenchmarkJudges(judge=CountingJudge(), judge_name="half", clip=clip, clip_name="reference")  # type: ignore[arg-type]
    for task in tasks:
        content = score_task(store, task, session.concept, protocol, judges, Outage())
        own = [item for item in evaluated if item.task == task]
        for item, row in zip(own, content.get("items") or content["prompt_results"], strict=True):
            assert (item.id, item.prompt, item.truth) == (row["item_id"], row["source_prompt"], row["truth"])
            assert item.metrics.items() <= row["metrics"].items()


def test_several_images_per_prompt_are_averaged(session: Session, tmp_path: Path) -> None:
    session.options = replace(session.options, images_per_prompt=2, tasks=["pure_gen"])
    judge = Brightness()
    result = evaluate(session, tmp_path, image_judge=judge)
    files = sorted(tmp_path.glob("images/after/*.png"))
    assert len(files) == 4 and len({path.read_bytes() for path in files}) == 4 and len(judge.told) == 4
    assert result.tasks["pure_gen"]["n"] == 2


def test_text_scores(session: Session, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = {"rec": "no, it is not", "vqa": "{truth} ", "rea": "{truth} again"}
    monkeypatch.setattr(
        TokensAdapter,
        "answers",
        lambda self, requests: [said[row.item.task].format(truth=row.item.truth.upper()) for row in requests],
    )
    session.options = replace(session.options, tasks=list(said), max_items=4)
    result = evaluate(session, tmp_path)
    by_task = {task: [item for item in result.items if item.task == task] for task in said}
    assert {(item.truth, item.score) for item in by_task["rec"]} == {("No.", 1.0), ("Yes.", 0.0)}
    assert [item.score for item in by_task["vqa"]] == [1.0] * 4 and [item.score for item in by_task["rea"]] == [0.0] * 4
    assert all(0 < item.metrics[name] < 1 for item in by_task["rea"] for name in ("token_f1", "bleu"))
    assert result.metrics == {"rec": "recognition", "vqa": "exact", "rea": "exact"}


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
