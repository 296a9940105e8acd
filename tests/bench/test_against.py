"""The results of a comparison of two commits."""

from bench.against import Ratios, table


def test_a_ratio_is_of_its_own_pair() -> None:
    rates = Ratios("first", "events/s", new=[30.0, 40.0, 50.0], old=[10.0, 20.0, 50.0])
    assert rates.ratios == [3.0, 2.0, 1.0]
    assert table([rates]) == "first: events/s: new 40, old 20, new/old 2.00 [3.00 2.00 1.00]"
