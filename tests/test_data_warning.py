"""Data that look wrong: one line each, once per call, and never for what is ordinary."""

import threading
import warnings

import numpy as np
import pytest
from sequential_cases import MODELS
from sklearn.decomposition import PCA
from sklearn.pipeline import make_union
from test_estimator_contract import contrastive, small

from skneurovae import DataWarning, Recording
from skneurovae.baselines import (
    LaggedRidge,
    MissingFactorAnalysis,
    PoissonGLM,
    Pooled,
    RowWise,
)
from skneurovae.common.data_warning import each_once, tell
from skneurovae.datasets import make_linear_track, make_lorenz, make_worms
from skneurovae.metrics import co_smoothing_score
from skneurovae.model_selection import segment
from skneurovae.recordings.doubts import tell_doubts

rng = np.random.default_rng(0)
T = 300


def slow(n_timesteps, n_columns, seed=0, tau=20):
    """Sums of slow latents, and noise; columns with levels of their own."""
    rng = np.random.default_rng(seed)
    z = np.zeros((n_timesteps, 3))
    for t in range(1, n_timesteps):
        z[t] = (1 - 1 / tau) * z[t - 1] + rng.standard_normal(3) / tau**0.5
    noise = 0.5 * rng.standard_normal((n_timesteps, n_columns))
    return z @ rng.standard_normal((3, n_columns)) + noise + rng.standard_normal(n_columns)


def told(recordings, **options):
    """Lines that are told of recordings; plain arrays are taken as such."""
    recordings = [r if isinstance(r, Recording) else Recording(r) for r in recordings]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        tell_doubts(recordings, **options)
    assert all(w.category is DataWarning and "\n" not in str(w.message) for w in caught)
    return [str(w.message) for w in caught]


