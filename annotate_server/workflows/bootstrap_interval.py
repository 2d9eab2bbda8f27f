"""Bootstrap intervals of means over cases, drawn by patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
SEED = 20260117
SHARE = 0.95


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 95 % percentile interval; with one patient all three are the same."""

    mean: float
    low: float
    high: float


class Bootstrap:
    """The same draws of patients for every figure of an evaluation.

    Patients, not cases, are drawn with replacement (a cluster bootstrap), because two cases of one patient say less
    than two of two. `patients` has an entry a row of the values given later. The seed is fixed: the same cases give the
    same interval.
    """

    def __init__(self, patients: Sequence[str], resamples: int = RESAMPLES) -> None:
        """Draw."""
        _, cluster = np.unique(np.array(patients), return_inverse=True)
        number = int(cluster.max()) + 1
        draws = np.random.default_rng(SEED).integers(number, size=(resamples, number))
        offsets = np.arange(resamples)[:, None] * number
        counts = np.bincount((draws + offsets).ravel(), minlength=resamples * number).reshape(resamples, number)
        self._weights = counts[:, cluster].astype(np.float64)

    def mean(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean of values (n,) and its interval; NaN is no value, one infinite value makes the mean so."""
        return self.mean_of_means(values[:, None])

    def mean_of_means(self, values: NDArray[np.float64]) -> Interval:
        """Return the mean over columns of the mean over rows of values (n, m); NaN is no value.

        A column without a value, in all or in one draw, is left out of the mean there.
        """
        everything = np.ones((1, len(values)))
        return _interval(_means(everything, values), _means(self._weights, values))

    def difference(self, values: NDArray[np.float64], is_later: NDArray[np.bool_]) -> Interval:
        """Return the mean of later values (n,) less that of earlier ones, and its interval; both are drawn together."""
        later, earlier = np.where(is_later, values, np.nan), np.where(is_later, np.nan, values)
        everything = np.ones((1, len(values)))
        whole = _means(everything, later[:, None]) - _means(everything, earlier[:, None])
        return _interval(whole, _means(self._weights, later[:, None]) - _means(self._weights, earlier[:, None]))

    def ratio(self, numerators: NDArray[np.float64], denominators: NDArray[np.float64]) -> Interval:
        """Return the ratio of two sums over values (n,) and its interval; NaN where the denominator is 0."""
        with np.errstate(divide="ignore", invalid="ignore"):
            whole = np.array([numerators.sum()]) / denominators.sum()
            drawn = (self._weights @ numerators) / (self._weights @ denominators)
        return _interval(whole, drawn)


def _means(weights: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return for each row of weights (r, n) the mean over columns of the weighted mean of values (n, m)."""
    finite = np.where(np.isfinite(values), values, 0.0)
    counts = weights @ (~np.isnan(values)).astype(np.float64)
    sums = weights @ finite
    sums[(weights @ np.isinf(values).astype(np.float64)) > 0] = np.inf
    scored = counts > 0
    means = np.divide(sums, counts, out=np.zeros_like(sums), where=scored)
    columns = scored.sum(axis=1)
    result: NDArray[np.float64] = np.full(len(weights), np.nan)
    np.divide(means.sum(axis=1), columns, out=result, where=columns > 0)
    return result


def _interval(whole: NDArray[np.float64], drawn: NDArray[np.float64]) -> Interval:
    """Return the percentile interval; without interpolation, which infinite values would not survive."""
    usable = drawn[~np.isnan(drawn)]
    if usable.size == 0:
        return Interval(float(whole[0]), float("nan"), float("nan"))
    tail = (1.0 - SHARE) / 2
    low, high = np.quantile(usable, [tail, 1.0 - tail], method="inverted_cdf")
    # Equal values may sum to a last digit more or less in a draw; the mean lies within its interval all the same.
    return Interval(float(whole[0]), min(float(low), float(whole[0])), max(float(high), float(whole[0])))
