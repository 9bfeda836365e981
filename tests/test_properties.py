"""Whatever the data look like: finite answers of the right shape, or one line of ours.

300 small examples run with the other tests; five thousand by::

    pytest tests/test_properties.py --hypothesis-profile=long
"""

import warnings

import numpy as np
import pandas as pd
import pytest
from estimator_cases import CASES, flat, questions
from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.decomposition import FactorAnalysis

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.baselines import (
    AlignNeurons,
    GaussianSmoother,
    MissingFactorAnalysis,
    PoissonGLM,
    Pooled,
)

MODELS = {name: clone(case.estimator) for name, case in CASES.items() if not case.decodes}
MODELS["factor analysis, choosing"] = MissingFactorAnalysis(2, smoothing="ar1", random_state=0)
MODELS["pooled factor analysis"] = Pooled(FactorAnalysis(2))
MODELS["precision, choosing"] = NeuroBehaviorVAE(
    2, model_dim=8, n_layers=1, n_heads=2, hidden_dim=8, window_length=16, max_iter=1,
    random_state=0,
)  # fmt: skip
DECODERS = {name: case.estimator for name, case in CASES.items() if case.decodes}
for model in MODELS.values():
    if "max_iter" in model.get_params() and not isinstance(model, PoissonGLM):
        model.set_params(max_iter=1)

