"""Heads: the terms add up for every ViT that open_clip builds."""

import json

import numpy as np
import pytest
from hypothesis import given  # noqa: F401

from clipscan.errors import InputError
from clipscan.heads.decompose import decompose
from clipscan.heads.tower import ROUNDED, check_tower

torch = pytest.importorskip("torch", reason="needs PyTorch: pip install 'clipscan[embed]'")

SMALL = {"width": 48, "head_width": 16, "layers": 3, "patch_size": 8, "image_size": 24}
POOLER = {"attn_pooler_queries": 4, "attn_pooler_heads": 4}


def tower(quick_gelu=False, **options):
    """A picture tower of open_clip's, small, every weight and bias drawn anew: none is 0 or 1."""
    from open_clip.model import _build_vision_tower

    from clipscan.embed.open_clip import import_open_clip

    import_open_clip()
    with torch.random.fork_rng():
        torch.manual_seed(0)
        visual = _build_vision_tower(32, SMALL | options, quick_gelu).eval()
        for weight in visual.parameters():
            weight.data += 0.2 * torch.randn_like(weight)
    return visual


def encoder_of(visual, precision="fp32"):
    from clipscan.embed.model import Encoder
    from clipscan.embed.pixels import PixelSpec

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = visual

        def encode_image(self, pictures):
            given = self.visual(pictures)
            return given[0] if isinstance(given, tuple) else given

    size = getattr(visual, "image_size", 24)
    spec = PixelSpec(size[0] if isinstance(size, tuple) else size)
    return Encoder("tiny", "0" * 64, 32, "cpu", precision, spec, (0.5,) * 3, (0.25,) * 3, Model(), None)


