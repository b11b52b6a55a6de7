"""What is evaluated, as data: sets, networks, rows of the tables, and what the paper prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from lookalike.models.settings import NO_AUGMENTATION, EmbedderSettings, TrainSettings

SHARED_TRUNK = "efficientnet-lite0"
"""Of nearly all networks; its frozen stages are computed once for all of them."""


# ---- sets ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """How a set is evaluated: seeds of its splits, epochs of the networks on the shared trunk and
    of those in TUNED.
    """

    seeds: tuple[int, ...]
    epochs: int
    tuned: int = 24


PLANS = {"corel1k": Plan((0, 1, 2, 3, 4), 6), "corel5k": Plan((0, 1, 2), 8, tuned=18)}
OTHER = Plan((0, 1, 2, 3, 4), 6)
"""Of any other folder of class folders."""

DISTORTIONS: dict[str, tuple[float, ...]] = {
    "rotation": (0, 5, 10, 15, 30, 45, 60, 90, 120, 150, 180),
    "crop": (100, 90, 80, 70, 60, 50, 40),
    "brightness": (0.4, 0.55, 0.7, 0.85, 1, 1.15, 1.3, 1.55, 1.8),
    "contrast": (0.25, 0.4, 0.55, 0.7, 0.85, 1, 1.15, 1.3, 1.55, 1.8),
    "noise": (0, 5, 10, 20, 30, 45, 60),
    "blur": (0, 0.25, 0.5, 1, 1.5, 2, 3),
    "jpeg": (100, 95, 75, 50, 30, 20, 10, 5),
    "scale": (100, 75, 50, 35, 25, 15, 10),
}
"""Levels of each kind of altered query."""


@dataclass(frozen=True, eq=False)
class Budget:
    """How much is spent on the numbers.

    Attributes:
        seeds: how many of the plan's split seeds, the first; None: all.
        epochs: by trunk, where they differ from the recipe's.
        words, pyramids: what SIFT tries on its training set.
        levels: of each distortion.
        rounds: in which the rows are timed.
        growth: whether a gallery is grown, which encodes 95,000 images.
        unseen_related: whether rows of related work are measured on unseen categories.
        share: of the time that a task of a whole run takes, about.
    """

    seeds: int | None = None
    epochs: Mapping[str, int] = field(default_factory=dict)
    words: Sequence[int] = (200, 500, 1000, 2000)
    pyramids: Sequence[bool] = (False, True)
    levels: Mapping[str, Sequence[float]] = field(default_factory=lambda: DISTORTIONS)
    rounds: int = 3
    growth: bool = True
    unseen_related: bool = True
    share: float = 1.0


WHOLE = Budget()
QUICK = Budget(
    seeds=1,
    epochs={SHARED_TRUNK: 2, "lenet5": 10, "vgg16-bn": 3},
    words=(500,),
    pyramids=(False,),
    levels={
        "rotation": (0, 15, 90),
        "crop": (100, 70),
        "brightness": (0.7, 1, 1.3),
        "contrast": (0.55, 1),
        "noise": (0, 20),
        "blur": (0, 1),
        "jpeg": (100, 10),
        "scale": (100, 25),
    },
    rounds=1,
    growth=False,
    unseen_related=False,
    share=0.35,
)
"""To see in a quarter of an hour that everything works; its numbers are not for reporting."""


@dataclass(frozen=True)
class Settings:
    """What a user may change.

    Attributes:
        seeds, epochs: of every set; None: those of its plan.
        rows: None: those of the part.
        vgg_weights: file of ImageNet weights for VGG16, or None: trained from scratch.
        threads: of a query's network.
        queries_per_class: held out of the gallery.
        quick: spend little, see QUICK.
    """

    seeds: tuple[int, ...] | None = None
    epochs: int | None = None
    rows: tuple[str, ...] | None = None
    vgg_weights: Path | None = None
    threads: int | None = None
    queries_per_class: int = 10
    quick: bool = False

    @property
    def budget(self) -> Budget:
        return QUICK if self.quick else WHOLE

    def plan(self, name: str) -> Plan:
        """The plan of the set of that name, with what the user changed."""
        plan = PLANS.get(name, OTHER)
        seeds = self.seeds or plan.seeds[: self.budget.seeds]
        epochs = self.epochs or self.budget.epochs.get(SHARED_TRUNK, plan.epochs)
        return Plan(seeds, epochs, self.epochs or plan.tuned)

    def changed(self) -> dict[str, Any]:
        """What numbers in one file must agree in, as far as the user changed it."""
        names = ("quick", "epochs", "queries_per_class")
        values = {name: getattr(self, name) for name in names}
        return {name: v for name, v in values.items() if v != getattr(Settings(), name)}


# ---- networks ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Recipe:
    """What a network is made of, and how it learns.

    Attributes:
        training: its `freeze` of -1 leaves the trunk as it is, -2 trains its last stage.
        hashing: what the network learns in place of classes: "cnnh", "dnnh", or "" for classes.
        name: in file names.
    """

    embedder: EmbedderSettings
    training: TrainSettings
    hashing: str = ""
    name: str = "network"

    def but(self, **changes: Any) -> Recipe:
        """The same with some settings changed. TypeError for an unknown setting."""
        own = {key: changes.pop(key) for key in ("hashing", "name") if key in changes}
        fields = EmbedderSettings.__dataclass_fields__
        inner = {key: changes.pop(key) for key in list(changes) if key in fields}
        embedder, training = replace(self.embedder, **inner), replace(self.training, **changes)
        return replace(self, embedder=embedder, training=training, **own)

    def as_dict(self) -> dict[str, Any]:
        """What the network depends on, for JSON; threads, which only affect rounding, left out."""
        training = asdict(self.training)
        del training["threads"]
        values = {"embedder": self.embedder.as_dict(), "training": training}
        return {**values, "hashing": self.hashing} if self.hashing else values


BITS = (48, 256)
_FROM_NOTHING = TrainSettings(
    weights="none",
    epochs=30,
    temperature=0.2,
    smoothing=0.0,
    learning_rate=3e-3,
    trunk_learning_rate=3e-3,
    validation=0.0,
    keep="last",
)
# With a high temperature, cosines must come near to 1 and 0 before the loss is small, so the
# classes of the gallery draw together; mAP over a gallery of training images lives on that.
OURS = Recipe(
    EmbedderSettings(input_size=224),
    TrainSettings(
        epochs=6,
        freeze=-2,
        temperature=0.2,
        smoothing=0.0,
        trunk_learning_rate=5e-4,
        validation=0.0,
        keep="last",
    ),
    name="ours",
)
"""EfficientNet-Lite0 with ImageNet weights + CBAM + FC."""
_CNN = OURS.but(name="cnn", attention="none")

NETWORKS: dict[str, Recipe] = {
    "ours": OURS,
    "ours-plain": OURS.but(name="ours-plain", augmentation=NO_AUGMENTATION),
    "cnn": _CNN,
    # an FC as wide as AlexNet's (Krizhevsky et al. 2012)
    "fc": _CNN.but(name="fc", dim=4096),
    # DELF (Noh et al. 2017) keeps the places of the largest weights; this keeps the pooled map
    "spatial": OURS.but(name="spatial", attention="spatial"),
    # SOLAR (Ng et al. 2020) without its second-order similarity loss: the loss is that of all rows
    "second-order": OURS.but(name="second-order", attention="second-order", pool="gem"),
    # CNNH (Xia et al. 2014) and DNNH (Lai et al. 2015), see hashing.py
    **{
        f"{kind}-{bits}": _CNN.but(name=f"{kind}-{bits}", hashing=kind, dim=bits)
        for kind in ("cnnh", "dnnh")
        for bits in BITS
    },
    # an improved LeNet-5 from scratch; the 84 units of its F6 are the embedding
    "lenet": Recipe(
        EmbedderSettings(trunk="lenet5", attention="none", dim=84, input_size=64),
        _FROM_NOTHING,
        name="lenet",
    ),
    # VGG16 from scratch, with batch norm and images small enough for that
    "vgg": Recipe(
        EmbedderSettings(trunk="vgg16-bn", attention="none", input_size=32),
        replace(_FROM_NOTHING, epochs=15, learning_rate=5e-4, trunk_learning_rate=5e-4),
        name="vgg",
    ),
}


# ---- rows ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Row:
    """A row of the tables.

    Attributes:
        network: in NETWORKS; "": the method has none.
        search: "exact" cosines; "lsh", an LSHIndex with its defaults; "paper-lsh", one with random
            hyperplanes and Hamming ranking; "pca", exact cosines of PCA_DIM components; or binary
            "codes", compared by Hamming distance, every one of them, without re-ranking.
        codes: how embeddings become codes: "lsh" (signs of random projections), "itq", or "signs"
            of a network that has learnt codes.
        seconds: that it takes on two cores for 1,000 images; used to estimate the time left.
    """

    title: str
    network: str = ""
    search: str = "exact"
    codes: str = ""
    bits: int = 0
    seconds: float = 8.0


TRAINS = 70.0
_CODES: dict[str, tuple[str, str, str, float]] = {
    "lsh": ("LSH codes", "cnn", "lsh", 8.0),
    "itq": ("PCA + ITQ codes", "cnn", "itq", 8.0),
    "cnnh": ("CNNH [12]", "", "signs", TRAINS),
    "dnnh": ("DNNH-like [13]", "", "signs", TRAINS),
}
TABLES: dict[str, Row] = {
    "sift": Row("SIFT + k-means", seconds=90),
    "svm": Row("SVM active learning [17], 4 x 20 answers", seconds=5),
    "lenet": Row("LeNet-L [18]", "lenet", seconds=40),
    "vgg": Row("VGG-N [18], from scratch", "vgg", seconds=200),
    "cnn-exhaustive": Row("CNN, exhaustive [20]", "cnn", seconds=TRAINS),
    "cnn-lsh": Row("CNN + LSH [19]", "cnn", "lsh"),
    "ours-exhaustive": Row("CNN + CBAM, exhaustive", "ours", seconds=TRAINS),
    "ours-paper-hashing": Row("CNN + CBAM + LSH, the paper's hyperplanes", "ours", "paper-lsh"),
    "ours": Row("CNN + CBAM + LSH (ours)", "ours", "lsh"),
}
"""Rows of Tables 1 to 3, in the paper's order."""
RELATED: dict[str, Row] = {
    "ours-plain": Row("ours, trained without augmentation", "ours-plain", "lsh", seconds=TRAINS),
    "fc": Row("FC features, 4,096 [9]", "fc", seconds=TRAINS),
    "pca": Row("PCA-compressed CNN codes [10]", "cnn", "pca"),
    "spatial": Row("spatial attention (DELF-like) [6]", "spatial", seconds=TRAINS),
    "second-order": Row("second-order attention (SOLAR-like) [8]", "second-order", seconds=TRAINS),
    **{
        f"{kind}-{bits}": Row(
            f"{title}, {bits} bits", network or f"{kind}-{bits}", "codes", codes, bits, seconds
        )
        for bits in BITS
        for kind, (title, network, codes, seconds) in _CODES.items()
    },
}
"""Rows of the paper's related work, and ours trained without augmentation."""
ROWS = {**TABLES, **RELATED}
ROBUST = ("ours", "ours-plain", "sift")
"""Rows whose queries are altered as well."""


