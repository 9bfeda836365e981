"""Offset and gain of neurons in recordings: closed forms, and models whose outputs undo them."""

import numpy as np
import pytest
from sklearn.base import clone

from skneurovae import NeuroBehaviorVAE, Recording
from skneurovae.baselines.linear_gaussian import LinearGaussian
from skneurovae.estimators.levels import LARGEST_GAIN, Levels
from skneurovae.recordings.level_differences import LEAST_STEPS, levels_differ

ROWS = np.arange(4)
MEAN, STD = np.array([0.0, 1.0, -2.0, 5.0]), np.array([1.0, 2.0, 0.5, 4.0])
SMALL = {
    "model_dim": 8, "n_layers": 1, "n_heads": 2, "hidden_dim": 8, "max_iter": 1, "shrinkage": 10.0,
    "window_length": 16, "random_state": 0, "device": "cpu",
}  # fmt: skip


def levels(shared=(0.5, 0.2), own=(0.3, 0.1), steps=2.0):
    """One factor that moves all neurons alike, and deviations of their own."""
    models = [
        LinearGaussian(
            np.full((4, 1), np.sqrt(a)), np.zeros(4), np.full(4, b), np.zeros(1), np.ones(4)
        )
        for a, b in zip(shared, own)
    ]
    return Levels(MEAN, STD, *models, steps)


def recording(n, offset=0.0, gain=1.0, seed=0):
    """Noise in the units of the identities, moved."""
    noise = np.random.RandomState(seed).standard_normal((n, 4))
    noise = (noise - noise.mean(0)) / noise.std(0)
    return Recording(MEAN + STD * (offset + gain * noise))


def expected_of(traces, mean, std, shared, own, steps):
    """Posterior mean of offset and log gain of all neurons, by one dense Gaussian each."""
    count = (~np.isnan(traces)).sum(0)
    some = [column[~np.isnan(column)] for column in traces.T]
    means, stds = ([f(c) if len(c) else 1.0 for c in some] for f in (np.mean, np.std))
    values = [(means - mean) / std, np.log(stds / std)]
    n = traces.shape[1]
    estimates = []
    for value, factor, a, b, least in zip(values, (1.0, 0.5), shared, own, (1, LEAST_STEPS)):
        seen = count >= least
        prior = a * np.ones((n, n)) + b * np.eye(n)
        noise = np.diag(factor * steps / count[seen])
        weights = prior[:, seen] @ np.linalg.inv(prior[np.ix_(seen, seen)] + noise)
        estimates.append(weights @ value[seen])
    gain = np.exp(estimates[1])
    return mean + std * estimates[0] - mean * gain, gain


# -- closed forms ------------------------------------------------------------------------------


def test_offset_and_gain_are_posterior_means():
    traces = recording(90, offset=[1.0, -0.5, 2.0, 0.3], gain=[2.0, 1.5, 0.7, 1.1]).traces.copy()
    traces[40:, 1] = np.nan
    traces[10:, 2] = np.nan  # too short for a gain
    traces[:, 3] = np.nan
    found = levels().of(Recording(traces), ROWS)
    expected = expected_of(traces, MEAN, STD, (0.5, 0.2), (0.3, 0.1), 2.0)
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_a_neuron_with_many_samples_has_its_own_mean_and_spread():
    moved = recording(200_000, offset=[1.0, -2.0, 0.5, 0.0], gain=[3.0, 0.5, 1.0, 1.5])
    leveled, offset, gain = levels().leveled(moved, ROWS)
    np.testing.assert_allclose(gain, [3.0, 0.5, 1.0, 1.5], rtol=1e-3)
    np.testing.assert_allclose(offset + gain * MEAN, moved.traces.mean(0), rtol=1e-2, atol=1e-3)
    np.testing.assert_allclose(leveled.traces.mean(0), MEAN, atol=1e-3)
    np.testing.assert_allclose(leveled.traces.std(0), STD, rtol=1e-3)


