"""Pickles of others: what plain data needs is read alike from every protocol, and nothing else is called."""

import collections
import contextlib
import io
import os
import pickle
import pickletools
import random
import re
import struct
import subprocess
import sys
import tracemalloc
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image

from layerkit.manifests.errors import BadImage
from layerkit.toolkit import safe_pickle
from layerkit.toolkit.safe_pickle import MAX_OPCODES, Stored, loads

PROTOCOLS = range(2, 6)
ARRAYS = [
    np.arange(24, dtype=np.uint8).reshape(2, 4, 3),
    np.asfortranarray(np.arange(6, dtype=np.int64).reshape(2, 3)),
    np.arange(6, dtype=">i2").reshape(2, 3),
    np.array([[True, False]]),
    np.arange(12, dtype=np.float32).reshape(3, 4)[:, ::2],
    np.float16(1.5),
]


def as_numpy_1(data: bytes) -> bytes:
    """The same pickle as numpy 1 wrote it, where the modules' names are a character shorter."""
    data = re.sub(rb"\x8c(.)numpy\._core", lambda found: b"\x8c" + bytes([found[1][0] - 1]) + b"numpy.core", data)
    data = data.replace(b"cnumpy._core", b"cnumpy.core")
    assert b"numpy.core" in data
    assert b"numpy._core" not in data
    return pickletools.optimize(data)  # frames it anew


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype}{array.shape}")
def test_arrays_of_numpy_1_and_2_come_back(array: Any, protocol: int) -> None:
    data = pickle.dumps({"a": array, "b": [array]}, protocol)
    for pickled in (data, as_numpy_1(data)):
        found = loads(pickled)
        for stored in (found["a"], found["b"][0]):
            assert isinstance(stored, Stored)
            assert stored.array.dtype == array.dtype
            np.testing.assert_array_equal(stored.array, array, strict=True)


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("mode", ["1", "L", "RGB", "RGBA"])
@pytest.mark.parametrize("size", [(1, 1), (8, 3), (13, 5)])
def test_pictures_come_back(mode: str, size: tuple[int, int], protocol: int) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 4), dtype=np.uint8)
    picture = Image.fromarray(noise).convert(mode)
    np.testing.assert_array_equal(loads(pickle.dumps(picture, protocol)).array, np.asarray(picture), strict=True)


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_come_back(protocol: int) -> None:
    value = {"a": [1, 2.5, None, True, "ü"], ("b", 2): {1, 2} if protocol > 3 else (), "long": 1 << 90}
    assert loads(pickle.dumps(value, protocol)) == value


