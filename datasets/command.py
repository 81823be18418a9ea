"""Parts that the set-up commands share: options, acceptance of the licences, folders of downloads."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gsplatloc.datasets.upstream import Source

EXIT_USAGE = 2
MIRROR_VARIABLE = "GSPLATLOC_MIRROR"


@dataclass(frozen=True)
class SetupOptions:
    """Options of every command that downloads a data set."""

    output: Path = Path("datasets")  # folder in which each scene gets a folder
    yes: bool = False  # accept the licences of the data without being asked
    mirror: str | None = None  # address of a mirror to download from (or GSPLATLOC_MIRROR)
    keep_archives: bool = True  # keep downloaded archives for later runs with other --poses or --scenes

    @property
    def mirror_address(self) -> str | None:
        return self.mirror or os.environ.get(MIRROR_VARIABLE) or None

    def archive_path(self, source: Source, name: str) -> Path:
        """The path of a downloaded file of the source."""
        return self.output / ".downloads" / source.key / name

    def release(self, archive: Path) -> None:
        """Delete an archive that is no longer needed, unless archives are kept."""
        if not self.keep_archives:
            archive.unlink(missing_ok=True)


def accept_terms(options: SetupOptions, *sources: Source) -> None:
    """Ask the user to accept the data's terms; exits with code 2 if they decline or cannot be asked."""
    if options.yes:
        return
    print(
        "The data is published by its authors under their own terms, mostly for research use. Read them at:"
    )
    for source in sources:
        print(f"  {source.terms}")
    if not sys.stdin.isatty():
        print("error: expected --yes to accept these terms, found no terminal to ask on", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    if input("Accept them? [y/N] ").strip().lower() not in ("y", "yes"):
        print("error: the terms were not accepted, nothing was downloaded", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