def test_a_neuron_without_samples_has_what_the_others_share():
    traces = recording(100_000, offset=1.5, gain=2.0).traces.copy()
    traces[:, 0] = np.nan
    offset, gain = levels().of(Recording(traces), ROWS)
    # Three known values under a common one of variance 0.5, each with a deviation of variance 0.3.
    shift = 1.5 * 3 / 0.3 / (3 / 0.3 + 1 / 0.5)
    stretch = np.exp(np.log(2.0) * 3 / 0.1 / (3 / 0.1 + 1 / 0.2))
    assert gain[0] == pytest.approx(stretch, rel=1e-3)
    assert offset[0] == pytest.approx(MEAN[0] * (1 - stretch) + STD[0] * shift, rel=1e-3)
    nothing = levels(shared=(0.0, 0.0)).of(Recording(traces), ROWS)
    assert (nothing[0][0], nothing[1][0]) == (0.0, 1.0)


def test_where_nothing_is_observed_levels_are_those_of_the_identities():
    offset, gain = levels().of(Recording(np.full((30, 4), np.nan)), ROWS)
    assert not offset.any()
    assert (gain == 1).all()


def test_fewer_samples_are_trusted_less():
    def moved(n, steps=2.0):
        offset, gain = levels(steps=steps).of(recording(n, offset=2.0, gain=2.0), ROWS)
        return (offset + gain * MEAN - MEAN) / STD, np.log(gain)

    found = np.array([moved(n) for n in (20, 40, 200, 5000)])
    assert (np.diff(found, axis=0) > 0).all()
    assert (found < np.array([2.0, np.log(2)])[:, None]).all()
    # A trace that is slower by a factor tells as much as one that is shorter by it.
    np.testing.assert_allclose(moved(40, 4.0), moved(20, 2.0))


def test_no_gain_is_measured_of_few_samples():
    few = recording(LEAST_STEPS - 1, offset=2.0, gain=5.0)
    assert (levels().of(few, ROWS)[1] == 1).all()
    assert (levels().of(few, ROWS)[0] != 0).all()
    assert (levels().of(recording(LEAST_STEPS, gain=5.0), ROWS)[1] > 1).all()


def test_gains_have_bounds():
    wild = levels(shared=(9.0, 9.0), own=(9.0, 9.0))
    for gain in (1e-6, 1e6):
        found = wild.of(recording(5000, gain=gain), ROWS)[1]
        np.testing.assert_allclose(found, np.clip(gain, 1 / LARGEST_GAIN, LARGEST_GAIN))


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_leveled_traces_are_undone_exactly(dtype):
    traces = recording(60, offset=3.0, gain=2.0).traces.astype(dtype)
    traces[::7, 1] = np.nan
    given = Recording(traces, session="a")
    leveled, offset, gain = levels().leveled(given, ROWS)
    assert leveled.traces.dtype == dtype
    assert leveled.session == "a"
    again = leveled.traces * gain + offset
    np.testing.assert_allclose(again, traces, rtol=1e-12 if dtype == np.float64 else 1e-5)
    assert np.abs(leveled.traces - traces)[~np.isnan(traces)].min() > 1e-3


def test_neurons_of_unknown_identity_stay_as_they_are():
    rows = np.array([0, -1, 2, -1])
    offset, gain = levels().of(recording(500, offset=2.0, gain=2.0), rows)
    assert offset[[1, 3]].tolist() == [0, 0]
    assert gain[[1, 3]].tolist() == [1, 1]
    assert (gain[[0, 2]] > 1.5).all()
    other = recording(500, offset=2.0, gain=2.0).traces.copy()
    other[:, 1] *= 50
    np.testing.assert_array_equal(levels().of(Recording(other), rows)[1], gain)


# -- from data ---------------------------------------------------------------------------------


