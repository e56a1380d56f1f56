"""Drawing a region of a picture again: kept codes stay, the schedule runs over the region, and replay is exact."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.showo import reference
from sync_r1.models.showo.model import Showo
from sync_r1.types import ImageTrace, Sampling
from tests.helpers import tiny_model
from tests.models.janus_toys import tiny_janus

GUIDED = Sampling(guidance_scale=2.0, top_k=20, temperature=1.2, generation_timesteps=4)
PLAIN = Sampling(generation_timesteps=8)
PROMPTS = ["a red hat", "a photo of <token_0><bo> wearing a red hat", "a <bo>"]
SEEDS = [1, 2, 3]


@pytest.fixture(scope="module")
def model() -> Showo:
    model = tiny_model(3)
    add_concept(model, "bo", "robot", num_tokens=2)
    return model


@pytest.fixture(scope="module")
def codes() -> Tensor:
    return torch.randint(64, (3, 16), generator=torch.Generator().manual_seed(0))


def region_of(*cells: int) -> Tensor:
    region = torch.zeros(16, dtype=torch.bool)
    region[list(cells)] = True
    return region


ONE = region_of(1, 2, 5, 6, 11)
EACH = torch.stack([region_of(0, 1, 2), region_of(3, 8, 15), region_of(6, 7, 9)])


@pytest.mark.parametrize("sampling", [GUIDED, PLAIN], ids=["guided", "plain"])
@pytest.mark.parametrize("region", [ONE, EACH], ids=["one region", "a region per row"])
def test_kept_codes_stay_and_the_region_is_drawn(
    model: Showo, codes: Tensor, region: Tensor, sampling: Sampling
) -> None:
    given = codes.clone()
    trace = model.redraw_image(PROMPTS, codes, region, sampling, SEEDS)
    drawn = region.expand(3, 16)
    assert trace.finished and torch.equal(trace.drawn, drawn) and torch.equal(codes, given)
    assert torch.equal(trace.tokens[~drawn], codes[~drawn]) and (trace.unmask_step[~drawn] == -1).all()
    assert (trace.logps[~drawn] == 0).all() and (trace.logps[drawn] < 0).all()
    assert (trace.unmask_step[drawn] < sampling.generation_timesteps).all()
    assert not torch.equal(trace.tokens[drawn], codes[drawn])


@pytest.mark.parametrize("sampling", [GUIDED, PLAIN], ids=["guided", "plain"])
@pytest.mark.parametrize("region", [ONE, EACH], ids=["one region", "a region per row"])
def test_replay_is_exact(model: Showo, codes: Tensor, region: Tensor, sampling: Sampling) -> None:
    trace = model.redraw_image(PROMPTS, codes, region, sampling, SEEDS)
    logps, committed = model.image_logps(PROMPTS, trace, sampling, range(sampling.generation_timesteps))
    assert torch.equal(committed, trace.drawn) and logps.requires_grad
    torch.testing.assert_close(logps.detach(), trace.logps, atol=1e-5, rtol=0)


@pytest.mark.parametrize("sampling", [GUIDED, PLAIN], ids=["guided", "plain"])
def test_the_slow_decoder_draws_the_same(model: Showo, codes: Tensor, sampling: Sampling) -> None:
    trace = model.redraw_image(PROMPTS, codes, EACH, sampling, SEEDS)
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS)):
        kept = {place: int(codes[row, place]) for place in range(16) if not EACH[row, place]}
        tokens, committed, logps = reference.draw(model, prompt, sampling, seed, kept)
        assert trace.tokens[row].tolist() == tokens and trace.unmask_step[row].tolist() == committed
        torch.testing.assert_close(trace.logps[row], torch.tensor(logps), atol=1e-4, rtol=0)


def test_the_whole_picture_as_a_region_is_a_new_drawing(model: Showo, codes: Tensor) -> None:
    whole = model.redraw_image(PROMPTS, codes, torch.ones(16, dtype=torch.bool), GUIDED, SEEDS)
    fresh = model.generate_image(PROMPTS, GUIDED, SEEDS)
    assert torch.equal(whole.tokens, fresh.tokens) and torch.equal(whole.unmask_step, fresh.unmask_step)
    assert whole.nfe == fresh.nfe


def test_stopping_and_going_on_equals_not_stopping(model: Showo, codes: Tensor) -> None:
    whole = model.redraw_image(PROMPTS, codes, ONE, GUIDED, SEEDS)
    for stop in range(5):
        part = model.redraw_image(PROMPTS, codes, ONE, GUIDED, SEEDS, stop_at=stop)
        assert part.step == stop and torch.equal(part.known_before(stop), whole.unmask_step < stop)
        rest = model.generate_image(PROMPTS, GUIDED, state=part)
        assert torch.equal(rest.tokens, whole.tokens) and torch.equal(rest.unmask_step, whole.unmask_step)
    assert torch.equal(model.redraw_image(PROMPTS, codes, ONE, GUIDED, SEEDS, stop_at=0).tokens, codes)


def test_rows_are_independent_and_travel_in_traces(model: Showo, codes: Tensor) -> None:
    together = model.redraw_image(PROMPTS, codes, EACH, GUIDED, SEEDS)
    parts = []
    for row in range(3):
        rows = slice(row, row + 1)
        parts.append(model.redraw_image(PROMPTS[rows], codes[rows], EACH[rows], GUIDED, SEEDS[rows]))
    joined = ImageTrace.cat(parts)
    assert torch.equal(joined.tokens, together.tokens) and torch.equal(joined.drawn, together.drawn)
    assert torch.equal(joined.select([2]).unmask_step, together.unmask_step[2:])


def test_a_small_region_costs_one_evaluation_per_token(model: Showo, codes: Tensor) -> None:
    """A region of 2 tokens and 8 steps: step 0 commits one, the last step the other, nothing is asked in between."""
    trace = model.redraw_image(PROMPTS, codes, region_of(4, 5), PLAIN, SEEDS)
    assert trace.nfe == 2 and sorted(set(trace.unmask_step[trace.drawn].tolist())) == [0, 7]


def test_no_picture_is_no_mistake(model: Showo) -> None:
    assert len(model.redraw_image([], torch.zeros(0, 16, dtype=torch.long), ONE, PLAIN, []).tokens) == 0


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"region": torch.ones(15, dtype=torch.bool)}, r"shape \[15\]; it must be bool, \[16\] .* or \[3, 16\]"),
        ({"region": torch.ones(2, 16, dtype=torch.bool)}, r"shape \[2, 16\]"),
        ({"region": torch.ones(16)}, "torch.float32"),
        ({"region": region_of()}, "the region is empty"),
        ({"region": torch.stack([ONE, region_of(), ONE])}, "the region is empty"),
        ({"region": torch.stack([ONE, ONE, region_of(1)])}, "1 to 5 image tokens"),
        ({"codes": torch.zeros(3, 9, dtype=torch.long)}, r"\[3, 9\]; this model needs \[pictures, 16\]"),
        ({"codes": torch.full((3, 16), 64)}, r"codes lie in 64\.\.64; this model's codes are 0\.\.63"),
        ({"prompts": PROMPTS[:2], "seeds": None}, "got 2 prompts and 2 seeds for 3 pictures"),
        ({"seeds": [1]}, "got 3 prompts and 1 seeds for 3 pictures"),
    ],
)
def test_mistakes_are_explained(model: Showo, codes: Tensor, changes: dict[str, object], words: str) -> None:
    given = {"prompts": PROMPTS, "codes": codes, "region": ONE, "sampling": PLAIN, "seeds": SEEDS, **changes}
    with pytest.raises(ValueError, match=words):
        model.redraw_image(**given)  # type: ignore[arg-type]


def test_a_family_that_draws_in_one_order_says_so() -> None:
    janus = tiny_janus()
    codes = torch.zeros(1, janus.num_image_tokens, dtype=torch.long)
    with pytest.raises(ValueError, match="this family draws in one order and cannot redraw a region"):
        janus.redraw_image(["a hat"], codes, torch.ones(janus.num_image_tokens, dtype=torch.bool), PLAIN, [0])
