"""Statistics of answers: agreement between participants, and intervals that respect participants and pairs."""

import numpy as np

RESAMPLES = 2000
QUANTILES = (0.025, 0.975)


def fleiss_kappa(counts: np.ndarray) -> float:
    """Fleiss' kappa (Fleiss 1971) of n questions with k answers: 1 is full agreement, 0 that of chance.

    Args:
        counts: (n, k), how many participants gave each answer. Questions may have different numbers of participants;
            those with fewer than two are left out.
    Returns:
        NaN where all answers are equal, or no question has two.
    """
    counts = counts[counts.sum(axis=1) >= 2].astype(float)
    raters = counts.sum(axis=1)
    if len(counts) == 0:
        return float("nan")
    observed = float(((counts * (counts - 1)).sum(axis=1) / (raters * (raters - 1))).mean())
    chance = float(np.square(counts.sum(axis=0) / counts.sum()).sum())
    return float("nan") if chance == 1 else (observed - chance) / (1 - chance)


def share(values: np.ndarray, participants: np.ndarray, pairs: np.ndarray, seed: int = 0) -> tuple[float, float, float]:
    """The mean of n answers (0 or 1) with its 95 % interval: value, low, high.

    Participants and pairs are resampled independently, and an answer counts as often as both are drawn (the pigeonhole
    bootstrap, Owen 2007): answers of one participant, and answers about one pair, depend on each other.

    Args:
        values, participants, pairs: (n,) each; who answered, and about which pair.
    """
    who, which = (np.unique(ids, return_inverse=True)[1] for ids in (participants, pairs))
    rng = np.random.default_rng(seed)
    weights = np.ones((RESAMPLES, len(values)))
    for ids in (who, which):
        n = ids.max() + 1
        weights *= rng.multinomial(n, np.full(n, 1 / n), size=RESAMPLES)[:, ids]
    total = weights.sum(axis=1)
    means = (weights @ values)[total > 0] / total[total > 0]
    low, high = np.quantile(means, QUANTILES)
    return float(values.mean()), float(low), float(high)
