"""Concept rows, adapters and the frozen start."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from torch.testing import assert_close

from sync_r1.config import RLConfig, load_config
from sync_r1.models.concept_tokens import add_concept, learned_row_ids
from sync_r1.models.loading import load_model
from sync_r1.models.showo.model import Showo
from sync_r1.training.lora import ADAPTER_FILE, Adapters, adapted_layers
from sync_r1.training.parameters import (
    ROWS_FILE,
    ConceptRows,
    CopiedReference,
    NoReference,
    SwitchedReference,
    Trainables,
)
from sync_r1.types import Sampling, TextContext
from tests.models.janus_toys import tiny_janus
from tests.rl.toys import log_of, model_with_concept, same, small_config, trainer, weights

CONTEXT = TextContext("USER: <bo> ASSISTANT:")


def text_logps(model: Showo) -> torch.Tensor:
    ids = torch.tensor([[40, 41, 42]])
    return model.text_logps([CONTEXT], ids, torch.ones(1, 3, dtype=torch.bool), Sampling())[0]


def test_concept_rows_learn_at_their_own_rate_like_a_parameter_of_their_own() -> None:
    """Against a plain Adam on a small parameter; two backwards before a step add up; other rows never move."""
    generator = torch.Generator().manual_seed(0)
    start, targets = torch.randn(6, 3, generator=generator), torch.randn(6, 3, generator=generator)
    matrix, plain = nn.Parameter(start.clone()), nn.Parameter(start[[1, 4]].clone())
    rows = ConceptRows({"embed": matrix}, torch.tensor([1, 4]))
    optimizer, expected = (
        torch.optim.AdamW(rows.rows, lr=0.1, weight_decay=0.0),
        torch.optim.AdamW([plain], lr=0.1, weight_decay=0.0),
    )
    optimizer.register_step_post_hook(rows.write_back)
    for _ in range(3):
        optimizer.zero_grad()
        for _ in range(2):
            (matrix - targets).square().sum().backward()
        assert matrix.grad is None
        optimizer.step()
        expected.zero_grad()
        (2 * (plain - targets[[1, 4]]).square().sum()).backward()
        expected.step()
    assert_close(matrix[[1, 4]], plain)
    assert torch.equal(matrix[[0, 2, 3, 5]], start[[0, 2, 3, 5]])


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"beta": 0.0}, NoReference),
        ({"beta": 0.1}, CopiedReference),
        ({"beta": 0.1, "learning_rate": 0.0}, SwitchedReference),
        ({"beta": 0.1, "lora_rank": 2}, SwitchedReference),
    ],
)
def test_the_reference_is_the_start_and_costs_no_more_than_it_must(changes: dict[str, float], kind: type) -> None:
    model = model_with_concept()
    start = text_logps(model).detach()
    trainables = Trainables(model, RLConfig(**changes), torch.tensor([333, 334, 335]))  # type: ignore[arg-type]
    reference = trainables.reference(model)
    assert type(reference) is kind
    with torch.no_grad():
        for parameter in trainables.parameters():
            parameter += torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0))
    trainables.rows.write_back()
    moved = text_logps(model)
    assert (moved - start).abs().max() > 1e-2
    with reference.policy() as policy:
        if kind is NoReference:
            assert policy is None
        else:
            assert_close(text_logps(policy), start)
            assert (policy is model) == (kind is SwitchedReference)
    assert torch.equal(text_logps(model), moved)
    if isinstance(reference, CopiedReference):
        assert model.magvit is not None and reference.model.magvit is not None
        shared = next(model.magvit.parameters()), next(reference.model.magvit.parameters())
        assert shared[0] is shared[1], "what never trains is not copied"


def test_adapters_start_as_nothing_merge_exactly_and_come_off() -> None:
    model = model_with_concept()
    plain, before = text_logps(model).detach(), weights(model)
    head = {id(parameter) for parameter in model.get_output_embeddings().parameters()}
    adapters = Adapters(model, adapted_layers(model, head), rank=2, alpha=4.0, seed=0)
    assert torch.equal(text_logps(model), plain)
    with torch.no_grad():
        for parameter in adapters.parameters():
            parameter += 0.05
    changed = text_logps(model).detach()
    assert (changed - plain).abs().max() > 1e-2
    with adapters.off():
        assert torch.equal(text_logps(model), plain)
    with adapters.merged():
        assert set(weights(model)) == set(before)
        assert_close(text_logps(model), changed, atol=1e-4, rtol=1e-4)
    assert torch.equal(text_logps(model), changed)


def test_adapters_train_save_plain_weights_and_resume_bit_for_bit(tmp_path: Path) -> None:
    settings = ["rl.max_steps=4", "rl.lora_rank=2", "rl.beta=0.05", "rl.learning_rate=1e-2"]
    whole = trainer(tmp_path, *settings)
    frozen = {name: value for name, value in weights(whole.policy).items() if ".base_layer." in name}
    assert len(frozen) == 2 * 2 * 6  # weight and bias of six layers in two blocks
    assert all(
        "lora" in name
        for name, parameter in whole.policy.named_parameters()
        if parameter.requires_grad and "layers" in name
    )
    whole.train()
    assert same(frozen, weights(whole.policy))
    assert log_of(whole)[-1]["kl"] > 0
    checkpoint = whole.config.run.folder / "checkpoints" / "step_00004"
    opened = Showo.from_pretrained(checkpoint)
    assert_close(text_logps(opened), text_logps(whole.policy), atol=1e-4, rtol=1e-4)

    end, expected = weights(whole.policy), log_of(whole)
    resumed = trainer(tmp_path, *settings)
    resumed.train(resume_from_checkpoint=whole.config.run.folder / "checkpoints" / "step_00002")
    assert same(end, weights(resumed.policy)) and log_of(resumed) == expected
    with pytest.raises(ValueError, match=r"trained with adapters; set rl.lora_rank"):
        trainer(tmp_path, "rl.max_steps=5").train(resume_from_checkpoint=checkpoint)
    assert {path.name for path in checkpoint.iterdir()} >= {ADAPTER_FILE, "adapter_config.json", ROWS_FILE}
    with pytest.raises(ValueError, match="adapters of other sizes"):
        trainer(tmp_path, "rl.max_steps=5", "rl.lora_rank=3").train(resume_from_checkpoint=checkpoint)


def nudge(trainables: Trainables, size: float) -> None:
    with torch.no_grad():
        for parameter in trainables.parameters():
            parameter += size * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    trainables.rows.write_back()


def with_adapters(model: Showo, seed: int = 0, **changes: object) -> Trainables:
    config = RLConfig(lora_rank=2, lora_alpha=4.0, beta=0.1, **changes)  # type: ignore[arg-type]
    return Trainables(model, config, learned_row_ids(model), seed=seed)


def test_adapters_start_alike_by_seed_and_only_where_asked() -> None:
    first, again, other = (with_adapters(model_with_concept(), seed) for seed in (3, 3, 4))
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters()))
    assert not all(torch.equal(a, b) for a, b in zip(first.parameters(), other.parameters()))
    some = with_adapters(model_with_concept(), lora_target_modules=["q_proj", "self_attn.v_proj"])
    assert some.adapters is not None and {name.split(".")[-1] for name in some.adapters.places} == {"q_proj", "v_proj"}
    with pytest.raises(ValueError, match=r"rl.lora_target_modules names proj; this model has dense, fc1"):
        with_adapters(model_with_concept(), lora_target_modules=["proj"])


def test_adapters_are_saved_in_the_published_format(tmp_path: Path) -> None:
    model = model_with_concept()
    trainables = with_adapters(model, concept_learning_rate=0.0)
    nudge(trainables, 0.05)
    trainables.save(model, tmp_path)
    opened = PeftModel.from_pretrained(model_with_concept(), str(tmp_path)).get_base_model()
    assert torch.equal(text_logps(opened), text_logps(model))
    with pytest.raises(ValueError, match=r"rl.lora_alpha=4; it is 8 now"):
        again = Trainables(
            model_with_concept(), RLConfig(lora_rank=2, lora_alpha=8.0), torch.tensor([], dtype=torch.long)
        )
        again.load(model, tmp_path)


def test_adapters_fit_another_family(tmp_path: Path) -> None:
    """Janus: the language model and what draws get adapters, the frozen towers do not.

    The checkpoint opens as plain weights.
    """
    model = tiny_janus(positions=512)
    add_concept(model, "bo", "robot", num_tokens=2)
    ids, mask, sampling = torch.tensor([[40, 41, 42]]), torch.ones(1, 3, dtype=torch.bool), Sampling()
    plain = model.text_logps([CONTEXT], ids, mask, sampling)[0].detach()
    trainables = Trainables(model, RLConfig(lora_rank=2, lora_alpha=4.0, beta=0.1), learned_row_ids(model))
    assert trainables.adapters is not None and trainables.adapters.places
    assert not any(
        "vision_model" in name or "vqmodel" in name or "lm_head" in name for name in trainables.adapters.places
    )
    reference = trainables.reference(model)
    nudge(trainables, 0.05)
    changed = model.text_logps([CONTEXT], ids, mask, sampling)[0]
    with reference.policy() as start:
        assert start is not None
        assert_close(start.text_logps([CONTEXT], ids, mask, sampling)[0], plain)
    assert (changed - plain).abs().max() > 1e-2
    trainables.save(model, tmp_path)
    assert_close(
        load_model(tmp_path, device="cpu").text_logps([CONTEXT], ids, mask, sampling)[0], changed, atol=1e-4, rtol=1e-4
    )


def test_a_frozen_bf16_body_trains_fp32_adapters_and_rows(tmp_path: Path) -> None:
    """Log-probabilities are fp32, the ratio before an update is 1 within 0.05, small updates add up, checkpoints lose
    nothing.
    """
    model = model_with_concept().to(torch.bfloat16)
    trainables = with_adapters(model)
    assert {parameter.dtype for parameter in trainables.parameters()} == {torch.float32}
    sampling = Sampling(max_completion_length=6, generation_timesteps=4, guidance_scale=2.0)
    contexts, prompts, seeds = (
        [CONTEXT, TextContext("USER: a hat?")] * 2,
        ["a <bo>", "<bo> in the snow"] * 2,
        [0, 1, 2, 3],
    )
    texts, trace = model.generate_text(contexts, sampling, seeds), model.generate_image(prompts, sampling, seeds)
    # another batch size rounds differently
    written = model.text_logps(contexts[:1], texts.ids[:1], texts.mask[:1], sampling)[0]
    drawn, _ = model.image_logps(prompts[:3], trace.select([0, 1, 2]), sampling, [0, 1, 2, 3])
    for replayed, rolled_out in ((written, texts.logps[:1]), (drawn, trace.logps[:3])):
        assert replayed.dtype == rolled_out.dtype == torch.float32
        assert_close(replayed, rolled_out, atol=0.05, rtol=0)

    nudge(trainables, 0.02)
    row = trainables.rows.rows[0]
    before = row.detach().clone()
    with torch.no_grad():
        for _ in range(1000):
            row += 1e-4  # each alone is lost in a bf16 matrix
            trainables.rows.write_back()
    assert_close(trainables.rows.matrices[0][trainables.rows.ids].float(), before + 0.1, atol=0.01, rtol=0.01)
    trainables.save(model, tmp_path)
    assert_close(text_logps(Showo.from_pretrained(tmp_path)), text_logps(model), atol=0.05, rtol=0)
    resumed = with_adapters(model_with_concept().to(torch.bfloat16))
    resumed.load(model, tmp_path)
    assert all(torch.equal(old, new) for old, new in zip(trainables.parameters(), resumed.parameters()))


def test_a_run_on_a_bf16_body(tmp_path: Path) -> None:
    settings = [
        "rl.max_steps=2",
        "rl.lora_rank=2",
        "rl.beta=0.05",
        "rl.learning_rate=1e-2",
        "model.dtype=bf16",
        "rl.guidance_scale=1",
    ]
    run = trainer(tmp_path, *settings, model=model_with_concept().to(torch.bfloat16))
    before = weights(run.policy)
    run.train()
    first, second = log_of(run)
    for half in ("text", "image"):
        assert first[f"{half}/ratio_mean"] == pytest.approx(1, abs=0.05) and first[f"{half}/abs_dlogp"] < 0.05
    assert abs(first["kl"]) < 1e-3 < second["kl"]
    for name, value in run.policy.state_dict().items():
        if "lora" not in name and "embed_tokens" not in name and "lm_head" not in name:
            assert value.dtype == torch.bfloat16 and torch.equal(value, before[name]), name


def test_a_bf16_body_cannot_train_itself(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"model.dtype is 'bf16'; a body that trains must be fp32.*rl.lora_rank=16"):
        load_config(None, ["model.dtype=bf16"])
    for fine in (["rl.lora_rank=2"], ["rl.learning_rate=0"]):
        small_config(tmp_path, "model.dtype=bf16", *fine)
    with pytest.raises(ValueError, match=r"the body is torch.bfloat16 and would lose small updates"):
        Trainables(model_with_concept().to(torch.bfloat16), RLConfig(), torch.tensor([], dtype=torch.long))


@pytest.mark.parametrize("rank", [0, 2])
def test_gradient_checkpointing_changes_no_gradient(rank: int) -> None:
    found = []
    sampling = Sampling(generation_timesteps=4, guidance_scale=2.0)
    for checkpointing in (False, True):
        model = model_with_concept().train()
        trainables = Trainables(model, RLConfig(lora_rank=rank), learned_row_ids(model))
        nudge(trainables, 0.02)
        if checkpointing:
            model.gradient_checkpointing_enable()
        trace = model.generate_image(["a <bo>"] * 2, sampling, [0, 1])
        loss = text_logps(model).sum() + model.image_logps(["a <bo>"] * 2, trace, sampling, [1, 3])[0].sum()
        loss.backward()
        found.append([parameter.grad for parameter in trainables.parameters()])
    assert len(found[0]) == len(found[1]) and all(grad is not None for grad in found[0])
    for plain, recomputed in zip(*found):
        assert_close(plain, recomputed, atol=1e-4, rtol=1e-4)


def test_nothing_to_train_is_refused() -> None:
    with pytest.raises(ValueError, match="nothing would train"):
        Trainables(model_with_concept(), RLConfig(learning_rate=0.0), torch.tensor([], dtype=torch.long))
