"""Set-ups without a leak, of many kinds, in which none may be found.

Each returns the arguments of `find_leaks`; `splits` left out are those of `KFold(4)`.
"""

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.signal import lfilter
from sklearn.decomposition import PCA
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, KFold, LeaveOneOut, ShuffleSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from skneurovae import Recording
from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis, Pooled
from skneurovae.datasets import (
    make_latent_counts,
    make_linear_track,
    make_lorenz,
    make_movie_responses,
    make_static_dynamic,
    make_worms,
)
from skneurovae.decoding import BehaviorDecoder
from skneurovae.model_selection import ContiguousSpeckles, ForwardChaining, HeldOutNeurons, segment

CLEAN = []


def clean(design):
    CLEAN.append(design)
    return design


def rng(seed=0):
    return np.random.default_rng(seed)


def autoregression(generator, n_timesteps, n_columns, phi):
    white = generator.standard_normal((n_timesteps, n_columns))
    return lfilter([np.sqrt(1 - phi**2)], [1, -phi], white, axis=0)


def worms(n=4, **options):
    settings = {"n_timesteps": 200, "n_identities": 40, "n_recorded": 25, "random_state": 1}
    return make_worms(n, **{**settings, **options})[0]


def shuffled(X, n_splits=5):
    return list(KFold(n_splits, shuffle=True, random_state=0).split(X))


# -- simulated animals -----------------------------------------------------------------------------


@clean
def animals():
    return {"X": worms()}


@clean
def animals_with_bumps():
    return {"X": worms(regime="curved")}


@clean
def animals_in_noise():
    return {"X": worms(regime="slow")}


@clean
def animals_with_switching_gains():
    return {"X": worms(regime="gated")}


@clean
def animals_with_little_noise():
    return {"X": worms(noise=0.05)}


@clean
def animals_without_noise():
    return {"X": worms(noise=0.0)}


@clean
def animals_with_gaps():
    return {"X": worms(missing=0.3)}


@clean
def animals_of_all_lengths():
    return {"X": worms(6, n_timesteps=(60, 300))}


@clean
def animals_in_groups():
    X = worms(6)
    groups = list("aabbcc")
    return {"X": X, "groups": groups, "splits": GroupKFold(3).split(X, groups=groups)}


@clean
def animals_in_single_precision():
    return {"X": [r.replace(traces=r.traces.astype(np.float32)) for r in worms()]}


@clean
def many_animals_of_few_neurons():
    return {"X": worms(20, n_recorded=3, n_timesteps=80), "splits": shuffled(range(20))}


@clean
def animals_standardized_one_by_one():
    return {"X": [r.replace(traces=StandardScaler().fit_transform(r.traces)) for r in worms()]}


@clean
def animals_scaled_by_training():
    """As it should be done: statistics of the training half alone."""
    bare = [r.traces[:, :20] for r in worms(regime="slow")]
    scaler = StandardScaler().fit(np.concatenate(bare[:2]))
    return {"X": [scaler.transform(x) for x in bare], "splits": [([0, 1], [2, 3])]}


@clean
def named_tables():
    import pandas as pd

    tables = [pd.DataFrame(r.traces, columns=list(r.identities)) for r in worms()]
    return {"X": tables}


# -- pieces of one recording -----------------------------------------------------------------------


@clean
def pieces_with_a_gap():
    X = segment(worms(1, n_timesteps=1200), 80, gap=60)
    return {"X": X, "splits": KFold(4).split(X)}


@clean
def pieces_of_animals():
    X = segment(worms(4, n_timesteps=400), 60, gap=60)
    groups = [p.session for p in X]
    return {"X": X, "groups": groups, "splits": GroupKFold(4).split(X, groups=groups)}


@clean
def bare_pieces_with_a_gap():
    traces = worms(1, n_timesteps=2000)[0].traces
    X = [traces[a : a + 60].copy() for a in range(0, 1900, 120)]
    return {"X": X, "splits": shuffled(X)}


