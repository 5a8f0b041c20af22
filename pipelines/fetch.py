"""Fetch a data set of :data:`layerkit.manifests.downloads.DOWNLOADS`: the files, or the steps.

Open Images comes as its source reads it: the tables in the folder under their own names, the pictures in ``SPLIT/``,
the archives of masks in ``SPLIT-masks/``. Without a count at most :data:`UNCOUNTED` pictures come: whoever wants more
says how many, and whoever wants all of train says 1743042. A picture or an archive that does not come is a row of the
report; a table that does not come is an error.
"""

import csv
import hashlib
import re
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from pathlib import Path

from ..manifests.downloads import Download, Files, find
from ..manifests.errors import RunError, UsageError
from .options import Progress, Report
from .transfer import Patience, TransferError, download, length

_IMAGE_ID = re.compile(r"[0-9A-Za-z_-]{1,64}")
UNCOUNTED = 50_000
"""Pictures that come without being counted; the validation split has fewer."""

_PICTURE_BYTES = 294_300  # on average: train has 513 GB, validation 12, test 36
_BATCH = 1024  # pictures queued at a time; the train split has 1.7 million


@dataclass(frozen=True, slots=True, kw_only=True)
class NotFetched:
    """A file that did not come.

    Attributes:
        file: its name, as the table gives it, below the folder.
        reason: ``not_found`` or ``refused`` by the server, ``failed`` after every try, ``unsafe_name``.
        detail: address and what was said.
    """

    file: str
    reason: str
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchReport:
    """What a fetch did.

    Attributes:
        name: of the data set.
        to: where it lies.
        licence: as its owners state it.
        fetched: files that came; the hub's are not counted.
        present: files that were there already.
        bytes: length of what came.
        missing: what did not come.
        steps: what is left for a person to do.
    """

    name: str
    to: str
    licence: str
    fetched: int = 0
    present: int = 0
    bytes: int = 0
    missing: tuple[NotFetched, ...] = ()
    steps: tuple[str, ...] = ()

    @property
    def failed(self) -> int:
        """Files that may come when it is run again."""
        return sum(row.reason == "failed" for row in self.missing)

    def describe(self) -> str:
        """The report in words."""
        lines = [f"licence   {self.licence}"]
        if self.fetched or self.present:
            size = f"{self.fetched} came ({self.bytes / 1e6:.1f} MB), {self.present} were there"
            lines.append(f"files     {size}: {self.to}")
        lines += [f"missing   {row.file}: {row.reason}, {row.detail}" for row in self.missing]
        return "\n".join([*lines, *(f"step {number:<4} {step}" for number, step in enumerate(self.steps, 1))])


def fetch(
    name: str,
    to: Path,
    *,
    split: str = "validation",
    classes: Sequence[str] = (),
    count: int | None = None,
    masks: bool = True,
    base_url: str | None = None,
    workers: int = 4,
    report: Report | None = None,
    patience: Patience | None = None,
) -> FetchReport:
    """Download a data set into a folder; run again, it goes on where it stopped. Of a manual one, the steps only.

    Args:
        name: a row of the table.
        to: the folder.
        split: of Open Images: train, validation or test.
        classes: display names; pictures with a box of any of them. Empty takes every picture of the split's table.
        count: take this many of them, those first whose SHA-256 of the id is least; None takes all, where these are no
            more than :data:`UNCOUNTED`.
        masks: bring the mask pictures as well. They lie in 16 archives by the first digit of the picture's id, which
            come whole, of train some hundred MB each; only those that hold a mask of a chosen picture come.
        base_url: a mirror that holds the tables, the archives and ``SPLIT/ID.jpg``.
        workers: files at a time.
        report: called as files come; the stage of the masks names their size before the first comes.
        patience: how long a file is tried.

    Raises:
        UsageError: an unknown data set, split or class, an option that is not for it, or too many pictures uncounted.
        RunError: a table or the hub cannot be had, or the folder cannot be written.
    """
    row = find(name)
    _check_options(row, split, classes, count, base_url, workers)
    done = FetchReport(name=name, to=str(to), licence=row.licence, steps=row.steps)
    if row.kind == "hub":
        _from_hub(row, to)
    if row.files is None:
        return done
    files = row.files if base_url is None else _mirrored(row.files, base_url)
    run = _Fetch(files, to, split, patience or Patience())
    try:
        run.run(classes, count, masks, workers, report or (lambda _: None))
    except OSError as error:
        raise RunError(f"{to}: cannot write {error.filename or 'a file'}: {error.strerror or error}") from error
    came = [size for size in run.lengths if size]
    return replace(
        done, fetched=len(came), present=len(run.lengths) - len(came), bytes=sum(came), missing=tuple(run.missing)
    )


