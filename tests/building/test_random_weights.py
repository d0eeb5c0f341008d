"""Weights generated from a seed: bit-identical everywhere, in useful ranges."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from pomona.building.random_weights import seeded_weights
from pomona.errors import EncoderError

SMALL_NETWORK = [
    ("stem/kernel", (3, 3, 3, 8)),
    ("stem_bn/gamma", (8,)),
    ("stem_bn/beta", (8,)),
    ("stem_bn/moving_mean", (8,)),
    ("stem_bn/moving_variance", (8,)),
    ("depthwise/kernel", (3, 3, 8, 1)),
    ("separable/depthwise_kernel", (3, 3, 8, 1)),
    ("separable/pointwise_kernel", (1, 1, 8, 4)),
    ("top/kernel", (4, 2)),
    ("top/bias", (2,)),
]


def digest(arrays: list[np.ndarray]) -> str:
    return hashlib.sha256(b"".join(a.astype("<f4").tobytes() for a in arrays)).hexdigest()


def drawn(name: str, *shape: int) -> np.ndarray:
    (weight,) = seeded_weights([(name, shape)], 0)
    return weight


def test_weights_have_the_requested_order_and_shape_in_float32() -> None:
    weights = seeded_weights(SMALL_NETWORK, 0)
    assert [w.shape for w in weights] == [shape for _, shape in SMALL_NETWORK]
    assert {w.dtype for w in weights} == {np.dtype(np.float32)}


@pytest.mark.parametrize(
    ("seed", "expected"),
    [
        (0, "15c6658c6ea7f3cf743d7a93bf9852e30d0c45f3aed7c88780586c0408283925"),
        (7, "9a45316ff4a1bac1f75795688e798e2a2ac00297ab030e64cc3fd72a3e9e5f8b"),
        (2**32 - 1, "5e27fd16ce643031f6b691b3a2d5b5da60fcd7d5c87a4e6915b774aa641fa2c0"),
    ],
)
def test_a_seed_always_gives_these_bits(seed: int, expected: str) -> None:
    # Fingerprints of encoders depend on these digests: if this fails, fix the code, not the digest.
    assert digest(seeded_weights(SMALL_NETWORK, seed)) == expected


def test_a_different_seed_changes_every_weight() -> None:
    for one, other in zip(
        seeded_weights(SMALL_NETWORK, 0), seeded_weights(SMALL_NETWORK, 1), strict=True
    ):
        assert not np.any(one == other)


def test_generating_weights_does_not_touch_numpys_global_random_state() -> None:
    np.random.seed(3)
    expected = np.random.random_sample()
    np.random.seed(3)
    seeded_weights(SMALL_NETWORK, 0)
    assert np.random.random_sample() == expected


@pytest.mark.parametrize(
    ("name", "shape", "fan_in"),
    [
        ("conv/kernel", (3, 3, 64, 96), 3 * 3 * 64),
        ("project/kernel", (1, 1, 192, 64), 192),
        ("dense/kernel", (400, 100), 400),
        ("depthwise/kernel", (3, 3, 5000, 1), 3 * 3),
        ("separable/depthwise_kernel", (3, 3, 5000, 1), 3 * 3),
        ("separable/pointwise_kernel", (1, 1, 200, 200), 200),
        ("grouped_depthwise/kernel", (7, 7, 1, 1000), 7 * 7),
    ],
)
def test_kernels_have_variance_two_over_fan_in(
    name: str, shape: tuple[int, ...], fan_in: int
) -> None:
    kernel = drawn(name, *shape)
    assert kernel.var() == pytest.approx(2 / fan_in, rel=0.03)
    assert abs(kernel.mean()) < 0.02 * kernel.std()


@pytest.mark.parametrize(
    ("kind", "low", "high"),
    [
        ("gamma", 0.8, 1.2),
        ("beta", -0.1, 0.1),
        ("bias", -0.1, 0.1),
        ("moving_mean", -0.1, 0.1),
        ("moving_variance", 0.8, 1.2),
    ],
)
def test_vectors_fill_their_range(kind: str, low: float, high: float) -> None:
    vector = drawn(f"layer/{kind}", 10_000)
    assert vector.min() == pytest.approx(low, abs=1e-3)
    assert vector.max() == pytest.approx(high, abs=1e-3)
    assert vector.mean() == pytest.approx((low + high) / 2, abs=0.01)


def test_a_weight_is_identified_by_the_last_part_of_its_path() -> None:
    bare = drawn("kernel", 3, 3, 8, 16)
    assert np.array_equal(bare, drawn("a_layer/of/some_bias/kernel", 3, 3, 8, 16))


@pytest.mark.parametrize("seed", [-1, 2**32, 1.0, "7", True, None])
def test_a_seed_out_of_range_is_refused_and_named(seed: object) -> None:
    with pytest.raises(EncoderError, match=r"whole number from 0 to 4294967295") as caught:
        seeded_weights(SMALL_NETWORK, seed)  # type: ignore[arg-type]
    assert repr(seed) in str(caught.value)


def test_an_unknown_kind_of_weight_is_refused_by_name() -> None:
    with pytest.raises(EncoderError, match=r"'norm/count'.*give a weights file"):
        seeded_weights([("norm/count", ())], 0)
