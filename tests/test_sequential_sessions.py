"""Sequential models of sessions with different neurons."""

import pickle

import numpy as np
import pytest
import torch
from sequential_cases import dsae, fhvae, held_out_of, lfads, sessions
from sklearn.pipeline import make_pipeline

from skneurovae import Recording
from skneurovae.datasets import make_lorenz, make_static_dynamic
from skneurovae.decoding import BehaviorDecoder
from skneurovae.estimators.sequential_start import component_courses, mean_courses
from skneurovae.networks.sequential import TABLES, UNITS


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
def test_a_new_session_with_the_core_frozen(make):
    trials = sessions()
    first = [r for r in trials if r.session == "a"]
    second = [r for r in trials if r.session == "b"]
    model = make(early_stopping=False, learning_rate=0.05).fit(first)
    before = model.predict(first)
    weights = {k: v.clone() for k, v in model.network_.state_dict().items()}
    model.set_params(freeze_core=True).partial_fit(second)
    for a, b in zip(before, model.predict(first)):
        np.testing.assert_array_equal(a, b)
    for name, value in model.network_.state_dict().items():
        if name == "static_prior.table":  # of the sequences that are trained on
            assert not torch.equal(value, weights[name])
            continue
        old = weights[name]
        grown = value.shape != old.shape
        assert torch.equal(value[: len(old)] if grown else value, old), name
    start = model.predict(second)[0]
    model.set_params(freeze_core=False).partial_fit(second)
    assert not np.array_equal(model.predict(second)[0], start)
    assert not np.array_equal(model.predict(first)[0], before[0])
    # The core was trained with both sessions now.
    for how in ("partial_fit", "fit"):
        with pytest.raises(ValueError, match="freeze_core=True trains neurons"):
            getattr(model.set_params(freeze_core=True, warm_start=True), how)(second)


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
def test_a_new_session_learns_from_call_to_call_with_the_core_frozen(make):
    trials, _ = make_static_dynamic(30, n_neurons=16, mean_count=2.0, random_state=0)
    old = [Recording(t.traces[:, :8], session="a") for t in trials[:15]]
    new = [Recording(t.traces[:, 8:], session="b") for t in trials[15:]]
    third = [Recording(t.traces[:, 4:12], session="c") for t in trials]
    model = make(
        early_stopping=False, max_iter=20, encoder_dim=16, read_in_dim=8, generator_dim=16,
        beta_static=0.1, beta_dynamic=0.1, learning_rate=2e-2,
    ).fit(old)  # fmt: skip
    before = {k: v.clone() for k, v in model.network_.state_dict().items()}

    def check_core(n_rows):
        for name, value in model.network_.state_dict().items():
            if name in (*TABLES, *UNITS):
                assert torch.equal(value[:8], before[name]), name
                assert len(value) == n_rows
            elif name != "static_prior.table":  # of the sequences that are trained on
                assert torch.equal(value, before[name]), name

    model.set_params(freeze_core=True, learning_rate=6e-2)
    scores = []
    for _ in range(8):
        model.partial_fit(new)
        model = pickle.loads(pickle.dumps(model))
        scores.append(model.score(new[:8]))
        check_core(16)
    assert np.mean(scores[-3:]) > scores[0] + 0.05
    model.partial_fit(third)
    second = model.predict(new)
    with pytest.raises(ValueError, match="freeze_core=True trains neurons"):
        model.partial_fit(old)
    model.partial_fit([*new, *third])  # rows of two later sessions
    assert not np.array_equal(model.predict(new)[0], second[0])
    model.set_params(warm_start=True, max_iter=1).fit(third)
    check_core(24)


@pytest.mark.parametrize("frozen", [False, True])
def test_sequences_that_a_fitted_model_meets_have_vectors_of_their_own(frozen):
    trials = sessions()
    first, second = ([r for r in trials if r.session == s] for s in "ab")
    model = fhvae(early_stopping=False).fit(first)
    model.set_params(learning_rate=1e-12, freeze_core=frozen).partial_fit(second)
    table = model.network_.static_prior.table.detach().numpy()
    np.testing.assert_allclose(table, model.sequence_vectors(second), rtol=1e-4, atol=1e-6)
    model.set_params(learning_rate=0.1, freeze_core=False).partial_fit(second)
    assert not np.allclose(model.network_.static_prior.table.detach(), table, rtol=1e-2)


