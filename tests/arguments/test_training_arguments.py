"""train.py's command line: names, short forms, defaults, presets."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from gsplatloc.arguments.presets import mapping_preset
from gsplatloc.arguments.training import TrainArguments, parse_train_arguments
from gsplatloc.localization.features import EXTRACTORS

REQUIRED = ["-s", "scene", "-m", "map"]

# Every flag that users of this family know: (flag, value on the command line, group, field, parsed value).
FLAGS = [
    ("--images", "images_4", "scene", "images", "images_4"),
    ("-i", "images_4", "scene", "images", "images_4"),
    ("--resolution", "4", "scene", "resolution", 4),
    ("-r", "-1", "scene", "resolution", -1),
    ("--eval", None, "scene", "eval", True),
    ("--white_background", None, "scene", "white_background", True),
    ("-w", None, "scene", "white_background", True),
    ("--speedup", None, "descriptors", "speedup", True),
    ("--extractor", "disk", "descriptors", "extractor", "disk"),
    ("--data_device", "cuda", "frames", "data_device", "cuda"),
    ("--sh_degree", "2", "schedule", "sh_degree", 2),
    ("--convert_SHs_python", None, "rendering", "convert_SHs_python", True),
    ("--convert_cov3D_python", None, "rendering", "convert_cov3D_python", True),
    ("--debug", None, "debug", "debug", True),
    ("--debug_from", "5", "debug", "debug_from", 5),
    ("--detect_anomaly", None, "debug", "detect_anomaly", True),
    ("--iterations", "7000", "schedule", "iterations", 7000),
    ("--ip", "0.0.0.0", "viewer", "ip", "0.0.0.0"),
    ("--port", "6009", "viewer", "port", 6009),
    ("--start_checkpoint", "a.safetensors", "output", "start_checkpoint", "a.safetensors"),
    ("--quiet", None, "output", "quiet", True),
    ("--feature_lr", "0.01", "optimizer", "feature_lr", 0.01),
    ("--sparse_adam", None, "optimizer", "sparse_adam", True),
    ("--opacity_lr", "0.01", "optimizer", "opacity_lr", 0.01),
    ("--scaling_lr", "0.01", "optimizer", "scaling_lr", 0.01),
    ("--rotation_lr", "0.01", "optimizer", "rotation_lr", 0.01),
    ("--position_lr_max_steps", "9", "optimizer", "position_lr_max_steps", 9),
    ("--position_lr_init", "0.01", "optimizer", "position_lr_init", 0.01),
    ("--position_lr_final", "0.01", "optimizer", "position_lr_final", 0.01),
    ("--position_lr_delay_mult", "0.5", "optimizer", "position_lr_delay_mult", 0.5),
    ("--densify_from_iter", "9", "densification", "densify_from_iter", 9),
    ("--densify_until_iter", "9", "densification", "densify_until_iter", 9),
    ("--densify_grad_threshold", "0.01", "densification", "densify_grad_threshold", 0.01),
    ("--densification_interval", "9", "densification", "densification_interval", 9),
    ("--opacity_reset_interval", "9", "densification", "opacity_reset_interval", 9),
    ("--percent_dense", "0.5", "densification", "percent_dense", 0.5),
    ("--lambda_dssim", "0.5", "losses", "lambda_dssim", 0.5),
]


def value_of(arguments: TrainArguments, group: str, field: str) -> Any:
    return getattr(getattr(arguments, group), field)


@pytest.mark.parametrize(("flag", "text", "group", "field", "expected"), FLAGS)
def test_every_known_flag_is_understood(
    flag: str, text: str | None, group: str, field: str, expected: object
) -> None:
    parsed = parse_train_arguments([*REQUIRED, flag, *([text] if text else [])])
    assert value_of(parsed, group, field) == expected
    assert value_of(parse_train_arguments(REQUIRED), group, field) != expected


def test_resolution_zero_trains_small_and_leaves_the_features_their_images() -> None:
    parsed = parse_train_arguments([*REQUIRED, "-r", "0"])
    assert parsed.scene.options().resolution is None
    assert parsed.mapping().feature_sized and not parse_train_arguments(REQUIRED).mapping().feature_sized


def test_lists_of_iterations_are_understood() -> None:
    flags = ["--test_iterations", "1", "2", "--save_iterations", "3", "--checkpoint_iterations", "4", "5"]
    output = parse_train_arguments([*REQUIRED, *flags]).output
    assert output.test_iterations == (1, 2)
    assert output.save_iterations == (3,) and output.checkpoint_iterations == (4, 5)


def test_defaults_are_the_documented_ones() -> None:
    parsed = parse_train_arguments(["--source_path", "scene", "--model_path", "map"])
    assert parsed.scene.source_path == Path("scene") and parsed.scene.model_path == Path("map")
    assert parsed.schedule.iterations == 30_000 and parsed.schedule.sh_degree == 3
    assert parsed.optimizer.position_lr_init == 1.6e-4 and parsed.optimizer.position_lr_final == 1.6e-6
    assert parsed.optimizer.feature_lr == 1e-3 and parsed.optimizer.opacity_lr == 0.05
    assert parsed.optimizer.scaling_lr == 5e-3 and parsed.optimizer.rotation_lr == 1e-3
    assert parsed.densification.densify_grad_threshold == 2e-4
    assert (parsed.densification.densify_from_iter, parsed.densification.densify_until_iter) == (500, 15_000)
    assert parsed.densification.opacity_reset_interval == 3_000
    assert parsed.losses.lambda_dssim == 0.2 and parsed.losses.lambda_feature == 1.0


@pytest.mark.parametrize("flag", ["eval", "white_background", "quiet", "debug", "speedup", "exposure"])
def test_boolean_flags_can_be_switched_off(flag: str) -> None:
    on, off = (
        parse_train_arguments([*REQUIRED, *flags]) for flags in ([f"--{flag}"], [f"--{flag}", f"--no_{flag}"])
    )
    assert on != off == parse_train_arguments(REQUIRED)


def test_a_preset_changes_a_group_of_settings_and_flags_win_over_it() -> None:
    cpu = parse_train_arguments([*REQUIRED, "--preset", "cpu"])
    assert cpu.preset == "cpu" and cpu.descriptors.descriptors == "aggregated" and cpu.schedule.holdout > 0
    mixed = parse_train_arguments([*REQUIRED, "--iterations", "77", "--preset=cpu"])
    assert mixed.schedule.iterations == 77 and mixed.descriptors == cpu.descriptors
    gpu = parse_train_arguments([*REQUIRED, "--preset", "gpu"])
    assert gpu.rendering.device == "cuda" and gpu.schedule.iterations == 7_000


def test_the_preset_for_a_cpu_can_end_early() -> None:
    """Its last doubling of the resolution leaves room for what decides, and for the cool-down."""
    options = parse_train_arguments([*REQUIRED, "--preset", "cpu"]).mapping()
    stopping = options.stopping
    decided = options.settled_iteration() + (stopping.early_stop + 1) * stopping.early_stop_interval
    assert stopping.early_stop > 0 and decided + stopping.early_stop_cooldown < options.schedule.iterations


@pytest.mark.parametrize(
    "argv",
    [
        [*REQUIRED, "--bogus", "1"],
        [*REQUIRED, "--preset", "tpu"],
        [*REQUIRED, "--preset"],
        [*REQUIRED, "--iterations", "many"],
        ["-s", "scene"],
    ],
)
def test_wrong_usage_exits_with_two(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse_train_arguments(argv)
    assert error.value.code == 2
    assert capsys.readouterr().err


def test_help_groups_the_flags_with_their_units(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        parse_train_arguments(["--help"])
    text = capsys.readouterr().out
    assert error.value.code == 0
    for expected in (
        "scene options",
        "densification options",
        "--source_path",
        "--no_eval",
        "pixels",
        "metre",
    ):
        assert expected in text, expected


def test_the_record_of_a_run_is_complete() -> None:
    config = parse_train_arguments([*REQUIRED, "--preset", "cpu", "-r", "4", "--eval"]).config()
    assert config.preset == "cpu" and config.scene.resolution == 4 and config.scene.eval
    assert Path(config.source_path).is_absolute()
    assert config.training["schedule"]["sh_degree"] == 1


def test_help_lists_the_extractors(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with pytest.raises(SystemExit):
        parse_train_arguments(["--help"])
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for entry in EXTRACTORS.entries():
        assert f"{entry.name} ({entry.help})" in text
    assert "keypoints per training image, for tracks and landmarks" in text  # of another option


def test_the_descriptors_options_are_those_of_the_library() -> None:
    parsed = parse_train_arguments([*REQUIRED, "--preset", "cpu", "--extractor", "disk"])
    assert parsed.mapping().descriptors == replace(mapping_preset("cpu").descriptors, extractor="disk")
