"""`save_h5`: in full or not at all, and back to the bit."""

import os
import stat
from fractions import Fraction

import h5py
import numpy as np
import pandas as pd
import pytest

from skneurovae.datasets import load_h5, save_h5
from skneurovae.recordings import Recording

OLD, NEW = [Recording(np.ones((5, 2)))], [Recording(np.zeros((5, 2)), np.zeros(5), rate_hz=2.0)]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recordings.h5"


STEPS = [(h5py.File, "__init__"), (h5py.Group, "create_group"), (h5py.Group, "create_dataset"),
         (h5py.AttributeManager, "__setitem__"), (h5py.File, "close"), (os, "fsync"),
         (os, "replace")]  # fmt: skip


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize(("owner", "name"), STEPS, ids=[name for _, name in STEPS])
@pytest.mark.parametrize("exists", [True, False])
def test_an_interrupted_save_keeps_the_old_file_and_leaves_nothing(
    path, monkeypatch, owner, name, error, exists
):
    if exists:
        save_h5(path, OLD)
        before = path.read_bytes()

    def fail(*args, **kwargs):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, fail)
        with pytest.raises(type(error)):
            save_h5(path, NEW)
    assert os.listdir(path.parent) == [path.name] * exists
    assert not exists or path.read_bytes() == before


def test_a_new_file_has_the_permissions_of_the_old(path):
    save_h5(path, OLD)
    usual = stat.S_IMODE(path.stat().st_mode)
    plain = path.with_name("plain")
    plain.touch()
    assert usual == stat.S_IMODE(plain.stat().st_mode)
    for mode in (0o600, 0o664):
        path.chmod(mode)
        save_h5(path, NEW)
        assert stat.S_IMODE(path.stat().st_mode) == mode
        np.testing.assert_array_equal(load_h5(path)[0].traces, 0)


def test_a_link_stays_a_link(tmp_path, path):
    link, folder = tmp_path / "link.h5", tmp_path / "folder"
    folder.mkdir()
    for target in (path, folder / "new.h5"):
        link.unlink(missing_ok=True)
        link.symlink_to(target)
        save_h5(link, OLD)
        save_h5(link, NEW)
        assert link.is_symlink()
        np.testing.assert_array_equal(load_h5(target)[0].traces, 0)
    circle = tmp_path / "circle.h5"
    circle.symlink_to(circle)
    with pytest.raises(ValueError, match=r"circle\.h5: a symbolic link that leads in a circle"):
        save_h5(circle, OLD)
    assert circle.is_symlink()


def test_only_files_are_replaced(tmp_path):
    with pytest.raises(OSError, match="not a file"):
        save_h5(tmp_path, OLD)
    with pytest.raises(OSError, match="not a file"):
        save_h5("/dev/null", OLD)
    with pytest.raises(FileNotFoundError, match=r"a\.h5: no such folder"):
        save_h5(tmp_path / "missing" / "a.h5", OLD)
    assert list(tmp_path.iterdir()) == []


ROWS = np.zeros((5, 2))
RATES = [1.7, 30, np.float32(0.1), np.float64(1e300), np.int64(40), np.uint8(7), 5e-324, 2**60]
TEXTS = ["", "worm 1", "Würm 線虫 \U0001f41b", " \n\t", "a" * 10**5, np.str_("s")]
NAMES = [
    ["AVA", ""], ["", ""], ["é", "線"], ["a" * 1000, "b"], [3, 0], [2**62, 1],
    np.array([1, 2], np.uint8), np.array(["a", "b"], object), [" ", "\n"],
]  # fmt: skip


@pytest.mark.parametrize(
    "fields",
    [{"rate_hz": r} for r in RATES] + [{"session": s} for s in TEXTS]
    + [{"identities": n} for n in NAMES],
    ids=lambda fields: repr(fields)[:30],
)  # fmt: skip
def test_what_is_written_comes_back_the_same(path, fields):
    save_h5(path, [Recording(ROWS, **fields)])
    (found,) = load_h5(path)
    ((name, value),) = fields.items()
    after = getattr(found, name)
    if name == "identities":
        assert after.tolist() == list(value)
        assert after.dtype.kind == ("U" if isinstance(value[0], str) else "i")
    else:
        assert after == value


