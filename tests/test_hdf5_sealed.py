"""`load_h5` and files that point elsewhere, claim too much, are damaged or hold odd types."""

import random
import re
import subprocess
import sys
import time
import tracemalloc
import zlib

import h5py
import numpy as np
import pytest

from skneurovae.datasets import load_h5, save_h5
from skneurovae.recordings import Recording

X = np.random.default_rng(0).standard_normal((4, 30)).astype(np.float32)
LIMIT = 10**6


@pytest.fixture
def path(tmp_path):
    return tmp_path / "recordings.h5"


def write(path, craft, root="recordings"):
    """File of layout 2 that is right in itself, and `craft(file, its group)` then spoils."""
    with h5py.File(path, "w") as file:
        group = file.create_group(f"{root}/a")
        group["X"], group["M"], group["B"] = X, np.ones(X.shape, bool), X[:2]
        group["S"], group["I"] = X[:1], [0, 1, 2, 1]
        file["label_name"] = ["unknown", "AVA", "RIM"]
        file["behavior_name"] = ["u", "v"]
        file["B_norm_divisor"] = [1.0, 2.0]
        file.attrs["sampling_rate_hz"] = 10.0
        craft(file, group)
    return path


def refuses(path, message, **keywords):
    with pytest.raises(ValueError, match=message) as caught:
        load_h5(path, **keywords)
    text = str(caught.value)
    assert text.startswith(f"{path}: ")
    assert len(text.splitlines()) == 1
    assert len(text) < len(str(path)) + 410


def replace(group, name, value):
    if name in group:
        del group[name]
    group[name] = value


def elsewhere(path, exists):
    """Another file, which may not even be opened; so it makes no difference if there is none."""
    secret = path.with_name("secret.h5")
    if exists:
        with h5py.File(secret, "w") as file:
            file["X"], file["recordings/a/X"], file["group/a/X"] = X, X, X
        path.with_name("raw").write_bytes(X.tobytes())
    return str(secret)


def virtual(secret, shape=X.shape):
    layout = h5py.VirtualLayout(shape, np.float32, maxshape=(None, None))
    layout[...] = h5py.VirtualSource(secret, "X", shape=X.shape)
    return layout


AWAY = {
    "link for X": lambda f, g, s: replace(g, "X", h5py.ExternalLink(s, "/X")),
    "link for names": lambda f, g, s: replace(f, "label_name", h5py.ExternalLink(s, "/X")),
    "link for a recording": lambda f, g, s: replace(
        g.parent, "a", h5py.ExternalLink(s, "/group/a")
    ),
    "link for the root": lambda f, g, s: replace(f, "recordings", h5py.ExternalLink(s, "/group")),
    "link on the way": lambda f, g, s: (
        replace(f, "away", h5py.ExternalLink(s, "/")), replace(g, "X", h5py.SoftLink("/away/X")),
    ),
    "link in a link": lambda f, g, s: (
        replace(g, "away", h5py.ExternalLink(s, "/X")), replace(g, "X", h5py.SoftLink("away")),
    ),
    "external storage": lambda f, g, s: (
        g.pop("X"),
        g.create_dataset("X", X.shape, "f4", external=[(s.replace("secret.h5", "raw"), 0, 480)]),
    ),
    "virtual": lambda f, g, s: (g.pop("X"), g.create_virtual_dataset("X", virtual(s))),
    "virtual stimulus": lambda f, g, s: (g.pop("S"), g.create_virtual_dataset("S", virtual(s))),
}  # fmt: skip


@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("craft", AWAY.values(), ids=AWAY)
def test_nothing_outside_of_the_file_is_read(path, craft, exists):
    secret = elsewhere(path, exists)
    write(path, lambda file, group: craft(file, group, secret))
    refuses(path, "link out of this file, which is not foll|stored in other files, which are not")


