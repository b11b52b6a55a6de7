"""Other indexes that a Python user finds, behind one small interface, each searched in one thread.

Where a peer ranks by something coarser than the cosine, its candidates are re-ranked by exact
cosines, as ours are; FAISS does that in C++ (``IndexRefineFlat``), the other two in NumPy. Items
and queries have unit length, so inner product, cosine and Euclidean distance order them alike.
"""

from __future__ import annotations

import pickle
import tempfile
from abc import ABC, abstractmethod
from itertools import product
from pathlib import Path
from typing import Any

import faiss
import hnswlib
import numpy as np
import rabitqlib
import scann
import svs
import usearch.index
import voyager
from datasketch import LeanMinHash, MinHash, MinHashLSHForest
from deep216k import Floats, Ids

__all__ = ["PEERS", "Peer", "Setting"]

faiss.omp_set_num_threads(1)
BITS = 256
Setting = tuple[int, ...]


class Peer(ABC):
    """An index of (n, dim) unit vectors.

    Attributes:
        name: of the method; knobs: names of what a setting holds.
        limit: queries to measure with, as a slow method would take all the time.
        cached: whether building takes so long that the index is kept on disk.
        builds: how often it is built to time that.
    """

    name: str
    knobs: tuple[str, ...] = ()
    limit = 1_000_000
    cached = True
    builds = 1

    @abstractmethod
    def build(self, items: Floats, threads: int) -> None: ...

    @abstractmethod
    def settings(self, items: int) -> list[Setting]:
        """What to try."""

    @abstractmethod
    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        """Ids (q, k)."""

    @abstractmethod
    def nbytes(self) -> int:
        """Size of the index with everything that a search needs."""

    def save(self, path: Path) -> None:
        raise NotImplementedError

    def load(self, path: Path, items: Floats) -> None:
        raise NotImplementedError


