"""ResNet50 + CBAM from scratch on a small set, with and without a trained teacher.

    python benchmarks/distill.py FOLDER_OF_CLASSES --name corel1k [--epochs 25] [--seed 0] [--alone]

The paper's split and configuration (flatten, FC), without ImageNet weights for ResNet50. First an
EfficientNet-Lite0 + CBAM with ImageNet weights learns the classes of the gallery; then ResNet50
begins at random and learns, beside the classes, to embed each augmented image as that teacher
does. `--alone` trains it without the teacher: what distillation buys. `--weights FILE` begins with
ImageNet weights instead. Every training goes on where it was when the same command is given again.
The queries are never seen before the end.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import replace
from pathlib import Path

from attention import scores

from lookalike.evaluation.protocol import query_split
from lookalike.models.embedder import load_embedder
from lookalike.models.report import TrainProgress
from lookalike.models.settings import EmbedderSettings, TrainSettings
from lookalike.models.train import train
from reproduction.collection import Collection
from reproduction.confs import OURS
from reproduction.train import embed_images

TEACHER = OURS.but(input_size=160)
STUDENT = EmbedderSettings(trunk="resnet50", pool="flatten", input_size=128)
LEARNING = TrainSettings(
    weights="none",
    batch_size=16,
    temperature=0.2,
    smoothing=0.0,
    trunk_learning_rate=1e-3,
    validation=0.0,
    keep="last",
)


def show(progress: TrainProgress) -> None:
    if progress.stage == "epoch":
        print(f"epoch {progress.epoch} of {progress.epochs}, {progress.scores}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--name", required=True, help="of the set, for files")
    parser.add_argument("--epochs", type=int, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--weights", default="none", help="torchvision's file of ImageNet weights, or imagenet"
    )
    parser.add_argument("--alone", action="store_true", help="without a teacher")
    parser.add_argument("--cache", type=Path, default=Path("cache"))
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args()
    collection = Collection.read(options.folder, options.name)
    split = query_split(collection.labels, options.seed)
    gallery = collection.images.take(split.gallery)
    teacher = options.cache / f"distill-{options.name}-{options.seed}-teacher.pt"
    if not teacher.exists():
        recipe = TEACHER.but(seed=options.seed)
        train(gallery, recipe.embedder, recipe.training, teacher, show)
    how = "alone" if options.alone else "distilled"
    learning = LEARNING
    if options.weights != "none":
        how += ", ImageNet weights"
        learning = replace(LEARNING, weights=options.weights, trunk_learning_rate=1e-4)
    student = options.cache / f"distill-{options.name}-{options.seed}-{how}.pt"
    began = time.perf_counter()
    if not student.exists():
        given = None if options.alone else str(teacher)
        settings = replace(learning, seed=options.seed, epochs=options.epochs, teacher=given)
        train(gallery, STUDENT, settings, student, show)
    path = options.results / f"distill-{options.name}.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    for who, file in (("teacher", teacher), (how, student)):
        vectors = embed_images(load_embedder(file), collection.pixels)
        row = scores(vectors, collection.labels, split.queries, split.gallery)
        found[f"{who} {options.seed}"] = row
        print(who, {key: round(value, 4) for key, value in row.items()})
    found[f"{how} {options.seed}"]["epochs"] = options.epochs
    found[f"{how} {options.seed}"]["seconds"] = round(time.perf_counter() - began)
    path.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
