"""A deck is a permutation, its inverse undoes it, and its cards are drawn fairly."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from viscy_data._random.hash import derive, epoch_key
from viscy_data._random.permutation import SMALL, Decks

KEY = epoch_key(0, 0)
FALSE_ALARM = 1e-6


def whole_deck(size, key=KEY):
    return Decks.keyed(np.full(size, size), np.repeat(key, size)).card(np.arange(size))


@given(st.integers(1, 5000), st.integers(0, 2**64 - 1))
def test_every_card_lies_at_one_place(size, word):
    assert sorted(whole_deck(size, np.array([word], np.uint64)).tolist()) == list(range(size))


@given(st.lists(st.integers(1, 2**31 - 1), min_size=1, max_size=50), st.integers(0, 1000))
def test_place_undoes_card(sizes, salt):
    decks = Decks.keyed(np.array(sizes), derive(KEY, salt, np.arange(len(sizes))))
    places = np.array(sizes) * 2 // 3
    cards = decks.card(places)
    assert (cards < np.array(sizes)).all()
    assert (decks.place(cards) == places).all()


def test_decks_side_by_side_are_what_each_is_alone():
    sizes = np.array([1, 5, SMALL, SMALL + 1, 100_000])
    keys = derive(KEY, np.arange(5))
    together = Decks.keyed(sizes, keys).card(sizes - 1)
    alone = [Decks.keyed(sizes[i : i + 1], keys[i : i + 1]).card(sizes[i : i + 1] - 1)[0] for i in range(5)]
    assert together.tolist() == alone


def test_repeating_a_deck_gives_its_cards_in_a_row():
    decks = Decks.keyed(np.array([300, 4]), derive(KEY, np.arange(2)))
    cards = decks.repeat(np.array([300, 4])).card(np.r_[0:300, 0:4])
    assert sorted(cards[:300].tolist()) == list(range(300))
    assert sorted(cards[300:].tolist()) == list(range(4))


@pytest.mark.parametrize("size", [2, 3, 4, 7, 16, 50, SMALL, SMALL + 1, 300])
def test_pairs_of_cards_are_uniform(size):
    """Chi-square over the ordered pairs at two places in 200,000 decks; false alarm 1e-6 a size and pair of places."""
    n = 200_000
    decks = Decks.keyed(np.full(n, size), derive(KEY, size, np.arange(n)))
    for places in [(0, 1), (0, size - 1)]:
        first, second = (decks.card(np.full(n, place)).astype(np.int64) for place in places)
        count = np.bincount(first * size + second, minlength=size * size)[~np.eye(size, dtype=bool).ravel()]
        assert stats.chisquare(count).pvalue > FALSE_ALARM / 18


def test_a_hand_of_cards_spreads_like_a_random_subset():
    """Variance of how many of 64 cards of 20,000 are of a tenth of the deck: hypergeometric, within 5 of its errors."""
    n, size, hand = 20_000, 20_000, 64
    decks = Decks.keyed(np.full(n, size), derive(KEY, 9, np.arange(n))).repeat(np.full(n, hand))
    cards = decks.card(np.tile(np.arange(hand), n)).reshape(n, hand)
    tenth = (cards < size // 10).sum(axis=1)
    expected = stats.hypergeom(size, size // 10, hand)
    assert tenth.mean() == pytest.approx(expected.mean(), abs=5 * expected.std() / np.sqrt(n))
    assert tenth.var() == pytest.approx(expected.var(), rel=5 * np.sqrt(2 / n))
