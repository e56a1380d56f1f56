"""Weight files as they are published: safetensors or PyTorch's own, whole or in shards.

Read in pieces, so that memory holds one copy.
"""

from __future__ import annotations

import pickle
import re
import zipfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from sync_r1.files import read_json

SUFFIXES = (".safetensors", ".bin", ".pt", ".pth")
STEMS = ("model", "pytorch_model", "diffusion_pytorch_model")  # transformers', Show-o's and diffusers' names
SHARD = re.compile(r"(.+)-(\d{5})-of-(\d{5})$")
FLOATS = (torch.float32, torch.float16, torch.bfloat16, torch.float64)
NESTS = ("model_state_dict", "state_dict")  # where training checkpoints keep the weights
PIECE = 1 << 26  # numbers read before a file is opened anew, which gives back the pages that were mapped


class WeightFiles:
    """Names and shapes of all tensors of a weight file, or of a folder's, and the tensors themselves as a stream."""

    def __init__(self, source: str | Path) -> None:
        """Reads headers only.

        Raises:
            ValueError: no weight file, a missing shard, a damaged file, or a pickled one that holds more than tensors.
        """
        self.source = Path(source)
        self.files = weight_files(self.source)
        self.shapes: dict[str, tuple[int, ...]] = {}
        self._names: dict[Path, list[str]] = {}
        for file in self.files:
            with _opened(file) as (shapes, _):
                if twice := sorted(self.shapes.keys() & shapes.keys()):
                    raise ValueError(
                        f"{file} has tensors of another file of the folder, such as {twice[0]}; give one file, not the "
                        "folder"
                    )
                self.shapes |= shapes
                self._names[file] = list(shapes)

    def stream(self, names: Iterable[str] | None = None) -> Iterator[tuple[str, Tensor]]:
        """(name, tensor on the CPU) of all tensors, or of `names`; drop each tensor before asking for the next ones."""
        if names is None:
            wanted = None
        else:
            wanted = set(names)
        for file, present in self._names.items():
            chosen = [name for name in present if wanted is None or name in wanted]
            for piece in _pieces(chosen, self.shapes) if _can_be_mapped(file) else [chosen]:
                with _opened(file) as (_, get):
                    for name in piece:
                        yield name, get(name)

    def read(self, name: str) -> Tensor:
        """One tensor, copied."""
        return next(self.stream([name]))[1].clone()


def weight_files(source: Path) -> list[Path]:
    """The weight file that `source` is, or those of a folder in the order of `pick`.

    ValueError names a missing file or shard.
    """
    if source.is_file():
        return [source]
    names = []
    if source.is_dir():
        names = sorted(path.name for path in source.iterdir())
    indices = [name for stem in STEMS for suffix in SUFFIXES[:2] if (name := f"{stem}{suffix}.index.json") in names]
    if indices and not any(f"{stem}{suffix}" in names for stem in STEMS for suffix in SUFFIXES):
        index = source / indices[0]
        picked = _shards_of(index)
    else:
        index = source
        picked = pick(names)
    if not picked:
        raise ValueError(
            f"{source} holds no weights ({_listing(names)}); expected model.safetensors, pytorch_model.bin or shards "
            "with an index"
        )
    for name in picked:
        if not (source / name).is_file():
            raise ValueError(
                f"{source / name} is missing; {index.name} needs {len(picked)} shards: download the folder again"
            )
    return [source / name for name in picked]


def pick(names: Sequence[str]) -> list[str]:
    """Of a folder's file names, those of ONE copy of the weights: safetensors before PyTorch's own, whole files before
    shards.

    Shards are completed to their "-of-" number, so that a missing one can be noticed. ValueError when several files
    could be meant.
    """
    for suffix in SUFFIXES:
        present = [name for name in names if name.endswith(suffix) and name != "training_args.bin"]
        whole = [name for stem in STEMS if (name := f"{stem}{suffix}") in present]
        if whole:
            return whole[:1]
        shards = {match[1]: int(match[3]) for name in present if (match := SHARD.match(name.removesuffix(suffix)))}
        if shards:
            stem, count = min(shards.items())
            return [f"{stem}-{number:05}-of-{count:05}{suffix}" for number in range(1, count + 1)]
        if len(present) > 1:
            raise ValueError(f"several weight files: {', '.join(present[:5])}; give the path of one file")
        if present:
            return present
    return []


def check_shapes(
    expected: Mapping[str, Sequence[int]], seen: Mapping[str, Sequence[int]], source: str | Path, whose: str
) -> None:
    """Raises ValueError naming a tensor of another shape, or tensors that are missing or unknown.

    `whose` says what is expected.
    """
    for name in expected.keys() & seen.keys():
        if tuple(expected[name]) != tuple(seen[name]):
            raise ValueError(f"{source}: {name} has shape {list(seen[name])}, {whose} has {list(expected[name])}")
    for kind, odd in (("lacks", expected.keys() - seen.keys()), ("has unknown", seen.keys() - expected.keys())):
        if odd:
            raise ValueError(f"{source} {kind} {len(odd)} tensors of {whose}, such as {', '.join(sorted(odd)[:3])}")


