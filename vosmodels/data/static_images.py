"""A folder of still images, each with the mask of one object, in the layouts of their zips."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vosmodels.data.images import IMAGE_SUFFIXES, read_frame
from vosmodels.data.listing import PairProblem, folders_in, listing, pair_problem, together
from vosmodels.errors import InputError
from vosmodels.types import U8

_ECSSD_MASKS = "ground_truth_mask"  # its own name
_MASK_FOLDERS = ("masks", _ECSSD_MASKS)  # beside `images`
LAYOUTS = (
    "images/NAME.jpg with masks/NAME.png, SET-Image/NAME.jpg with SET-Mask/NAME.png (DUTS), "
    "NAME.jpg with NAME.png beside it, or CLASS/NAME.jpg with CLASS/NAME.png (FSS-1000)"
)
_COLOURS = ("RGB", "RGBA", "LA")
MASK_MODES = ("P", "1", "L", *_COLOURS)  # Pillow's modes that a mask may have
_SETS = ("BIG", "DUTS", "ECSSD", "FSS-1000", "HRSOD")
_MIDDLE = 127  # levels above it are the object
_JPEG = (".jpg", ".jpeg")  # of images whose masks lie beside them


@dataclass(frozen=True)
class StaticImage:
    """One image and the mask of its object."""

    image: Path
    mask: Path

    def frame(self) -> U8:
        """(H, W, 3) uint8 RGB. Raises InputError on a corrupt file."""
        return read_frame(self.image)

    def object_mask(self) -> NDArray[np.bool_]:
        """(H, W): where the object is; nowhere in some images of the real sets.

        Any index but 0 of a palette is the object; of grey or colour (its strongest channel) what
        is brighter than the middle, as sets of this kind have smoothed masks; a mask with nothing
        brighter holds ids, and any but 0 is the object. Raises InputError on a corrupt file.
        """
        return _read_object(self.mask)

    def problem(self, pair: PairProblem = pair_problem) -> str | None:
        """That the mask is missing, or what `pair` says of the two files."""
        if not self.mask.is_file():
            return f"{self.image}: image without mask; wanted {self.mask}"
        return pair(self.image, self.mask)


class StaticImages:
    """The images of one folder: `images` + `masks`, ECSSD, DUTS, FSS-1000, or as STCN packs them.

    SET-Image/NAME.jpg has its mask in SET-Mask/NAME.png, as DUTS-TR unpacks; STCN's packages of
    DUTS, ECSSD, BIG and HRSOD (BIG_small, HRSOD_small) hold NAME.jpg and NAME.png in one folder,
    its fss and FSS-1000 itself one folder for each class. Masks without an image are left alone.

    Raises InputError where `root` is no such folder: what was looked for and what is there; and
    where it holds several, by name.
    """

    def __init__(self, root: Path) -> None:
        if not root.is_dir():
            raise InputError(f"{root}: no such folder; give a folder of images and masks")
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
        self._folders = [(folder, folder.pairs()) for folder in _folders(root)]

    @staticmethod
    def recognises(root: Path) -> bool:
        """Whether any image of `root` has a mask where one of the layouts has it."""
        return root.is_dir() and any(
            pair.mask.is_file() for folder in _folders(root) for pair in folder.pairs()
        )

    @staticmethod
    def sets_in(root: Path) -> list[Path]:
        """The folders in `root` where these are sets of their own, as STCN's `static` unpacks.

        One of them then has folders of its own; if all hold nothing but images beside masks, they
        are the classes of one set. Empty where `root` is one set, or none.
        """
        inside = _folders_of(root)
        if [folder.images for folder in _folders(root)] != inside:
            return []
        deeper = (f for f in inside if [folder.images for folder in _folders(f)] != [f])
        return inside if any(map(StaticImages.recognises, deeper)) else []

    @property
    def published(self) -> str | None:
        """Which of the published sets this is, where a name of a folder tells it."""
        names = [self.root.resolve().name]
        for folder, _ in self._folders:
            names += [folder.images.name] if folder.images.name.endswith("-Image") else []
            names += ["ECSSD"] if folder.masks.name == _ECSSD_MASKS else []
        known = {name.split("-")[0].lower(): name for name in _SETS}
        found = (known.get(re.split("[-_ .]", name.lower())[0]) for name in names)
        return next(filter(None, found), None)

    @property
    def folders(self) -> int:
        """How many folders hold the images: FSS-1000's classes, DUTS's parts, else one."""
        return len(self._folders)

    def images(self) -> list[StaticImage]:
        """Every image, ascending by path, checked first as `check` does."""
        self.check()
        return self.pairs()

    def pairs(self) -> list[StaticImage]:
        """As `images`, unchecked: masks may be missing."""
        return [pair for _, pairs in self._folders for pair in pairs]

    def lone_masks(self) -> list[Path]:
        """Masks without an image, which nothing reads."""
        wanted = {pair.mask for pair in self.pairs()}
        there = (mask for folder, _ in self._folders for mask in sorted(folder.masks.glob("*.png")))
        return [mask for mask in there if mask not in wanted]

    def empty_folders(self) -> list[str]:
        """A line for each folder without an image."""
        return [
            f"{folder.images}: no image in this folder ({', '.join(folder.suffixes)})"
            for folder, pairs in self._folders
            if not pairs
        ]

    def problems(self) -> list[str]:
        """What is wrong with the folder's files, a line each; empty when nothing is.

        Listings and picture headers only; a file whose header is whole and whose content is
        corrupt is found when it is read.
        """
        return [*self.empty_folders(), *filter(None, (pair.problem() for pair in self.pairs()))]

    def check(self) -> None:
        """Raise one InputError that names the folder's problems, all at once."""
        problems = self.problems()
        if problems:
            raise InputError(
                together(f"{self.root}: cannot be used", problems)
                + "; restore the files, or take the images out of the folder"
            )

    def fingerprint(self) -> str:
        """32 hex digits that change when an image or mask comes, goes or changes its size."""
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
    except (OSError, SyntaxError) as error:  # Pillow raises SyntaxError on a broken PNG chunk
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
    """Images of these suffixes, whose masks are NAME.png in `masks`."""

    images: Path
    masks: Path
    suffixes: tuple[str, ...]

    def pairs(self) -> list[StaticImage]:
        found = sorted(p for p in self.images.iterdir() if p.suffix.lower() in self.suffixes)
        return [StaticImage(image, self.masks / f"{image.stem}.png") for image in found]


def _folders(root: Path) -> list[_Folder]:
    """Where images and their masks lie, by the first layout that fits."""
    apart = [
        (images, images.with_name(images.name.removesuffix("-Image") + "-Mask"))
        for images in sorted(root.glob("*-Image"))
    ]
    apart += [(root / "images", root / masks) for masks in _MASK_FOLDERS]
    there = [pair for pair in apart if all(folder.is_dir() for folder in pair)]
    if there:
        masks_of = dict(reversed(there))  # the earlier of two counts
        return [_Folder(*pair, IMAGE_SUFFIXES) for pair in sorted(masks_of.items())]
    whole = _Folder(root, root, _JPEG)
    if whole.pairs():
        return [whole]
    return [_Folder(folder, folder, _JPEG) for folder in _folders_of(root)]


def _folders_of(root: Path) -> list[Path]:
    return [root / name for name in folders_in(root) if not name.startswith(".")]