class FaissPeer(Peer):
    """What every FAISS index shares: ``self.index``."""

    index: Any

    def nbytes(self) -> int:
        return int(faiss.serialize_index(self.index).nbytes)

    def save(self, path: Path) -> None:
        faiss.write_index(self.index, str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = faiss.read_index(str(path))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        return np.asarray(self.index.search(queries, k)[1])


class Flat(FaissPeer):
    name = "FAISS flat"
    cached = False

    def build(self, items: Floats, threads: int) -> None:
        self.index = faiss.IndexFlatIP(items.shape[1])
        self.index.add(items)

    def settings(self, items: int) -> list[Setting]:
        return [()]


class HammingRerank(FaissPeer):
    """``IndexLSH``: a scan of all 256-bit codes of a random rotation, then exact cosines.

    With ``thresholds`` 1 every bit is split at its median instead of at zero.
    """

    name = "FAISS IndexLSH + re-rank"
    knobs = ("thresholds", "re-rank")
    cached = False

    def build(self, items: Floats, threads: int) -> None:
        dim = items.shape[1]
        self.bases = [faiss.IndexLSH(dim, BITS, True, split) for split in (False, True)]
        self.indexes = [faiss.IndexRefineFlat(base) for base in self.bases]
        for index in self.indexes:
            index.train(items[:20_000])
            index.add(items)
        self.index = self.indexes[0]

    def settings(self, items: int) -> list[Setting]:
        return list(product((0, 1), (20, 50, 100, 150, 200, 250, 300, 400, 800)))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        index = self.indexes[setting[0]]
        index.k_factor = setting[1] / k
        return np.asarray(index.search(queries, k)[1])


class MultiHash(Peer):
    """``IndexBinaryMultiHash``: tables of substrings of the code, probed by flipping bits."""

    name = "FAISS BinaryMultiHash + re-rank"
    knobs = ("flips", "re-rank")
    limit = 40
    cached = False
    tables, bits = 16, 14

    def build(self, items: Floats, threads: int) -> None:
        self.items = items
        self.lsh = faiss.IndexLSH(items.shape[1], BITS, True, False)
        self.lsh.train(items[:20_000])
        bits = self.bits if len(items) > 50_000 else 10
        self.index = faiss.IndexBinaryMultiHash(BITS, self.tables, bits)
        self.index.add(self.lsh.sa_encode(items))

    def settings(self, items: int) -> list[Setting]:
        return list(product((1, 2), (200, 400)))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.nflip = setting[0]
        found = self.index.search(self.lsh.sa_encode(queries), setting[1])[1]
        return _rerank(self.items, found, queries, k)

    def nbytes(self) -> int:
        return int(faiss.serialize_index_binary(self.index).nbytes) + self.items.nbytes


class InvertedFile(FaissPeer):
    name = "FAISS IVF-Flat"
    knobs: tuple[str, ...] = ("nprobe",)

    def build(self, items: Floats, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        description = self._description(_lists(len(items)), items.shape[1])
        self.index = faiss.index_factory(items.shape[1], description, faiss.METRIC_INNER_PRODUCT)
        self.index.train(items)
        self.index.add(items)
        faiss.omp_set_num_threads(1)

    def _description(self, lists: int, dim: int) -> str:
        return f"IVF{lists},Flat"

    def settings(self, items: int) -> list[Setting]:
        probes = (2, 4, 8, 12, 16, 20, 24, 32, 48, 64)
        return [(n,) for n in probes if n <= _lists(items)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.nprobe = setting[0]
        return super().search(queries, k, setting)


class FastScan(InvertedFile):
    """Product quantisation, 4 bits for every 2 (or 5 of 1,280) dimensions, scanned in registers."""

    name = "FAISS IVF-PQ fast scan + re-rank"
    knobs = ("nprobe", "re-rank")

    def _description(self, lists: int, dim: int) -> str:
        return f"IVF{lists},PQ{min(dim // 2, 256)}x4fs,RFlat"

    def settings(self, items: int) -> list[Setting]:
        return [(*n, depth) for n in super().settings(items) for depth in (30, 60, 120, 240, 480)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        lists: Any = faiss.downcast_index(self.index.base_index)
        lists.nprobe = setting[0]
        self.index.k_factor = setting[1] / k
        return FaissPeer.search(self, queries, k, setting)


class Hnswlib(Peer):
    name = "hnswlib"
    knobs = ("ef",)

    def build(self, items: Floats, threads: int) -> None:
        self.index = hnswlib.Index("ip", items.shape[1])
        self.index.init_index(len(items), M=16, ef_construction=200, random_seed=1)
        self.index.add_items(items, num_threads=threads)

    def settings(self, items: int) -> list[Setting]:
        return [(ef,) for ef in (10, 14, 18, 22, 26, 30, 34, 38, 42, 50, 60, 80, 120, 200)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.set_ef(setting[0])
        return np.asarray(self.index.knn_query(queries, k, num_threads=1)[0], np.int64)

    def nbytes(self) -> int:
        return int(self.index.index_file_size())

    def save(self, path: Path) -> None:
        self.index.save_index(str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = hnswlib.Index("ip", items.shape[1])
        self.index.load_index(str(path))


class FaissHNSW(FaissPeer):
    name = "FAISS HNSW16"
    knobs = ("ef",)

    def build(self, items: Floats, threads: int) -> None:
        self.index = faiss.IndexHNSWFlat(items.shape[1], 16, faiss.METRIC_INNER_PRODUCT)
        self.index.hnsw.efConstruction = 200
        faiss.omp_set_num_threads(threads)
        self.index.add(items)
        faiss.omp_set_num_threads(1)

    def settings(self, items: int) -> list[Setting]:
        return [(ef,) for ef in (16, 24, 32, 40, 50, 64, 80, 100, 140, 200)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.hnsw.efSearch = setting[0]
        return FaissPeer.search(self, queries, k, setting)


class FaissRaBitQ(InvertedFile):
    """RaBitQ codes in inverted lists, scanned by FAISS's fast scan, re-ranked by exact cosines."""

    name = "FAISS IVF-RaBitQ fast scan, re-ranked"
    knobs = ("probes", "re-rank")

    def build(self, items: Floats, threads: int) -> None:
        faiss.omp_set_num_threads(threads)
        base = faiss.index_factory(
            items.shape[1], f"IVF{_lists(len(items))},RaBitQfs", faiss.METRIC_INNER_PRODUCT
        )
        self.index = faiss.IndexRefineFlat(base)
        self.index.train(items)
        self.index.add(items)
        faiss.omp_set_num_threads(1)

    def settings(self, items: int) -> list[Setting]:
        return list(product((8, 16, 32, 64, 128), (30, 60, 120, 240)))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        base: Any = faiss.downcast_index(self.index.base_index)
        base.nprobe = setting[0]
        self.index.k_factor = setting[1] / k
        return FaissPeer.search(self, queries, k, setting)


class SymphonyQG(Peer):
    """The graph of rabitqlib whose edges carry RaBitQ codes (Gou et al. 2025)."""

    name = "rabitqlib SymphonyQG"
    knobs = ("ef",)
    degree = 32

    def build(self, items: Floats, threads: int) -> None:
        self.index = rabitqlib.SymqgIndex(items.shape[1], self.degree, "l2")
        self.index.build(items, 400, threads)

    def settings(self, items: int) -> list[Setting]:
        return [(ef,) for ef in (10, 14, 18, 22, 26, 30, 36, 44, 60, 80, 120, 200)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        return np.asarray(self.index.search(queries, k, setting[0], 1)[0]).astype(np.int64)

    def nbytes(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder) / "index")
            return (Path(folder) / "index").stat().st_size

    def save(self, path: Path) -> None:
        self.index.save(str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = rabitqlib.SymqgIndex.load(str(path))


class RaBitQ(SymphonyQG):
    """rabitqlib's inverted lists with 1 + 5 bits a dimension, which it ranks by alone."""

    name = "rabitqlib IVF, 6 bits"
    knobs = ("probes",)

    def build(self, items: Floats, threads: int) -> None:
        dim, lists = items.shape[1], _lists(len(items))
        means = rabitqlib.RaBitQKMeans(dim, lists, num_threads=threads)
        means.train(items)
        self.index = rabitqlib.IvfIndex(dim, len(items), lists, 6, "ip")
        self.index.build(items, means.centroids, means.assignments, threads)

    def settings(self, items: int) -> list[Setting]:
        return [(probes,) for probes in (4, 8, 16, 32, 48, 64, 96, 128)]

    def load(self, path: Path, items: Floats) -> None:
        self.index = rabitqlib.IvfIndex.load(str(path))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        found = self.index.search(queries, k, setting[0], num_threads=1)[0]
        return np.asarray(found).astype(np.int64)


class Vamana(Peer):
    """Intel's Scalable Vector Search, float32."""

    name = "SVS Vamana"
    knobs = ("window",)

    def build(self, items: Floats, threads: int) -> None:
        parameters = svs.VamanaBuildParameters(alpha=0.95, graph_max_degree=32, window_size=128)
        self.index = svs.Vamana.build(parameters, items, svs.DistanceType.MIP, num_threads=threads)
        self.index.num_threads = 1

    def settings(self, items: int) -> list[Setting]:
        return [(n,) for n in (10, 12, 14, 16, 20, 24, 28, 32, 40, 60, 100)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.search_window_size = setting[0]
        return np.asarray(self.index.search(queries, k)[0]).astype(np.int64)

    def nbytes(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self.save(Path(folder))
            return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())

    def save(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.index.save(*(str(path / name) for name in ("config", "graph", "data")))

    def load(self, path: Path, items: Floats) -> None:
        config, graph, data = (str(path / name) for name in ("config", "graph", "data"))
        self.index = svs.Vamana(
            config, graph, svs.VectorDataLoader(data, svs.float32), svs.DistanceType.MIP
        )
        self.index.num_threads = 1


class ScaNN(Peer):
    name = "ScaNN"
    knobs = ("leaves", "re-rank")

    def build(self, items: Floats, threads: int) -> None:
        leaves = _lists(len(items))
        builder = scann.scann_ops_pybind.builder(items, 10, "dot_product")
        builder = builder.tree(leaves, 32, training_sample_size=100_000)
        builder = builder.score_ah(2, anisotropic_quantization_threshold=0.2).reorder(100)
        self.index = builder.set_n_training_threads(threads).build()

    def settings(self, items: int) -> list[Setting]:
        return list(product((10, 20, 40, 80, 120), (40, 80, 120, 200)))

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        leaves, depth = setting
        if len(queries) == 1:
            found = self.index.search(queries[0], k, depth, leaves)[0][np.newaxis]
        else:
            found = self.index.search_batched(queries, k, depth, leaves)[0]
        return np.asarray(found).astype(np.int64)

    def nbytes(self) -> int:
        with tempfile.TemporaryDirectory() as folder:
            self.index.serialize(folder)
            return sum(path.stat().st_size for path in Path(folder).iterdir())

    def save(self, path: Path) -> None:
        path.mkdir(exist_ok=True)
        self.index.serialize(str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = scann.scann_ops_pybind.load_searcher(str(path))


class USearch(Peer):
    name = "usearch"
    knobs = ("expansion",)

    def build(self, items: Floats, threads: int) -> None:
        self.index = self._empty(items.shape[1])
        self.index.add(np.arange(len(items)), items, threads=threads)

    def _empty(self, dim: int) -> Any:
        return usearch.index.Index(
            ndim=dim, metric="ip", dtype="f32", connectivity=16, expansion_add=200
        )

    def settings(self, items: int) -> list[Setting]:
        return [(n,) for n in (10, 16, 22, 28, 34, 40, 50, 64, 80, 120, 200)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        self.index.expansion_search = setting[0]
        found = self.index.search(queries, k, threads=1).keys
        return np.asarray(np.atleast_2d(found)).astype(np.int64)

    def nbytes(self) -> int:
        return int(self.index.serialized_length)

    def save(self, path: Path) -> None:
        self.index.save(str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = self._empty(items.shape[1])
        self.index.load(str(path))


class Voyager(Peer):
    name = "voyager"
    knobs = ("ef",)

    def build(self, items: Floats, threads: int) -> None:
        self.index = voyager.Index(
            voyager.Space.Cosine, items.shape[1], M=16, ef_construction=200, random_seed=1
        )
        self.index.add_items(items, num_threads=threads)

    def settings(self, items: int) -> list[Setting]:
        return [(ef,) for ef in (10, 16, 22, 28, 34, 40, 50, 64, 80, 120, 200)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        found = self.index.query(queries, k, num_threads=1, query_ef=setting[0])[0]
        return np.asarray(found).astype(np.int64)

    def nbytes(self) -> int:
        return len(self.index.as_bytes())

    def save(self, path: Path) -> None:
        self.index.save(str(path))

    def load(self, path: Path, items: Floats) -> None:
        self.index = voyager.Index.load(str(path))


class Forest(Peer):
    """datasketch's MinHash LSH forest over the set of a vector's 256 (bit, sign) pairs.

    Signatures are computed here in NumPy, faster than by datasketch itself. Pure Python: measured
    with few queries.
    """

    name = "datasketch LSH forest + re-rank"
    knobs = ("re-rank",)
    limit = 40
    permutations = 128

    def build(self, items: Floats, threads: int) -> None:
        self._prepare(items)
        self.forest = MinHashLSHForest(num_perm=self.permutations, l=8)
        for i, signature in enumerate(self._signatures(items)):
            self.forest.add(i, LeanMinHash(seed=1, hashvalues=signature, scheme=self.scheme))
        self.forest.index()

    def _prepare(self, items: Floats) -> None:
        rng = np.random.default_rng(0)
        self.items, self.mean = items, items.mean(axis=0)
        self.planes = rng.standard_normal((BITS, items.shape[1])).astype(np.float32)
        tokens = []
        for token in range(2 * BITS):
            one = MinHash(self.permutations, seed=1)
            one.update(token.to_bytes(2, "little"))
            tokens.append(one.hashvalues)
        self.scheme = one.scheme
        self.tokens = np.array(tokens).reshape(BITS, 2, -1)

    def _signatures(self, vectors: Floats) -> Any:
        bits = ((vectors - self.mean) @ self.planes.T > 0).astype(np.intp)
        out = self.tokens[0, bits[:, 0]]
        for j in range(1, BITS):
            np.minimum(out, self.tokens[j, bits[:, j]], out=out)
        return out

    def settings(self, items: int) -> list[Setting]:
        return [(200,), (1000,)]

    def search(self, queries: Floats, k: int, setting: Setting) -> Ids:
        out = np.full((len(queries), setting[0]), -1, np.int64)
        for i, signature in enumerate(self._signatures(queries)):
            found = self.forest.query(
                LeanMinHash(seed=1, hashvalues=signature, scheme=self.scheme), setting[0]
            )
            out[i, : len(found)] = found
        return _rerank(self.items, out, queries, k)

    def nbytes(self) -> int:
        return len(pickle.dumps(self.forest)) + self.items.nbytes

    def save(self, path: Path) -> None:
        path.write_bytes(pickle.dumps(self.forest))

    def load(self, path: Path, items: Floats) -> None:
        self._prepare(items)
        self.forest = pickle.loads(path.read_bytes())  # written by this program


def _lists(items: int) -> int:
    return 1024 if items > 50_000 else 64


def _rerank(items: Floats, found: Ids, queries: Floats, k: int) -> Ids:
    """The ``k`` nearest of the candidates (q, depth) of each query; -1 stands for none."""
    out = np.full((len(queries), k), -1, np.int64)
    for i, query in enumerate(queries):
        own = found[i][found[i] >= 0]
        best = own[np.argsort(-(items[own] @ query), kind="stable")[:k]]
        out[i, : len(best)] = best
    return out


PEERS: tuple[type[Peer], ...] = (
    *(Flat, HammingRerank, MultiHash, InvertedFile, FastScan),
    *(Hnswlib, USearch, Voyager, Forest, FaissHNSW, FaissRaBitQ),
    *(SymphonyQG, RaBitQ, Vamana, ScaNN),
)
