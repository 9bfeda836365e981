"""Docstrings of public names follow numpydoc and name the parameters of the signature."""

import importlib
import inspect

import pytest
from numpydoc.validate import validate

MODULES = [
    "skneurovae",
    *(
        f"skneurovae.{m}"
        for m in (
            "baselines",
            "datasets",
            "decoding",
            "inspection",
            "metrics",
            "model_selection",
            "recordings",
        )
    ),
]
# Sections in order, a docstring at all, a summary, every parameter and no other, in order.
CHECKS = {"GL07", "GL08", "SS01", "PR01", "PR02", "PR03"}


def public_names():
    for module in map(importlib.import_module, MODULES):
        for name in module.__all__:
            value = getattr(module, name)
            yield f"{module.__name__}.{name}"
            for method, function in inspect.getmembers(value, inspect.isroutine):
                ours = str(getattr(function, "__module__", None)).startswith("skneurovae")
                if inspect.isclass(value) and ours and not method.startswith("_"):
                    yield f"{module.__name__}.{name}.{method}"


@pytest.mark.parametrize("name", public_names())
def test_docstring(name):
    errors = [f"{code}: {text}" for code, text in validate(name)["errors"] if code in CHECKS]
    assert not errors