def animals(n_animals=6, n=400, spread=1.0, seed=0, n_neurons=20, shared=0.0, n_latents=2):
    """Animals with the same neurons, whose offsets and gains differ by `spread`."""
    rng = np.random.RandomState(seed)
    weights = rng.standard_normal((n_latents, n_neurons))
    made = []
    for number in range(n_animals):
        latents = np.sin(np.arange(n)[:, None] / [9, 23] + 6 * rng.rand(2))
        traces = latents @ weights + 0.5 * rng.standard_normal((n, n_neurons))
        offset = 3 * (spread * rng.standard_normal(n_neurons) + shared * rng.standard_normal())
        gain = np.exp(0.3 * (spread * rng.standard_normal(n_neurons) + shared * rng.randn()))
        made.append(Recording(traces * gain + offset, session=f"animal {number}",
                              identities=[f"n{i}" for i in range(n_neurons)]))  # fmt: skip
    return made


def rows_of(recordings):
    return [np.arange(r.n_neurons) for r in recordings]


def test_variances_over_recordings_and_neurons_are_found():
    rng = np.random.RandomState(0)
    n_animals, n_neurons, n = 60, 40, 300
    shared = rng.standard_normal((n_animals, 1, 2)) * np.sqrt([4.0, 0.25])
    own = rng.standard_normal((n_animals, n_neurons, 2)) * np.sqrt([1.0, 0.04])
    made = []
    for offset, log_gain in np.moveaxis(shared + own, 2, 1):
        made.append(Recording(offset + np.exp(log_gain) * rng.standard_normal((n, n_neurons))))
    found = Levels.fit(made, rows_of(made), n_neurons)
    assert found.steps_per_sample == pytest.approx(1.0, abs=0.05)
    # Offsets are in units of an identity, log gains have none.
    unit = found.std.mean() ** 2
    assert unit == pytest.approx(np.exp(2 * shared[..., 1] + 2 * 0.04).mean(), rel=0.1)
    for model, scale, common, each in (
        (found.offsets, unit, shared[..., 0].var(), 1.0),
        (found.gains, 1.0, shared[..., 1].var(), 0.04),
    ):
        assert scale * model.noise.mean() == pytest.approx(each, rel=0.2)
        together = scale * model.loadings @ model.loadings.T
        assert together.std() < 0.25 * together.mean()  # all move alike
        assert together.mean() == pytest.approx(common, rel=0.3)


def test_levels_of_unobserved_neurons_follow_the_factors_of_the_recording():
    rng = np.random.RandomState(0)
    loadings = rng.standard_normal((2, 20)) * 3
    scores = rng.standard_normal((40, 2))
    made = [Recording(rng.standard_normal((200, 20)) + score @ loadings) for score in scores]
    found = Levels.fit(made, rows_of(made), 20)
    new = np.array([1.0, -1.5]) @ loadings
    traces = rng.standard_normal((200, 20)) + new
    traces[:, :8] = np.nan
    offset, gain = found.of(Recording(traces), np.arange(20))
    level = offset + gain * found.mean
    np.testing.assert_allclose(level[:8], new[:8], atol=0.5)
    assert np.abs(new[:8]).max() > 3
    np.testing.assert_allclose(gain[:8], 1.0, atol=0.1)


def test_mean_and_spread_of_identities():
    made = animals(3)
    made[1] = made[1].replace(traces=np.where(ROWS[0] == np.arange(20), np.nan, made[1].traces))
    found = Levels.fit(made, rows_of(made), 21)
    means = np.array([r.traces.mean(0) for r in made])
    variances = np.array([r.traces.var(0) for r in made])
    np.testing.assert_allclose(found.mean[1:20], means.mean(0)[1:])
    np.testing.assert_allclose(found.std[1:20] ** 2, variances.mean(0)[1:])
    assert found.mean[0] == pytest.approx(means[[0, 2], 0].mean())
    assert (found.mean[20], found.std[20]) == (0.0, 1.0)  # a row of which nothing is known