def test_new_neurons_learn_with_the_core_frozen():
    trials, _ = make_static_dynamic(40, n_neurons=16, mean_count=2.0, random_state=0)
    old = [Recording(t.traces[:, :8], session="a") for t in trials[:20]]
    new = [Recording(t.traces[:, 8:], session="b") for t in trials[20:]]
    model = dsae(
        early_stopping=False, max_iter=40, learning_rate=1e-2, encoder_dim=16, read_in_dim=8,
        generator_dim=16,
    ).fit(old)  # fmt: skip
    assert model.score(old) > 0.02
    drawn = pickle.loads(pickle.dumps(model)).set_params(freeze_core=True, learning_rate=1e-9)
    start = drawn.partial_fit(new).score(new)
    model.set_params(warm_start=True, freeze_core=True, learning_rate=3e-2).fit(new)
    assert model.score(new) > start + 0.02
    assert len(model.identities_) == 16


# The start of read-in and read-out


def test_component_courses_are_what_sessions_share():
    rng = np.random.RandomState(0)
    signals = {c: rng.standard_normal((n, 2)) for c, n in (("a", 30), ("b", 20), ("c", 40))}
    mixes = [rng.standard_normal((2, 6)), rng.standard_normal((2, 9))]
    sessions = [{c: s @ mix for c, s in signals.items()} for mix in mixes]
    del sessions[1]["c"]
    sessions[1]["a"] = sessions[1]["a"][:25]
    courses = component_courses(sessions, 5)
    assert {c: v.shape for c, v in courses.items()} == {"a": (25, 2), "b": (20, 2)}
    together = np.concatenate(list(courses.values()))
    np.testing.assert_allclose(together.T @ together / 45, np.eye(2), atol=1e-9)
    shared = np.concatenate([signals["a"][:25], signals["b"]])
    design = np.c_[shared, np.ones(45)]
    np.testing.assert_allclose(design @ np.linalg.lstsq(design, together)[0], together, atol=1e-9)
    with pytest.raises(ValueError, match="y must have a condition that all sessions share"):
        component_courses([{"a": signals["a"]}, {"b": signals["b"]}], 2)


def test_mean_courses_are_of_observed_entries():
    t = np.arange(60.0)
    trials = [np.sin(t / 8)[:, None] + shift for shift in (-1.0, 0.0, 1.0)]
    trials += [np.r_[np.sin(t / 8), [0.0] * 9][:, None]]
    whole = mean_courses(trials, [0, 0, 0, 1])
    assert whole[0].shape == (60, 1)
    np.testing.assert_allclose(whole[0][8:-8, 0], np.sin(t / 8)[8:-8], atol=0.05)
    np.testing.assert_allclose(whole[1][:50], whole[0][:50])
    rng = np.random.RandomState(0)
    gappy = [np.where(rng.random_sample(v.shape) < 0.4, np.nan, v) for v in [trials[1]] * 9]
    part = mean_courses(gappy, [0] * 9)[0]
    np.testing.assert_allclose(part, whole[0], atol=0.1)


def test_what_is_withheld_does_not_shrink_the_courses():
    (old, labels), _ = two_sessions()
    norms = []
    for share in (0.0, 0.3):
        model = lfads(
            initialization="conditions", sample_validation=share, learning_rate=1e-12, max_iter=1
        ).fit(old, labels)
        for _ in range(2):
            inputs = (
                model._courses["inputs"][0] / model.network_.read_in.detach().norm(dim=0).numpy()
            )
            norms.append(np.square(inputs).sum())
            model.partial_fit(old, labels)  # withholds nothing
    assert 0.8 < norms[2] / norms[0] < 1.3  # 0.5 if they shrank
    np.testing.assert_allclose(norms[1], norms[0], rtol=0.1)
    assert 0.8 < norms[3] / norms[0] < 1.2  # 2 if they grew


def test_courses_are_those_of_the_core_as_it_is():
    (old, labels), (new, others) = two_sessions()
    model = lfads(initialization="conditions", early_stopping=False, max_iter=1).fit(old, labels)
    before = model._courses["factors"][0]
    frozen = pickle.loads(pickle.dumps(model)).set_params(freeze_core=True)
    frozen.partial_fit(new, others)
    np.testing.assert_array_equal(frozen._courses["factors"][0], before)
    again = pickle.loads(pickle.dumps(model)).partial_fit(old, labels)
    assert np.abs(again._courses["factors"][0] - before).max() > 1e-3
    # Trained on without conditions: what was known of them is of a core that is no more.
    model.partial_fit(old)
    with pytest.raises(ValueError, match="since its core was last trained"):
        model.set_params(freeze_core=True).partial_fit(new, others)


