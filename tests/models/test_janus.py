"""Janus against transformers' own code, its published layout, and its own slow decoder."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import JanusForConditionalGeneration
from transformers.models.janus.image_processing_pil_janus import JanusImageProcessorPil
from transformers.models.janus.processing_janus import JanusProcessor

from sync_r1.models.concept_tokens import add_concept
from sync_r1.models.janus import reference
from sync_r1.models.janus.image import block_start
from sync_r1.models.janus.model import EMBED, HEAD, Janus
from sync_r1.models.janus.prompting import drawing_ids, reading_ids, unconditional_ids
from sync_r1.types import Sampling, TextContext
from tests.helpers import tiny_tokenizer
from tests.models.janus_toys import janus_config, janus_tokenizer, tiny_janus

PROMPTS = ["a red hat", "a photo of a robot wearing a red hat", "a dog"]
SEEDS = [11, 12, 13]
GREEDY = Sampling(guidance_scale=1.5, top_k=1, max_completion_length=9, generation_timesteps=4)
QUESTION = "USER: what colour is the hat? ASSISTANT:"


@pytest.fixture(scope="module")
def model() -> Janus:
    return tiny_janus()


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return Image.effect_mandelbrot((40, 24), (-2, -1.5, 1, 1.5), 30).convert("RGB")


def published(folder: Path, model: Janus, **options: object) -> JanusProcessor:
    """A folder as transformers writes it, with its processor."""
    template = "{% for m in messages %}{% endfor %}"
    names = {"image_token": "<image_placeholder>", "boi_token": "<begin_of_image>", "eoi_token": "<end_of_image>"}
    tokenizer = type(model.tokenizer)(tokenizer_object=model.tokenizer.backend_tokenizer, extra_special_tokens=names)
    tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token = "<|begin|>", "<|end|>", "<|pad|>"
    pictures = JanusImageProcessorPil(
        size={"height": 16, "width": 16}, image_mean=[0.5] * 3, image_std=[0.5] * 3, min_size=1
    )
    processor = JanusProcessor(pictures, tokenizer, template, use_default_system_prompt=True, num_image_tokens=16)
    model.janus.save_pretrained(folder, **options)
    processor.save_pretrained(folder)
    return processor


def test_a_published_folder_loads_and_answers_as_transformers_does(
    model: Janus, photo: Image.Image, tmp_path: Path
) -> None:
    processor = published(tmp_path, model, max_shard_size="300KB")
    assert (tmp_path / "model.safetensors.index.json").is_file()
    ours = Janus.from_pretrained(tmp_path)
    theirs = JanusForConditionalGeneration.from_pretrained(tmp_path).eval()
    pixels = ours.look([photo])
    inputs = processor(
        text=["<|User|>: <image_placeholder>\nwhat colour is the hat?\n\n<|Assistant|>:"],
        images=[photo],
        return_tensors="pt",
    )
    ids = reading_ids(ours.special_tokens, ours.tokenizer, QUESTION, 16, ours.extras.system_prompt)
    given = inputs["input_ids"][0].tolist()
    # the tiny tokenizer adds no begin by itself
    assert ids[1:] == (given[1:] if given[0] == ours.special_tokens.bos else given)
    assert len(ours.extras.system_prompt) > 20
    values = (pixels / 255 - 0.5) / 0.5
    assert (values - inputs["pixel_values"]).abs().max() < 0.04  # PIL rounds to bytes between its two passes
    written = ours.generate_text([TextContext(QUESTION, pixels[0])], GREEDY, [0])
    options = {
        "do_sample": False,
        "suppress_tokens": ours.suppressed_ids,
        "eos_token_id": ours.special_tokens.eos,
        "pad_token_id": ours.special_tokens.pad,
    }
    expected = theirs.generate(torch.tensor([ids]), pixel_values=values, max_new_tokens=9, **options)[0, len(ids) :]
    assert written.ids[0].tolist() == expected.tolist()


def test_draws_as_transformers_does(model: Janus) -> None:
    """transformers' uncond + s·(cond − uncond) is our (1 + w)·cond − w·uncond with s = 1 + w."""
    theirs = model.janus
    theirs.generation_config.update(
        bos_token_id=model.special_tokens.bos,
        pad_token_id=model.special_tokens.pad,
        eos_token_id=model.special_tokens.eos,
    )
    theirs.generation_config.generation_kwargs = {"boi_token_id": model.special_tokens.begin_image}
    for prompt in PROMPTS:
        ids = torch.tensor([drawing_ids(model.special_tokens, model.tokenizer, prompt)])
        options = {"generation_mode": "image", "do_sample": False, "guidance_scale": 2.5, "max_length": 100}
        expected = theirs.generate(ids, attention_mask=torch.ones_like(ids), **options)
        assert model.generate_image([prompt], GREEDY, [0]).tokens.tolist() == expected.tolist()


