"""Class centres start from their global row number alone."""

import itertools

import pytest
import torch

from facerec.core.errors import ConfigError
from facerec.heads.centres import ROWS_PER_BLOCK, ClassCentres, fill_initial_rows


def test_a_row_does_not_depend_on_the_number_of_classes():
    few = ClassCentres(num_classes=10, embedding_dim=32, seed=3).weight
    many = ClassCentres(num_classes=1000, embedding_dim=32, seed=3).weight
    more = ClassCentres(num_classes=ROWS_PER_BLOCK + 500, embedding_dim=32, seed=3).weight
    assert torch.equal(few[5], many[5])
    assert torch.equal(many, more[:1000])


def test_any_chunking_of_the_rows_gives_the_same_centres():
    num_classes = 2 * ROWS_PER_BLOCK + 77
    whole = ClassCentres(num_classes=num_classes, embedding_dim=8, init_std=0.02, seed=1).weight
    pieces = []
    edges = [0, 1, 1000, ROWS_PER_BLOCK, ROWS_PER_BLOCK + 3, 2 * ROWS_PER_BLOCK + 1, num_classes]
    for start, stop in itertools.pairwise(edges):
        piece = torch.full((stop - start, 8), torch.nan)
        fill_initial_rows(piece, first_row=start, std=0.02, seed=1)
        pieces.append(piece)
    assert torch.equal(torch.cat(pieces), whole)


def test_centres_are_normal_with_the_given_deviation_and_all_different():
    weight = ClassCentres(num_classes=5000, embedding_dim=64, init_std=0.01, seed=0).weight.detach()
    assert weight.mean().abs() < 1e-4  # 5.7 standard errors
    assert weight.std().item() == pytest.approx(0.01, rel=0.01)
    assert (weight / 0.01).pow(4).mean().item() == pytest.approx(3, rel=0.03)  # a normal's kurtosis
    assert len(weight.unique(dim=0)) == 5000


def test_seeds_give_different_centres():
    one, two = (ClassCentres(num_classes=100, embedding_dim=64, seed=seed).weight.flatten() for seed in (1, 2))
    assert torch.corrcoef(torch.stack([one, two]))[0, 1].abs() < 0.06  # 4.8 standard errors


def test_built_on_meta_then_drawn():
    with torch.device("meta"):
        centres = ClassCentres(num_classes=50, embedding_dim=16, seed=4, bias=True)
    assert centres.weight.is_meta
    centres.to_empty(device="cpu")
    centres.reset_parameters()
    assert torch.equal(centres.weight, ClassCentres(num_classes=50, embedding_dim=16, seed=4).weight)
    assert torch.equal(centres.bias, torch.zeros(50))


def test_fp64_centres_have_the_fp32_values():
    rows = torch.empty(20, 16, dtype=torch.float64)
    fill_initial_rows(rows, first_row=0, std=0.01, seed=0)
    assert torch.equal(rows.float(), ClassCentres(num_classes=20, embedding_dim=16).weight)


def test_drawing_centres_leaves_the_global_random_state_alone():
    torch.manual_seed(0)
    before = torch.get_rng_state()
    ClassCentres(num_classes=20, embedding_dim=16)
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "key, value",
    [
        ("num_classes", None),
        ("num_classes", 1),
        ("embedding_dim", 0),
        ("init_std", 0.0),
        ("init_std", -1.0),
        ("seed", -1),
    ],
)
def test_bad_arguments_name_the_key(key, value):
    with pytest.raises(ConfigError, match=f"head.{key} is {'null' if value is None else value}"):
        ClassCentres(**({"num_classes": 10, "embedding_dim": 4} | {key: value}))


@pytest.mark.parametrize("shard", [range(0, 30), range(30, 50), range(50, 50)])
def test_centres_that_keep_a_shard_are_those_built_with_it(shard):
    arguments = {"num_classes": 50, "embedding_dim": 16, "num_sub_centres": 3, "bias": True, "seed": 4}
    kept, built = ClassCentres(**arguments), ClassCentres(**arguments, shard=shard)
    kept.keep(shard)
    assert kept.classes == built.classes and kept.extra_repr() == built.extra_repr()
    assert torch.equal(kept.weight, built.weight) and torch.equal(kept.bias, built.bias)
    assert kept.weight.requires_grad and kept.weight.untyped_storage().nbytes() == 4 * kept.weight.numel()