def test_links_within_the_file_are_followed(path):
    def craft(file, group):
        file["store/X"], file["store/names"] = group["X"][...], ["unknown", "left", "right"]
        file["chain"] = h5py.SoftLink("/./store//names")
        for name, target in [("X", "../X"), ("M", "/recordings/a/mask"), ("mask", "/store/mask")]:
            replace(group, name, h5py.SoftLink(target))
        replace(group, "X", h5py.SoftLink("near/X"))
        group["near"] = h5py.SoftLink("/store")
        file["store/mask"] = np.ones(X.shape)
        replace(file, "label_name", h5py.SoftLink("chain"))
        group.parent["b"] = group  # one group by two names

    first, second = load_h5(write(path, craft))
    np.testing.assert_array_equal(first.traces, X.T)
    assert first.identities.tolist() == ["", "left", "right", "left"]
    assert (first.session, second.session) == ("a", "b")


def double(file, group):
    """Each link leads twice through the next: two to the power of 40 steps."""
    for i in range(40):
        group[f"l{i}"] = h5py.SoftLink(f"l{i + 1}/../l{i + 1}")
    replace(group, "X", h5py.SoftLink("l0"))


LINKS = {
    "itself": lambda f, g: replace(g, "X", h5py.SoftLink("X")),
    "two": lambda f, g: (
        replace(g, "X", h5py.SoftLink("Y")), replace(g, "Y", h5py.SoftLink("/recordings/a/X")),
    ),
    "root": lambda f, g: replace(f, "recordings", h5py.SoftLink("/recordings")),
    "group of itself": lambda f, g: (
        replace(g, "X", h5py.SoftLink("here/X")), replace(g, "here", h5py.SoftLink("here/here")),
    ),
    "doubling": double,
    "missing": lambda f, g: replace(g, "X", h5py.SoftLink("/nowhere")),
    "missing mask": lambda f, g: replace(g, "M", h5py.SoftLink("nowhere/M")),
    "missing names": lambda f, g: replace(f, "label_name", h5py.SoftLink("nowhere")),
    "missing recording": lambda f, g: replace(g.parent, "b", h5py.SoftLink("/nowhere")),
    "through a dataset": lambda f, g: replace(g, "X", h5py.SoftLink("B/X")),
}  # fmt: skip


@pytest.mark.parametrize("craft", LINKS.values(), ids=LINKS)
def test_links_to_nowhere_are_refused(path, craft):
    refuses(write(path, craft), "is a link (that leads in a circle|to what is missing|through)")


PLACES = {
    "X": "a/X", "M": "a/M", "B": "a/B", "S": "a/S", "I": "a/I", "names": "/label_name",
    "divisor": "/B_norm_divisor",
}  # fmt: skip


@pytest.mark.parametrize("value", ["group", "type"])
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_is_no_dataset_is_refused(path, place, value):
    def craft(file, group):
        del group.parent[place]
        if value == "group":
            group.parent.create_group(place)
        else:
            group.parent[place] = np.dtype("f4")

    refuses(write(path, craft), f"{place.lstrip('a')} is not a dataset; one of shape")


@pytest.mark.parametrize("value", [X, np.dtype("f4")], ids=["dataset", "type"])
def test_what_is_no_group_is_refused(path, value):
    refuses(write(path, lambda f, g: replace(g.parent, "a", value)), "/recordings/a is not a group")
    refuses(write(path, lambda f, g: replace(f, "recordings", value)), "no recordings; needed")


def odd_values(file):
    """Four values of every kind that is no number."""
    texts = np.array(["1", "2", "3", "4"], object)
    pairs = np.zeros(4, [("x", "f4"), ("y", "f4")])
    ragged = np.empty(4, object)
    ragged[:] = [np.arange(3)] * 4
    return {
        "text": (texts, h5py.string_dtype()),
        "bytes": (texts.astype("S4"), None),
        "complex": (np.ones(4, complex), None),
        "compound": (pairs, None),
        "opaque": (np.zeros(4, "V8"), None),
        "reference": ([file.ref] * 4, h5py.ref_dtype),
        "region": ([file["label_name"].regionref[:2]] * 4, h5py.regionref_dtype),
        "ragged": (ragged, h5py.vlen_dtype(int)),
        "arrays": (np.zeros((4, 3)), np.dtype(("f8", (3,)))),
    }


ODD = ["text", "bytes", "complex", "compound", "opaque", "reference", "region", "ragged"]


