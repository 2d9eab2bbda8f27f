import numpy as np
import pytest

from annotate_server.workflows.bootstrap_interval import Bootstrap


def test_the_interval_of_a_mean_is_that_of_the_normal_law() -> None:
    values = np.random.default_rng(1).normal(10.0, 2.0, size=400)
    interval = Bootstrap([str(n) for n in range(400)]).mean(values)
    half = 1.96 * values.std() / np.sqrt(400)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.low == pytest.approx(values.mean() - half, abs=0.15 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.15 * half)


def test_the_same_cases_give_the_same_interval() -> None:
    values = np.random.default_rng(2).normal(size=9)
    names = [str(n) for n in range(9)]
    assert Bootstrap(names).mean(values) == Bootstrap(names).mean(values)


def test_patients_are_drawn_and_not_cases() -> None:
    by_patient = np.random.default_rng(3).normal(size=12)
    values, patients = np.repeat(by_patient, 10), np.repeat(np.arange(12), 10).astype(str)
    clustered = Bootstrap(list(patients)).mean(values)
    alone = Bootstrap([str(n) for n in range(12)]).mean(by_patient)
    single = Bootstrap([str(n) for n in range(120)]).mean(values)
    assert clustered.high - clustered.low == pytest.approx(alone.high - alone.low, rel=0.15)
    assert clustered.high - clustered.low > 2 * (single.high - single.low)


def test_a_missing_value_is_no_value() -> None:
    bootstrap = Bootstrap(["a", "b", "c"])
    interval = bootstrap.mean(np.array([1.0, np.nan, 3.0]))
    assert interval.mean == 2.0
    assert 1.0 <= interval.low <= interval.high <= 3.0
    assert np.isnan(bootstrap.mean(np.full(3, np.nan)).mean)


def test_an_infinite_value_makes_the_mean_infinite() -> None:
    interval = Bootstrap(["a", "b", "c"]).mean(np.array([1.0, np.inf, 3.0]))
    assert interval.mean == np.inf
    assert interval.high == np.inf
    assert 1.0 <= interval.low <= 3.0


def test_the_mean_of_means_gives_every_column_the_same_weight() -> None:
    table = np.array([[1.0, 0.0], [1.0, np.nan], [1.0, np.nan]])
    assert Bootstrap(["a", "b", "c"]).mean_of_means(table).mean == 0.5


def test_one_patient_has_an_interval_of_no_width() -> None:
    interval = Bootstrap(["a", "a"]).mean(np.array([1.0, 2.0]))
    assert (interval.low, interval.mean, interval.high) == (1.5, 1.5, 1.5)


def test_a_ratio_is_that_of_the_sums() -> None:
    interval = Bootstrap(["a", "b"]).ratio(np.array([1.0, 5.0]), np.array([10.0, 10.0]))
    assert interval.mean == pytest.approx(0.3)
    assert (interval.low, interval.high) == pytest.approx((0.1, 0.5))
    assert np.isnan(Bootstrap(["a"]).ratio(np.zeros(1), np.zeros(1)).mean)


def test_equal_values_have_an_interval_of_no_width() -> None:
    interval = Bootstrap([str(n) for n in range(7)]).mean(np.full(7, 0.9))
    assert interval.low <= interval.mean <= interval.high
    assert interval.high - interval.low < 1e-12