def test_slow_traces_have_fewer_independent_samples():
    rng = np.random.RandomState(0)
    slow = rng.standard_normal((4000, 5))
    for t in range(1, 4000):
        slow[t] = 0.8 * slow[t - 1] + 0.6 * slow[t]
    found = Levels.fit([Recording(slow)], [np.arange(5)], 5)
    assert found.steps_per_sample == pytest.approx(1.8 / 0.2, rel=0.15)
    # One recording tells nothing of differences between recordings.
    offset, gain = found.of(Recording(3 * slow + 5), np.arange(5))
    np.testing.assert_allclose(offset, 0, atol=0.05)
    np.testing.assert_allclose(gain, 1, atol=0.05)


def test_equal_levels_are_left_alone():
    made = animals(spread=0.0)
    found = Levels.fit(made, rows_of(made), 20)
    for model in (found.offsets, found.gains):
        assert model.noise.max() < 0.05
        assert np.abs(model.loadings).max() < 0.3
    for r in made:
        offset, gain = found.of(r, np.arange(20))
        assert np.abs(np.log(gain)).max() < 0.1
        assert np.abs(offset / found.std).max() < 0.3


def test_new_recordings_leave_the_levels_of_old_identities():
    made = animals(4)
    first = [r.replace(traces=r.traces[:, :18], identities=r.identities[:18]) for r in made[:3]]
    old = Levels.fit(first, [np.arange(18)] * 3, 18)
    grown = old.extended(made[3:], [np.arange(2, 22)], 22)
    np.testing.assert_array_equal(grown.mean[:18], old.mean)
    np.testing.assert_array_equal(grown.std[:18], old.std)
    np.testing.assert_allclose(grown.mean[18:], made[3].traces.mean(0)[16:])
    np.testing.assert_allclose(grown.std[18:], made[3].traces.std(0)[16:])
    for model, before in ((grown.offsets, old.offsets), (grown.gains, old.gains)):
        for name in ("loadings", "offset", "noise"):
            value = getattr(model, name)
            assert len(value) == 22
            np.testing.assert_array_equal(value[:18], getattr(before, name))
        assert (model.noise[18:] == np.median(before.noise)).all()


DIFFER = {
    "equal": (lambda: animals(spread=0.0), False),
    "slightly": (lambda: animals(spread=0.1), False),
    "much": (lambda: animals(), True),
    "together": (lambda: animals(spread=0.0, shared=1.5), True),
    "one recording": (lambda: animals(1), False),
    "different neurons": (
        lambda: [r.replace(identities=[f"{i}:{n}" for n in range(20)])
                 for i, r in enumerate(animals())], False,
    ),
    "gains alone": (
        lambda: [r.replace(traces=r.traces * 3.0**i) for i, r in
                 enumerate(animals(4, spread=0.0))], True,
    ),
    "short": (lambda: animals(n=LEAST_STEPS - 1), False),
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFER)
def test_recordings_differ_in_levels_or_not(name):
    make, expected = DIFFER[name]
    recordings = make()
    labels = sorted({label for r in recordings for label in r.identities})
    rows = [np.array([labels.index(label) for label in r.identities]) for r in recordings]
    assert levels_differ(recordings, rows) is expected


@pytest.mark.parametrize("name", ["slightly", "gains alone"])
def test_auto_takes_what_levels_tell(name):
    make, expected = DIFFER[name]
    model = NeuroBehaviorVAE(2, **SMALL).fit([r.replace(traces=r.traces[:150]) for r in make()])
    assert model.normalize_ == ("recording" if expected else "identity")


# -- in models ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fitted():
    recordings = animals()
    model = NeuroBehaviorVAE(2, normalize="recording", **SMALL).fit(recordings[:5])
    return model, recordings[5]


@pytest.fixture(scope="module")
def plain(fitted):
    """The same model without levels."""
    return clone(fitted[0]).set_params(normalize="identity").fit(animals()[:5])


A, B = 3.0, -7.0


def far(recording):
    """Much more data than prior, so that levels are those of the recording itself."""
    return recording.replace(traces=np.tile(recording.traces, (10, 1)))