@clean
def past_and_future():
    splitter = ForwardChaining(2, gap=60)
    X = splitter.views(worms(3, n_timesteps=450))
    return {"X": X, "splits": splitter.split(X)}


@clean
def speckles():
    splitter = ContiguousSpeckles(3, span_length=20)
    X = splitter.views(worms(3))
    return {"X": X, "splits": splitter.split(X)}


@clean
def held_out_neurons():
    splitter = HeldOutNeurons(3)
    X = splitter.views(worms(3))
    return {"X": X, "splits": splitter.split(X)}


# -- trials of one session: in train and test, as is usual ----------------------------------------


@clean
def trials_of_a_chaotic_system():
    X, _ = make_lorenz(8, 8, random_state=0)
    return {"X": X, "splits": shuffled(X)}


@clean
def two_trials_per_condition():
    X, _ = make_lorenz(30, 2, random_state=0)
    return {"X": X, "splits": shuffled(X)}


@clean
def two_reliable_trials_per_condition():
    """High rates: trials of a condition are nearly alike, but their noise is their own."""
    X, _ = make_lorenz(20, 2, base_rate=60.0, random_state=0)
    return {"X": X, "splits": [(np.arange(0, 40, 2), np.arange(1, 40, 2))]}


@clean
def conditions_to_decode():
    X, truth = make_lorenz(4, 10, random_state=0)
    y = [np.full(50, f"condition {c}") for c in truth.conditions]
    return {"X": X, "y": y, "splits": shuffled(X)}


@clean
def static_and_dynamic_trials():
    X, _ = make_static_dynamic(60, random_state=0)
    return {"X": X, "splits": shuffled(X)}


@clean
def static_trials_to_decode():
    X, truth = make_static_dynamic(60, random_state=0)
    y = [np.full(50, c) for c in truth.conditions]
    return {"X": X, "y": y, "splits": shuffled(X)}


@clean
def dynamic_trials_to_decode():
    X, _ = make_static_dynamic(60, strength=1.5, random_state=0)
    y = [r.behavior for r in X]
    return {"X": [r.replace(behavior=None) for r in X], "y": y, "splits": shuffled(X)}


@clean
def sparse_counts():
    X = [Recording(g.poisson(0.02, (300, 20)) * 1.0, session="s") for g in rng().spawn(12)]
    return {"X": X, "splits": shuffled(X)}


@clean
def short_binary_trials():
    X = [(g.random((10, 5)) < 0.15) * 1.0 for g in rng().spawn(200)]
    return {"X": X, "splits": shuffled(X)}


@clean
def binary_trials_locked_to_an_event():
    """Most neurons answer in one time bin of nearly every trial."""
    chance = np.full((40, 12), 0.01)
    chance[rng(1).integers(5, 15, 12), np.arange(12)] = 0.98
    X = [(g.random(chance.shape) < chance) * 1.0 for g in rng().spawn(60)]
    return {"X": X, "splits": shuffled(X)}


@clean
def dense_counts():
    X = [g.poisson(4.0, (100, 10)) for g in rng().spawn(20)]
    return {"X": X, "splits": shuffled(X)}


@clean
def mostly_silent_neurons():
    X = [g.poisson(0.002, (50, 60)) * 1.0 for g in rng().spawn(40)]
    for x in X:
        x[0, 0] = 1.0
    return {"X": X, "splits": shuffled(X)}


@clean
def identical_ramps():
    ramp = np.linspace(0, 1, 40)[:, None] * np.linspace(0.5, 2, 8)
    X = [ramp.copy() for _ in range(8)]
    return {"X": X}


@clean
def ramps_beside_noisy_neurons():
    ramp = np.linspace(0, 1, 40)[:, None] * [1.0, -2.0]
    X = [np.c_[ramp, autoregression(g, 40, 6, 0.7)] for g in rng().spawn(16)]
    return {"X": X, "splits": shuffled(X)}


