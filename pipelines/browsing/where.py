"""``--where "saliency_iou < 0.7 and mix == 'paste'"``: which rows of a table are meant.

The language is Python's: comparisons, also chained ones, ``in``, ``and``, ``or``, ``not``, parentheses, numbers and
texts; names are columns, ``telea.psnr_mask`` too. Nothing of it is executed. As in SQL, a value that was not measured
is neither above nor below anything.
"""

import ast
import difflib
import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

from ...manifests.errors import UsageError

_SHAPE = "--where: expected a condition such as \"saliency_iou < 0.7 and mix == 'paste'\""

_COMPARE: dict[type, str] = {
    ast.Lt: "less",
    ast.LtE: "less_equal",
    ast.Gt: "greater",
    ast.GtE: "greater_equal",
    ast.Eq: "equal",
    ast.NotEq: "not_equal",
}


def matching(table: Any, where: str) -> Any:
    """The rows of a ``pyarrow.Table`` that fulfil a condition, in their order; all where it is empty.

    Raises:
        UsageError: it is no such condition, names no column, or compares a text with a number.
    """
    import pyarrow as pa

    if not where.strip():
        return table
    try:
        chosen = _Condition(table, where).value_of(ast.parse(where.strip(), mode="eval").body)
        if not isinstance(chosen, pa.ChunkedArray) or chosen.type != pa.bool_():
            raise UsageError(f"{_SHAPE}, got {where!r}, which is neither true nor false of a sample")
        return table.filter(chosen)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise UsageError(f"{_SHAPE}, got {where!r}: {getattr(error, 'msg', error)}") from error
    except pa.ArrowException as error:
        raise UsageError(f"{_SHAPE}, got {where!r}: {str(error).splitlines()[0]}") from error


class _Condition:
    """A condition over the columns of a table, worked out from the leaves up."""

    def __init__(self, table: Any, text: str) -> None:
        self._table, self._text = table, text

    def value_of(self, node: ast.expr) -> Any:
        match node:
            case ast.BoolOp(op=op, values=values):
                together = "and_kleene" if isinstance(op, ast.And) else "or_kleene"
                return reduce(_call(together), map(self.value_of, values))
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return _call("invert")(self.value_of(operand))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as number)):
                return -number
            case ast.Compare(left=left, ops=ops, comparators=others):
                return self._compared([left, *others], ops)
            case ast.Constant(value=str() | int() | float() as value):
                return value
            case ast.Name() | ast.Attribute():
                return self._column(node)
        raise self._refused(node)

    def _compared(self, sides: Sequence[ast.expr], ops: Sequence[ast.cmpop]) -> Any:
        pairs = zip(sides, ops, sides[1:], strict=False)
        return reduce(_call("and_kleene"), [self._pair(*pair) for pair in pairs])

    def _pair(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Any:
        if isinstance(op, ast.In | ast.NotIn):
            inside = self._inside(left, right)
            return inside if isinstance(op, ast.In) else _call("invert")(inside)
        if type(op) not in _COMPARE:
            raise self._refused(right)
        return _call(_COMPARE[type(op)])(self.value_of(left), self.value_of(right))

    def _inside(self, left: ast.expr, right: ast.expr) -> Any:
        """``mix in ("paste", "cut")``, or ``"mulan" in sources``."""
        import pyarrow as pa
        import pyarrow.compute as pc

        if isinstance(right, ast.Tuple | ast.List):
            return pc.is_in(self.value_of(left), value_set=pa.array([self.value_of(item) for item in right.elts]))
        if isinstance(left, ast.Constant) and isinstance(left.value, str):
            return pc.match_substring(self.value_of(right), left.value)
        raise self._refused(right)

    def _column(self, node: ast.expr) -> Any:
        name = ast.unparse(node)
        if name not in self._table.column_names:
            near = difflib.get_close_matches(name, self._table.column_names, n=1)
            known = f"did you mean {near[0]}?" if near else f"known are {', '.join(self._table.column_names)}"
            raise UsageError(f"--where: expected the name of a field, got {name!r}; {known}")
        return self._table[name]

    def _refused(self, node: ast.AST) -> UsageError:
        return UsageError(f"{_SHAPE}, got {self._text!r} with {ast.unparse(node)!r}")


def _call(name: str) -> Callable[..., Any]:
    import pyarrow.compute as pc

    found: Callable[..., Any] = operator.attrgetter(name)(pc)
    return found
