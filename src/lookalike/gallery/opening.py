"""A gallery on disk: where it is, with which model; made, opened and repaired. One in shards is
named by a URI, and opened by a module that is imported then."""

from __future__ import annotations

import importlib
import os
import shlex
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeGuard

from lookalike.atomic import file_sha256
from lookalike.encoder import (
    DEFAULT_MODEL,
    Encoder,
    EncoderSettings,
    ModelInfo,
    bundled_model,
    model_name,
    model_path,
)
from lookalike.errors import GalleryError, GalleryGoneError, ModelMismatchError, extra_needed
from lookalike.gallery.files import GalleryFiles, made_with
from lookalike.gallery.places import FOLDER, command, has_gallery, places, root_from, stored_root
from lookalike.gallery.protocol import ImageGallery, Path_
from lookalike.gallery.repair import RepairReport, changed_contents, repair, verify
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
        self._model = GalleryModel(model, encoder_settings)
        self.max_pixels = max_pixels
        self._max_seconds = max_seconds
        self._is_astray = False
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
            model: an ONNX model file, or a name of `lookalike model list`; None: the one the
                gallery was made with, for a new one the default.
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
            MissingExtraError: packages that a gallery in shards needs are not installed.
        """
        if is_remote(folder):
            if directory is not None or lsh is not None:
                raise ValueError("directory and lsh are for a gallery on disk")
            from lookalike.images.decoder import Limits

            with extra_needed("cluster", "a gallery in shards"):
                home = importlib.import_module(HOME)
            limits = Limits(max_pixels, max_seconds)
            found: Self = home.open_uri(folder, GalleryModel(model, encoder_settings), limits)
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
        from lookalike.images.decoder import PREPARED, Decoder

        self._check_root()
        Decoder(self._limits()).prepare(PREPARED)  # while the model is opened
        info = self._model.open().info
        self._files.create(self._meta(info), lsh_settings_for(lsh, info))

    def _adopt(self, store: Store, given: Path) -> None:
        """Take model and root from the table."""
        model = store.meta("model_path")
        if self._model.path is None and model is not None:
            path = Path(model)
            bundled = DEFAULT_MODEL.with_name(path.name)  # which moves when lookalike does
            self._model.path = bundled if bundled.exists() and not path.exists() else path
        self._find_root(store, given)

    def _find_root(self, store: Store, given: Path) -> None:
        """``given``: as in `open`."""
        stored = store.meta("root")
        # One of another name than usual may have been moved out of the folder of its images.
        was_inside = stored is None and self.directory.name != FOLDER
        if was_inside and not _holds_any(self.directory.parent, store):
            self._is_astray = os.path.realpath(given) == os.path.realpath(self.directory)
            self._root = self.directory.parent if self._is_astray else given.absolute()
        else:
            self._root = root_from(stored, self.directory, given)

    def _meta(self, info: ModelInfo) -> dict[str, Any]:
        """What the table says of the gallery as a whole."""
        return {
            "model": info.as_dict(),
            "model_path": self._model.path and os.fspath(self._model.path),
            "root": stored_root(self.root, self.directory),
        }

    def _check_root(self) -> None:
        if self._is_astray:
            raise GalleryError(
                f"none of the images of the gallery {self.directory} is in {self.root}; say where "
                f"they are: {command('index FOLDER', self.directory)}"
            )
        if not os.path.isdir(self.root):
            raise GalleryGoneError(f"{self.root} is not a folder, or its disk is not mounted")
        if os.path.realpath(self.root) == os.path.realpath(self.directory):
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
            words += ["--model", model_name(self._model.path)]
        return shlex.join(words)

    # ---- damage ----------------------------------------------------------------------------------

    def verify(self, *, contents: bool = False) -> list[str]:
        """What is wrong with the gallery's files, in sentences; [] if nothing is.

        Args:
            contents: also read every image and compare it with what was indexed.
        """
        problems = verify(self._files)
        if contents:
            with self._files.reading() as store:
                problems += changed_contents(store.indexed(), self.root)
        return problems

    @classmethod
    def find_damage(cls, folder: Path_, *, directory: Path_ | None = None) -> list[str]:
        """As `verify`, for a gallery that is too damaged to be opened."""
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
    if folder == "":
        raise GalleryError("the folder's name is empty; for the current folder give '.'")
    if os.path.isfile(folder):
        raise GalleryError(f"{os.fspath(folder)} is a file; give the folder that holds it")
    return places(Path(folder), None if directory is None else Path(directory))


def _holds_any(root: Path, store: Store) -> bool:
    """Whether any indexed file is there, or none is indexed."""
    files = [os.path.join(os.fsencode(root), path) for _, path in store.paths()]
    return not files or any(map(os.path.lexists, files))


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


# ---- the model -----------------------------------------------------------------------------------


class GalleryModel:
    """A model file, and its encoder.

    Args:
        given: the ONNX file, or a name, see `model_path`; None: the one that comes with lookalike,
            for a gallery that was made with an earlier one that one.
        settings: of the encoder; None: the defaults.
    """

    def __init__(self, given: Path_ | None = None, settings: EncoderSettings | None = None) -> None:
        if not isinstance(settings, EncoderSettings | None):
            raise TypeError(f"encoder_settings is {settings!r}; give an EncoderSettings")
        self.path = None if given is None else model_path(given)
        self._settings = settings or EncoderSettings()
        self._encoder: Encoder | None = None
        self._opened: tuple[Path, int] | None = None
        self._left: Encoder | None = None
        self._is_checked = given is None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_encoder": None, "_left": None}  # another process opens its own

    def open(self, known: ModelInfo | None = None) -> Encoder:
        """Opened once, and again in a process that was forked, where its threads are not; ``known``
        is the gallery's model, None before there is one.

        Raises ModelError.
        """
        wanted = self._file(known), os.getpid()
        if self._encoder is None or wanted != self._opened:
            if self._opened is not None and self._opened[1] != os.getpid():
                self._left = self._encoder  # whose end would wait for its threads
            self._encoder, self._opened = Encoder.open(wanted[0], self._settings), wanted
        return self._encoder

    def _file(self, known: ModelInfo | None) -> Path:
        return self.path or (DEFAULT_MODEL if known is None else bundled_model(known))

    def matching(self, known: ModelInfo, rebuild: Callable[[], str]) -> Encoder:
        """The encoder, after checking that it is the ``known`` one, of the gallery's embeddings.

        Args:
            rebuild: gives the command that encodes everything with the model in use.

        Raises:
            ModelMismatchError: it is another.
        """
        encoder = self.open(known)
        if known.sha256 != encoder.info.sha256:
            raise ModelMismatchError(
                f"the gallery was made with model {_name(known)}, the one in use is "
                f"{_name(encoder.info)}; their embeddings cannot be compared. Use the first with "
                f"--model FILE, or encode everything again: {rebuild()}"
            )
        return encoder

    def check(self, known: ModelInfo, rebuild: Callable[[], str]) -> None:
        """Once: a model that was given is the gallery's, also if it is not needed."""
        if not self._is_checked:
            if self._sha256(known) != known.sha256:
                self.matching(known, rebuild)
            self._is_checked = True

    def check_now(self, known: ModelInfo, rebuild: Callable[[], str]) -> None:
        """The file, and what was opened of it, is the gallery's model."""
        if self._encoder is not None or self._sha256(known) != known.sha256:
            self.matching(known, rebuild)

    def _sha256(self, known: ModelInfo) -> str:
        """Of the file, hexadecimal; "" if it cannot be read, which opening it will explain."""
        path = self._file(known)
        with suppress(OSError):
            if path.is_file():  # a pipe or device may never end
                return file_sha256(path)
        return ""


def _name(info: ModelInfo) -> str:
    return f"{info.name} {info.version} (sha256 {info.sha256[:12]})"


# ---- galleries in shards -------------------------------------------------------------------------


HOME = "lookalike.cluster.gallery"
"""The module whose function ``open_uri`` opens a gallery of the scheme ``ray``."""


def is_remote(name: object) -> TypeGuard[str]:
    """Whether a gallery's name is the address of one in shards."""
    return isinstance(name, str) and name.startswith("ray://")


def check_on_disk(name: object) -> None:
    """Raises GalleryError if a gallery is not on disk, for what is done to such alone."""
    if is_remote(name):
        raise GalleryError(
            "only a gallery on disk is rebuilt or repaired; of one in shards, embed the images "
            "into a new DIR, start it under another name, then: lookalike cluster switch"
        )
