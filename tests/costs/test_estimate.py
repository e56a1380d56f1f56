"""The estimate of a dry run, against real models, real rollouts, counted FLOPs and hand-computed evaluations."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode
from typer.testing import CliRunner

from sync_r1 import cli
from sync_r1.config import Config, ModelConfig, load_config
from sync_r1.costs import run_cost
from sync_r1.costs.estimate import REACHED, CostEstimate, estimate
from sync_r1.costs.model_sizes import ModelSizes, janus_sizes, read_sizes, showo_sizes_of
from sync_r1.costs.throughput import Throughput, measure_throughput
from sync_r1.costs.workload import Prompts, Workload
from sync_r1.models.base import UnifiedModel
from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.showo.model import Showo
from sync_r1.recipes import apply_recipes
from sync_r1.training.prompts import context
from tests.helpers import tiny_model
from tests.models.janus_toys import tiny_janus
from tests.rl.toys import log_of, model_with_concept, trainer

LAYERS = 8
ROLL = ["rl.num_generations=3", "rl.prompts_per_step=2", "rl.generation_timesteps=4", "model.num_tokens=2"]


def sizes_of(model: UnifiedModel) -> ModelSizes:
    assert isinstance(model, Showo) and model.magvit is not None
    return showo_sizes_of(model.config, model.magvit.config)


def estimated(sizes: ModelSizes, *overrides: str) -> CostEstimate:
    return estimate(load_config(None, [*ROLL, *overrides]), sizes, Throughput(2e12, 1e12, "cpu"))


@pytest.mark.parametrize(
    "overrides",
    [["rl.lora_rank=2"], ["rl.lora_rank=3", "rl.lora_target_modules=[q_proj, fc1]"], ["rl.learning_rate=0"], []],
)
def test_parameters_and_what_stays_are_those_of_a_real_trainer(tmp_path: Path, overrides: list[str]) -> None:
    guess = estimated(sizes_of(tiny_model(0, max_text_tokens=64)), *overrides)
    run = trainer(tmp_path, "rl.max_steps=1", "run.save_steps=1", *overrides)
    run.train()
    parameters = run.trainables.parameters()
    assert guess.parameters["total"] == sum(parameter.numel() for parameter in run.policy.parameters())
    assert guess.parameters["trainable"] == sum(parameter.numel() for parameter in parameters)
    assert guess.memory["gradients"] == 4 * guess.parameters["trainable"]
    assert run.optimizer is not None
    moments = [
        value for state in run.optimizer.state.values() for name, value in state.items() if name.startswith("exp_avg")
    ]
    assert sum(value.nbytes for value in moments) == guess.memory["Adam states"]
    weights = sum(parameter.nbytes for parameter in run.policy.parameters()) + sum(
        row.nbytes for row in run.trainables.rows.rows
    )
    assert guess.memory["weights"] == weights


@pytest.mark.parametrize("guidance", [0.0, 2.0])
def test_evaluations_are_those_of_a_real_rollout(tmp_path: Path, guidance: float) -> None:
    overrides = ["rl.images_per_text=2", f"rl.guidance_scale={guidance}"]
    run = trainer(tmp_path, "rl.max_steps=1", "run.save_steps=1", *overrides)
    run.train()
    assert estimated(sizes_of(run.policy), *overrides).work["nfe"] == log_of(run)[0]["dgs/nfe"]


def test_evaluations_of_a_tree() -> None:
    """G = 9 texts looked at once; two trunks to step 40 with four leaves of ten steps; twice each for guidance."""
    tree = ["rl.dgs_enabled=true", "rl.dgs_keep=tree", "rl.dgs_preview_step=40", "rl.images_per_text=4"]
    drawing = ["rl.generation_timesteps=50", "rl.guidance_scale=5", "rl.num_generations=9", "rl.prompts_per_step=3"]
    published = read_sizes(ModelConfig(path="showlab/show-o-512x512"))
    found = estimated(published, *tree, *drawing)
    assert found.work["nfe"] == found.dgs["nfe"] == 3 * 2 * (9 + 2 * 40 + 2 * 4 * 10)
    assert found.work["images finished"] == 3 * 2 * 4


def test_evaluations_of_the_recipes_tree() -> None:
    """docs/dgs.md: P = 3, G = 8, two trunks of 6 steps with four leaves of two; plain GRPO takes 192."""
    config = apply_recipes(["demo", "tree"])
    config.validate()
    work = Workload(config, sizes_of(tiny_model()), Prompts())
    assert work.nfe[0] == 3 * (8 + 2 * (6 + 4 * 2)) == 108 and work.texts * work.evaluations(8) == 192


def test_evaluations_of_a_real_tree(tmp_path: Path) -> None:
    overrides = ["rl.dgs_enabled=true", "rl.dgs_keep=tree", "rl.images_per_text=2", "rl.dgs_preview_step=3"]
    run = trainer(tmp_path, "rl.max_steps=1", "run.save_steps=1", *overrides)
    run.train()
    assert run.experience is not None
    texts = [len(set(group)) for group in run.experience.rollout.grouped_prompts()]
    same_texts = sum(3 - distinct for distinct in texts)  # the estimate takes every text for another
    assert estimated(sizes_of(run.policy), *overrides).work["nfe"] == log_of(run)[0]["dgs/nfe"] + same_texts


def test_evaluations_that_filtering_saves() -> None:
    """G = 9, half accepted, at most twice G: 18 candidates to step 10, 9 on to step 50, twice each for guidance."""
    dgs = ["rl.dgs_enabled=true", "rl.dgs_preview_step=10", "rl.dgs_candidate_factor=2", "rl.dgs_target_acceptance=0.5"]
    drawing = ["rl.generation_timesteps=50", "rl.guidance_scale=5", "rl.num_generations=9", "rl.prompts_per_step=1"]
    published = read_sizes(ModelConfig(path="showlab/show-o-512x512"))
    found = estimated(published, *dgs, *drawing).dgs
    assert found["candidates per prompt"] == 18
    assert found["nfe"] == 18 * 10 * 2 + 9 * 40 * 2 == 1080
    assert found["nfe saved"] == 18 * 100 - 1080 and found["nfe of plain GRPO with the same group"] == 900
    assert estimated(published, *drawing).dgs == {}
    assert estimated(published, *dgs, *drawing, "rl.dgs_target_acceptance=0.9").dgs["candidates per prompt"] == 10


def test_published_sizes_need_no_network_and_no_weights(tmp_path: Path) -> None:
    """1.45 B parameters and a 95 M image tokenizer; the same from a folder's config.json."""
    small, large = (
        read_sizes(ModelConfig(path="showlab/show-o")),
        read_sizes(ModelConfig(path="showlab/show-o-512x512")),
    )
    assert large.body + large.vocabulary == 1_448_176_770 and large.frozen == 95_387_004
    assert (small.image_tokens, large.image_tokens) == (256, 1024)
    assert large.picture_flops == pytest.approx(4 * small.picture_flops, rel=0.01)
    (tmp_path / "config.json").write_text(
        json.dumps({"_class_name": "Showo", "llm_vocab_size": 50295, "num_vq_tokens": 256})
    )
    assert read_sizes(ModelConfig(path=str(tmp_path))) == small
    with pytest.raises(ValueError, match=r"could not be fetched|no such file"):
        read_sizes(ModelConfig(path="./nowhere"))


