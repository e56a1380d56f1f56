"""A tiny random Janus built in process."""

from __future__ import annotations

import torch
from transformers import JanusConfig, PreTrainedTokenizerFast

from sync_r1.models.janus.model import Janus
from tests.helpers import tiny_tokenizer

ROWS = 340  # vocabulary rows; the tokenizer needs fewer, as in the published weights


def janus_tokenizer() -> PreTrainedTokenizerFast:
    """The tiny tokenizer without its own begin and end."""
    return PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer().backend_tokenizer)


def janus_config(tied: bool = False, rows: int = ROWS, positions: int = 256) -> JanusConfig:
    """Hidden 32, 2 layers, pictures of 16 px, 4×4 codes of 32."""
    text = {
        "model_type": "llama",
        "vocab_size": rows,
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
    }
    text |= {
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "max_position_embeddings": positions,
        "initializer_range": 0.3,
    }
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "image_size": 16, "patch_size": 4}
    vision |= {"projection_dim": 32, "num_image_tokens": 16, "initializer_range": 0.3}
    vq = {
        "embed_dim": 4,
        "num_embeddings": 32,
        "latent_channels": 16,
        "base_channels": 32,
        "channel_multiplier": [1, 1, 1],
    }
    vq |= {"num_res_blocks": 1, "projection_dim": 32, "image_token_embed_dim": 32, "initializer_range": 0.3}
    return JanusConfig(
        text_config=text, vision_config=vision, vq_config=vq, tie_word_embeddings=tied, initializer_range=0.3
    )


def tiny_janus(seed: int = 0, **changes: object) -> Janus:
    """A random model in eval mode. `changes` go to `janus_config`."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Janus.from_config(janus_config(**changes), janus_tokenizer()).eval()  # type: ignore[arg-type]
