"""Models that were fitted before, wherever they hide what they have learned."""

from __future__ import annotations

import functools
import pickle
import types

import joblib
import numpy as np
from sklearn.base import BaseEstimator, clone

from skneurovae.model_selection.leaks.leak import Leak

PLAIN = (str, bytes, int, float, complex, bool, type(None), np.ndarray, np.generic, range, slice)
OF_SKLEARN = ("_sklearn", "_metadata", "_skl")  # what clone itself carries over
DEEPEST = 12


def fitted_models(models):
    """Leaks of models that still hold what they have learned after `sklearn.base.clone`.

    Parameters
    ----------
    models : sequence of estimators

    Yields
    ------
    Leak

    Notes
    -----
    All that a clone can reach is looked through: its attributes and those of its class, parameters,
    containers, closures, partial functions, bound methods and the global names that a function
    uses. Learned is what has an attribute that ends with an underscore, and what a clone has beyond
    a new instance with the same parameters.
    """
    for model in models:
        try:
            copy = clone(model, safe=False)
        except Exception:  # of a model of others; its cells fail with it, and say so
            continue
        found = _carried_over(copy) or next(
            (f"{name!r} of a {type(owner).__name__}" for owner, name, _ in learned(copy)), None
        )
        if found:
            yield Leak(
                "fitted model",
                f"{type(model).__name__} was fitted before and may have seen the test recordings: "
                f"a clone still holds {found}; give the unfitted one.",
            )


def _carried_over(copy):
    """An attribute that a clone has and a new instance with its parameters has not."""
    if not isinstance(copy, BaseEstimator) or not hasattr(type(copy), "__sklearn_clone__"):
        return None
    if type(copy).__sklearn_clone__ is BaseEstimator.__sklearn_clone__:
        return None
    try:
        fresh = type(copy)(**copy.get_params(deep=False))
    except TypeError:  # an initializer with arguments that are no parameters
        return None
    extra = [n for n in vars(copy) if n not in vars(fresh) and not n.startswith(OF_SKLEARN)]
    return f"the attribute {extra[0]!r}" if extra else None


def learned(value):
    """Attributes that end with an underscore of all models that a value can reach.

    Parameters
    ----------
    value : object

    Yields
    ------
    owner : object
    name : str
    content : object
    """
    seen, waiting = set(), [(value, 0)]
    while waiting:
        value, depth = waiting.pop()
        if isinstance(value, PLAIN) or id(value) in seen or depth > DEEPEST:
            continue
        seen.add(id(value))
        attributes = _attributes(value)
        if _is_model(value):
            for name, content in attributes.items():
                if name.endswith("_") and not name.startswith("_"):
                    yield value, name, content
        waiting += [(part, depth + 1) for part in (*attributes.values(), *_parts(value))]


def learned_state(model):
    """A hash for each thing that a model has learned, to see whether anybody changed it.

    Parameters
    ----------
    model : fitted estimator

    Returns
    -------
    list of (str, str)
        Name and hash; what cannot be hashed is left out.
    """
    state = []
    for _, name, content in learned(model):
        if not _is_model(content):  # which is looked at by itself
            try:
                state.append((name, joblib.hash(content)))
            except (TypeError, AttributeError, pickle.PicklingError):
                continue
    return state


def _is_model(value):
    return any(hasattr(value, name) for name in ("fit", "predict", "transform"))


def _attributes(value):
    if isinstance(value, (type, types.ModuleType, types.FunctionType)):
        return {}
    own = getattr(value, "__dict__", {})
    return dict(own) if isinstance(own, dict) else {}


def _parts(value):
    """What a value leads to besides its attributes."""
    if isinstance(value, dict):
        return list(value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return list(value)
    if isinstance(value, functools.partial):
        return [value.func, *value.args, *value.keywords.values()]
    if isinstance(value, types.MethodType):
        return [value.__self__, value.__func__]
    if isinstance(value, types.FunctionType):
        cells = [_content(cell) for cell in value.__closure__ or ()]
        defaults = [*(value.__defaults__ or ()), *(value.__kwdefaults__ or {}).values()]
        used = [value.__globals__.get(name) for name in value.__code__.co_names]
        # Of modules and classes only what they are used for could matter, and that is code.
        used = [part for part in used if not isinstance(part, (type, types.ModuleType))]
        return [*cells, *defaults, *used]
    if isinstance(value, BaseEstimator):
        kept = [vars(kind).items() for kind in type(value).__mro__ if not _of_a_library(kind)]
        return [part for own in kept for name, part in own if not name.startswith("__")]
    return []


def _content(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


def _of_a_library(kind):
    return kind.__module__.partition(".")[0] in ("builtins", "abc", "sklearn", "skneurovae")
