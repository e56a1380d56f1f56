"""The score stage: means, outages of the judge, tables and paired comparisons."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sync_r1.data import Concept
from sync_r1.session import Session
from sync_r1.unifybench.adapters import TokensAdapter
from sync_r1.unifybench.bootstrap import macro_interval
from sync_r1.unifybench.compare import compare_scores, open_scores
from sync_r1.unifybench.metrics import BenchmarkJudges, ItemMetrics, Row, metrics_of, phase_metrics_of
from sync_r1.unifybench.predict import predict
from sync_r1.unifybench.prediction_store import PredictionStore, read_task
from sync_r1.unifybench.protocol import Protocol, load_protocol
from sync_r1.unifybench.results import COLUMNS, write_result
from sync_r1.unifybench.score import PATIENCE, Outage
from sync_r1.unifybench.score_files import score_path, score_task, summary_of
from sync_r1.unifybench.tables import aggregate, as_text, read_scores, write_summaries
from sync_r1.unifybench.tasks import build_items
from sync_r1.world.assets import load_world_clip
from tests.unifybench.conftest import CountingJudge

SMALL = Protocol(generation_timesteps=1, max_completion_length=4)


def predicted(session: Session, out: Path, tasks: Sequence[str], max_items: int = 4, epoch: int = 0) -> PredictionStore:
    items = build_items(session.concept, root=session.root, tasks=tasks, max_items=max_items, protocol=SMALL)
    store = PredictionStore(out=out, concept="bo", model_epoch=epoch)
    predict(TokensAdapter(session, SMALL), items, store, batch_size=4)
    return store


def test_partial_scores_survive_an_outage(session: Session, judges: BenchmarkJudges, tmp_path: Path) -> None:
    place = predicted(session, tmp_path, ["dense_gen"])
    whole = score_task(place, "dense_gen", session.concept, SMALL, judges, Outage())
    assert whole["complete"] and whole["progress"] == {"completed": 4, "total": 4} and whole["summary"]["gpt"] == 0.5
    judges.judge, judges.judge_name = CountingJudge(patience=3), "another"  # other judge: nothing is taken over
    torn = score_task(place, "dense_gen", session.concept, SMALL, judges, Outage())
    assert not torn["complete"] and torn["progress"] == {"completed": 0, "total": 4} and torn["summary"]["gpt_n"] == 3
    assert json.loads(score_path(place, "dense_gen").read_text())["summary"]["gpt"] == 0.5
    judges.judge = CountingJudge()
    healed = score_task(place, "dense_gen", session.concept, SMALL, judges, Outage())
    assert healed["complete"] and judges.judge.asked == 5  # one clause score and four whole-picture scores were missing
    assert [row["metrics"] for row in healed["prompt_results"]] == [row["metrics"] for row in whole["prompt_results"]]
    score_task(place, "dense_gen", session.concept, SMALL, judges, Outage())
    assert judges.judge.asked == 5


def test_scores_follow_what_they_are_made_from(session: Session, judges: BenchmarkJudges, tmp_path: Path) -> None:
    """Of all metrics only those are measured again that a change bears on."""
    place, first = predicted(session, tmp_path, ["dense_gen"]), CountingJudge()
    judges.judge, concept = first, session.concept

    def asked(concept: Concept, protocol: Protocol = SMALL) -> int:
        before = first.asked
        judges.clip.references = 0  # type: ignore[union-attr]
        score_task(place, "dense_gen", concept, protocol, judges, Outage())
        return first.asked - before

    assert asked(concept) == 8 and asked(concept) == 0 and judges.clip.references == 0  # type: ignore[union-attr]
    assert asked(replace(concept, info="<bo> is blue.")) == 4  # whole pictures; clauses do not depend on it
    assert asked(concept) == 4 and asked(replace(concept, class_noun="owl")) == 0
    assert "owl" in " ".join(judges.clip.texts)  # type: ignore[union-attr]
    photo = tmp_path / "0.png"
    Image.new("RGB", (32, 32), "red").save(photo)
    assert asked(replace(concept, test_images=[photo])) == 0 and judges.clip.references == 1  # type: ignore[union-attr]
    Image.new("RGB", (32, 32), "blue").save(photo)
    assert asked(replace(concept, test_images=[photo])) == 0 and judges.clip.references == 1  # type: ignore[union-attr]
    judges.judge_setting = "another temperature"
    assert asked(replace(concept, test_images=[photo])) == 8 and judges.clip.references == 0  # type: ignore[union-attr]
    judges.clip_setting = "another network"
    assert asked(replace(concept, test_images=[photo])) == 0 and judges.clip.references == 1  # type: ignore[union-attr]
    assert asked(replace(concept, test_images=[photo]), replace(SMALL, judge_timeout_s=9.0)) == 0


def test_another_answer_to_the_same_request_is_scored_anew(
    session: Session, judges: BenchmarkJudges, tmp_path: Path
) -> None:
    place = predicted(session, tmp_path, ["qa"], max_items=1)
    score_task(place, "qa", session.concept, SMALL, judges, Outage())
    manifest = read_task(place, "qa")
    manifest["items"][0]["prediction"] = manifest["items"][0]["reference"]
    write_result(place.folder("qa") / "manifest.json", manifest)
    assert score_task(place, "qa", session.concept, SMALL, judges, Outage())["summary"]["bleu"] == 1.0


def test_cosines_are_not_clamped(concept: Concept, tmp_path: Path) -> None:
    """Opposite features have cosine -1, which the mean over items must see."""
    clip, picture = load_world_clip(), tmp_path / "0.png"
    Image.new("RGB", (32, 32)).save(picture)
    measure = ItemMetrics(concept, SMALL, BenchmarkJudges(clip=clip))
    measure._references = -clip.image_features([Image.open(picture)])
    rows = [Row(task="dense_gen", prompt="", truth="<bo>", images=(picture,))]
    assert measure("clip_i", rows) == pytest.approx([-1.0], abs=1e-5)


def test_a_judge_that_is_down_is_left_alone(session: Session, judges: BenchmarkJudges, tmp_path: Path) -> None:
    place, outage = predicted(session, tmp_path, ["vqa", "dense_gen"], max_items=PATIENCE), Outage()
    session_answers = CountingJudge(patience=0)
    judges.judge = session_answers
    score_task(place, "dense_gen", session.concept, SMALL, judges, outage)
    asked = session_answers.asked
    assert outage.down and asked == PATIENCE
    found = score_task(place, "vqa", session.concept, SMALL, judges, outage)
    assert session_answers.asked == asked and found["summary"]["bleu_n"] == PATIENCE and not found["complete"]


def test_refusals_are_no_outage() -> None:
    judge, outage = SimpleNamespace(counts=Counter(refused=100)), Outage()
    outage.see([None] * 50, judge)
    assert not outage.down
    judge.counts["unavailable"] += PATIENCE
    outage.see([None] * 50, judge)
    assert outage.down


def test_empty_answers_are_wrong_without_asking(concept: Concept) -> None:
    judge = CountingJudge()
    rows = [Row(task="vqa", prompt="?", truth="red", text=text) for text in ("", " ", "red")]
    measure = ItemMetrics(concept, SMALL, BenchmarkJudges(judge=judge))
    assert measure("gpt", rows) == [0.0, 0.0, 0.5] and judge.asked == 1
    assert measure("bleu", rows)[0] == measure("exact", rows)[0] == 0.0
    assert measure("gpt", [replace(rows[0], task="dense_rea")]) == [0.0] and judge.asked == 1


def test_long_texts_are_cut_or_refused(concept: Concept, tmp_path: Path) -> None:
    picture = tmp_path / "0.png"
    Image.new("RGB", (32, 32)).save(picture)
    rows = [Row(task="dense_gen", prompt="", truth="<bo> " + "at the beach " * 40, images=(picture,))]
    clip = load_world_clip()
    assert ItemMetrics(concept, SMALL, BenchmarkJudges(clip=clip))("clip_t", rows)[0] is not None
    with pytest.raises(ValueError, match=r"is longer than the .* CLIP can read"):
        ItemMetrics(concept, replace(SMALL, long_text="raise"), BenchmarkJudges(clip=clip))("clip_t", rows)


def test_predictions_of_another_protocol_are_not_scored(
    session: Session, judges: BenchmarkJudges, tmp_path: Path
) -> None:
    place = predicted(session, tmp_path, ["rec"])
    with pytest.raises(ValueError, match="which differs in text_prefix, max_completion_length"):
        score_task(
            place, "rec", session.concept, replace(SMALL, text_prefix="none", max_completion_length=5), judges, Outage()
        )
    score_task(place, "rec", session.concept, replace(SMALL, recognition="substring"), judges, Outage())
    with pytest.raises(ValueError, match=r"task vqa of bo is not .completely. predicted"):
        score_task(place, "vqa", session.concept, SMALL, judges, Outage())


def test_scores_of_replaced_predictions_are_not_shown(
    session: Session, judges: BenchmarkJudges, tmp_path: Path
) -> None:
    place = predicted(session, tmp_path, ["qa"])
    score_task(place, "qa", session.concept, SMALL, judges, Outage())
    assert list(read_scores(tmp_path)) == [0]
    path = place.folder("qa") / "manifest.json"
    manifest = json.loads(path.read_text())
    for changes in (
        {"model": {**manifest["model"], "fingerprint": "other weights"}},
        {"protocol": {**manifest["protocol"], "seed": 1}},
    ):
        write_result(path, {**manifest, **changes})
        with pytest.raises(
            ValueError,
            match="scores predictions that were replaced since; score the new ones with `sync-r1 bench score",
        ):
            read_scores(tmp_path)


def test_a_damaged_picture_is_not_scored(session: Session, judges: BenchmarkJudges, tmp_path: Path) -> None:
    place = predicted(session, tmp_path, ["dense_gen"], max_items=1)
    next(tmp_path.rglob("image_000.png")).write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"is missing or damaged; .*draws it again"):
        score_task(place, "dense_gen", session.concept, SMALL, judges, Outage())


def test_an_empty_side_of_recognition() -> None:
    rows = [{"truth": "Yes.", "metrics": {"recognition": hit}} for hit in (1.0, 0.0)]
    assert summary_of("rec", rows, ["recognition"], Protocol())["weight"] == 0.5
    zero = summary_of("rec", rows, ["recognition"], Protocol(empty_side="zero"))
    assert zero["weight"] == 0.25 and (zero["accuracy"], zero["recall"], zero["no_recall"]) == (0.5, 0.5, None)
    both = [*rows, {"truth": "No.", "metrics": {"recognition": 1.0}}]
    assert summary_of("rec", both, ["recognition"], Protocol())["weight"] == 0.75


def made(
    out: Path, scores: dict[str, dict[str, list[float | None]]], judge: str = "j", epoch: int = 0, seed: str = "sync_r1"
) -> Path:
    """Score files: "task.metric" → concept → values."""
    for column, concepts in scores.items():
        task, metric = column.split(".")
        for name, values in concepts.items():
            rows = [
                {
                    "item_id": f"{i}",
                    "source_prompt": "p",
                    "truth": "Yes." if i % 2 else "No.",
                    "metrics": {metric: value},
                }
                for i, value in enumerate(values)
            ]
            protocol = Protocol(seed_name=seed)
            content: dict[str, Any] = {
                "task": task,
                "concept": name,
                "judge": judge,
                "clip": "c",
                "model": {"fingerprint": judge},
            }
            content |= {
                "summary": summary_of(task, rows, [metric], protocol),
                "complete": None not in values,
                "items": rows,
            }
            content["protocol"] = {field: getattr(protocol, field) for field in protocol.__slots__}
            write_result(score_path(PredictionStore(out=out, concept=name, model_epoch=epoch), task), content)
    return out


def test_items_then_concepts(tmp_path: Path) -> None:
    out = made(
        tmp_path,
        {
            "vqa.bleu": {"a": [1.0, 1.0, 1.0], "b": [0.0]},
            "rec.recognition": {"a": [1.0, 1.0, 1.0, 0.0], "b": [1.0, 0.0]},
        },
    )
    rows = write_summaries(out)[0]
    assert rows["vqa.bleu"]["mean"] == 0.5 and rows["rec.weight"]["mean"] == pytest.approx((0.75 + 0.5) / 2)
    assert (rows["vqa.bleu"]["n"], rows["vqa.bleu"]["concepts"], rows["vqa.bleu"]["unscored"]) == (4, 2, 0)
    assert list(rows)[:2] == ["rec.weight", "vqa.bleu"] and len(COLUMNS) == 15
    assert aggregate(open_scores(str(out)), ["a"])["vqa.bleu"]["mean"] == 1.0
    with pytest.raises(ValueError, match="has no scores of c"):
        aggregate(open_scores(str(out)), ["a", "c"])
    summary = json.loads((out / "scores/understanding/vqa/model_epoch_0/summary.json").read_text())
    assert summary["metrics"]["bleu"]["ci95"][0] <= 0.5 <= summary["metrics"]["bleu"]["ci95"][1]
    for name in ("scores/understanding/vqa/all_epochs_summary.json", "scores/_aggregates/all_epochs_summary.json"):
        assert (out / name).is_file()
    assert (out / "scores/_aggregates/model_epoch_0/summary.json").is_file()


def test_published_aliases_and_tables(tmp_path: Path) -> None:
    out = made(tmp_path, {"dense_gen.gpt": {"a": [0.5, None]}, "dense_gen.clip_i": {}})
    rows = write_summaries(out)[0]
    assert json.loads((out / "scores/generation/dense_gen/model_epoch_0/summary.json").read_text())["ds-score"] == 0.5
    assert rows["dense_gen.gpt"]["unscored"] == 1
    assert as_text({"m": rows}) == "| model | dense_gen.gpt |\n|---|---|\n| m | 0.500* |\n"
    assert "m,generation,dense_gen.gpt,0.5," in as_text({"m": rows}, "csv")
    assert r"dense\_gen.gpt" in as_text({"m": rows}, "latex") and json.loads(as_text({"m": rows}, "json"))["m"]
    odd = "a|b_50%\\x\n{c}"
    assert r"| a\|b_50%\\x {c} |" in as_text({odd: rows})
    assert r"a|b\_50\%\textbackslash{}x \{c\} & 0.500*" in as_text({odd: rows}, "latex")
    with pytest.raises(ValueError, match="table style is 'xls'"):
        as_text({"m": rows}, "xls")
    with pytest.raises(ValueError, match="holds no scores; write them with"):
        write_summaries(tmp_path / "none")


def test_one_table_one_setting(tmp_path: Path) -> None:
    made(tmp_path, {"vqa.bleu": {"a": [1.0]}})
    with pytest.raises(ValueError, match="vqa and qa of a are of different weights"):
        write_summaries(made(tmp_path, {"qa.bleu": {"a": [1.0]}}, judge="k"))
    with pytest.raises(ValueError, match="under different protocols"):
        write_summaries(made(tmp_path, {"qa.bleu": {"a": [1.0]}}, seed="other"))


def test_paired_differences(tmp_path: Path) -> None:
    ours = {"vqa.bleu": {"a": [0.0, 1.0], "b": [0.5, None]}, "rec.recognition": {"a": [1.0, 0.0]}}
    theirs = {"vqa.bleu": {"a": [1.0, 1.0], "b": [0.6, 0.1]}, "rec.recognition": {"a": [1.0, 1.0]}}
    first = made(tmp_path / "x", {**ours, "pure_gen.unasked": {"a": [1.0, 0.0]}})
    second = made(tmp_path / "y", {**theirs, "pure_gen.unasked": {"a": [0.0, 0.0]}}, epoch=6)
    found = compare_scores(open_scores(str(first)), open_scores(f"{second}@6"))
    row = found["columns"]["vqa.bleu"]
    assert (row["first"], row["second"], row["n"], row["concepts"], row["unscored"]) == (
        0.5,
        pytest.approx(0.8),
        3,
        2,
        1,
    )
    assert row["delta"] == pytest.approx((0.5 + 0.1) / 2) and row["ci95"][0] <= row["delta"] <= row["ci95"][1]
    assert found["columns"]["rec.weight"]["delta"] == 0.5 and found["understanding"]["delta"] == pytest.approx(
        (0.3 + 0.5) / 2
    )
    assert found["columns"]["pure_gen.unasked"]["delta"] == -0.5 and "generation" not in found
    with pytest.raises(ValueError, match="judge is 'j' in the first and 'k' in the second"):
        compare_scores(
            open_scores(str(first)), open_scores(str(made(tmp_path / "z", {"vqa.bleu": {"a": [0.0, 1.0]}}, judge="k")))
        )
    with pytest.raises(ValueError, match="protocols differ in seed_name"):
        compare_scores(
            open_scores(str(first)), open_scores(str(made(tmp_path / "s", {"vqa.bleu": {"a": [0.0, 1.0]}}, seed="o")))
        )
    with pytest.raises(ValueError, match=r"first at item 2: nothing against .'2', 'p'"):
        compare_scores(
            open_scores(str(first)), open_scores(str(made(tmp_path / "w", {"vqa.bleu": {"a": [0.0, 1.0, 1.0]}})))
        )
    with pytest.raises(ValueError, match="no scored task and concept in common"):
        compare_scores(open_scores(str(first)), open_scores(str(made(tmp_path / "v", {"vqa.bleu": {"c": [0.0]}}))))


def test_interval_over_concepts_and_items() -> None:
    """Standard error of a mean over C concepts of n items: √((σ_c² + σ_i²/n)/C) when concepts vary, σ_i/√n with one
    concept."""
    rng = np.random.default_rng(0)
    many = {f"c{i}": [rng.normal(center, 0.5, 50)] for i, center in enumerate(rng.normal(0, 1, 30))}
    low, high = macro_interval([many], resamples=4000)
    means = np.array([values[0].mean() for values in many.values()])
    assert high - low == pytest.approx(2 * 1.96 * means.std() / np.sqrt(30), rel=0.1)
    one = rng.normal(0, 1, 100)
    low, high = macro_interval([{"c": [one]}], resamples=4000)
    assert high - low == pytest.approx(2 * 1.96 * one.std() / 10, rel=0.1)
    same = {"a": [np.full(3, 0.2)], "b": [np.full(5, 0.2)]}
    assert macro_interval([same]) == pytest.approx((0.2, 0.2))


def test_metrics_depend_on_who_is_there() -> None:
    published, both = load_protocol("unifybenchpp-2026"), BenchmarkJudges(judge=CountingJudge(), clip=object())  # type: ignore[arg-type]
    assert metrics_of("dense_gen", published, both) == ["gpt", "clip_i", "clip_t"]
    assert metrics_of("dense_gen", Protocol(), both) == ["gpt", "clip_i", "clip_t", "judge"]
    assert metrics_of("dense_gen", published, BenchmarkJudges(clip=both.clip)) == ["clip_i", "clip_t"]
    assert metrics_of("vqa", published, BenchmarkJudges()) == ["bleu", "exact", "token_f1"] and metrics_of(
        "rec", published, BenchmarkJudges()
    ) == ["recognition"]


def test_what_nothing_asked_for_is_counted_where_the_protocol_says_so(concept: Concept, tmp_path: Path) -> None:
    class Counts(CountingJudge):
        counts_unasked = True

        def unasked(self, images: Any, texts: Sequence[str]) -> list[int | None]:
            return [len(text.split(" and ")) for text in texts]

    asked, judges = load_protocol("world", ["unasked=true"]), BenchmarkJudges(judge=Counts())
    assert metrics_of("dense_gen", asked, judges) == ["gpt", "judge", "unasked"]
    assert "unasked" not in metrics_of("dense_gen", Protocol(), judges)
    assert phase_metrics_of("dense_gen", judges) == ["judge", "unasked"]
    assert phase_metrics_of("vqa", judges)[0] == "exact" and phase_metrics_of("rec", judges) == ["recognition"]
    assert asked.scoring_options() == Protocol().scoring_options(), "the other scores stay what they were"
    Image.new("RGB", (32, 32)).save(tmp_path / "a.png")
    row = Row(task="dense_gen", prompt="p", truth="a hat and a mug and a kite", images=(tmp_path / "a.png",) * 2)
    assert ItemMetrics(concept, asked, judges)("unasked", [row]) == [3.0]
    table = as_text({"m": {"rea_gen.unasked": {"mean": 0.25, "complete": True}}})
    assert table.splitlines()[0] == "| model | rea_gen.unasked |" and "0.250" in table
