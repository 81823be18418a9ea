"""Training of the network that describes splats, from folders to the file of its weights."""

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple
from pathlib import Path

import torch

from gsplatloc.gaussian_renderer.device import rendering_device
from gsplatloc.localization.features import make_extractor
from gsplatloc.localization.splat_descriptors.network import DIMENSIONS, SplatEncoder, save_encoder
from gsplatloc.mapping.options import MatcherTrainingOptions
from gsplatloc.mapping.splat_matcher.examples import of_map, of_photographs
from gsplatloc.mapping.splat_matcher.training import Point, train_encoder
from gsplatloc.utils.console import log
from gsplatloc.utils.errors import GSplatLocError


def train_matcher(
    maps: Sequence[Path],
    photos: Sequence[Path],
    held_out: Path | None,
    output: Path,
    options: MatcherTrainingOptions,
    record: Mapping[str, str],
) -> list[Point]:
    """Write the weights and their record to `output`; returns the learning curve.

    Raises `GSplatLocError` for folders without maps or photographs, and for an extractor whose descriptors
    have another length than the network's.
    """
    start = time.perf_counter()
    device = rendering_device(options.device, quiet=options.quiet)
    extractor = make_extractor(options.extractor, device, 1_500)
    if extractor.channels != DIMENSIONS:
        raise GSplatLocError(
            f"expected an extractor with {DIMENSIONS} channels, found {extractor.channels} of"
            f" {extractor.name}: pass --extractor xfeat"
        )
    sizes = (extractor, options.images, options.per_image, options.seed, options.quiet)
    places = [of_map(folder, *sizes) for folder in maps]
    places += [of_photographs(folder, *sizes) for folder in photos]
    judged = of_map(held_out, *sizes) if held_out else None
    count = sum(map(len, places))
    log(f"examples   {count} of {len(maps)} maps and {len(photos)} folders of photographs", options.quiet)
    torch.manual_seed(options.seed)
    encoder = SplatEncoder().to(device)

    def report(point: Point) -> None:
        seconds = time.perf_counter() - start
        line = f"step {point.step:6d}  loss {point.loss:.3f}"
        if point.cosine is not None and point.nearest is not None:
            line += f"  held out: cosine {point.cosine:.3f}, nearest right {100 * point.nearest:.1f} %"
        log(f"{line}  {seconds:.0f} s", options.quiet)
        if options.snapshots:
            save_encoder(encoder, output.with_stem(f"{output.stem}-{point.step:06d}"), made)

    made = {
        **record,
        "extractor": extractor.version,
        "examples": str(count),
        "options": json.dumps(asdict(options)),
    }
    curve = train_encoder(encoder, places, options, judged, report)
    save_encoder(encoder, output, {**made, "curve": json.dumps([astuple(point) for point in curve])})
    return curve