@pytest.mark.parametrize("kind", [*ODD, "arrays", "empty", "shape"])
@pytest.mark.parametrize("place", [p for p in PLACES.values() if "name" not in p])
def test_odd_types_are_refused(path, place, kind):
    def craft(file, group):
        name, shape = group.parent[place].name, group.parent[place].shape
        del file[name]
        if kind == "empty":
            file[name] = h5py.Empty("f4")
        elif kind == "shape":
            file[name] = np.zeros((2, 2, 2))
        else:
            values, dtype = odd_values(file)[kind]
            made = file.create_dataset(name, shape, dtype or values.dtype)
            if kind not in ("arrays", "ragged"):
                made[...] = np.resize(np.array(values), shape)

    refuses(write(path, craft), place.lstrip("a") + " (must hold|has shape)")


@pytest.mark.parametrize("kind", [k for k in ODD if k not in ("text", "bytes")])
def test_odd_types_of_names_are_refused(path, kind):
    def craft(file, group):
        values, dtype = odd_values(file)[kind]
        del file["label_name"]
        file.create_dataset("label_name", data=values, dtype=dtype)

    refuses(write(path, craft), "/label_name must hold strings")


NUMBER, TEXT = "sampling_rate_hz of / must be one number", "format of / must be one string"
ATTRIBUTES = {
    "rate of text": ("/", "sampling_rate_hz", "10", NUMBER),
    "rates": ("/", "sampling_rate_hz", [10.0, 20.0], NUMBER),
    "no rate": ("/", "sampling_rate_hz", h5py.Empty("f4"), NUMBER),
    "complex rate": ("/", "sampling_rate_hz", 1j, NUMBER),
    "rate true": ("/", "sampling_rate_hz", True, NUMBER),
    "compound rate": ("/", "sampling_rate_hz", np.zeros((), [("x", "f4")]), NUMBER),
    "many rates": ("/", "sampling_rate_hz", np.zeros(8000), NUMBER),
    "rate NaN": ("/", "sampling_rate_hz", np.nan, "rate_hz of recording 0 must be a positive"),
    "rate zero": ("/", "sampling_rate_hz", 0, "rate_hz of recording 0 must be a positive"),
    "format a number": ("/", "format", 1, TEXT),
    "formats": ("/", "format", ["skneurovae", "other"], TEXT),
    "format not UTF-8": ("/", "format", np.bytes_(b"\xff"), "format of / cannot be read"),
    "format not UTF-8 either": (
        "/", "format", np.array(b"\xff", h5py.string_dtype()), "format of / cannot be read",
    ),
    "long format": ("/", "format", np.bytes_(b"a" * 60000), "/recordings/a|"),
}  # fmt: skip
SAVED = {
    "version of text": ("/", "version", "1", "version of / must be one number"),
    "version true": ("/", "version", True, "version of / must be one number"),
    "versions": ("/", "version", [1, 1], "version of / must be one number"),
    "version NaN": ("/", "version", np.nan, "version nan of the format"),
    "other version": ("/", "version", 2, "version 2 of the format; this release reads 1"),
    "session a number": ("a", "session", 3, "session of /recordings/a must be one string"),
    "sessions": ("a", "session", ["a", "b"], "session of /recordings/a must be one string"),
    "rate of text": ("a", "rate_hz", "3", "rate_hz of /recordings/a must be one number"),
    "rate complex": ("a", "rate_hz", 1j, "rate_hz of /recordings/a must be one number"),
    "no rate": ("a", "rate_hz", h5py.Empty("f8"), "rate_hz of /recordings/a must be one number"),
    "rate infinite": ("a", "rate_hz", np.inf, "rate_hz of recording 0 must be a positive number"),
}


