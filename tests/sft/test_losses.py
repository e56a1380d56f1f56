"""The two losses against sums by hand."""

from __future__ import annotations

import torch
from torch.testing import assert_close

from sync_r1.models.showo.prompting import build_mmu, build_t2i, drawing_ids, text_ids
from sync_r1.sft.loss import drawing_loss, understanding_loss
from sync_r1.training.answers import answer_ids
from sync_r1.types import TextContext
from tests.rl.toys import model_with_concept


def test_answers_end_and_padding_does_not_count() -> None:
    model = model_with_concept()
    ids, mask = answer_ids(model, ["red.", " a red hat and a mug. "])
    assert mask.sum(1).tolist() == [
        len(text_ids(model.tokenizer, text)) + 1 for text in (" red.", " a red hat and a mug.")
    ]
    assert [int(row[keep][-1]) for row, keep in zip(ids, mask)] == [model.config.eos_id] * 2
    assert model.tokenizer.decode(ids[0][mask[0]][:-1].tolist()) == " red."


def test_understanding_is_cross_entropy_on_answer_tokens() -> None:
    model = model_with_concept()
    contexts, answers = (
        ["what colour? ASSISTANT:", "USER: <bo> is <token_0>. hat? ASSISTANT:"],
        ["red.", "<bo> has a yellow kite."],
    )
    total, count = torch.zeros(()), 0
    for context, answer in zip(contexts, answers):
        prompt, target = (
            text_ids(model.tokenizer, context),
            [*text_ids(model.tokenizer, f" {answer}"), model.config.eos_id],
        )
        hidden = model.hidden(*build_mmu(model.config, None, [prompt + target]))[0, -len(target) - 1 : -1]
        logits = model.head(hidden, model.config.text_rows).index_fill(
            -1, torch.tensor(model.config.suppressed_ids), -torch.inf
        )
        total += torch.nn.functional.cross_entropy(logits, torch.tensor(target), reduction="sum").detach()
        count += len(target)
    found = understanding_loss(model, [TextContext(text) for text in contexts], answers)
    assert_close(found.detach(), total / count, rtol=1e-4, atol=1e-5)


def test_drawing_is_cross_entropy_on_hidden_codes() -> None:
    model = model_with_concept()
    codes = torch.randint(0, 64, (3, 16), generator=torch.Generator().manual_seed(0))
    prompts, seeds = ["a <token_0><bo>", "", "a <bo> in the snow"], [5, 6, 7]
    trace, _ = model.training_trace(codes, seeds)
    hidden_codes = trace.unmask_step == 1
    state = torch.where(hidden_codes, model.config.codebook_size, codes)
    batch = build_t2i(model.config, [drawing_ids(model.tokenizer, model.config, text) for text in prompts], state)
    logits = model.head(model.hidden(*batch)[:, -17:-1][hidden_codes], model.config.image_rows)
    expected = torch.nn.functional.cross_entropy(logits, codes[hidden_codes])
    assert_close(drawing_loss(model, prompts, codes, seeds).detach(), expected.detach(), rtol=1e-4, atol=1e-5)
    dropped = drawing_loss(model, ["a <bo>", "a hat", prompts[2]], codes, seeds, [False, True, False])
    assert_close(dropped, drawing_loss(model, ["a <bo>", "", prompts[2]], codes, seeds))
    assert hidden_codes.any(1).all() and len({int(n) for n in hidden_codes.sum(1)}) > 1
