"""The training loop on a scene of six small images."""

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from gsplatloc.mapping import trainer as trainer_module
from gsplatloc.mapping.feature_cache import FeatureCache
from gsplatloc.mapping.frames import FrameLoader
from gsplatloc.mapping.initialization import gaussians_from_points, thinned
from gsplatloc.mapping.options import (
    DebugOptions,
    DescriptorOptions,
    FrameCacheOptions,
    InitializationOptions,
    MappingOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
    StoppingOptions,
)
from gsplatloc.mapping.train import placeholder_gaussians, split_holdout, train
from gsplatloc.mapping.trainer import Trainer, TrainingSet, Watcher
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.scene.export import load_gaussians
from gsplatloc.scene.map_config import MapConfig, read_config
from gsplatloc.utils.errors import GSplatLocError

CPU = torch.device("cpu")
CONFIG = MapConfig("/somewhere")


def options(iterations: int = 12, **groups: Any) -> MappingOptions:
    """Everything happens early: densification, higher harmonics, figures."""
    base = MappingOptions(
        schedule=ScheduleOptions(iterations=iterations, sh_degree=1, sh_interval=3, holdout=3),
        initialization=InitializationOptions(init_max_points=60),
        rendering=RenderingOptions(backend="reference"),
        output=OutputOptions(test_iterations=(), save_iterations=(), quiet=True),
    )
    densification = DensificationOptions(
        densify_from_iter=2,
        densification_interval=4,
        opacity_reset_interval=7,
        densify_grad_threshold=1e-4,
        max_gaussians=80,
    )
    return replace(base, **({"densification": densification} | groups))


def make_trainer(
    scene: Scene, output: Path, settings: MappingOptions, extractor: Any, watcher: Watcher | None = None
) -> Trainer:
    held_in, held_out = split_holdout(scene.train, settings.schedule.holdout)
    points = thinned(scene.points, 40)  # type: ignore[arg-type]
    gaussians = gaussians_from_points(points, 1, torch.zeros(len(points), 4))
    cache = FeatureCache(output / "cache", extractor)
    loader = FrameLoader(settings.frames, cache, CPU)
    return Trainer(TrainingSet(held_in, held_out, extent=10.0), gaussians, loader, settings, output, watcher)


def lines(output: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (output / "training.jsonl").read_text().splitlines()]


