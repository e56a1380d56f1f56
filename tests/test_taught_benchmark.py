"""The benchmark of words that are taught by drawing: what it tells, what it trains, what it counts."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sync_r1.config import Config, EvalConfig
from sync_r1.data import load_concept
from sync_r1.files import write_json
from sync_r1.session import Session
from sync_r1.world.concepts import personas
from tests.helpers import benchmark, tiny_model


@pytest.fixture(scope="module")
def script() -> ModuleType:
    return benchmark("taught_by_drawing")


def test_the_rise_is_paired_over_concepts_and_pictures(script: ModuleType) -> None:
    """Two concepts, ten pictures of it and ten others: one gains half of one side, the other nothing."""
    half = np.array([1.0, 0.0] * 5)
    before = {"ivo": [half, np.ones(10)], "rex": [half, half]}
    after = {"ivo": [np.ones(10), np.ones(10)], "rex": [half, half]}
    found = script.rise(before, after)
    assert found["value"] == pytest.approx(0.125) and (found["n"], found["n_concepts"]) == (40, 2)
    low, high = found["ci95"]
    assert low == 0.0 < 0.125 < high <= 0.5
    assert script.rise(before, before)["ci95"] == (0.0, 0.0)


def test_without_a_description_the_class_alone_is_told(script: ModuleType, tmp_path: Path) -> None:
    told = load_concept(script.concept_folder("bo", tmp_path, described=True), "bo")
    silent = load_concept(script.concept_folder("bo", tmp_path, described=False), "bo")
    assert told.info == personas()["bo"].info and silent.info == "<bo> is a dog."
    names = [[path.name for path in one.train_images] for one in (told, silent)]
    assert names[0] == names[1] and told.items[0].question == silent.items[0].question
    again = script.concept_folder("bo", tmp_path, described=False)
    assert load_concept(again, "bo").info == silent.info and not list(tmp_path.rglob(".bo.partial"))


def test_what_is_trained_is_trained_once_and_goes_on_where_it_stopped(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[Any, bool]] = []
    last: list[str] = []

    def run(config: Config, console: object, resume: object, compare: bool, fresh: bool) -> dict[str, Any]:
        asked.append((resume, fresh))
        assert not compare and config.sft.stages == ["photos"] and config.rl.closed_labels == "drawing"
        return {"stopped": 2} if len(asked) == 2 else {}

    monkeypatch.setattr(script, "run_experiment", run)
    monkeypatch.setattr(script, "newest", lambda folder: Path(last[0]) if last else None)
    config = script.configured("bo", tmp_path, True)
    script.taught(config)
    assert asked == [(None, False)]
    last.append("step_00001")
    with pytest.raises(SystemExit, match="130"):
        script.taught(config)
    last[:] = [f"step_{config.rl.max_steps:05d}"]
    script.taught(config)
    assert asked == [(None, False), ("latest", False)]


def test_what_is_measured(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The rise of the words, the change of vqa, and every way of asking by phase."""
    data = script.concept_folder("bo", tmp_path / "data", described=True)
    config = Config()
    config.data.root, config.run.output_dir, config.run.name = str(data), str(tmp_path), "bo"
    write_json(tmp_path / "bo" / "summary.json", {"wall_time_s": 12.0})
    options = EvalConfig(batch_size=8, max_completion_length=3)
    session = Session(
        model=tiny_model(max_text_tokens=64), concept=load_concept(data, "bo"), root=data, options=options
    )
    opened: list[Path] = []
    monkeypatch.setattr(script, "configured", lambda *_: config)
    config.data.concepts = ["bo"]
    monkeypatch.setattr(script, "taught", lambda config: config.run.folder)
    monkeypatch.setattr(Session, "open", lambda checkpoint, **_: (opened.append(checkpoint), session)[1])
    found = script.measure(["bo"], tmp_path, 3, 0, "training", True)
    assert opened == [tmp_path / "bo" / "sft", tmp_path / "bo"]
    figures = found["taught_by_drawing"]
    assert figures["value"] == 0.0 and (figures["n"], figures["n_concepts"]) == (6, 1)
    assert figures["vqa_change"]["n"] == sum(item.kind == "vqa" for item in session.concept.items)
    assert {f"{how}_{phase}" for how in script.HOW for phase in ("before", "taught")} <= set(figures)
    assert found["concepts"]["bo"]["training_seconds"] == 12.0
    assert set(found["concepts"]["bo"]["taught"]) == {"words", "drawing", "both", "vqa"}
    json.dumps(found)


def test_the_words_are_taught_by_a_description(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before, the class alone is told; then what the image part says of the photos. The look is taken once."""
    looks: list[Path] = []
    monkeypatch.setattr(script, "run_sft", lambda session, config, folder: looks.append(folder))
    monkeypatch.setattr(script, "newest", lambda folder: folder if looks else None)
    untrained = SimpleNamespace(open=lambda checkpoint, data, concept: Session.open(data=data, concept=concept))
    monkeypatch.setattr(script, "Session", untrained)
    config = script.configured("bo", tmp_path, False)
    (first, before), (second, after) = script.described_phases(config)
    assert (first, second) == script.PHASES and looks == [config.run.folder / "sft"]
    assert before.concept.info == "<bo> is a dog." and after.concept.info == personas()["bo"].info
    list(script.described_phases(config))
    assert len(looks) == 1


def test_the_runs_of_recognition_are_found_before_anything_is_trained(tmp_path: Path) -> None:
    recognition = benchmark("recognition")
    assert recognition.run_of(None, "bo") is None
    for name in ("bo-0", "chai-1", "chai-2"):
        (tmp_path / name).mkdir()
    assert recognition.run_of(f"{tmp_path}/{{concept}}-*", "bo") == tmp_path / "bo-0"
    for name, number in (("ana", 0), ("chai", 2)):
        with pytest.raises(ValueError, match=f"{number} folders for {name}, there must be one"):
            recognition.run_of(f"{tmp_path}/{{concept}}-*", name)


def test_recognition_takes_over_the_figures_alone(tmp_path: Path) -> None:
    figures = {"value": 0.2, "ci95": [0.1, 0.3], "n": 8, "n_concepts": 2}
    path = tmp_path / "taught.json"
    write_json(path, {"taught_by_drawing": figures, "concepts": {"bo": {}}})
    recognition = benchmark("recognition")
    assert recognition.taught_figures(None) == {}
    assert recognition.taught_figures(path) == {"taught_by_drawing": figures}
    write_json(path, {"concepts": {}})
    with pytest.raises(ValueError, match=r"taught.json has no field taught_by_drawing; write it with "):
        recognition.taught_figures(path)
