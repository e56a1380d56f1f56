"""Peak memory and seconds per training step, LoRA against full against concept rows only, beside what `--dry-run`
estimates.

Two models: the embedded world's, and a random Show-o of middle size (hidden 512, 12 layers, 50295 text ids, 8192 codes,
256 image tokens). Every case runs two steps in a process of its own. Memory is the growth of its resident size from
before the model is built to the peak, with an allocator that returns freed memory at once; seconds are processor
seconds of the second step, without the kernel's.

Rows of other models and cases that the file already holds are kept. bf16 is left out where the processor has no units
for it.

Run: OMP_NUM_THREADS=1 python benchmarks/training_memory.py --out docs/training_memory.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

CASES = {
    "rows": ["rl.learning_rate=0"],
    "lora": ["rl.lora_rank=16"],
    "full": [],
    "lora, checkpointing": ["rl.lora_rank=16", "rl.gradient_checkpointing=true"],
    "full, checkpointing": ["rl.gradient_checkpointing=true"],
    "full, KL": ["rl.beta=0.04"],
    "lora, KL": ["rl.lora_rank=16", "rl.beta=0.04"],
    "lora on bf16": ["rl.lora_rank=16", "model.dtype=bf16"],
}
OPTIONS = {
    "middle": ["rl.prompts_per_step=1", "rl.num_generations=4", "rl.generation_timesteps=4", "rl.train_timesteps=2"],
    "world": ["rl.prompts_per_step=2", "rl.num_generations=8", "rl.generation_timesteps=8", "rl.train_timesteps=4"],
}
SLOW = 5  # GFLOP/s of matrix products below which a step takes hours
COMMON = [
    "rl.max_completion_length=16",
    "rl.sequences_per_backward=8",
    "run.save_steps=100",
    "run.log_completions=false",
    "run.device=cpu",
]


def middle_sizes() -> tuple[Any, Any]:
    """Configs of the random Show-o and its image tokenizer."""
    from sync_r1.models.showo.config import ShowoConfig
    from sync_r1.models.showo.magvit import MagvitConfig

    sizes: dict[str, Any] = {
        "hidden_size": 512,
        "intermediate_size": 2048,
        "num_hidden_layers": 12,
        "num_attention_heads": 8,
    }
    image = MagvitConfig(
        channels=32,
        channel_multipliers=(1, 2),
        num_res_blocks=(1, 1),
        decoder_multipliers=None,
        decoder_res_blocks=None,
        norm_groups=8,
        resolution=64,
        unshuffle=2,
    )
    return ShowoConfig(
        **sizes, num_image_tokens=image.num_tokens, image_size=64, codebook_size=image.codebook_size
    ), image


def middle_model() -> Any:
    """The random Show-o, with a tokenizer that writes bytes and never uses its other words."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from sync_r1.models.showo.magvit import Magvit
    from sync_r1.models.showo.model import Showo

    torch.manual_seed(0)
    config, image = middle_sizes()
    words = ["<|endoftext|>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    words += [f"word{number}" for number in range(config.text_vocab - len(words))]
    backend = Tokenizer(models.BPE({word: number for number, word in enumerate(words)}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, eos_token=words[0], bos_token=words[0])
    return Showo.from_config(config, tokenizer, Magvit(image).eval())


def run_case(model_name: str, overrides: list[str], steps: int) -> dict[str, Any]:
    """Train for `steps` steps; memory growth in bytes, and seconds of every phase of the later steps."""
    import torch

    from sync_r1.config import load_config
    from sync_r1.data import load_concept
    from sync_r1.models.concept_tokens import add_concept
    from sync_r1.rl.rewards import Reward, RewardEnsemble
    from sync_r1.rl.trainer import SyncGRPOTrainer
    from sync_r1.training.prompts import training_prompts
    from sync_r1.world.assets import load_world_model
    from sync_r1.world.export import export_world

    def longer(*, completions: list[str], **_: Any) -> list[float]:
        return [len(set(text)) / 100 for text in completions]

    def brighter(*, images: torch.Tensor, **_: Any) -> list[float]:
        return [float(value) for value in images.float().mean(dim=(1, 2, 3)) / 255]

    class Unsaved(SyncGRPOTrainer):
        """Training alone."""

        def _save_checkpoint(self, *_: Any, **__: Any) -> None:
            pass

    with tempfile.TemporaryDirectory() as folder:
        data = Path(folder) / "data"
        export_world(data, ["bo"])
        concept = load_concept(data, "bo")
        config = load_config(
            None, [*OPTIONS[model_name], *COMMON, *overrides, f"rl.max_steps={steps}", f"run.output_dir={folder}"]
        )
        before = _resident()
        model = load_world_model() if model_name == "world" else middle_model()
        model = model.to(torch.bfloat16) if config.model.dtype == "bf16" else model
        tokens = add_concept(model, "bo", concept.class_noun, num_tokens=config.model.num_tokens)
        rewards = RewardEnsemble([Reward("longer", longer, "text"), Reward("brighter", brighter, "image")])
        trainer = Unsaved(model, config, training_prompts(concept, tokens), rewards)
        seconds: dict[str, float] = {}
        for name in ("roll_out", "loss"):
            setattr(trainer, name, _timed(getattr(trainer, name), name, seconds))
        trainer.train()
        rows = [json.loads(line) for line in (config.run.folder / "metrics.jsonl").read_text().splitlines()]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    trainable = sum(parameter.numel() for parameter in trainer.trainables.parameters())
    return {
        "bytes": peak - before,
        "seconds": seconds,
        "trainable": trainable,
        "text_tokens": rows[-1]["completions/mean_length"],
    }


def _timed(call: Callable[..., Any], name: str, seconds: dict[str, float]) -> Callable[..., Any]:
    """`call`, noting the processor seconds of its latest run."""

    def timed(*given: Any) -> Any:
        started = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        result = call(*given)
        seconds[name] = resource.getrusage(resource.RUSAGE_SELF).ru_utime - started
        return result

    return timed


def _resident() -> int:
    import psutil

    return int(psutil.Process().memory_info().rss)


@cache
def measured_rates(model_name: str, dtype: str) -> Any:
    """Once per model and number format."""
    import torch

    from sync_r1.costs.throughput import measure_throughput

    hidden, width = (512, 2048) if model_name == "middle" else (192, 768)
    return measure_throughput(hidden, width, wide=2048, narrow=8, device="cpu", dtype=getattr(torch, dtype))


def estimated(model_name: str, overrides: list[str]) -> dict[str, Any]:
    """What the dry run says of the same case."""
    from sync_r1.config import ModelConfig, load_config
    from sync_r1.costs.estimate import estimate
    from sync_r1.costs.model_sizes import read_sizes, showo_sizes_of

    config = load_config(None, [*OPTIONS[model_name], *COMMON, *overrides])
    sizes = read_sizes(ModelConfig()) if model_name == "world" else showo_sizes_of(*middle_sizes())
    rates = measured_rates(model_name, "bfloat16" if config.model.dtype == "bf16" else "float32")
    result = estimate(config, sizes, rates)
    rollout = sum(result.seconds[name] for name in ("text rollout", "image rollout", "pictures"))
    loss = sum(result.seconds[name] for name in ("text replay", "image replay", "reference"))
    return {
        "bytes": result.peak,
        "stays": sum(result.memory.values()),
        "peaks": result.phases,
        "seconds": {"roll_out": rollout, "loss": loss},
        "trainable": result.parameters["trainable"],
        "gflops_per_second": [round(rates.wide / 1e9, 1), round(rates.narrow / 1e9, 1)],
    }


def in_a_process(model_name: str, case: str) -> dict[str, Any]:
    """`run_case` in a fresh interpreter."""
    extra = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, __file__, "--one", model_name, case]
    result = subprocess.run(command, env={**os.environ, **extra}, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"{model_name}, {case}: {result.stderr[-2000:]}")
    return json.loads(result.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--one", nargs=2, default=None, help=argparse.SUPPRESS)
    parser.add_argument("--cases", nargs="*", default=list(CASES))
    parser.add_argument("--models", nargs="*", default=list(OPTIONS))
    parser.add_argument("--out", type=Path, default=None)
    arguments = parser.parse_args()
    if arguments.one:
        model_name, case = arguments.one
        print(json.dumps(run_case(model_name, CASES[case], steps=2)))
        return
    import torch

    earlier = json.loads(arguments.out.read_text())["rows"] if arguments.out and arguments.out.exists() else []
    rows = [row for row in earlier if row["model"] not in arguments.models or row["case"] not in arguments.cases]
    for model_name in arguments.models:
        for case in arguments.cases:
            guess = estimated(model_name, CASES[case])
            if guess["gflops_per_second"][0] < SLOW:
                print(f"{model_name}, {case} is left out: {guess['gflops_per_second'][0]} GFLOP/s")
                continue
            measured = in_a_process(model_name, case)
            row = {
                "model": model_name,
                "case": case,
                "trainable": measured["trainable"],
                "trainable_estimated": guess["trainable"],
                "peak_mb": round(measured["bytes"] / 2**20),
                "peak_mb_estimated": round(guess["bytes"] / 2**20),
                "stays_mb_estimated": round(guess["stays"] / 2**20),
                "phases_mb_estimated": {name: round(value / 2**20) for name, value in guess["peaks"].items()},
                "seconds": {name: round(value, 2) for name, value in measured["seconds"].items()},
                "seconds_estimated": {name: round(value, 2) for name, value in guess["seconds"].items()},
                "matmul_gflops": guess["gflops_per_second"],
                "text_tokens": round(measured["text_tokens"], 1),
            }
            print(json.dumps(row), flush=True)
            rows.append(row)
            if arguments.out:
                machine = {
                    "processor": platform.machine(),
                    "threads": torch.get_num_threads(),
                    "torch": torch.__version__.split("+")[0],
                }
                options = {name: [*value, *COMMON] for name, value in OPTIONS.items()}
                arguments.out.write_text(
                    json.dumps({"machine": machine, "options": options, "rows": rows}, indent=1) + "\n"
                )


if __name__ == "__main__":
    main()
