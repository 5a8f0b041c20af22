"""Pickles of others, read without running anything: plain containers, numpy arrays and Pillow pictures only.

A pickle is a program that may call any function. Here the few names that such data needs stand for inert classes of
this module, so neither numpy nor Pillow is called either; every other name is refused. The opcodes are read through
first, for lengths and memo slots that a pickle only claims would be allocated by the unpickler.
"""

import io
import pickle
import pickletools
import re
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage

MAX_OPCODES = 100_000
"""A picture's annotation has hundreds; array and picture bytes are one opcode each."""

# What the standard unpickler raises for broken data, whichever opcode breaks.
_BROKEN = (
    pickle.UnpicklingError,
    ArithmeticError,
    AttributeError,
    EOFError,
    LookupError,
    RecursionError,
    TypeError,
    ValueError,
)
_NUMBER = re.compile(r"[<>=|]?([biu]1|[iu][248]|f[248])")
_CHANNELS = {"L": (), "RGB": (3,), "RGBA": (4,)}


class Stored:
    """What a pickle stores instead of an array, a number of numpy or a picture.

    Attributes:
        array: its values, read-only; a picture is (H, W), with mode 1 as bool, or (H, W, 3 or 4).
    """

    array: NDArray[Any] = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError(f"expected {type(self).__name__} without a state")


class _Dtype(Stored):
    """``dtype('u1', False, True)``: a number of 1 to 8 bytes, never an object."""

    code = ""

    def __init__(self, code: str, *_: Any) -> None:
        if not isinstance(code, str) or not _NUMBER.fullmatch(code):
            raise ValueError(f"expected an array of numbers, got the dtype {_short(code)}")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if state[1] == ">":
            self.code = ">" + self.code.lstrip("<>=|")


def _short(value: Any) -> str:
    """A value in a message: nested lists of a few hundred bytes may print as gigabytes."""
    return repr(value[:40]) if isinstance(value, str) else type(value).__name__


def _values(raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Any) -> NDArray[Any]:
    flat: NDArray[Any] = np.frombuffer(raw, np.dtype(dtype.code))
    return flat.reshape(shape, order="F" if order == "F" else "C")


class _Array(Stored):
    """``numpy.ndarray`` and ``_reconstruct``, which makes an empty one that its state then fills."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, raw = state
        self.array = _values(raw, dtype, shape, "F" if fortran else "C")


class _Buffer(Stored):
    """``_frombuffer`` of protocol 5."""

    def __init__(self, raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Any, *_: Any) -> None:
        self.array = _values(raw, dtype, shape, order)


class _Scalar(Stored):
    """``scalar``: a number of numpy, as a 0-d array."""

    def __init__(self, dtype: _Dtype, raw: Any) -> None:
        self.array = _values(raw, dtype, (), "C")


class _Picture(Stored):
    """``PIL.Image.Image``, whose state is info, mode, (width, height), palette and bytes."""

    def __setstate__(self, state: list[Any]) -> None:
        _, mode, (width, height), _, raw = state[:5]
        if mode == "1":
            rows = np.frombuffer(raw, np.uint8).reshape(height, (width + 7) // 8)
            self.array = np.unpackbits(rows, axis=1, count=width).astype(bool)
        elif isinstance(mode, str) and mode in _CHANNELS:
            self.array = np.frombuffer(raw, np.uint8).reshape(height, width, *_CHANNELS[mode])
        else:
            raise ValueError(f"expected a picture of mode 1, L, RGB or RGBA, got {_short(mode)}")


class _Unpickler(pickle.Unpickler):
    _names: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "scalar"): _Scalar,
        ("numpy._core.numeric", "_frombuffer"): _Buffer,
        ("PIL.Image", "Image"): _Picture,
        ("_codecs", "encode"): str.encode,  # as protocol 2 writes bytes; unlike encode, it knows text codecs only
    }

    def find_class(self, module: str, name: str) -> Any:
        """The class that stands for a name; numpy 1 called ``numpy._core`` ``numpy.core``."""
        if module.startswith("joblib"):
            raise _joblib()
        renamed = re.sub(r"^numpy\.core\b", "numpy._core", module)
        if (renamed, name) not in self._names:
            raise BadImage(
                "unsafe_pickle", f"expected numpy arrays, Pillow pictures and plain values, got {module}.{name}"
            )
        return self._names[renamed, name]


def loads(data: bytes) -> Any:
    """The object of a pickle of any protocol; arrays, numpy's numbers and pictures in it are :class:`Stored`.

    Raises:
        BadImage: ``unsafe_pickle`` for any other name, ``unreadable`` for a broken pickle or one that joblib wrote,
            ``too_large`` for more than :data:`MAX_OPCODES` opcodes.
    """
    try:
        _check_opcodes(data)
        return _Unpickler(io.BytesIO(data)).load()
    except _BROKEN as error:
        if b"joblib.numpy_pickle" in data:  # its arrays lie between the opcodes
            raise _joblib() from error
        raise BadImage("unreadable", f"expected a pickle, got {len(data)} broken bytes: {str(error)[:200]}") from error


def _check_opcodes(data: bytes) -> None:
    """Read all opcodes without obeying them: ValueError for a length beyond the data."""
    for count, (opcode, value, _) in enumerate(pickletools.genops(data)):
        slot = value if opcode.name.endswith("PUT") and isinstance(value, int) else 0
        if max(count, slot) >= MAX_OPCODES:
            raise BadImage("too_large", f"expected a pickle of fewer than {MAX_OPCODES} opcodes and memo slots")


def _joblib() -> BadImage:
    return BadImage(
        "unreadable", "expected a plain pickle, got one that joblib wrote; write it again with pickle.dumps"
    )
