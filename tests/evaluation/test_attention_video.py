"""Test the picture of attention in a scored video."""

import numpy as np
import pytest
from PIL import Image

from tests.conftest import FRAMES, HEIGHT, WIDTH
from tests.model_tools import any_filled
from vosmodels.data.davis import DavisDataset
from vosmodels.evaluation import attention_pictures, attention_video
from vosmodels.evaluation.attention_video import draw_attention


@pytest.fixture
def video(davis_root):
    return DavisDataset(davis_root).sequences("val")[0]


def test_the_picture_is_of_the_middle_frame_by_its_number_in_the_video(
    video, tmp_path, monkeypatch
):
    drawn = []

    def panels(look, frame, seen):
        drawn.append((look, frame, seen))
        return attention_pictures.panels(look, frame, seen)

    monkeypatch.setattr(attention_video, "panels", panels)
    model = any_filled("aott", mem_every=1)
    assert draw_attention(model, video, tmp_path / "a.png", height=None, stride=2)
    assert (FRAMES, len(video)) == (6, 6)  # 0, 2 and 4 are visited
    (own, frame, seen), (long, *_) = drawn
    assert (own.kind, own.frame, own.held) == ("self", 2, (2,))
    assert (long.kind, long.frame, long.held) == ("long", 2, (0,))
    np.testing.assert_array_equal(frame, video.frame(2))
    np.testing.assert_array_equal(seen, video.frame(2))
    np.testing.assert_array_equal(drawn[1][2], video.frame(0))
    with Image.open(tmp_path / "a.png") as image:
        assert image.size == (4 * WIDTH + 3 * 4, 2 * (HEIGHT + 18) + 4)


def test_a_network_without_attention_or_a_video_of_one_frame_has_no_picture(video, tmp_path):
    path = tmp_path / "a.png"
    plain = any_filled("mobilevos_mobilenetv2_noaspp")
    assert not draw_attention(plain, video, path, height=None, stride=1)
    assert not draw_attention(any_filled("aott"), video, path, height=None, stride=FRAMES)
    assert not path.exists()