@pytest.mark.parametrize("case", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_odd_attributes_are_refused(path, case):
    place, name, value, message = case
    write(path, lambda f, g: f[place].attrs.__setitem__(name, value))
    if message.endswith("|"):  # no error: another format
        assert len(load_h5(path)) == 1
    else:
        refuses(path, message)


@pytest.mark.parametrize("case", SAVED.values(), ids=SAVED)
def test_odd_attributes_of_saved_files_are_refused(path, case):
    place, name, value, message = case
    save_h5(path, [Recording(X.T, session="a", rate_hz=2.0)])
    with h5py.File(path, "r+") as file:
        file.move("recordings/000000", "recordings/a")
        file["/" if place == "/" else f"recordings/{place}"].attrs[name] = value
    refuses(path, message)


def test_attributes_of_other_programs_are_read(path):
    save_h5(path, [Recording(X.T)])
    with h5py.File(path, "r+") as file:
        file.attrs["format"] = np.bytes_(b"skneurovae")
        file.attrs["version"] = np.array([1], np.uint8)
        group = file["recordings/000000"]
        group.attrs["session"], group.attrs["rate_hz"] = np.bytes_("é".encode()), np.float32([4])
    assert (load_h5(path)[0].session, load_h5(path)[0].rate_hz) == ("é", 4.0)


# What a file claims, and what it needs to be read in truth.


def chunks(file, group, data=b"", shape=(10, 10), chunk=(10, 10), again=False):
    """Replace all by X, of which the stored bytes of the first chunk are given."""
    group.clear()
    plist = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    plist.set_chunk(chunk)
    plist.set_deflate(9)
    if again:
        plist.set_deflate(9)
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, h5py.h5s.UNLIMITED))
    made = h5py.h5d.create(group.id, b"X", h5py.h5t.IEEE_F32LE, space, plist)
    if data:
        made.write_direct_chunk((0, 0), data)


