"""A gallery on disk: where it is, with which model; made, opened and repaired."""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from lookalike.encoder import Encoder, EncoderSettings, ModelInfo
from lookalike.errors import GalleryError
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.model import GalleryModel
from lookalike.gallery.places import has_gallery, places, root_from, stored_root
from lookalike.gallery.protocol import ImageGallery, Path_
from lookalike.gallery.remote import check_on_disk, is_remote, open_remote
from lookalike.gallery.repair import RepairReport, repair
from lookalike.gallery.store import Store
from lookalike.lsh import LSHSettings

if TYPE_CHECKING:
    from lookalike.images.decoder import Limits


class GalleryOnDisk(ImageGallery):
    """Folder of the images, files and model of a gallery; what is done with them is `Gallery`."""

    def __init__(
        self,
        folder: Path_,
        directory: Path_ | None,
        model: Path_ | None,
        encoder_settings: EncoderSettings | None,
        max_pixels: int,
        max_seconds: float,
    ) -> None:
        """As `open`, but opens nothing."""
        self._root, home = _places(folder, directory)
        self._files = GalleryFiles(home)
        file = None if model is None else Path(model).absolute()
        if not isinstance(encoder_settings, EncoderSettings | None):
            raise TypeError(f"encoder_settings is {encoder_settings!r}; give an EncoderSettings")
        self._model = GalleryModel(file, encoder_settings or EncoderSettings())
        self.max_pixels = max_pixels
        self._max_seconds = max_seconds
        self._limits()  # which checks them

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_files": GalleryFiles(self.directory)}

    @property
    def root(self) -> Path:
        """The images' folder."""
        return self._root

    @property
    def directory(self) -> Path:
        """Where the gallery's files are."""
        return self._files.directory

    def _limits(self) -> Limits:
        from lookalike.images.decoder import Limits

        return Limits(self.max_pixels, self._max_seconds)

    # ---- opening ---------------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        folder: Path_,
        *,
        directory: Path_ | None = None,
        model: Path_ | None = None,
        create: bool = True,
        lsh: LSHSettings | None = None,
        encoder_settings: EncoderSettings | None = None,
        max_pixels: int = 200_000_000,
        max_seconds: float = 10.0,
    ) -> Self:
        """Open the gallery of ``folder``, making an empty one if there is none.

        Args:
            folder: the images' folder, or a gallery's own directory; or "ray://NAME", the address
                of a gallery in shards, which is never made here. What comes back then has the
                same methods, see `lookalike.gallery.protocol`.
            directory: where the gallery's files are; None: ``folder/.lookalike``.
            model: an ONNX model file; None: the one the gallery was made with, for a new one the
                default.
            create: whether to make a gallery where there is none.
            lsh: settings of a new gallery's index; ``dim`` must be the model's.
            encoder_settings: batch size and threads.
            max_pixels: larger images are skipped, and those that take more memory than 1 GiB or
                5 bytes for each of these pixels, whichever is more.
            max_seconds: images that take more processor time to decode are skipped.

        Raises:
            GalleryError: no such folder, no gallery, or it cannot be written.
            GalleryDamagedError: the gallery's table is damaged.
            ModelError: there is no such ``model``; ModelMismatchError: the gallery was made with
                another.
        """
        if is_remote(folder):
            if directory is not None or lsh is not None:
                raise ValueError("directory and lsh are for a gallery on disk")
            found: Self = open_remote(
                folder,
                model=model,
                encoder_settings=encoder_settings,
                max_pixels=max_pixels,
                max_seconds=max_seconds,
            )
            return found
        gallery = cls(folder, directory, model, encoder_settings, max_pixels, max_seconds)
        if gallery._files.exist():
            with gallery._files.proven() as store:
                gallery._adopt(store, Path(folder))
                gallery._model.check(made_with(store), gallery._rebuild_command)
        elif create:
            gallery._create(lsh)
        else:
            command = f"lookalike index {shlex.quote(os.fspath(gallery.root))}"
            raise GalleryError(f"there is no gallery in {gallery.directory}; make one: {command}")
        return gallery

    def _create(self, lsh: LSHSettings | None) -> None:
        self._check_root()
        info = self._model.open().info
        self._files.create(self._meta(info), lsh_settings_for(lsh, info))

    def _adopt(self, store: Store, given: Path) -> None:
        """Take model and root from the table."""
        stored, model = store.meta("root"), store.meta("model_path")
        if self._model.path is None and model is not None:
            self._model.path = Path(model)
        self._root = root_from(stored, self.directory, given)

    def _meta(self, info: ModelInfo) -> dict[str, Any]:
        """What the table says of the gallery as a whole."""
        return {
            "model": info.as_dict(),
            "model_path": self._model.path and os.fspath(self._model.path),
            "root": stored_root(self.root, self.directory),
        }

    def _check_root(self) -> None:
        if not self.root.is_dir():
            raise GalleryError(f"{self.root} is not a folder, or its disk is not mounted")
        if self.root.resolve() == self.directory.resolve():
            raise GalleryError(
                f"{self.root} cannot hold the images as well as the gallery's own files; name "
                f"another folder, or another directory with --gallery"
            )

    def _matching_encoder(self, known: ModelInfo) -> Encoder:
        return self._model.matching(known, self._rebuild_command)

    def _rebuild_command(self) -> str:
        words = ["lookalike", "index", "--rebuild", os.fspath(self.root)]
        if stored_root(self.root, self.directory) is not None:
            words += ["--gallery", os.fspath(self.directory)]
        if self._model.path is not None:
            words += ["--model", os.fspath(self._model.path)]
        return shlex.join(words)

    # ---- damage ----------------------------------------------------------------------------------

    def verify(self, *, contents: bool = False) -> list[str]:
        """What is wrong with the gallery's files, in sentences; [] if nothing is.

        Args:
            contents: also read every image and compare it with what was indexed.
        """
        from lookalike.gallery.verify import changed_contents, verify

        problems = verify(self._files)
        if contents:
            with self._files.reading() as store:
                problems += changed_contents(store.indexed(), self.root)
        return problems

    @classmethod
    def find_damage(cls, folder: Path_, *, directory: Path_ | None = None) -> list[str]:
        """As `verify`, for a gallery that is too damaged to be opened."""
        from lookalike.gallery.verify import verify

        return verify(_existing(folder, directory))

    @classmethod
    def repair(cls, folder: Path_, *, directory: Path_ | None = None) -> RepairReport:
        """Rebuild what can be rebuilt of a damaged gallery; the next update reads the rest again.

        Raises:
            GalleryDamagedError: no file names the model that made the gallery any more.
        """
        return repair(_existing(folder, directory))


def _places(folder: Path_, directory: Path_ | None) -> tuple[Path, Path]:
    """Folder of the images and directory of the gallery, which is one on disk."""
    check_on_disk(folder)
    if Path(folder).is_file():
        raise GalleryError(f"{os.fspath(folder)} is a file; give the folder that holds it")
    return places(Path(folder), None if directory is None else Path(directory))


def _existing(folder: Path_, directory: Path_ | None) -> GalleryFiles:
    _, home = _places(folder, directory)
    if not has_gallery(home):
        raise GalleryError(f"there is no gallery in {home}")
    return GalleryFiles(home)


def lsh_settings_for(given: LSHSettings | None, info: ModelInfo) -> LSHSettings:
    if not isinstance(given, LSHSettings | None):
        raise TypeError(f"lsh is {given!r}; give an LSHSettings")
    if given is not None and given.dim != info.dim:
        raise ValueError(f"lsh.dim is {given.dim}; the model's embeddings have {info.dim}")
    return given or LSHSettings(dim=info.dim)
