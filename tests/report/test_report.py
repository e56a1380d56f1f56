"""The page and the sheet of a made-up run, whole and with pieces missing."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sync_r1.report import read_run, render_report, save_concept_card, write_report, write_sheet
from sync_r1.report.before_after import drawable
from sync_r1.report.run_files import Item, spread
from sync_r1.report.run_page import (
    change,
    command,
    completions_of_a_group,
    headline,
    mark,
    picture,
    points,
    preview_groups,
)

VOID = {"img", "meta", "link", "br", "line", "circle", "hr"}


class Outline(HTMLParser):
    """Checks that tags nest, and collects what the page refers to."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.sources: list[str] = []
        self.scripts = 0
        self.words: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in VOID:
            self.open.append(tag)
        self.scripts += tag == "script"
        self.sources += [value or "" for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def page(run_folder: Path) -> str:
    """The complete run's page, rendered once."""
    return render_report(read_run(run_folder))


@pytest.fixture
def copied(run_folder: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(run_folder, tmp_path / "demo"))


def edit_summary(folder: Path, **values: Any) -> None:
    path = folder / "summary.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_page_is_one_self_contained_file(copied: Path) -> None:
    target = write_report(copied)
    page = target.read_text(encoding="utf-8")
    outline = Outline(page)
    assert outline.open == []
    assert outline.sources and all(source.startswith("data:image/") for source in outline.sources)
    assert "url(" not in page and "@import" not in page
    assert outline.scripts == 0  # a model that writes <script> writes text
    assert "robot & <script>alert(1)</script>" in outline.text
    assert list(copied.glob("*.tmp")) == []


def test_page_says_what_a_newcomer_needs(page: str) -> None:
    text = Outline(page).text
    for words in (
        "After 60 training steps, the model understands <kip> better and draws it better.",
        "<kip> is a red robot with a square head.",
        "<kip>'s lucky thing is a green umbrella.",
        "world reader B",
        "7.9 min",
        "2.1 GiB",
        "+37.0 points",
        "95 % interval +28.0 to +46.0, n = 52",
        "Draw from its own long rewrite",
        "sync-r1 demo --seed 0",
        "torch 2.13.0",
        "num_generations: 8",
        "Kept",
        "Rejected",
        "✓ 1.00",
    ):
        assert words in text, words


def test_same_files_give_the_same_page(run_folder: Path, page: str) -> None:
    assert render_report(read_run(run_folder)) == page


def test_examples_are_paired_and_evenly_spaced(run_folder: Path) -> None:
    run = read_run(run_folder)
    pairs = run.pairs("pure_gen")
    assert len(pairs) == 10
    assert all(pair.before.id == pair.after.id and pair.before.seed == pair.after.seed for pair in pairs)
    assert list(spread(10, 3)) == [0, 4, 9]
    assert list(spread(2, 5)) == [0, 1]
    assert list(spread(7, 1)) == [0]


@pytest.mark.parametrize(
    ("low", "high", "verdict", "words"),
    [
        (0.01, 0.2, "up", "understands <kip> better and draws it better"),
        (-0.2, -0.01, "down", "understands <kip> worse and draws it worse"),
        (-0.05, 0.2, "same", "understands <kip> and draws it about as before"),
    ],
)
def test_headline_claims_only_what_the_interval_allows(
    run_folder: Path, low: float, high: float, verdict: str, words: str
) -> None:
    value = {"before": 0.5, "after": 0.6, "delta": 0.1, "ci95": [low, high], "n": 9}
    overall = {name: change(name, value) for name in ("understanding", "generation")}
    assert overall["understanding"] is not None and overall["understanding"].verdict == verdict
    assert words in headline(read_run(run_folder), overall)
    assert "the model draws <kip>" in headline(read_run(run_folder), {**overall, "understanding": None})


def test_a_score_without_an_interval_claims_nothing(run_folder: Path) -> None:
    found = change("generation", {"before": 0.1, "after": 0.9})
    assert found is not None and found.verdict == "same" and found.delta == pytest.approx(0.8)
    assert change("generation", {"before": None, "after": 0.9}) is None
    assert change("generation", {"before": float("nan"), "after": 0.9}) is None
    assert points(-0.031) == "−3.1"


def test_without_evaluation_the_page_says_so(copied: Path) -> None:
    shutil.rmtree(copied / "eval")
    (copied / "summary.json").unlink()
    text = Outline(render_report(read_run(copied))).text
    assert "Not evaluated yet" in text
    assert "60 training steps on <kip>, not evaluated yet." in text
    assert "Previews: kept and rejected" in text
    assert write_sheet(copied) is None


@pytest.mark.parametrize("left", ["config.yaml", "metrics.jsonl", "summary.json", "eval"])
def test_any_single_file_is_enough(copied: Path, left: str) -> None:
    for path in copied.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert Outline(render_report(read_run(copied))).open == []


def test_broken_files_are_named_not_fatal(copied: Path) -> None:
    (copied / "summary.json").write_text("{")
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 61, "reward": NaN}\n[1]\nnot json\n')
    (copied / "trajectories/step_00001.parquet").write_bytes(b"PAR1")
    (copied / "eval/images/after/pure_gen_000.png").write_bytes(b"no picture")
    (copied / "concept/0.png").unlink()
    text = Outline(render_report(read_run(copied))).text
    assert "summary.json cannot be read" in text
    assert "metrics.jsonl: 2 of its lines" in text
    assert "step_00001.parquet cannot be read" in text
    assert "no picture" in text


