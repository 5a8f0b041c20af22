"""Published figures, each with its protocol: ``references.toml``. Those of two protocols never stand in one column."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from .recipes import load_table
from .schema import parse
from .suites import Suite

_TABLE = Path(__file__).with_name("references.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """One published figure.

    Attributes:
        protocol: the paper whose protocol it is.
        dataset: the name of a reader of ours, or what the paper calls it.
        n: number of samples, 0 where not stated.
        size: px, 0 where not stated.
        mask: kind of mask, empty where not stated.
        method: as the paper calls it.
        metric: as in ``layerkit.toolkit.metrics`` where it is one of ours.
        variant: which definition of it, empty where not stated.
        region: over which pixels.
        value: as printed.
        evidence: ``S``, read in a primary source; ``T``, in notes or code of others.
        verified: whether it was read in the paper or its official material.
        note: what else keeps it from being compared.
        suites: our suites of the same protocol.
    """

    protocol: str
    dataset: str
    n: int
    size: int
    mask: str
    method: str
    metric: str
    variant: str
    region: str
    value: float
    evidence: Literal["S", "T"]
    verified: bool
    note: str
    suites: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Published:
    protocol: str
    dataset: str
    evidence: Literal["S", "T"]
    methods: Mapping[str, Mapping[str, float]]
    suites: tuple[str, ...] = ()
    n: int = 0
    size: int = 0
    mask: str = ""
    note: str = ""

    def rows(self) -> list[Reference]:
        return [self._row(method, name, value) for method, of in self.methods.items() for name, value in of.items()]

    def _row(self, method: str, name: str, value: float) -> Reference:
        measure, _, region = name.partition("@")
        metric, _, variant = measure.partition(":")
        return Reference(
            protocol=self.protocol,
            dataset=self.dataset,
            n=self.n,
            size=self.size,
            mask=self.mask,
            method=method,
            metric=metric,
            variant=variant,
            region=region or "whole",
            value=value,
            evidence=self.evidence,
            verified=self.evidence == "S",
            note=self.note,
            suites=self.suites,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    table: tuple[_Published, ...]


@cache
def references() -> tuple[Reference, ...]:
    """Every figure, in the order of the file.

    Raises:
        UsageError: the file breaks its schema.
    """
    return tuple(row for table in parse(_File, load_table(_TABLE), _TABLE.name).table for row in table.rows())


def rows_for(suite: Suite) -> tuple[list[Reference], list[Reference]]:
    """The figures of the suite's own protocol, and those on the same data set by other protocols."""
    same = [row for row in references() if suite.name in row.suites]
    others = [row for row in references() if row.dataset == suite.reader and suite.name not in row.suites]
    return same, others
