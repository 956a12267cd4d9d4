"""Sampling until enough fits: what is kept, what counts as new, when the search ends and what it consumes."""

import itertools

import numpy as np
import pytest

from maxrl_lab.sampling import sample_enough


def even(numbers):
    return [number if number % 2 == 0 else None for number in numbers]


class TestItems:
    def test_the_first_that_fit_in_their_order(self):
        assert sample_enough(lambda _: even([3, 8, 5, 2, 4]), 2) == [8, 2]

    def test_repeats_stay_without_a_key_and_go_with_one(self):
        assert sample_enough(lambda _: [1, 1, 2], 3) == [1, 1, 2]
        assert sample_enough(lambda _: [1, 1, 2], 2, key=lambda number: number) == [1, 2]
        assert sample_enough(lambda _: [1, -1, 2], 2, key=abs) == [1, 2]

    def test_each_sample_is_told_how_many_are_missing(self):
        asked = []

        def sample(missing):
            asked.append(missing)
            return [None, "found"] if missing > 1 else ["last"]

        assert sample_enough(sample, 3) == ["found", "found", "last"]
        assert asked == [3, 2, 1]

    def test_no_item_needs_no_sample(self):
        assert sample_enough(lambda _: pytest.fail("not needed"), 0) == []

    def test_items_that_count_as_false_are_items(self):
        assert sample_enough(lambda _: [0, "", None], 2) == [0, ""]

    def test_a_lazy_sample_is_read_no_further_than_needed(self):
        numbers = itertools.count()
        assert sample_enough(lambda _: numbers, 3) == [0, 1, 2]
        assert next(numbers) == 3


class TestTheEnd:
    def test_of_the_candidates(self):
        stream = iter([4, 1, 6])
        assert sample_enough(lambda _: even(stream), 5) == [4, 6]

    @pytest.mark.parametrize(("misses", "found"), [(6, 2), (7, 1)])
    def test_of_the_patience_is_exact(self, misses, found):
        stream = itertools.chain([8], [1] * misses, [2], itertools.repeat(1))
        assert len(sample_enough(lambda _: even([next(stream)]), 3, patience=7)) == found

    def test_the_patience_counts_over_samples_and_starts_anew_with_each_item(self):
        stream = itertools.chain([1] * 5, [2], [1] * 5, [2], itertools.repeat(1))
        assert sample_enough(lambda _: even(itertools.islice(stream, 3)), 3, patience=6) == [2, 2]
        assert next(stream) == 1

    def test_seen_keys_try_the_patience(self):
        assert sample_enough(lambda _: [7], 2, patience=3, key=lambda number: number) == [7]

    def test_the_last_of_many_equally_likely_items_is_waited_for(self):
        # 400 items, patience 10: without 50 candidates for each item found, the search would end at about 390 of them.
        # With them, an item is overlooked with probability 400 e^-50.
        random = np.random.default_rng(0)
        found = sample_enough(
            lambda missing: random.integers(400, size=missing).tolist(), 400, patience=10, key=lambda number: number
        )
        assert sorted(found) == list(range(400))
        tried = 0

        def count_tries(missing):
            nonlocal tried
            tried += 1
            return [3]

        sample_enough(count_tries, 2, patience=10, key=lambda number: number)
        assert tried == 1 + 50  # and no longer: 50 candidates after the only item