def test_a_folder_of_ours_and_janus(tmp_path: Path) -> None:
    model = model_with_concept()
    model.save_pretrained(tmp_path)
    assert read_sizes(ModelConfig(path=str(tmp_path))) == sizes_of(model)
    janus = tiny_janus()
    sizes = janus_sizes(janus.config)
    assert sizes.body + sizes.vocabulary + sizes.frozen == sum(parameter.numel() for parameter in janus.parameters())
    drawn = estimated(sizes, "rl.guidance_scale=2", "rl.num_generations=2", "rl.prompts_per_step=1").work
    assert drawn["nfe"] == 2 * 2 * sizes.image_tokens, "a token at a time, twice"


def test_replay_flops_are_those_counted(tmp_path: Path) -> None:
    """Forward and backward of the image half: everything, adapters on a frozen body, and with layers recomputed.

    The estimate takes the first and the last layer for whole ones; most of their work is left out
    (models/showo/backbone.py).
    """
    for overrides in (["rl.beta=0"], ["rl.lora_rank=2"], ["rl.gradient_checkpointing=true"]):
        model = tiny_model(0, max_text_tokens=64, hidden_size=128, intermediate_size=512, num_hidden_layers=LAYERS)
        add_concept(model, "bo", "robot", num_tokens=2)
        run = trainer(
            tmp_path / overrides[0], "rl.optimise=image", "rl.sequences_per_backward=8", *overrides, model=model
        )
        run.policy.train()
        rollout = run.roll_out()
        credit = run.advantage(rollout, run.score(rollout))
        with FlopCounterMode(display=False) as counter:
            run.loss(type("Experience", (), {"rollout": rollout, "advantages": credit}))  # type: ignore[arg-type]
        prefix = max(len(model.tokenizer(prompt)["input_ids"]) for prompt in rollout.image_prompts()) + 3
        config = load_config(None, [*ROLL, "rl.optimise=image", "rl.sequences_per_backward=8", *overrides])
        found = estimate(config, sizes_of(model), None, Prompts(drawing=prefix)).flops["image replay"]
        assert 0.9 * (LAYERS - 2) / LAYERS < counter.get_total_flops() / found < 1.1, overrides


