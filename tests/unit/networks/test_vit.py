"""The vision transformer as InsightFace's arcface_torch builds it: sizes, names, and what it computes."""

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from facerec.core.errors import ConfigError
from facerec.core.input_spec import InputSpec
from facerec.networks.embedding_net import count_macs, count_parameters, join
from facerec.networks.neck import FCBNFCBN
from facerec.networks.vit import VisionTransformer, ViTBlock
from tests.unit.networks.seeded_weights import seeded_images, seeded_state

SIZES = {"t": (256, 12), "s": (512, 12), "b": (512, 24)}


def vit(token_dim, depth, **arguments):
    backbone = VisionTransformer(token_dim=token_dim, depth=depth, **arguments)
    return join(backbone=backbone, neck=partial(FCBNFCBN), input_spec=InputSpec())


def small(**arguments):
    """4 x 4 tokens of 8 numbers."""
    torch.manual_seed(0)
    sizes = {"token_dim": 8, "depth": 3, "num_heads": 2, "patch_size_px": 7, "height_px": 32, "width_px": 28}
    return VisionTransformer(**sizes | arguments)


@pytest.mark.parametrize(
    ("size", "num_parameters", "macs", "published_gmacs"),
    [
        ("t", 19_137_792, 1_504_882_688, 1.5),
        ("s", 76_023_296, 5_746_548_736, 5.7),
        ("b", 113_833_472, 11_437_170_688, 11.4),
    ],
)
def test_sizes_are_those_of_insightface(size, num_parameters, macs, published_gmacs):
    """GMACs stand in arcface_torch's README; it names no parameters: these were counted in its own networks."""
    with torch.device("meta"):
        network = vit(*SIZES[size])
    assert count_parameters(network) == num_parameters
    assert count_macs(network) == macs
    assert round(macs / 1e9, 1) == published_gmacs


@pytest.mark.parametrize(("size", "num_keys"), [("t", 150), ("s", 150), ("b", 282)])
def test_state_dict_keys_are_those_of_insightface(size, num_keys):
    dim, depth = SIZES[size]
    with torch.device("meta"):
        shapes = {key: tuple(value.shape) for key, value in vit(dim, depth).state_dict().items()}
    expected = {
        "pos_embed": (1, 144, dim),
        "mask_token": (1, 1, dim),
        "patch_embed.proj.weight": (dim, 3, 9, 9),
        "patch_embed.proj.bias": (dim,),
        "norm.weight": (dim,),
        "norm.bias": (dim,),
        "feature.0.weight": (dim, 144 * dim),
        "feature.2.weight": (512, dim),
    }
    for i in range(depth):
        expected |= {f"blocks.{i}.{norm}.{name}": (dim,) for norm in ("norm1", "norm2") for name in ("weight", "bias")}
        expected |= {f"blocks.{i}.attn.qkv.weight": (3 * dim, dim), f"blocks.{i}.attn.proj.weight": (dim, dim)}
        expected |= {f"blocks.{i}.mlp.fc1.weight": (4 * dim, dim), f"blocks.{i}.mlp.fc2.weight": (dim, 4 * dim)}
        expected |= {f"blocks.{i}.attn.proj.bias": (dim,), f"blocks.{i}.mlp.fc2.bias": (dim,)}
        expected |= {f"blocks.{i}.mlp.fc1.bias": (4 * dim,)}
    for layer, length in ((1, dim), (3, 512)):
        names = ("weight", "bias", "running_mean", "running_var")
        expected |= {f"feature.{layer}.{name}": (length,) for name in names}
        expected |= {f"feature.{layer}.num_batches_tracked": ()}
    assert shapes == expected and len(shapes) == num_keys


def test_embedding_is_the_one_that_arcface_torch_computes_from_the_same_weights():
    """The figures come from its own ViT-T (insightface at 7fadd420) in float64, where its attention casts to float32
    without the casts."""
    network = vit(*SIZES["t"]).double().eval()
    network.load_state_dict(seeded_state(network.state_dict()))
    with torch.no_grad():
        emb_BD = network(seeded_images(2))
    assert emb_BD.shape == (2, 512) and emb_BD.dtype == torch.float64
    assert emb_BD[0, :3].tolist() == pytest.approx([1.107668562524, 4.219225769975, -1.011929273262], rel=1e-9)
    assert emb_BD[1, -2:].tolist() == pytest.approx([1.266862578602, 1.48423989656], rel=1e-9)


def test_block_is_attention_and_mlp_with_the_norm_before_and_the_input_added():
    torch.manual_seed(0)
    block = ViTBlock(token_dim=12, num_heads=3, drop_path=0.0).double()
    with torch.no_grad():
        for parameter in block.parameters():
            parameter.normal_()
    x = torch.randn(2, 5, 12, dtype=torch.float64)
    normed = F.layer_norm(x, (12,), block.norm1.weight, block.norm1.bias, eps=1e-5)
    query, key, value = (normed @ block.attn.qkv.weight.T).split(12, dim=2)
    heads = []
    for head in range(3):
        part = slice(4 * head, 4 * head + 4)
        weights = torch.softmax(query[..., part] @ key[..., part].mT / math.sqrt(4), dim=-1)
        heads.append(weights @ value[..., part])
    y = x + F.linear(torch.cat(heads, dim=2), block.attn.proj.weight, block.attn.proj.bias)
    normed = F.layer_norm(y, (12,), block.norm2.weight, block.norm2.bias, eps=1e-5)
    inner = F.linear(normed, block.mlp.fc1.weight, block.mlp.fc1.bias).clamp(0, 6)
    expected = y + F.linear(inner, block.mlp.fc2.weight, block.mlp.fc2.bias)
    torch.testing.assert_close(block(x), expected, rtol=1e-11, atol=1e-11)


