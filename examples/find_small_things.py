"""Find things that are small in a large picture: tile by tile, with the Python client.

    python examples/find_small_things.py [PICTURE] [--model NAME] [--size 640] [--save FOLDER]

Without a picture it makes one of 4800 × 3200 pixels with 40 faces of some 25 pixels in it, which needs Pillow. It asks
twice, for the picture as it is and in tiles, and says how much each found; with --save the boxes are drawn, too. Needs
a running Fleet with the model: `fleet up` and `fleet models pull centerface`. FLEET_URL and FLEET_API_KEY name another
server and its key. A picture may have 30,000 × 30,000 pixels: docs/how-to/look-closer.md.
"""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

from fleet_client import Client, FleetError, JobFailed

FACE = Path(__file__).resolve().parents[1] / "models" / "centerface" / "example" / "astronaut.jpg"


def crowd(folder: Path) -> Path:
    """A large picture with small faces in it, each somewhere in its own part."""
    from PIL import Image

    picture = Image.new("RGB", (4800, 3200), (96, 108, 120))
    chance = random.Random(7)
    for number in range(40):
        side = chance.randint(120, 180)
        left, top = number % 8 * 600 + chance.randint(0, 400), number // 8 * 640 + chance.randint(0, 440)
        with Image.open(FACE) as face:
            picture.paste(face.resize((side, side)), (left, top))
    path = folder / "crowd.jpg"
    picture.save(path, quality=90)
    return path


def main(asked: argparse.Namespace) -> int:
    url = os.environ.get("FLEET_URL", "http://127.0.0.1:8000")
    ways: dict[str, dict[str, Any]] = {"at once": {}, "in tiles": {"tiles": {"size": asked.size}}}
    try:
        with Client(url, os.environ.get("FLEET_API_KEY")) as fleet, tempfile.TemporaryDirectory() as folder:
            picture = asked.picture or crowd(Path(folder))
            for name, params in ways.items():
                job = fleet.submit(None, [picture], model=asked.model, params=params | {"preview": bool(asked.save)})
                result = job.result()
                looks = result.get("looks", {"tiles": 0})
                print(f"{name}: {result['count']} found, {looks['tiles']} tiles")
                if asked.save:
                    for path in job.save(Path(asked.save) / name.replace(" ", "-")):
                        print(path)
    except JobFailed as error:
        print(f"the job failed: {error}", file=sys.stderr)
        return 1
    except FleetError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Find small things in a large picture.")
    parser.add_argument("picture", nargs="?")
    parser.add_argument("--model", default="centerface")
    parser.add_argument("--size", type=int, default=640, help="of a tile, in pixels")
    parser.add_argument("--save", help="a folder for the pictures with boxes")
    sys.exit(main(parser.parse_args()))
