"""Fetching, against a web server on 127.0.0.1 that stalls, cuts short, lies and forgets as it is told."""

import base64
import hashlib
import io
import re
import socket
import threading
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import pytest

from layerkit.manifests.downloads import DOWNLOADS
from layerkit.manifests.errors import RunError, UsageError
from layerkit.manifests.sources import entries
from layerkit.pipelines.fetch import FetchReport, fetch
from layerkit.pipelines.options import Progress
from layerkit.pipelines.transfer import Patience, TransferError, download, length


class FaultyServer(ThreadingHTTPServer):
    """Serves ``files`` by path.

    Attributes:
        files: path without the first slash to bytes.
        faults: path to what happens at its next requests: a status, ``stall``, ``cut``, ``no_range``, ``corrupt``,
            ``wrong_range``, ``drop``.
        asked: path and Range header of every request.
        headers: more headers of every answer; ``MD5`` in a value stands for the hex digest of the file.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[int | str]] = defaultdict(list)
        self.asked: list[tuple[str, str]] = []
        self.headers: dict[str, str] = {}
        self.over = threading.Event()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/"


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def log_message(self, *_) -> None:
        pass

    def version_string(self) -> str:
        return self.server.headers.get("Server", "test")

    def do_HEAD(self) -> None:
        self.server.asked.append((self.path[1:], "HEAD"))
        data = self.server.files.get(self.path[1:])
        self.send_response(404 if data is None else 200)
        if data is not None and "Content-Length" not in self.server.headers:
            self.send_header("Content-Length", str(len(data)))
        self.end_headers()

    def do_GET(self) -> None:
        path, span = self.path[1:], self.headers.get("Range", "")
        self.server.asked.append((path, span))
        faults = self.server.faults[path]
        fault = faults.pop(0) if faults else ""
        if fault == "drop":
            self.connection.close()
        elif isinstance(fault, int) or path not in self.server.files:
            self.send_error(fault or 404)
        else:
            self._serve(self.server.files[path], "" if fault == "no_range" else span, fault)

    def _serve(self, data: bytes, span: str, fault: str) -> None:
        found = re.fullmatch(r"bytes=(\d+)-", span)
        first = int(found[1]) if found else 0
        if first >= len(data) > 0:
            self.send_error(416)
            return
        body = data[first:]
        self.send_response(206 if found else 200)
        self.send_header("Content-Length", str(len(body)))
        if found:
            shown = first + (1 if fault == "wrong_range" else 0)
            self.send_header("Content-Range", f"bytes {shown}-{len(data) - 1}/{len(data)}")
        for name, value in self.server.headers.items():
            if name != "Server":
                self.send_header(name, value.replace("MD5", hashlib.md5(data).hexdigest()))
        self.end_headers()
        half = len(body) // 2
        if fault == "corrupt":
            body = bytes(byte ^ 255 for byte in body)
        self.wfile.write(body[:half] if fault in ("cut", "stall") else body)
        self.wfile.flush()
        if fault == "stall":
            self.server.over.wait(30)


@pytest.fixture
def server(monkeypatch) -> Iterator[FaultyServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    served = FaultyServer()
    thread = threading.Thread(target=served.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield served
    served.over.set()
    served.shutdown()
    thread.join()
    served.server_close()


QUICK = Patience(stall=0.3, tries=3, pause=0.0)
DATA = bytes(range(256)) * 40


def sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


# one file


def test_a_file_comes_whole_and_is_not_asked_for_again(server: FaultyServer, tmp_path: Path) -> None:
    server.files["a.bin"] = DATA
    path = tmp_path / "new" / "folder" / "a.bin"
    assert download(server.address + "a.bin", path, QUICK) == len(DATA)
    assert download(server.address + "a.bin", path, QUICK) == 0
    assert path.read_bytes() == DATA
    assert server.asked == [("a.bin", "")]
    assert [file.name for file in path.parent.iterdir()] == ["a.bin"]


def test_an_empty_file_is_a_file(server: FaultyServer, tmp_path: Path) -> None:
    server.files["a.bin"] = b""
    assert download(server.address + "a.bin", tmp_path / "a.bin", QUICK) == 0
    assert (tmp_path / "a.bin").read_bytes() == b""


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_what_was_cut_or_stalled_is_taken_up_where_it_broke(server: FaultyServer, tmp_path: Path, fault: str) -> None:
    server.files["a.bin"] = DATA
    server.faults["a.bin"] = [fault]
    assert download(server.address + "a.bin", tmp_path / "a.bin", QUICK) == len(DATA)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert server.asked == [("a.bin", ""), ("a.bin", f"bytes={len(DATA) // 2}-")]


@pytest.mark.parametrize("faults", [[500, 503], [429], ["drop", 408]])
def test_a_passing_fault_is_tried_again(server: FaultyServer, tmp_path: Path, faults: list) -> None:
    server.files["a.bin"] = DATA
    server.faults["a.bin"] = list(faults)
    download(server.address + "a.bin", tmp_path / "a.bin", QUICK)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert len(server.asked) == len(faults) + 1


@pytest.mark.parametrize(
    ("faults", "asked"),
    [
        ([], [f"bytes={100}-"]),  # resumed
        (["no_range"], ["bytes=100-"]),  # the server ignores the range: from the start
        (["wrong_range"], ["bytes=100-", ""]),  # the server answers with other bytes: from the start
        (["cut"], ["bytes=100-", f"bytes={100 + (len(DATA) - 100) // 2}-"]),
    ],
)
def test_what_a_killed_run_left_is_taken_up(server: FaultyServer, tmp_path: Path, faults: list, asked: list) -> None:
    server.files["a.bin"] = DATA
    server.faults["a.bin"] = list(faults)
    (tmp_path / "a.bin.part").write_bytes(DATA[:100])
    download(server.address + "a.bin", tmp_path / "a.bin", QUICK)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert [span for _, span in server.asked] == asked
    assert not (tmp_path / "a.bin.part").exists()


@pytest.mark.parametrize("left", [DATA, DATA + b"more"])
def test_a_part_as_long_as_the_file_is_begun_anew(server: FaultyServer, tmp_path: Path, left: bytes) -> None:
    server.files["a.bin"] = DATA
    (tmp_path / "a.bin.part").write_bytes(left)
    download(server.address + "a.bin", tmp_path / "a.bin", QUICK)
    assert (tmp_path / "a.bin").read_bytes() == DATA


def test_a_part_of_a_file_that_changed_since_is_begun_anew(server: FaultyServer, tmp_path: Path) -> None:
    server.files["a.bin"] = DATA
    server.headers["Last-Modified"] = "Fri, 01 Jan 2100 00:00:00 GMT"
    (tmp_path / "a.bin.part").write_bytes(b"old" * 30)
    download(server.address + "a.bin", tmp_path / "a.bin", QUICK)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert [span for _, span in server.asked] == ["bytes=90-", ""]


GOOGLE = base64.b64encode(hashlib.md5(DATA).digest()).decode()


@pytest.mark.parametrize(
    ("digest", "headers"),
    [
        (sha256(DATA), {}),
        (f"md5:{hashlib.md5(DATA).hexdigest()}", {}),
        ("", {"Server": "AmazonS3", "ETag": '"MD5"'}),
        ("", {"x-goog-hash": f"crc32c=AAAAAA==, md5={GOOGLE}"}),
    ],
)
@pytest.mark.parametrize("left", [b"", b"not the beginning"])
def test_bytes_that_are_not_those_promised_are_fetched_again(
    server: FaultyServer, tmp_path: Path, digest: str, headers: dict, left: bytes
) -> None:
    server.files["a.bin"] = DATA
    server.headers |= headers
    if left:
        (tmp_path / "a.bin.part").write_bytes(left)
    else:
        server.faults["a.bin"] = ["corrupt"]
    download(server.address + "a.bin", tmp_path / "a.bin", QUICK, digest)
    assert (tmp_path / "a.bin").read_bytes() == DATA
    assert len(server.asked) == 2


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": '"' + "0" * 32 + '"'},  # not Amazon's: it may be anything
        {"Server": "AmazonS3", "ETag": '"' + "0" * 32 + '-7"'},  # uploaded in parts
        {"x-goog-hash": "md5=?"},
    ],
)
def test_a_tag_that_is_no_hash_is_not_taken_for_one(server: FaultyServer, tmp_path: Path, headers: dict) -> None:
    server.files["a.bin"] = DATA
    server.headers |= headers
    assert download(server.address + "a.bin", tmp_path / "a.bin", QUICK) == len(DATA)


def test_a_finished_file_with_another_hash_is_fetched_again(server: FaultyServer, tmp_path: Path) -> None:
    server.files["a.bin"] = DATA
    (tmp_path / "a.bin").write_bytes(b"spoilt")
    assert download(server.address + "a.bin", tmp_path / "a.bin", QUICK, sha256(DATA)) == len(DATA)
    assert download(server.address + "a.bin", tmp_path / "a.bin", QUICK, sha256(DATA)) == 0


@pytest.mark.parametrize(
    ("faults", "reason", "tries"),
    [
        ([404], "not_found", 1),
        ([403], "refused", 1),
        ([400], "failed", 1),
        ([500] * 9, "failed", 3),
        (["corrupt"] * 9, "failed", 3),
        (["drop"] * 9, "failed", 3),
    ],
)
def test_what_does_not_come_says_why_and_leaves_nothing_that_looks_whole(
    server: FaultyServer, tmp_path: Path, faults: list, reason: str, tries: int
) -> None:
    server.files["a.bin"] = DATA
    server.faults["a.bin"] = list(faults)
    with pytest.raises(TransferError) as raised:
        download(server.address + "a.bin", tmp_path / "a.bin", QUICK, sha256(DATA))
    assert raised.value.reason == reason
    assert server.address in str(raised.value)
    assert len(server.asked) == tries
    assert not (tmp_path / "a.bin").exists()


def test_other_addresses_are_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with pytest.raises(UsageError, match="expected an http or https address"):
        download((tmp_path / "secret").as_uri(), tmp_path / "a", QUICK)


def test_no_server_is_a_failure_that_may_pass(tmp_path: Path) -> None:
    with socket.socket() as bound:  # bound and not listening: the connection is refused
        bound.bind(("127.0.0.1", 0))
        address = f"http://127.0.0.1:{bound.getsockname()[1]}/a"
        with pytest.raises(TransferError, match="tried 2 times, run it again to go on") as raised:
            download(address, tmp_path / "a", Patience(stall=0.3, tries=2, pause=0.0))
    assert raised.value.reason == "failed"


def test_a_length_is_what_the_server_says(server: FaultyServer) -> None:
    server.files["a.bin"] = DATA
    assert length(server.address + "a.bin", QUICK) == len(DATA)
    assert length(server.address + "b.bin", QUICK) == 0
    server.headers["Content-Length"] = "left out"
    assert length(server.address + "a.bin", QUICK) == 0


# Open Images

IDS = [f"{number % 3:x}{number:015x}" for number in range(12)]
MASKED = [*IDS[:4], IDS[0], "f" * 16]  # the last is no picture of the table
ARCHIVE = "v5/validation-masks/validation-masks-{}.zip"
NAMES = "/m/0cat,Cat\n/m/0dog,Dog\n/m/0light,Traffic light\n"


@pytest.fixture
def open_images(server: FaultyServer) -> FaultyServer:
    images, boxes, masks = DOWNLOADS["openimages"].files.lists["validation"]
    labels = ["/m/0cat", "/m/0dog", "/m/0tree"]
    rows = [f"{id_},xclick,{labels[number % 3]},1" for number, id_ in enumerate(IDS)]
    server.files = {
        images: "".join(f"{row}\n" for row in ["ImageID,Subset", *(f"{id_},validation" for id_ in IDS)]).encode(),
        boxes: "\n".join(["ImageID,Source,LabelName,Confidence", *rows, rows[0], "cut off"]).encode(),
        masks: b"MaskPath,ImageID\n" + b"".join(b"x.png,%s\n" % id_.encode() for id_ in MASKED),
        DOWNLOADS["openimages"].files.classes: NAMES.encode(),
    }
    server.files |= {f"validation/{id_}.jpg": b"\xff\xd8" + id_.encode() for id_ in IDS}
    server.files |= {ARCHIVE.format(digit): digit.encode() * 2_000_000 for digit in "012"}
    return server


def get(server: FaultyServer, to: Path, **options) -> FetchReport:
    return fetch("openimages", to, base_url=server.address, patience=QUICK, **options)


def pictures(to: Path) -> set[str]:
    return {path.stem for path in (to / "validation").iterdir()}


def test_a_split_comes_with_its_tables_and_again_from_disk(open_images: FaultyServer, tmp_path: Path) -> None:
    told: list[Progress] = []
    report = get(open_images, tmp_path, report=told.append)
    assert pictures(tmp_path) == set(IDS)
    assert (tmp_path / "validation" / f"{IDS[3]}.jpg").read_bytes() == b"\xff\xd8" + IDS[3].encode()
    tables = {path.name for path in tmp_path.glob("*.csv")}
    assert tables == {
        "validation-images-with-rotation.csv",
        "validation-annotations-bbox.csv",
        "validation-annotations-object-segmentation.csv",
        "class-descriptions-boxable.csv",
    }
    assert (report.fetched, report.present, report.missing) == (19, 0, ())
    assert report.bytes == sum(map(len, open_images.files.values()))
    masks = [("masks (6 MB)", number, 3, number) for number in range(4)]
    steps = [("fetch", number, 12, number) for number in range(13)]
    assert [(step.stage, step.done, step.total, step.kept) for step in told] == steps + masks
    asked = len(open_images.asked)
    report = get(open_images, tmp_path)
    assert (report.fetched, report.present, report.bytes) == (0, 19, 0)
    assert len(open_images.asked) == asked


def test_count_takes_a_fixed_choice_that_grows(open_images: FaultyServer, tmp_path: Path) -> None:
    get(open_images, tmp_path / "a", count=3, workers=1)
    get(open_images, tmp_path / "b", count=5, workers=4)
    by_hash = sorted(IDS, key=lambda id_: hashlib.sha256(id_.encode()).hexdigest())
    assert pictures(tmp_path / "a") == set(by_hash[:3])
    assert pictures(tmp_path / "b") == set(by_hash[:5])


def test_classes_choose_pictures_by_display_name(open_images: FaultyServer, tmp_path: Path) -> None:
    get(open_images, tmp_path / "cats", classes=["cat"])
    assert pictures(tmp_path / "cats") == set(IDS[::3])
    get(open_images, tmp_path / "both", classes=["Cat", "DOG"])
    assert pictures(tmp_path / "both") == set(IDS[::3]) | set(IDS[1::3])
    with pytest.raises(UsageError, match=r"--classes: expected names of .*got 'trafic light'; near it: traffic light"):
        get(open_images, tmp_path / "none", classes=["trafic light"])


def test_a_picture_that_does_not_come_is_a_row(open_images: FaultyServer, tmp_path: Path) -> None:
    open_images.faults[f"validation/{IDS[0]}.jpg"] = [404]
    open_images.faults[f"validation/{IDS[1]}.jpg"] = [500] * 9
    report = get(open_images, tmp_path)
    reasons = {row.file: row.reason for row in report.missing}
    assert reasons == {f"validation/{IDS[0]}.jpg": "not_found", f"validation/{IDS[1]}.jpg": "failed"}
    assert (report.fetched, report.failed) == (17, 1)
    open_images.faults.clear()
    assert get(open_images, tmp_path).missing == ()
    assert pictures(tmp_path) == set(IDS)


def archives(to: Path) -> set[str]:
    return {path.name for path in to.glob("validation-masks/*")}


def test_the_archives_of_masks_are_those_of_the_chosen_pictures(open_images: FaultyServer, tmp_path: Path) -> None:
    get(open_images, tmp_path / "cats", classes=["Cat"])  # pictures 0, 3, 6, 9, of which 0 and 3 have masks
    assert archives(tmp_path / "cats") == {"validation-masks-0.zip"}
    get(open_images, tmp_path / "none", masks=False)
    assert archives(tmp_path / "none") == set()
    assert {path for path, _ in open_images.asked if path.endswith(".zip")} == {ARCHIVE.format(0)}


def test_the_archives_lie_where_the_source_reads_them(open_images: FaultyServer, tmp_path: Path) -> None:
    images, boxes, masks = DOWNLOADS["openimages"].files.lists["validation"]
    name, box = f"{IDS[0]}_m0cat_1.png", "0.1,0.5,0.1,0.5"
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr(name, b"a mask")
    columns = "ImageID,License,Author,OriginalLandingURL,Rotation"
    outlined = "ImageID,LabelName,BoxID,MaskPath,BoxXMin,BoxXMax,BoxYMin,BoxYMax"
    flags = "IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
    open_images.files |= {
        images: f"{columns}\n{IDS[0]},,,,\n".encode(),
        boxes: f"ImageID,LabelName,XMin,XMax,YMin,YMax,{flags}\n{IDS[0]},/m/0cat,{box},0,0,0,0,0\n".encode(),
        masks: f"{outlined}\n{IDS[0]},/m/0cat,1,{name},{box}\n".encode(),
        ARCHIVE.format(0): packed.getvalue(),
    }
    get(open_images, tmp_path)
    (entry,) = entries("openimages", {"openimages": tmp_path})
    (seed,) = entry.seeds
    assert (seed.drop, seed.caption, seed.mask_member) == ("", "Cat", name)
    assert seed.mask == tmp_path / "validation-masks" / "validation-masks-0.zip"


@pytest.mark.parametrize("size", ["said", "left out"])
def test_an_archive_that_does_not_come_is_a_row(open_images: FaultyServer, tmp_path: Path, size: str) -> None:
    open_images.faults[ARCHIVE.format(0)] = [404]
    if size == "left out":
        open_images.headers["Content-Length"] = size
    told: list[Progress] = []
    report = get(open_images, tmp_path, report=told.append)
    assert [(row.file, row.reason) for row in report.missing] == [
        ("validation-masks/validation-masks-0.zip", "not_found")
    ]
    assert archives(tmp_path) == {"validation-masks-1.zip", "validation-masks-2.zip"}
    assert {step.stage for step in told} == {"fetch", "masks (6 MB)" if size == "said" else "masks"}
    assert (told[-1].done, told[-1].kept) == (3, 2)


def test_more_pictures_than_come_without_a_count_are_refused_before_anything_comes(
    open_images: FaultyServer, tmp_path: Path
) -> None:
    for split, number, size in (("train", "1743042", "513 GB"), ("test", "125436", "37 GB")):
        with pytest.raises(UsageError, match=rf"--count: .*the {number} of {split}, {size}; .*--count {number} takes"):
            get(open_images, tmp_path, split=split)
    assert open_images.asked == []


def test_a_class_with_more_pictures_than_come_without_a_count_is_refused(
    open_images: FaultyServer, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr("layerkit.pipelines.fetch.UNCOUNTED", 7)
    with pytest.raises(UsageError, match=r"the 8 of validation with cat, dog, 0 GB; .*\(--count 8 takes all\)"):
        get(open_images, tmp_path, classes=["cat", "dog"])
    assert not (tmp_path / "validation").exists()
    get(open_images, tmp_path, classes=["cat", "dog"], count=8)
    assert len(pictures(tmp_path)) == 8


@pytest.mark.parametrize("name", ["../../evil", "/etc/evil", "a/b", "..", "", "a.b", "evil?x=1", "a\\b"])
def test_an_id_that_is_no_plain_name_is_refused(open_images: FaultyServer, tmp_path: Path, name: str) -> None:
    images = DOWNLOADS["openimages"].files.lists["validation"][0]
    open_images.files[images] = f"ImageID\n{IDS[0]}\n{name or chr(34) * 2}\n".encode()
    open_images.files[f"validation/{name}.jpg"] = b"evil"
    report = get(open_images, tmp_path / "to")
    assert [(row.file, row.reason) for row in report.missing] == [(name, "unsafe_name")]
    assert pictures(tmp_path / "to") == {IDS[0]}
    assert {path.name for path in tmp_path.iterdir()} == {"to"}


@pytest.mark.parametrize("damage", [b"Image,Subset\nx,y\n", b"", b"\xff\xfe\x00"])
def test_a_table_that_is_none_is_an_error(open_images: FaultyServer, tmp_path: Path, damage: bytes) -> None:
    open_images.files[DOWNLOADS["openimages"].files.lists["validation"][0]] = damage
    with pytest.raises(RunError, match=r"rotation\.csv: expected .*delete it and run again"):
        get(open_images, tmp_path)


def test_a_table_that_does_not_come_is_an_error(open_images: FaultyServer, tmp_path: Path) -> None:
    open_images.faults[DOWNLOADS["openimages"].files.classes] = [404]
    with pytest.raises(RunError, match="HTTP status 404"):
        get(open_images, tmp_path)


def test_an_interruption_keeps_what_came_and_asks_for_no_more(open_images: FaultyServer, tmp_path: Path) -> None:
    def interrupt(progress: Progress) -> None:
        if progress.done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        get(open_images, tmp_path, workers=1, report=interrupt)
    came = pictures(tmp_path)
    assert 1 <= len(came) <= len(IDS)
    assert get(open_images, tmp_path).present >= len(came)


def test_a_folder_that_cannot_be_written_is_an_error(open_images: FaultyServer, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match="cannot write"):
        get(open_images, tmp_path / "file")


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        ("imagenet", {}, "fetch: expected one of openimages, .*got 'imagenet'"),
        ("openimages", {"split": "val"}, "--split: expected one of train, validation, test, got 'val'"),
        ("openimages", {"count": 0}, "--count: expected 1 or more, got 0"),
        ("openimages", {"workers": 0}, "--workers: expected 1 or more, got 0"),
        ("mulan", {"count": 3}, "fetch mulan: --classes, --count and a mirror are for openimages"),
        ("rord", {"classes": ["Cat"]}, "fetch rord: --classes"),
    ],
)
def test_wrong_options_are_refused(tmp_path: Path, name: str, options: dict, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        fetch(name, tmp_path, **options)


# hub and manual


@pytest.mark.parametrize("name", [row.name for row in DOWNLOADS.values() if row.kind == "manual"])
def test_a_manual_data_set_gives_its_steps(tmp_path: Path, name: str) -> None:
    report = fetch(name, tmp_path / "to")
    assert report.steps == DOWNLOADS[name].steps
    assert any("http" in step for step in report.steps)
    assert not (tmp_path / "to").exists()


def test_the_table_is_complete() -> None:
    assert set(DOWNLOADS) == {
        *("openimages", "mulan", "rorem", "rord", "desobav2", "places2", "misato"),
        *("res", "ober", "removalbench", "aim-500", "flickr-scenery"),
    }
    for row in DOWNLOADS.values():
        assert row.about
        assert row.licence
        assert (row.files is not None) == (row.kind == "files")
        assert bool(row.repo) == (row.kind == "hub")


def test_a_hub_data_set_comes_at_the_commit_that_was_asked_for(tmp_path: Path, monkeypatch) -> None:
    asked = {}
    monkeypatch.setattr(
        "huggingface_hub.HfApi.dataset_info", lambda self, repo, revision: SimpleNamespace(sha=f"{repo}@{revision}")
    )
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda repo, **options: asked.update({repo: options}))
    report = fetch("mulan", tmp_path)
    commit = "mulan-dataset/v1.0@main"
    assert asked == {"mulan-dataset/v1.0": {"repo_type": "dataset", "revision": commit, "local_dir": tmp_path}}
    assert "unrar" in report.steps[0]


def test_without_the_hub_the_command_is_named(server: FaultyServer, tmp_path: Path, monkeypatch) -> None:
    import huggingface_hub

    api = huggingface_hub.HfApi
    monkeypatch.setattr("huggingface_hub.HfApi", lambda: api(endpoint=server.address.rstrip("/")))
    (tmp_path / "earlier").touch()  # a folder that is not empty must not pass for the data set
    with pytest.raises(RunError, match=r"hf download LetsThink/RORem_dataset --repo-type dataset --revision main") as e:
        fetch("rorem", tmp_path)
    assert len(str(e.value).splitlines()) == 1
