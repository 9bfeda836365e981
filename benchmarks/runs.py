"""Threads of a benchmark, long ones that can be cut off, and how runs are shown together."""

from __future__ import annotations

import json

import numpy as np
import torch
from threadpoolctl import threadpool_limits


def use_threads(n_threads):
    """Compute with so many threads, in PyTorch and in linear algebra."""
    torch.set_num_threads(n_threads)
    threadpool_limits(n_threads)


def spread(values, digits=3):
    """Mean and standard deviation over runs; one run alone, and nothing where there are none."""
    if len(values) == 0:
        return ""
    deviation = f" ± {np.std(values, ddof=1):.{digits}f}" if len(values) > 1 else ""
    return f"{np.mean(values):.{digits}f}{deviation}"


def resumed(plan, run, path):
    """Results of ``run(**arguments)`` for each of `plan`, one line of `path` each.

    What stands in `path` for the same arguments is not run again.

    Parameters
    ----------
    plan : list of dict
    run : callable
        Its result is a dict that JSON can hold.
    path : Path

    Returns
    -------
    results : list of dict
        With the arguments as "run", in the order of `plan`.
    """
    path.parent.mkdir(exist_ok=True, parents=True)
    known = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    results = []
    with path.open("a") as file:
        for arguments in plan:
            found = [r for r in known if r["run"] == arguments]
            if not found:
                found = [{"run": arguments, **run(**arguments)}]
                file.write(json.dumps(found[0]) + "\n")
                file.flush()
            results.append(found[0])
    return results