class _Call:
    def __init__(self, *call: Any) -> None:
        self.call = call

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ((os.system, ("touch pwned",)), r"(posix|nt)\.system"),
        ((subprocess.Popen, (["touch", "pwned"],)), r"(subprocess|commands)\.Popen"),
        ((eval, ("open('pwned', 'w')",)), r"_*builtins?_*\.eval"),
        ((np.load, ("x",)), r"numpy\.load"),
        ((Image.open, ("x",)), r"PIL\.Image\.open"),
        ((collections.OrderedDict, ()), r"collections\.OrderedDict"),
        ((getattr, ("", "format")), r"_*builtins?_*\.getattr"),
    ],
)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_any_other_name_is_refused_and_not_called(
    call: Any, name: str, protocol: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(BadImage, match=rf"unsafe_pickle: expected numpy arrays.*got {name}") as caught:
        loads(pickle.dumps({"a": _Call(*call)}, protocol))
    assert caught.value.reason == "unsafe_pickle"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", ["numpy.core.multiarray\nfromfile", "numpy.core\nmultiarray", "PIL.Image\n_plugins"])
def test_neighbours_of_the_allowed_names_are_refused(name: str) -> None:
    with pytest.raises(BadImage, match="unsafe_pickle"):
        loads(b"\x80\x02c" + name.encode() + b"\n.")


def test_a_dotted_name_reaches_nothing() -> None:
    with pytest.raises(BadImage, match=r"unsafe_pickle.*PIL\.Image\.Image\.open"):
        loads(b"\x80\x04\x8c\x09PIL.Image\x8c\x0aImage.open\x93.")


@pytest.mark.parametrize(
    "bad",
    [
        np.array([object()], dtype=object),
        np.array([(1, 2)], dtype="i4,i4"),
        np.array(["x"]),
        np.array(["2020-01-01"], dtype="M8[s]"),
        Image.new("CMYK", (2, 2)),
        Image.new("P", (2, 2)),
    ],
    ids=["object", "record", "text", "date", "CMYK", "palette"],
)
@pytest.mark.parametrize("protocol", [2, 4])
def test_arrays_of_anything_but_numbers_are_refused(bad: Any, protocol: int) -> None:
    with pytest.raises(BadImage, match=r"unreadable|unsafe_pickle"):
        loads(pickle.dumps(bad, protocol).replace(b"builtins\nobject", b"numpy\nndarray"))


def test_a_picture_or_array_that_claims_more_than_it_holds_is_refused() -> None:
    huge = pickle.dumps(Image.new("L", (1, 1)), 2).replace(b"K\x01K\x01\x86", b"J\xff\xff\xff\x0fJ\xff\xff\xff\x0f\x86")
    assert len(huge) > 60
    with pytest.raises(BadImage, match=r"unreadable: expected a pickle.*cannot reshape"):
        loads(huge)


@pytest.mark.parametrize(
    "data",
    [
        b"\x80\x04\x8e" + struct.pack("<Q", 1 << 50) + b"abc.",  # BINBYTES8 of a petabyte
        b"\x80\x04N\x8b" + struct.pack("<I", 1 << 30) + b"abc.",  # LONG4
    ],
)
def test_a_length_that_is_only_claimed_is_refused(data: bytes) -> None:
    with pytest.raises(BadImage, match="unreadable"):
        loads(data)


@pytest.mark.parametrize(
    "data", [b"\x80\x02Nr\xff\xff\xff\xff.", b"Np4000000000\n.", b"\x80\x02" + b"N0" * 60_000 + b"N."]
)
def test_memo_slots_and_opcodes_are_capped(data: bytes) -> None:
    with pytest.raises(BadImage, match=f"too_large: expected a pickle of fewer than {MAX_OPCODES} opcodes"):
        loads(data)


@pytest.mark.parametrize("cut", [0, 1, 2, 20, 60, -1])
def test_a_pickle_that_breaks_off_is_unreadable(cut: int) -> None:
    with pytest.raises(BadImage, match=r"unreadable: expected a pickle, got \d+ broken bytes"):
        loads(pickle.dumps({"a": np.zeros((4, 4))})[:cut])


def test_a_value_that_prints_as_gigabytes_is_not_printed() -> None:
    lists: list[Any] = []
    for _ in range(60):
        lists = [lists, lists]
    with pytest.raises(BadImage, match=r"unreadable: .*got the dtype list"):
        loads(b"\x80\x02cnumpy\ndtype\n" + pickle.dumps(lists, 2)[2:-1] + b"\x85R.")


# work out of all proportion: each of these takes hours, gigabytes or the whole process where it is obeyed

DOUBLED = {
    "a tuple of the tuple below twice": b"\x80\x02)" + b"2\x86" * 60,
    "the same by the memo": b"\x80\x02)q\x00" + b"".join(b"h%ch%c\x86q%c" % (k, k, k + 1) for k in range(60)),
    "three times": b"\x80\x02)" + b"22\x87" * 60,
    "by marks": b"\x80\x02)q\x00" + b"".join(b"(h%ch%ctq%c" % (k, k, k + 1) for k in range(60)),
}


@pytest.mark.parametrize("tuples", DOUBLED.values(), ids=DOUBLED)
@pytest.mark.parametrize(
    ("before", "after"),
    [(b"}", b"Ns."), (b"(", b"Nd."), (b"}(", b"Nu."), (b"\x8f(", b"\x90."), (b"(", b"\x91.")],
    ids=["SETITEM", "DICT", "SETITEMS", "ADDITEMS", "FROZENSET"],
)
def test_a_key_that_doubles_with_every_level_is_refused(tuples: bytes, before: bytes, after: bytes) -> None:
    refused_soon(tuples[:2] + before + tuples[2:] + after)


def refused_soon(data: bytes) -> None:
    """Refused as too large, in a process of its own, for what is obeyed would not end or would take the process."""
    code = "import sys; from layerkit.toolkit.safe_pickle import loads; loads(sys.stdin.buffer.read())"
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, timeout=60, check=False)
    assert b"BadImage: too_large: " in done.stderr, done.stderr[-300:]
    assert done.returncode == 1