@dataclass(frozen=True)
class Part:
    """What a user can ask for.

    Attributes:
        measure: "paper" or "unseen", a protocol of rankings; or what is measured in another way.
        sets: that the paper measures it on; empty: all. Where none of them is found it is done on
            all.
        rows: that can be chosen; empty: it has none.
    """

    measure: str
    sets: tuple[str, ...] = ()
    rows: tuple[str, ...] = tuple(TABLES)


PARTS = {
    "table1": Part("paper", ("corel1k",)),
    "table2": Part("paper", ("corel5k",)),
    "table3": Part("timing"),
    "related": Part("paper", ("corel1k",), tuple(RELATED)),
    "unseen": Part("unseen", ("corel1k",), tuple(ROWS)),
    "feedback": Part("feedback", ("corel1k",), ()),
    "robustness": Part("robustness", ("corel1k",), ROBUST),
    "growth": Part("growth", ("corel5k",), ()),
}


# ---- on an accelerator ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Views:
    """Augmentation where whole networks are fine-tuned.

    Attributes:
        size: of the images that are learnt from; smaller than those that are searched, since a
            window shows things enlarged (Touvron et al. 2019).
        area, ratio: smallest share of the image in a window, largest ratio of its sides.
        rotation: degrees, to either side.
        colour: factors are from 1 / (1 + colour) to 1 + colour.
        mixed: share of the batches that are mixed, by shares from Beta(beta, beta).
    """

    size: int = 192
    area: float = 0.35
    ratio: float = 4 / 3
    rotation: float = 10.0
    colour: float = 0.4
    mixed: float = 0.5
    beta: float = 1.0


