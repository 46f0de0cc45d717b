import math

import pytest
import torch

from alignvid.analysis import tiles
from alignvid.analysis.measures import attention_measures, entropy_slope, mean_energy, normalised_entropy, pooled_mass

TOLERANCE = 1e-5  # of float32 sums over a few hundred keys, against float64


def dense(query, key, stream_lengths, mask=None, scale=None, gamma=1.0):
    """Every measure from the whole matrix, in float64, as the textbook writes it."""
    query, key = query.double(), key.double().repeat_interleave(query.shape[1] // key.shape[1], 1)
    energy = gamma * query @ key.transpose(-1, -2) * (query.shape[-1] ** -0.5 if scale is None else scale)
    bias = torch.zeros_like(energy)
    if mask is not None and mask.dtype == torch.bool:
        bias = bias.masked_fill(~mask, -math.inf)
    elif mask is not None:
        bias = bias + mask.double()
    logits = energy + bias
    seen = ~logits.isneginf()
    weights = logits.softmax(-1)
    finite = logits.masked_fill(~seen, 0.0)
    mean = (weights * finite).sum(-1, keepdim=True)
    return {
        "entropy": -torch.special.xlogy(weights, weights).sum(-1),
        "variance": (weights * (finite - mean) ** 2).sum(-1),
        "slope": -(weights * (finite - mean) * energy).sum(-1),
        "energy": (energy * seen).sum(-1) / seen.sum(-1),
        "log_sum_exp": logits.logsumexp(-1),
        "key_count": seen.sum(-1).double(),
        "mass": torch.stack([part.sum(-1) for part in weights.split(stream_lengths, -1)], -1),
    }


def pair(queries, keys, *, batch=2, heads=4, key_heads=4, size=24, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    query = 1.5 * torch.randn(batch, heads, queries, size, generator=generator)
    return query.to(dtype), torch.randn(batch, key_heads, keys, size, generator=generator).to(dtype)


def assert_equal_to_dense(measured, expected):
    for name, value in expected.items():
        torch.testing.assert_close(getattr(measured, name).double(), value, atol=TOLERANCE, rtol=TOLERANCE, msg=name)


def test_two_equal_keys_share_evenly():
    query, key = torch.ones(1, 1, 1, 4), torch.ones(1, 1, 2, 4)
    measured = attention_measures(query, key, stream_lengths=[1, 1])
    assert measured.entropy.item() == pytest.approx(math.log(2), abs=1e-6)
    assert measured.variance.item() == pytest.approx(0.0, abs=1e-6)
    assert measured.energy.item() == pytest.approx(2.0)  # 4 products of 1, over the root of 4
    assert measured.mass.flatten().tolist() == pytest.approx([0.5, 0.5])


def test_two_keys_by_hand():
    query, key = torch.tensor([[[[1.0]]]]), torch.tensor([[[[math.log(3.0)], [0.0]]]])  # weights 3/4 and 1/4
    measured = attention_measures(query, key, stream_lengths=[1, 1])
    variance = 3 / 16 * math.log(3) ** 2  # of a value that is ln 3 with probability 3/4, else 0
    assert measured.mass.flatten().tolist() == pytest.approx([0.75, 0.25])
    assert measured.entropy.item() == pytest.approx(math.log(4) - 0.75 * math.log(3), abs=1e-6)
    assert measured.variance.item() == pytest.approx(variance, abs=1e-6)
    assert measured.slope.item() == pytest.approx(-variance, abs=1e-6)
    assert measured.log_sum_exp.item() == pytest.approx(math.log(4), abs=1e-6)


def test_a_single_key_leaves_no_entropy():
    measured = attention_measures(*pair(5, 1), stream_lengths=[1])
    assert measured.entropy.abs().max() == 0
    assert normalised_entropy(measured.entropy, measured.key_count).abs().max() == 0


@pytest.mark.parametrize(("queries", "keys"), [(192, 529), (64, 64), (1, 7), (257, 3)])
def test_measures_equal_the_dense_computation(queries, keys):
    query, key = pair(queries, keys)
    lengths = [keys // 3, keys - keys // 3]
    assert_equal_to_dense(attention_measures(query, key, stream_lengths=lengths), dense(query, key, lengths))


@pytest.mark.parametrize("limit", [1, 40, 1000, 100_000])
def test_the_size_of_a_tile_does_not_matter(monkeypatch, limit):
    monkeypatch.setitem(tiles._LOGITS_PER_TILE, "cpu", limit)
    query, key = pair(23, 37)
    assert_equal_to_dense(attention_measures(query, key, stream_lengths=[30, 7]), dense(query, key, [30, 7]))


MASKS = {
    "padded keys": torch.arange(40) < torch.tensor([[[[33]]], [[[40]]]]),
    "per query": torch.rand(2, 4, 30, 40, generator=torch.Generator().manual_seed(1)) < 0.5,
    "bias": torch.randn(1, 4, 30, 40, generator=torch.Generator().manual_seed(1)),
    "minus infinity": torch.where(torch.arange(40) < 33, 0.0, -math.inf).view(1, 1, 1, 40),
}


@pytest.mark.parametrize("name", MASKS)
def test_masks_equal_the_dense_computation(name):
    query, key = pair(30, 40)
    measured = attention_measures(query, key, stream_lengths=[10, 30], mask=MASKS[name])
    assert_equal_to_dense(measured, dense(query, key, [10, 30], MASKS[name]))


def test_the_most_negative_number_hides_a_key():
    query, key = pair(30, 40)
    hidden = torch.arange(40) >= 33
    measured = attention_measures(
        query, key, stream_lengths=[40], mask=torch.zeros(1, 1, 1, 40).masked_fill(hidden, torch.finfo().min)
    )
    assert_equal_to_dense(measured, dense(query, key, [40], ~hidden.view(1, 1, 1, 40)))


def test_a_query_that_may_look_at_nothing_has_no_measures():
    query, key = pair(2, 3, batch=1)
    measured = attention_measures(query, key, stream_lengths=[3], mask=torch.tensor([[False] * 3, [True] * 3]))
    assert measured.entropy[:, :, 0].isnan().all() and measured.entropy[:, :, 1].isfinite().all()
    assert measured.key_count[0, 0].tolist() == [0, 3]


def test_grouped_heads_equal_the_dense_computation():
    query, key = pair(20, 30, heads=6, key_heads=2)
    assert_equal_to_dense(attention_measures(query, key, stream_lengths=[30]), dense(query, key, [30]))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_measured_in_single_precision(dtype):
    query, key = pair(20, 30, dtype=dtype)
    measured = attention_measures(query, key, stream_lengths=[30])
    assert measured.entropy.dtype == torch.float32
    assert_equal_to_dense(measured, dense(query, key, [30]))


def test_autocast_does_not_reach_the_measures():
    query, key = pair(20, 30)
    with torch.autocast("cpu", torch.bfloat16):
        measured = attention_measures(query, key, stream_lengths=[30])
    assert_equal_to_dense(measured, dense(query, key, [30]))


def test_a_scale_of_the_callers_own():
    query, key = pair(20, 30)
    assert_equal_to_dense(
        attention_measures(query, key, stream_lengths=[30], scale=0.3), dense(query, key, [30], scale=0.3)
    )


def test_slope_is_the_derivative_of_the_entropy():
    query, key = pair(20, 30)
    step = 1e-4
    higher, lower = (dense(query, key, [30], gamma=1 + sign * step)["entropy"] for sign in (1, -1))
    slope = attention_measures(query, key, stream_lengths=[30]).slope
    torch.testing.assert_close(slope.double(), (higher - lower) / (2 * step), atol=1e-4, rtol=1e-4)  # differences


def test_slope_keeps_its_digits_where_logits_are_large_and_a_mask_adds_to_them():
    query, key = pair(16, 30, dtype=torch.bfloat16)
    shared = torch.zeros(24, dtype=torch.bfloat16)
    shared[0] = 120.0  # logits of thousands that all keys have in common
    query, key = query + shared, key + shared
    mask = torch.linspace(-1.0, 0.0, 30).expand(16, 30)
    measured = attention_measures(query, key, stream_lengths=[30], mask=mask).slope.double()
    expected = dense(query, key, [30], mask)["slope"]
    torch.testing.assert_close(
        measured, expected, atol=1e-3, rtol=0
    )  # 3e-4; summed against the energies as they are 1.3


def test_slope_at_a_gain_is_minus_gamma_times_the_variance_before_it():
    query, key = pair(20, 30)
    with_gain = attention_measures(query, 1.35 * key, stream_lengths=[30])
    before_gain = with_gain.variance / 1.35**2
    step = 1e-4
    higher, lower = (dense(query, key, [30], gamma=1.35 + sign * step)["entropy"] for sign in (1, -1))
    expected = (higher - lower) / (2 * step)
    torch.testing.assert_close(entropy_slope(before_gain, 1.35).double(), expected, atol=1e-4, rtol=1e-4)


def test_mean_energy_from_means_equals_the_mean_over_pairs():
    query, key = pair(20, 30)
    expected = attention_measures(query, key, stream_lengths=[30]).energy.mean(-1)
    torch.testing.assert_close(mean_energy(query, key), expected, atol=TOLERANCE, rtol=TOLERANCE)


def test_normalised_entropy_is_one_for_even_attention_over_the_visible_keys():
    query, key = torch.zeros(1, 1, 3, 4), torch.randn(1, 1, 10, 4)
    measured = attention_measures(query, key, stream_lengths=[10], mask=torch.arange(10) < 6)
    assert normalised_entropy(measured.entropy, measured.key_count).flatten().tolist() == pytest.approx([1.0] * 3)


def test_pooled_mass_is_the_mass_in_one_softmax_over_both():
    query, key = pair(20, 30)
    image, text = key.split([10, 20], 2)
    parts = [attention_measures(query, part, stream_lengths=[part.shape[2]]).log_sum_exp for part in (image, text)]
    together = attention_measures(query, key, stream_lengths=[10, 20]).mass
    torch.testing.assert_close(pooled_mass(torch.stack(parts)), together.movedim(-1, 0), atol=TOLERANCE, rtol=TOLERANCE)


def test_the_inputs_stay_as_they_are():
    query, key = pair(20, 30)
    copies = query.clone(), key.clone()
    attention_measures(query, key, stream_lengths=[30], mask=MASKS["padded keys"][..., :30])
    assert torch.equal(query, copies[0]) and torch.equal(key, copies[1])
