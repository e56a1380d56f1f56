"""The page of benchmark results, from files alone."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from sync_r1.report.unifybench_files import BenchmarkModel, read_models
from sync_r1.report.unifybench_page import differences, for_script, main_metric, render_page, settings, write_page

NASTY = "</script><img src=x onerror=alert(1)> & <bo>\u2028"


def put(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def draw(path: Path, shade: int = 0) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((16, 16, 3), shade, dtype=np.uint8)).save(path)
    return path


def column(mean: float) -> dict[str, Any]:
    return {
        "mean": mean,
        "ci95": [0.2, 0.9],
        "n": 2,
        "unscored": 0,
        "concepts": 1,
        "complete": True,
        "per_concept": {"bo": mean},
    }


def bench_folder(out: Path, *, score: float = 0.25, label: str = "mine", judge: str = "reader", epoch: int = 0) -> Path:
    """One concept; a rewrite (one wrong, one right) and the drawing made from it."""
    seen = draw(out.parent / "data" / "a b.png")
    put(out / "bench.json", {"models": {str(epoch): label}})
    common = {"concept": "bo", "model_epoch": epoch, "protocol": {"name": "world"}}
    ends = ("bo", "token_epoch_0", f"model_epoch_{epoch}", "manifest.json")
    answers = [
        ("rea_000", "<bo> in its coat", "<bo> in its red coat", "<bo> in its blue coat"),
        ("rea_001", NASTY, NASTY, NASTY),
    ]
    keys = ("item_id", "source_prompt", "ground_truth", "prediction")
    items = [dict(zip(keys, row)) for row in answers]
    put(
        out.joinpath("artifacts", "understanding", "rea", *ends),
        {"task": "rea", "family": "understanding", "items": items, **common},
    )
    asked = {
        "item_id": "rec_000",
        "source_prompt": "Is <bo> here?",
        "ground_truth": "Yes.",
        "prediction": "no",
        "image_path": str(seen),
    }
    put(
        out.joinpath("artifacts", "understanding", "rec", *ends),
        {"task": "rec", "family": "understanding", "items": [asked], **common},
    )
    drawing = {
        "prompt_id": "prompt_000",
        "source_prompt": "<bo> in its coat",
        "scoring_prompt": "<bo> in its red coat",
        "drawn_words": "<bo> in its blue coat",
        "image_files": ["image_000.png", "image_001.png"],
        "metadata": {"clip_i_reference_image_paths": [str(seen)]},
    }
    made = {"task": "rea_gen", "family": "generation", "prompt_artifacts": [drawing], **common}
    put(out.joinpath("artifacts", "generation", "rea_gen", *ends), made)
    # the second one is gone
    draw(out.joinpath("artifacts", "generation", "rea_gen", *ends[:-1], "prompt_000", "image_000.png"), 200)
    rows = [
        {"item_id": "rea_000", "metrics": {"bleu": score, "exact": 0.0}},
        {"item_id": "rea_001", "metrics": {"bleu": 1.0}},
    ]
    put(
        out / "scores" / "understanding" / "rea" / f"model_epoch_{epoch}" / "bo.json",
        {"items": rows, "judge": judge, **common},
    )
    row = {"item_id": "prompt_000", "metrics": {"clip_t": 0.3, "judge": None, "clip_i": 0.7}}
    put(
        out / "scores" / "generation" / "rea_gen" / f"model_epoch_{epoch}" / "bo.json",
        {"prompt_results": [row], "judge": judge, **common},
    )
    columns = {"rea.bleu": column(score / 2 + 0.5), "rea_gen.clip_t": column(0.3), "rea.exact": column(0.5)}
    put(out / "scores" / "_aggregates" / f"model_epoch_{epoch}" / "summary.json", {"columns": columns})
    return out


@pytest.fixture
def models(tmp_path: Path) -> list[BenchmarkModel]:
    bench_folder(tmp_path / "a", label="first")
    bench_folder(tmp_path / "b", score=0.75, label="second")
    return read_models([str(tmp_path / "a"), str(tmp_path / "b")])


def content_of(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found
    return json.loads(found[1])


def test_models_side_by_side(models: list[BenchmarkModel], tmp_path: Path) -> None:
    page = write_page(models, tmp_path / "a" / "report.html")
    content = content_of(page.read_text())
    assert content["models"] == ["first", "second"] and content["concepts"] == ["bo"]
    assert [(task["name"], task["metric"]) for task in content["tasks"]] == [
        ("rec", ""),
        ("rea", "bleu"),
        ("rea_gen", "clip_t"),
    ]
    by_id = {(item["task"], item["id"]): item for item in content["items"]}
    assert len(by_id) == 4
    rewrite = by_id["rea", "rea_000"]
    assert [made["score"] for made in rewrite["by"]] == [0.25, 0.75] and rewrite["truth"] == "<bo> in its red coat"
    assert rewrite["by"][0]["parts"] == [["=", "<bo> in its"], ["-", "red"], ["+", "blue"], ["=", "coat"]]
    question = by_id["rec", "rec_000"]
    assert question["by"][0] == {"score": None, "metrics": {}, "text": "no", "drew": []}
    assert content["pictures"][question["seen"]] == "../data/a%20b.png"
    drawn = by_id["rea_gen", "prompt_000"]
    assert drawn["seen"] == question["seen"] and [made["drew"][1] for made in drawn["by"]] == [-2, -2]
    assert "<b>2 pictures are missing</b>" in page.read_text() and "image_001.png" in page.read_text()
    linked = [content["pictures"][made["drew"][0]] for made in drawn["by"]]
    assert all((page.parent / source).is_file() for source in linked) and len(set(linked)) == 2
    # rea.exact is not of the 15
    assert content["cells"][1][0]["mean"] == pytest.approx(0.875) and len(content["cells"][0]) == 2


def test_the_page_loads_nothing_and_texts_cannot_break_it(models: list[BenchmarkModel], tmp_path: Path) -> None:
    page = render_page(models, tmp_path / "report.html")
    assert (
        "http" not in page.replace("http-equiv", "")
        and "<link" not in page
        and "src=x" not in re.sub(r"<script.*?</script>", "", page)
    )
    assert page.count("</script>") == 2 and NASTY in [item["prompt"] for item in content_of(page)["items"]]
    assert for_script("</script>&\u2028") == '"\\u003c/script\\u003e\\u0026\\u2028"'
    assert "not measured alike" not in page


def test_embedded_pictures_make_one_file(models: list[BenchmarkModel], tmp_path: Path) -> None:
    content = content_of(write_page(models, tmp_path / "one.html", "embed").read_text())
    assert content["pictures"] and all(source.startswith("data:image/") for source in content["pictures"])


def test_pictures_are_found_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Manifests name them by their way from the manifest's folder, so results and data can move together."""
    bench_folder(tmp_path / "old" / "a")
    manifest = tmp_path / "old/a/artifacts/understanding/rec/bo/token_epoch_0/model_epoch_0/manifest.json"
    manifest.write_text(
        manifest.read_text().replace(
            json.dumps(str(tmp_path / "old" / "data" / "a b.png")), '"../../../../../../../data/a b.png"'
        )
    )
    (tmp_path / "old").rename(tmp_path / "new")
    monkeypatch.chdir(tmp_path)
    page = write_page(read_models(["new/a"]), tmp_path / "new" / "report.html")
    asked = next(item for item in content_of(page.read_text())["items"] if item["task"] == "rec")
    assert content_of(page.read_text())["pictures"][asked["seen"]] == "data/a%20b.png"


