from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPVisionConfig, PreTrainedTokenizerFast
from transformers.utils.logging import enable_progress_bar, is_progress_bar_enabled

from sync_r1.scorers.clip import CLIP_MEAN, CLIP_STD, ClipScorer

WORDS = ["<pad>", "<start>", "<unk>", "a", "red", "blue", "dog", "<end>"]


def save_tiny_clip(folder: Path, **preprocessor: object) -> Path:
    torch.manual_seed(0)
    body = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    text = CLIPTextConfig(
        **body, vocab_size=len(WORDS), max_position_embeddings=8, pad_token_id=0, bos_token_id=1, eos_token_id=7
    )
    vision = CLIPVisionConfig(**body, image_size=16, patch_size=8)
    CLIPModel(
        CLIPConfig(text_config=text.to_dict(), vision_config=vision.to_dict(), projection_dim=12)
    ).save_pretrained(folder)
    backend = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    backend.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 7)]
    )
    PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", eos_token="<end>", unk_token="<unk>"
    ).save_pretrained(folder)
    if preprocessor:
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def clip(folder: Path) -> ClipScorer:
    return ClipScorer.from_pretrained(folder)


def noise(count: int, height: int = 16, width: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        0, 256, (count, 3, height, width), dtype=torch.uint8, generator=torch.Generator().manual_seed(seed)
    )


def as_pictures(images: torch.Tensor) -> list[Image.Image]:
    return [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in images]


def test_features_are_unit_norm_and_equal_the_model_s_own(clip: ClipScorer) -> None:
    images = noise(3)
    features = clip.image_features(images)
    assert features.shape == (3, 12) and features.dtype == torch.float32 and not features.requires_grad
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
    own = clip.model(input_ids=torch.tensor([[1, 3, 7, 0], [1, 4, 6, 7]]), pixel_values=clip.pixels(images[:2]))
    torch.testing.assert_close(features[:2], own.image_embeds)
    torch.testing.assert_close(clip.text_features(["a", "red dog"]), own.text_embeds)


def test_tensors_and_pictures_agree_whatever_the_batch(clip: ClipScorer) -> None:
    images = noise(5, 23, 31)
    together = clip.image_features(images)
    torch.testing.assert_close(together, clip.image_features(as_pictures(images)))
    small = ClipScorer(clip.model, clip.tokenizer, batch_size=2)
    torch.testing.assert_close(together, small.image_features(images))
    mixed = [as_pictures(images)[0], *as_pictures(noise(1, 16, 40)), as_pictures(images)[1].convert("L")]
    torch.testing.assert_close(clip.image_features(mixed)[0], together[0])


@pytest.mark.parametrize(("height", "width"), [(16, 16), (40, 24), (24, 40), (9, 12), (16, 33), (57, 31)])
def test_preprocessing_equals_pillow(clip: ClipScorer, height: int, width: int) -> None:
    grid = np.stack(np.meshgrid(np.arange(width) * 6, np.arange(height) * 4), -1)
    picture = Image.fromarray(np.concatenate([grid, grid[..., :1] + grid[..., 1:]], -1).clip(0, 255).astype(np.uint8))
    short = min(height, width)
    resized = picture.resize(
        (16 if width == short else int(16 * width / short), 16 if height == short else int(16 * height / short)),
        Image.Resampling.BICUBIC,
    )
    left, top = (resized.width - 16) // 2, (resized.height - 16) // 2
    values = np.asarray(resized.crop((left, top, left + 16, top + 16)), dtype=np.float32) / 255
    wanted = torch.from_numpy((values - np.array(CLIP_MEAN, np.float32)) / np.array(CLIP_STD, np.float32)).permute(
        2, 0, 1
    )
    assert (clip.pixels([picture])[0] - wanted).abs().max() < 1.01 / 255 / min(CLIP_STD)


def test_clip_i_is_the_mean_cosine_to_the_references(clip: ClipScorer) -> None:
    images, references = noise(4), clip.image_features(noise(3, seed=1))
    wanted = torch.stack([torch.stack([f @ r for r in references]).mean() for f in clip.image_features(images)])
    torch.testing.assert_close(clip.clip_i(images, references, unit=False), wanted)
    torch.testing.assert_close(clip.clip_i(images, references), wanted.clamp(0, 1))
    torch.testing.assert_close(clip.clip_i(images, -references), (-wanted).clamp(0, 1))
    torch.testing.assert_close(clip.clip_i(images[:1], clip.image_features(images[:1])), torch.ones(1))