@pytest.mark.parametrize("name", ["traces", "behavior", "stimulus"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numbers_come_back_to_the_bit(path, name, dtype):
    values = np.array([[0.1, -0.0], [1e-45, 3e38], [np.nan, 1 / 3]], dtype)
    if name == "stimulus":
        values[2, 0] = 7
    fields = {"traces": np.ones((3, 1), np.float32), name: values}
    save_h5(path, [Recording(**fields)])
    found = getattr(load_h5(path)[0], name)
    assert found.dtype == dtype
    assert found.tobytes() == values.tobytes()


class Text(str):
    """Strings that are not plain."""


WRONG_FIELDS = {
    "NUL in a session": ({"session": "a\0b"}, "session of recording 1 must hold no NUL"),
    "NUL at the end": ({"session": "a\0"}, "session of recording 1 must hold no NUL"),
    "surrogate": ({"session": "\udce9"}, "session of recording 1 must hold no NUL and no lone"),
    "NUL in a name": ({"identities": ["a\0b", "c"]}, "identities of recording 1 must hold no NUL"),
    "NUL that NumPy drops": ({"identities": ["a\0", "a"]}, "identities of recording 1 must hold"),
    "surrogate in a name": ({"identities": ["a", "\ud800"]}, "identities of recording 1 must hold"),
    "NUL in a column": (
        {"traces": pd.DataFrame(ROWS, columns=["a", "a\0"])}, "identities of recording 1 must hold",
    ),
    "text of a kind": ({"session": Text("a\0")}, "session of recording 1 must hold"),
    "bool": ({"rate_hz": True}, "rate_hz of recording 1 must be a number"),
    "huge": ({"rate_hz": 10**400}, "rate_hz of recording 1 must be a number"),
    "fine": ({"rate_hz": 2**53 + 1}, "rate_hz of recording 1 must be a number"),
    "third": ({"rate_hz": Fraction(1, 3)}, "rate_hz of recording 1 must be .* got Fraction 1/3"),
    "NaN": ({"rate_hz": np.nan}, "rate_hz of recording 1 must be"),
    "text": ({"rate_hz": "40"}, "rate_hz of recording 1 must be"),
    "negative": ({"identities": [-1, 2]}, "identities of recording 1 must not be negative"),
    "floats": ({"identities": [1.5, 2.0]}, "identities of recording 1 must be all strings"),
    "bytes": ({"identities": [b"a", b"b"]}, "identities of recording 1 must be all strings"),
}  # fmt: skip


@pytest.mark.parametrize(("fields", "message"), WRONG_FIELDS.values(), ids=WRONG_FIELDS)
def test_what_cannot_be_written_is_refused_before_anything_is(path, fields, message):
    save_h5(path, OLD)
    before = path.read_bytes(), path.stat().st_ino
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        save_h5(path, [Recording(ROWS), Recording(**{"traces": ROWS, **fields})])
    assert len(str(caught.value).splitlines()) == 1
    assert (path.read_bytes(), path.stat().st_ino) == before


@pytest.mark.parametrize("kind", ["behavior", "stimulus"])
@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["a\0", "b"], "_names must hold no NUL"),
        (["a", "\udfff"], "_names must hold no NUL and no lone surrogate"),
        (["a", 1], "_names must hold strings, got 1 among them"),
        (["a", None], "_names must hold strings, got None"),
        ("ab", "_names must be a sequence of strings, got 'ab'"),
        (["a"], r"_names has 1 names; \w+ has 2 channels"),
    ],
)
def test_names_that_cannot_be_written_are_refused(path, kind, names, message):
    with pytest.raises((ValueError, TypeError), match=kind + message):
        save_h5(path, [Recording(ROWS, **{kind: ROWS})], **{f"{kind}_names": names})
    assert not path.exists()


def test_names_select_the_stimulus(path):
    stimulus = np.arange(10.0).reshape(5, 2)
    save_h5(path, [Recording(ROWS, stimulus=stimulus)], stimulus_names=["left", "rïght"])
    np.testing.assert_array_equal(load_h5(path, stimuli=["rïght"])[0].stimulus, stimulus[:, 1:])
    np.testing.assert_array_equal(load_h5(path)[0].stimulus, stimulus)
    assert load_h5(path, stimuli=[])[0].stimulus is None