def test_tuples_in_tuples_do_not_overflow_the_stack() -> None:
    data = b"\x80\x02}" + b")" + b"\x85" * (MAX_OPCODES - 100) + b"Ns."
    refused_soon(data)
    refused_soon(b"\x80\x02" + b"]" * (MAX_OPCODES // 2 - 100) + b"a" * (MAX_OPCODES // 2 - 101) + b".")
    assert loads(b"\x80\x02)" + b"\x85" * 500 + b".") is not None


def test_a_large_number_is_not_hashed_again_and_again() -> None:
    number = pickle.LONG4 + struct.pack("<i", 4_000_000) + b"\x7f" * 4_000_000
    refused_soon(b"\x80\x02}(" + number + b"q\x00N" + b"h\x00N" * 5000 + b"u.")


def test_a_text_is_not_made_to_bytes_again_and_again() -> None:
    text = pickle.BINUNICODE + struct.pack("<I", 4_000_000) + b"x" * 4_000_000 + b"q\x00"
    encode = b"c_codecs\nencode\nq\x01"
    again = b"h\x01h\x00X\x06\x00\x00\x00latin1\x86R" * 3000
    refused_soon(b"\x80\x02(" + text + encode + again + b"l.")


@pytest.mark.parametrize("codec", ["punycode", "utf-32", "idna", "rot13", "zlib"])
def test_bytes_come_as_latin1_alone(codec: str) -> None:
    call = b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00xX" + struct.pack("<I", len(codec)) + codec.encode() + b"\x86R."
    with pytest.raises(BadImage, match=r"unreadable: .*expected bytes as latin1, got "):
        loads(call)


def test_bits_are_not_unpacked_before_they_are_looked_at() -> None:
    data = pickle.dumps([Image.new("1", (8000, 4000)) for _ in range(3)], 4)
    tracemalloc.start()
    try:
        found = loads(data)
        assert tracemalloc.get_traced_memory()[1] < 40_000_000  # 96 million pixels
    finally:
        tracemalloc.stop()
    assert found[2].array.shape == (4000, 8000)


@pytest.mark.parametrize(("width", "height"), [(-5, 1), (0, 0), (0, 1 << 62), (1 << 62, 0), (9.0, 1), ((8,), 1)])
@pytest.mark.parametrize("mode", ["1", "L"])
def test_a_picture_without_pixels_is_refused_before_it_is_looked_at(mode: str, width: Any, height: Any) -> None:
    state = [{}, mode, (width, height), None, b"\0\0"]
    whole = pickle.dumps(Image.new("1", (1, 1)), 2)
    call = whole[: whole.index(b"]")] + pickle.dumps(state, 2)[2:-1] + b"b."
    with pytest.raises(BadImage, match="unreadable"):
        loads(call)


def test_what_a_picture_may_need_is_never_refused_for_its_work() -> None:
    arrays = {f"key {k}": np.zeros((64, 64, 3), np.int16) for k in range(40)}
    pictures = [Image.new(mode, (64, 64)) for mode in ("1", "L", "RGB", "RGBA") for _ in range(10)]
    nested = {"instances": {k: {"alpha": picture, "more": (arrays, [arrays])} for k, picture in enumerate(pictures)}}
    for protocol in PROTOCOLS:
        assert loads(pickle.dumps(nested, protocol))["instances"][39]["alpha"].array.shape == (64, 64, 4)


def test_nothing_else_in_the_package_reads_pickles() -> None:
    root = Path(safe_pickle.__file__).parents[1]
    call = re.compile(r"\b(pickle|joblib|dill|cloudpickle|marshal|shelve|torch)\.(load|loads|open|Unpickler)\b.*")
    for path in root.rglob("*.py"):
        if path.relative_to(root).parts[0] in ("manifests", "toolkit", "pipelines", "benchmarks"):
            found = [line[0] for line in call.finditer(path.read_text(encoding="utf-8"))]
            known = {"safe_pickle.py": ["pickle.Unpickler):"], "mulan_decode.py": found}  # that script's own pickles
            assert [line for line in found if "weights_only=True" not in line] == known.get(path.name, []), path


def test_what_joblib_wrote_says_so() -> None:
    for array in (np.zeros((64, 64), np.uint8), np.zeros(0)):
        file = io.BytesIO()
        joblib.dump({"a": array}, file)
        with pytest.raises(BadImage, match="unreadable: expected a plain pickle, got one that joblib wrote"):
            loads(file.getvalue())


def test_states_cannot_be_put_on_the_stand_ins() -> None:
    before = dict(vars(Stored))
    for name in (b"numpy\nndarray", b"numpy\ndtype", b"PIL.Image\nImage", b"numpy.core.multiarray\nscalar"):
        for state in (b"}\x8c\x05arrayK\x01s", b"N}\x8c\x05arrayK\x01s\x86"):
            with pytest.raises(BadImage, match="unreadable"):
                loads(b"\x80\x04c" + name + b"\n" + state + b"b.")
    assert dict(vars(Stored)) == before


def test_random_damage_never_raises_anything_else() -> None:
    rng = random.Random(0)
    whole = pickle.dumps({"a": np.zeros((4, 4)), "b": Image.new("L", (3, 3)), "c": np.float32(1), "d": "text"}, 4)
    for _ in range(3000):
        data = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        with contextlib.suppress(BadImage):
            loads(bytes(data))