CLAIMS = {
    "never written": lambda f, g: chunks(f, g, shape=(1000, 475_000), chunk=(100, 100)),
    "more than there is": lambda f, g: chunks(f, g, shape=(10**6, 10**6), chunk=(100, 100)),
    "wide": lambda f, g: chunks(f, g, shape=(1, 2**62), chunk=(1, 100)),
    "huge chunk": lambda f, g: chunks(f, g, shape=(10, 10), chunk=(10, 4 * 10**6)),
    "not in chunks": lambda f, g: (g.clear(), g.create_dataset("X", (10**6, 10**6), "f4")),
    "bytes that become floats": lambda f, g: replace(g, "B", np.zeros((5000, 30), np.int8)),
    "stimulus": lambda f, g: (g.pop("S"), g.create_dataset("S", (10**6, 30), "f4")),
    "mask": lambda f, g: (
        g.clear(), g.create_dataset("X", (4, 40_000), "f4"),
        g.create_dataset("M", (4, 40_000), "i1"),
    ),
    "divisor": lambda f, g: (
        f.pop("B_norm_divisor"), f.create_dataset("B_norm_divisor", (10**12,), "f8"),
    ),
    "names": lambda f, g: (
        f.pop("label_name"), f.create_dataset("label_name", (10**12,), h5py.string_dtype()),
    ),
    "long names": lambda f, g: (
        f.pop("label_name"), f.create_dataset("label_name", (10,), "S1000000"),
    ),
    "one long name": lambda f, g: (
        f.pop("label_name"), f.create_dataset("label_name", data=["u", "a" * 200_000, "b"]),
    ),
    "many recordings": lambda f, g: (
        chunks(f, g, shape=(100, 100)), [g.parent.__setitem__(f"b{i}", g) for i in range(30)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("craft", CLAIMS.values(), ids=CLAIMS)
def test_nothing_takes_more_memory_than_allowed(path, craft):
    write(path, craft)
    tracemalloc.start()
    try:
        refuses(path, "max_bytes is 1e.06; give more", max_bytes=LIMIT)
        assert tracemalloc.get_traced_memory()[1] < 2.5 * LIMIT
    finally:
        tracemalloc.stop()


def test_one_long_name_of_many_neurons_is_counted_each_time(path):
    def craft(file, group):
        file["text"] = ["a" * 10**5] * 50
        start = file["text"].id.get_offset()
        file.flush()
        with open(path, "rb+") as raw:  # all entries become the first
            raw.seek(start)
            first = raw.read(16)
            raw.seek(start)
            raw.write(first * 50)
        replace(file, "label_name", h5py.SoftLink("text"))

    write(path, craft)
    refuses(path, "label_name|memory", max_bytes=10**7)
    assert load_h5(path, max_bytes=10**8)[0].identities[1] == "a" * 10**5


def test_the_limit_can_be_raised(path):
    def craft(file, group):
        chunks(file, group, shape=(200, 10_000), chunk=(100, 100))

    write(path, craft)
    refuses(path, "takes 8e.06 bytes in memory or more, but max_bytes is 7.9e.06", max_bytes=7.9e6)
    (recording,) = load_h5(path, max_bytes=8_001_000)
    assert recording.traces.shape == (10_000, 200)
    assert len(load_h5(path)) == 1  # one gibibyte


def test_a_small_file_may_not_take_more_than_a_gibibyte_by_default(path):
    write(path, lambda f, g: chunks(f, g, shape=(1000, 475_000), chunk=(1000, 100)))
    assert path.stat().st_size < 32_000
    refuses(path, "takes 1.9e.09 bytes in memory or more, but max_bytes is 1.07e.09")


def test_a_large_file_may_take_a_hundred_times_its_size(path):
    write(path, lambda f, g: chunks(f, g, shape=(1000, 475_000), chunk=(1000, 100)))
    with h5py.File(path, "r+") as file:
        file["more"] = np.zeros(18 * 10**6, np.int8)
    refuses(path, "takes 1.9e.09 bytes in memory or more, but max_bytes is 1.8e.09")


@pytest.mark.parametrize("limit", [0, -1, "1 GB", np.nan, [1]])
def test_limits_are_positive_numbers(path, limit):
    write(path, lambda f, g: None)
    with pytest.raises(ValueError, match="max_bytes must be a positive number or None, got"):
        load_h5(path, max_bytes=limit)


# Damage.


def test_a_chunk_that_does_not_unpack_is_refused(path):
    write(path, lambda f, g: chunks(f, g, b"no deflated bytes" * 9))
    refuses(path, "/recordings/a/X cannot be read")


@pytest.mark.parametrize("n_bytes", [0, 40, 399, 401, 5 * 10**7])
def test_a_chunk_that_does_not_hold_what_it_claims_is_refused(path, n_bytes):
    write(path, lambda f, g: chunks(f, g, zlib.compress(bytes(n_bytes))))
    tracemalloc.start()
    try:
        refuses(path, "X cannot be read .a chunk does not hold the 400 bytes that it claims")
        assert tracemalloc.get_traced_memory()[1] < 2.5 * LIMIT
    finally:
        tracemalloc.stop()
    write(path, lambda f, g: chunks(f, g, zlib.compress(bytes(400))))
    np.testing.assert_array_equal(load_h5(path)[0].traces, np.zeros((10, 10)))


def test_other_compression_is_refused(path):
    twice = zlib.compress(zlib.compress(bytes(400)))
    write(path, lambda f, g: chunks(f, g, twice, again=True))
    refuses(path, r"X is packed by filters \[1, 1\], which are not read; gzip or lzf")
    write(path, lambda f, g: (g.pop("X"), g.create_dataset("X", data=X, scaleoffset=3)))
    refuses(path, r"X is packed by filters \[6\], which are not read; gzip or lzf")


def test_a_short_chunk_of_lzf_is_refused(path):
    rows = [np.zeros(100), np.arange(100.0), np.random.default_rng(0).standard_normal(100)]
    for short in (True, False):
        for values in rows:
            with h5py.File(path, "w") as file:
                dataset = file.create_dataset(
                    "data/a/X", (100, 1), "f8", compression="lzf", chunks=(100, 1), fletcher32=True
                )
                dataset[...] = values[:, None]
                dataset.flush()
                place = dataset.id.get_chunk_info(0)
            if place.filter_mask == 0 and short:
                raw = path.read_bytes()
                packed = raw[place.byte_offset : place.byte_offset + place.size]
                with h5py.File(path, "w") as file:
                    dataset = file.create_dataset(
                        "data/a/X", (100, 2), "f8", compression="lzf", chunks=(100, 2)
                    )
                    dataset.id.write_direct_chunk((0, 0), packed[:-4])
                refuses(path, "a chunk does not hold the 1600 bytes that it claims")
            else:
                np.testing.assert_array_equal(load_h5(path)[0].traces[0], values)


def test_damaged_heaps_of_strings_do_not_hang(path):
    write(path, lambda f, g: None)
    valid = path.read_bytes()
    place = valid.index(b"GCOL") + 16
    paths = []
    for size in (0, 10**6, 2**64 - 16):  # on the spot, out of the heap, one step back
        raw = bytearray(valid)
        raw[place : place + 2] = bytes(2)  # object 0, free space
        raw[place + 8 : place + 16] = size.to_bytes(8, "little")
        paths.append(str(path.with_name(f"{size}.h5")))
        path.with_name(f"{size}.h5").write_bytes(raw)
    lines = ["from skneurovae.datasets import load_h5", f"for path in {paths}:", " try:",
             "  load_h5(path)", " except ValueError as error:", "  print(error)"]  # fmt: skip
    run = [sys.executable, "-c", "\n".join(lines)]
    done = subprocess.run(run, capture_output=True, text=True, timeout=100, check=True)
    assert re.findall(r"(\d+)\.h5: damaged at byte (\d+), in a heap of strings", done.stdout) == [
        (str(size), str(place)) for size in (0, 10**6, 2**64 - 16)
    ]


def test_texts_that_claim_more_than_the_file_are_refused(path):
    write(path, lambda f, g: None)
    with h5py.File(path) as file:
        start = file["label_name"].id.get_offset()
    raw = bytearray(path.read_bytes())
    raw[start + 16 : start + 20] = b"\xff\xff\xff\xff"
    path.write_bytes(raw)
    refuses(path, "/label_name cannot be read .a text claims to be longer than the file")


def link(parent, name):
    parent.links.create_hard(name, parent, b"a")


def test_names_of_groups_that_are_odd(path):
    write(path, lambda f, g: g.parent.__setitem__("b\nc\x1b", g))
    with h5py.File(path, "r+") as file:
        del file["recordings/a/X"]
    refuses(path, r"/recordings/a has no traces X")
    write(path, lambda f, g: f.move("recordings/a", "recordings/b\nc"))
    assert load_h5(path)[0].session == "b\nc"
    with h5py.File(path, "r+") as file:
        del file["recordings/b\nc/X"]
    refuses(path, r"/recordings/b\\nc has no traces X")
    write(path, lambda f, g: link(g.parent.id, b"\xff"))
    refuses(path, "/recordings holds a name that is no name in UTF-8")


def valid_bytes(path, layout):
    """A file with text, compression and checksums that loads."""
    if layout == 1:
        stimulus = X[:2].T
        labels = ["AVA", "", "é", "RIM"]
        whole = Recording(X.T, X[:1].T, stimulus, labels, "worm", 1.7)
        save_h5(path, [whole, whole.replace(behavior=None)], behavior_names=["speed"])
        return path.read_bytes()

    def craft(file, group):
        for name, how in [
            ("X", {"compression": "gzip", "shuffle": True, "chunks": (2, 10)}),
            ("B", {"compression": "lzf"}),
            ("S", {"fletcher32": True}),
        ]:
            values = group[name][...]
            del group[name]
            group.create_dataset(name, data=values, **how)

    write(path, craft, {2: "recordings", 3: "data"}[layout])
    return path.read_bytes()


@pytest.mark.parametrize("layout", [1, 2, 3])
def test_mutated_files_load_or_are_refused(path, layout):
    valid = valid_bytes(path, layout)
    assert len(load_h5(path)) == 1 + (layout == 1)
    outcomes = {"loaded": 0, "refused": 0}
    tracemalloc.start()
    try:
        for seed in range(70):
            draw = random.Random(seed)
            raw = bytearray(valid)
            for _ in range(draw.choice([1, 2, 8, 64])):
                raw[draw.randrange(len(raw))] = draw.randrange(256)
            if draw.random() < 0.1:
                raw = raw[: draw.randrange(len(raw))]
            path.write_bytes(raw)
            tracemalloc.reset_peak()
            before, begun = tracemalloc.get_traced_memory()[0], time.monotonic()
            try:
                found = load_h5(path, max_bytes=LIMIT)
            except ValueError as error:
                found, told = None, str(error)
            if found is None:
                assert told.startswith(f"{path}: ")
                assert len(told.splitlines()) == 1
            else:
                assert all(isinstance(recording, Recording) for recording in found)
            outcomes["refused" if found is None else "loaded"] += 1
            assert time.monotonic() - begun < 20
            assert tracemalloc.get_traced_memory()[1] - before < 3 * LIMIT
    finally:
        tracemalloc.stop()
    assert min(outcomes.values()) > 10
