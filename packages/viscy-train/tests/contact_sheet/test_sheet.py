"""A contact sheet is drawn once, from few pixels, is the same each time, and never fails because of pixels."""

import shutil
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from viscy_train.contact_sheet import fields as fields_module
from viscy_train.contact_sheet.canvas import Canvas, lines_of, width_of, wrapped
from viscy_train.contact_sheet.crop_pixels import CropPixels
from viscy_train.contact_sheet.drawing import FIELD, draw_sheet
from viscy_train.contact_sheet.fields import Fields, shown_size
from viscy_train.contact_sheet.make import make_sheet
from viscy_train.contact_sheet.selection import select
from viscy_train.contact_sheet.tiles import Drawn, Tiles
from viscy_train.errors import UserError
from viscy_train.loading.observed_positions import ObservedPositions
from viscy_train.report.palette import condition_colors


@pytest.fixture(scope="module")
def written(table, tmp_path_factory):
    """The file of a table, and its sheet."""
    source = tmp_path_factory.mktemp("sheet") / "anchors.parquet"
    table.write(source)
    return source, make_sheet(table, source, source.with_name("sheet.png"))


def test_a_sheet_is_one_picture_that_is_the_same_each_time(table, written):
    source, sheet = written
    assert sheet.is_new
    assert sheet.path.read_bytes() == sheet.png
    assert make_sheet(table, source, source.with_name("again.png")).png == sheet.png
    assert sheet.warnings == ()
    with Image.open(sheet.path) as image:
        assert image.width == 1286
        assert image.height < 2000


def test_a_sheet_is_drawn_again_only_if_its_table_has_changed(table, written):
    source, sheet = written
    found = make_sheet(table, source, sheet.path)
    assert not found.is_new
    assert found.png == sheet.png
    assert make_sheet(table, source, sheet.path, again=True).is_new
    other = replace(table, observations=table.observations.iloc[:-1])
    other.write(source.with_name("other.parquet"))
    path = source.with_name("copied.png")
    shutil.copyfile(sheet.path, path)
    assert make_sheet(other, source.with_name("other.parquet"), path).is_new


@pytest.mark.parametrize("kind", ["text", "picture"])
def test_another_file_is_not_replaced(table, written, tmp_path, kind):
    path = tmp_path / "sheet.png"
    if kind == "text":
        path.write_text("mine")
    else:
        Image.new("L", (3, 3)).save(path)
    before = path.read_bytes()
    with pytest.raises(UserError, match="is not a contact sheet of viscy-train"):
        make_sheet(table, written[0], path)
    assert path.read_bytes() == before


def read_fields(fields: Fields, frames: Any) -> list[Any]:
    """Read frames, all of which can be read."""
    read = list(fields.read(frames))
    assert not any(isinstance(one, UserError) for one in read)
    return read


def test_squares_of_a_field_are_where_its_crops_are_cut_out(noise):
    table, images = noise
    positions = ObservedPositions(table)
    frames = select(table, positions).frames
    crops = CropPixels(table, positions).read([frame.rows for _, frame in frames])
    for (index, frame), field, of_frame in zip(frames, read_fields(Fields(table, FIELD), frames), crops, strict=True):
        name = table.experiments[index].name
        assert (field.height, field.width, field.n_slices, field.slices) == (40, 48, 3, slice(1, 2))
        image = images[name, frame.position][frame.frame].astype(np.float32)
        center, spread = np.array(table.intensity[name], dtype=np.float32).T[..., None, None]
        for (top, left, side), crop in zip(field.squares.astype(int).tolist(), of_frame, strict=True):
            assert side == 8
            cut = image[:2, 1, top : top + side, left : left + side]
            np.testing.assert_array_equal(crop[:, 0], (cut - center) / spread)
        assert field.pixels.shape == (140, FIELD)
        shown = np.asarray(Image.fromarray(image[0, 1]).resize((FIELD, 140), Image.Resampling.BICUBIC), dtype=float)
        assert np.corrcoef(shown.ravel(), field.pixels.ravel())[0, 1] > 0.99


