"""A fit that fails or is interrupted leaves the estimator as it was."""

import inspect

import numpy as np
import pytest
from estimator_cases import CASES, NETWORKS, OTHERS, answers, assert_as_before, assert_same
from interrupting import interrupt_at, n_calls
from sklearn.base import clone
from sklearn.decomposition import NMF, PCA
from sklearn.exceptions import NotFittedError
from sklearn.utils.validation import check_is_fitted

from skneurovae.baselines import (
    AlignNeurons,
    GaussianSmoother,
    LaggedRidge,
    MissingFactorAnalysis,
    PoissonGLM,
    Pooled,
    RowWise,
)
from skneurovae.common.rollback import all_or_nothing
from skneurovae.decoding import BehaviorDecoder


@pytest.mark.parametrize("name", OTHERS)
def test_an_interrupted_refit_of_a_baseline_changes_nothing(name):
    case = OTHERS[name]
    data, other = case.data("first"), case.data("other")
    model = case.make().fit(*data)
    before, expected = dict(vars(model)), answers(model, data)
    total = n_calls(case.make().fit, *other)
    assert total > 3
    for number in np.unique(np.linspace(1, total, 10).astype(int)):
        with interrupt_at(number), pytest.raises(KeyboardInterrupt):
            model.fit(*other)
        assert_as_before(model, before)
    assert_same(answers(model, data), expected)


@pytest.mark.parametrize("name", CASES)
def test_an_interrupted_first_fit_leaves_no_attributes(name):
    case = CASES[name]
    other = case.data("other")
    model = case.make()
    before = dict(vars(model))
    early = 200 if name in NETWORKS else n_calls(case.make().fit, *other)
    for number in np.unique(np.linspace(1, early, 5).astype(int)):
        with interrupt_at(number), pytest.raises(KeyboardInterrupt):
            model.fit(*other)
        assert_as_before(model, before)
        with pytest.raises(NotFittedError):
            check_is_fitted(model)


X = np.random.default_rng(0).standard_normal((40, 5))
GAPS = np.where(X > 1, np.nan, X)
COUNTS = np.random.default_rng(0).poisson(2.0, (40, 5)).astype(float)
# What is fitted first, and what fails late: after neurons or lags were read.
FAILURES = {
    "aligned": (AlignNeurons(), (X,), {}, ([X, X[:, :3]],), ValueError),
    "smoothed": (GaussianSmoother(), (X,), {"width": -1.0}, (X[:, :3],), ValueError),
    "factor analysis": (
        MissingFactorAnalysis(2, random_state=0), (X,), {"random_state": "odd"}, (X[:, :3],),
        ValueError,
    ),
    "pooled": (Pooled(PCA(2)), (X,), {"estimator": RowWise(PCA(2))}, (X[:, :3],), TypeError),
    "pooled NMF": (Pooled(PCA(2)), (X,), {"estimator": NMF(2)}, (X[:, :3],), ValueError),
    "row-wise": (RowWise(PCA(2)), (X,), {}, (GAPS[:, :3],), ValueError),
    "row-wise PCA": (RowWise(PCA(2)), (X,), {"estimator": PCA(9)}, (X[:, :3],), ValueError),
    "ridge": (LaggedRidge(2), (X, None, X), {"lags": [0.5]}, (X[:, :3], None, X), ValueError),
    "glm": (PoissonGLM(2), (COUNTS, None, X), {}, (-COUNTS[:, :3], None, X), ValueError),
    "decoder": (BehaviorDecoder(), (X, X), {}, (X[:, :3], X[:30]), ValueError),
    "decoder of classes": (
        BehaviorDecoder(), (X, X), {"kind": "categorical"}, (X[:, :3], X), ValueError,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FAILURES)
def test_a_failed_refit_changes_nothing(name):
    model, good, changes, bad, error = FAILURES[name]

    def fit(given):
        names = [*inspect.signature(type(model).fit).parameters][1:]
        names = ["X", "y", "behavior"] if "behavior" in names else names
        return model.fit(**dict(zip(names, given)))

    model = clone(model).set_params(**changes)
    with pytest.raises(error):
        fit(bad)
    assert vars(model).keys() == model.get_params(deep=False).keys()
    model = clone(FAILURES[name][0])
    fit(good)
    before = dict(vars(model))
    before.update(model.set_params(**changes).get_params(deep=False))
    with pytest.raises(error):
        fit(bad)
    assert_as_before(model, before)


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, SystemExit])
def test_attributes_come_back_that_were_changed_deleted_or_added(error):
    class Model:
        old, gone = "class", "class"

        @all_or_nothing
        def fit(self, fails):
            """Docstring."""
            self.old, self.new = 2, 3
            del self.gone
            if fails:
                raise error
            return self

    model = Model()
    model.old, model.gone = 1, 1
    with pytest.raises(error):
        model.fit(True)
    assert vars(model) == {"old": 1, "gone": 1}
    assert vars(model.fit(False)) == {"old": 2, "new": 3}
    assert Model.fit.__doc__ == "Docstring."
    assert [*inspect.signature(Model.fit).parameters] == ["self", "fails"]
