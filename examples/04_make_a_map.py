"""From posed images to a map on disk: what train.py does, as a function from folder to folder."""

from pathlib import Path

import gsplatloc

OUTPUT = Path("output/examples")


def main(output: Path = OUTPUT) -> None:
    # A short run for a small room; leave `iterations` out for the preset's own. More options are those of
    # gsplatloc.mapping.train.train.
    report = gsplatloc.train(output / "room", output / "map", preset="cpu", iterations=300, quiet=True)
    print("\n".join(report.lines()))


if __name__ == "__main__":
    main()
