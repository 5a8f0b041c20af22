"""Records a second and memory of every reader of an outside data set, on synthetic data sets of real proportions.

    python benchmarks/speed/index_readers.py --rows 1000000 --files 100000

``--rows`` are rows of tables: boxes of Open Images (8.4 a picture, 1.55 masks, as in train) and annotations of COCO
(7.3 a picture, as in train2017). ``--files`` are pictures of the readers for which a file must exist for every record.
Pictures and masks are empty files, masks of Open Images empty members of the archives, for no pixel is looked at.
Every reader runs in a process of its own, on one core: seconds are of CPU, the kernel's included. Memory is that
process's peak, sampled, above its size before it began.
"""

import argparse
import io
import json
import multiprocessing
import random
import tarfile
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import psutil

from layerkit.manifests.sources import entries

IMAGES = (
    "ImageID,Subset,OriginalURL,OriginalLandingURL,License,AuthorProfileURL,Author,Title,OriginalSize,OriginalMD5,"
    "Thumbnail300KURL,Rotation\n"
)
CLICKS = [f"XClick{k}{axis}" for axis in "XY" for k in range(1, 5)]
BOXES = (
    "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside,"
    + ",".join(CLICKS)
    + "\n"
)
MASKS = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks\n"
FLAGS = ("0,0,0,0,0", "0,0,0,0,0", "1,0,0,0,0", "0,1,0,0,0", "-1,-1,-1,-1,-1")
DIGITS = "0123456789abcdef"


def touch(folder: Path, names: Iterable[str]) -> None:
    """Make empty files."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).touch()


def make_openimages(root: Path, rows: int) -> str:
    """The three tables of train, its pictures, and its masks in 16 archives."""
    draw = random.Random(0)
    ids = [f"{draw.getrandbits(64):016x}" for _ in range(round(rows / 8.4))]
    touch(root / "train", (f"{id_}.jpg" for id_ in ids))
    with (root / "train-images-boxable-with-rotation.csv").open("w", encoding="utf-8") as stream:
        stream.write(IMAGES)
        stream.writelines(map(_picture_row, ids))
    zips = {digit: zipfile.ZipFile(root / f"train-masks-{digit}.zip", "w") for digit in DIGITS}
    masks = root / "train-annotations-object-segmentation.csv"
    written = 0
    with (root / "oidv6-train-annotations-bbox.csv").open("w") as boxes, masks.open("w") as outlined:
        boxes.write(BOXES)
        outlined.write(MASKS)
        for image, box_row, mask_row, name in _objects(draw, ids, rows):
            boxes.write(box_row)
            if draw.random() < 1.55 / 8.4:
                written += 1
                outlined.write(mask_row)
                zips[image[0]].writestr(name, b"")
    for archive in zips.values():
        archive.close()
    return f"{rows} boxes, {written} masks, {len(ids)} pictures"


def _picture_row(id_: str) -> str:
    number = int(id_, 16) % 10**10
    return (
        f"{id_},train,https://farm3.staticflickr.com/5310/{number}_51085e157c_o.jpg,https://www.flickr.com/photos/x/"
        f"{number},https://creativecommons.org/licenses/by/2.0/,https://www.flickr.com/people/x/,Author {number % 99},"
        f'"A title, with a comma",4405052,KFukvivpCM5QXl5SqKe41g==,https://c1.staticflickr.com/6/5310/{number}_z.jpg,0.0\n'
    )


def _objects(draw: random.Random, ids: list[str], rows: int) -> Iterator[tuple[str, str, str, str]]:
    """ImageID, row of boxes, row of masks and file name of the mask, in the order of the pictures."""
    for k in range(rows):
        image, label, box_id = ids[k * len(ids) // rows], f"/m/0{draw.randrange(600):04x}", f"{k:08x}"
        left, top = draw.uniform(0, 0.5), draw.uniform(0, 0.5)
        box = [left, left + draw.uniform(0.1, 0.49), top, top + draw.uniform(0.1, 0.49)]
        name = f"{image}_{label.replace('/', '')}_{box_id}.png"
        sides = ",".join(f"{side:.6f}" for side in box)
        clicks = ";".join(f"{draw.random():.5f} {draw.random():.5f} 1" for _ in range(10))
        short = ",".join(str(round(side, 6)) for side in box)
        flags = draw.choice(FLAGS)
        yield (
            image,
            f"{image},xclick,{label},1,{sides},{flags},{sides},{sides}\n",
            f"{name},{image},{label},{box_id},{short},0.86864,{clicks}\n",
            name,
        )


def make_coco(root: Path, rows: int) -> str:
    """An instances file of ``rows`` annotations, polygons of 25 points each, written piece by piece; its pictures."""
    pictures = round(rows / 7.3)
    names = [f"{k:012d}.jpg" for k in range(pictures)]
    touch(root / "train2017", names)
    (root / "annotations").mkdir()
    draw = random.Random(0)
    path = root / "annotations" / "instances_train2017.json"
    with path.open("w") as stream:
        licence = {"id": 4, "url": "http://creativecommons.org/licenses/by/2.0/"}
        stream.write(json.dumps({"licenses": [licence], "categories": [{"id": 1, "name": "dog"}]})[:-1])
        stream.write(', "images": [')
        for k, name in enumerate(names):
            row = {
                "id": k,
                "file_name": name,
                "width": 640,
                "height": 480,
                "license": 4,
                "coco_url": f"http://c/{name}",
            }
            stream.write(("," if k else "") + json.dumps(row))
        stream.write('], "annotations": [')
        for k in range(rows):
            outline = [round(draw.uniform(10, 400), 2) for _ in range(50)]
            row = {"id": k, "image_id": k * pictures // rows, "category_id": 1, "iscrowd": 0, "area": 700.5}
            stream.write(("," if k else "") + json.dumps(row | {"bbox": [9, 9, 395, 395], "segmentation": [outline]}))
        stream.write("]}")
    return f"{rows} annotations, {pictures} pictures, {path.stat().st_size >> 20} MB of JSON"


def make_img2dataset(root: Path, files: int) -> str:
    """Shards of 10,000 rows, each a picture with its json and txt."""
    for shard in range(0, files, 10_000):
        with tarfile.open(root / f"{shard // 10_000:05d}.tar", "w") as tar:
            for k in range(shard, min(files, shard + 10_000)):
                about = {"key": f"{k:09d}", "status": "success", "caption": "a red fox in the snow", "width": 640}
                about |= {"height": 480, "original_width": 640, "original_height": 480, "url": f"https://a/{k}.jpg"}
                for ending, data in (("jpg", b""), ("json", json.dumps(about).encode()), ("txt", b"a red fox")):
                    member = tarfile.TarInfo(f"{k:09d}.{ending}")
                    member.size = len(data)
                    tar.addfile(member, io.BytesIO(data))
    return f"{files} rows in tars"


def make_mulan(root: Path, files: int) -> str:
    """Annotations over COCO's pictures."""
    touch(root / "annotations", (f"{k:012d}.p.zl" for k in range(files)))
    touch(root / "train2017", (f"{k:012d}.jpg" for k in range(files)))
    return f"{files} annotations, as many base pictures"