@contextmanager
def blank(dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> Iterator[None]:
    """Modules built inside get uninitialised weights of this dtype on this device.

    What they compute (rotary tables) stays fp32.
    """
    from transformers.initialization import no_init_weights

    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with no_init_weights(), torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


@torch.no_grad()
def fill(module: nn.Module, tensors: Iterable[tuple[str, Tensor]], source: str | Path = "weights") -> None:
    """Copy tensors into a module's weights of the same names, to their dtype and device, one at a time.

    ValueError names a tensor whose numbers are of another kind, or NaN or infinite (also where the module's dtype
    cannot hold them).
    """
    targets = module.state_dict(keep_vars=True)
    for name, value in tensors:
        target = targets[name]
        if target.is_floating_point() and value.dtype not in FLOATS:
            raise ValueError(
                f"{source}: {name} has numbers of {value.dtype}; weights must be float32, float16, bfloat16 or float64"
            )
        target.copy_(value)
        if target.is_floating_point() and not torch.isfinite(target).all():
            raise ValueError(
                f"{source}: {name} holds NaN or infinite numbers as {target.dtype}; fetch or write the file again"
            )


@torch.no_grad()
def put_parameters(module: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Overwrite some parameters by name, bit for bit. ValueError for tensors that are not this module's."""
    known = dict(module.named_parameters())
    for name, value in tensors.items():
        if name not in known or known[name].shape != value.shape:
            found = f"of shape {list(known[name].shape)}" if name in known else "missing"
            raise ValueError(
                f"{name} of shape {list(value.shape)} is {found} in this model; the tensors belong to another model "
                "or concept"
            )
    for name, value in tensors.items():
        known[name].copy_(value)


def _shards_of(index: Path) -> list[str]:
    content = read_json(index)
    shards = None
    if isinstance(content, dict):
        shards = content.get("weight_map")
    if isinstance(shards, dict):
        names = list(shards.values())
    else:
        names = [shards]
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or not name.endswith(SUFFIXES[:2]):
            raise ValueError(
                f"{index} is no index of shards: weight_map names {name!r:.80}, not a weight file beside it; download "
                "it again"
            )
    return sorted({str(name) for name in names})


def _pieces(names: Sequence[str], shapes: Mapping[str, Sequence[int]]) -> Iterator[list[str]]:
    piece: list[str] = []
    size = 0
    for name in names:
        piece.append(name)
        size += torch.Size(shapes[name]).numel()
        if size >= PIECE:
            yield piece
            piece, size = [], 0
    if piece:
        yield piece


def _can_be_mapped(file: Path) -> bool:
    """Not PyTorch's files from before 1.6, which are no zip archives: they are read whole, a second copy for that
    while."""
    return file.suffix == ".safetensors" or zipfile.is_zipfile(file)


@contextmanager
def _opened(file: Path) -> Iterator[tuple[dict[str, tuple[int, ...]], Callable[[str], Tensor]]]:
    """Shapes of a file's tensors and how to get one; both are mapped, not read."""
    if file.suffix != ".safetensors":
        state = _unpickled(file)
        yield {name: tuple(value.shape) for name, value in state.items()}, state.__getitem__
        return
    try:
        if not file.is_file():
            raise ValueError(f"{file} is no file")
        opened = safe_open(file, "pt")
    except (SafetensorError, OSError, MemoryError) as error:  # the last one: more bytes than can be mapped
        reason = "it is too large" if isinstance(error, MemoryError) else error
        raise ValueError(f"{file} is damaged ({reason}); fetch or write it again") from error
    with opened as tensors:
        yield {name: tuple(tensors.get_slice(name).get_shape()) for name in tensors.keys()}, tensors.get_tensor  # noqa: SIM118


def _unpickled(file: Path) -> dict[str, Tensor]:
    """Tensors of a PyTorch file by name."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True, mmap=_can_be_mapped(file))
    except pickle.UnpicklingError as error:
        raise ValueError(
            f"{file} is refused: it holds Python objects besides tensors, and opening it could run code; use a "
            "safetensors file instead"
        ) from error
    except (RuntimeError, EOFError, OSError) as error:
        raise ValueError(f"{file} is damaged ({str(error).splitlines()[0]}); fetch or write it again") from error
    for nest in NESTS:
        if isinstance(content, dict) and isinstance(content.get(nest), dict):
            content = content[nest]
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"{file} holds {_kind(content)}; expected tensors by name, or a checkpoint with {NESTS[0]}")
    return {str(name).removeprefix("module."): value for name, value in content.items()}


def _kind(content: Any) -> str:
    if isinstance(content, dict):
        return f"a dict of {', '.join(map(str, list(content)[:5]))}"
    return f"a {type(content).__name__}"


def _listing(names: Sequence[str]) -> str:
    if names:
        return f"found {', '.join(names[:12])}{', …' if len(names) > 12 else ''}"
    return "no such folder, or it is empty"
