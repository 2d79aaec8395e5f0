"""Compressors that know the training text, on texts whose cost is known."""

import numpy as np

from mdlm_jax.evaluation.compress import bits_per_byte

RNG = np.random.default_rng(0)


def test_what_was_there_before_costs_almost_nothing_and_noise_costs_all_of_it():
    train = RNG.bytes(40_000)
    copied, noise = bits_per_byte(train, train), bits_per_byte(train, RNG.bytes(40_000))
    assert copied.keys() == noise.keys() == {"bz2", "xz"}
    assert copied["xz"] < 0.2 and copied["bz2"] < 2  # bzip2 tells each copy where it stands in the other
    for name in noise:
        assert 7.9 < noise[name] < 8.3, name


def test_two_letters_cost_a_bit_and_their_order_what_it_tells():
    letters = RNG.choice([b"a", b"b"], 200_000)
    text = b"".join(letters)
    for name, bits in bits_per_byte(text[:100_000], text[100_000:]).items():
        assert 1 <= bits < 1.4, name


def test_bz2_forgets_what_is_further_back_than_its_block():
    train = RNG.bytes(950_000)
    found = bits_per_byte(train, train[:20_000])
    assert found["xz"] < 0.3 and found["bz2"] > 7.9
