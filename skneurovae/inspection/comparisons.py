"""Figure of a comparison of models."""

from __future__ import annotations

import numpy as np

GRAY, DARK = "0.6", "0.1"


def plot_comparison(comparison, *, labels=None, axes=None):
    """Draw the scores of a comparison; see `Comparison.plot`.

    Parameters
    ----------
    comparison : Comparison
    labels : dict of str to str, default=None
        Axis label of each scorer, with its unit; by default the name of the scorer.
    axes : array of matplotlib Axes, default=None
        One per scorer.

    Returns
    -------
    figure : matplotlib.figure.Figure
        One panel per scorer: open circles are units (means over folds and seeds), thin lines join a
        unit's models, a bar is the mean over units with its 95 % bootstrap interval, a dotted tick
        the mean null. Nothing is told by color alone.

    Raises
    ------
    ImportError
        Without matplotlib.
    """
    try:
        import matplotlib.pyplot as plt
    except ImportError as error:
        raise ImportError("plot needs matplotlib: pip install 'skneurovae[plot]'") from error
    models, scorers = comparison.models, comparison.scorers
    if axes is None:
        size = (1.5 + 3.5 * len(scorers), 1.2 + 0.45 * len(models))
        _, axes = plt.subplots(
            1, len(scorers), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
    axes = np.ravel(axes)
    places = -np.arange(len(models))
    for axis, scorer in zip(axes, scorers):
        scores = [comparison.unit_scores(model, scorer) for model in models]
        units = list(dict.fromkeys(unit for s in scores for unit in s))
        table = np.array([[s.get(unit, np.nan) for unit in units] for s in scores])
        axis.axvline(0, color="0.85", lw=1, zorder=0)
        axis.plot(table, places, color="0.8", lw=0.8, zorder=1)
        for place, row, model in zip(places, table, models):
            axis.plot(row, np.full(len(row), place), "o", ms=5, color=GRAY, mfc="none", zorder=2)
            if np.isnan(row).any():
                axis.annotate("failed", (0, place), color=DARK, ha="left", va="bottom")
                continue
            low, high = _interval(row)
            axis.plot([low, high], [place, place], color=DARK, lw=2.5, zorder=3)
            axis.plot(row.mean(), place, "|", color=DARK, ms=14, mew=2, zorder=3)
            null = list(comparison.unit_scores(model, scorer, "null").values())
            if not np.isnan(null).any():
                axis.plot(np.mean(null), place, "x", color=DARK, ms=5, zorder=3)
        axis.set_xlabel((labels or {}).get(scorer, scorer))
        axis.set_yticks(places, models)
        axis.set_ylim(-len(models) + 0.4, 0.6)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    axes[0].figure.text(
        0.99, 0.005, "circle: unit   line: same unit   bar: mean, 95 % interval   x: null",
        ha="right", va="bottom", fontsize=7, color=DARK,
    )  # fmt: skip
    return axes[0].figure


def _interval(values, n_resamples=2000):
    """Percentile bootstrap interval of a mean; the mean twice where there is one value."""
    rng = np.random.default_rng(0)
    means = rng.choice(values, (n_resamples, len(values))).mean(1)
    return np.percentile(means, [2.5, 97.5])