def test_tokens_lie_in_the_map_as_their_patches_in_the_image():
    backbone = small(depth=1).double()
    with torch.no_grad():
        backbone.pos_embed.zero_()
        backbone.blocks[0].attn.proj.weight.zero_()  # no token sees another one
        image = torch.zeros(1, 3, 32, 28, dtype=torch.float64)
        nothing = backbone(image)
        image[0, :, 7:14, 14:21] = 1.0
        image[0, :, 28:] = 5.0  # rows that fill no patch
        changed = (backbone(image) - nothing).abs().sum(1)[0] > 1e-9
    assert backbone.output_size(32, 28) == (4, 4) and nothing.shape == (1, 8, 4, 4)
    assert changed.nonzero().tolist() == [[1, 2]]


def test_drop_path_grows_linearly_and_drops_whole_samples_in_training_only():
    backbone = small(depth=5, drop_path=0.4)
    assert [block.drop_path.p for block in backbone.blocks] == pytest.approx([0.0, 0.1, 0.2, 0.3, 0.4])
    assert [block.drop_path.p for block in small(depth=1, drop_path=0.4).blocks] == [0.0]
    block = ViTBlock(token_dim=8, num_heads=2, drop_path=0.25).double()
    with torch.no_grad():
        block.mlp.fc2.weight.zero_()  # only the attention's path is left
        block.mlp.fc2.bias.zero_()
    x = torch.randn(4000, 3, 8, dtype=torch.float64)
    path = block.eval()(x) - x
    taken = block.train()(x) - x
    dropped = (taken == 0).all(2).all(1)
    assert dropped.double().mean().item() == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(taken[~dropped], path[~dropped] / 0.75)


def test_masked_tokens_are_seen_by_no_block_and_replaced_by_one_that_is_learned():
    backbone = small(mask_ratio=0.3)
    seen = []
    backbone.blocks[0].register_forward_pre_hook(lambda _module, inputs: seen.append(inputs[0].shape[1]))
    image = torch.randn(6, 3, 32, 28)
    places = (backbone(image) == backbone.mask_token[0, 0, :, None, None]).all(1)
    assert seen == [11] and places.flatten(1).sum(1).tolist() == [5] * 6  # int(16 * 0.7) tokens are left
    assert len({tuple(place.flatten().tolist()) for place in places}) > 1  # not the same for all samples
    backbone.eval()(image)
    assert seen == [11, 16]


def test_masking_leaves_the_other_tokens_in_their_places():
    backbone = small(mask_ratio=0.3, depth=1).double()
    with torch.no_grad():
        backbone.blocks[0].attn.proj.weight.zero_()  # no token sees another one
    image = torch.randn(6, 3, 32, 28, dtype=torch.float64)
    whole, masked = backbone.eval()(image), backbone.train()(image)
    kept = (masked != backbone.mask_token[0, 0, :, None, None]).any(1, keepdim=True).expand_as(whole)
    torch.testing.assert_close(masked[kept], whole[kept])


def test_mask_token_is_trained_only_where_tokens_are_masked():
    assert not small().mask_token.requires_grad
    backbone = small(mask_ratio=0.3)
    backbone(torch.randn(6, 3, 32, 28)).square().sum().backward()
    assert backbone.mask_token.requires_grad and backbone.mask_token.grad.abs().max() > 0


def test_weights_start_as_in_insightface():
    torch.manual_seed(0)
    state = vit(64, 2).state_dict()
    for key in ("pos_embed", "mask_token", "blocks.1.attn.qkv.weight", "blocks.0.mlp.fc2.weight", "feature.0.weight"):
        assert state[key].std().item() == pytest.approx(0.02, rel=0.3 if key == "mask_token" else 0.05)
    assert state["feature.2.weight"].std().item() == pytest.approx(0.02, rel=0.05)
    assert not bool(state["blocks.0.mlp.fc1.bias"].any())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"token_dim": 12, "num_heads": 8}, r"backbone\.token_dim=12; expected a multiple of backbone\.num_heads=8"),
        ({"num_heads": 0}, r"backbone\.num_heads=0; expected a positive number"),
        ({"depth": 0}, r"backbone\.depth=0"),
        ({"patch_size_px": 40}, r"backbone\.patch_size_px=40 is more than the image's 32 x 28 pixels"),
        ({"drop_path": 1.0}, r"backbone\.drop_path=1\.0; expected a number from 0, below 1"),
        ({"mask_ratio": -0.1}, r"backbone\.mask_ratio=-0\.1"),
    ],
)
def test_sizes_that_make_no_network_are_refused(wrong, message):
    with pytest.raises(ConfigError, match=message):
        small(**wrong)


def test_another_image_size_than_the_position_embeddings_is_refused_with_the_mend():
    with pytest.raises(ConfigError, match=r"backbone\.height_px=112, .* but the input has 112 x 96 pixels: set both"):
        join(
            backbone=VisionTransformer(token_dim=8, depth=1),
            neck=partial(FCBNFCBN),
            input_spec=InputSpec(width_px=96),
        )