def noise(count, size=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def error_of(encoder):
    plain = encoder.encode_images(noise(3))
    plain /= np.linalg.norm(plain, axis=1, keepdims=True)
    return np.abs(decompose(encoder, noise(3)).total() - plain).max()


# ---- the sum


def variants():
    """The picture towers of all models that open_clip lists, made small; each distinct one once."""
    open_clip = pytest.importorskip("clipscan.embed.open_clip").import_open_clip()
    found = {}
    for name in open_clip.list_models():
        config = open_clip.get_model_config(name)
        vision = config["vision_cfg"]
        if "timm_model_name" in vision or isinstance(vision.get("layers"), list):
            continue
        vision = {key: value for key, value in vision.items() if key not in SMALL}
        vision |= POOLER if "attentional_pool" in vision else {}
        vision["quick_gelu"] = config.get("quick_gelu", False)
        found.setdefault(json.dumps(vision, sort_keys=True), (name, vision))
    return list(found.values())


def test_the_terms_of_every_vit_that_open_clip_lists_add_up_to_its_embedding():
    supported = []
    for name, options in variants():
        encoder = encoder_of(tower(**options))
        if options.get("attentional_pool"):
            with pytest.raises(InputError, match="another attention"):
                check_tower(encoder)
            continue
        check_tower(encoder)
        assert error_of(encoder) < 1e-5, name
        supported.append(options)
    assert {"quick_gelu", "ls_init_value", "no_ln_pre", "mlp_ratio"} <= set().union(*supported)
    assert any(options.get("pool_type") == "avg" for options in supported)


@pytest.mark.parametrize(
    "options",
    [
        {"pos_embed_type": "sin_cos_2d"},
        {"patch_dropout": 0.5},
        {"final_ln_after_pool": True},
        {"output_tokens": True, "no_ln_pre": True},
        {"qk_norm": True},
        {"scale_heads": True},
        {"scale_attn": True},
        {"scale_attn_inner": True},
        {"scale_fc": True, "ls_init_value": 0.3},
        {"qk_norm": True, "scale_heads": True, "scale_attn": True, "scale_attn_inner": True},
        {"pool_type": "avg", "final_ln_after_pool": True, "scale_heads": True},
        {"layers": 1},
        {"head_width": 48},
    ],
    ids=lambda options: "-".join(options),
)
def test_the_terms_add_up_with_every_option_that_a_config_may_have(options):
    encoder = encoder_of(tower(**options))
    check_tower(encoder)
    assert error_of(encoder) < 1e-5


def test_in_half_precision_the_terms_add_up_as_well_as_it_rounds():
    encoder = encoder_of(tower(), "bf16")
    check_tower(encoder)
    assert 1e-5 < error_of(encoder) < ROUNDED


def pair_by_pair(visual, pictures):
    """float64 terms of the first token, [b, 1 + L (H + 1), d], over all token pairs, as the authors do it."""
    visual = visual.double()
    x = visual._embeds(pictures.double())
    width, columns = x.shape[-1], [x[:, 0]]
    for block in visual.transformer.resblocks:
        attn, normed = block.attn, block.ln_1(x)
        q, k, v = torch.nn.functional.linear(normed, attn.in_proj_weight, attn.in_proj_bias).chunk(3, -1)
        heads, attended = attn.num_heads, torch.zeros_like(x)
        for h in range(heads):
            own = slice(h * width // heads, (h + 1) * width // heads)
            weights = (q[..., own] @ k[..., own].transpose(1, 2) / (width // heads) ** 0.5).softmax(-1)
            values = v[..., own] @ attn.out_proj.weight[:, own].T  # what a token says through this head
            pairs = weights[..., None] * values[:, None]  # [b, token, token, w]
            term = pairs.sum(2) + attn.out_proj.bias / heads
            columns.append(term[:, 0])
            attended += term
        x = x + attended
        mlp = block.mlp(block.ln_2(x))
        columns.append(mlp[:, 0])
        x = x + mlp
    terms, whole, norm = torch.stack(columns, 1), x[:, 0], visual.ln_post
    sigma = ((whole - whole.mean(-1, keepdim=True)).square().mean(-1) + norm.eps).sqrt()
    centred = terms - terms.mean(-1, keepdim=True)
    folded = (norm.weight * centred / sigma[:, None, None] + norm.bias / len(columns)) @ visual.proj
    return folded / visual(pictures.double()).norm(dim=-1)[:, None, None]


def test_every_term_is_that_of_the_sum_over_all_token_pairs():
    visual = tower()
    encoder = encoder_of(visual)
    terms = decompose(encoder, noise(2))
    ours = np.concatenate([terms.initial[:, None], terms.blocks.reshape(2, -1, 32)], axis=1)
    with torch.no_grad():
        exact = pair_by_pair(visual, torch.from_numpy((noise(2) / 255 - 0.5) / 0.25).permute(0, 3, 1, 2))
    assert np.abs(ours - exact.numpy()).max() < 1e-5
    assert np.abs(ours).max() > 0.1


# ---- what is refused


@pytest.mark.parametrize(
    "options, words",
    [
        ({"attentional_pool": True, **POOLER}, "another attention"),
        ({"attentional_pool": "parallel", **POOLER}, "another attention"),
        ({"pool_type": "none"}, "does not pool"),
        ({"pool_type": "avg"}, "behind a norm"),
        ({"pool_type": "avg", "final_ln_after_pool": True, "scale_attn": True}, "behind a norm"),
        ({"pool_type": "avg", "final_ln_after_pool": True, "scale_attn_inner": True}, "behind a norm"),
        ({"scaled_cosine_attn": True}, "open_clip itself does not run"),
        ({"timm_model_name": "clipscan_conv3", "timm_pool": "", "timm_proj": None}, "timm"),
        ({"layers": [1, 1, 1, 1], "image_size": 32}, "ResNet"),
    ],
)
def test_what_cannot_be_taken_apart_is_refused_with_the_reason_and_the_remedy(options, words):
    with pytest.raises(InputError, match=f"tiny cannot be taken apart.*{words}.*clipscan-vit-32"):
        check_tower(encoder_of(tower(**options)))


def test_a_tower_that_computes_something_else_is_found_out():
    visual = tower()
    plain = visual._pool
    visual._pool = lambda x: (plain(x)[0] + 0.1 * x[:, 1], None)
    with pytest.raises(InputError, match="miss its embedding by"):
        check_tower(encoder_of(visual))
