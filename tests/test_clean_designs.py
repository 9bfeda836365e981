"""No false alarm: set-ups without a leak, of many kinds, stay clean."""

import os
import time
from pathlib import Path

import numpy as np
import pytest
from clean_designs import CLEAN
from sklearn.model_selection import KFold

from skneurovae import Recording
from skneurovae.datasets import load_h5
from skneurovae.model_selection import find_leaks, segment

DATA = os.environ.get("SKNEUROVAE_DATA")  # a folder with HDF5 files in the layout of `load_h5`
FILES = sorted(Path(DATA).glob("*.h5")) if DATA else []


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("design", CLEAN, ids=lambda f: f.__name__)
def test_a_clean_design_has_no_leak(design):
    case = design()
    X = case.pop("X")
    splits = list(case.pop("splits", KFold(4).split(X)))
    assert find_leaks(X, splits, **case) == []


def test_there_are_designs_of_many_kinds():
    assert len(CLEAN) >= 40


@pytest.mark.slow
@pytest.mark.skipif(not FILES, reason="SKNEUROVAE_DATA names no folder with HDF5 files")
@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_real_recordings_have_no_leak(path):
    recordings = load_h5(path)
    if len(recordings) > 1:
        assert find_leaks(recordings, list(KFold(2).split(recordings))) == []
    first = recordings[0]
    length = min(max(first.n_timesteps // 20, 40), 500)
    pieces = segment(recordings[:1], length, gap=length)
    splits = list(KFold(4, shuffle=True, random_state=0).split(pieces))
    mean, std = np.nanmean(first.traces, axis=0), np.nanstd(first.traces, axis=0)
    standardized = max(np.abs(mean).max(), np.abs(std - 1).max()) < 1e-2  # before publication
    assert {leak.kind for leak in find_leaks(pieces, splits)} <= (
        {"scaling"} if standardized else set()
    )
    if first.behavior is not None:
        y = [piece.behavior for piece in pieces]
        hidden = [Recording(p.traces, identities=p.identities, session=p.session) for p in pieces]
        found = {leak.kind for leak in find_leaks(hidden, splits, y=y)}
        assert found <= ({"scaling"} if standardized else set())


@pytest.mark.parametrize("n_trials", [400, 2000])
def test_cost_grows_about_as_the_number_of_trials(n_trials):
    rng = np.random.default_rng(0)
    trials = list(rng.standard_normal((n_trials, 60, 30)))
    splits = list(KFold(5).split(trials))
    begin = time.process_time()
    assert find_leaks(trials, splits) == []
    assert time.process_time() - begin < n_trials * 5e-3  # 2,000 trials within ten seconds
