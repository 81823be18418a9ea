"""The folder of an input: the valid files of a reader, of which some are damaged."""

import random
import shutil
from pathlib import Path

from tests.fuzz.mutations import mutate
from tests.fuzz.readers import Target


class Case:
    """One folder for all inputs: what one of them changed is put back for the next."""

    def __init__(self, target: Target, parent: Path) -> None:
        """Write the valid input into a folder in `parent`, which is empty and not used otherwise."""
        self.target, self.root, self.misplaced = target, parent / "case", parent / "misplaced"
        self.root.mkdir()
        target.build(self.root)
        self.files = {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in sorted(self.root.rglob("*"))
            if path.is_file()
        }
        self._damaged: dict[str, bytes] = {}

    def damage(self, chance: random.Random) -> bool:
        """Make the next input; False if it is the valid one again."""
        files = self.files
        if self.target.alone:
            name = chance.choice(list(files))
            files = {name: files[name]}
        self._restore(files)
        self._damaged = mutate(chance, self.root, files)
        return self.misplaced.exists() or any(data != files[name] for name, data in self._damaged.items())

    def untouched(self) -> bool:
        """Whether the folder has the files of the valid input and no others, once it is restored."""
        self._restore(self.files)
        found = {
            path.relative_to(self.root).as_posix(): path.read_bytes()
            for path in self.root.rglob("*")
            if path.is_file()
        }
        return found == self.files

    def _restore(self, files: dict[str, bytes]) -> None:
        if not (self.target.alone or self.target.writes or self.misplaced.exists()):
            for name in self._damaged:
                (self.root / name).write_bytes(files[name])
            return
        shutil.rmtree(self.root)
        if self.misplaced.is_file():
            self.misplaced.unlink()
        elif self.misplaced.exists():
            shutil.rmtree(self.misplaced)
        for name, data in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
