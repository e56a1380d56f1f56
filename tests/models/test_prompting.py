"""Sequences, masks, truncation, tokenizer set-up and picture preparation."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from sync_r1.models.base import to_pixels
from sync_r1.models.showo.prompting import build_mmu, build_t2i, drawing_ids, prepare_tokenizer, text_ids
from tests.helpers import NAME_POOL, tiny_config, tiny_model, tiny_tokenizer

CONFIG = tiny_config()
SIZE = CONFIG.num_image_tokens


def test_t2i_layout() -> None:
    batch = build_t2i(CONFIG, [[5, 6], [7]], torch.full((2, SIZE), 3))
    s = CONFIG.special
    assert batch.ids[0, :4].tolist() == [s("t2i"), CONFIG.bos_id, 5, 6]
    assert batch.ids[1, :5].tolist() == [CONFIG.pad_id, s("t2i"), CONFIG.bos_id, 7, CONFIG.eos_id]
    assert batch.ids[0, 5:].tolist() == [s("soi"), *[CONFIG.image_offset + 3] * SIZE, s("eoi")]
    assert build_t2i(CONFIG, [[5]]).ids[0, -2].item() == CONFIG.mask_id
    assert build_t2i(CONFIG, [[5]], pad_to=12).ids.shape[1] == 12 + SIZE + 2


def test_t2i_mask() -> None:
    mask = build_t2i(CONFIG, [[5, 6], [7]]).mask[1, 0]
    assert not mask[1:, 0].any() and mask[0, 0]  # the pad sees itself only, and no other token sees it
    assert mask[1:5, 1:5].equal(torch.ones(4, 4, dtype=torch.bool).tril())
    assert not mask[:5, 5:].any()  # text never sees the image
    assert mask[5:, 1:].all()


def test_mmu_layout_and_mask_with_and_without_picture() -> None:
    batch = build_mmu(CONFIG, [torch.zeros(SIZE, dtype=torch.long), None], [[5, 6], [7, 8, 9]])
    s, head = CONFIG.special, SIZE + 3
    assert batch.ids[0].tolist() == [s("mmu"), s("soi"), *[CONFIG.image_offset] * SIZE, s("eoi"), CONFIG.bos_id, 5, 6]
    assert batch.ids[1, -5:].tolist() == [s("mmu"), CONFIG.bos_id, 7, 8, 9]
    mask = batch.mask[0, 0]
    assert mask[:, :head].all() and not mask[:head, head:].any()
    assert mask[head:, head:].equal(torch.ones(3, 3, dtype=torch.bool).tril())
    other = batch.mask[1, 0]
    assert other[-5:, -5:].equal(torch.ones(5, 5, dtype=torch.bool).tril())
    assert not other[-5:, :-5].any()


def test_padding_changes_nothing_and_gives_no_nan() -> None:
    model = tiny_model()
    with torch.no_grad():
        alone = model.hidden(*build_t2i(model.config, [[7]]))
        padded = model.hidden(*build_t2i(model.config, [[7], [5, 6, 7, 8, 9, 10]]))
    assert padded.isfinite().all()
    torch.testing.assert_close(padded[:1, -alone.shape[1] :], alone, atol=1e-5, rtol=0)


def test_long_prompt_is_cut_aloud() -> None:
    tokenizer = tiny_tokenizer()
    prepare_tokenizer(tokenizer, NAME_POOL)
    with pytest.warns(UserWarning, match="mug"):
        ids = drawing_ids(tokenizer, CONFIG, "xyzzy " * 8 + "with a green mug")
    assert len(ids) == CONFIG.max_text_tokens - 3


def test_wrong_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="9 codes"):
        build_t2i(CONFIG, [[5]], torch.zeros(1, 9, dtype=torch.long))
    with pytest.raises(ValueError, match="slot holds 5"):
        build_t2i(CONFIG, [[5, 6, 7, 8]], pad_to=5)
    with pytest.raises(ValueError, match="1 pictures for 2 texts"):
        build_mmu(CONFIG, torch.zeros(1, SIZE, dtype=torch.long), [[5], [6]])


def test_tokenizer_layout() -> None:
    model = tiny_model()
    config, tokenizer = model.config, model.tokenizer
    assert len(tokenizer) == config.image_offset
    assert tokenizer.convert_tokens_to_ids("[PAD]") == config.pad_id
    assert tokenizer.convert_tokens_to_ids("<|lvg|>") == config.special("lvg") == config.first_concept - 1
    assert text_ids(tokenizer, "<kip>") == [config.text_vocab - 3]
    assert prepare_tokenizer(tokenizer, NAME_POOL) == config.text_vocab  # a second time changes nothing


def test_task_tokens_in_user_text_stay_characters() -> None:
    model = tiny_model()
    ids = text_ids(model.tokenizer, "<|t2i|> [PAD] <|endoftext|> <kip>")
    special = {*range(model.config.pad_id, model.config.first_concept), model.config.eos_id}
    assert not special & set(ids)
    assert model.tokenizer.decode(ids) == "<|t2i|> [PAD] <|endoftext|> <kip>"


def test_tokenizer_without_end_token_is_refused() -> None:
    from tokenizers import Tokenizer, models
    from transformers import PreTrainedTokenizerFast

    bare = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"a": 0}, "a")))
    with pytest.raises(ValueError, match="endoftext"):
        prepare_tokenizer(bare)


def test_pixels_are_resized_cropped_and_scaled() -> None:
    wide = Image.new("RGB", (64, 32), (255, 0, 0))
    wide.paste((0, 0, 255), (0, 0, 16, 32))  # cropped away
    pixels = to_pixels([wide], 16)
    assert pixels.shape == (1, 3, 16, 16)
    torch.testing.assert_close(pixels[0, :, 8, 8], torch.tensor([1.0, -1.0, -1.0]))
    assert pixels[0, 2, :, 2:].max() < 0
    exact = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    torch.testing.assert_close(to_pixels(exact, 16), exact.float() / 127.5 - 1)
    torch.testing.assert_close(to_pixels(exact.float() / 255, 16), to_pixels(exact, 16))
    with pytest.raises(ValueError, match="expected"):
        to_pixels(torch.zeros(3, 16, 16), 16)
