"""One legend for all panels of a figure."""

from matplotlib.figure import Figure


def common_legend(figure: Figure, columns: int = 8) -> None:
    """Put the labels of all panels, each once, below them."""
    curves = {}
    for axes in figure.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            curves.setdefault(label, handle)
    place = {"loc": "outside lower center", "ncols": min(len(curves), columns), "fontsize": 6}
    figure.legend(curves.values(), curves.keys(), **place)