def test_differences_ignore_case_and_final_periods() -> None:
    assert differences("A photo of <bo>.", "a photo of <bo>") == [("=", "a photo of <bo>")]
    assert differences("red hat", "") == [("-", "red hat")]
    assert differences("a hat", "a big hat, red") == [("=", "a"), ("+", "big"), ("=", "hat,"), ("+", "red")]


def test_main_metric_prefers_the_judge(models: list[BenchmarkModel]) -> None:
    for answer in models[0].answers.values():
        answer.metrics["gpt"] = 0.5
    assert main_metric("rea", models) == "gpt" and main_metric("dense_rea", models) == ""


def test_a_baselines_words_are_compared_with_the_truth_in_its_own_words(tmp_path: Path) -> None:
    """A baseline says another name for <bo>; the truth above the models keeps the concept's own."""
    out = bench_folder(tmp_path / "a")
    path = out / "artifacts/understanding/rea/bo/token_epoch_0/model_epoch_0/manifest.json"
    manifest = json.loads(path.read_text())
    manifest["items"][0] |= {"reference": "<kip> in its red coat", "prediction": "<kip> in its blue coat"}
    path.write_text(json.dumps(manifest))
    item = next(
        row
        for row in content_of(render_page(read_models([str(out)]), tmp_path / "r.html"))["items"]
        if row["id"] == "rea_000"
    )
    assert item["truth"] == "<bo> in its red coat"
    assert item["by"][0]["parts"] == [["=", "<kip> in its"], ["-", "red"], ["+", "blue"], ["=", "coat"]]


