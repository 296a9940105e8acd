"""The results of the API benchmark."""

from bench import api
from bench.load import Measured


def rounds(*rates: float) -> list[Measured]:
    return [Measured(rate, p50=1.0, p99=2.0, cpu_microseconds=100.0, answers=100) for rate in rates]


def test_a_ratio_compares_within_one_round() -> None:
    results = {api.BASE: rounds(100, 200, 50), api.OURS: rounds(300, 800, 250)}
    assert api.ratios(results, api.OURS) == [3.0, 4.0, 5.0]
    assert api.as_json(results)["targets"][api.OURS] == {
        "ratio": 4.0, "ratios": [3.0, 4.0, 5.0], "rates": [300, 800, 250],
    }  # fmt: skip
    assert api.table(results).splitlines()[2].split() == [
        "Ringback,", "{", "__typename", "}", "300", "1.0", "2.0", "100", "4.00", "3.00", "to", "5.00",
    ]  # fmt: skip