def test_predictions_are_in_units_of_the_input(fitted):
    model, given = fitted
    mean, std = model.predict(given.traces, identities=given.identities, return_std=True)
    error = mean - given.traces
    assert 1 - (error**2).mean(0).sum() / given.traces.var(0).sum() > 0.6
    np.testing.assert_allclose(mean.mean(0), given.traces.mean(0), atol=0.5 * given.traces.std())
    assert 0.3 < (error / std).std() < 2.0


def test_an_affine_change_of_a_recording_changes_predictions_accordingly(fitted, plain):
    model, given = fitted
    given = far(given)
    moved = given.replace(traces=A * given.traces + B)
    (mean,), (std,) = model.predict([given], return_std=True)
    (other,), (wider,) = model.predict([moved], return_std=True)
    tolerance = 0.05 * A * given.traces.std(0)
    assert (np.abs(other - (A * mean + B)) < tolerance).all()
    np.testing.assert_allclose(wider, A * std, rtol=0.05)
    np.testing.assert_allclose(*(model.transform([r])[0] for r in (given, moved)), atol=0.05)
    (mean,), (other,) = (plain.predict([r]) for r in (given, moved))
    assert np.abs(other - (A * mean + B)).max() > tolerance.max()


def test_densities_change_by_the_jacobian(fitted):
    model, given = fitted
    given = far(given)
    traces = given.traces.copy()
    traces[::3, 4] = np.nan
    given = given.replace(traces=traces)
    moved = given.replace(traces=A * traces + B)
    before, after = (model.score_samples([r])[0] for r in (given, moved))
    jacobian = (~np.isnan(traces)).sum(1) * np.log(A)
    np.testing.assert_allclose(after, before - jacobian, rtol=0.03)
    assert (after - before + jacobian).mean() == pytest.approx(0.0, abs=0.1)
    assert np.unique(jacobian).size == 2


def test_densities_are_those_of_the_leveled_recording_by_the_gain(fitted):
    model, given = fitted
    leveled, _, gain = model._levels.leveled(given, np.arange(20))
    inner = [model._levels.leveled(r, np.arange(20))[0] for r in animals()[:5]]
    same = clone(model).set_params(normalize="identity").fit(inner)  # trained on equal numbers
    expected = same.score_samples([leveled])[0] - np.log(gain).sum()
    np.testing.assert_allclose(model.score_samples([given])[0], expected, rtol=1e-5)
    assert np.abs(np.log(gain).sum()) > 0.1


def test_hidden_entries_change_neither_levels_nor_predictions(fitted):
    model, given = fitted
    mask = np.ones(given.traces.shape, dtype=bool)
    mask[:, 3] = mask[100:200, 7] = False
    found = []
    for fill in (np.nan, 1e6):
        traces = np.where(mask, given.traces, fill)
        ask = {"mask": mask, "identities": given.identities}
        found.append(
            [
                *model.predict(traces, return_std=True, **ask),
                model.transform(traces, **ask),
                model.score_samples(traces, **ask),
            ]
        )
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)
    assert all(np.isfinite(array).all() for array in found[0])


def test_unknown_neurons_and_unobserved_ones_have_finite_predictions(fitted):
    model, given = fitted
    names = list(given.identities)
    names[2] = ""
    traces = given.traces.copy()
    traces[:, 5] = np.nan
    with pytest.warns(UserWarning, match="Unknown to the model"):
        mean, std = model.predict(traces, identities=names, return_std=True)
    assert np.isfinite(mean).all()
    assert (std > 0).all()
    np.testing.assert_allclose(mean[:, 2], traces[:, 2].mean(), rtol=1e-6)


