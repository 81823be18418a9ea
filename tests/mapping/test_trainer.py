"""The training loop on a scene of six small images."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from gsplatloc.mapping import trainer as trainer_module
from gsplatloc.mapping.options import (
    DebugOptions,
    DescriptorOptions,
    FrameCacheOptions,
    OutputOptions,
    RenderingOptions,
    ScheduleOptions,
)
from gsplatloc.mapping.train import split_holdout
from gsplatloc.mapping.trainer import Watcher
from gsplatloc.scene.cameras import Scene, View
from gsplatloc.scene.checkpoint import load_checkpoint
from gsplatloc.scene.densification import DensificationOptions
from gsplatloc.scene.export import load_gaussians
from tests.mapping.training import lines, make_trainer, options


def test_training_improves_held_out_views(tmp_path: Path, tiny_scene: Scene, extractor: Any) -> None:
    settings = options(60, output=OutputOptions(test_iterations=(1, 60), save_iterations=(), quiet=True))
    settings = replace(settings, densification=DensificationOptions(densification="none"))
    trainer = make_trainer(tiny_scene, tmp_path, settings, extractor)
    assert trainer.run()
    first, last = (line for line in lines(tmp_path) if line["kind"] == "holdout")
    assert last["psnr"] > first["psnr"] + 1 and last["ssim"] > first["ssim"] and last["l1"] < first["l1"]
    assert trainer.quality is not None and trainer.quality.views == 2


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
