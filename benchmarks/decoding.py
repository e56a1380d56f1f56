"""Time the fast decoders against a plain one and against the slow reference: same weights, same prompts, alternating runs, medians.

The plain decoder does what published code does: one row at a time, the whole sequence and the whole vocabulary for every new token
or step, nothing cached; sampling itself is torch's. The reference (models/showo/reference.py) is the same in Python lists, for tests.

Run: python benchmarks/decoding.py --out docs/decoding.json
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sync_r1.models.sampling import draw, guide, log_distribution
from sync_r1.models.showo import reference
from sync_r1.models.showo.maskgit import masked_counts, remask
from sync_r1.models.showo.model import Showo
from sync_r1.models.showo.prompting import build_mmu, build_t2i, drawing_ids, text_ids
from sync_r1.types import Sampling, TextContext
from sync_r1.world.assets import load_world_model

QUESTION = "USER: name: kip\ninfo: <kip> is a robot.\nDescribe the picture. ASSISTANT:"
PROMPT = "a photo of a red striped robot with a star wearing a crown holding a kite at the beach"


@torch.no_grad()
def plain_write(model: Showo, context: TextContext, length: int) -> None:
    """Greedy text of exactly `length` tokens, one row, full sequence each time."""
    ids = text_ids(model.tokenizer, context.text)
    for _ in range(length):
        batch = build_mmu(model.config, [context.image], [ids])
        logits = model.showo(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits[0, -1]
        ids = [*ids, int(logits[: model.config.text_vocab].argmax())]


@torch.no_grad()
def plain_draw(model: Showo, prompt: str, sampling: Sampling) -> None:
    """One image with guidance, full sequence and vocabulary each step."""
    config, total = model.config, sampling.generation_timesteps
    codes = torch.full((1, config.num_image_tokens), config.codebook_size)
    counts = masked_counts(config.num_image_tokens, total)
    for step in range(total):
        logits = []
        for text in (drawing_ids(model.tokenizer, config, prompt), []):
            batch = build_t2i(config, [text], codes)
            full = model.showo(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits
            logits.append(full[:, -config.num_image_tokens - 1 : -1, config.image_rows])
        logps = log_distribution(guide(logits[0], logits[1], sampling.guidance_scale), sampling)
        proposals = draw(logps, torch.rand(logps.shape[:-1]))
        masked = codes == config.codebook_size
        confidence = torch.where(masked, logps.gather(-1, proposals[..., None])[..., 0], torch.inf)
        codes = torch.where(masked, proposals, codes)
        codes = codes.masked_fill(remask(confidence, counts[step + 1]), config.codebook_size)


def alternate(ways: dict[str, Callable[[], object]], runs: int) -> dict[str, list[float]]:
    """Seconds of every way, run in turn after one warm-up each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for run in range(runs + 1):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            if run:
                seconds[name].append(time.perf_counter() - started)
    return seconds


def row(name: str, seconds: dict[str, list[float]]) -> dict[str, object]:
    """Median seconds of every way, and how many times as long as the fast one it took (median over paired runs)."""
    fast = seconds["fast"]
    ratios = {f"{other}_ratio": [s / f for s, f in zip(values, fast)] for other, values in seconds.items() if other != "fast"}
    return {
        "name": name,
        **{f"{way}_s": round(statistics.median(values), 4) for way, values in seconds.items()},
        **{key: round(statistics.median(values), 2) for key, values in ratios.items()},
        "runs": len(fast),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    model, batch = load_world_model(), arguments.batch
    codes = torch.randint(0, model.codebook_size, (batch, model.num_image_tokens), generator=torch.Generator().manual_seed(0))
    contexts = [TextContext(QUESTION, row) for row in codes]
    greedy = Sampling(top_k=1, max_completion_length=32)
    model.config = replace(model.config, suppress_tokens=[*model.config.suppress_tokens, model.config.eos_id])  # equal lengths for all
    sampling = Sampling(guidance_scale=2.0, generation_timesteps=18)
    seeds = list(range(batch))
    text = {
        "fast": lambda: model.generate_text(contexts, greedy, seeds),
        "plain": lambda: [plain_write(model, context, greedy.max_completion_length) for context in contexts],
        "reference": lambda: [reference.write(model, context, greedy, seed) for context, seed in zip(contexts, seeds)],
    }
    image = {
        "fast": lambda: model.generate_image([PROMPT] * batch, sampling, seeds),
        "plain": lambda: [plain_draw(model, PROMPT, sampling) for _ in seeds],
        "reference": lambda: [reference.draw(model, PROMPT, sampling, seed) for seed in seeds],
    }
    millions = sum(parameter.numel() for parameter in model.showo.parameters()) / 1e6
    result = {
        "machine": {"processor": platform.machine(), "threads": torch.get_num_threads(), "torch": torch.__version__.split("+")[0]},
        "model": f"embedded world, {millions:.1f} M parameters, {len(model.name_pool)} pool names",
        "rows": [
            row(f"answer: 32 greedy tokens after a picture, batch {batch}", alternate(text, arguments.runs)),
            row(f"draw: group of {batch}, T = 18, guidance 2", alternate(image, arguments.runs)),
        ],
    }
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