def test_an_outline_in_a_field_of_view_encloses_something_bright(written):
    """In the picture itself, for the first crop of the first field of view."""
    with Image.open(written[1].path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    red = np.argwhere((pixels == (255, 93, 93)).all(axis=2))
    in_fields = red[(red[:, 1] > 200) & (red[:, 1] < 200 + FIELD) & (red[:, 0] > 320) & (red[:, 0] < 320 + FIELD)]
    (top, left), (bottom, right) = in_fields.min(axis=0), in_fields.max(axis=0)
    assert bottom - top == right - left == round(16 * FIELD / 192) - 1
    gray = pixels[320 : 320 + FIELD, 200 : 200 + FIELD].max(axis=2)
    inside = pixels[top + 2 : bottom - 1, left + 2 : right - 1].max(axis=2)
    assert inside.mean() > gray.mean() + 20


def test_pixels_that_cannot_be_read_are_a_warning(table_of, tmp_path):
    table, _ = table_of()
    source = tmp_path / "anchors.parquet"
    source.write_bytes(b"any table")
    shutil.rmtree(table.experiments[1].plate)
    sheet = make_sheet(table, source, tmp_path / "sheet.png")
    (warning,) = sheet.warnings
    assert warning.startswith("the contact sheet lacks pixels of 4 of 8 frames, which cannot be read: ")
    assert warning.endswith("; restore them, or leave their fields of view out with `exclude`")
    assert make_sheet(table, source, tmp_path / "sheet.png").warnings == sheet.warnings


def test_few_bytes_are_decoded_however_large_the_images_are(noise, tmp_path, monkeypatch):
    table, _ = noise
    selection = select(table, ObservedPositions(table))
    fields = Fields(table, FIELD)
    assert all(one.pixels is not None for one in read_fields(fields, selection.frames))
    monkeypatch.setattr(fields_module, "_MOST_BYTES", 3 * 16 * 16 * 9 * 2)  # 9 chunks of 16 x 16 pixels each
    fields = Fields(table, FIELD)
    read = read_fields(fields, selection.frames)
    assert [one.pixels is not None for one in read] == [True] * 3 + [False] * 5
    assert fields.n_left_out == 5
    assert all(len(one.squares) for one in read)
    source = tmp_path / "anchors.parquet"
    source.write_bytes(b"any table")
    assert make_sheet(table, source, tmp_path / "sheet.png").warnings == ()


def test_the_outline_of_a_crop_in_a_large_field_of_view_is_at_least_a_pixel():
    canvas = Canvas(5, 5)
    canvas.frame((2, 1, 1, 0), "#FF0000")
    assert canvas.finished().convert("RGB").getpixel((2, 1)) == (255, 0, 0)


def test_crops_that_are_saturated_have_a_histogram(noise):
    table, _ = noise
    positions = ObservedPositions(table)
    index, frame = select(table, positions).frames[0]
    channels = len(table.experiments[index].channels)
    crops = np.full((len(frame.rows), channels, 1, 8, 8), 65_000, dtype=np.float32)
    drawn = Drawn(experiment=index, frame=frame, field=UserError("unread"), crops=crops)
    assert Tiles(table, positions, [drawn]).histogram(index, 0).tolist() == [1.0] + [0.0] * 47


def test_each_crop_of_one_channel_names_its_channel(noise, tmp_path):
    table, _ = noise
    names = table.experiments[0].channel_names
    parts = [table.observations.assign(channel=name, marker=name) for name in names]
    observations = pd.concat(parts, ignore_index=True).astype({"channel": "category", "marker": "category"})
    observations = observations.sort_values(["experiment", "position", "channel", "track_id", "t"], ignore_index=True)
    one = replace(table, observations=observations, channels_mode="one")
    selection = select(one, ObservedPositions(one))
    for _, frame in selection.frames:
        assert observations["channel"].iloc[frame.rows].tolist() == names * 4
        assert len(frame.cells) == 4
    assert selection.experiments[0].conditions[0].counts.tolist() == [4.0] * 6
    source = tmp_path / "anchors.parquet"
    source.write_bytes(b"any table")
    assert make_sheet(one, source, tmp_path / "sheet.png").warnings == ()


def test_conditions_have_the_order_and_the_colors_of_the_report(table, written):
    colors = list(condition_colors(table.observations).values())
    with Image.open(written[1].path) as image:
        column = np.asarray(image.convert("RGB"))[:, 24 + 5]
    shown = [f"#{r:02X}{g:02X}{b:02X}" for r, g, b in column.tolist() if len({r, g, b}) > 1]
    assert list(dict.fromkeys(shown)) == colors


@pytest.mark.parametrize(("n_experiments", "n_conditions"), [(1, 1), (1, 1000), (40, 30)])
def test_a_sheet_of_any_table_is_of_a_bounded_height(many_of, n_experiments, n_conditions):
    table = many_of(n_experiments, n_conditions)
    positions = ObservedPositions(table)
    selection = select(table, positions)
    lost = UserError("lost")
    drawn = [Drawn(experiment=index, frame=frame, field=lost, crops=lost) for index, frame in selection.frames]
    assert draw_sheet(table, positions, selection, drawn).height <= 8300


def test_names_are_in_as_many_lines_as_there_are_and_the_rest_is_counted():
    names = [f"compound {number}" for number in range(72)]
    lines = wrapped(names, 500, 2)
    assert len(lines) == 2
    shown = sum(line.count("compound") for line in lines)
    assert lines[-1].endswith(f" and {72 - shown} more")
    assert all(width_of(line) <= 500 for line in lines)
    assert wrapped(names[:2], 500, 2) == ["compound 0; compound 1"]
    assert lines_of("a b", 500, 2) == ["a b"]
    long = lines_of("some very long name of a condition with a dose", 100, 2)
    assert len(long) == 2
    assert long[-1].endswith("…")


@pytest.mark.parametrize(("shape", "size"), [((200, 100), (168, 84)), ((100, 200), (84, 168)), ((1, 900), (1, 168))])
def test_a_field_keeps_its_proportions(shape, size):
    assert shown_size(shape, 168) == size