@clean
def identical_stimulus_ramps():
    ramp = np.linspace(0, 1, 60)
    tuning = rng(1).standard_normal(12)
    X = [
        Recording(ramp[:, None] * tuning + 0.3 * g.standard_normal((60, 12)), stimulus=ramp)
        for g in rng().spawn(20)
    ]
    y = [ramp + 0.2 * autoregression(g, 60, 1, 0.9)[:, 0] for g in rng(2).spawn(20)]
    return {"X": X, "y": y, "splits": shuffled(X)}


@clean
def a_movie_seen_by_spikes():
    X, _ = make_movie_responses(5, n_frames=200, n_neurons=30, random_state=0)
    return {"X": X[:5], "splits": KFold(5).split(range(5))}


@clean
def a_movie_seen_by_calcium():
    X, _ = make_movie_responses(5, n_frames=200, n_neurons=30, random_state=0)
    return {"X": X[5:], "splits": KFold(5).split(range(5))}


@clean
def a_movie_seen_twice():
    X, _ = make_movie_responses(
        2, n_frames=300, n_neurons=30, areas={"V1": 0.95}, modalities=["calcium"], random_state=0
    )
    return {"X": X, "splits": [([0], [1])]}


@clean
def reaches_of_many_lengths():
    """Stereotyped responses that are stretched with the trial, and drift over the session."""
    centers, widths = rng(1).uniform(0, 1, 20), rng(2).uniform(0.05, 0.2, 20)
    X = []
    for k, g in enumerate(rng().spawn(40)):
        phase = np.linspace(0, 1, g.integers(40, 70))[:, None]
        rates = np.exp(-(((phase - centers) / widths) ** 2) / 2) + 0.01 * k * (centers > 0.5)
        X.append(Recording(rates + 0.2 * g.standard_normal(rates.shape), session="s"))
    return {"X": X, "splits": shuffled(X)}


@clean
def trials_that_drift():
    level = np.cumsum(rng(1).standard_normal((40, 15)), axis=0) * 0.3
    X = [mean + autoregression(g, 50, 15, 0.8) for mean, g in zip(level, rng().spawn(40))]
    return {"X": X, "splits": shuffled(X)}


@clean
def one_trial_left_out():
    X = [autoregression(g, 30, 6, 0.8) for g in rng().spawn(40)]
    return {"X": X, "splits": LeaveOneOut().split(X)}


# -- other traces ----------------------------------------------------------------------------------


@clean
def a_stack_of_white_noise():
    X = list(rng().standard_normal((20, 60, 10)))
    return {"X": [Recording(x, session="s") for x in X], "splits": shuffled(X)}


@clean
def short_slow_trials():
    X = [autoregression(g, 20, 3, 0.95) for g in rng().spawn(60)]
    return {"X": X, "splits": shuffled(X)}


@clean
def random_walks():
    X = [np.cumsum(g.standard_normal((200, 4)), axis=0) for g in rng().spawn(8)]
    return {"X": X}


@clean
def a_common_rhythm():
    X = []
    for g in rng().spawn(12):
        phase = np.cumsum(0.4 + 0.02 * g.standard_normal(150)) + g.uniform(0, 6)
        X.append(np.cos(phase[:, None] + np.arange(10) / 3) + 0.3 * g.standard_normal((150, 10)))
    return {"X": X, "splits": shuffled(X)}


@clean
def bleaching():
    decay = np.exp(-np.arange(150) / 80)[:, None]
    X = [
        decay * g.uniform(1, 3, 12) + 0.2 * autoregression(g, 150, 12, 0.8) for g in rng().spawn(6)
    ]
    return {"X": X, "splits": KFold(3).split(range(6))}


