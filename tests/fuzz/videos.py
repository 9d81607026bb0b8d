"""Make films and folders of pictures, sound ones and damaged ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
from PIL import Image

from tests.fuzz import pictures
from tests.fuzz.draw import Draw
from tests.fuzz.runner import Case

CODECS = {".mp4": "mp4v", ".avi": "MJPG", ".mov": "mp4v"}
FILMS = (".mp4", ".avi", ".mov", ".mkv", ".webm", ".m4v")


@dataclass
class Video:
    """A film or a folder of pictures, with the stems of the answers it asks for.

    wrong: why no answer for it can be whole; name: as written on the command line.
    """

    path: Path
    size: tuple[int, int]
    stems: set[str]
    wrong: list[str] = field(default_factory=list)
    sound: bool = True


def count_frames(film: Path) -> int:
    """Decode a film to its end."""
    reader = cv2.VideoCapture(str(film))
    count = 0
    while reader.read()[0]:
        count += 1
    reader.release()
    return count


def write_film(draw: Draw, path: Path, length: int, rate: float) -> tuple[tuple[int, int], int]:
    """Write a film; return its size (H, W) and its frame count, as read back."""
    height, width = draw.one(pictures.SIZES)
    plain = path.with_name(f"plain{path.suffix}")  # a name that the writer takes for a file
    code = cv2.VideoWriter.fourcc(*CODECS[path.suffix])
    writer = cv2.VideoWriter(str(plain), code, rate, (width, height))
    for step in range(length):
        mask = pictures.ids(height, width, step % 8)
        writer.write(pictures.frame(draw, mask)[..., ::-1])
    writer.release()
    reader = cv2.VideoCapture(str(plain))
    read, frame = reader.read()
    reader.release()
    assert read, f"a film of {length} frames of {width}x{height} could not be written"
    count = count_frames(plain)
    plain.rename(path)
    return (frame.shape[0], frame.shape[1]), count


def _shorter(draw: Draw, video: Video) -> None:
    data = video.path.read_bytes()
    video.path.write_bytes(data[: len(data) * draw.whole(20, 90) // 100])
    video.wrong.append("the film is cut")


def _holed(draw: Draw, video: Video) -> None:
    """Write zeros over a tenth of the file, at half of it."""
    data = bytearray(video.path.read_bytes())
    start, length = len(data) // 2, max(1, len(data) // 10)
    data[start : start + length] = bytes(length)
    video.path.write_bytes(bytes(data))
    video.sound = False


def _noise(draw: Draw, video: Video) -> None:
    video.path.write_bytes(draw.rng.bytes(5000))
    video.wrong.append("the film holds noise")


def _no_bytes(draw: Draw, video: Video) -> None:
    video.path.write_bytes(b"")
    video.wrong.append("the film is empty")


def _other_name(draw: Draw, video: Video) -> None:
    other = video.path.with_suffix(draw.one([".avi", ".mp4", ".MP4", ".mkv", ".txt", ""]))
    video.path.rename(other)
    video.path = other
    video.sound = other.suffix.lower() in FILMS


def _absent(draw: Draw, video: Video) -> None:
    video.path.unlink()
    video.wrong.append("the film is not there")


def _linked(draw: Draw, video: Video) -> None:
    link = video.path.with_name(f"link{video.path.suffix}")
    link.symlink_to(video.path)
    video.path = link


FILM_CHANGES: Mapping[str, Callable[[Draw, Video], None]] = {
    "cut film": _shorter,
    "cut film again": _shorter,
    "zeros inside": _holed,
    "noise": _noise,
    "zero bytes": _no_bytes,
    "another suffix": _other_name,
    "no film": _absent,
    "a link to the film": _linked,
}


def picture_folder(draw: Draw, made: Case) -> Video:
    folder = made.folder / draw.one(["frames", "my frames #1", "ключ", "frames.mp4"])
    folder.mkdir()
    height, width = draw.one(pictures.SIZES)
    length, suffix = draw.one([0, 1, 3, 5, 8]), draw.one([".jpg", ".png", ".JPG", ".jpeg"])
    first, digits = draw.one([(0, 5), (1, 5), (7, 1), (98, 2), (0, 8)])
    video = Video(folder, (height, width), set())
    for step in range(length):
        stem = f"{first + step:0{digits}d}"
        picture = Image.fromarray(pictures.frame(draw, pictures.ids(height, width, step)))
        picture.save(folder / f"{stem}{suffix}")
        video.stems.add(stem)
    made.changes.append(f"{folder.name} of {length} pictures {suffix} from {first:0{digits}d}")
    if not length:
        video.wrong.append("there is no picture")
    elif draw.chance(0.6):
        how = draw.one(sorted(PICTURE_CHANGES))
        made.changes.append(how)
        PICTURE_CHANGES[how](draw, video)
    return video


def _drawn(draw: Draw, video: Video) -> Path:
    return draw.one([path for path in sorted(video.path.iterdir()) if path.stem in video.stems])


def _broken(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    pictures.DAMAGED[draw.one(sorted(pictures.DAMAGED))](path, draw)
    video.wrong.append(f"the picture {path.name} is damaged")


def _odd_picture(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    if path.suffix != ".png":
        pictures.ODD[draw.one(sorted(pictures.ODD))](path, draw)
        video.sound = False


def _larger(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    with Image.open(path) as picture:
        picture.resize((99, 80)).save(path)
    video.wrong.append(f"the picture {path.name} has another size")


def _twin(draw: Draw, video: Video) -> None:
    path = _drawn(draw, video)
    other = path.with_suffix(".jpeg" if path.suffix != ".jpeg" else ".jpg")
    other.write_bytes(path.read_bytes())
    video.wrong.append(f"there are two pictures {path.stem}")


def _first_mask_inside(draw: Draw, video: Video) -> None:
    path = min(path for path in video.path.iterdir() if path.stem in video.stems)
    pictures.SAVED["palette"](path.with_suffix(".png"), pictures.ids(*video.size))
    if path.suffix == ".png":
        video.sound = False  # a frame was replaced: nobody can tell
    else:
        video.wrong.append("a mask lies among the pictures under a frame's name")


def _hidden(draw: Draw, video: Video) -> None:
    (video.path / "._00001.jpg").write_bytes(b"\0\5\26\7" + b"\0" * 60)
    (video.path / ".DS_Store").write_bytes(b"\0" * 9)
    (video.path / ".ipynb_checkpoints").mkdir()
    (video.path / "Thumbs.db").write_bytes(b"\0" * 9)


PICTURE_CHANGES: Mapping[str, Callable[[Draw, Video], None]] = {
    "a damaged picture": _broken,
    "an odd picture": _odd_picture,
    "a picture of another size": _larger,
    "two pictures of a stem": _twin,
    "the first mask inside": _first_mask_inside,
    "hidden files": _hidden,
}


def film(draw: Draw, made: Case) -> Video:
    suffix = draw.one([".mp4", ".mp4", ".avi", ".mov"])
    name = draw.one(["clip", "clip", "my clip #1", "ключ 東京", "a:b", "x=y&z?", "50%d", "-clip"])
    length, rates = draw.one([1, 2, 5, 8, 12]), [24.0, 25.0, 0.5, 29.97, 120.0, 1000.0]
    if suffix == ".avi":
        rates += [119.997, 119.997]  # mp4 cannot hold that rate, and no answer may fail by it
    rate = draw.one(rates)
    path = made.folder / f"{name}{suffix}"
    size, count = write_film(draw, path, length, rate)
    video = Video(path, size, {f"{number:05d}" for number in range(count)})
    made.changes.append(f"{path.name} of {count} frames, {rate} a second")
    if draw.chance(0.45):
        how = draw.one(sorted(FILM_CHANGES))
        made.changes.append(how)
        FILM_CHANGES[how](draw, video)
    return video
