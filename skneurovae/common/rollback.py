"""A fit that fails or is interrupted leaves the estimator as it was."""

from __future__ import annotations

from functools import wraps

__all__ = ["all_or_nothing"]


def all_or_nothing(method):
    """Decorate a method of an estimator, so that its attributes change in full or not at all.

    Attributes are put back, not what is in them: the method must make new arrays and models and
    not write into those of the last fit.

    Parameters
    ----------
    method : callable
        Such as `fit`.

    Returns
    -------
    callable
        If it raises anything, also `KeyboardInterrupt`, the estimator has the attributes of before.
    """

    @wraps(method)
    def changed_or_as_before(estimator, *args, **kwargs):
        before = dict(vars(estimator))
        try:
            return method(estimator, *args, **kwargs)
        except BaseException:
            estimator.__dict__ = before  # one step, which no second interrupt divides
            raise

    return changed_or_as_before
