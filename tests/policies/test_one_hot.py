"""One-hot inputs: a hand table, values never seen in training, features that do not fit."""

import torch

from maxrl_lab.policies.one_hot import OneHot


class TestOneHot:
    FEATURES = torch.tensor([[3, 0, 7], [3, 1, 9], [3, 1, 8]], dtype=torch.uint8)

    def test_one_hot_by_hand(self):
        # Column 0 does not vary; column 1 has the values 0, 1 and column 2 the values 7, 8, 9.
        encoded = OneHot(self.FEATURES)(self.FEATURES)
        assert encoded.dtype == torch.float32
        assert encoded.tolist() == [[1, 0, 1, 0, 0], [0, 1, 0, 0, 1], [0, 1, 0, 1, 0]]

    def test_unknown_values_turn_nothing_on(self):
        held_out = torch.tensor([[4, 2, 8], [3, 0, 200]], dtype=torch.uint8)
        assert OneHot(self.FEATURES)(held_out).tolist() == [[0, 0, 0, 1, 0], [1, 0, 0, 0, 0]]

    def test_different_rows_stay_different(self):
        features = torch.randint(5, (200, 6), generator=torch.Generator().manual_seed(0)).unique(dim=0)
        assert len(OneHot(features)(features).unique(dim=0)) == len(features)

    def test_features_that_do_not_fit_are_refused(self, refuses):
        encoder = OneHot(self.FEATURES)
        with refuses("features must have shape (O, 3), got (2, 4)"):
            encoder(torch.zeros(2, 4, dtype=torch.uint8))
        with refuses("features must be integers of shape (O, F), got torch.float32 (2, 4)"):
            OneHot(torch.zeros(2, 4))
        with refuses("features must be integers of shape (O, F), got torch.uint8 (4,)"):
            OneHot(torch.zeros(4, dtype=torch.uint8))
        with refuses("expected features of which a column varies, got 2 equal rows"):
            OneHot(torch.zeros(2, 4, dtype=torch.uint8))
