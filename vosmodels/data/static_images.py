"""Read a folder of still images with object masks, laid out as the sets unpack."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vosmodels.data.files import Files
from vosmodels.data.images import orientation_of, read_frame, turn
from vosmodels.data.listing import IMAGE_SUFFIXES, folders_in, is_mask, listing, visible
from vosmodels.data.masks import object_ids
from vosmodels.errors import Absent, InputError
from vosmodels.support.messages import together
from vosmodels.types import U8

_ECSSD_MASKS = "ground_truth_mask"  # ECSSD's name for its folder of masks
_MASK_FOLDERS = ("masks", _ECSSD_MASKS)  # folders of masks beside the folder `images`
LAYOUTS = (
    "images/NAME.jpg with masks/NAME.png, SET-Image/NAME.jpg with SET-Mask/NAME.png (DUTS), "
    "NAME.jpg with NAME.png beside it, or CLASS/NAME.jpg with CLASS/NAME.png (FSS-1000)"
)
_COLOURS = ("RGB", "RGBA", "LA")
MASK_MODES = ("P", "1", "L", *_COLOURS)  # Pillow's modes that a mask may have
_SETS = ("BIG", "DUTS", "ECSSD", "FSS-1000", "HRSOD")
_MIDDLE = 127  # grey levels above 127 are the object
_JPEG = (".jpg", ".jpeg")  # suffixes of images in the same folder as their PNG masks


@dataclass(frozen=True)
class StaticImage:
    """An image and the mask of its object."""

    image: Path
    mask: Path

    def frame(self) -> U8:
        """Read the image, (H, W, 3) uint8 RGB. Raises InputError on a corrupt file."""
        return read_frame(self.image)

    def object_mask(self) -> NDArray[np.bool_]:
        """Read the mask as (H, W) bool; the masks of some published images are empty.

        Palette masks: every non-zero index. Grey or colour masks: pixels above 127 (maximum over
        channels), since these sets ship anti-aliased masks. If no pixel exceeds 127 the values are
        ids: every non-zero one. Raises InputError on a corrupt file.
        """
        return _read_object(self.mask)


def image_files(pair: StaticImage, *, decode: bool = False) -> Files:
    """Inspect an image and its mask; `decode` reads both whole."""
    stem = pair.image.stem
    masks = {stem: pair.mask} if pair.mask.is_file() else {}
    files = Files({stem: pair.image}, masks, decode=decode, read=_ids_in, plain=MASK_MODES)
    if not masks:
        files.problems.append(f"{pair.image}: image without mask; wanted {pair.mask}")
    elif problem := files.pair_problem(stem):
        files.problems.append(problem)
    return files


def _ids_in(path: Path) -> tuple[int, ...]:
    return object_ids(_read_object(path))


class StaticImages:
    """The images of one set: images/ and masks/, or as the published sets unpack.

    ECSSD has images/NAME.jpg with ground_truth_mask/NAME.png, DUTS SET-Image/NAME.jpg with
    SET-Mask/NAME.png. STCN's packages of DUTS, ECSSD, BIG and HRSOD (BIG_small, HRSOD_small) have
    NAME.jpg and NAME.png in one folder. FSS-1000, and STCN's package fss, have one such folder for
    each class. Masks without an image are ignored. leave_out: images that are not used, by file
    name with or without suffix, or by path below `root` with or without suffix.

    Raises InputError if `root` has none of these layouts (the message lists what was looked for
    and what `root` holds), or holds several sets (the message names them).
    """

    def __init__(self, root: Path, leave_out: Collection[str] = ()) -> None:
        if not root.is_dir():
            raise Absent(f"{root}: no such folder; give a folder of images and masks")
        if not StaticImages.recognises(root):
            raise InputError(
                f"{root}: no images with masks; looked for {LAYOUTS}; found {listing(root)}"
            )
        if sets := StaticImages.sets_in(root):
            names = ", ".join(folder.name for folder in sets)
            raise InputError(
                f"{root}: several sets of still images; name one of its folders: {names}"
            )
        self.root = root
        self._leave_out = frozenset(leave_out)
        self._folders = [
            (folder, [pair for pair in folder.pairs() if not self.names_of(pair) & self._leave_out])
            for folder in _folders(root)
        ]

    def names_of(self, pair: StaticImage) -> frozenset[str]:
        """Return the names by which `leave_out` may name an image."""
        path = pair.image.relative_to(self.root)
        below = (path.as_posix(), path.with_suffix("").as_posix())
        return frozenset({path.name, path.stem, *below})

    @staticmethod
    def recognises(root: Path) -> bool:
        """Return True if any image in `root` has a mask by one of the layouts."""
        return root.is_dir() and any(
            pair.mask.is_file() for folder in _folders(root) for pair in folder.pairs()
        )

    @staticmethod
    def sets_in(root: Path) -> list[Path]:
        """Return the folders of `root` that are sets, as STCN's `static` unpacks.

        Returns an empty list if `root` is one set or none. The folders are several sets if at least
        one of them has a layout with folders inside; if all hold images beside masks, the folders
        are the classes of one set.
        """
        inside = _folders_of(root)
        if [folder.images for folder in _folders(root)] != inside:
            return []
        deeper = (f for f in inside if [folder.images for folder in _folders(f)] != [f])
        return inside if any(map(StaticImages.recognises, deeper)) else []

    @property
    def published(self) -> str | None:
        """Return the published set's name if a folder's name tells, else None."""
        names = [self.root.resolve().name]
        for folder, _ in self._folders:
            names += [folder.images.name] if folder.images.name.endswith("-Image") else []
            names += ["ECSSD"] if folder.masks.name == _ECSSD_MASKS else []
        sets = {name.split("-")[0].lower(): name for name in _SETS}
        matches = (sets.get(re.split("[-_ .]", name.lower())[0]) for name in names)
        return next(filter(None, matches), None)

    @property
    def folders(self) -> int:
        """Count the folders of images: FSS-1000's classes, DUTS's parts, else 1."""
        return len(self._folders)

    def images(self) -> list[StaticImage]:
        """Return all images, ascending by path. Raises InputError as `check` does."""
        self.check()
        return self.pairs()

    def has(self, name: str) -> bool:
        """Return True if `leave_out` may name an image of the folder by that name."""
        return any(
            name in self.names_of(pair) for folder, _ in self._folders for pair in folder.pairs()
        )

    def pairs(self) -> list[StaticImage]:
        """Return all images, ascending by path, unchecked: masks may be missing."""
        return [pair for _, pairs in self._folders for pair in pairs]

    def lone_masks(self) -> list[Path]:
        """Return the masks without an image, which are never read."""
        paired = {pair.mask for folder, _ in self._folders for pair in folder.pairs()}
        masks = (mask for folder, _ in self._folders for mask in folder.mask_files().values())
        return [mask for mask in masks if mask not in paired]

    def empty_folders(self) -> list[str]:
        """Return a line of text for each folder without an image."""
        return [
            f"{folder.images}: no image in this folder ({', '.join(folder.suffixes)})"
            for folder, pairs in self._folders
            if not pairs
        ]

    def doubles(self) -> list[str]:
        """Return a line of text for each mask that two images would share."""
        images: dict[Path, list[str]] = {}
        for pair in self.pairs():
            images.setdefault(pair.mask, []).append(pair.image.name)
        return [
            f"{mask}: the mask of {len(names)} images, {' and '.join(names)}; keep one of them"
            for mask, names in images.items()
            if len(names) > 1
        ]

    def problems(self) -> list[str]:
        """Return the problems of the folder's files, a line each; empty if there is none.

        Looks at listings and headers; a file whose header is whole but whose content is corrupt is
        found when it is read.
        """
        pairs = self.pairs()
        found = [*self.empty_folders(), *self.doubles()]
        return found + [problem for pair in pairs for problem in image_files(pair).problems]

    def check(self) -> None:
        """Raise one InputError that names the folder's problems, all at once."""
        problems = self.problems()
        if problems:
            raise InputError(
                together(f"{self.root}: cannot be used", problems)
                + "; restore the files, or leave the images out: data.leave_out=[NAME, ...]"
            )

    def fingerprint(self) -> str:
        """Hash names and sizes of all images and masks: 32 hex digits."""
        digest = hashlib.blake2b(b"static", digest_size=16)
        for pair in self.pairs():
            for path in (pair.image, pair.mask):
                size = path.stat().st_size if path.is_file() else None
                digest.update(f"\n{path.relative_to(self.root).as_posix()} {size}".encode())
        return digest.hexdigest()