@dataclass(frozen=True)
class Tuned:
    """A network of which everything learns."""

    recipe: Recipe
    views: Views = Views()

    def but(self, **changes: Any) -> Tuned:
        """The same with some settings of its recipe changed."""
        return replace(self, recipe=self.recipe.but(**changes))


@dataclass(frozen=True)
class Joined:
    """A row of networks side by side; `expanded`: queries and gallery by their neighbours."""

    title: str
    networks: tuple[str, ...]
    expanded: bool = False


_TUNED = OURS.but(
    name="tuned",
    attention="none",
    input_size=256,
    dim=256,
    batch_size=128,
    freeze=None,
    freeze_batch_norm=False,
    learning_rate=2e-3,
    trunk_learning_rate=5e-4,
    warmup=0.1,
    ema=0.99,
    device="cuda",
)
TUNED: dict[str, Tuned] = {
    "lite0": Tuned(_TUNED),
    "lite0-cbam": Tuned(_TUNED.but(attention="cbam", attention_stages=(0, 1, 2, 3, 4))),
    "lite2": Tuned(_TUNED.but(trunk="efficientnet-lite2")),
}
BEST: dict[str, Joined] = {
    "tuned": Joined("CNN, wholly fine-tuned", ("lite0",)),
    "tuned-cbam": Joined("CNN + CBAM after every stage, wholly fine-tuned", ("lite0-cbam",)),
    "best": Joined("ours, best (that, EfficientNet-Lite2 beside it)", ("lite0-cbam", "lite2")),
    "best-expanded": Joined("ours, best + expansion", ("lite0-cbam", "lite2"), expanded=True),
}
"""Rows that `python -m reproduction best` measures, the networks fine-tuned equally long."""