def test_clip_t_pairs_pictures_and_texts(clip: ClipScorer) -> None:
    images, texts = noise(3), ["a red dog", "blue", "a"]
    wanted = (clip.image_features(images) * torch.cat([clip.text_features([text]) for text in texts])).sum(-1)
    torch.testing.assert_close(clip.clip_t(images, texts, unit=False), wanted)
    assert ((clip.clip_t(images, texts) >= 0) & (clip.clip_t(images, texts) <= 1)).all()
    with pytest.raises(ValueError, match="clip_t got 3 pictures and 1 texts; it needs one text per picture"):
        clip.clip_t(images, ["a"])


def test_no_bar_is_drawn_while_weights_are_read(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    enable_progress_bar()
    ClipScorer.from_pretrained(folder)
    assert capfd.readouterr() == ("", "") and is_progress_bar_enabled(), "others see bars as they chose"


def test_long_texts_are_refused_or_cut(clip: ClipScorer) -> None:
    clip.text_features(["a a a a a a"])
    with pytest.raises(
        ValueError,
        match=r"a text of 9 tokens is longer than the 8 CLIP can read: 'a a a a a a red'; shorten it or allow",
    ):
        clip.text_features(["a", "a a a a a a red"])
    torch.testing.assert_close(
        clip.text_features(["a a a a a a red"], truncate=True), clip.text_features(["a a a a a a"])
    )


def test_statistics_come_from_the_folder(tmp_path: Path) -> None:
    own = ClipScorer.from_pretrained(
        save_tiny_clip(tmp_path / "own", image_mean=[0.5, 0.5, 0.5], image_std=[0.25, 0.5, 1.0])
    )
    white = torch.full((1, 3, 16, 16), 255, dtype=torch.uint8)
    torch.testing.assert_close(own.pixels(white)[0, :, 0, 0], torch.tensor([2.0, 1.0, 0.5]))
    with pytest.raises(
        ValueError, match=r"preprocessor_config\.json: field 'image_std' is .*; it must be three numbers above 0"
    ):
        ClipScorer.from_pretrained(save_tiny_clip(tmp_path / "bad", image_std=[1, 1, 0]))


def test_legacy_preprocessing_squeezes_pixels(folder: Path, clip: ClipScorer) -> None:
    legacy = ClipScorer.from_pretrained(folder, preprocessing="legacy")
    black = torch.zeros((1, 3, 16, 16), dtype=torch.uint8)
    std, mean = torch.tensor(CLIP_STD), torch.tensor(CLIP_MEAN)
    torch.testing.assert_close(legacy.pixels(black)[0, :, 0, 0], (0.5 - mean) / std)
    torch.testing.assert_close(legacy.pixels(black + 255), clip.pixels(black + 255))
    with pytest.raises(ValueError, match="preprocessing is 'odd'; allowed are standard and legacy"):
        ClipScorer.from_pretrained(folder, preprocessing="odd")  # type: ignore[arg-type]


def test_bad_inputs_say_what_is_wrong(clip: ClipScorer, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"images is torch.float32 \(1, 3, 16, 16\); it must be uint8 \[B, 3, H, W\]"):
        clip.image_features(torch.zeros(1, 3, 16, 16))
    with pytest.raises(ValueError, match="got no pictures"):
        clip.image_features([])
    with pytest.raises(ValueError, match=r"references has shape \(0, 12\)"):
        clip.clip_i(noise(1), torch.zeros(0, 12))
    with pytest.raises(ValueError, match="texts is 'a'; it must be a list"):
        clip.text_features("a")
    with pytest.raises(ValueError, match="nothing: no such folder; give one with a CLIP checkpoint"):
        ClipScorer.from_pretrained(tmp_path / "nothing")
    clip_without_end = ClipScorer(clip.model, clip.tokenizer)
    clip_without_end._end_id = 5
    with pytest.raises(ValueError, match="the tokenizer does not end 'a' with token 5"):
        clip_without_end.text_features(["a"])
