"""Full-size Show-o at 512 px (1.45 B, MAGVIT-v2 95 M) with random weights in the published layout: load, draw, write,
replay.

Weights are written to a temporary folder (6.3 GB), read by the loader that users call, and deleted. Loading at each
dtype runs in a process of its own, so that its peak memory is its own. On a CPU a few decoding steps are enough; on a
GPU whole rollouts are run.

Run: OMP_NUM_THREADS=2 python benchmarks/full_size.py --out docs/full_size.json
     python benchmarks/full_size.py --device cuda --dtype bf16 --out docs/full_size_gpu.json
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from sync_r1.models.loading import DTYPES, load_model
from sync_r1.models.showo import reference
from sync_r1.models.showo.maskgit import masked_counts
from sync_r1.models.showo.model import Showo
from sync_r1.types import ImageTrace, Sampling, TextContext

SHAPES = Path(__file__).parents[1] / "tests" / "data" / "parity" / "upstream_parameters.json"
PROMPT = "a photo of a dog wearing a red hat on a beach at sunset"
QUESTION = "USER: what is the dog wearing? ASSISTANT:"
WORDS, END = 50295, 50256
DISK_GB = 7
REPLAY_GB = 9  # that a backward pass through all weights needs beside the model, in fp32


def write_published(root: Path) -> None:
    """Random weights under the published names and shapes, and a tokenizer of phi-1.5's size."""
    generator = torch.Generator().manual_seed(0)

    def random(name: str, shape: list[int]) -> Tensor:
        if name == "quantize.power_vals":
            return 2 ** torch.arange(shape[0] - 1, -1, -1)
        if len(shape) == 1:
            return torch.ones(shape) if "norm" in name and name.endswith("weight") else torch.zeros(shape)
        spread = 0.02 if name.startswith("showo.") else torch.Size(shape[1:]).numel() ** -0.5
        return torch.empty(shape).normal_(0, spread, generator=generator)

    showo = {
        "_class_name": "Showo",
        "codebook_size": 8192,
        "llm_vocab_size": WORDS,
        "num_vq_tokens": 1024,
        "vocab_size": 58498,
    }
    configs = {"showo": showo, "magvitv2": {"_class_name": "MAGVITv2"}}
    for name, shapes in json.loads(SHAPES.read_text()).items():
        (root / name).mkdir()
        (root / name / "config.json").write_text(json.dumps(configs[name]))
        save_file({key: random(key, shape) for key, shape in shapes.items()}, root / name / "pytorch_model.safetensors")
    names = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *(f"word{i}" for i in range(WORDS))][:END]
    backend = Tokenizer(models.BPE({name: i for i, name in enumerate([*names, "<|endoftext|>"])}, []))
    backend.pre_tokenizer, backend.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<|endoftext|>", eos_token="<|endoftext|>")
    tokenizer.add_tokens([" " * (WORDS - END - i) for i in range(WORDS - END - 1)])
    tokenizer.save_pretrained(root / "phi")


def load(root: Path, device: str, dtype: str) -> tuple[Showo, dict[str, Any]]:
    started, before = Clock(device), peak_gb("cpu")
    model = load_model(
        root / "showo",
        device=device,
        dtype=DTYPES[dtype],
        image_tokenizer=root / "magvitv2",
        text_tokenizer=root / "phi",
    )
    assert isinstance(model, Showo)
    body = sum(parameter.numel() for parameter in model.showo.parameters())
    tokenizer = sum(parameter.numel() for parameter in model.parameters()) - body
    facts = {"dtype": dtype, **started.stop(), "peak_memory_gb": peak_gb(device), "before_loading_gb": before}
    return model, {**facts, "parameters_m": round(body / 1e6, 1), "image_tokenizer_m": round(tokenizer / 1e6, 1)}


class Clock:
    """Wall seconds, and seconds of processor time, which other work on the machine does not lengthen much."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.wall, self.processor = self._now()

    def _now(self) -> tuple[float, float]:
        if self.device.startswith("cuda"):
            torch.cuda.synchronize()
        return time.perf_counter(), time.process_time()

    def stop(self, parts: int = 1) -> dict[str, float]:
        wall, processor = self._now()
        seconds = {"seconds": round((wall - self.wall) / parts, 4)}
        return (
            seconds
            if self.device.startswith("cuda")
            else {**seconds, "processor_seconds": round((processor - self.processor) / parts, 3)}
        )


def peak_gb(device: str) -> float:
    """Highest memory so far: of the GPU, or of this process on the CPU."""
    bytes_used = (
        torch.cuda.max_memory_allocated()
        if device.startswith("cuda")
        else 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    )
    return round(bytes_used / 1e9, 2)


def clear_peak(device: str) -> None:
    """So that the next figure of a GPU is that of one phase; a process cannot clear its own peak."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()