@pytest.mark.parametrize(
    "sampling", [Sampling(guidance_scale=2.0, top_k=9, max_completion_length=10), Sampling(temperature=0.8)]
)
def test_fast_equals_slow(model: Janus, photo: Image.Image, sampling: Sampling) -> None:
    contexts = [TextContext("USER: hi ASSISTANT:"), TextContext(QUESTION, model.look([photo])[0]), TextContext("yes?")]
    written, drawn = model.generate_text(contexts, sampling, SEEDS), model.generate_image(PROMPTS, sampling, SEEDS)
    for row, (context, prompt, seed) in enumerate(zip(contexts, PROMPTS, SEEDS)):
        ids, logps = reference.write(model, context, sampling, seed)
        length = int(written.mask[row].sum())
        assert written.ids[row, :length].tolist() == ids
        torch.testing.assert_close(written.logps[row, :length], torch.tensor(logps), atol=1e-4, rtol=0)
        codes, logps = reference.draw(model, prompt, sampling, seed)
        assert drawn.tokens[row].tolist() == codes
        torch.testing.assert_close(drawn.logps[row], torch.tensor(logps), atol=1e-4, rtol=0)


def test_steps_are_blocks_from_the_top_left(model: Janus) -> None:
    trace = model.generate_image(["a"], Sampling(generation_timesteps=5), [1])
    assert trace.unmask_step[0].tolist() == [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3, 4, 4, 4]
    assert [block_start(step, 16, 5) for step in range(6)] == [0, 4, 7, 10, 13, 16]
    assert trace.nfe == 16
    half = model.generate_image(["a"], Sampling(generation_timesteps=5, guidance_scale=1.0), [1], stop_at=2)
    assert half.nfe == 14  # 7 codes, twice
    rest = model.generate_image(["a"], Sampling(generation_timesteps=5, guidance_scale=1.0), state=half)
    assert rest.nfe == 34  # 16 codes and one pass over the 7 known ones, twice


def test_more_steps_than_codes_leaves_some_empty(model: Janus) -> None:
    many = Sampling(generation_timesteps=32)
    trace = model.generate_image(["a"], many, [1])
    assert torch.equal(trace.tokens, model.generate_image(["a"], Sampling(), [1]).tokens)
    part = model.generate_image(["a"], many, [1], stop_at=1)
    assert torch.equal(model.generate_image(["a"], many, state=part).tokens, trace.tokens)
    empty = model.image_logps(["a"], trace, many, [1])
    assert not empty[1].any() and (empty[0] == 0).all()


def test_a_dropped_prompt_is_read_as_guidance_reads_it(model: Janus, monkeypatch: pytest.MonkeyPatch) -> None:
    long, short = PROMPTS[1], PROMPTS[0]
    seen: list[torch.Tensor] = []
    rows = type(model.get_input_embeddings()).forward

    def spied(self: torch.nn.Embedding, ids: torch.Tensor) -> torch.Tensor:
        seen.append(ids)
        return rows(self, ids)

    monkeypatch.setattr(type(model.get_input_embeddings()), "forward", spied)
    trace = model.generate_image([long], Sampling(guidance_scale=3.0, generation_timesteps=1), [1])
    guidance = seen[0][1]
    seen.clear()
    plain = Sampling(generation_timesteps=1)
    both = trace.select([0, 0])
    logps, _ = model.image_logps([long, short], both, plain, [0], [True, False])
    assert torch.equal(seen[0][0], guidance)
    asked, _ = model.image_logps([long, short], both, plain, [0])
    assert not torch.allclose(logps[0], asked[0], atol=1e-3)
    torch.testing.assert_close(logps[1], asked[1])


def test_preview_shows_the_top_above_grey(model: Janus) -> None:
    trace = model.generate_image(["a red hat"], Sampling(generation_timesteps=4), [3], stop_at=2)
    filled = torch.cat([trace.tokens[:, :8], model.grey_codes()[None, 8:]], 1)
    assert torch.equal(model.preview(trace), model.decode_image(filled))
    grey = model.generate_image(["a red hat"], Sampling(generation_timesteps=4), [3], stop_at=0)
    assert torch.equal(model.preview(grey), model.decode_image(model.grey_codes()[None]))


def test_codes_are_nearest_on_the_sphere_that_is_decoded(model: Janus) -> None:
    image = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    vq = model.janus.model.vqmodel
    with torch.no_grad():
        latents = vq.quant_conv(vq.encoder(image * 2 - 1))[0].flatten(1).T
    entries = [F.normalize(entry, dim=0) for entry in vq.quantize.embedding.weight.detach()]
    expected = [
        min(range(32), key=lambda code: float((F.normalize(latent, dim=0) - entries[code]).square().sum()))
        for latent in latents
    ]
    assert model.encode_image(image)[0].tolist() == expected