@clean
def calcium_transients():
    X = [lfilter([1], [1, -0.9], g.poisson(0.03, (250, 15)) * 1.0, axis=0) for g in rng().spawn(6)]
    return {"X": X, "splits": KFold(3).split(range(6))}


@clean
def deconvolved_events():
    X = [g.exponential(1, (250, 15)) * (g.random((250, 15)) < 0.05) for g in rng().spawn(6)]
    return {"X": X, "splits": KFold(3).split(range(6))}


@clean
def single_neurons():
    X = [autoregression(g, 100, 1, 0.8) for g in rng().spawn(20)]
    return {"X": X, "splits": shuffled(X)}


@clean
def values_of_eight_bits():
    X = [
        np.clip(40 * autoregression(g, 150, 10, 0.9) + 128, 0, 255).astype(np.uint8)
        for g in rng().spawn(8)
    ]
    return {"X": X}


@clean
def left_and_right_partners():
    X = []
    for g in rng().spawn(6):
        common = autoregression(g, 150, 8, 0.9)
        X.append(np.c_[common, common] + 0.3 * g.standard_normal((150, 16)))
    return {"X": X, "splits": KFold(3).split(range(6))}


# -- behavior, stimuli and what is decoded ---------------------------------------------------------


@clean
def a_linear_track():
    return {"X": make_linear_track(4, n_timesteps=1500, n_neurons=30, random_state=0)[0]}


@clean
def position_to_decode():
    track, _ = make_linear_track(1, n_timesteps=4000, n_neurons=30, random_state=0)
    X = segment(track, 300, gap=200)
    y = [p.behavior[:, 0] for p in X]
    X = [p.replace(behavior=None) for p in X]
    return {"X": X, "y": y, "splits": KFold(4).split(X)}


@clean
def position_velocity_and_speed():
    X = []
    for g in rng().spawn(4):
        velocity = autoregression(g, 300, 2, 0.9)
        position = np.cumsum(velocity, axis=0) / 10
        behavior = np.c_[position, velocity, np.hypot(*velocity.T)]
        traces = behavior @ g.standard_normal((5, 12)) + 0.5 * g.standard_normal((300, 12))
        X.append(Recording(traces, behavior=behavior))
    return {"X": X}


@clean
def velocity_that_neurons_tell_well():
    X, y = [], []
    for g in rng().spawn(4):
        velocity = autoregression(g, 300, 2, 0.9)
        angles = np.arange(16) * np.pi / 8
        tuning = np.stack([np.cos(angles), np.sin(angles)])
        X.append(velocity @ tuning + 0.3 * g.standard_normal((300, 16)))
        y.append(velocity)
    return {"X": X, "y": y}


@clean
def heading_as_cosine_and_sine():
    X = []
    for g in rng().spawn(4):
        heading = np.cumsum(0.2 * g.standard_normal(300))
        bump = np.exp(np.cos(heading[:, None] - np.arange(16) * np.pi / 8))
        behavior = np.c_[np.cos(heading), np.sin(heading)]
        X.append(Recording(bump + 0.3 * g.standard_normal(bump.shape), behavior=behavior))
    return {"X": X}


@clean
def a_circular_label_as_cosine_and_sine():
    X, truth = make_latent_counts(4, n_timesteps=400, n_neurons=20, random_state=0)
    labels = truth.labels
    return {"X": [r.replace(behavior=np.c_[np.cos(a), np.sin(a)]) for r, a in zip(X, labels)]}


@clean
def a_circular_label_to_decode():
    X, truth = make_latent_counts(
        4, n_timesteps=400, n_neurons=20, time_constant=20.0, random_state=0
    )
    return {"X": [r.replace(behavior=None) for r in X], "y": truth.labels}


