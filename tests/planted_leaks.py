"""Leaks that are planted in clean data, each in the form in which it happens in practice.

A plant takes simulated animals and returns the arguments of `find_leaks`; `splits` left out are
the two halves of the list. `PLANTED` holds, for each, the kind that must be found and whether it
is certain. Those of the first kind, which hold the very same numbers, are in `test_leaks`.
"""

import dataclasses
from functools import partial

import numpy as np
from scipy.ndimage import gaussian_filter1d
from sklearn.base import BaseEstimator
from sklearn.model_selection import KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from skneurovae import Recording
from skneurovae.baselines import MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.model_selection import segment

PLANTED = {}


def planted(kind, certain=True):
    def keep(plant):
        PLANTED[plant] = (kind, certain)
        return plant

    return keep


def halves(n):
    return [(np.arange(n // 2), np.arange(n // 2, n))]


def among_others(worms, traces, **changes):
    """A changed copy of the first animal is tested, the original trained on."""
    copy = dataclasses.replace(worms[0], traces=traces, **changes)
    return {"X": [worms[0], worms[1], copy, worms[2]]}


def rng():
    return np.random.default_rng(7)


# -- the same recording in train and test, changed ------------------------------------------------


@planted("shared recording")
def an_index_on_both_sides(w):
    return {"X": w, "splits": [([0, 1, 2], [2, 3])]}


@planted("overlap")
def shifted_in_time(w):
    return among_others(w, w[0].traces[7:].copy(), behavior=None)


@planted("overlap")
def through_single_precision(w):
    return among_others(w, w[0].traces.astype(np.float32))


@planted("overlap")
def with_samples_missing(w):
    traces = w[0].traces.copy()
    traces[rng().random(traces.shape) < 0.05] = np.nan
    return among_others(w, traces)


@planted("overlap")
def permuted_with_names(w):
    order = rng().permutation(30)
    return among_others(w, w[0].traces[:, order], identities=w[0].identities[order])


@planted("overlap")
def overlapping_frames(w):
    import pandas as pd

    columns = [f"n{i}" for i in range(30)]
    frames = [pd.DataFrame(r.traces, columns=columns) for r in w]
    return {"X": [frames[0][:100].copy(), frames[1], frames[0][60:].copy(), frames[2]]}


@planted("copy")
def with_a_little_noise(w):
    return among_others(w, w[0].traces + 1e-6 * rng().standard_normal(w[0].traces.shape))


@planted("overlap")
def reversed_in_time(w):
    return among_others(w, w[0].traces[::-1].copy())


@planted("copy")
def rounded(w):
    return among_others(w, w[0].traces.round(1))


@planted("copy")
def standardized_again(w):
    traces = w[0].traces
    return among_others(w, (traces - traces.mean(0)) / traces.std(0))


@planted("overlap")
def with_one_neuron_missing(w):
    traces = w[0].traces.copy()
    traces[:, 4] = np.nan
    return among_others(w, traces)


@planted("overlap")
def permuted_without_names(w):
    bare = [r.traces[:, :28] for r in w]
    return {"X": [bare[0], bare[1], bare[0][:, rng().permutation(28)], bare[2]]}


@planted("copy")
def permuted_and_noisy(w):
    bare = [r.traces[:, :28] for r in w]
    noisy = bare[0][:, rng().permutation(28)] + 0.05 * rng().standard_normal((160, 28))
    return {"X": [bare[0], bare[1], noisy, bare[2]]}


@planted("copy")
def with_the_sign_changed(w):
    return among_others(w, -w[0].traces)


@planted("copy", certain=False)
def resampled(w):
    steps = np.linspace(0.2, 158.6, 200)
    traces = np.stack([np.interp(steps, np.arange(160), x) for x in w[0].traces.T], axis=1)
    return among_others(w, traces, behavior=None)


@planted("overlap")
def decimated(w):
    return among_others(w, w[0].traces[::2].copy(), behavior=None)


@planted("copy")
def binned_by_two(w):
    return among_others(w, w[0].traces.reshape(80, 2, -1).mean(1), behavior=None)


@planted("copy", certain=False)
def interleaved(w):
    """Even time steps are trained on, odd ones tested."""
    long, _ = make_worms(3, n_timesteps=400, n_identities=40, n_recorded=30, random_state=5)
    long = [dataclasses.replace(r, behavior=None, session=None) for r in long]
    even, *others = (r.replace(traces=r.traces[::2].copy()) for r in long)
    odd = long[0].replace(traces=long[0].traces[1::2].copy())
    return {"X": [even, others[0], odd, others[1]]}


@planted("overlap")
def a_few_steps_of_overlap(w):
    traces = w[0].traces
    pieces = [traces[a : a + 43].copy() for a in (0, 40, 80, 117)]
    return {"X": pieces, "splits": KFold(4).split(pieces)}


@planted("copy")
def standardized_windows_that_overlap(w):
    windows = [w[0].traces[a : a + 60] for a in range(0, 101, 20)]
    scaled = [(x - x.mean(0)) / x.std(0) for x in windows]
    return {"X": scaled, "splits": KFold(3).split(scaled)}


# -- exact duplicates of what repeats itself -------------------------------------------------------


def duplicated(trials):
    """The first trial stands in train and test."""
    n = len(trials) // 2
    return {"X": [*trials[:n], trials[0].copy(), *trials[n:]]}


@planted("overlap")
def duplicate_of_sparse_counts(w):
    return duplicated([g.poisson(0.02, (200, 8)) * 1.0 for g in rng().spawn(6)])


@planted("overlap")
def duplicate_of_sparse_trials(w):
    return duplicated([g.poisson(0.1, (40, 5)) * 1.0 for g in rng().spawn(40)])


@planted("overlap")
def duplicate_of_binary_trials(w):
    return duplicated([(g.random((50, 4)) < 0.2) * 1.0 for g in rng().spawn(30)])


@planted("overlap")
def duplicate_of_few_neurons(w):
    return duplicated([g.poisson(0.1, (300, 3)) * 1.0 for g in rng().spawn(6)])


@planted("overlap")
def duplicate_of_coarse_values(w):
    return duplicated([(2 * gaussian_filter1d(r.traces[:, :3], 5, axis=0)).round() for r in w])


@planted("overlap")
def duplicate_of_coarse_single_neurons(w):
    return duplicated([r.traces[:, :1].round() for r in w])


# -- inputs that give the target or a hidden neuron away -------------------------------------------


def with_twin(worms, change):
    """One region of interest segmented twice, under two names; the second is changed."""
    twice = [
        r.replace(
            traces=np.c_[r.traces, change(r.traces[:, :1].copy())],
            identities=np.append(r.identities, f"copy {i}"),
        )
        for i, r in enumerate(worms)
    ]
    return {"X": twice}


def one_missing(column):
    column[11] = np.nan
    return column


@planted("twin neurons")
def a_twin_of_another_scale(w):
    return with_twin(w, lambda x: 2 * x)


@planted("twin neurons")
def a_twin_with_a_little_noise(w):
    return with_twin(w, lambda x: x + 1e-6 * rng().standard_normal(x.shape))


@planted("twin neurons")
def a_twin_with_a_sample_missing(w):
    return with_twin(w, one_missing)


@planted("twin neurons")
def a_twin_through_single_precision(w):
    return with_twin(w, lambda x: x.astype(np.float32).astype(float))


def with_channel(worms, change):
    """A behavior channel is made of the traces."""
    return {
        "X": [r.replace(behavior=np.c_[r.behavior, change(r.traces)]) for r in worms],
    }


@planted("behavior copies a trace", certain=False)
def behavior_of_a_smoothed_neuron(w):
    return with_channel(w, lambda x: gaussian_filter1d(x[:, 3], 2))


@planted("behavior copies a trace")
def behavior_of_a_late_neuron(w):
    return with_channel(w, lambda x: np.roll(x[:, 3], 4))


@planted("behavior copies a trace", certain=False)
def behavior_of_a_noisy_neuron(w):
    return with_channel(w, lambda x: x[:, 3] + 0.3 * x[:, 3].std() * rng().standard_normal(len(x)))


@planted("behavior copies a trace")
def behavior_of_the_logarithm_of_a_neuron(w):
    return with_channel(w, lambda x: np.log(x[:, 3] - x[:, 3].min() + 0.1))


@planted("behavior copies a trace")
def behavior_of_summed_neurons(w):
    return with_channel(w, lambda x: x[:, 2:6].sum(1))


@planted("trace as target")
def a_trace_as_the_target(w):
    return {"X": w, "y": [r.traces[:, 5].copy() for r in w]}


@planted("trace as target", certain=False)
def a_smoothed_trace_as_the_target(w):
    return {"X": w, "y": [gaussian_filter1d(r.traces[:, 5], 2) for r in w]}


@planted("behavior as target")
def the_target_as_stimulus(w):
    shown = [r.replace(behavior=None, stimulus=r.behavior) for r in w]
    return {"X": shown, "y": [r.behavior[:, 1] for r in w]}


@planted("behavior as target")
def the_target_shifted(w):
    return {"X": w, "y": [np.roll(r.behavior[:, 0], 6) for r in w]}


@planted("behavior as target")
def the_target_as_sine_and_cosine(w):
    angles = [np.cumsum(0.3 * g.standard_normal(160)) % (2 * np.pi) for g in rng().spawn(4)]
    X = [r.replace(behavior=np.c_[np.cos(a), np.sin(a)]) for r, a in zip(w, angles)]
    return {"X": X, "y": angles}


@planted("behavior as target")
def the_target_one_hot(w):
    labels = [g.choice(["left", "right", "none"], 16).repeat(10) for g in rng().spawn(4)]
    X = [
        r.replace(behavior=np.c_[r.behavior, (label[:, None] == ["left", "right", "none"]) * 1.0])
        for r, label in zip(w, labels)
    ]
    return {"X": X, "y": labels}


@planted("mask tells the target", certain=False)
def masks_that_encode_the_label(w):
    labels = [g.integers(0, 2, 16).repeat(10) for g in rng().spawn(4)]
    X = []
    for r, label in zip(w, labels):
        traces = r.traces.copy()
        traces[label == 1, 2] = np.nan
        X.append(r.replace(traces=traces))
    return {"X": X, "y": labels}


@planted("identities tell the target", certain=False)
def identities_that_encode_the_label(w):
    pieces = [p.traces for p in segment(w, 10)][:60]
    labels = rng().integers(0, 2, len(pieces))
    X = [
        Recording(x[:, :20], identities=np.array([f"{'ab'[k]}{i}" for i in range(20)]), session="s")
        for x, k in zip(pieces, labels)
    ]
    return {"X": X, "y": [np.full(len(x), k) for x, k in zip(pieces, labels)]}


# -- models that were fitted before ----------------------------------------------------------------


class Keeps(BaseEstimator):
    """A model that survives `clone` as it is, and that ignores `fit`."""

    def __init__(self, inner=None):
        self.inner = inner

    def fit(self, X, y=None):
        return self

    def predict(self, X):
        return self.inner.predict(X)


class Undying(Keeps):
    def __sklearn_clone__(self):
        return self


class Wrapped:
    """No estimator, so `clone` copies it together with what it has learned."""

    def __init__(self, model):
        self.model = model

    def predict(self, X):
        return self.model.predict(X)


def fitted(worms):
    return MissingFactorAnalysis(2, shrinkage=10.0, random_state=0).fit(worms)


@planted("fitted model")
def a_fitted_model_that_survives_clone(w):
    return {"X": w, "models": [Undying(fitted(w))]}


@planted("fitted model")
def a_fitted_model_in_a_parameter(w):
    return {"X": w, "models": [Keeps(Wrapped(fitted(w)))]}


@planted("fitted model")
def a_fitted_model_in_a_closure(w):
    model = fitted(w)
    step = FunctionTransformer(lambda X: model.predict(X))
    return {"X": w, "models": [make_pipeline(step, MissingFactorAnalysis(2))]}


@planted("fitted model")
def a_fitted_model_in_a_bound_method(w):
    step = FunctionTransformer(partial(fitted(w).predict))
    return {"X": w, "models": [make_pipeline(step, MissingFactorAnalysis(2))]}


# -- splits and preparation ------------------------------------------------------------------------


@planted("session", certain=False)
def a_session_on_both_sides(w):
    """Two of the tested animals were also trained on, the others not."""
    sessions = ["a", "b", "c", "a", "d", "b"]
    pieces = segment([r.replace(traces=r.traces.copy()) for r in w], 40, 40)[:6]
    X = [Recording(p.traces, session=s) for p, s in zip(pieces, sessions)]
    return {"X": X}


@planted("scaling", certain=False)
def standardized_before_cutting(w):
    traces = w[0].traces
    traces = (traces - traces.mean(0)) / traces.std(0)
    pieces = [traces[a : a + 40] for a in range(0, 160, 40)]
    return {"X": pieces, "splits": KFold(4).split(pieces)}


@planted("neighbors in time", certain=False)
def filtered_before_cutting(w):
    traces = np.concatenate([r.traces[:, :20] for r in w])
    smooth = gaussian_filter1d(traces, 4, axis=0)
    pieces = [smooth[a : a + 32].copy() for a in range(0, 640, 32)]
    return {"X": pieces, "splits": KFold(5, shuffle=True, random_state=0).split(pieces)}


# -- what looks like clean data, with the words that the docs have for it --------------------------

BEYOND = {}


def beyond(words):
    def keep(plant):
        BEYOND[plant] = words
        return plant

    return keep


@beyond("a target that is the change, or the sum over time, of a behavior channel")
def the_target_differentiated(w):
    smooth = [gaussian_filter1d(r.behavior, 3, axis=0) for r in w]
    X = [r.replace(behavior=b) for r, b in zip(w, smooth)]
    return {"X": X, "y": [np.gradient(b[:, 0]) for b in smooth]}


@beyond("a neuron with as much noise as signal")
def behavior_of_a_very_noisy_neuron(w):
    return with_channel(w, lambda x: x[:, 3] + x[:, 3].std() * rng().standard_normal(len(x)))


@beyond("a function of a neuron that rises and falls")
def behavior_of_a_squared_neuron(w):
    return with_channel(w, lambda x: (x[:, 3] - x[:, 3].mean()) ** 2)


@beyond("two rings around one neuron, each with noise of its own")
def a_twin_with_noise_of_its_own(w):
    return with_twin(w, lambda x: x + 0.5 * x.std() * rng().standard_normal(x.shape))


@beyond("weights that a parameter holds as plain numbers")
def learned_weights_in_a_parameter(w):
    return {"X": w, "models": [Keeps(fitted(w).loadings_)]}


@beyond("pieces that were filtered and cut by hand, in a list that is not in order of time")
def filtered_pieces_in_any_order(w):
    case = filtered_before_cutting(w)
    order = rng().permutation(20)
    return {"X": [case["X"][i] for i in order], "splits": KFold(5).split(order)}


@beyond("traces that were standardized and then cut by hand with gaps")
def standardized_and_cut_with_gaps(w):
    traces = w[0].traces
    traces = (traces - traces.mean(0)) / traces.std(0)
    pieces = [traces[a : a + 20] for a in range(0, 160, 40)]
    return {"X": pieces, "splits": KFold(4).split(pieces)}
