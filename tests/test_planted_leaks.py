"""Planted leaks are found, and those that cannot be told from clean data are named as such."""

import dataclasses
import re
from pathlib import Path

import numpy as np
import planted_leaks
import pytest
from planted_leaks import BEYOND, PLANTED, halves

from skneurovae.baselines import LaggedRidge, MissingFactorAnalysis
from skneurovae.datasets import make_worms
from skneurovae.metrics import co_smoothing_score
from skneurovae.model_selection import find_leaks

DOCS = Path(__file__).parent.parent / "docs" / "comparing.md"


@pytest.fixture(scope="module")
def worms():
    """Animals without the names of their session, so that only their data can tell."""
    made, _ = make_worms(4, n_timesteps=160, n_identities=40, n_recorded=30, random_state=0)
    return [dataclasses.replace(w, session=None) for w in made]


def leaks_of(plant, worms):
    case = plant(worms)
    X = case.pop("X")
    return find_leaks(X, list(case.pop("splits", halves(len(X)))), **case)


@pytest.mark.parametrize("plant", PLANTED, ids=lambda f: f.__name__)
def test_a_planted_leak_is_found(plant, worms):
    kind, certain = PLANTED[plant]
    found = leaks_of(plant, worms)
    assert (kind, certain) in {(leak.kind, leak.certain) for leak in found}
    # Nothing else is suspected, as all else is clean.
    assert {leak.kind for leak in found} == {kind}


def test_suspicion_comes_with_its_evidence(worms):
    for plant, (kind, certain) in PLANTED.items():
        if not certain and kind in ("copy", "behavior copies a trace", "mask tells the target"):
            (message, *_) = (leak.message for leak in leaks_of(plant, worms))
            assert re.search(r"\d", message.split(":")[-1] + message), message


@pytest.mark.parametrize("plant", BEYOND, ids=lambda f: f.__name__)
def test_what_the_docs_name_as_beyond_detection_is_not_found(plant, worms):
    assert leaks_of(plant, worms) == []
    assert BEYOND[plant] in " ".join(DOCS.read_text().split())


def score(model, case, splits=None):
    train, test = next(iter(splits or case.get("splits", halves(len(case["X"])))))
    fitted = model.fit([case["X"][i] for i in train])
    return co_smoothing_score(fitted, [case["X"][i] for i in test])


@pytest.mark.filterwarnings("ignore:Unknown to the model")
@pytest.mark.parametrize("plant", ["with_a_little_noise", "reversed_in_time", "rounded"])
def test_a_changed_copy_would_have_raised_the_score(plant, worms):
    flexible = MissingFactorAnalysis(12, shrinkage=0.1, random_state=0)
    case = getattr(planted_leaks, plant)(worms)
    clean = {"X": [worms[3], *case["X"][1:]]}
    splits = [([0, 1], [2])]
    assert score(flexible, case, splits) > score(flexible, clean, splits) + 0.3


@pytest.mark.filterwarnings("ignore:Unknown to the model")
def test_a_smoothed_neuron_among_the_behaviors_would_have_raised_the_score(worms):
    ridge = LaggedRidge(lags=0, alpha=10.0)
    spied = planted_leaks.behavior_of_a_smoothed_neuron(worms)
    assert score(ridge, spied) > score(ridge, {"X": worms}) + 0.01


def test_many_leaks_of_a_kind_are_counted_and_not_listed(worms):
    X = [w.replace(traces=w.traces + 0.0) for w in worms for _ in range(3)]
    leaks = find_leaks(X, [(np.arange(0, 12, 3), np.arange(1, 12, 3)), ([2, 5, 8], [0, 3, 6, 1])])
    assert [leak.kind for leak in leaks] == ["overlap"] * 5
    assert re.search(r"And \d+ more of this kind", leaks[-1].message)