def during(call):
    """Lines of `DataWarning` that a call gives."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [str(w.message) for w in caught if w.category is DataWarning]


COUNTS = rng.poisson(np.exp(slow(T, 6) / 2)).astype(float)
TABLES = {
    "slow": slow(800, 30),
    "fast": slow(800, 30, tau=2),
    "standardized": slow(800, 30) / slow(800, 30).std(0),
    "counts": rng.poisson(np.exp(slow(2000, 40, tau=5) / 2)).astype(float),
    "with gaps": np.where(rng.random((800, 30)) < 0.2, np.nan, slow(800, 30)),
    "few neurons": slow(5000, 4),
}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES)
def test_transposed_traces_are_told(table):
    assert told([table]) == []
    (line,) = told([table.T])
    assert line.startswith("traces look transposed: of shape")
    assert line.endswith("give X.T.")
    assert told([table, table]) == []
    assert len(told([table.T, table.T])) == 1


def test_simulated_recordings_are_transposed_only_when_they_are():
    worms, _ = make_worms(3, n_timesteps=400, random_state=0)
    trials, _ = make_lorenz(5, 4, random_state=0)
    track, _ = make_linear_track(1, silent=0.0, random_state=0)
    for recordings in (worms, trials, track, segment(worms, 60, 5)):
        assert told([r.replace(rate_hz=None) for r in recordings]) == []
    for recordings in (worms, track):
        lines = told([Recording(recording.traces.T) for recording in recordings])
        assert "look transposed" in lines[0]


def test_wide_and_sorted_recordings_are_not_transposed():
    """More neurons than time steps, and neighbors alike, as in a sorted raster."""
    place, time = np.arange(300) / 10, np.arange(120) / 4
    raster = np.exp(-((place - time[:, None]) ** 2)) + 0.2 * rng.standard_normal((120, 300))
    noise = rng.standard_normal((100, 400))
    kinds = np.repeat(slow(100, 20), 20, axis=1) + 0.1 * rng.standard_normal((100, 400))
    for table in (raster, noise, kinds, slow(60, 400), np.zeros((3, 5)) + np.arange(5)):
        assert not any("transposed" in line for line in told([table]))


COLUMNS = {
    "time": np.arange(T) / 30 + 5,
    "jittered time": np.cumsum(1 / 30 + 0.001 * rng.uniform(-1, 1, T)),
    "index": np.arange(T),
    "step of a trial": np.arange(T) % 50,
    "trial": np.arange(T) // 50,
}


@pytest.mark.parametrize("column", COLUMNS.values(), ids=COLUMNS)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_columns_that_count_are_told(column, dtype):
    table = np.column_stack([slow(T, 4), column]).astype(dtype)
    (line,) = told([table])
    assert line.startswith("traces of neurons 4 rise by equal steps")
    names = ["AVA", "AVB", "RIM", "RIS", "clock"]
    trials = [Recording(part, identities=np.array(names)) for part in np.split(table, 6)]
    (line,) = told(trials)
    assert "neurons clock rise" in line
    assert told([table[:, :4]]) == []


def test_columns_of_neurons_do_not_count():
    ramp = np.cumsum(rng.exponential(size=T))  # rises, but not by equal steps
    switch = (np.arange(T) > 100).astype(float)
    still = np.full(T, 3.0)
    for column in (ramp, switch, rng.poisson(0.05, T), np.round(slow(T, 1)[:, 0]), np.sin(still)):
        table = np.column_stack([slow(T, 4), column])
        assert not any("equal steps" in line for line in told([table]))


def test_counts_under_a_gaussian_likelihood_are_told():
    assert "likelihood='poisson'" in told([COUNTS], likelihood="gaussian")[0]
    holed = np.where(rng.random(COUNTS.shape) < 0.1, np.nan, COUNTS)
    assert len(told([holed[:150], holed[150:]], likelihood="gaussian")) == 1
    for likelihood in (None, "poisson", "negative_binomial"):
        assert told([COUNTS], likelihood=likelihood) == []
    brightness = np.round(1000 + 100 * slow(T, 6))
    for table in (COUNTS + 0.5, brightness, -COUNTS, COUNTS[:50], np.sqrt(COUNTS)):
        assert told([table], likelihood="gaussian") == []


FITS = {
    "NeuroBehaviorVAE": lambda: small(likelihood="gaussian", max_iter=1),
    "pooled": lambda: small(neuron_encoder="pooled", likelihood="gaussian", max_iter=1),
    **{
        name: lambda make=MODELS[name]: make(likelihood="gaussian", max_iter=1)
        for name in ("lfads", "dsae factorized", "fhvae")
    },
}


@pytest.mark.parametrize("make", FITS.values(), ids=FITS)
def test_networks_tell_of_counts_and_silent_neurons_once(make):
    silent = np.column_stack([COUNTS, np.zeros(T)])
    lines = during(lambda: make().fit([silent[:150], silent[150:]]))
    assert sorted(line[:24] for line in lines) == [
        "neurons 6 (1 of 7) never",
        "traces are counts, but l",
    ]


@pytest.mark.parametrize("encoder", ["precision", "pooled"])
def test_counts_that_are_recognized_are_not_told(encoder):
    model = small(neuron_encoder=encoder, max_iter=1)
    assert during(lambda: model.fit([COUNTS[:150], COUNTS[150:]])) == []
    assert model.likelihood_ == "poisson"


def test_neurons_that_never_vary_are_told():
    table = slow(T, 5)
    table[:, 1], table[:, 3] = np.nan, 7.5
    (line,) = told([table])
    assert line.startswith("neurons 1, 3 (2 of 5) never vary")
    # Silent in one trial is not silent; constant in each, at different levels, varies.
    trials = [slow(50, 4, seed) for seed in range(3)]
    trials[0][:, 2] = 0
    for number, trial in enumerate(trials):
        trial[:, 3] = number
    assert told(trials, leveled=True) == []  # of a model that has levels for each trial
    # Twins of one identity make one neuron.
    names = np.array(["AVA", "AVA", "RIM", "RIS", "AIB"])
    (line,) = told([Recording(table, identities=names)])
    assert line.startswith("neurons RIS (1 of 4)")


def test_more_components_than_neurons_are_told():
    (line,) = told([slow(T, 4)], n_components=5)
    assert line == "n_components=5 is more than there are neurons, 4. Take fewer components."
    assert told([slow(T, 4)], n_components=4) == []
    assert len(during(lambda: MissingFactorAnalysis(5, random_state=0).fit(slow(T, 4)))) == 1
    # An embedding of windows may be wider than what it embeds.
    assert during(lambda: contrastive().set_params(n_components=6).fit(slow(T, 4))) == []


def test_rates_that_differ_are_told():
    a, b, c = (Recording(slow(60, 4), rate_hz=rate) for rate in (3.0, 1.7, None))
    (line,) = told([a, c, b])
    assert line.startswith("rate_hz is 1.7 in recording 2 and 3 in recording 0")
    assert told([a, a.replace(rate_hz=3.01), c]) == []


BASELINES = {
    "factors": MissingFactorAnalysis(2, random_state=0),
    "pooled": Pooled(PCA(2)),
    "rows": RowWise(PCA(2)),
    "ridge": LaggedRidge(2),
    "glm": PoissonGLM(2, alpha=1.0),
    "contrastive": contrastive(max_iter=1),
}


@pytest.mark.parametrize("model", BASELINES.values(), ids=BASELINES)
def test_every_model_tells_at_its_fit(model):
    behavior = rng.standard_normal((T, 1))
    recordings = [Recording(COUNTS, behavior=behavior, rate_hz=rate) for rate in (10.0, 20.0)]
    (line,) = during(lambda: model.fit(recordings))
    assert line.startswith("rate_hz")
    assert during(lambda: model.fit(recordings[:1])) == []


@pytest.fixture(scope="module")
def driven():
    """Recordings with behavior, models of them, and the same behavior in other units."""
    recordings = []
    for seed in range(3):
        rng = np.random.default_rng(seed)
        behavior = rng.uniform(-1, 1, (200, 2))
        traces = rng.poisson(np.exp(behavior @ rng.standard_normal((2, 6)))).astype(float)
        recordings.append(Recording(traces, behavior=behavior))
    return recordings, [r.replace(behavior=100 * r.behavior) for r in recordings]


@pytest.mark.parametrize("model", [
    small(max_iter=1, likelihood="poisson"), LaggedRidge(2), PoissonGLM(2, alpha=1.0),
], ids=["NeuroBehaviorVAE", "LaggedRidge", "PoissonGLM"])  # fmt: skip
def test_extrapolated_behavior_is_told_once_per_call(model, driven):
    recordings, scaled = driven
    assert during(lambda: model.fit(recordings[:2])) == []
    for call in (model.predict, model.score, lambda X: co_smoothing_score(model, X)):
        assert during(lambda call=call: call(recordings[2:])) == []
        (line,) = during(lambda call=call: call(scaled))
        assert line.startswith("behavior channel 0 goes from -")
    # A little beyond, absent or missing behavior is none.
    beyond = [r.replace(behavior=1.2 * r.behavior) for r in recordings]
    assert during(lambda: model.predict(beyond)) == []
    assert during(lambda: model.predict([r.replace(behavior=None) for r in recordings])) == []
    unseen = [r.replace(behavior=np.nan * r.behavior) for r in recordings]
    assert during(lambda: model.predict(unseen)) == []


def test_a_drive_beyond_training_is_told(driven):
    recordings, scaled = driven
    model = small(max_iter=1, likelihood="poisson").fit(recordings[:2])
    assert during(lambda: model.predict_from_behavior(recordings[2].behavior)) == []
    for options in ({}, {"n_samples": 2, "random_state": 0}):
        lines = during(lambda o=options: model.predict_from_behavior(scaled[2].behavior, **o))
        assert len(lines) == 1
    # Functions of behavior keep the range that they were first fitted to.
    model.partial_fit(scaled)
    assert len(during(lambda: model.predict_from_behavior(scaled[2].behavior))) == 1
    # Where they are not used, what later training saw is no longer beyond it.
    pooled = small(max_iter=1, neuron_encoder="pooled", likelihood="poisson").fit(recordings[:2])
    assert len(during(lambda: pooled.predict_from_behavior(scaled[2].behavior))) == 1
    pooled.partial_fit(scaled)
    assert during(lambda: pooled.predict_from_behavior(scaled[2].behavior)) == []


def test_hiding_neurons_for_a_score_tells_nothing():
    recordings = [Recording(slow(T, 6, seed)) for seed in range(3)]
    model = MissingFactorAnalysis(2, random_state=0).fit(recordings[:2])
    assert during(lambda: co_smoothing_score(model, recordings[2:])) == []
    assert during(lambda: model.predict([Recording(np.full((60, 6), np.nan))])) == []


def test_training_that_leaves_behavior_out_is_told(driven):
    recordings, _ = driven
    blind = [r.replace(behavior=None) for r in recordings]
    model = small(max_iter=1, likelihood="poisson").fit(blind)
    (line,) = during(lambda: model.partial_fit(recordings))
    assert line.startswith("behavior is left out: NeuroBehaviorVAE was fitted without")
    assert during(lambda: model.predict(recordings)) == []
    np.testing.assert_array_equal(model.predict(recordings)[0], model.predict(blind)[0])
    embedding = contrastive(max_iter=1).fit(blind)
    (line,) = during(lambda: embedding.partial_fit(blind, [r.behavior for r in recordings]))
    assert line.startswith("behavior is left out")
    in_time = contrastive(max_iter=1, conditional="time").fit(blind)
    assert during(lambda: in_time.partial_fit(recordings)) == []
    trials = MODELS["lfads"](max_iter=1).fit(blind)
    assert during(lambda: trials.partial_fit(recordings)) == []


def test_one_set_of_recordings_serves_models_with_behavior_and_without(driven):
    recordings, _ = driven
    blind = [r.replace(behavior=None) for r in recordings]
    for model in (
        Pooled(PCA(2)), MissingFactorAnalysis(2, random_state=0), MODELS["lfads"](max_iter=1),
        small(max_iter=1, likelihood="poisson"),
    ):  # fmt: skip
        model.fit(blind[:2])
        for a, b in zip(model.predict(recordings), model.predict(blind)):
            np.testing.assert_array_equal(a, b)
        assert model.score(recordings[2:]) == model.score(blind[2:])


@pytest.mark.parametrize("scale", [1e-300, 1e-12, 1e12, 1e300])
@pytest.mark.parametrize("shape", [(1, 1), (2, 150), (3, 400), (40, 2), (60, 120)])
def test_no_scale_or_shape_gives_another_warning(shape, scale):
    table = scale * rng.standard_normal(shape)
    table[rng.random(shape) < 0.3] = np.nan
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", DataWarning)
        tell_doubts([Recording(table), Recording(table)], n_components=2, likelihood="gaussian")


def test_a_warning_points_at_the_line_that_called():
    with pytest.warns(DataWarning) as caught:
        MissingFactorAnalysis(5, random_state=0).fit(slow(T, 4))
    assert [w.filename for w in caught] == [__file__]
    with pytest.warns(DataWarning) as caught:
        MODELS["lfads"](max_iter=1).set_params(n_components=9).fit(COUNTS)
    assert [w.filename for w in caught if w.category is DataWarning] == [__file__]


def test_what_is_told_once_is_told_once_in_each_thread():
    ready = threading.Barrier(2)

    def ask():
        with each_once():
            ready.wait()
            for _ in range(3):
                with each_once():
                    tell("the same")

    with warnings.catch_warnings(record=True) as lines:
        warnings.simplefilter("always")
        threads = [threading.Thread(target=ask) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tell("the same")
    assert [str(line.message) for line in lines] == ["the same"] * 3


def test_a_union_of_features_joins_recordings_along_time():
    """As the guide says; should scikit-learn ever join lists by components, mend the guide."""
    X = [slow(50, 6, seed) for seed in range(3)]
    union = make_union(Pooled(PCA(2)), MissingFactorAnalysis(2, random_state=0))
    assert np.shape(union.fit(X).transform(X)) == (3, 100, 2)
    assert union.fit(X[0]).transform(X[0]).shape == (50, 4)
    parts = [model.fit_transform(X) for _, model in union.transformer_list]
    assert [np.hstack(latents).shape for latents in zip(*parts)] == [(50, 4)] * 3


def test_levels_that_differ_between_recordings_are_told():
    names = np.array([f"N{i}" for i in range(6)])
    parts = [Recording(slow(T, 6, 0, tau=3) + 0.1, identities=names) for _ in range(4)]
    assert told(parts) == []
    gains = [p.replace(traces=p.traces * 5.0**i) for i, p in enumerate(parts)]
    offsets = [p.replace(traces=p.traces + 20.0 * i) for i, p in enumerate(parts)]
    for moved in (gains, offsets):
        (line,) = told(moved)
        assert line.startswith("offsets or gains of neurons differ more between recordings")
        assert told(moved, leveled=True) == told(moved[:2]) == []
    # Pieces of one slow trace have means of their own by chance.
    pieces = [Recording(slow(60, 6, seed, tau=50), identities=names) for seed in range(6)]
    level = [Recording(p.traces - p.traces.mean(0), identities=names) for p in pieces]
    assert told(level) == []
    # Trials of one session, and columns without names, have other means by what they do.
    assert told([p.replace(session="a") for p in offsets]) == []
    assert told([p.replace(identities=None) for p in offsets]) == []


def test_a_model_with_levels_of_its_own_does_not_tell_of_them():
    names = np.array([f"N{i}" for i in range(6)])
    parts = [Recording(slow(T, 6, 0, tau=3) + 20.0 * i, identities=names) for i in range(4)]
    model = small(max_iter=1)
    assert during(lambda: model.fit(parts)) == []
    assert model.normalize_ == "recording"
    (line,) = during(lambda: small(max_iter=1, normalize="identity").fit(parts))
    assert line.startswith("offsets or gains")