def _check_options(
    row: Download, split: str, classes: Sequence[str], count: int | None, base_url: str | None, workers: int
) -> None:
    if row.files is None and (classes or count is not None or base_url):
        raise UsageError(f"fetch {row.name}: --classes, --count and a mirror are for openimages; leave them out")
    if row.files is not None and split not in row.files.lists:
        raise UsageError(f"--split: expected one of {', '.join(row.files.lists)}, got {split!r}")
    if row.files is not None and not classes and count is None:
        _check_number(row.files.counts[split], split)
    for option, number in (("--count", count), ("--workers", workers)):
        if number is not None and number < 1:
            raise UsageError(f"{option}: expected 1 or more, got {number}")


def _check_number(number: int, split: str) -> None:
    """Refuse more pictures than come without a count; ``split`` may have words on the choice."""
    if number > UNCOUNTED:
        raise UsageError(
            f"--count: expected a number for more than {UNCOUNTED} pictures, got none for the {number} of {split}, "
            f"{number * _PICTURE_BYTES / 1e9:.0f} GB; add --classes NAME or --count N (--count {number} takes all)"
        )


def _mirrored(files: Files, address: str) -> Files:
    address = f"{address.rstrip('/')}/"
    return replace(files, address=address, pictures=address)


class _Fetch:
    """One run over one split."""

    def __init__(self, files: Files, to: Path, split: str, patience: Patience) -> None:
        self.files, self.to, self.split, self.patience = files, to, split, patience
        self.lengths: list[int] = []  # of the files, 0 for one that was there
        self.missing: list[NotFetched] = []

    def run(self, classes: Sequence[str], count: int | None, masks: bool, workers: int, report: Report) -> None:
        """Bring the tables, then the pictures chosen by them, and the masks of these."""
        names = self.table(self.files.classes)
        images, boxes, outlined = [self.table(path) for path in self.files.lists[self.split]]
        ids = set(_with_classes(boxes, _identifiers(names, classes)) if classes else _column(images, "ImageID"))
        if count is None:
            _check_number(len(ids), f"{self.split} with {', '.join(classes)}" if classes else self.split)
        wanted = sorted(ids, key=lambda id_: hashlib.sha256(id_.encode()).digest())[:count]
        self.bring(self.picture, wanted, workers, report, "fetch")
        if masks:
            digits = _digits(outlined, set(wanted))
            self.bring(self.archive, digits, workers, report, self.stage(digits))

    def bring(self, work: "_Work", names: Sequence[str], workers: int, report: Report, stage: str) -> None:
        """Bring a file a name, and count it."""
        missing = len(self.missing)
        report(Progress(stage=stage, done=0, total=len(names), kept=0))
        with closing(_threaded(work, names, workers)) as results:
            for number, came in enumerate(results, 1):
                if isinstance(came, NotFetched):
                    self.missing.append(came)
                else:
                    self.lengths.append(came)
                kept = number + missing - len(self.missing)
                report(Progress(stage=stage, done=number, total=len(names), kept=kept))

    def table(self, path: str) -> Path:
        """Bring a table, named as on the server."""
        place = self.to / path.rpartition("/")[2]
        self.lengths.append(download(self.files.address + path, place, self.patience))
        return place

    def picture(self, id_: str, stop: threading.Event) -> int | NotFetched:
        """Bring a picture; its length, or why it did not come."""
        if not _IMAGE_ID.fullmatch(id_):
            return NotFetched(file=id_, reason="unsafe_name", detail=f"expected an ImageID, got {id_!r}")
        name = f"{self.split}/{id_}.jpg"
        return self.file(self.files.pictures + name, name, stop)

    def archive(self, digit: str, stop: threading.Event) -> int | NotFetched:
        """Bring the archive of masks of a digit; its length, or why it did not come."""
        return self.file(*self.archive_at(digit), stop)

    def archive_at(self, digit: str) -> tuple[str, str]:
        """Its address, and its name below the folder."""
        path = self.files.masks.format(split=self.split, digit=digit)
        return self.files.address + path, f"{self.split}-masks/{path.rpartition('/')[2]}"

    def file(self, address: str, name: str, stop: threading.Event) -> int | NotFetched:
        """Bring a file to its name below the folder."""
        try:
            return download(address, self.to / name, self.patience, stop=stop)
        except TransferError as error:
            return NotFetched(file=name, reason=error.reason, detail=str(error))

    def stage(self, digits: Sequence[str]) -> str:
        """What the progress of the masks is called: with the size, as the server says, of what is not there yet."""
        places = map(self.archive_at, digits)
        sizes = [length(address, self.patience) for address, name in places if not (self.to / name).exists()]
        return f"masks ({sum(sizes) / 1e6:.0f} MB)" if sizes and all(sizes) else "masks"