def test_different_judges_are_pointed_out(tmp_path: Path) -> None:
    bench_folder(tmp_path / "a")
    bench_folder(tmp_path / "b", judge="other")
    models = read_models([str(tmp_path / "a"), str(tmp_path / "b")])
    assert [model.label for model in models] == ["mine (a)", "mine (b)"] and settings(models)["judge"] == [
        "reader",
        "other",
    ]
    assert "not measured alike" in render_page(models, tmp_path / "report.html")


def test_checkpoints_and_broken_files(tmp_path: Path) -> None:
    out = bench_folder(tmp_path / "a", label="start")
    bench_folder(out, label="step 60", epoch=60)
    put(out / "bench.json", {"models": {"0": "start", "60": "step 60"}})
    assert [model.label for model in read_models([str(out)])] == ["start", "step 60"]
    assert [model.label for model in read_models([f"{out}@60"])] == ["step 60"]
    (out / "scores" / "understanding" / "rea" / "model_epoch_0" / "bo.json").write_text('{"items": [')
    (out / "scores" / "_aggregates" / "model_epoch_0" / "summary.json").unlink()
    page = render_page(read_models([f"{out}@0"]), tmp_path / "r.html")
    scores = {item["task"]: item["by"][0]["score"] for item in content_of(page)["items"]}
    assert "Nothing is scored yet" in page and scores == {"rec": None, "rea": None, "rea_gen": 0.3}


@pytest.mark.parametrize(
    ("place", "message"),
    [("nowhere", "nowhere holds no predictions;"), ("a@7", "holds no predictions of model epoch 7")],
)
def test_folders_without_predictions(tmp_path: Path, place: str, message: str) -> None:
    bench_folder(tmp_path / "a")
    with pytest.raises(ValueError, match=message):
        read_models([str(tmp_path / place)])


def test_wrong_way_of_showing_pictures(models: list[BenchmarkModel], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="pictures is 'inline'; allowed are link and embed"):
        write_page(models, tmp_path / "r.html", "inline")


def test_command_writes_page_and_tables(tmp_path: Path) -> None:
    import typer

    from sync_r1.commands.unifybench_builder import register

    app = typer.Typer()
    register(app)
    bench_folder(tmp_path / "a", label="a_model")
    result = CliRunner().invoke(app, ["report", str(tmp_path / "a")], catch_exceptions=False)
    assert result.exit_code == 0
    written = {path.suffix: path.read_text() for path in (tmp_path / "a").glob("report.*")}
    assert set(written) == {".html", ".csv", ".json", ".tex", ".md"}
    assert "| a_model | 0.625 | 0.300 |" in written[".md"] and r"a\_model" in written[".tex"]


def test_columns_of_protocol_options_are_shown(tmp_path: Path) -> None:
    folder = bench_folder(tmp_path / "a")
    summaries = list(folder.rglob("summary.json"))
    assert summaries
    for summary in summaries:
        put(summary, {"columns": {"rea_gen.unasked": column(0.25)}})
    assert "a count, less is better" in render_page(read_models([str(folder)]), tmp_path / "page.html")