def test_labels_of_any_kind_are_kept_in_files():
    sio = pytest.importorskip("skops.io")
    (old, labels), (new, others) = two_sessions()
    labels, others = ([label.endswith(("0", "1")) for label in part] for part in (labels, others))
    model = lfads(initialization="conditions", early_stopping=False, max_iter=1).fit(old, labels)
    dumped = sio.dumps(model)
    loaded = sio.loads(dumped, trusted=sio.get_untrusted_types(data=dumped))
    for each in (model, loaded):
        each.set_params(freeze_core=True).partial_fit(new, others)
    assert torch.equal(model.network_.read_in, loaded.network_.read_in)


def test_each_label_stays_with_its_trial(monkeypatch):
    (old, labels), _ = two_sessions()
    settings = {"initialization": "conditions", "learning_rate": 1e-12, "max_iter": 1}
    with monkeypatch.context() as patch:
        held_out, _ = held_out_of(lfads(max_iter=1), old, patch)
    assert 0 < min(held_out) < len(old) - 1  # or labels in order would do
    start = lfads(**settings).fit(old, labels).network_.read_in
    rest = [i for i in range(len(old)) if i not in held_out]
    alone = lfads(early_stopping=False, **settings)
    alone.fit([old[i] for i in rest], [labels[i] for i in rest])
    torch.testing.assert_close(start, alone.network_.read_in, atol=1e-4, rtol=0)
    other = lfads(**settings).fit(old, labels[1:] + labels[:1]).network_.read_in
    assert (start - other).abs().max() > 0.01


def test_read_ins_shrink_where_responses_are_noise():
    rng = np.random.RandomState(0)
    signal = np.sin(np.arange(60) / 6)[:, None] * rng.uniform(0.5, 1.0, 6) + 0.5
    rates = np.exp(np.c_[signal, np.full((60, 30), 0.5)])  # 30 neurons that tell nothing
    trials = [rng.poisson(rates).astype(float) for _ in range(20)]
    model = lfads(
        initialization="conditions", early_stopping=False, learning_rate=1e-12, max_iter=1,
        read_in_dim=20,
    ).fit(trials, [0] * 20)  # fmt: skip
    read_in = model.network_.read_in.detach().norm(dim=0)
    assert read_in[0] > 3 * read_in[5:].max()


def two_sessions(seed=0):
    """Trials and conditions of two sessions with 20 neurons each, of one Lorenz attractor."""
    trials, truth = make_lorenz(4, 16, n_neurons=40, base_rate=10.0, random_state=seed)
    order = np.random.RandomState(0).permutation(len(trials))
    parts = []
    for name, columns in (("a", slice(0, 20)), ("b", slice(20, 40))):
        half, order = order[:32], order[32:]
        kept = [Recording(trials[i].traces[:, columns], session=name) for i in half]
        parts.append((kept, [f"condition {c}" for c in truth.conditions[half]]))
    return parts


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
@pytest.mark.parametrize("initialization", ["pcr", "conditions"])
def test_neurons_with_equal_responses_start_equal_in_all_sessions(make, initialization):
    (first, labels), _ = two_sessions()
    order = np.random.RandomState(1).permutation(20)
    second = [Recording(r.traces[:, order], session="b") for r in first]
    model = make(
        initialization=initialization, early_stopping=False, learning_rate=1e-12, read_in_dim=8,
    ).fit([*first, *second], [*labels, *labels])  # fmt: skip
    network = model.network_
    for table in (network.read_in, network.read_out):
        table = table.detach().numpy()
        np.testing.assert_allclose(table[20:], table[:20][order], atol=1e-4)
        assert table[:20].std(0).min() > 1e-3
        assert np.abs(table[20:] - table[:20]).max() > 0.05


def test_a_read_out_follows_the_log_of_the_mean_response():
    """With factors as they are to become, rates are those of the conditions."""
    t = np.linspace(0, 6, 60)
    courses = np.stack([np.sin(t), np.cos(2 * t)], 1)
    rng = np.random.RandomState(0)
    rates = np.exp(courses @ rng.uniform(-0.7, 0.7, (2, 12)) + 1)
    trials = [rng.poisson(rates).astype(float) for _ in range(200)]
    model = lfads(
        initialization="conditions", early_stopping=False, learning_rate=1e-12, read_in_dim=2,
        max_iter=1,
    ).set_params(n_components=2).fit(trials, [0] * 200)  # fmt: skip
    standard = [(x - np.mean(trials, (0, 1))) / np.std(trials, (0, 1)) for x in trials]
    ((components,),) = [component_courses([mean_courses(standard, [0] * 200)], 2).values()]
    made = model.inverse_transform(components)
    made *= rates.mean(0) / made.mean(0)
    assert np.corrcoef(np.log(made).ravel(), np.log(rates).ravel())[0, 1] > 0.98
    slope = (np.log(made) * (np.log(rates) - np.log(rates).mean(0))).sum(0)
    slope /= ((np.log(rates) - np.log(rates).mean(0)) ** 2).sum(0)
    assert ((slope > 0.75) & (slope < 1.05)).all()  # smoothed, and a tenth of the mean added


