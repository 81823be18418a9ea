"""What the command lines of the set-up scripts share: options, licences, folders."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from gsplatloc.datasets.upstream import Source

EXIT_USAGE = 2
MIRROR_VARIABLE = "GSPLATLOC_MIRROR"


@dataclass(frozen=True)
class SetupOptions:
    """Options of every set-up script."""

    output: Path = Path("datasets")  # folder in which each scene gets a folder
    yes: bool = False  # accept the licences of the data without being asked
    mirror: str | None = None  # address to fetch from instead of upstream (or GSPLATLOC_MIRROR)
    keep_archives: bool = True  # keep what was downloaded, for other --poses or --scenes

    @property
    def mirror_address(self) -> str | None:
        return self.mirror or os.environ.get(MIRROR_VARIABLE) or None

    def archive_path(self, source: Source, name: str) -> Path:
        """Where a downloaded file of the source is kept."""
        return self.output / ".downloads" / source.key / name

    def release(self, archive: Path) -> None:
        """Delete an archive that is no longer needed, unless archives are kept."""
        if not self.keep_archives:
            archive.unlink(missing_ok=True)


def accept_terms(options: SetupOptions, *sources: Source) -> None:
    """Have the user accept the data's terms; exits with 2 where nobody can be asked and --yes is absent."""
    if options.yes:
        return
    print(
        "The data is published by its authors under their own terms, research use in the main. Read them at:"
    )
    for source in sources:
        print(f"  {source.terms}")
    if not sys.stdin.isatty():
        print("error: expected --yes to accept these terms, found no terminal to ask on", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
    if input("Accept them? [y/N] ").strip().lower() not in ("y", "yes"):
        print("error: the terms were not accepted, nothing was downloaded", file=sys.stderr)
        raise SystemExit(EXIT_USAGE)
