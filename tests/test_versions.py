"""A saved estimator carries the version of the package and warns in another one."""

import copy
import pickle
import warnings

import joblib
import pytest
from estimator_cases import CASES, answers, assert_same
from sklearn.pipeline import make_pipeline

import skneurovae
from skneurovae.common.versions import Versioned, VersionWarning


@pytest.mark.parametrize("name", CASES)
def test_pickles_warn_across_versions_only(name, monkeypatch, tmp_path):
    case = CASES[name]
    data = case.data("first")
    model = case.make().fit(*data)
    saved = pickle.dumps(model)
    joblib.dump(make_pipeline(model), tmp_path / "model")
    expected = answers(model, data)
    with warnings.catch_warnings():
        warnings.simplefilter("error", VersionWarning)
        loaded = pickle.loads(saved)
        copy.deepcopy(model)
    assert vars(loaded).keys() == vars(model).keys()
    monkeypatch.setattr(skneurovae, "__version__", "9.9.9")
    own = type(model).__name__
    message = rf"^{own} was saved by skneurovae 0\.\d+\.\d+ and is loaded by 9\.9\.9: "
    for load in (lambda: pickle.loads(saved), lambda: joblib.load(tmp_path / "model")[0]):
        with pytest.warns(VersionWarning, match=message) as told:
            loaded = load()
        assert "\n" not in str(told[0].message)
        assert_same(answers(loaded, data), expected)
    # Saved again, it is of this version.
    with warnings.catch_warnings():
        warnings.simplefilter("error", VersionWarning)
        pickle.loads(pickle.dumps(loaded))


def test_a_pickle_without_a_version_is_told():
    model = CASES["smoothed"].make()
    state = {name: v for name, v in model.__getstate__().items() if "version" not in name}
    with pytest.warns(VersionWarning, match="saved by skneurovae an unknown version"):
        type(model)().__setstate__(state)


def test_every_estimator_is_versioned():
    assert all(isinstance(case.estimator, Versioned) for case in CASES.values())


# The trees of scikit-learn's neighbors must be trusted by whoever uses them.
@pytest.mark.parametrize("name", sorted(CASES.keys() - {"decoder of angles"}))
def test_skops_trusts_the_package_alone_and_warns_too(name, monkeypatch):
    from skops.io import dumps, get_untrusted_types, loads

    case = CASES[name]
    data = case.data("first")
    model = case.make().fit(*data)
    saved = dumps(model)
    trusted = get_untrusted_types(data=saved)
    assert all(kind.startswith("skneurovae.") for kind in trusted)
    assert_same(answers(loads(saved, trusted=trusted), data), answers(model, data))
    monkeypatch.setattr(skneurovae, "__version__", "9.9.9")
    with pytest.warns(VersionWarning, match="is loaded by 9"):
        loads(saved, trusted=trusted)
