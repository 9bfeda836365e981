"""Figure of a comparison of models."""

from __future__ import annotations

import numpy as np

GRAY, DARK = "0.6", "0.1"
KEY = (
    "circle: unit   line: same unit   dot: one fit   bar: mean, 95 % interval   cross: null   "
    "triangle: linear baseline"
)


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
        One panel per scorer: open circles are units (means over folds and seeds, which are dots
        where there are several), thin lines join a unit's models, a bar is the mean over units with
        its 95 % bootstrap interval, a cross the mean null and a triangle the linear baseline.
        Nothing is told by color.

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
        figure, axes = plt.subplots(
            1, len(scorers), figsize=size, sharey=True, squeeze=False, layout="constrained"
        )
        figure.supxlabel(KEY, fontsize=7)
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
            fits = [r["score"] for r in comparison.records
                    if (r["model"], r["scorer"]) == (model, scorer)]  # fmt: skip
            if len(fits) > len(row):  # several folds or seeds of a unit
                axis.plot(fits, np.full(len(fits), place - 0.2), ".", ms=3, color=GRAY, zorder=2)
            if np.isnan(row).any():
                axis.annotate("failed", (0, place), color=DARK, ha="left", va="bottom")
                continue
            if len(row) > 1:
                axis.plot(
                    comparison.interval(model, scorer), [place, place], color=DARK, lw=2.5, zorder=3
                )
            axis.plot(row.mean(), place, "|", color=DARK, ms=14, mew=2, zorder=3)
            for name, marker in (("null", "x"), ("baseline", "^")):
                values = list(comparison.unit_scores(model, scorer, name).values())
                if not np.isnan(values).any():
                    axis.plot(np.mean(values), place, marker, color=DARK, ms=4, zorder=3)
        axis.set_xlabel((labels or {}).get(scorer, scorer))
        axis.set_yticks(places, models)
        axis.set_ylim(-len(models) + 0.4, 0.6)
        for side in ("top", "right"):
            axis.spines[side].set_visible(False)
    return axes[0].figure
