"""The one door through which recordings come in."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
from sklearn.utils.validation import check_array, validate_data

from skneurovae.common.missing import is_missing, missing_entries, plain_array
from skneurovae.recordings.recording import Recording

FLOATS = [np.float64, np.float32]  # other types become the first
FORMS = "a 2-D or 3-D array, a DataFrame, a list of them, or a list of Recording"


@dataclass(frozen=True)
class Form:
    """The form in which recordings came in.

    Parameters
    ----------
    kind : {"array", "stack", "list"}
        2-D array or DataFrame, 3-D array, or list.
    """

    kind: str

    def wrap(self, arrays):
        """Give arrays, one per recording, the form in which the recordings came.

        Parameters
        ----------
        arrays : list of ndarray

        Returns
        -------
        ndarray or list of ndarray
            The only array of "array", all of them along a new first axis of "stack", a list of
            "list".
        """
        if self.kind == "array":
            return arrays[0]
        return np.stack(arrays) if self.kind == "stack" else list(arrays)


def check_recordings(
    X,
    *,
    mask=None,
    behavior=None,
    stimulus=None,
    identities=None,
    estimator=None,
    reset=True,
):
    """Check recordings in any accepted form and turn them into a list of `Recording`.

    Parameters
    ----------
    X : array, DataFrame or list
        Traces, time first; NaN = not observed, as are masked entries of a NumPy masked array, None
        and the missing values of pandas and polars, here and in `behavior`. A 2-D array or
        DataFrame is one recording of shape (n_timesteps, n_neurons); a 3-D array, a list of 2-D
        arrays or DataFrames, or a list of `Recording` is many. Names of the columns of a DataFrame
        are identities.
    mask : array of bool or list, default=None
        Shape of the traces, True = observed. It is folded into NaN, in a copy.
    behavior : array of shape (n_timesteps, n_behaviors) or (n_timesteps,), or list, default=None
        NaN = not observed.
    stimulus : array of shape (n_timesteps, n_stimuli) or (n_timesteps,), or list, default=None
        Finite. All recordings have it, or none.
    identities : array of shape (n_neurons,) or list, default=None
        Strings, "" = unknown, or integers below 2**63, 0 = unknown; so is what is missing, such as
        NaN or None. They take the place of the names of the columns. One array may serve all
        recordings.
    estimator : object, default=None
        Estimator that gets `n_behaviors_in_`, `n_stimuli_in_`, and, where neurons are told apart
        by their column alone or by the names of one DataFrame, `n_features_in_` and
        `feature_names_in_`.
    reset : bool, default=True
        True in `fit`: set these attributes, and refuse recordings in which nothing is observed.
        False: compare with them. Behavior may be absent, and is dropped where `fit` had none, so
        that one set of recordings serves models fitted with and without.

    Returns
    -------
    recordings : list of Recording
        Traces, behavior and stimulus are 2-D float64 or float32; identities are str or int64.
    form : Form
        The form of `X`.

    Raises
    ------
    ValueError, TypeError
        In one line that names the argument, the recording, what was found and what is needed.

    Notes
    -----
    With many recordings a keyword is a list with one entry, or None, per recording; with a 3-D `X`
    an array is fine too.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae.recordings import check_recordings
    >>> recordings, form = check_recordings(np.zeros((2, 50, 4)), behavior=np.zeros((2, 50)))
    >>> recordings[1]
    Recording(traces: (50, 4), behavior: (50, 1))
    >>> form.wrap([r.traces[:, :2] for r in recordings]).shape
    (2, 50, 2)
    """
    form = Form(kind_of(X))
    if form.kind == "array":
        items, identities = [_one_array(X, identities, estimator, reset)], None
    else:
        items = list(X)
        if not items:
            raise ValueError("X holds no recordings; at least one is needed.")
    given = {"mask": mask, "behavior": behavior, "stimulus": stimulus, "identities": identities}
    spread = [_spread(name, value, items, form.kind) for name, value in given.items()]
    recordings = [
        _check_recording(item, index, dict(zip(given, values)), reset)
        for index, (item, *values) in enumerate(zip(items, *spread))
    ]
    _check_labels_alike(recordings)
    if estimator is not None and not reset and estimator.n_behaviors_in_ == 0:
        recordings = [recording.replace(behavior=None) for recording in recordings]
    n_behaviors = _width(recordings, "behavior")
    n_stimuli = _width(recordings, "stimulus")
    if estimator is not None and reset:
        if form.kind != "array":
            _set_n_features(estimator, recordings)
        estimator.n_behaviors_in_, estimator.n_stimuli_in_ = n_behaviors, n_stimuli
    elif estimator is not None:
        _compare(estimator, recordings)
    return recordings, form


def kind_of(X):
    """Whether X is a 2-D "array", a "stack" of them in three dimensions, or a "list".

    Raises
    ------
    TypeError
        If it is none of these.
    """
    if isinstance(X, list):
        # Nested lists of numbers are a 2-D array to scikit-learn.
        rows = all(isinstance(item, (list, tuple)) and not _nested(item) for item in X)
        return "array" if X and (rows or np.isscalar(X[0])) else "list"
    if not (hasattr(X, "shape") or hasattr(X, "__array__")):
        hint = ""
        if isinstance(X, tuple):
            hint = ": put recordings in a list, and what belongs to one recording in a Recording"
        elif isinstance(X, Recording):
            hint = ": put it in a list, [recording]"
        raise TypeError(f"X must be {FORMS}; got {type(X).__name__}{hint}.")
    return "stack" if getattr(X, "ndim", 2) == 3 else "array"


def _nested(item):
    return any(isinstance(e, (list, tuple)) or len(getattr(e, "shape", ())) for e in item)


def _one_array(X, identities, estimator, reset):
    """Recording of a 2-D array or DataFrame, checked by scikit-learn and with its messages."""
    _refuse_epochs(X, "X")
    traces = check_array(
        _plain(X, "X"), estimator=estimator, input_name="X", dtype=FLOATS,
        ensure_all_finite="allow-nan",
    )  # fmt: skip
    # Where neurons are found by identity, their number may differ from that in fit.
    as_in_fit = not reset and identities is None and hasattr(estimator, "n_features_in_")
    if estimator is not None and (reset or as_in_fit):
        validate_data(estimator, X, reset=reset, skip_check_array=True)
    if as_in_fit:
        # scikit-learn has compared columns and names with those of fit, and warned.
        identities = getattr(estimator, "feature_names_in_", None)
    if identities is None and (not as_in_fit or hasattr(X, "time_support")):
        # scikit-learn knows nothing of the names of pynapple's time series.
        identities = _column_names(X, 0)
    return Recording(traces, identities=identities)


def _spread(name, value, items, kind):
    """One entry of a keyword per recording."""
    if value is None or kind == "array":
        return [value] * len(items)
    if name == "identities" and _is_vector(value):
        widths = sorted({_n_neurons(item) for item in items})
        if widths != [len(value)]:
            raise ValueError(
                f"identities is one array of {len(value)} labels for all recordings, which have "
                f"{' or '.join(map(str, widths))} neurons; give a list with one array each."
            )
        return [value] * len(items)
    if not isinstance(value, list) and not (kind == "stack" and np.ndim(value) > 1):
        raise TypeError(
            f"{name} must be a list with one entry per recording, as X is; "
            f"got {type(value).__name__}."
        )
    if len(value) != len(items):
        raise ValueError(f"{name} has {len(value)} entries; X has {len(items)} recordings.")
    return value


def _is_vector(value):
    if isinstance(value, list):
        known = [isinstance(label, (str, Integral)) for label in value]
        return any(known) and all(k or is_missing(label) for k, label in zip(known, value))
    return np.ndim(value) == 1


def _n_neurons(item):
    traces = item.traces if isinstance(item, Recording) else item
    return np.shape(traces)[-1] if np.ndim(traces) else 0


def _check_recording(item, index, given, reset):
    """Recording with every field checked by itself, keywords merged in."""
    if isinstance(item, tuple):
        raise TypeError(f"recording {index} of X is a tuple; give an array or a Recording.")
    recording = item if isinstance(item, Recording) else Recording(item)
    mask = given.pop("mask")
    for name, value in given.items():
        if value is None:
            continue
        if getattr(recording, name) is not None:
            raise ValueError(f"{name} is given twice: recording {index} has it, and the keyword.")
        recording = recording.replace(**{name: value})
    traces = _check_traces(recording.traces, mask, index, reset)
    labels = recording.identities
    labels = _column_names(recording.traces, index) if labels is None else labels
    if not (recording.session is None or isinstance(recording.session, str)):
        raise TypeError(f"session of recording {index} must be a str, got {recording.session!r}.")
    rate = recording.rate_hz
    if rate is not None and not (isinstance(rate, Real) and 0 < rate < np.inf):
        raise ValueError(f"rate_hz of recording {index} must be a positive number, got {rate!r}.")
    return recording.replace(
        traces=traces,
        behavior=_check_channels("behavior", recording.behavior, index, len(traces)),
        stimulus=_check_channels("stimulus", recording.stimulus, index, len(traces)),
        identities=_check_identities(labels, index, traces.shape[1]),
    )


def _plain(value, what):
    """What scikit-learn takes for an array as it is, missing entries as NaN or None."""
    if isinstance(value, np.matrix):  # which scikit-learn refuses
        return value
    try:
        array = plain_array(value)
    except ValueError as error:
        raise ValueError(f"{what} must be an array: {error}") from error
    return array if array.ndim else value


def _refuse_epochs(value, what):
    """Refuse time series of pynapple that have gaps: windows and lags would reach across them."""
    support = getattr(value, "time_support", None)
    if support is not None and len(support) > 1:
        raise ValueError(
            f"{what} must be one continuous recording, but {len(support)} epochs were found; give "
            "a list with one recording for each, [x.restrict(epoch) for epoch in x.time_support]."
        )


def _floats(value, what):
    """Array of floats; scikit-learn's message, if any, in one line that begins with `what`."""
    _refuse_epochs(value, what)
    try:
        return check_array(
            _plain(value, what), dtype=FLOATS, ensure_all_finite=False, ensure_2d=False,
            allow_nd=True, ensure_min_samples=0, ensure_min_features=0,
        )  # fmt: skip
    except (TypeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{what} must be an array of numbers: {reason}") from error


def _check_traces(value, mask, index, reset):
    what = f"traces of recording {index}"
    traces = _floats(value, what)
    if traces.ndim != 2 or traces.size == 0:
        raise ValueError(
            f"{what} must have shape (n_timesteps, n_neurons), at least 1 each; got {traces.shape}."
        )
    with np.errstate(over="ignore", invalid="ignore"):
        finite = np.isfinite(traces.sum())  # one cheap pass that settles nearly all cases
    if not finite and np.isinf(traces).any():
        raise ValueError(f"{what} hold infinity; give finite values, NaN = not observed.")
    if mask is not None:
        observed = np.asarray(_plain(mask, f"mask of recording {index}"))
        if observed.shape != traces.shape:
            raise ValueError(
                f"mask of recording {index} must have the shape {traces.shape} of its traces, "
                f"got {observed.shape}."
            )
        if observed.dtype != bool and not np.isin(observed, (0, 1)).all():
            raise ValueError(f"mask of recording {index} must be True (observed) or False.")
        traces = np.where(observed.astype(bool), traces, np.nan)
    if reset and not (finite and mask is None) and np.isnan(traces).all():
        raise ValueError(f"{what} are all NaN or masked; at least one entry must be observed.")
    return traces


def _check_channels(name, value, index, n_timesteps):
    """Behavior or stimulus as a 2-D array, None if absent."""
    if value is None:
        return None
    what = f"{name} of recording {index}"
    channels = _floats(value, what)
    channels = channels[:, None] if channels.ndim == 1 else channels
    if channels.ndim != 2 or len(channels) != n_timesteps or channels.size == 0:
        raise ValueError(
            f"{what} must have shape ({n_timesteps},) or ({n_timesteps}, n_channels), "
            f"one row per time step of its traces; got {channels.shape}."
        )
    if name == "stimulus" and np.isnan(channels).any():
        raise ValueError(f"{what} holds NaN; it must be known at every time step.")
    if np.isinf(channels).any():
        raise ValueError(f"{what} holds infinity; give finite values.")
    return channels


def _check_identities(value, index, n_neurons):
    """Identities as a str or int64 array, None if absent."""
    if value is None:
        return None
    what = f"identities of recording {index}"
    # As objects, since NumPy would turn a mixture of strings and integers into strings.
    labels = np.array(value if isinstance(value, list) else plain_array(value), dtype=object)
    if labels.shape != (n_neurons,):
        raise ValueError(
            f"{what} must have shape ({n_neurons},), one per neuron; got {labels.shape}."
        )
    unknown, labels = missing_entries(labels), labels.tolist()
    known = [label for label, lacks in zip(labels, unknown) if not lacks]
    if unknown.any() and all(isinstance(n, float) and n.is_integer() for n in known):
        # pandas and NumPy turn whole numbers into floats where one is missing.
        labels = [0 if u else int(label) for label, u in zip(labels, unknown)]
        known = [label for label, lacks in zip(labels, unknown) if not lacks]
    if all(isinstance(label, str) for label in known):
        return np.array(["" if u else label for label, u in zip(labels, unknown)], dtype=str)
    if not all(isinstance(n, Integral) and not isinstance(n, (bool, np.bool_)) for n in known):
        odd = next((label for label in known if not isinstance(label, (str, Integral))), known[0])
        raise TypeError(
            f'{what} must be all strings ("" = unknown) or all integers (0 = unknown); '
            f"got {odd!r} among them."
        )
    if min(known) < 0:
        raise ValueError(f"{what} must not be negative; got {min(known)} (0 = unknown).")
    if max(known) >= 2**63:
        raise ValueError(f"{what} must be below 2**63; got {max(known)}.")
    return np.array([0 if u else label for label, u in zip(labels, unknown)], dtype=np.int64)


def _column_names(table, index):
    """String names of the columns of a DataFrame, else None.

    Other labels, such as a default index, are not names: they would make column 0 of unrelated
    tables one neuron.
    """
    columns = list(getattr(table, "columns", ()))
    named = [isinstance(column, str) for column in columns]
    if any(named) and not all(named):
        raise TypeError(f"names of the columns of recording {index} must be all strings or none.")
    return columns if any(named) else None


def _check_labels_alike(recordings):
    """Refuse integers in one recording and strings in another, where they name neurons."""
    kinds = {}
    for index, recording in enumerate(recordings):
        labels = recording.identities
        if labels is not None and (labels != labels.dtype.type()).any():
            kinds.setdefault(labels.dtype.kind, index)
    if len(kinds) > 1:
        raise ValueError(
            f"identities of recording {kinds['i']} are integers, those of recording {kinds['U']} "
            "strings; give the same kind to all."
        )


def _width(recordings, name):
    """Number of channels of behavior or stimulus, the same wherever there is any; 0 if none."""
    first = None
    for index, recording in enumerate(recordings):
        channels = getattr(recording, name)
        if channels is None:
            continue
        if first is None:
            first, width = index, channels.shape[1]
        elif channels.shape[1] != width:
            raise ValueError(
                f"{name} of recording {index} has {channels.shape[1]} channels, that of "
                f"recording {first} has {width}; all need the same."
            )
    for index, recording in enumerate(recordings):
        if name == "stimulus" and first is not None and recording.stimulus is None:
            raise ValueError(
                f"stimulus of recording {index} is absent, but recording {first} has one; "
                "give it to all or none."
            )
    return 0 if first is None else width


def _set_n_features(estimator, recordings):
    """Keep the number of columns only where columns are what tells neurons apart."""
    for attribute in ("n_features_in_", "feature_names_in_"):
        vars(estimator).pop(attribute, None)
    widths = {recording.n_neurons for recording in recordings}
    if len(widths) == 1 and all(recording.identities is None for recording in recordings):
        estimator.n_features_in_ = widths.pop()


def _compare(estimator, recordings):
    """Refuse channels that fit did not see; behavior may be absent, stimulus may not."""
    for index, recording in enumerate(recordings):
        for name, fitted in [
            ("behavior", estimator.n_behaviors_in_),
            ("stimulus", estimator.n_stimuli_in_),
        ]:
            channels = getattr(recording, name)
            found = 0 if channels is None else channels.shape[1]
            if found != fitted and (found or name == "stimulus"):
                raise ValueError(
                    f"{name} of recording {index} has {found} channels, but "
                    f"{type(estimator).__name__} was fitted with {fitted}."
                )
