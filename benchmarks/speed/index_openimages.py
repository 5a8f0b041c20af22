"""Rows a second and peak memory of indexing Open Images, on synthetic tables with the proportions of the train split.

    python benchmarks/speed/index_openimages.py --rows 1000000

``--rows`` counts rows of boxes; 8.4 of them go to a picture and 1.55 masks (14.6 million boxes, 1.74 million pictures,
2.7 million masks in train). Pictures and masks are empty files, for no pixel is looked at. Every round is a process of
its own; rows of all three tables are counted, and memory is that process's peak beside its peak before it began.
"""

import argparse
import json
import multiprocessing
import random
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

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


def make_tables(root: Path, rows: int, seed: int = 0) -> dict[str, int]:
    """Write the three tables, and an empty file a picture and a mask; how many there are of each."""
    draw = random.Random(seed)
    ids = [f"{draw.getrandbits(64):016x}" for _ in range(round(rows / 8.4))]
    for folder in ("train", *(f"train-masks-{digit:x}" for digit in range(16))):
        (root / folder).mkdir()
    with (root / "train-images-boxable-with-rotation.csv").open("w", encoding="utf-8") as stream:
        stream.write(IMAGES)
        stream.writelines(map(_picture_row, ids))
    for id_ in ids:
        (root / "train" / f"{id_}.jpg").touch()
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
                (root / f"train-masks-{image[0]}" / name).touch()
    return {"pictures": len(ids), "boxes": rows, "masks": written}


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


def measure(root: Path) -> dict[str, float]:
    """Index ``root`` in this process."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    pictures = seeds = good = 0
    for entry in entries("openimages", {"openimages": root}):
        pictures += 1
        seeds += len(entry.seeds)
        good += sum(not seed.drop for seed in entry.seeds)
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = {"pictures": pictures, "seeds": seeds, "good_seeds": good}
    return found | {"seconds": round(seconds, 2), "peak_mib": peak // 1024, "peak_before_mib": before // 1024}


def main() -> None:
    """Make the tables, index them in fresh processes and print a JSON line a round."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of boxes")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        made = make_tables(Path(folder), arguments.rows)
        print(json.dumps({"made": made}), flush=True)
        for _ in range(arguments.rounds):
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                result = pool.apply(measure, (Path(folder),))
            result["rows_per_second"] = round(sum(made.values()) / result["seconds"])
            print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