def matmul_rate(device: str, dtype: torch.dtype) -> float:
    """TFLOP/s of one large square product."""
    size = 8192 if device.startswith("cuda") else 2048
    left, right = (torch.randn(size, size, device=device, dtype=dtype) for _ in range(2))
    left @ right
    runs, started = 10, Clock(device)
    for _ in range(runs):
        left @ right
    return 2 * size**3 * runs / started.stop()["seconds"] / 1e12


def forward_flops(model: Showo, tokens: int, seen: int, heads: int, rows: int) -> float:
    """FLOPs of `tokens` positions that attend to `seen` each, with `heads` of them scored against `rows` of the
    vocabulary.
    """
    config = model.config
    layer = 4 * config.hidden_size**2 + 2 * config.hidden_size * config.intermediate_size
    body = config.num_hidden_layers * (2 * layer * tokens + 4 * config.hidden_size * tokens * seen)
    return body + 2 * config.hidden_size * heads * rows


def drawing_flops(model: Showo, batch: int, sampling: Sampling, steps: range, prefix: int) -> float:
    config, passes = model.config, 2 if sampling.guidance_scale > 0 else 1
    span, counts = config.num_image_tokens + 2, masked_counts(config.num_image_tokens, sampling.generation_timesteps)
    step = (forward_flops(model, span, prefix + span, counts[number], config.codebook_size) for number in steps)
    return batch * passes * sum(step)


@contextmanager
def trainable(model: Showo) -> Iterator[None]:
    model.train()
    model.gradient_checkpointing_enable()
    yield
    model.zero_grad(set_to_none=True)
    model.gradient_checkpointing_disable()
    model.eval()


def measure_drawing(
    model: Showo, device: str, group: int, steps: int, guidance: float, rate: float
) -> tuple[ImageTrace, dict[str, Any]]:
    """A group drawn for `steps` of 50 steps after one to warm up.

    The prompt is encoded again, as after every preview.
    """
    clear_peak(device)
    sampling, prompts = Sampling(guidance_scale=guidance, generation_timesteps=50), [PROMPT] * group
    first = model.generate_image(prompts, sampling, list(range(group)), stop_at=1)
    started = Clock(device)
    trace = model.generate_image(prompts, sampling, state=first, stop_at=1 + steps)
    seconds = started.stop(steps)
    prefix = 3 + len(model.tokenizer(PROMPT)["input_ids"])
    flops = drawing_flops(model, group, sampling, range(1, 1 + steps), prefix) / steps
    facts = {
        "group": group,
        "guidance": guidance,
        "steps": steps,
        "per_step": seconds,
        "tflop_per_step": round(flops / 1e12, 3),
    }
    return trace, {
        **facts,
        "share_of_matmul_rate": round(flops / seconds["seconds"] / 1e12 / rate, 3),
        "peak_memory_gb": peak_gb(device),
    }


def measure_writing(model: Showo, device: str, group: int, tokens: int, slow_tokens: int) -> dict[str, Any]:
    """Greedy answers about a picture: reading it, then tokens/s with cached keys and values, then the slow reference
    decoder."""
    codes = torch.randint(0, model.codebook_size, (model.num_image_tokens,), generator=torch.Generator().manual_seed(0))
    context = TextContext(QUESTION, codes)

    def answer(length: int) -> dict[str, float]:
        started = Clock(device)
        model.generate_text([context] * group, Sampling(top_k=1, max_completion_length=length), list(range(group)))
        return started.stop()

    answer(1)
    reading, whole = answer(1), answer(1 + tokens)
    per_step = {key: (whole[key] - reading[key]) / tokens for key in whole}
    started = Clock(device)
    reference.write(model, context, Sampling(top_k=1, max_completion_length=slow_tokens), 0)
    slow = started.stop(slow_tokens)
    return {
        "group": group,
        "reading_picture_and_question": reading,
        "tokens": tokens,
        "per_token_step": {key: round(value, 4) for key, value in per_step.items()},
        "tokens_per_second_cached": round(group / per_step["seconds"], 2),
        "tokens_per_second_without_cache": round(1 / slow["seconds"], 3),
        "tokens_without_cache": slow_tokens,
    }