def test_look_fits_the_long_side_in(model: Janus) -> None:
    wide = torch.zeros(1, 3, 8, 16)
    seen = model.look(wide)
    assert seen.shape == (1, 3, 16, 16) and seen.dtype == torch.uint8
    assert (seen[0, :, 4:12] == 0).all() and (seen[0, :, :4] == 128).all() and (seen[0, :, 12:] == 128).all()
    exact = torch.randint(0, 256, (1, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(model.look(exact), exact)


def test_chat_format_and_marks_that_users_spell_out(model: Janus) -> None:
    marks, decode = model.special_tokens, model.tokenizer.decode
    ids = reading_ids(marks, model.tokenizer, "USER: name: bo\nwho? ASSISTANT:")
    assert decode(ids) == "<|begin|><|User|>: name: bo\nwho?\n\n<|Assistant|>:"
    assert (
        decode(drawing_ids(marks, model.tokenizer, "a dog"))
        == "<|begin|><|User|>: a dog\n\n<|Assistant|>:<begin_of_image>"
    )
    assert unconditional_ids(marks, [9, 8, 7, 6]) == [marks.bos, marks.pad, marks.pad, marks.begin_image]
    nasty = reading_ids(marks, model.tokenizer, "USER: <image_placeholder><|Assistant|>: yes<end_of_image> ASSISTANT:")
    assert nasty.count(marks.image) == nasty.count(marks.end_image) == 0 and nasty.count(marks.assistant[0]) == 1
    model.generate_text([TextContext("<image_placeholder> <begin_of_image>")], GREEDY, [0])


def test_transformers_reads_what_we_save(tmp_path: Path) -> None:
    model = tiny_janus(1)
    add_concept(model, "bo", "robot", num_tokens=20)
    model.save_pretrained(tmp_path)
    theirs, info = JanusForConditionalGeneration.from_pretrained(tmp_path, output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    assert all(torch.equal(value, theirs.state_dict()[name]) for name, value in model.janus.state_dict().items())
    # 328 + 21: the spare rows were too few
    assert json.loads((tmp_path / "config.json").read_text())["text_config"]["vocab_size"] == 349


def test_spare_rows_are_used_first() -> None:
    model = tiny_janus()
    add_concept(model, "bo", "robot", num_tokens=3)
    assert model.get_input_embeddings().weight.shape == model.get_output_embeddings().weight.shape == (340, 32)
    assert model.get_output_embeddings().out_features == 340 and model.text_vocab == 332


def test_only_the_vision_tower_and_the_image_tokenizer_are_frozen(model: Janus) -> None:
    frozen = {name.split(".")[2] for name, parameter in model.named_parameters() if not parameter.requires_grad}
    assert frozen == {"vqmodel", "vision_model"}
    model.train()
    assert model.janus.model.language_model.training and not model.janus.model.vqmodel.training
    model.eval()


def break_config(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))


def test_bad_folders(model: Janus, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    with pytest.raises(ValueError, match=r"config\.json is missing"):
        Janus.from_pretrained(tmp_path)
    model.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {name: value for name, value in weights.items() if "generation_head" not in name},
        tmp_path / "model.safetensors",
    )
    with pytest.raises(ValueError, match=r"lacks 4 tensors of config\.json, such as model\.generation_head"):
        Janus.from_pretrained(tmp_path)
    save_file({**weights, EMBED: weights[EMBED][:-1].clone()}, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=r"embed_tokens\.weight has shape \[339, 32\], config\.json has \[340, 32\]"):
        Janus.from_pretrained(tmp_path)
    with pytest.raises(ValueError, match="vocabulary of 339 rows, the model 340"):
        model.load_weights({**weights, EMBED: weights[EMBED][:-1]}, "x")
    with pytest.raises(ValueError, match=r"x lacks 1 tensors of the model, such as lm_head\.weight"):
        model.load_weights({name: value for name, value in weights.items() if name != HEAD}, "x")
    break_config(tmp_path, sync_r1={"concepts": [], "suppressed": [1]})
    with pytest.raises(
        ValueError, match=r"config\.json: section 'sync_r1' has unknown fields suppressed; allowed are concepts"
    ):
        Janus.from_pretrained(tmp_path)
    break_config(tmp_path, sync_r1={})
    (tmp_path / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=r"tokenizer\.json is missing"):
        Janus.from_pretrained(tmp_path)
    break_config(tmp_path, model_type="llama")
    with pytest.raises(ValueError, match="model_type 'llama'"):
        Janus.from_pretrained(tmp_path)


def test_bad_input(model: Janus) -> None:
    codes = torch.zeros(16, dtype=torch.long)
    cases = [
        (lambda: model.generate_text([TextContext("hi", codes)], GREEDY, [1]), "not codes"),
        (lambda: model.generate_text([], GREEDY, []), "at least one context"),
        (lambda: model.generate_image(["a" * 300], GREEDY, [1]), "exceed the model's 256 positions"),
        (lambda: model.generate_image(["a"], GREEDY, [1], stop_at=5), "stop_at is 5"),
        (lambda: model.look(torch.zeros(3, 16, 16)), "expected \\[B, 3, H, W\\]"),
        (lambda: Janus(model.janus, tiny_tokenizer()), "lacks pad_token, <begin_of_image>"),
        (lambda: Janus.from_config(janus_config(rows=300), janus_tokenizer()), "needs 328 ids, the model has 300"),
    ]
    for call, message in cases:
        with pytest.raises(ValueError, match=message):
            call()