@pytest.mark.parametrize("make", [lfads, dsae, fhvae], ids=["lfads", "dsae", "fhvae"])
def test_a_new_session_meets_the_core_in_the_conditions(make):
    (old, labels), (new, others) = two_sessions()
    model = make(
        initialization="conditions", early_stopping=False, max_iter=25, encoder_dim=16,
        read_in_dim=16, generator_dim=24, static_dim=6, beta_static=0.01, beta_dynamic=0.1,
    ).fit(old, labels)  # fmt: skip
    train, test = new[:20], new[20:]
    stored = pickle.dumps(model.set_params(freeze_core=True))
    scores = {}
    for start in ("conditions", "random"):
        grown = pickle.loads(stored).set_params(initialization=start)
        for _ in range(2):
            grown.partial_fit(train, others[:20])
        scores[start] = grown.score(test)
        before, after = (m.network_.read_in[:20] for m in (model, grown))
        assert torch.equal(before, after)
    assert scores["conditions"] > 0.05
    assert scores["conditions"] > scores["random"] + 0.1


def test_known_neurons_of_a_new_session_keep_their_share_of_the_read_in():
    """New neurons read in what the known ones lack: nothing, if these are all there were."""
    (old, labels), _ = two_sessions()
    named = [Recording(r.traces, identities=np.arange(1, 21)) for r in old]
    model = lfads(initialization="conditions", early_stopping=False, learning_rate=1e-12)
    model.fit(named, labels)
    copies = [Recording(np.c_[r.traces, r.traces[:, :5]], identities=np.arange(1, 26)) for r in old]
    alone = [Recording(r.traces[:, :5], identities=np.arange(21, 26)) for r in old]
    sizes = {}
    for name, trials in (("next to known ones", copies), ("alone", alone)):
        grown = pickle.loads(pickle.dumps(model)).partial_fit(trials, labels)
        sizes[name] = grown.network_.read_in[20:].norm()
    assert sizes["next to known ones"] < 0.05 * sizes["alone"]


def test_what_new_neurons_need_to_meet_the_model():
    (old, labels), (new, others) = two_sessions()
    model = lfads(initialization="conditions", early_stopping=False, max_iter=1).fit(old, labels)
    stored = pickle.dumps(model)
    pickle.loads(stored).partial_fit(old)  # no new neuron, no need
    with pytest.raises(ValueError, match=r"needs y, one condition .*got none"):
        pickle.loads(stored).partial_fit(new)
    with pytest.raises(ValueError, match=r"y has none of the conditions .* got 'another'"):
        pickle.loads(stored).partial_fit(new, ["another"] * len(new))
    with pytest.raises(ValueError, match=r"initialization='pcr' starts new neurons .* known since"):
        pickle.loads(stored).set_params(initialization="pcr").partial_fit(new)
    drawn = lfads(early_stopping=False, max_iter=1).fit(old)
    with pytest.raises(ValueError, match="known recordings first, and y, or draw"):
        drawn.set_params(initialization="conditions").partial_fit(new, others)


def test_behavior_is_no_condition():
    trials = [t.replace(behavior=t.traces[:, :1]) for t in sessions()]
    behavior = [t.behavior for t in trials]
    pipeline = make_pipeline(lfads(initialization="conditions"), BehaviorDecoder())
    with pytest.raises(ValueError, match=r"as y one condition per recording, .*of type ndarray"):
        pipeline.fit(trials, behavior)


@pytest.mark.parametrize("initialization", ["pcr", "conditions"])
def test_starts_differ_from_drawn_ones(initialization):
    trials = sessions()
    labels = [i % 3 for i in range(len(trials))]
    model = lfads(initialization=initialization, max_iter=1).fit(trials, labels)
    plain = lfads(max_iter=1).fit(trials)
    for table in ("read_in", "read_out"):
        ours, drawn = (getattr(m.network_, table) for m in (model, plain))
        assert not torch.allclose(ours, drawn, atol=1e-2)
    assert np.isfinite(model.predict(trials)[0]).all()