def _read_object(path: Path) -> NDArray[np.bool_]:
    try:
        with Image.open(path) as image:
            mode = image.mode
            coloured = mode in _COLOURS
            levels = np.array(image.convert("RGB") if coloured else image)
            levels = turn(levels, orientation_of(image))
    except (OSError, SyntaxError, ValueError) as error:  # Pillow's errors on a broken PNG chunk
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{path}: corrupt or missing mask ({reason})") from error
    if mode in ("P", "1"):
        return np.asarray(levels > 0)
    if mode != "L" and not coloured:
        raise InputError(
            f"{path}: mode {mode!r}; the mask of an image is black and white, grey, coloured or "
            "a palette, of 8 bits: save it as one of these"
        )
    strongest = levels.max(axis=2) if coloured else levels
    return np.asarray(strongest > (_MIDDLE if strongest.max(initial=0) > _MIDDLE else 0))


@dataclass(frozen=True)
class _Folder:
    """A folder of images with these suffixes, whose masks are masks/NAME.png."""

    images: Path
    masks: Path
    suffixes: tuple[str, ...]

    def pairs(self) -> list[StaticImage]:
        """Return the folder's images, ascending by path; masks may be missing."""
        images = sorted(p for p in visible(self.images) if p.suffix.lower() in self.suffixes)
        masks = self.mask_files()
        return [
            StaticImage(image, masks.get(image.stem, self.masks / f"{image.stem}.png"))
            for image in images
        ]

    def mask_files(self) -> dict[str, Path]:
        """Return the folder's masks by stem, ascending by path."""
        return {path.stem: path for path in sorted(visible(self.masks)) if is_mask(path)}


def _folders(root: Path) -> list[_Folder]:
    """Return the folders of images and masks by the first layout that fits `root`."""
    apart = [
        (images, images.with_name(images.name.removesuffix("-Image") + "-Mask"))
        for images in sorted(root.glob("*-Image"))
    ]
    apart += [(root / "images", root / masks) for masks in _MASK_FOLDERS]
    pairs = [pair for pair in apart if all(folder.is_dir() for folder in pair)]
    if pairs:
        masks_of = dict(reversed(pairs))  # of two mask folders the earlier in `apart` wins
        return [_Folder(*pair, IMAGE_SUFFIXES) for pair in sorted(masks_of.items())]
    whole = _Folder(root, root, _JPEG)
    if whole.pairs():
        return [whole]
    return [_Folder(folder, folder, _JPEG) for folder in _folders_of(root)]


def _folders_of(root: Path) -> list[Path]:
    return [root / name for name in folders_in(root)]
