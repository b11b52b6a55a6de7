"""Whether, and how, a gallery's searches are expanded by its neighbour graph."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

from lookalike.encoder import ModelInfo
from lookalike.errors import NoNeighboursError
from lookalike.gallery.hits import smallest_cosine
from lookalike.gallery.search import Search
from lookalike.lsh import LSHIndex
from lookalike.lsh.expand import Expansion, search_expanded
from lookalike.lsh.graph import NeighbourGraph

MEASURED: Mapping[tuple[str, str], Expansion] = {("lookalike-general", "2"): Expansion()}
"""Models, by name and version, of which expansion was measured to find more, and with what."""


def measured(model: ModelInfo) -> Expansion | None:
    """What searches with this model are expanded with by default; None: they are not."""
    return MEASURED.get((model.name, model.version))


def expanded(
    index: LSHIndex,
    graph: NeighbourGraph | None,
    default: Expansion | None,
    expand: bool | None,
    threshold: float | None,
) -> Search | None:
    """An expanded search of the index; None if it is not to be expanded.

    Args:
        default: that of the model.
        expand: None: if the model has a default and there is a graph.
        threshold: as of `Gallery.search`.

    Raises:
        NoNeighboursError: it is to be, and there is no graph.
    """
    if expand is False or (expand is None and default is None):
        return None
    if graph is None:
        if expand and len(index) > 1:
            raise NoNeighboursError(
                "the gallery has no neighbour graph to expand searches with (older, deleted or "
                "damaged); make one with: lookalike update"
            )
        return None
    least = -2.0 if threshold is None else smallest_cosine(threshold)
    return partial(search_expanded, index, graph, default or Expansion(), least=least)