# ---- what the paper prints -----------------------------------------------------------------------


def _table_1(average: float, recall: float, *precision: float) -> dict[str, float]:
    cuts = {f"P@{n}": value for n, value in zip((5, 10, 20, 30), precision, strict=True)}
    return {"mAP": average, "recall@m": recall, **cuts}


PAPER: dict[str, dict[str, dict[str, float]]] = {
    "corel1k": {
        "sift": {**_table_1(0.7748, 0.7024, 0.8543, 0.7933, 0.7893, 0.7693), "seconds": 18.81},
        "svm": {**_table_1(0.7241, 0.6512, 0.8403, 0.7806, 0.7425, 0.6916), "seconds": 19.56},
        "vgg": {**_table_1(0.8951, 0.7858, 0.9304, 0.9125, 0.8927, 0.8841), "seconds": 12.42},
        "cnn-exhaustive": {"seconds": 2.33},
        "cnn-lsh": _table_1(0.9186, 0.8192, 1.0, 0.9932, 0.9842, 0.9646),
        "ours": {**_table_1(0.9578, 0.842, 1.0, 1.0, 1.0, 0.9994), "seconds": 0.13},
    },
    "corel5k": {
        "sift": {"mAP": 0.7528, "seconds": 76.91},
        "svm": {"mAP": 0.7091, "seconds": 78.57},
        "vgg": {"mAP": 0.8733, "seconds": 43.81},
        "cnn-exhaustive": {"seconds": 11.56},
        "cnn-lsh": {"mAP": 0.8841},
        "ours": {"mAP": 0.9286, "seconds": 0.64},
    },
}
"""Set -> row -> metric -> Tables 1 to 3. Its methods may differ in detail, its Corel-5k in images;
"seconds" are for all queries, end to end as we read it, on another machine.
"""