def test_training_improves_held_out_views(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(60, output=OutputOptions(test_iterations=(1, 60), save_iterations=(), quiet=True))
    settings = replace(settings, densification=DensificationOptions(densification="none"))
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    assert trainer.run()
    first, last = (line for line in lines(tmp_path) if line["kind"] == "holdout")
    assert last["psnr"] > first["psnr"] + 1 and last["ssim"] > first["ssim"] and last["l1"] < first["l1"]
    assert trainer.quality is not None and trainer.quality.views == 2


@pytest.mark.parametrize("backend", ["native", "reference"])
@pytest.mark.parametrize("kind", ["adc", "mcmc", "none"])
def test_a_resumed_run_ends_bit_by_bit_as_an_uninterrupted_one(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, kind: Any, backend: str
) -> None:
    settings = options(16)
    settings = replace(
        settings,
        densification=replace(settings.densification, densification=kind),
        rendering=replace(settings.rendering, exposure=True, backend=backend),
        losses=replace(settings.losses, lambda_depth=0.1),
        output=replace(settings.output, checkpoint_iterations=(9,)),
    )
    whole = make_trainer(tiny_scene, tmp_path, settings, extractor)
    whole.run()
    resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
    resumed.resume(load_checkpoint(tmp_path / "checkpoint_9.safetensors"))
    assert resumed.iteration == 9
    resumed.run()
    assert len(whole.gaussians) == {"adc": 80, "mcmc": 48, "none": 40}[kind]
    for name, tensor in whole.gaussians.parameters().items():
        assert torch.equal(tensor, resumed.gaussians.parameters()[name]), name


def stopping_early() -> MappingOptions:
    """Settings whose second evaluation, after iteration 20, ends the run: nothing gains 100 dB."""
    stopping = StoppingOptions(
        early_stop=1, early_stop_gain=100, early_stop_interval=10, early_stop_cooldown=6
    )
    settings = options(40, stopping=stopping)
    return replace(settings, densification=replace(settings.densification, opacity_reset_interval=0))


def test_a_run_ends_early_once_held_out_views_gain_no_more(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, stopping_early(), extractor)
    assert trainer.run()
    written = lines(tmp_path)
    kinds = [(line["kind"], line["iteration"]) for line in written]
    assert trainer.iteration == 26 and kinds[-2] == ("early_stop", 20)
    assert written[-2]["last_iteration"] == 26 and kinds[-1] == ("holdout", 26)


def test_a_run_that_holds_out_nothing_does_not_end_early(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    alone = replace(tiny_scene, train=tiny_scene.train[:1])  # of one view none is held out
    trainer = make_trainer(alone, tmp_path, stopping_early(), extractor)
    trainer.run()
    assert trainer.iteration == 40


@pytest.mark.parametrize(
    "at", [8, 14, 23]
)  # before the first evaluation, before the second, in the cool-down
def test_a_run_that_ends_early_can_be_resumed_bit_by_bit(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, at: int
) -> None:
    settings = stopping_early()
    settings = replace(settings, output=replace(settings.output, checkpoint_iterations=(at,)))
    whole = make_trainer(tiny_scene, tmp_path, settings, extractor)
    whole.run()
    resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
    resumed.resume(load_checkpoint(tmp_path / f"checkpoint_{at}.safetensors"))
    resumed.run()
    assert resumed.iteration == whole.iteration == 26
    for name, tensor in whole.gaussians.parameters().items():
        assert torch.equal(tensor, resumed.gaussians.parameters()[name]), name


def test_the_cool_down_adds_no_gaussians(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = stopping_early()
    unlimited = replace(settings.densification, densify_grad_threshold=0.0, max_gaussians=10_000)
    settings = replace(settings, densification=unlimited)
    counts: dict[int, int] = {}
    watcher: Watcher = lambda gaussians, iteration, _: counts.update({iteration: len(gaussians)})  # noqa: E731
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor, watcher)
    trainer.run()
    assert len(trainer.gaussians) == counts[20] > counts[10]


def test_a_checkpoint_of_other_views_is_refused(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(2)
    checkpoint = make_trainer(tiny_scene, tmp_path, settings, extractor).checkpoint()
    fewer = replace(tiny_scene, train=tiny_scene.train[:4])
    with pytest.raises(GSplatLocError, match="other views"):
        make_trainer(fewer, tmp_path, settings, extractor).resume(checkpoint)


def test_a_checkpoint_of_other_descriptors_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    checkpoint = make_trainer(tiny_scene, tmp_path, options(2), extractor).checkpoint()
    settings = options(2, descriptors=DescriptorOptions(descriptors="aggregated"))
    with pytest.raises(GSplatLocError, match="other descriptors"):
        make_trainer(tiny_scene, tmp_path, settings, extractor).resume(checkpoint)


def test_a_checkpoint_of_another_extractor_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    checkpoint = make_trainer(tiny_scene, tmp_path, options(2), extractor).checkpoint()
    settings = options(2, descriptors=DescriptorOptions(extractor="disk"))
    with pytest.raises(GSplatLocError, match="other extractor"):
        make_trainer(tiny_scene, tmp_path, settings, extractor).resume(checkpoint)


def test_older_checkpoints_are_all_of_xfeat_and_in_world_coordinates(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, options(2), extractor)
    checkpoint = trainer.checkpoint()
    facts = {name: value for name, value in checkpoint.facts.items() if name not in ("extractor", "frame")}
    trainer.resume(replace(checkpoint, facts=facts))


def test_a_checkpoint_in_other_coordinates_is_refused(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    trainer = make_trainer(tiny_scene, tmp_path, options(2), extractor)
    checkpoint = trainer.checkpoint()
    with pytest.raises(GSplatLocError, match="other frame"):
        trainer.resume(replace(checkpoint, facts={**checkpoint.facts, "frame": [0.0, 0.0, 0.0, 0.1]}))


DAMAGES = {
    "missing": lambda tensor: None,
    "empty": lambda tensor: tensor.flatten()[:0],
    "flat": lambda tensor: tensor.flatten(),
    "longer": lambda tensor: torch.cat(
        [tensor.reshape(-1, *tensor.shape[1:]), tensor.reshape(-1, *tensor.shape[1:])]
    ),
    "deeper": lambda tensor: tensor[None],
    "bytes": lambda tensor: torch.zeros(tensor.shape, dtype=torch.uint8),
    "not finite": lambda tensor: torch.full(tensor.shape, torch.nan),
    "huge": lambda tensor: torch.full(tensor.shape, 2**40, dtype=torch.int64),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_checkpoint_is_a_users_error_or_does_no_harm(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, damage: str
) -> None:
    settings = options(12, output=OutputOptions(test_iterations=(), save_iterations=(), quiet=True))
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    trainer.iteration = 9
    whole = trainer.checkpoint()
    for name, tensor in whole.tensors.items():
        changed = DAMAGES[damage](tensor)
        tensors = {key: value for key, value in whole.tensors.items() if key != name}
        tensors |= {} if changed is None else {name: changed}
        resumed = make_trainer(tiny_scene, tmp_path, settings, extractor)
        try:
            resumed.resume(replace(whole, tensors=tensors))
        except GSplatLocError as error:
            assert "pass another" in str(error) and len(str(error)) < 500, name
        else:
            resumed.run()


def test_every_image_is_decoded_once_an_epoch(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "_LOOK_AHEAD", 1)  # four steps stay within the first epoch
    decoded: list[str] = []

    def counting(view: View) -> View:
        return replace(view, load_image=lambda: decoded.append(view.name) or view.load_image())

    views = [counting(view) for view in tiny_scene.train]
    colour_only = DescriptorOptions(descriptors="none")
    settings = options(4, frames=FrameCacheOptions(image_cache_mb=0), descriptors=colour_only)
    settings = replace(settings, schedule=replace(settings.schedule, holdout=0))
    trainer = make_trainer(replace(tiny_scene, train=views), tmp_path, settings, extractor)
    for iteration in range(1, 5):
        trainer._step(iteration)
        trainer._loader._worker.submit(int).result()  # the decoding ahead is done
    assert sorted(decoded) == sorted(set(decoded))


def test_ctrl_c_saves_a_map_and_a_checkpoint(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    def press_ctrl_c(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    trainer = make_trainer(tiny_scene, tmp_path, options(50), extractor, press_ctrl_c)
    assert not trainer.run()
    assert trainer.iteration == 10  # the first at which figures are read
    assert load_checkpoint(tmp_path / "checkpoint_10.safetensors").iteration == 10
    assert len(load_gaussians(tmp_path, 10)) == len(trainer.gaussians)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_watcher_sees_the_map(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    seen: list[tuple[int, int, set[str]]] = []
    make_trainer(
        tiny_scene, tmp_path, options(20), extractor, lambda g, i, f: seen.append((len(g) > 0, i, set(f)))
    ).run()
    assert seen == [(True, 10, {"loss", "psnr"}), (True, 20, {"loss", "psnr"})]


@pytest.mark.parametrize("flag", ["convert_SHs_python", "convert_cov3D_python", "antialiased", "exposure"])
def test_rendering_flags_train(tmp_path: Path, tiny_scene: Scene, extractor: Any, flag: str) -> None:
    settings = options(4, rendering=RenderingOptions(backend="reference", **{flag: True}))
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    trainer.run()
    assert all(tensor.isfinite().all() for tensor in trainer.gaussians.parameters().values())


def test_colours_and_covariances_in_python_change_nothing(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    means = []
    for flag in (False, True):
        rendering = RenderingOptions(backend="reference", convert_SHs_python=flag, convert_cov3D_python=flag)
        trainer = make_trainer(tiny_scene, tmp_path, options(3, rendering=rendering), extractor)
        trainer.run()
        means.append(trainer.gaussians.means)
    assert torch.allclose(*means, atol=1e-5)


def test_the_feature_loss_does_not_move_geometry(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    finals = []
    for weight in (0.0, 5.0):
        settings = options(6)
        settings = replace(settings, losses=replace(settings.losses, lambda_feature=weight))
        trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
        trainer.run()
        finals.append(trainer.gaussians)
    assert torch.equal(finals[0].means, finals[1].means)
    assert not torch.equal(finals[0].features, finals[1].features)


def test_memory_goes_back_more_often_while_images_of_a_new_size_are_decoded(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    trimmed: list[int] = []
    schedule = ScheduleOptions(iterations=24, sh_degree=0, pyramid=(0.5,))
    monkeypatch.setattr(trainer_module, "_TRIM_INTERVAL", 10)
    monkeypatch.setattr(trainer_module, "_TRIM_INTERVAL_DECODING", 2)
    settings = options(24, schedule=schedule)
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    monkeypatch.setattr(trainer_module, "trim_heap", lambda: trimmed.append(trainer.iteration))
    trainer.run()
    views = len(split_holdout(tiny_scene.train, settings.schedule.holdout)[0])
    assert 2 <= views < 12
    assert trimmed == [10, *(number for number in range(14, 25, 2) if number <= 12 + views or number == 20)]


def test_coarse_images_come_first(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    widths = []
    render = trainer_module.render

    def spy(gaussians: Any, camera: Any, *rest: Any) -> Any:
        widths.append(camera.width)
        return render(gaussians, camera, *rest)

    monkeypatch.setattr(trainer_module, "render", spy)
    settings = options(8, schedule=ScheduleOptions(iterations=8, sh_degree=0, pyramid=(0.25, 0.5)))
    make_trainer(tiny_scene, tmp_path, settings, extractor).run()
    assert widths == [10] * 2 + [20] * 2 + [40] * 4


def test_passes_compute_only_what_their_iteration_uses(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(gaussians: Any, camera: Any, pose: Any, render_options: Any, offsets: Any) -> Any:
        seen.append((gaussians.sh.shape[1], offsets is not None))
        return render(gaussians, camera, pose, render_options, offsets)

    render = trainer_module.render
    monkeypatch.setattr(trainer_module, "render", spy)
    settings = options(8, schedule=ScheduleOptions(iterations=8, sh_degree=1, sh_interval=3))
    settings = replace(settings, densification=replace(settings.densification, densify_until_iter=5))
    make_trainer(tiny_scene, tmp_path, settings, extractor).run()
    assert [bases for bases, _ in seen] == [1, 1, 4, 4, 4, 4, 4, 4]
    assert [pulled for _, pulled in seen] == [True] * 5 + [False] * 3


@pytest.mark.parametrize("debug", [DebugOptions(debug=True), DebugOptions(debug_from=1)])
def test_a_failing_iteration_leaves_its_inputs(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch, debug: DebugOptions
) -> None:
    def fail(*_: Any) -> None:
        raise RuntimeError("the rasterizer stumbled")

    monkeypatch.setattr(trainer_module, "render", fail)
    trainer = make_trainer(tiny_scene, tmp_path, options(2, debug=debug), extractor)
    with pytest.raises(RuntimeError, match="stumbled"):
        trainer.run()
    saved = load_file(tmp_path / "failed_iteration_1.safetensors")
    assert {"means", "sh", "cam_from_world", "rgb"} <= set(saved)


def test_nothing_is_left_behind_unless_asked_for(
    tmp_path: Path, tiny_scene: Scene, extractor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer_module, "render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        make_trainer(tiny_scene, tmp_path, options(2, debug=DebugOptions(debug_from=9)), extractor).run()
    assert not list(tmp_path.glob("failed_*"))


def test_anomalies_are_traced(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    seen: list[bool] = []
    settings = options(10, debug=DebugOptions(detect_anomaly=True))
    watcher: Watcher = lambda *_: seen.append(torch.is_anomaly_enabled())  # noqa: E731
    make_trainer(tiny_scene, tmp_path, settings, extractor, watcher).run()
    assert seen == [True] and not torch.is_anomaly_enabled()


def whole_run(scene: Scene, output: Path, settings: MappingOptions, extractor: Any) -> Any:
    return train(scene, output, settings, CONFIG, extractor)


@pytest.mark.parametrize("kind", ["distilled", "aggregated", "none"])
def test_a_run_writes_the_whole_map(tmp_path: Path, tiny_scene: Scene, extractor: Any, kind: Any) -> None:
    settings = options(4, descriptors=DescriptorOptions(descriptors=kind))
    report = whole_run(tiny_scene, tmp_path, settings, extractor)
    assert report.completed and report.quality is not None and report.quality.views == 2
    channels = load_gaussians(tmp_path).features.shape[1]
    assert channels == (0 if kind == "none" else 4)
    names = {path.name for path in tmp_path.iterdir()}
    assert {"config.json", "cameras.json", "point_cloud", "landmarks.safetensors", "training.jsonl"} <= names
    config = read_config(tmp_path)
    assert config.extractor == "grid-1" and config.source_path == "/somewhere"
    assert len(json.loads((tmp_path / "cameras.json").read_text())) == 6


def test_speedup_trains_few_channels_and_a_decoder(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(4, descriptors=DescriptorOptions(speedup=True))
    whole_run(tiny_scene, tmp_path, settings, extractor)
    loaded = load_gaussians(tmp_path)
    assert loaded.features.shape[1] == 16 and loaded.feature_decoder is not None
    assert loaded.feature_decoder.shape == (4, 16)


def test_test_views_are_never_touched(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    def forbidden() -> np.ndarray:
        raise AssertionError("a test image was read")

    test = [replace(view, name=f"test/{view.name}", load_image=forbidden) for view in tiny_scene.train]
    assert whole_run(replace(tiny_scene, test=test), tmp_path, options(2), extractor).completed


def test_no_iterations_give_the_initial_map(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    report = whole_run(tiny_scene, tmp_path, options(0), extractor)
    assert report.iteration == 0 and len(load_gaussians(tmp_path, 0)) == report.gaussians > 0


def test_a_resumed_run_continues_the_log(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    output = OutputOptions(
        test_iterations=(2, 4), save_iterations=(2,), checkpoint_iterations=(2,), quiet=True
    )
    whole_run(tiny_scene, tmp_path, options(4, output=output), extractor)
    resumed = replace(output, start_checkpoint=str(tmp_path / "checkpoint_2.safetensors"))
    whole_run(tiny_scene, tmp_path, options(4, output=resumed), extractor)
    assert [line["iteration"] for line in lines(tmp_path)] == [2, 4]


def test_a_scene_without_training_views_is_a_users_error(
    tmp_path: Path, tiny_scene: Scene, extractor: Any
) -> None:
    with pytest.raises(GSplatLocError, match="training views"):
        whole_run(replace(tiny_scene, train=[]), tmp_path, options(1), extractor)


def test_every_view_is_trained_or_held_out(tiny_scene: Scene) -> None:
    trained, held_out = split_holdout(tiny_scene.train, 3)
    assert [view.name for view in held_out] == ["001", "004"]
    assert {view.name for view in trained} | {"001", "004"} == {view.name for view in tiny_scene.train}
    assert split_holdout(tiny_scene.train, 0) == (tiny_scene.train, [])
    assert split_holdout(tiny_scene.train[:1], 2)[0]  # a single view is trained


def test_the_placeholder_is_empty() -> None:
    assert len(placeholder_gaussians(CPU)) == 0
