import pytest

from viscy_train.errors import UserError
from viscy_train.plates.ngff_scale import PhysicalScale, physical_scale
from viscy_train.plates.plate import open_plate, write_plate

from .odd_plates import noise


def multiscale(scale, *, outer=None, unit="micrometer", time_unit="minute", axes="tczyx", **transformations):
    """Return the metadata of an image whose axes of space, and of time, have a unit."""
    units = {"t": time_unit, "c": None} | dict.fromkeys("zyx", unit)
    metadata = {
        "axes": [{"name": name} | ({"unit": units[name]} if units[name] else {}) for name in axes],
        "datasets": [{"path": "0", "coordinateTransformations": [{"type": "scale", "scale": scale}]}],
    }
    if outer is not None:
        metadata["coordinateTransformations"] = [{"type": "scale", "scale": outer}]
    return metadata | transformations


def test_the_scales_of_the_dataset_and_of_all_datasets_are_multiplied():
    scale = physical_scale(multiscale([1, 1, 2.0, 0.5, 0.5], outer=[15, 1, 1, 1.3, 1.3]))
    assert scale == PhysicalScale(x=0.65, y=0.65, z=2.0, t=15)


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("nanometer", 0.65), ("nm", 0.65), ("micrometer", 650), ("\u00b5m", 650), ("\u03bcm", 650), ("millimeter", 650e3)],
)
def test_units_of_length_are_converted_to_micrometers(unit, expected):
    scale = physical_scale(multiscale([1, 1, 1, 650, 650], unit=unit))
    assert scale.side("an image") == pytest.approx(expected)


@pytest.mark.parametrize(("unit", "expected"), [("second", 1.5), ("millisecond", 0.0015), ("hour", 5400)])
def test_units_of_time_are_converted_to_minutes(unit, expected):
    assert physical_scale(multiscale([90, 1, 1, 0.1, 0.1], time_unit=unit)).t == pytest.approx(expected)


@pytest.mark.parametrize("unit", [None, "pixel", "", "parsec"])
def test_without_a_unit_of_length_the_scale_is_unknown(unit):
    assert physical_scale(multiscale([1, 1, 2.0, 0.5, 0.5], unit=unit)) == PhysicalScale()


@pytest.mark.parametrize(
    "transformations",
    [None, [], {}, [{"type": "identity"}], [{"type": "scale", "scale": [1, 1]}], [{"type": "scale", "path": "scale"}]],
)
def test_transformations_that_give_no_scale_are_ignored(transformations):
    metadata = multiscale([1, 1, 1, 1, 1])
    metadata["datasets"] = [{"path": "0", "coordinateTransformations": transformations}]
    assert physical_scale(metadata) == PhysicalScale()


@pytest.mark.parametrize("scale", [[1, 1, 0, 0, 0], [1, 1, -1, -1, -1], [1, 1, 1e400, 1e400, 1e400], [True] * 5])
def test_a_scale_that_cannot_be_is_ignored(scale):
    assert physical_scale(multiscale(scale)) == PhysicalScale()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"unit": "parsec"}, "its unit 'parsec' is not a length"),
        ({"unit": None}, "it has no unit"),
        ({"scale": [1, 1, 1, -0.5, 0.5]}, "it is -0.5, not a number above 0"),
        ({"scale": [1, 1, 1, 1e306, 0.5], "unit": "meter"}, "it is 1e+306 meter, too large a number"),
    ],
)
def test_it_is_known_why_a_scale_is_ignored(options, reason):
    assert physical_scale(multiscale(**({"scale": [1, 1, 1, 0.5, 0.5]} | options))).ignored["y"] == reason


def test_no_scale_is_ignored_where_there_is_none():
    assert physical_scale(multiscale([1, 1, 1, 1, 1], unit=None)).ignored == {}


def test_a_scale_of_1_in_all_directions_is_unknown_because_writers_use_it_as_a_default():
    assert physical_scale(multiscale([1, 1, 1, 1, 1])) == PhysicalScale()
    assert physical_scale(multiscale([1, 1, 1, 0.5, 0.5])).z == 1.0
    assert physical_scale(multiscale([1, 1, 2, 1, 1])).side("an image") == 1.0


def test_axes_are_found_by_their_names():
    assert physical_scale(multiscale([0.3, 0.4, 0.5], axes="zyx")) == PhysicalScale(z=0.3, y=0.4, x=0.5)
    assert physical_scale(multiscale([0.4, 0.4], axes="yx")) == PhysicalScale(y=0.4, x=0.4)


def test_pixels_that_are_not_square_are_refused_where_their_side_is_needed():
    assert PhysicalScale(y=0.65, x=0.6501).side("an image") == 0.65
    with pytest.raises(UserError, match=r"must be square, got 0\.5 x 0\.7 .* an image; .* micrometers_per_pixel"):
        PhysicalScale(y=0.5, x=0.7).side("an image")


def test_the_scale_of_a_plate_is_that_which_was_written(tmp_path):
    scale = {"micrometers_per_pixel": 0.3, "micrometers_per_slice": 2}
    write_plate(tmp_path / "p.zarr", ["A", "B"], {"A/1/0": noise(0)}, **scale)
    image = open_plate(tmp_path / "p.zarr").image("A/1/0")
    assert (image.micrometers_per_pixel, image.micrometers_per_slice) == (0.3, 2.0)
    write_plate(tmp_path / "q.zarr", ["A", "B"], {"A/1/0": noise(0)})
    image = open_plate(tmp_path / "q.zarr").image("A/1/0")
    assert (image.micrometers_per_pixel, image.micrometers_per_slice) == (None, None)
