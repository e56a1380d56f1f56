"""`sync-r1 train … --dry-run`: what a run will cost, without weights and data."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sync_r1.console import open_console, say, say_json, show_table

if TYPE_CHECKING:
    from sync_r1.config import Config

UNITS = {"flops": (1e12, "TFLOP"), "memory": (2**30, "GiB"), "phases": (2**30, "GiB"), "seconds": (1, "s")}
TITLES = {
    "parameters": "parameters",
    "work": "per step",
    "dgs": "dynamic group scaling, per step",
    "flops": "computation per step",
    "memory": "memory that stays",
    "phases": "memory on top, one phase at a time",
    "seconds": "time",
}


def dry_run(config: Config, as_json: bool) -> None:
    """Print the estimate of one process as tables or JSON, and whether it fits.

    Multiplies matrices for two seconds to know the device.
    """
    from sync_r1.costs.run_cost import run_cost

    facts = run_cost(config)
    if as_json:
        say_json(facts)
    else:
        _print(config, facts)


def _print(config: Config, facts: dict[str, Any]) -> None:
    from rich.box import SIMPLE
    from rich.table import Table

    console = open_console()
    for key, title in TITLES.items():
        if not facts[key]:
            continue
        table = Table(title, "", box=SIMPLE, title_justify="left")
        table.columns[1].justify = "right"
        for name, value in facts[key].items():
            table.add_row(name, _shown(key, value))
        show_table(table, console)
    rates, assumed = facts["rates"], facts["assumed"]
    shared = "one process"
    if config.run.sharding != "none":
        shared = f"one of {assumed['processes']} processes that share by {config.run.sharding}"
    warm_up = ""
    if config.sft.stages:
        warm_up = f"the warm-up ({', '.join(config.sft.stages)}) and "
    say(
        f"An estimate of {shared}, {assumed['trains']} training in {assumed['numbers']}: understanding prompts of "
        f"{assumed['reading']} tokens and drawing prompts of {assumed['drawing']}, full-length texts; time at half "
        f"the rate of matrix products measured on {rates['device']}, {rates['wide'] / 1e12:.3g} TFLOP/s "
        f"({rates['narrow'] / 1e12:.3g} for one decoding step). Scorers' networks, Python and the libraries come on "
        f"top of the memory, {warm_up}the evaluations on top of the time.",
        console=console,
    )
    need, free = facts["peak"] / 2**30, facts["available"] / 2**30
    say(f"peak memory {need:.2f} GiB, {free:.2f} GiB are free on {rates['device']}", "bold", console=console)
    if need > free:
        ways = [
            *([] if config.rl.gradient_checkpointing else ["rl.gradient_checkpointing=true"]),
            *(["a smaller rl.sequences_per_backward"] if config.rl.sequences_per_backward > 1 else []),
            *(["rl.lora_rank=16 model.dtype=bf16"] if assumed["trains"] == "full" else []),
            *(
                ["run.sharding=fsdp2 on several GPUs"]
                if assumed["trains"] == "full" and config.run.sharding == "none"
                else []
            ),
        ]
        say(f"That does not fit. Try {', '.join([*ways, 'fewer rl.num_generations'])}.", "red", console=console)


def _shown(key: str, value: float) -> str:
    if key not in UNITS:
        if value == int(value):
            return f"{value:,.0f}"
        return f"{value:g}"
    if key == "seconds" and value >= 600:
        return f"{value / 3600:,.1f} h"
    unit, name = UNITS[key]
    return f"{value / unit:,.3f} {name}"