def test_closed_questions_are_counted(tmp_path: Path) -> None:
    """FLOPs of the loss with and without them, counted; texts at full length are an upper bound."""
    closed = ["rl.closed_loss=log", "rl.closed_prompts_per_step=4"]
    model = tiny_model(0, max_text_tokens=64, hidden_size=128, intermediate_size=512, num_hidden_layers=LAYERS)
    add_concept(model, "bo", "robot", num_tokens=2)
    run = trainer(tmp_path, "rl.optimise=text", *closed, model=model)
    run.policy.train()
    assert run.closed is not None
    contexts = [context(run.policy, prompt, {}).text for prompt in run.closed.chosen(0)]
    with FlopCounterMode(display=False) as counter:
        run.closed.backward(run.policy, 0)
    reading = max(len(model.tokenizer(text)["input_ids"]) for text in contexts)
    config = load_config(None, [*ROLL, "rl.optimise=text", "rl.max_completion_length=5", *closed])
    found = estimate(config, sizes_of(model), Throughput(2e12, 1e12, "cpu"), Prompts(reading=reading))
    assert 0.6 < counter.get_total_flops() / found.flops["closed answers"] < 1.1
    assert found.work["closed questions"] == 4 and found.phases["closed answers"] > 0
    without = estimated(sizes_of(model), "rl.optimise=text")
    assert "closed answers" not in without.flops and "closed questions" not in without.work
    seldom = estimated(sizes_of(model), "rl.draw_every=4", *closed).seconds
    plain = estimated(sizes_of(model), "rl.draw_every=4").seconds
    assert seldom["step on average"] - plain["step on average"] == pytest.approx(seldom["closed answers"])