KEEP_GAPS = (AlignNeurons, GaussianSmoother)  # what is missing stays so
EXAMPLES = {"default": 300, "long": 5000}
for profile, number in EXAMPLES.items():
    settings.register_profile(
        f"properties, {profile}",
        max_examples=-(-number // (len(MODELS) + len(DECODERS))),
        deadline=None,
        derandomize=profile == "default",  # the same examples in every run of the tests
        suppress_health_check=list(HealthCheck),
    )


def examples(test):
    """As many examples as the profile asks for in all."""
    long = settings.get_current_profile_name() == "long"
    return settings.get_profile(f"properties, {'long' if long else 'default'}")(test)


@st.composite
def tables(draw, n_neurons, counts):
    """Traces of one recording: scales, gaps, constant stretches, types and layouts."""
    n_timesteps = draw(st.integers(1, 24), label="time steps")
    rng = np.random.default_rng(draw(st.integers(0, 999), label="seed"))
    if counts:
        table = rng.poisson(draw(st.sampled_from([0.02, 1.0, 50.0])), (n_timesteps, n_neurons))
        table = table.astype(float)
    else:
        scale = 10.0 ** draw(st.integers(-12, 12), label="log scale")
        offset = draw(st.sampled_from([0.0, 0.1, 1.0, 1e3]), label="offset")
        table = scale * (rng.standard_normal((n_timesteps, n_neurons)) + offset)
    for _ in range(draw(st.integers(0, 2), label="constant stretches")):
        start, column = draw(st.integers(0, n_timesteps)), draw(st.integers(0, n_neurons - 1))
        value = 1.0 if counts else 0.1 * np.abs(table).max()
        table[start : start + draw(st.integers(1, 24)), column] = value
    kind = draw(st.sampled_from(["none", "some", "neuron", "steps", "most"]), label="missing")
    gaps = np.zeros(table.shape, dtype=bool)
    if kind in ("some", "most"):
        gaps = rng.random(table.shape) < {"some": 0.1, "most": 0.9}[kind]
    elif kind == "neuron":
        gaps[:, draw(st.integers(0, n_neurons - 1))] = True
    elif kind == "steps":
        gaps[draw(st.integers(0, n_timesteps)) :] = True
    table[gaps] = np.nan
    dtype = draw(st.sampled_from(["f8", "f4", "object", ">f8", "masked"]), label="type")
    layout = draw(st.sampled_from(["C", "F", "strided", "read-only"]), label="layout")
    if dtype == "masked":
        table = np.ma.masked_array(np.nan_to_num(table, nan=7.0), gaps)
    else:
        table = table.astype(dtype)
    if layout == "F":
        table = np.asfortranarray(table) if dtype != "masked" else table
    elif layout == "strided":
        table = np.repeat(table, 2, axis=0)[::2] if dtype != "masked" else table
    elif layout == "read-only":
        table.flags.writeable = False
    return table


@st.composite
def data(draw, counts, behavior=False):
    """Recordings in any accepted form; in one that carries behavior, if that is needed."""
    n_neurons = draw(st.sampled_from([3, 4, 5, 2, 1]), label="neurons")
    made = draw(st.lists(tables(n_neurons, counts), min_size=1, max_size=4))
    forms = ["recordings", "named", "list", "array", "frame"]
    form = draw(st.sampled_from(forms[: 2 if behavior else 5]), label="form")
    if form == "array":
        return made[0]
    if form == "frame":
        names = [f"n{k}" for k in range(n_neurons)]
        return [pd.DataFrame(with_none(plain(t)), columns=names) for t in made]
    if form == "list":
        return made
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    with_behavior = behavior or draw(st.booleans(), label="behavior")
    recordings = []
    for number, table in enumerate(made):
        behavior = rng.standard_normal((len(table), 2)) if with_behavior else None
        if with_behavior and draw(st.booleans()):
            behavior[:, 1] = draw(st.sampled_from([np.nan, 0.3]))
        labels = None
        if form == "named":
            labels = rng.permutation(8)[:n_neurons] if number else np.arange(n_neurons)
        recordings.append(
            Recording(table, behavior=behavior, identities=labels, session=f"s{number % 2}")
        )
    return recordings


def with_none(table):
    """The same as objects, None where something is missing."""
    objects = table.astype(object)
    objects[np.isnan(table)] = None
    return objects


def one_line(error):
    """Whether an error is of the kind that we promise."""
    text = str(error)
    return isinstance(error, (ValueError, TypeError)) and text and "\n" not in text.strip()


def listed(X):
    return X if isinstance(X, list) else [X]


def plain(item):
    """Traces as an array of floats, to see whether they were changed."""
    traces = item.traces if isinstance(item, Recording) else item
    if isinstance(traces, np.ma.MaskedArray):
        return traces.astype(float).filled(np.nan)
    return np.array(traces, dtype=float)


def attempt(function, *arguments):
    """What a function returns, and the exception that it raises; None in place of the other."""
    try:
        return function(*arguments), None
    except Exception as error:
        return None, error


def check(model, X, *targets):
    """Fit, ask for everything, and look at what comes back."""
    note(repr(model))
    before = [plain(item) for item in listed(X)]
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        _, error = attempt(model.fit, X, *targets)
        assert error is None or one_line(error), repr(error)
        asked = {} if error else questions(model, (X, *targets))
        for name, ask in asked.items():
            found, error = attempt(ask)
            assert error is None or one_line(error), (name, repr(error))
            found = [] if error else flat(found)
            if not (name in ("transform", "inverse_transform") and isinstance(model, KEEP_GAPS)):
                assert all(np.isfinite(a).all() for a in found if a.dtype.kind == "f"), name
            if found and name in ("predict", "impute") and not targets:
                assert [a.shape for a in found[: len(before)]] == [a.shape for a in before], name
            elif found and name == "transform":
                assert [len(a) for a in found[: len(before)]] == [len(a) for a in before]
    for item, old in zip(listed(X), before):
        np.testing.assert_array_equal(plain(item), old)


@pytest.mark.parametrize("name", MODELS)
def test_models_answer_finitely_or_say_why_not(name):
    case = CASES.get(name)

    @examples
    @given(X=data(counts=case is not None and case.counts, behavior=name == "ridge"))
    def run(X):
        check(clone(MODELS[name]), X)

    run()


@pytest.mark.parametrize("name", DECODERS)
def test_decoders_answer_finitely_or_say_why_not(name):
    @examples
    @given(X=st.lists(tables(2, False), min_size=1, max_size=3), choice=st.integers(0, 99))
    def run(X, choice):
        rng = np.random.default_rng(choice)
        y = [rng.standard_normal((len(x), 2)) % 6 for x in X]
        y[0][:, 1] = (rng.random(len(y[0])) < 0.5) * 1.0 if choice % 3 else np.nan
        check(clone(DECODERS[name]), X, y)

    run()