def measure_update(
    model: Showo, device: str, trace: ImageTrace, guidance: float, steps: list[int], rate: float, step: bool
) -> dict[str, Any]:
    """Replay with gradient of all weights, step by step, layers recomputed; and AdamW's step if `step`."""
    clear_peak(device)
    sampling, prompts = Sampling(guidance_scale=guidance, generation_timesteps=50), [PROMPT] * len(trace.tokens)
    optimizer = torch.optim.AdamW(model.showo.parameters(), lr=1e-6) if step else None
    with trainable(model):
        started = Clock(device)
        for number in steps:
            logps, committed = model.image_logps(prompts, trace, sampling, [number])
            (-logps.sum() / committed.sum()).backward()
        if optimizer is not None:
            optimizer.step()
        seconds = started.stop()
    prefix = 3 + len(model.tokenizer(PROMPT)["input_ids"])
    passes = 4  # forward, again to recompute, and backward, which counts twice
    flops = passes * sum(
        drawing_flops(model, len(prompts), sampling, range(number, number + 1), prefix) for number in steps
    )
    facts = {"group": len(prompts), "guidance": guidance, "steps": len(steps), "optimizer_step": step, **seconds}
    return {
        **facts,
        "share_of_matmul_rate": round(flops / seconds["seconds"] / 1e12 / rate, 3),
        "peak_memory_gb": peak_gb(device),
    }


def timed(device: str, work: Callable[[], object]) -> dict[str, float]:
    work()
    started = Clock(device)
    work()
    return started.stop()


def measure(root: Path, device: str, dtype: str) -> Iterator[tuple[str, Any]]:
    """(name, figures), one after the other, so that what was measured is kept if the rest does not fit."""
    gpu = device.startswith("cuda")
    model, loaded = load(root, device, dtype)
    yield "load", loaded
    rate = matmul_rate(device, DTYPES[dtype])
    yield "matmul_tflops", round(rate, 3)
    group, steps = (9, 49) if gpu else (1, 2)
    trace, drawing = measure_drawing(model, device, group, steps, 5.0, rate)
    yield "draw_guided", drawing
    yield "draw", measure_drawing(model, device, group, steps, 0.0, rate)[1]
    yield "decode_image", timed(device, lambda: model.decode_image(trace.tokens[:1]))
    yield (
        "encode_image",
        timed(device, lambda: model.encode_image(torch.zeros(1, 3, model.image_size, model.image_size))),
    )
    writing = measure_writing(model, device, group, 32 if gpu else 8, 2)
    yield "write", writing
    if gpu:
        text = writing["reading_picture_and_question"]["seconds"] + 32 * writing["per_token_step"]["seconds"]
        pictures = timed(device, lambda: model.decode_image(trace.tokens))["seconds"]
        yield "rollout_seconds", round(text + 50 * drawing["per_step"]["seconds"] + pictures, 2)
        yield "update", measure_update(model, device, trace, 5.0, list(range(0, 50, 50 // 8))[:8], rate, step=True)
    elif free_gb() > REPLAY_GB:
        yield "update", measure_update(model, device, trace, 0.0, [0], rate, step=False)
    else:
        yield "update", f"left out: {free_gb():.1f} GB are free beside the model, a backward pass needs {REPLAY_GB}"


def free_gb() -> float:
    """Memory that can still be had; on other systems than Linux unknown, so none."""
    path = Path("/proc/meminfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return next((int(line.split()[1]) * 1024 / 1e9 for line in lines if line.startswith("MemAvailable")), 0.0)


def machine(device: str) -> dict[str, Any]:
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    processor = next(
        (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.machine()
    )
    facts = {
        "processor": processor,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    if device.startswith("cuda"):
        facts["gpu"] = torch.cuda.get_device_name()
    return {**facts, "load_average": [round(load, 1) for load in os.getloadavg()]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=list(DTYPES), default="fp32")
    parser.add_argument("--out", type=Path, default=None)
    parser.add_argument(
        "--folder", type=Path, default=None, help="where to put the weights; a temporary folder by default"
    )
    for hidden in ("--only-write", "--only-load"):  # parts that run in processes of their own
        parser.add_argument(hidden, metavar="FOLDER", type=Path, default=None, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only_write:
        return write_published(arguments.only_write)
    if arguments.only_load:
        print(json.dumps(load(arguments.only_load, arguments.device, arguments.dtype)[1]))
        return
    root = Path(tempfile.mkdtemp(prefix="full-size-", dir=arguments.folder))
    if shutil.disk_usage(root).free < DISK_GB * 1e9:
        raise SystemExit(f"{root} has less than {DISK_GB} GB free; pass --folder on another disk")
    result: dict[str, Any] = {
        "machine": machine(arguments.device),
        "device": arguments.device,
        "dtype": arguments.dtype,
    }
    try:
        subprocess.run([sys.executable, __file__, "--only-write", str(root)], check=True)
        for dtype in DTYPES:
            command = [
                sys.executable,
                __file__,
                "--only-load",
                str(root),
                "--device",
                arguments.device,
                "--dtype",
                dtype,
            ]
            result[f"load_{dtype}"] = json.loads(
                subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1]
            )
        for name, figures in measure(root, arguments.device, arguments.dtype):
            result[name] = figures
            print(name, json.dumps(figures), flush=True)
            if arguments.out:
                arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    main()
