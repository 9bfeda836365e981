"""Rooms and who may import whom; torch stays out of what does without it."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "skneurovae"
MAY_IMPORT = {
    "common": set(),  # which every room may import besides
    "recordings": set(),
    "objectives": set(),
    "networks": {"objectives"},
    "training": {"recordings", "objectives"},
    "metrics": {"recordings"},
    "baselines": {"recordings", "metrics"},
    "decoding": {"recordings", "metrics"},
    "datasets": {"recordings", "metrics"},
    "model_selection": {"recordings", "metrics", "baselines", "inspection"},
    "inspection": set(),
    "estimators": {"recordings", "objectives", "networks", "training", "metrics", "baselines"},
}
WITHOUT_TORCH = sorted(MAY_IMPORT.keys() - {"objectives", "networks", "training", "estimators"})
LONGEST = 600


def files():
    return sorted(p for p in PACKAGE.rglob("*.py") if p != PACKAGE / "__init__.py")


def room(path):
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported_rooms(path):
    """Rooms of this package that a file imports."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = path.relative_to(PACKAGE.parent).parts[: -node.level]
            yield (*base, *(node.module or "").split("."))[1:2]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("skneurovae."):
            yield tuple(node.module.split(".")[1:2])


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_run_one_way(path):
    own = room(path)
    for target in imported_rooms(path):
        name = target[0] if target and target[0] else own
        assert name in {own, "common", *MAY_IMPORT[own]}, f"{own} imports {name}"


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_does_without_torch(name):
    code = f"import skneurovae.{name}, sys; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("path", files(), ids=lambda p: str(p.relative_to(PACKAGE)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= LONGEST
