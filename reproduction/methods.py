"""The methods of the rows: each learns from images, indexes a gallery, and searches it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lookalike.encoder import Encoder
from lookalike.evaluation.protocol import LSH_HITS, hashed_ranking, index_of
from lookalike.lsh import LSHIndex, LSHSettings
from reproduction.collection import Floats, Pixels, Positions, Sample, digest, squeeze
from reproduction.confs import Recipe, Row
from reproduction.hashing import hamming_rank, itq_codes, lsh_codes, pack, pca
from reproduction.train import Network, Networks, weights_of

Oracle: TypeAlias = Callable[[Positions], NDArray[np.bool_]]
"""Gallery positions (n,) -> whether each is relevant to the query: the person of the experiment."""
PCA_DIM = 128
"""Compression to it costs nothing, Babenko et al. (2014) report."""


class Method(ABC):
    """A retrieval method; one object serves one split.

    In the paper's protocol the gallery is the training set. With unseen categories `learn` sees
    some classes and `index` others. A search is two steps, so that each can be timed: `describe`
    computes features of an image, `match` finds the nearest of the gallery.
    """

    title: str
    """The row's name in the tables."""

    def made_of(self) -> str:
        """What its numbers depend on besides the images, the protocol and the seed."""
        return self.title

    def fit(self, gallery: Sample) -> None:
        """Learn from the gallery, and index it."""
        self.learn(gallery)
        self.index(gallery)

    @abstractmethod
    def learn(self, training: Sample) -> None:
        """Everything that needs labels, or many images: vocabulary, network, projection."""

    @abstractmethod
    def index(self, gallery: Sample) -> None:
        """Describe the gallery's images and keep the features for `match`."""

    @abstractmethod
    def describe(self, image: Pixels) -> Any:
        """Features of one image, as `match` takes them."""

    @abstractmethod
    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        """Positions in the gallery, int64 (k,), best first; k up to the gallery's size.

        Only a method with relevance feedback asks the oracle, and it needs one.
        """

    def install(self) -> None:  # noqa: B027  most have nothing to do
        """After `index`: do what a machine does once and keeps, such as compiling."""

    def close(self) -> None:  # noqa: B027  as above
        """Forget what the first query had to open."""

    def search(self, image: Pixels, k: int, oracle: Oracle | None = None) -> Positions:
        """`match` of `describe`."""
        return self.match(self.describe(image), k, oracle)


def nearest(similarities: NDArray[np.floating], k: int) -> Positions:
    """Positions of the k largest of (n,), largest first, ties by position."""
    if k < len(similarities):
        bound = np.partition(similarities, -k)[-k]
        chosen = np.flatnonzero(similarities >= bound)
    else:
        chosen = np.arange(len(similarities))
    best: Positions = chosen[np.argsort(-similarities[chosen], kind="stable")[:k]]
    return best


class NetworkMethod(Method):
    """A trained network; exact cosines.

    Attributes:
        network: after `learn`.
        vectors: of the gallery after `index`, unit rows (n, dim).
    """

    network: Network
    vectors: Floats

    def __init__(
        self, row: Row, networks: Networks, recipe: Recipe, threads: int | None = None
    ) -> None:
        self.row, self.title = row, row.title
        self.networks, self.recipe, self.threads = networks, recipe, threads
        self._encoder: Encoder | None = None

    def made_of(self) -> str:
        """A digest of the recipe, and of the weights that it begins with."""
        recipe = self.recipe.but(seed=0, weights=weights_of(self.recipe))
        return digest(recipe.as_dict(), 6)

    def learn(self, training: Sample) -> None:
        self.network = self.networks.network(self.recipe, training)
        self._encoder = None

    def index(self, gallery: Sample) -> None:
        self.vectors = self.network.embed(gallery)

    def describe(self, image: Pixels) -> Any:
        """The unit embedding, float32 (dim,), as a gallery of the product computes it."""
        if self._encoder is None:
            self._encoder = self.network.encoder(self.threads)
        pixels = squeeze(image, self._encoder.info.input_size)
        return self._encoder.embed(pixels[None])[0]

    def install(self) -> None:
        self.network.export()

    def close(self) -> None:
        self._encoder = None

    def match(self, features: Any, k: int, oracle: Oracle | None = None) -> Positions:
        return nearest(self.vectors @ features, k)


class HashedNetwork(NetworkMethod):
    """The embeddings in an LSHIndex.

    The first LSH_HITS of a ranking come from the index; for more, as mAP needs, the others follow
    by exact cosine, since an index that is asked for everything compares everything.
    """

    tables: LSHIndex

    def settings(self) -> LSHSettings:
        dim = self.network.embedder.dim
        return LSHSettings.paper(dim) if self.row.search == "paper-lsh" else LSHSettings(dim)

    def index(self, gallery: Sample) -> None:
        super().index(gallery)
        self.tables = index_of(self.vectors, self.settings())

    def install(self) -> None:
        super().install()
        some = self.vectors[:100]
        index_of(some, self.settings()).search(some[0], k=1, threads=self.threads)

    def match(self, features: Floats, k: int, oracle: Oracle | None = None) -> Positions:
        if k <= LSH_HITS:
            hits: Positions = self.tables.search(features, k=k, threads=self.threads).ids
            return hits
        exact = nearest(self.vectors @ features, len(self.vectors))
        return hashed_ranking(self.tables, features[None], exact[None])[0, :k]


class PcaNetwork(NetworkMethod):
    """The embeddings in PCA_DIM principal components, or as many as the training set has."""

    def learn(self, training: Sample) -> None:
        super().learn(training)
        rows = self.network.embed(training)
        self.reduce = pca(rows, min(PCA_DIM, rows.shape[1], len(rows) - 1))

    def index(self, gallery: Sample) -> None:
        self.vectors = self.reduce(self.network.embed(gallery))

    def describe(self, image: Pixels) -> Any:
        return self.reduce(super().describe(image)[None])[0]


class CodeNetwork(NetworkMethod):
    """Binary codes of the embeddings. Every gallery code is compared and nothing is re-ranked, so
    the row shows what its codes are worth; ties are broken at random.
    """

    def learn(self, training: Sample) -> None:
        super().learn(training)
        seed, bits = self.recipe.training.seed, self.row.bits
        if self.row.codes == "lsh":
            self.encode = lsh_codes(self.network.embedder.dim, bits, seed)
        elif self.row.codes == "itq":
            self.encode = itq_codes(self.network.embed(training), bits, seed)
        else:
            self.encode = lambda rows: rows

    def index(self, gallery: Sample) -> None:
        self.codes = pack(self.encode(self.network.embed(gallery)))

    def describe(self, image: Pixels) -> Any:
        """The packed code, uint8 (bits / 8,)."""
        return pack(self.encode(super().describe(image)[None]))[0]

    def match(self, features: NDArray[np.uint8], k: int, oracle: Oracle | None = None) -> Positions:
        return hamming_rank(features, self.codes, k)


_SEARCHES: dict[str, type[NetworkMethod]] = {
    "exact": NetworkMethod,
    "lsh": HashedNetwork,
    "paper-lsh": HashedNetwork,
    "pca": PcaNetwork,
    "codes": CodeNetwork,
}


def network_method(
    row: Row, networks: Networks, recipe: Recipe, threads: int | None = None
) -> NetworkMethod:
    """The method of a row that has a network."""
    return _SEARCHES[row.search](row, networks, recipe, threads)
