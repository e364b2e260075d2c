"""The same model in PyTorch, from transformers' BLIP-2 vision model and LLaMA with peft's LoRA."""

import re
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from flax.traverse_util import unflatten_dict
from ml_collections import ConfigDict
from peft import LoraConfig, get_peft_model
from torch import nn
from transformers import Blip2VisionConfig, Blip2VisionModel, LlamaConfig, LlamaForCausalLM
from transformers.models.llama import modeling_llama

from pefomed_jax.batch import Batch

# CLIP's preprocessing of pixels in 0..1
MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073], dtype=torch.double)
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711], dtype=torch.double)


def vision_model(config: ConfigDict) -> Blip2VisionModel:
    v = config.vision
    return Blip2VisionModel(
        Blip2VisionConfig(
            hidden_size=v.width,
            intermediate_size=v.mlp_dim,
            num_hidden_layers=v.depth,
            num_attention_heads=v.heads,
            image_size=v.image_size,
            patch_size=v.patch_size,
        )
    )


def llama_model(config: ConfigDict) -> LlamaForCausalLM:
    c = config.llm
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=c.vocab_size,
            hidden_size=c.width,
            intermediate_size=c.mlp_dim,
            num_hidden_layers=c.depth,
            num_attention_heads=c.heads,
            num_key_value_heads=c.kv_heads,
            rms_norm_eps=c.norm_eps,
            tie_word_embeddings=c.tie_embeddings,
            rope_parameters={"rope_type": "default", "rope_theta": c.rope_theta},
            bos_token_id=1,
            eos_token_id=2,
        )
    )


def hugging_face(config: ConfigDict, params: dict) -> LlamaForCausalLM:
    """A LlamaForCausalLM that holds the decoder's parameters."""
    names = {}
    for i, layer in params["llm"]["layers"].items():
        for part, theirs in (("attn", "self_attn"), ("mlp", "mlp")):
            for name, leaf in layer[part].items():
                names[f"model.layers.{i}.{theirs}.{name}.weight"] = leaf["kernel"].T
        names[f"model.layers.{i}.input_layernorm.weight"] = layer["attn_norm"]["scale"]
        names[f"model.layers.{i}.post_attention_layernorm.weight"] = layer["mlp_norm"]["scale"]
    names["model.norm.weight"] = params["llm"]["norm"]["scale"]
    names["model.embed_tokens.weight"] = params["llm"]["embed"]["embedding"]
    if not config.llm.tie_embeddings:
        names["lm_head.weight"] = params["llm"]["head"]["kernel"].T
    model = llama_model(config)
    state = {k: torch.tensor(np.asarray(v)) for k, v in names.items()}
    model.load_state_dict(state, strict=not config.llm.tie_embeddings)
    return model.eval()


