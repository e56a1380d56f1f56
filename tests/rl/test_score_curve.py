"""The score of test prompts along a run."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from sync_r1.rl.dgs import NoScaling
from sync_r1.rl.rollout import Sampler
from sync_r1.rl.score_curve import MEASURE, ScoreCurve
from sync_r1.training.prompts import evaluation_prompts
from sync_r1.types import Sampling
from tests.rl.toys import bright, concept, model_with_concept


def curve(folder: Path, noted: list[dict[str, float]], drawn: list[int]) -> ScoreCurve:
    model = model_with_concept()
    sampler = Sampler(
        model, Sampling(max_completion_length=4, generation_timesteps=2), NoScaling(), group_size=3, images_per_text=1
    )

    def seen(**columns: object) -> list[float | None]:
        found: list[float | None] = list(bright(**columns))  # type: ignore[arg-type]
        drawn.append(len(found))
        return [None, *found[1:]]

    prompts = evaluation_prompts(concept(folder), model.concepts[0], 1)
    return ScoreCurve(sampler, prompts, [seen], every=4, seed=0, note=noted.append)


def test_it_looks_at_every_so_many_steps_and_at_the_end_with_the_same_noise(tmp_path: Path) -> None:
    noted: list[dict[str, float]] = []
    drawn: list[int] = []
    watch = curve(tmp_path, noted, drawn)
    for step in range(1, 11):
        state = SimpleNamespace(global_step=step, max_steps=10, is_world_process_zero=True)
        watch.on_step_end(None, state, None)  # type: ignore[arg-type]
    assert drawn == [3, 3, 3] and [list(row) for row in noted] == [[MEASURE]] * 3
    assert noted[0] == noted[1] == noted[2] and 0 < noted[0][MEASURE] < 1, "nothing was learned in between"
    other = SimpleNamespace(global_step=12, max_steps=20, is_world_process_zero=False)
    watch.on_step_end(None, other, None)  # type: ignore[arg-type]
    assert len(drawn) == 3, "one process asks the evaluators"


@pytest.mark.parametrize(("count", "expected"), [(2, [2, 4]), (3, [2, 3, 4]), (9, [2, 3, 4, 5])])
def test_test_prompts_are_spread_evenly(tmp_path: Path, count: int, expected: list[int]) -> None:
    who = concept(tmp_path)
    who.conditions.implicit[:] = [f"<bo> with its {number}" for number in range(6)]
    who.conditions.explicit[:] = [f"<bo> with {number}" for number in range(6)]
    object.__setattr__(who, "num_testing_info", 4)
    found = evaluation_prompts(who, model_with_concept().concepts[0], count)
    assert [prompt.answer for prompt in found] == [f"<bo> with {number}" for number in expected]
