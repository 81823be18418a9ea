"""Licences of everything that an installation of gsplatloc brings: `python -m gsplatloc.utils.licences`."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement


def dependencies(name: str) -> dict[str, Distribution | None]:
    """The distribution `name` and all it requires, by name; None for what is not installed."""
    found: dict[str, Distribution | None] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, "")]
    while waiting:
        name, extra = waiting.pop()
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            found[name] = None
        for text in getattr(found[name], "requires", None) or []:
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                required = requirement.name.lower().replace("_", "-")
                waiting += [(required, option) for option in ("", *requirement.extras)]
    return dict(sorted(found.items()))


def licence(found: Distribution) -> str:
    """The licence as the distribution states it: an SPDX expression, classifiers, a name or a file."""
    metadata = found.metadata
    classifiers = metadata.get_all("Classifier") or []
    named = [text.rpartition(" :: ")[2] for text in classifiers if text.startswith("License ::")]
    files = [str(path) for path in found.files or [] if path.name.upper().startswith(("LICEN", "COPYING"))]
    expressions, names = (metadata.get_all(key) or [] for key in ("License-Expression", "License"))
    stated = (*expressions, ", ".join(named), *names, *files)
    return next((text.strip().splitlines()[0] for text in stated if text.strip()), "not stated")


def main() -> None:
    for name, found in dependencies("gsplatloc").items():
        print(f"{name:32} " + (f"{found.version:20} {licence(found)}" if found else "not installed"))


if __name__ == "__main__":
    main()