def make_rendered(root: Path, files: int) -> str:
    """Pictures of three rendered layers, with their captions."""
    pictures = files // 3
    names = [f"{k:012d}-layer_{layer}.png" for k in range(pictures) for layer in range(3)]
    touch(root, names)
    (root / "meta_data.csv").write_text("paths,blip2,llava\n" + "".join(f"out/{name},a dog,\n" for name in names))
    return f"{pictures} pictures of 3 layers"


def make_rorem(root: Path, files: int) -> str:
    """Triplets of three files."""
    for folder in ("source", "mask", "GT"):
        touch(root / folder, (f"{k}.png" for k in range(files)))
    rows = [{folder: f"{folder}/{k}.png" for folder in ("source", "mask", "GT")} for k in range(files)]
    (root / "meta.json").write_text(json.dumps(rows))
    return f"{files} triplets"


def make_folders(root: Path, files: int) -> str:
    """Pictures in folders of a thousand."""
    for start in range(0, files, 1000):
        touch(root / f"{start // 1000:04d}", (f"{k:08d}.png" for k in range(start, min(files, start + 1000))))
    return f"{files} pictures"


def make_layerdiffuse(root: Path, files: int) -> str:
    """The same with a row of a jsonl each."""
    make_folders(root, files)
    with (root / "prompts.jsonl").open("w") as stream:
        for k in range(files):
            stream.write(json.dumps({"file": f"{k // 1000:04d}/{k:08d}.png", "prompt": f"a glass cat, {k}"}) + "\n")
    return f"{files} pictures with prompts"


READERS: dict[str, tuple[str, Callable[[Path, int], str], str]] = {
    "openimages": ("openimages", make_openimages, "rows"),
    "coco": ("coco", make_coco, "rows"),
    "img2dataset": ("img2dataset", make_img2dataset, "files"),
    "mulan": ("mulan", make_mulan, "files"),
    "mulan, rendered": ("mulan", make_rendered, "files"),
    "rorem": ("rorem", make_rorem, "files"),
    "photos": ("photos", make_folders, "files"),
    "rgba": ("rgba", make_folders, "files"),
    "layerdiffuse": ("layerdiffuse", make_layerdiffuse, "files"),
}
"""Row of the table -> source, maker, and whether it takes ``--rows`` or ``--files``."""


def measure(source: str, root: Path) -> tuple[int, int, float, int]:
    """Entries, seeds, seconds of CPU and MiB above the start of indexing ``root`` in this process."""
    process, sizes, over = psutil.Process(), [psutil.Process().memory_info().rss], threading.Event()

    def watch() -> None:
        while not over.wait(0.02):
            sizes.append(process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.process_time()
    found = seeds = 0
    for entry in entries(source, {source: root}):
        found += 1
        seeds += len(entry.seeds)
    seconds = time.process_time() - began
    over.set()
    watcher.join()
    return found, seeds, seconds, (max(sizes) - sizes[0]) >> 20


def main() -> None:
    """Make each data set, index it in a fresh process, and print a row of the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--only", action="append", choices=READERS, help="a row of the table; default: all")
    arguments = parser.parse_args()
    print("| reader | made | entries | seeds | CPU s | records/s | MiB |\n|---|---|---|---|---|---|---|", flush=True)
    for name in arguments.only or READERS:
        source, make, size = READERS[name]
        records = getattr(arguments, size)
        with tempfile.TemporaryDirectory() as folder:
            made = make(Path(folder), records)
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                found, seeds, seconds, mib = pool.apply(measure, (source, Path(folder)))
        print(f"| {name} | {made} | {found} | {seeds} | {seconds:.2f} | {records / seconds:.0f} | {mib} |", flush=True)


if __name__ == "__main__":
    main()