def test_what_a_backward_pass_keeps_is_what_autograd_saves() -> None:
    """Bytes of saved tensors of one image piece, against the estimate without its logits and gradient of the
    vocabulary; prompts differ.
    """
    model = tiny_model(0, max_text_tokens=64, hidden_size=128, intermediate_size=512, num_hidden_layers=LAYERS)
    add_concept(model, "bo", "robot", num_tokens=2)
    model.train()
    config = load_config(
        None, [*ROLL, "rl.concept_learning_rate=0", "rl.train_timesteps=4", "rl.sequences_per_backward=24"]
    )
    sampling = config.rl.sampling()
    prompts = [f"a <bo> {number}" for number in range(6)]
    trace = model.generate_image(prompts, sampling, list(range(6)))
    parameters = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    kept: dict[int, tuple[int, torch.Tensor]] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        address = tensor.untyped_storage().data_ptr()
        if address not in parameters:
            kept[address] = (tensor.untyped_storage().nbytes(), tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.image_logps(prompts, trace, sampling, [0, 1, 2, 3])
    prefix = len(model.tokenizer(prompts[0])["input_ids"]) + 3
    logits = 4 * 6 * 16 * 64 * 6
    found = estimate(config, sizes_of(model), None, Prompts(drawing=prefix)).phases["image replay"] - logits
    assert 0.85 * (LAYERS - 2) / LAYERS < sum(size for size, _ in kept.values()) / found < 1.15


def test_memory_follows_the_options() -> None:
    sizes = read_sizes(ModelConfig(path="showlab/show-o-512x512"))
    full = estimated(sizes)
    lora = estimated(sizes, "rl.lora_rank=16", "model.dtype=bf16", "rl.beta=0.1")
    assert full.memory["Adam states"] > 9.6e9 and lora.memory["Adam states"] < 0.2e9 and lora.memory["reference"] < 1e6
    assert estimated(sizes, "rl.beta=0.1").memory["reference"] > 5e9, "a second copy when the body trains"
    assert lora.memory["weights"] < full.memory["weights"] / 1.8
    shorter = estimated(sizes, "rl.gradient_checkpointing=true", "rl.sequences_per_backward=8")
    assert shorter.phases["image replay"] < estimated(sizes, "rl.sequences_per_backward=8").phases["image replay"] / 4
    silent = estimated(sizes, "rl.optimise=text")
    assert silent.work["nfe"] == silent.flops["image rollout"] == silent.phases["image replay"] == 0
    alone = estimated(sizes, "rl.optimise=decisions", "rl.closed_loss=log")
    assert alone.work["nfe"] == alone.flops["text rollout"] == alone.flops["text replay"] == 0
    assert alone.seconds["step on average"] == alone.seconds["closed answers"] > 0
    assert full.seconds["image rollout"] == full.flops["image rollout"] / REACHED / 2e12, "wide"
    assert full.seconds["text rollout"] == full.flops["text rollout"] / REACHED / 1e12, "narrow"
    assert estimated(sizes, "rl.num_iterations=2").seconds["step on average"] < full.seconds["step on average"]
    seldom = estimated(sizes, "rl.draw_every=4").seconds
    text = seldom["text rollout"] + seldom["text replay"]
    assert seldom["step on average"] - text == pytest.approx((full.seconds["step on average"] - text) / 4)
    wider = ["rl.draw_every=4", "rl.prompts_per_step=2", "rl.text_prompts_per_step=4"]
    assert estimated(sizes, *wider).seconds["step on average"] - seldom["step on average"] == pytest.approx(0.75 * text)
    assert estimated(sizes, *wider).phases["text rollout"] > estimated(sizes, *wider[:2]).phases["text rollout"]


def test_sharing_saves_the_optimizers_memory_and_the_references() -> None:
    sizes = read_sizes(ModelConfig(path="showlab/show-o-512x512"))
    config = load_config(None, [*ROLL, "rl.beta=0.1", "run.sharding=fsdp2"])
    layers, alone = 4 * sizes.in_layers, estimate(config, sizes).memory
    found = estimate(config, sizes, processes=8).memory
    assert sizes.body - sizes.in_layers == 2 * sizes.hidden, "the last norm"
    assert alone == estimated(sizes, "rl.beta=0.1").memory, "one process has no other to share with"
    assert alone["Adam states"] - found["Adam states"] == pytest.approx(2 * layers * 7 / 8)
    assert alone["reference"] - found["reference"] == pytest.approx(layers * 7 / 8)
    assert found["weights"] - alone["weights"] == pytest.approx(layers / 8), "the share beside the whole"
    assert found["gradients"] == alone["gradients"]


def test_throughput_is_measured() -> None:
    throughput = measure_throughput(64, 128, wide=64, narrow=1, device="cpu", dtype=torch.float32, budget=0.05)
    assert throughput.narrow > 1e6 and 1e6 < throughput.wide < 1e14


def test_slow_products_are_measured_with_fewer_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A processor without units for bf16 takes minutes for what a forward pass multiplies; the dry run must not."""
    asked = []

    def slow(call: Callable[[], Tensor], device: str, budget: float) -> float:
        asked.append(len(call()))
        return 0.05 * asked[-1]

    monkeypatch.setattr("sync_r1.costs.throughput._time_of", slow)
    throughput = measure_throughput(64, 128, wide=8192, narrow=16, device="cpu", dtype=torch.float32)
    assert max(asked) == 4 and throughput.wide == throughput.narrow == pytest.approx(2 * 64 * 128 / 0.05)


def test_dry_run_loads_no_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr(Showo, "from_pretrained", refuse)
    monkeypatch.setattr("sync_r1.costs.throughput._time_of", lambda *_: 1e-3)
    result = CliRunner().invoke(cli.app, ["train", "--recipe", "demo", "--dry-run", "--json"])
    facts = json.loads(result.output)
    assert (
        result.exit_code == 0
        and facts["peak"] > 0
        and facts["dgs"]["nfe saved"] > 0
        and facts["assumed"]["trains"] == "full"
    )
    monkeypatch.setattr(run_cost, "_available", lambda device: 1)
    shown = " ".join(CliRunner().invoke(cli.app, ["train", "--recipe", "demo", "--dry-run"]).output.split())
    assert "the warm-up (photos) and the evaluations on top of the time" in shown
    for words in (
        "trainable",
        "nfe saved",
        "image replay",
        "step on average",
        "That does not fit",
        "rl.gradient_checkpointing=true",
        "run.sharding=fsdp2",
    ):
        assert words in shown
    for way in ("fsdp2", "zero1"):
        shared = CliRunner().invoke(cli.app, ["train", "--recipe", "demo", "--dry-run", f"run.sharding={way}"]).output
        assert f"one of 8 processes that share by {way}" in " ".join(shared.split())


def test_plan_counts_pieces() -> None:
    config = Config()
    config.rl.num_generations, config.rl.prompts_per_step, config.rl.train_timesteps = 4, 1, 6
    sizes = read_sizes(ModelConfig())
    for limit, expected in ((1, (1, 1)), (8, (4, 2)), (100, (4, 6))):
        config.rl.sequences_per_backward = limit
        assert Workload(config, sizes, Prompts()).piece == expected