_Work = Callable[[str, threading.Event], int | NotFetched]


def _threaded(work: _Work, names: Iterable[str], workers: int) -> Generator[int | NotFetched]:
    """What ``work`` returns for each name; an interruption ends the pauses and drops what is queued."""
    stop = threading.Event()
    executor = ThreadPoolExecutor(workers)
    rest = iter(names)
    try:
        while batch := list(islice(rest, _BATCH)):
            yield from executor.map(lambda name: work(name, stop), batch)
    finally:
        stop.set()
        executor.shutdown(cancel_futures=True)


def _rows(path: Path) -> Iterator[list[str]]:
    try:
        with path.open(newline="", encoding="utf-8") as file:
            yield from csv.reader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise RunError(f"{path}: expected a table: {error}; delete it and run again") from error


def _columns(path: Path, *names: str) -> Iterator[list[str]]:
    """The named columns of a table; short rows are left out.

    Raises:
        RunError: a column is missing.
    """
    rows = _rows(path)
    header = next(rows, [])
    absent = [name for name in names if name not in header]
    if absent:
        raise RunError(f"{path}: expected the column {absent[0]}, got {header[:6]}; delete it and run again")
    places = [header.index(name) for name in names]
    return ([row[place] for place in places] for row in rows if len(row) > max(places))


def _column(path: Path, name: str) -> Iterator[str]:
    return (value for (value,) in _columns(path, name))


def _with_classes(boxes: Path, identifiers: set[str]) -> Iterator[str]:
    return (id_ for id_, label in _columns(boxes, "ImageID", "LabelName") if label in identifiers)


def _digits(outlined: Path, ids: set[str]) -> list[str]:
    """First digits of the pictures among ``ids`` that the table of masks lists."""
    return sorted({id_[:1].lower() for id_ in _column(outlined, "ImageID") if id_ in ids} & set("0123456789abcdef"))


def _identifiers(table: Path, names: Sequence[str]) -> set[str]:
    """The identifiers of display names, whatever their case; the table has no header, or one that names no class.

    Raises:
        UsageError: an unknown name; near ones are listed.
    """
    known = {row[1].strip().lower(): row[0] for row in _rows(table) if len(row) > 1}
    for name in names:
        if name.lower() not in known:
            near = ", ".join(get_close_matches(name.lower(), known)) or "none is near"
            raise UsageError(f"--classes: expected names of {table}, got {name!r}; near it: {near}")
    return {known[name.lower()] for name in names}


def _from_hub(row: Download, to: Path) -> None:
    """Bring a snapshot of the hub into a folder; RunError, with the command, where the hub is away or refuses."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError

    errors: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)  # of the hub's HTTP client, too
    try:
        # Asked first, for without the hub snapshot_download takes whatever lies in the folder for the whole.
        commit = HfApi().dataset_info(row.repo, revision=row.revision).sha
        snapshot_download(row.repo, repo_type="dataset", revision=commit, local_dir=to)
    except errors as error:
        raise RunError(
            f"{row.name}: expected {row.repo} from the hub, got {type(error).__name__}: {str(error).splitlines()[0]}; "
            f"log in where it is gated (hf auth login), then run again, or: hf download {row.repo} "
            f"--repo-type dataset --revision {row.revision} --local-dir {to}"
        ) from error
