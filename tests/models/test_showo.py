"""The model as a whole: losses, drawing, writing, storage, training switches."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import Trainer, TrainingArguments, default_data_collator

from sync_r1.models.showo import reference
from sync_r1.models.showo.maskgit import masked_counts
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import build_mmu, build_t2i
from sync_r1.types import ImageTrace, Sampling, TextContext
from tests.helpers import tiny_config, tiny_model, tiny_tokenizer

PROMPTS = ["a red hat", "a photo of a robot wearing a red hat", "a dog", "a red hat"]
SEEDS = [11, 12, 13, 14]
GUIDED = Sampling(guidance_scale=2.0, top_k=20, max_completion_length=10, generation_timesteps=6)


@pytest.fixture(scope="module")
def model() -> Showo:
    return tiny_model()


@pytest.fixture(scope="module")
def contexts() -> list[TextContext]:
    codes = torch.arange(16)
    return [
        TextContext("USER: hi ASSISTANT:"),
        TextContext("USER: what colour is the hat? ASSISTANT:", codes),
        TextContext("USER: hi ASSISTANT:"),
        TextContext("yes? ASSISTANT:", codes.flip(0)),
    ]


@pytest.mark.parametrize(
    "sampling", [GUIDED, Sampling(generation_timesteps=3, temperature=0.8), Sampling(generation_timesteps=20)]
)
def test_fast_drawing_equals_slow_drawing(model: Showo, sampling: Sampling) -> None:
    fast = model.generate_image(PROMPTS[:2], sampling, SEEDS[:2])
    for row, (prompt, seed) in enumerate(zip(PROMPTS, SEEDS[:2])):
        tokens, committed, logps = reference.draw(model, prompt, sampling, seed)
        assert fast.tokens[row].tolist() == tokens
        assert fast.unmask_step[row].tolist() == committed
        torch.testing.assert_close(fast.logps[row], torch.tensor(logps), atol=1e-4, rtol=0)


@pytest.mark.parametrize("text_only_image", [False, True])
@pytest.mark.parametrize("sampling", [GUIDED, Sampling(max_completion_length=6, top_k=1)])
def test_fast_writing_equals_slow_writing(
    contexts: list[TextContext], sampling: Sampling, text_only_image: bool
) -> None:
    model = tiny_model(text_only_image=text_only_image)
    fast = model.generate_text(contexts, sampling, SEEDS)
    for row, (context, seed) in enumerate(zip(contexts, SEEDS)):
        ids, logps = reference.write(model, context, sampling, seed)
        assert fast.ids[row][fast.mask[row]].tolist() == ids
        torch.testing.assert_close(fast.logps[row][fast.mask[row]], torch.tensor(logps), atol=1e-4, rtol=0)


def test_a_row_does_not_depend_on_its_neighbours(model: Showo, contexts: list[TextContext]) -> None:
    together, texts = model.generate_image(PROMPTS, GUIDED, SEEDS), model.generate_text(contexts, GUIDED, SEEDS)
    for row in range(4):
        alone = model.generate_image([PROMPTS[row]], GUIDED, [SEEDS[row]])
        assert torch.equal(alone.tokens[0], together.tokens[row])
        assert model.generate_text([contexts[row]], GUIDED, [SEEDS[row]]).texts[0] == texts.texts[row]
    assert not torch.equal(together.tokens[0], together.tokens[3])  # same prompt, other seed


def test_every_step_commits_its_share_and_no_mask_is_left(model: Showo) -> None:
    trace = model.generate_image(PROMPTS, GUIDED, SEEDS)
    counts = masked_counts(16, 6)
    for step in range(6):
        assert ((trace.unmask_step == step).sum(1) == counts[step] - counts[step + 1]).all()
    assert trace.finished and trace.known_before(6).all()
    assert trace.tokens.min() >= 0 and trace.tokens.max() < model.codebook_size
    assert trace.nfe == 12 and model.generate_image(PROMPTS, Sampling(), SEEDS).nfe == 8


def test_resumed_rows_equal_uninterrupted_ones(model: Showo) -> None:
    whole = model.generate_image(PROMPTS, GUIDED, SEEDS)
    half = model.generate_image(PROMPTS, GUIDED, SEEDS, stop_at=3)
    assert not half.finished and half.nfe == 6 and half.tokens.max() < model.codebook_size
    assert model.preview(half).shape == (4, 3, 16, 16)
    before = half.tokens.clone()
    rest = model.generate_image([PROMPTS[2], PROMPTS[0]], GUIDED, state=half.select([2, 0]))
    assert torch.equal(rest.tokens, whole.tokens[[2, 0]]) and torch.equal(rest.unmask_step, whole.unmask_step[[2, 0]])
    torch.testing.assert_close(rest.logps, whole.logps[[2, 0]], atol=1e-5, rtol=0)
    assert rest.nfe == 12 and torch.equal(half.tokens, before)
    others = model.generate_image([PROMPTS[1]], GUIDED, state=half.select([1]))
    assert torch.equal(ImageTrace.cat([rest, others]).tokens, whole.tokens[[2, 0, 1]])


def test_unseeded_rows_differ(model: Showo) -> None:
    trace = model.generate_image(["a dog"] * 2, Sampling(generation_timesteps=2))
    assert trace.seeds[0] != trace.seeds[1]


def test_text_holds_no_special_or_suppressed_id(contexts: list[TextContext]) -> None:
    letters = list(range(1, 60))
    model = tiny_model(suppress_tokens=letters)
    out = model.generate_text(contexts, Sampling(max_completion_length=30, temperature=5.0), SEEDS)
    assert out.ids[out.mask].max() < model.config.text_vocab
    assert not set(out.ids[out.mask].tolist()) & set(letters)
    assert (out.ids[~out.mask] == model.config.pad_id).all() and (out.logps[~out.mask] == 0).all()


def test_decoding_stops_when_all_have_ended(model: Showo, contexts: list[TextContext]) -> None:
    eager = tiny_model()
    with torch.no_grad():
        eager.showo.lm_head.bias[eager.config.eos_id] = 100.0
    out = eager.generate_text(contexts, GUIDED, SEEDS)
    assert out.ids.tolist() == [[eager.config.eos_id]] * 4
    assert out.mask.all() and out.texts == [""] * 4


def test_losses_score_text_and_codes_on_their_own_rows(model: Showo) -> None:
    config = model.config
    batch = build_mmu(config, None, [[5, 6, 7]])
    targets = torch.full_like(batch.ids, -100)
    targets[0, 1:4] = torch.tensor([5, 6, 7])
    losses = model(batch.ids, batch.mask, targets)
    hidden = model.hidden(*batch)
    logps = model.head(hidden, config.text_rows).log_softmax(-1)
    torch.testing.assert_close(losses["text_loss"], -(logps[0, 1, 5] + logps[0, 2, 6] + logps[0, 3, 7]) / 3)
    assert losses["image_loss"] == 0
    drawing = build_t2i(config, [[5]])
    targets = torch.full_like(drawing.ids, -100)
    targets[:, -17:-1] = torch.arange(16) + config.image_offset
    losses = model(drawing.ids, drawing.mask, targets)
    logps = model.head(model.hidden(*drawing)[0, -17:-1], config.image_rows).log_softmax(-1)
    torch.testing.assert_close(losses["image_loss"], -logps[range(16), range(16)].mean())


def test_head_rows_agree_with_the_whole_head(model: Showo) -> None:
    hidden = torch.randn(3, 32)
    whole = model.showo.lm_head(hidden)
    torch.testing.assert_close(model.head(hidden, model.config.image_rows), whole[:, model.config.image_rows])
    torch.testing.assert_close(model.head(hidden, torch.tensor([7, 3])), whole[:, [7, 3]])


def test_images_round_trip_shapes(model: Showo) -> None:
    codes = model.encode_image([Image.new("RGB", (40, 30), "red"), Image.new("L", (16, 16))])
    assert codes.shape == (2, 16) and codes.dtype == torch.long
    pixels = model.decode_image(codes)
    assert pixels.shape == (2, 3, 16, 16) and pixels.dtype == torch.uint8
    with pytest.raises(ValueError, match="image tokenizer"):
        Showo.from_config(tiny_config(), tiny_tokenizer()).decode_image(codes)


def test_saved_model_is_the_same_model(model: Showo, tmp_path: Path, contexts: list[TextContext]) -> None:
    model.save_pretrained(tmp_path / "m")
    again = Showo.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    assert all(torch.equal(a, b) for a, b in zip(model.state_dict().values(), again.state_dict().values(), strict=True))
    assert torch.equal(
        model.generate_image(PROMPTS, GUIDED, SEEDS).tokens, again.generate_image(PROMPTS, GUIDED, SEEDS).tokens
    )
    assert model.generate_text(contexts, GUIDED, SEEDS).texts == again.generate_text(contexts, GUIDED, SEEDS).texts
    half = Showo.from_pretrained(tmp_path / "m", dtype=torch.bfloat16)
    assert half.dtype == torch.bfloat16
    assert half.generate_image(["a dog"], GUIDED, [1]).logps.dtype == torch.float32


def test_unfit_folders_are_named(model: Showo, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"config\.json is missing"):
        Showo.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text()
    (tmp_path / "config.json").write_text(text.replace('"codebook_size": 64', '"codebook_size": 128'))
    with pytest.raises(ValueError, match=r"codebook_size is 128.*64"):
        Showo.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text.replace('"model_type": "showo"', '"model_type": "janus"'))
    with pytest.raises(ValueError, match="janus"):
        Showo.from_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text.replace("hidden_size", "hidden_sice"))
    with pytest.raises(ValueError, match="hidden_sice"):
        Showo.from_pretrained(tmp_path)


def test_wrong_calls_say_what_is_wrong(model: Showo) -> None:
    trace = model.generate_image(PROMPTS[:2], GUIDED, SEEDS[:2], stop_at=2)
    weights = {f"showo.{name}": value for name, value in model.showo.state_dict().items()}
    cases = [
        (lambda: model.generate_image(PROMPTS[:1], GUIDED, state=trace), "1 prompts for 2 images"),
        (lambda: model.generate_image(PROMPTS[:2], Sampling(generation_timesteps=9), state=trace), "6 steps.*9"),
        (lambda: model.generate_image(PROMPTS[:2], GUIDED, seeds=[1, 2], state=trace), "keeps its seeds"),
        (lambda: model.generate_image(PROMPTS[:2], GUIDED, SEEDS[:2], stop_at=7), "stop_at is 7"),
        (lambda: model.image_logps(PROMPTS[:2], trace, GUIDED, [0, 2]), r"0\.\.1"),
        (lambda: model.image_logps(PROMPTS[:2], trace, GUIDED, [0, 0]), "distinct"),
        (lambda: model.image_logps(PROMPTS[:2], trace, GUIDED, [0], [True]), "1 flags for 2 prompts"),
        (lambda: model.generate_text([TextContext("a")], GUIDED, [1, 2]), "2 seeds for 1"),
        (
            lambda: model.load_weights({**weights, "head.bias": torch.zeros(1)}, "x"),
            r"x holds 1 tensors .* such as head\.bias",
        ),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()


def test_transformers_trainer_trains_it(tmp_path: Path) -> None:
    model = tiny_model()
    batch = build_t2i(model.config, [[5, 6]])
    targets = torch.full_like(batch.ids, -100)
    targets[:, -17:-1] = torch.arange(16) + model.config.image_offset
    item = {"input_ids": batch.ids[0], "attention_mask": batch.mask[0], "targets": targets[0]}
    options = TrainingArguments(
        str(tmp_path),
        max_steps=8,
        learning_rate=1e-2,
        gradient_checkpointing=True,
        report_to=[],
        use_cpu=True,
        disable_tqdm=True,
    )
    trainer = Trainer(model, options, train_dataset=[item] * 8, data_collator=default_data_collator)
    before = model(*(value[None] for value in item.values()))["loss"].item()
    trainer.train()
    assert model(*(value[None] for value in item.values()))["loss"].item() < 0.8 * before
    assert model.magvit is not None and not any(p.requires_grad for p in model.magvit.parameters())


def test_generation_leaves_the_training_mode_alone() -> None:
    model = tiny_model().train()
    model.gradient_checkpointing_enable()
    trained = model.generate_image(PROMPTS, GUIDED, SEEDS)
    assert model.showo.training and model.is_gradient_checkpointing
    model.gradient_checkpointing_disable()
    assert torch.equal(trained.tokens, model.eval().generate_image(PROMPTS, GUIDED, SEEDS).tokens)
