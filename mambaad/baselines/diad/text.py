"""The text context: what CLIP's text encoder makes of the empty prompt (Radford et al., ICML 2021).

DiAD never has another prompt, so this is a constant, computed once from the tensors in Stable Diffusion's file.
"""

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional as F

PREFIX = "cond_stage_model.transformer.text_model."
HEAD = 64  # width of an attention head


def empty_prompt(tensors: Mapping[str, Tensor]) -> Float[Tensor, "T D"]:
    """The text encoder's output for the empty prompt: the start token, then end tokens up to the full length.

    Args:
        tensors: of the text encoder, named as in Stable Diffusion's file without `PREFIX`.

    Raises:
        KeyError: a tensor that is not there.
    """
    state = {name: value.float() for name, value in tensors.items() if value.is_floating_point()}
    vocabulary = state["embeddings.token_embedding.weight"]
    positions = state["embeddings.position_embedding.weight"]
    tokens = torch.full((len(positions),), len(vocabulary) - 1)  # the last two words are start and end
    tokens[0] -= 1
    x = vocabulary[tokens] + positions
    numbers = {int(name.split(".")[2]) for name in state if name.startswith("encoder.layers.")}
    for number in sorted(numbers):
        x = _layer(x, state, f"encoder.layers.{number}.")
    return _norm(x, state, "final_layer_norm")


def _layer(x: Float[Tensor, "T D"], state: Mapping[str, Tensor], layer: str) -> Float[Tensor, "T D"]:
    """Attention to the tokens up to one's own, then a feed-forward network; both normalise their input."""
    normalised = _norm(x, state, f"{layer}layer_norm1")
    q, k, v = (
        _linear(normalised, state, f"{layer}self_attn.{name}_proj").unflatten(1, (-1, HEAD)).transpose(0, 1)
        for name in "qkv"
    )
    seen = F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(0, 1).flatten(1)
    x = x + _linear(seen, state, f"{layer}self_attn.out_proj")
    hidden = _linear(_norm(x, state, f"{layer}layer_norm2"), state, f"{layer}mlp.fc1")
    return x + _linear(hidden * torch.sigmoid(1.702 * hidden), state, f"{layer}mlp.fc2")  # CLIP's quick GELU


def _linear(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])


def _norm(x: Tensor, state: Mapping[str, Tensor], name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"])
