"""Pickles of others, read without running anything: plain containers, numpy arrays and Pillow pictures only.

A pickle is a program that may call any function. Here the few names that such data needs stand for inert classes of
this module, so neither numpy nor Pillow is called either; every other name is refused. The opcodes are read through
first: lengths and memo slots that a pickle only claims would be allocated by the unpickler, and one object taken again
and again may cost it centuries (a tuple of a tuple twice, 60 levels high, as the key of a table).
"""

import io
import pickle
import pickletools
import re
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..manifests.errors import BadImage

MAX_OPCODES = 20_000
"""A picture's annotation has hundreds; array and picture bytes are one opcode each."""

MAX_DEPTH = 1000
"""Objects within objects; an annotation has ten."""

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
        values: as they lie there, read-only.
    """

    values: NDArray[Any] = np.empty(0, np.uint8)

    @property
    def array(self) -> NDArray[Any]:
        """The values, read-only; a picture is (H, W), with mode 1 as bool, or (H, W, 3 or 4)."""
        return self.values

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
        self.values = _values(raw, dtype, shape, "F" if fortran else "C")


class _Buffer(Stored):
    """``_frombuffer`` of protocol 5."""

    def __init__(self, raw: Any, dtype: _Dtype, shape: tuple[int, ...], order: Any, *_: Any) -> None:
        self.values = _values(raw, dtype, shape, order)


class _Scalar(Stored):
    """``scalar``: a number of numpy, as a 0-d array."""

    def __init__(self, dtype: _Dtype, raw: Any) -> None:
        self.values = _values(raw, dtype, (), "C")


class _Picture(Stored):
    """``PIL.Image.Image``, whose state is info, mode, (width, height), palette and bytes."""

    width = 0  # of mode 1, whose values are eight pixels a byte until somebody looks

    @property
    def array(self) -> NDArray[Any]:
        """See :class:`Stored`."""
        return np.unpackbits(self.values, axis=1, count=self.width).astype(bool) if self.width else self.values

    def __setstate__(self, state: list[Any]) -> None:
        _, mode, (width, height), _, raw = state[:5]
        flat = np.frombuffer(raw, np.uint8)
        if min(height, width, flat.size) < 1:
            raise ValueError(f"expected a picture of 1 px and more, got {flat.size} bytes")
        if mode == "1":
            self.values, self.width = flat.reshape(height, (width + 7) // 8), width
        elif isinstance(mode, str) and mode in _CHANNELS:
            self.values = flat.reshape(height, width, *_CHANNELS[mode])
        else:
            raise ValueError(f"expected a picture of mode 1, L, RGB or RGBA, got {_short(mode)}")


def _latin1(text: str, encoding: str) -> bytes:
    """``_codecs.encode`` as protocol 2 writes bytes; other codecs take more than their share of time."""
    if encoding != "latin1":
        raise ValueError(f"expected bytes as latin1, got {_short(encoding)}")
    return text.encode(encoding)


class _Unpickler(pickle.Unpickler):
    _names: ClassVar[dict[tuple[str, str], Any]] = {
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Dtype,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "scalar"): _Scalar,
        ("numpy._core.numeric", "_frombuffer"): _Buffer,
        ("PIL.Image", "Image"): _Picture,
        ("_codecs", "encode"): _latin1,
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
            ``too_large`` for more than :data:`MAX_OPCODES` opcodes, :data:`MAX_DEPTH`, or work out of all proportion
            to its length.
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
    audit = _Audit(allowed=1_000_000 + 16 * len(data))
    for count, (opcode, value, _) in enumerate(pickletools.genops(data)):
        slot = value if opcode.name.endswith("PUT") and isinstance(value, int) else 0
        if max(count, slot) >= MAX_OPCODES:
            raise BadImage("too_large", f"expected a pickle of fewer than {MAX_OPCODES} opcodes and memo slots")
        audit.step(opcode, value)


class _Size(NamedTuple):
    """Bytes of an object, what it shares with itself counted as often as it is met; and objects within objects."""

    bytes: int
    depth: int


class _Audit:
    """The stack and memo of an unpickler with sizes on them: what each opcode would cost at the most.

    An opcode costs what it takes from the stack, for that is what it may hash, copy or convert. Tables and lists are
    counted as they were when the memo took them: what came later cannot be hashed.
    """

    def __init__(self, allowed: int) -> None:
        self.allowed = self.left = allowed
        self.stack: list[_Size] = []
        self.marks: list[int] = []
        self.memo: dict[Any, _Size] = {}

    def step(self, opcode: pickletools.OpcodeInfo, value: Any) -> None:
        """Follow one opcode.

        Raises:
            BadImage: ``too_large``.
            LookupError: the stack or the memo lacks what it takes.
        """
        if opcode.name.endswith(("PUT", "MEMOIZE")):
            self.memo[len(self.memo) if value is None else value] = self.stack[-1]
        elif opcode.name.endswith("GET"):
            self.stack.append(self.memo[value])
        elif opcode.name == "MARK":
            self.marks.append(len(self.stack))
        elif opcode.name == "POP" and self.marks and self.marks[-1] == len(self.stack):
            self.marks.pop()
        else:
            self._make(opcode, value)

    def _make(self, opcode: pickletools.OpcodeInfo, value: Any) -> None:
        taken = self._take(opcode.stack_before)
        # an opcode that gives back what it took first, such as APPEND, only changes it
        changes = bool(taken) and opcode.stack_before[:1] == opcode.stack_after[:1]
        rest = taken[1:] if changes else taken
        cost = sum(size.bytes for size in rest)
        made = _Size(1 + _length(value) + cost, 1 + max((size.depth for size in rest), default=0))
        if changes:
            made = _Size(taken[0].bytes + cost, max(taken[0].depth, made.depth))
        self.left -= cost
        if self.left < 0 or made.depth > MAX_DEPTH:
            what = f"{MAX_DEPTH} objects within objects, or work on {self.allowed} bytes"
            raise BadImage("too_large", f"expected a pickle of at most {what}")
        self.stack += [made] * len(opcode.stack_after)

    def _take(self, before: list[pickletools.StackObject]) -> list[_Size]:
        marked = pickletools.markobject in before
        start = self.marks.pop() - before.index(pickletools.markobject) if marked else len(self.stack) - len(before)
        if start < 0:
            raise IndexError("the stack is empty")
        taken = self.stack[start:]
        del self.stack[start:]
        return taken


def _length(value: Any) -> int:
    if isinstance(value, int):
        return value.bit_length() // 8
    return len(value) if isinstance(value, (str, bytes, bytearray)) else 0


def _joblib() -> BadImage:
    return BadImage(
        "unreadable", "expected a plain pickle, got one that joblib wrote; write it again with pickle.dumps"
    )
