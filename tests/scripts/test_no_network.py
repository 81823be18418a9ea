"""Mapping and localizing need no network: the commands run where every connection is an error."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
# Python reports every connection and every look-up of a name, whichever library makes it.
OFFLINE = """
import sys
EVENTS = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.getaddrinfo", "socket.gethostbyname",
          "socket.bind", "urllib.Request")
def refuse(event, arguments):
    if event in EVENTS:
        print("network:", event, arguments, file=sys.stderr)
        raise PermissionError(event)
sys.addaudithook(refuse)
from gsplatloc.cli import main
main(sys.argv[1:])
"""
QUICK = ["--iterations", "20", "--sh_degree", "0", "--init_max_points", "500", "--max_gaussians", "500"]


IMPATIENT = "import time\ntime.sleep = lambda seconds: None\n"  # between two attempts of a download


def run(*arguments: str | Path, before: str = "") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", before + OFFLINE, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=600)


def test_a_room_is_mapped_and_localized_in_without_a_network(room_scene: Path, tmp_path: Path) -> None:
    mapped = run("train", "-s", room_scene, "-m", tmp_path / "map", *QUICK)
    assert mapped.returncode == 0 and "network:" not in mapped.stderr, mapped.stderr
    localized = run("localize", "-m", tmp_path / "map")
    assert localized.returncode == 0 and "network:" not in localized.stderr, localized.stderr
    assert (tmp_path / "map" / "localization" / "report.html").is_file()


def test_a_download_would_have_been_noticed(tmp_path: Path) -> None:
    """The check itself works."""
    mirror = "http://127.0.0.1:9"
    words = ["--yes", "--mirror", mirror, "--output", tmp_path, "--scenes", "OldHospital"]
    tried = run("setup", "cambridge", *words, before=IMPATIENT)
    assert tried.returncode == 1 and "network:" in tried.stderr
