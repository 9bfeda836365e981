"""Which neurons an embedding depends on."""

from __future__ import annotations

import numpy as np

SMALLEST = 0.01  # singular value that is inverted, of the largest


def attribution(estimator, X, *, inverse=False, absolute=True, max_samples=1000, **inputs):
    """How much each component of an embedding depends on each neuron.

    Parameters
    ----------
    estimator : object
        Fitted, with a method `jacobian`, such as `ContrastiveEmbedding`. Its derivatives are best
        defined if it was trained with `jacobian_penalty`.
    X : recordings
    inverse : bool, default=False
        Take the pseudo-inverse of the Jacobian at each time step, in absolute values: how a change
        of the component shows in the neurons, in place of how the neurons move the component.
        Directions with less than a hundredth of the largest singular value are left out.
    absolute : bool, default=True
        Take absolute derivatives at each step of the window, then their mean; otherwise the
        absolute value of their mean. With `inverse` it must be False: the Jacobian needs its signs.
    max_samples : int, default=1000
        Most time steps of each recording.
    **inputs
        `mask`, `identities`, ... of the estimator's methods.

    Returns
    -------
    ndarray of shape (n_components, n_neurons), or list of them, in the form of `X`
        Means over time steps. For a 3-D `X` an array with one map per recording.

    Raises
    ------
    ValueError
        If `inverse` and `absolute` are both True.
    TypeError
        If the estimator has no `jacobian`.

    References
    ----------
    Schneider et al. (2025), Time-series attribution maps with regularized contrastive learning.

    Examples
    --------
    >>> import numpy as np
    >>> from skneurovae import ContrastiveEmbedding
    >>> from skneurovae.inspection import attribution
    >>> traces = np.random.default_rng(0).standard_normal((100, 5))
    >>> model = ContrastiveEmbedding(2, max_iter=1, steps_per_epoch=2, random_state=0).fit(traces)
    >>> attribution(model, traces).shape
    (2, 5)
    """
    if inverse and absolute:
        raise ValueError("inverse=True needs absolute=False: the Jacobian needs its signs.")
    if not hasattr(estimator, "jacobian"):
        raise TypeError(f"{type(estimator).__name__} has no jacobian; attribution needs one.")
    derivatives = estimator.jacobian(X, max_samples=max_samples, absolute=absolute, **inputs)
    if isinstance(derivatives, list):
        return [_summary(values, inverse) for values in derivatives]
    if derivatives.ndim == 4:
        return np.stack([_summary(values, inverse) for values in derivatives])
    return _summary(derivatives, inverse)


def _summary(derivatives, inverse):
    if inverse:
        # An embedding of length 1 does not change along itself: such directions are left out.
        derivatives = np.linalg.pinv(derivatives, rcond=SMALLEST).transpose(0, 2, 1)
    return np.abs(derivatives).mean(0)
