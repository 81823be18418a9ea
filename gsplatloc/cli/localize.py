"""Localize images in a map: `gsplatloc localize -m OUT [--queries FOLDER]`."""

import sys
from contextlib import redirect_stdout
from dataclasses import replace
from functools import partial
from pathlib import Path

from gsplatloc.arguments.localization import CameraArguments, LocalizeArguments
from gsplatloc.localization.evaluation import QueryResult
from gsplatloc.localization.io.json_lines import json_line
from gsplatloc.localization.io.results import (
    Tell,
    camera_lines,
    localize_queries,
    query_lines,
    summary_lines,
    write_queries,
    write_results,
)
from gsplatloc.localization.queries import QueryImage, queries_in_folder, query_from_view
from gsplatloc.localization.tiles.localizer import load_localizer
from gsplatloc.localization.tiles.options import TileOptions
from gsplatloc.scene import read_scene
from gsplatloc.scene.export import saved_iterations
from gsplatloc.scene.image_files import unread_files
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.scene.readers import is_recording, unpacked_scene
from gsplatloc.scene.readers.options import SceneOptions
from gsplatloc.scene.splat_map import SplatMap
from gsplatloc.utils.console import counted, log
from gsplatloc.utils.errors import GSplatLocError, quoted
from gsplatloc.utils.io import expanded
from gsplatloc.utils.locks import output_folder
from gsplatloc.visualization.certainty import draw_results
from gsplatloc.visualization.pictures import make_pictures, write_pictures
from gsplatloc.visualization.report import Report, final_scores, remove_report, write_report


def main(arguments: LocalizeArguments) -> None:
    """Run the command."""
    if not arguments.json:
        return run(arguments)
    lines = sys.stdout
    with redirect_stdout(sys.stderr):  # all that is for people
        run(arguments, lambda result: print(json_line(result), file=lines, flush=True))


def run(arguments: LocalizeArguments, tell: Tell | None = None) -> None:
    """Localize, and write the results; `tell` receives each of them as soon as it is there."""
    config, output = read_config(arguments.model_path), arguments.results_folder()
    queries = find_queries(arguments, config)
    options = arguments.options()
    name = Path(arguments.queries or arguments.source_path or config.source_path).resolve().name
    stages = options.chain()
    with output_folder(output) as folder:
        tile_options = TileOptions(memory_mb=arguments.tile_memory_mb)
        iteration = arguments.computation.iteration
        localizer = load_localizer(arguments.model_path, options, iteration, tile_options)
        save = partial(write_queries, folder, stages=stages)
        results = localize_queries(localizer, queries, arguments.computation.quiet, save, tell)
        read = localizer.splat_map.bytes_read()
        figures = write_results(folder, name, results, read, stages, config.metric)
        remove_report(folder)  # of an earlier run: it would stand beside these figures
        if arguments.pictures:
            report = make_report(folder, figures, localizer.splat_map, queries, results)
            write_report(folder / "report.html", report)
            if not saved_iterations(arguments.model_path):
                log("no pictures: the map has no Gaussians to render", arguments.computation.quiet)
    lines = query_lines(results, config.metric) if arguments.queries is not None else []
    lines += camera_lines(results)
    log("\n".join([*lines, *summary_lines(figures), f"results  {folder}"]), arguments.computation.quiet)


def make_report(
    folder: Path, figures: dict, splat_map: SplatMap, queries: list[QueryImage], results: list[QueryResult]
) -> Report:
    """The report of a run with its curves, its view from above, and pictures if the map has Gaussians."""
    assert splat_map.folder is not None
    gaussians = splat_map.gaussians if saved_iterations(splat_map.folder) else None
    pictures = []
    if gaussians is not None:
        pictures = make_pictures(queries, results, gaussians, splat_map.frame, figures["metric"])
        write_pictures(folder / "pictures", pictures)
    return Report(
        figures,
        results,
        pictures,
        training_log=splat_map.folder / "training.jsonl",
        scores=final_scores(queries, results, splat_map) if pictures else [],
        plan=draw_results(gaussians, results, splat_map.frame),
    )


def find_queries(arguments: LocalizeArguments, config: MapConfig) -> list[QueryImage]:
    """The images to localize: those of a folder or of a recording, or a scene's test images."""
    quiet = arguments.computation.quiet
    if arguments.queries is not None:
        folder = unpacked_scene(arguments.queries)
        if is_recording(folder):
            return recorded_queries(arguments, folder)
        queries = queries_in_folder(folder, arguments.camera.known())
        left_out = unread_files(folder)
        report = f"{arguments.queries}: found {counted(len(queries), 'image')}"
        log(report + (f", left out {left_out}" if left_out else ""), quiet, sys.stderr)
        return queries
    scene = read_scene(arguments.source_path or config.source_path, config.scene)
    log(scene.report, quiet, sys.stderr)
    if scene.test:
        return [query_from_view(view) for view in scene.test]
    mapped = expanded(config.source_path)
    if scene.root.resolve() in (mapped.resolve(), unpacked_scene(mapped).resolve()):
        raise GSplatLocError(
            f"expected test images in {scene.root}, found none: pass --queries FOLDER, or map with --eval"
        )
    log(f"no test images: all of its {len(scene.train)} images are localized", quiet, sys.stderr)
    return [query_from_view(view) for view in scene.train]


def recorded_queries(arguments: LocalizeArguments, folder: Path) -> list[QueryImage]:
    """The images of a phone's recording with its intrinsics.

    Its poses are not used: they are in coordinates of their own.
    """
    if arguments.camera != CameraArguments():
        raise GSplatLocError(
            f"expected --queries without --focal and --intrinsics for a phone's recording, which states them,"
            f" found {quoted(arguments.queries)} with them: leave them out"
        )
    scene = read_scene(folder, SceneOptions(require_poses=False))
    log(scene.report, arguments.computation.quiet, sys.stderr)
    return [replace(query_from_view(view), cam_from_world=None) for view in (*scene.train, *scene.test)]