@clean
def speed_beside_another_target():
    X, y = [], []
    for g in rng().spawn(4):
        hidden = autoregression(g, 250, 3, 0.95)
        traces = hidden @ g.standard_normal((3, 10)) + 0.5 * g.standard_normal((250, 10))
        speed = np.abs(hidden[:, 0]) + 0.1 * g.standard_normal(250)
        X.append(Recording(traces, behavior=speed))
        y.append(hidden[:, 0] + 0.3 * g.standard_normal(250))
    return {"X": X, "y": y}


@clean
def classes_in_blocks():
    X = worms()
    y = [np.array(["run", "turn"])[np.arange(200) // 25 % 2] for _ in X]
    return {"X": X, "y": y}


@clean
def a_choice_that_follows_the_stimulus():
    """One-hot stimulus; the choice agrees with it in four of five trials."""
    X, y = [], []
    for g in rng().spawn(60):
        side = g.integers(2)
        choice = side if g.random() < 0.8 else 1 - side
        shown = np.zeros((40, 2))
        shown[10:, side] = 1.0
        traces = 0.5 * choice + g.standard_normal((40, 10))
        X.append(Recording(traces, stimulus=shown, session="s"))
        y.append(np.full(40, choice))
    return {"X": X, "y": y, "splits": shuffled(X)}


@clean
def stimuli_shown_again():
    frozen = rng(5).standard_normal((80, 2))
    filters = rng(6).standard_normal((2, 15))
    X = [
        Recording(frozen @ filters + g.standard_normal((80, 15)), stimulus=frozen, session="s")
        for g in rng().spawn(24)
    ]
    return {"X": X, "splits": shuffled(X)}


@clean
def gaps_that_have_nothing_to_do_with_the_label():
    X = worms(missing=0.3)
    y = [g.integers(0, 2, 20).repeat(10) for g in rng().spawn(4)]
    return {"X": X, "y": y}


@clean
def behavior_measured_now_and_then():
    X = worms()
    for r, g in zip(X, rng().spawn(4)):
        r.behavior[g.random(200) < 0.5] = np.nan
    return {"X": X, "y": [autoregression(g, 200, 1, 0.9)[:, 0] for g in rng(3).spawn(4)]}


@clean
def strains_to_decode():
    """What is decoded is one label per animal."""
    X = worms(12, n_timesteps=60)
    return {"X": X, "y": [np.full(60, k % 2) for k in range(12)]}


# -- designs ---------------------------------------------------------------------------------------


@clean
def sessions_split_within():
    """Every session is on both sides in every fold: what is asked are new trials."""
    X = [
        Recording(autoregression(g, 40, 8, 0.8), session=f"session {k % 3}")
        for k, g in enumerate(rng().spawn(30))
    ]
    return {"X": X, "splits": [(np.arange(15), np.arange(15, 30))]}


@clean
def sessions_held_out():
    sessions = [f"session {k % 3}" for k in range(30)]
    X = [Recording(autoregression(g, 40, 8, 0.8), session=s)
         for s, g in zip(sessions, rng().spawn(30))]  # fmt: skip
    return {"X": X, "groups": sessions, "splits": GroupKFold(3).split(X, groups=sessions)}


@clean
def models_that_were_not_fitted():
    models = [
        make_pipeline(MissingFactorAnalysis(2), BehaviorDecoder(lags=[0, 2])),
        GridSearchCV(MissingFactorAnalysis(2), {"n_components": [1, 2]}),
        Pooled(PCA(2).fit(np.eye(3))),
        make_pipeline(FunctionTransformer(lambda X: X), LaggedRidge(lags=2)),
        make_pipeline(FunctionTransformer(np.log1p), Ridge()),
    ]
    return {"X": worms(), "models": models, "splits": ShuffleSplit(3, random_state=0).split("abcd")}


@clean
def smooth_rates():
    """Trials that were smoothed one by one, as rates often are."""
    X = [gaussian_filter1d(g.poisson(0.3, (60, 20)) * 1.0, 3, axis=0) for g in rng().spawn(30)]
    return {"X": X, "splits": shuffled(X)}
