"""What `compare_models` returns: scores of all cells, summaries, paired differences, a figure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from scipy.stats import bootstrap, permutation_test


@dataclass(repr=False)
class Comparison:
    """Scores of models on the same folds.

    Parameters
    ----------
    records : list of dict
        One per model, fold, seed, scorer and independent unit: "score", "null", "baseline",
        "n_effective" (the last three only with controls), "fit_seconds", "score_seconds",
        "peak_memory_mb" (of the fit), "warnings" and "error", which is None where all went well.
        "null_error" says why a score has no null.
    leaks : list of Leak
        What was found and not refused.
    baseline_errors : list of str
        Why some scores have no linear baseline.
    tested : str
        What the folds ask: new recordings of known sessions, new sessions, or both; "" where
        recordings have no sessions, or only one.
    """

    records: list
    leaks: list
    baseline_errors: list = field(default_factory=list)
    tested: str = ""

    @property
    def models(self):
        """Names of the models, in the order in which they were given."""
        return list(dict.fromkeys(r["model"] for r in self.records))

    @property
    def scorers(self):
        """Names of the scorers."""
        return list(dict.fromkeys(r["scorer"] for r in self.records))

    @property
    def errors(self):
        """Records of cells that failed."""
        return [r for r in self.records if r["error"] is not None]

    def to_frame(self):
        """The records as a table.

        Returns
        -------
        pandas.DataFrame

        Raises
        ------
        ImportError
            Without pandas.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise ImportError("to_frame needs pandas: pip install 'skneurovae[frames]'") from error
        return pd.DataFrame(self.records)

    def unit_scores(self, model, scorer, field="score"):
        """Mean over folds and seeds for each independent unit.

        Parameters
        ----------
        model, scorer : str
        field : str, default="score"
            Or "null", "baseline", "n_effective", "fit_seconds" and so on.

        Returns
        -------
        dict
            Value by unit; NaN where a cell of the unit failed.
        """
        values = {}
        for r in self.records:
            if r["model"] == model and r["scorer"] == scorer:
                values.setdefault(r["unit"], []).append(r.get(field, np.nan))
        return {unit: float(np.mean(v)) for unit, v in values.items()}

    def interval(self, model, scorer, confidence=0.95):
        """Percentile bootstrap interval of the mean over units.

        Parameters
        ----------
        model, scorer : str
        confidence : float, default=0.95

        Returns
        -------
        low, high : float
        """
        return bootstrap_interval(list(self.unit_scores(model, scorer).values()), confidence)

    def summary(self):
        """Mean and spread over units for each scorer and model.

        Returns
        -------
        rows : list of dict
            "scorer", "model", "score" (mean over units), "spread" (standard deviation over units),
            "null", "baseline", "n_effective" (sum over units), "n_units", "n_failed" (cells),
            "fit_seconds" (median), "peak_memory_mb" (largest). A model of which any cell failed has
            no mean: its score is NaN.
        """
        return [self._summary(scorer, model) for scorer in self.scorers for model in self.models]

    def _summary(self, scorer, model):
        rows = [r for r in self.records if r["model"] == model and r["scorer"] == scorer]
        scores = np.array(list(self.unit_scores(model, scorer).values()))
        row = {"scorer": scorer, "model": model, "score": float(scores.mean())}
        row["spread"] = float(scores.std(ddof=1)) if len(scores) > 1 else np.nan
        for name in ("null", "baseline"):
            row[name] = float(np.mean(list(self.unit_scores(model, scorer, name).values())))
        row["n_effective"] = float(sum(self.unit_scores(model, scorer, "n_effective").values()))
        row["n_units"] = len(scores)
        row["n_failed"] = sum(r["error"] is not None for r in rows)
        row["fit_seconds"] = float(np.median([r["fit_seconds"] for r in rows]))
        row["peak_memory_mb"] = float(np.max([r["peak_memory_mb"] for r in rows]))
        return row

    def differences(self, reference=None, *, confidence=0.95, n_resamples=9999, random_state=0):
        """Paired differences between models, over independent units.

        Parameters
        ----------
        reference : str, default=None
            Compare all models with this one; by default every pair.
        confidence : float, default=0.95
            Of the bootstrap interval.
        n_resamples : int, default=9999
            Of the bootstrap and, where there are too many sign flips to try all, of the test.
        random_state : int, RandomState instance or None, default=0

        Returns
        -------
        rows : list of dict
            "scorer", "model", "reference", "difference" (mean over units), "low", "high"
            (percentile bootstrap over units), "p_value" (two-sided sign-flip test of the units),
            "p_corrected" (Holm's correction over all rows), "n_units". With a single unit nothing
            is known of the spread: interval and p values are NaN.

        Raises
        ------
        ValueError
            If `reference` is not a model.

        References
        ----------
        Efron & Tibshirani 1993, chapter 13 (percentile interval); Holm 1979 (correction).
        """
        if reference is not None and reference not in self.models:
            raise ValueError(f"reference must be one of {self.models}, got {reference!r}.")
        pairs = list(combinations(self.models, 2))
        if reference is not None:
            pairs = [(reference, model) for model in self.models if model != reference]
        options = {"n_resamples": n_resamples, "rng": np.random.default_rng(random_state)}
        rows = []
        for scorer in self.scorers:
            for first, model in pairs:
                row = {"scorer": scorer, "model": model, "reference": first}
                rows.append({**row, **self._difference(scorer, first, model, confidence, options)})
        for row, p in zip(rows, holm([row["p_value"] for row in rows])):
            row["p_corrected"] = p
        return rows

    def _difference(self, scorer, reference, model, confidence, options):
        scores = self.unit_scores(model, scorer)
        others = self.unit_scores(reference, scorer)
        d = np.array([scores[unit] - others[unit] for unit in scores])
        row = {"difference": float(d.mean()), "low": np.nan, "high": np.nan, "p_value": np.nan}
        row["n_units"] = len(d)
        if len(d) < 2 or np.isnan(d).any():
            return row
        low, high = bootstrap_interval(d, confidence, **options)
        test = permutation_test(
            (d,), lambda x, axis: x.mean(axis), permutation_type="samples", vectorized=True,
            **options,
        )  # fmt: skip
        row["low"], row["high"] = low, high
        row["p_value"] = float(test.pvalue)
        return row

    def __str__(self):
        """Markdown table of the summary, and below it what failed."""
        lines = [
            "| scorer | model | score | null | linear baseline | effective samples | units "
            "| fit (s) | memory (MB) |",
            "|---" * 9 + "|",
        ]
        for r in self.summary():
            score = f"{r['score']:.3f} ± {r['spread']:.3f}"
            if r["n_failed"]:
                score = f"{r['n_failed']} cells failed"
            lines.append(
                f"| {r['scorer']} | {r['model']} | {score} | {_cell(r['null'], 3)} | "
                f"{_cell(r['baseline'], 3)} | {_cell(r['n_effective'])} | {r['n_units']} | "
                f"{_cell(r['fit_seconds'], 1)} | {_cell(r['peak_memory_mb'])} |"
            )
        told = dict.fromkeys((r["model"], r["error"]) for r in self.errors)
        lines += [f"\n{model}: {error}" for model, error in told]
        told = dict.fromkeys(
            (r["model"], text)
            for r in self.records
            for text in (*r.get("warnings", ()), r.get("null_error"))
            if text
        )
        lines += [f"\n{model} warned: {text}" for model, text in told]
        lines += [f"\nlinear baseline: {error}" for error in self.baseline_errors]
        if self.tested:
            lines.append(f"\ntested: {self.tested}")
        lines += [f"\nflagged: [{leak.kind}] {leak.message}" for leak in self.leaks]
        return "\n".join(lines)

    def __repr__(self):
        n_failed = len(self.errors)
        return (
            f"Comparison({len(self.models)} models, {len(self.scorers)} scorers, "
            f"{len(self.records)} records, {n_failed} failed)"
        )

    def plot(self, *, labels=None, axes=None):
        """Draw every unit's score, lines between the models of a unit, means with intervals.

        Parameters
        ----------
        labels : dict of str to str, default=None
            Axis label of each scorer, with its unit; by default the name of the scorer.
        axes : array of matplotlib Axes, default=None
            One per scorer.

        Returns
        -------
        matplotlib.figure.Figure

        Raises
        ------
        ImportError
            Without matplotlib.
        """
        # matplotlib is an extra, and drawing lives where figures do.
        from skneurovae.inspection import plot_comparison

        return plot_comparison(self, labels=labels, axes=axes)


def bootstrap_interval(values, confidence=0.95, n_resamples=9999, rng=0):
    """Percentile bootstrap interval of a mean.

    Parameters
    ----------
    values : array-like of shape (n_units,)
        Two or more.
    confidence : float, default=0.95
    n_resamples : int, default=9999
    rng : Generator or int, default=0

    Returns
    -------
    low, high : float
    """
    found = bootstrap(
        (values,), np.mean, confidence_level=confidence, method="percentile",
        n_resamples=n_resamples, rng=rng,
    ).confidence_interval  # fmt: skip
    return float(found.low), float(found.high)


def holm(p_values):
    """Holm's step-down correction; NaN stays NaN and does not count.

    Parameters
    ----------
    p_values : list of float

    Returns
    -------
    corrected : list of float
    """
    p = np.asarray(p_values, dtype=float)
    known = np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known])]
    corrected = np.full(len(p), np.nan)
    steps = p[order] * np.arange(len(order), 0, -1)
    corrected[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return corrected.tolist()


def _cell(value, digits=0):
    """Empty where a control was not asked for, or failed."""
    return "" if np.isnan(value) else f"{value:.{digits}f}"