class Reference(nn.Module):
    """Vision tower → concatenation and projection → splice → LLaMA with LoRA; one branch a row."""

    def __init__(self, config: ConfigDict, rank: int, alpha: float, targets: list[str]) -> None:
        super().__init__()
        self.concat = config.concat
        self.vision = vision_model(config)
        self.ln_vision = nn.LayerNorm(config.vision.width)
        self.proj = nn.Linear(config.concat * config.vision.width, config.llm.width)
        options = LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.0, target_modules=targets)
        self.llm = get_peft_model(llama_model(config), options)
        self.requires_grad_(True)

    def tower(self, images: torch.Tensor) -> torch.Tensor:
        """[B, 3, S, S] → [B, 1 + P, E] before any norm."""
        x = self.vision.embeddings(images)
        return self.vision.encoder(inputs_embeds=x).last_hidden_state

    def forward(
        self,
        images: torch.Tensor,
        tokens: torch.Tensor,
        slot: torch.Tensor,
        attention: torch.Tensor,
    ) -> torch.Tensor:
        b, i = images.shape[:2]
        x = self.ln_vision(self.tower(images.flatten(0, 1)))[:, 1:]
        visual = self.proj(x.reshape(b, i * x.shape[1] // self.concat, -1))
        text = self.llm.get_input_embeddings()(tokens)
        rows = torch.arange(b)[:, None]
        x = torch.where(slot[..., None] >= 0, visual[rows, slot.clamp(min=0)], text)
        return self.llm(inputs_embeds=x, attention_mask=attention).logits

    def loss(self, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
        """(logits [B, T, V], mean loss of the targets)."""
        pixels = (torch.from_numpy(batch.images).double() / 255 - MEAN) / STD
        pixels = pixels.permute(0, 1, 4, 2, 3).to(self.proj.weight.dtype)
        logits = self(
            pixels,
            torch.from_numpy(batch.tokens).long(),
            torch.from_numpy(batch.image_slot).long(),
            torch.from_numpy((batch.branch >= 0).astype(np.int64)),
        )
        rows, at = np.nonzero(batch.weights)
        chosen = logits[torch.from_numpy(rows), torch.from_numpy(batch.target_pos[rows, at]).long()]
        targets = torch.from_numpy(batch.targets[rows, at]).long()
        return logits, F.cross_entropy(chosen, targets)


def randomise(module: nn.Module, seed: int) -> None:
    """No parameter stays at a neutral value."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in module.named_parameters():
            spread = 0.1 if p.ndim < 2 or "position" in name or "class" in name else 0
            spread = spread or p[0].numel() ** -0.5
            scale = p.ndim == 1 and name.endswith("weight")
            noise = torch.randn(p.shape, generator=generator, dtype=p.dtype)
            p.copy_(noise * spread + float(scale))


class DoubleNorm(modeling_llama.LlamaRMSNorm):
    """transformers computes its RMSNorm in float32 even in a double model."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        mean = hidden_states.pow(2).mean(-1, keepdim=True)
        return self.weight * hidden_states * torch.rsqrt(mean + self.variance_epsilon)


class DoubleRotary(modeling_llama.LlamaRotaryEmbedding):
    """Likewise its rotary angles."""

    def forward(self, x: torch.Tensor, position_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        size = self.config.hidden_size // self.config.num_attention_heads
        powers = torch.arange(0, size, 2, dtype=x.dtype) / size
        theta = self.config.rope_parameters["rope_theta"]
        angle = position_ids[..., None].to(x.dtype) * theta**-powers
        angle = torch.cat((angle, angle), dim=-1)
        return angle.cos(), angle.sin()


def double(module: nn.Module) -> nn.Module:
    """The module in float64 throughout."""
    for part in module.modules():
        if isinstance(part, modeling_llama.LlamaRMSNorm):
            part.__class__ = DoubleNorm
        if isinstance(part, modeling_llama.LlamaRotaryEmbedding):
            part.__class__ = DoubleRotary
    return module.double()


# BLIP-2's names in those of EVA, and both decoders' names in those of this package
EVA = (
    (r"\.encoder\.layers\.", ".blocks."),
    (r"\.embeddings\.patch_embedding\.", ".patch_embed.proj."),
    (r"\.embeddings\.class_embedding", ".cls_token"),
    (r"\.embeddings\.position_embedding", ".pos_embed"),
    (r"\.self_attn\.projection\.", ".attn.proj."),
    (r"\.self_attn\.qkv\.", ".attn.qkv."),
    (r"\.layer_norm(\d)\.", r".norm\1."),
)
NAMES = (
    (r"vision\.patch_embed\.proj\.weight", "vision/patch_embed/kernel"),
    (r"vision\.patch_embed\.proj\.bias", "vision/patch_embed/bias"),
    (r"vision\.(cls_token|pos_embed)", r"vision/\1"),
    (r"vision\.blocks\.(\d+)\.(norm\d)\.weight", r"vision/blocks/\1/\2/scale"),
    (r"vision\.blocks\.(\d+)\.(norm\d)\.bias", r"vision/blocks/\1/\2/bias"),
    (r"vision\.blocks\.(\d+)\.attn\.([qv]_bias)", r"vision/blocks/\1/attn/\2"),
    (r"vision\.blocks\.(\d+)\.(attn|mlp)\.(\w+)\.weight", r"vision/blocks/\1/\2/\3/kernel"),
    (r"vision\.blocks\.(\d+)\.(attn|mlp)\.(\w+)\.bias", r"vision/blocks/\1/\2/\3/bias"),
    (r"ln_vision\.weight", "ln_vision/scale"),
    (r"ln_vision\.bias", "ln_vision/bias"),
    (r"proj\.weight", "connector/proj/kernel"),
    (r"proj\.bias", "connector/proj/bias"),
    (r"model\.embed_tokens\.weight", "llm/embed/embedding"),
    (r"model\.norm\.weight", "llm/norm/scale"),
    (r"lm_head\.weight", "llm/head/kernel"),
    (r"model\.layers\.(\d+)\.input_layernorm\.weight", r"llm/layers/\1/attn_norm/scale"),
    (r"model\.layers\.(\d+)\.post_attention_layernorm\.weight", r"llm/layers/\1/mlp_norm/scale"),
    (r"model\.layers\.(\d+)\.self_attn\.(\w+)\.weight", r"llm/layers/\1/attn/\2/kernel"),
    (r"model\.layers\.(\d+)\.self_attn\.(\w+)\.lora_(.)\.weight", r"llm/layers/\1/attn/\2/lora_\3"),
    (r"model\.layers\.(\d+)\.mlp\.(\w+)\.weight", r"llm/layers/\1/mlp/\2/kernel"),
    (r"model\.layers\.(\d+)\.mlp\.(\w+)\.lora_(.)\.weight", r"llm/layers/\1/mlp/\2/lora_\3"),
)


def tree(arrays: dict[str, np.ndarray]) -> dict:
    """Torch names and arrays (weights or gradients) as a canonical parameter tree."""
    flat = {}
    for name, array in arrays.items():
        for eva_name, part in _as_eva(name, array):
            path = _path(eva_name)
            flat[path] = _turn(path, part)
    return unflatten_dict(flat, sep="/")


def _as_eva(name: str, array: np.ndarray) -> Iterator[tuple[str, np.ndarray]]:
    name = name.removeprefix("llm.").removeprefix("base_model.model.")
    name = name.replace(".base_layer.", ".").replace(".default.", ".")
    for pattern, new in EVA if name.startswith("vision.") else ():
        name = re.sub(pattern, new, name)
    if name.startswith("vision.post_layernorm."):
        return  # the tower has no final norm
    if name.endswith(".qkv.bias"):  # the part of the keys has no effect: softmax ignores it
        q, _, v = np.split(array, 3)
        yield name.replace("qkv.bias", "q_bias"), q
        yield name.replace("qkv.bias", "v_bias"), v
        return
    yield name, array


def _path(name: str) -> str:
    for pattern, path in NAMES:
        if match := re.fullmatch(pattern, name):
            return match.expand(path).replace("lora_A", "lora_a").replace("lora_B", "lora_b")
    raise KeyError(name)


def _turn(path: str, array: np.ndarray) -> np.ndarray:
    if path == "vision/patch_embed/kernel":
        return array.transpose(2, 3, 1, 0)
    if path in ("vision/cls_token", "vision/pos_embed"):
        return array.reshape(array.shape[-2:] if path.endswith("pos_embed") else -1)
    return array.T if path.endswith(("/kernel", "lora_a", "lora_b")) else array


def weights(module: nn.Module) -> dict[str, np.ndarray]:
    return {name: p.detach().numpy() for name, p in module.named_parameters()}


def gradients(module: nn.Module) -> dict[str, np.ndarray]:
    return {n: p.grad.numpy() for n, p in module.named_parameters() if p.grad is not None}
