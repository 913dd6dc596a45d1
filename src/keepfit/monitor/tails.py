"""Tail probabilities as logarithms, in numpy alone, exact far out: beta-binomial counts, means of scores, the gamma law."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
_TERMS = 600


def log_gamma(x: ArrayLike) -> Floats:
    """log Gamma for positive float64 of any shape: Stirling's series after a shift by eight; error under 1e-10."""
    given = np.asarray(x, np.float64)
    moved = given + 8.0
    product = np.ones_like(given)
    for step in range(8):
        product = product * (given + step)
    inverse = 1.0 / moved
    series = inverse / 12 - inverse**3 / 360 + inverse**5 / 1260 - inverse**7 / 1680
    out: Floats = (moved - 0.5) * np.log(moved) - moved + 0.5 * math.log(2 * math.pi) + series - np.log(product)
    return out


def log_normal_tail(z: ArrayLike) -> Floats:
    """log P(Z >= z): the Chebyshev fit of erfc, Numerical Recipes; relative error of the probability 1.2e-7."""
    given = np.asarray(z, np.float64)
    x = np.abs(given) / math.sqrt(2)
    t = 1.0 / (1.0 + 0.5 * x)
    poly = np.full_like(t, 0.17087277)
    for c in (-0.82215223, 1.48851587, -1.13520398, 0.27886807, -0.18628806, 0.09678418, 0.37409196, 1.00002368):
        poly = poly * t + c
    upper = np.log(t) - x * x - 1.26551223 + poly * t - math.log(2)
    return np.where(given >= 0, upper, np.log1p(-np.exp(np.minimum(upper, -1e-12))))


def log_count_tail(k: ArrayLike, n: ArrayLike, a: ArrayLike, b: ArrayLike) -> Floats:
    """log of the two-sided probability of a count as far out as `k` of `n` where the reference is Beta(a, b).

    All [m], broadcast. The beta-binomial law is exact for order statistics of a continuous reference, and takes the
    reference's finite size into account. Tails are sums of terms from `k` outward, never differences from one.
    """
    k, n, a, b = (np.asarray(v, np.float64).ravel() for v in np.broadcast_arrays(k, n, a, b))
    upper = k * (a + b) >= n * a
    k, a, b = np.where(upper, k, n - k), np.where(upper, a, b), np.where(upper, b, a)
    log_pmf = (
        log_gamma(n + 1)
        - log_gamma(k + 1)
        - log_gamma(n - k + 1)
        + log_gamma(k + a)
        + log_gamma(n - k + b)
        - log_gamma(n + a + b)
        - log_gamma(a)
        - log_gamma(b)
        + log_gamma(a + b)
    )
    total, term, j = np.ones_like(k), np.ones_like(k), k.copy()
    for step in range(_TERMS):
        left = np.maximum(n - j, 0.0)
        term = term * (left * (a + j)) / ((j + 1) * np.maximum(left - 1 + b, 1e-9))
        total += term
        j += 1
        if step % 8 == 7 and np.all(term < 1e-4 * total):
            break
    return np.minimum(log_pmf + np.log(total) + math.log(2), 0.0)


def log_mean_tail(mean: Floats, n: Floats, shares: Floats, scores: Floats) -> Floats:
    """log of the two-sided probability of a mean of bounded scores, by the saddlepoint formula of Lugannani and Rice.

    `mean` [m] of `n` [m] draws from `scores` [m, k] with probabilities `shares` [m, k], rows padded with shares of zero.
    """
    t = np.zeros_like(mean)
    with np.errstate(all="ignore"):
        for _ in range(30):
            first, second, log_mgf = _tilted(t, shares, scores)
            move = np.clip((mean - first) / np.maximum(second, 1e-12), -4.0, 4.0)
            t = np.clip(t + move, -200.0, 200.0)
            if np.all(np.abs(move) < 1e-6 * (1 + np.abs(t))):
                break
        first, second, log_mgf = _tilted(t, shares, scores)
        r = np.sqrt(np.maximum(2 * n * (t * mean - log_mgf), 0.0))
        u = np.abs(t) * np.sqrt(n * np.maximum(second, 1e-12))
        corrected = r + np.log(np.maximum(u, 1e-12) / np.maximum(r, 1e-12)) / np.maximum(r, 1e-12)
    z = np.where(r < 0.2, r, np.maximum(corrected, 0.0))
    return np.minimum(log_normal_tail(z) + math.log(2), 0.0)


def _tilted(t: Floats, shares: Floats, scores: Floats) -> tuple[Floats, Floats, Floats]:
    raised = t[:, None] * scores
    top = raised.max(1, keepdims=True)
    weight = shares * np.exp(raised - top)
    total = weight.sum(1)
    first = (weight * scores).sum(1) / total
    second = (weight * scores**2).sum(1) / total - first**2
    return first, second, np.log(total) + top[:, 0]


def log_gamma_tail(x: float, shape: float, scale: float) -> float:
    """log P(X >= x) for a gamma law; the continued fraction of Lentz, or the series near zero."""
    y = x / scale
    if y <= 0 or shape <= 0:
        return 0.0
    front = shape * math.log(y) - y - math.lgamma(shape)
    if y < shape + 1:
        term = total = 1.0 / shape
        for k in range(1, 1000):
            term *= y / (shape + k)
            total += term
            if term < 1e-12 * total:
                break
        return math.log(max(1.0 - math.exp(front) * total, 1e-300))
    b, c = y + 1 - shape, 1e300
    d = h = 1.0 / b
    for k in range(1, 1000):
        a = -k * (k - shape)
        b += 2
        d = 1.0 / (a * d + b)
        c = b + a / c
        h *= d * c
        if abs(d * c - 1) < 1e-12:
            break
    return front + math.log(h)