def test_the_photos_of_the_card_are_small_and_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (1200, 800), (10, 200, 30)).save(tmp_path / "phone.avif", exif=exif.tobytes())
    given = {"name": "kip", "class_noun": "dog", "info": "<kip> is brown.", "facts": ["<kip> runs."]}
    save_concept_card(tmp_path, **given, pictures=[tmp_path / "phone.avif"])
    with Image.open(tmp_path / "concept" / "0.png") as kept:
        assert kept.size == (341, 512) and not kept.getexif()
    assert json.loads((tmp_path / "concept.json").read_text())["pictures"] == ["concept/0.png"]


def test_not_a_run(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no run directory"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="is not a run"):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_resumed_runs_count_each_step_once(copied: Path) -> None:
    with (copied / "metrics.jsonl").open("a") as file:
        file.write('{"step": 60, "reward": 0.123}\n')
    metrics = read_run(copied).metrics
    assert [row["step"] for row in metrics] == list(range(1, 61))
    assert metrics[-1]["reward"] == 0.123


def test_command_to_repeat_a_run(copied: Path) -> None:
    assert command(read_run(copied)) == "sync-r1 demo --seed 0"
    edit_summary(copied, command=None)
    assert command(read_run(copied)) == f"sync-r1 train --config {copied}/config.yaml run.name=demo-again"
    (copied / "config.yaml").unlink()
    assert command(read_run(copied)) == ""


def test_unknown_tasks_still_show(copied: Path) -> None:
    edit_summary(copied, tasks={"my_task": {"before": 0.1, "after": 0.2, "delta": 0.1, "ci95": [0.05, 0.15], "n": 3}})
    assert "My task" in Outline(render_report(read_run(copied))).text


def test_completions_and_previews_come_from_one_group(run_folder: Path) -> None:
    run = read_run(run_folder)
    group = completions_of_a_group(run)
    assert group is not None and group["step"] == 60 and group["n"] == 8
    rewards = [row["reward"] for row in group["rows"]]
    assert rewards == sorted(rewards, reverse=True) and len(rewards) == 6
    assert group["rows"][0]["drew_from"] == "a photo of <kip> wearing a purple hat"
    for row in run.trajectories:
        row["image"] = row["image"] if row["step"] < 60 else None
    group = completions_of_a_group(run)
    assert group is not None and group["step"] == 30
    groups = preview_groups(read_run(run_folder))
    assert [group["step"] for group in groups] == [1, 30, 60]
    assert all(len(group["kept"]) == 8 and len(group["rejected"]) == 4 for group in groups)


def test_small_pictures_stay_exact_and_large_ones_shrink(tmp_path: Path) -> None:
    Image.new("RGB", (32, 32), "#123456").save(tmp_path / "small.png")
    Image.effect_noise((900, 600), 80).save(tmp_path / "large.png")
    small, large = picture(tmp_path / "small.png"), picture(tmp_path / "large.png")
    assert small is not None and small["pixel"] and small["uri"].startswith("data:image/png;base64,")
    assert large is not None and not large["pixel"] and len(large["uri"]) < 100_000
    assert picture(tmp_path / "absent.png") is None


@pytest.mark.parametrize(("score", "kind"), [(1.0, "right"), (0.6, "partly"), (0.2, "wrong"), (None, "unknown")])
def test_marks(score: float | None, kind: str) -> None:
    assert mark(Item("rec", "0", "", "", "", "", score, None, 0)) == kind


def test_sheet_shows_every_drawing_task(copied: Path) -> None:
    target = write_sheet(copied, columns=6)
    assert target is not None
    with Image.open(target) as sheet:
        assert sheet.format == "PNG" and sheet.text["Title"].startswith("Sync-R1 run demo")  # type: ignore[attr-defined]
        assert sheet.width > 6 * 160 and 500 < sheet.height < 900


def test_page_text_has_no_template_leftovers(page: str) -> None:
    text = Outline(page).text
    assert not re.search(r"\{\{|\{%|Undefined|None\b|nan\b", text)


def test_the_page_shows_the_name_that_the_owner_writes(copied: Path) -> None:
    card = json.loads((copied / "concept.json").read_text())
    (copied / "concept.json").write_text(json.dumps({**card, "display_name": "猫咪"}))
    page = write_report(copied).read_text(encoding="utf-8")
    assert "&lt;猫咪&gt;" in page and f"&lt;{card['name']}&gt;" not in page
    assert read_run(copied).concept.subject == "<猫咪>"


@pytest.mark.parametrize(("name", "known"), [("<Ünal>", True), ("<猫咪>", False)])
def test_the_sheet_writes_only_what_its_font_knows(name: str, known: bool) -> None:
    assert drawable(name) == known