def test_levels_help_where_recordings_differ(fitted, plain):
    model, given = fitted
    traces = given.traces.copy()
    traces[100:200, ::2] = np.nan
    hidden = given.traces[100:200, ::2]

    def explained(m):
        mean = m.predict([given.replace(traces=traces)])[0][100:200, ::2]
        return 1 - ((mean - hidden) ** 2).sum() / ((hidden - hidden.mean(0)) ** 2).sum()

    assert explained(model) > 0.5
    assert explained(plain) < 0.0


def test_attributes_and_types(fitted):
    model, given = fitted
    assert model.normalize == "recording"
    assert model.normalize_ == "recording"
    single = given.replace(traces=given.traces.astype(np.float32))
    assert model.predict([single])[0].dtype == np.float32
    assert model.score_samples([single])[0].dtype == np.float32
    auto = NeuroBehaviorVAE(2, **SMALL).fit(animals()[:5])
    assert (auto.normalize, auto.normalize_) == ("auto", "recording")
    np.testing.assert_array_equal(auto.predict([given])[0], model.predict([given])[0])
    auto.set_params(normalize="identity").fit(animals(spread=0.0)[:5])
    assert auto.normalize_ == "identity"
    with pytest.raises(ValueError, match="normalize"):
        clone(auto).set_params(normalize="session").fit(animals()[:2])


def test_growing_keeps_the_levels_of_old_identities(fitted):
    model = clone(fitted[0]).fit(animals()[:5])
    before = model._levels
    new = animals(1, seed=9)[0]
    new = new.replace(identities=[f"n{i}" for i in range(10, 30)])
    model.partial_fit([new])
    np.testing.assert_array_equal(model._levels.mean[:20], before.mean)
    np.testing.assert_array_equal(model._levels.offsets.noise[:20], before.offsets.noise)
    assert len(model._levels.mean) == 30
    mean = model.predict([new])[0]
    np.testing.assert_allclose(mean.mean(0), new.traces.mean(0), atol=new.traces.std())


def counts():
    rng = np.random.RandomState(0)
    return [Recording(rng.poisson(rate, (150, 6)).astype(float), session=f"{rate}",
                      identities=list("abcdef")) for rate in (0.3, 3.0)]  # fmt: skip


def test_counts_have_no_levels():
    options = {**SMALL, "max_iter": 1}
    for likelihood in ("poisson", "negative_binomial", "auto"):
        model = NeuroBehaviorVAE(2, likelihood=likelihood, normalize="recording", **options)
        with pytest.raises(ValueError, match=r"normalize='recording' has no meaning for counts"):
            model.fit(counts())
    model = NeuroBehaviorVAE(2, **options).fit(counts())
    assert (model.likelihood_, model.normalize_) == ("poisson", "identity")


def test_causal_models_have_no_levels_of_a_recording():
    recordings = animals()
    model = NeuroBehaviorVAE(2, causal=True, **SMALL).fit(recordings[:5])
    assert model.normalize_ == "identity"
    given = recordings[5]
    later = given.traces.copy()
    later[100:] += 50.0
    before, after = (model.transform([given.replace(traces=t)])[0] for t in (given.traces, later))
    np.testing.assert_array_equal(before[:100], after[:100])
    with pytest.raises(ValueError, match="normalize='recording' has no meaning with causal=True"):
        clone(model).set_params(normalize="recording").fit(recordings[:5])


def test_trials_of_one_session_have_one_level():
    rng = np.random.RandomState(0)
    latent = np.zeros((2000, 2))
    for t in range(1, 2000):
        latent[t] = 0.985 * latent[t - 1] + 0.17 * rng.standard_normal(2)
    traces = latent @ rng.standard_normal((2, 12)) * 1.5 + rng.standard_normal((2000, 12))
    model = NeuroBehaviorVAE(2, **SMALL).fit(traces.reshape(40, 50, 12))
    assert model.normalize_ == "identity"


def test_scores_count_neurons_in_units_of_the_traces(fitted):
    model, _ = fitted
    together = np.concatenate([r.traces for r in animals()[:5]])
    np.testing.assert_allclose(model.neuron_scale_, together.std(0), rtol=1e-6)
