"""Files of trackers: the same cells as each program writes them."""

import h5py
import numpy as np
import pandas as pd
import tifffile

from viscy_train.plates.zarr_codecs import zarr_codecs

SHAPE = (4, 1, 1, 48, 64)
"""Shape of the image."""
MICROMETERS = 0.5
"""Size of its pixels."""
ROWS = [
    # Cell 1 divides into 2 and 3; cell 4 is not seen in frame 2.
    (1, 0, 10, 20, -1),
    (1, 1, 11, 21, -1),
    (2, 2, 8, 24, 1),
    (2, 3, 7, 25, 1),
    (3, 2, 14, 18, 1),
    (3, 3, 15, 17, 1),
    (4, 0, 40, 50, -1),
    (4, 1, 39, 51, -1),
    (4, 3, 37, 53, -1),
]
"""Track, frame, y, x and mother of each cell."""
CELLS = pd.DataFrame(ROWS, columns=["track_id", "t", "y", "x", "parent_track_id"])
EDGES = [(0, 1), (1, 2), (1, 4), (2, 3), (4, 5), (6, 7), (7, 8)]
"""Links between rows of `CELLS`."""
SPOT = 100
"""Name of the first cell in formats that name each."""


def canonical(tracks):
    """Return tracks that are numbered by where they begin, so that other numbers make no difference."""
    first = tracks.sort_values("t").drop_duplicates("track_id").sort_values(["t", "y", "x"])
    number = dict(zip(first["track_id"], range(len(first)), strict=True)) | {-1: -1}
    named = tracks.assign(
        track_id=tracks["track_id"].map(number), parent_track_id=tracks["parent_track_id"].map(number)
    )
    return named.sort_values(["track_id", "t"], ignore_index=True).astype({"y": float, "x": float})


def write_table(directory):
    CELLS.to_csv(directory / "0.csv", index=False)


def write_ultrack(directory):
    table = CELLS.assign(z=0.0, id=range(len(CELLS)), parent_id=-1)
    columns = ["track_id", "t", "z", "y", "x", "id", "parent_track_id", "parent_id"]
    table[columns].to_csv(directory / "tracks.csv", index=False)


def write_btrack_csv(directory):
    """Separated by spaces, with guesses of where a cell is that was not seen."""
    guess = pd.DataFrame([(4, 2, 38, 52, -1)], columns=CELLS.columns)
    table = pd.concat([CELLS.assign(dummy=False), guess.assign(dummy=True)]).rename(
        columns={"track_id": "ID", "parent_track_id": "parent"}
    )
    table["parent"] = table["parent"].where(table["parent"] > 0, table["ID"])
    table = table.assign(z=0.0, root=1, state=5, generation=0)
    columns = ["ID", "t", "x", "y", "z", "parent", "root", "state", "generation", "dummy"]
    table[columns].to_csv(directory / "tracks.csv", index=False, sep=" ")


def write_btrack_hdf5(directory):
    """Only large objects were tracked, and object 0 is small; cell 4 has a guess in frame 2."""
    coordinates = np.column_stack([CELLS["t"], CELLS["x"], CELLS["y"], np.zeros((len(CELLS), 2))])
    lengths = {1: 2, 2: 2, 3: 2, 4: 4}
    ends = np.cumsum(list(lengths.values()))
    with h5py.File(directory / "tracks.h5", "w") as file:
        file["objects/obj_type_1/coords"] = np.vstack([[[0, 1, 1, 0, 0]], coordinates]).astype("float32")
        file["objects/obj_type_1/properties/area"] = np.array([5.0] + [50.0] * len(CELLS))
        file["tracks/obj_type_1/tracks"] = np.array([0, 1, 2, 3, 4, 5, 6, 7, -1, 8], dtype="int32")
        file["tracks/obj_type_1/map"] = np.column_stack([ends - list(lengths.values()), ends]).astype("uint32")
        file["tracks/obj_type_1/dummies"] = np.array([[2, 52, 38, 0, 1]], dtype="float32")
        table = [(1, 0, 1, 1, 1, 0), (2, 2, 3, 1, 1, 1), (3, 2, 3, 1, 1, 1), (4, 0, 3, 4, 4, 0)]
        file["tracks/obj_type_1/LBEPR"] = np.array(table, dtype="int32")
        file["tracks/obj_type_1"].attrs["f_expr"] = "area>10"


def write_laptrack(directory):
    table = CELLS.rename(columns={"t": "frame"}).drop(columns="parent_track_id").assign(tree_id=[0] * 6 + [1] * 3)
    table[["frame", "y", "x", "tree_id", "track_id"]].to_csv(directory / "tracks.csv")
    pd.DataFrame({"parent_track_id": [1, 1], "child_track_id": [2, 3]}).to_csv(directory / "splits.csv")


def write_biotracks(directory):
    """A data package for cell migration: a link lists the objects of a chain, beginning with the mother's last one."""
    objects = CELLS.assign(cmso_object_id=range(len(CELLS))).rename(
        columns={"t": "cmso_frame_id", "y": "cmso_y_coord", "x": "cmso_x_coord"}
    )
    objects.drop(columns=["track_id", "parent_track_id"]).to_csv(directory / "objects.csv", index=False)
    chains = [(0, [0, 1]), (1, [1, 2, 3]), (2, [1, 4, 5]), (3, [6, 7, 8])]
    links = [(row, link) for link, rows in chains for row in rows]
    pd.DataFrame(links, columns=["cmso_object_id", "cmso_link_id"]).to_csv(directory / "links.csv", index=False)
    (directory / "tracks.csv").write_text("cmso_track_id,cmso_link_id\n0,0\n0,1\n0,2\n1,3\n")


def spots():
    tree = CELLS["track_id"].where(CELLS["track_id"] == 4, 1)
    return pd.DataFrame(
        {
            "LABEL": [f"ID{SPOT + row}" for row in range(len(CELLS))],
            "ID": np.arange(len(CELLS)) + SPOT,
            "TRACK_ID": tree,
            "POSITION_X": CELLS["x"] * MICROMETERS,
            "POSITION_Y": CELLS["y"] * MICROMETERS,
            "POSITION_T": CELLS["t"] * 600.0,
            "FRAME": CELLS["t"],
        }
    )


def write_trackmate_csv(directory, unit="\N{MICRO SIGN}m", encoding="latin-1", links=True):
    """Four header rows; one spot is in no track."""
    table = spots()
    single = ["ID99", "99", "", "1.0", "1.0", "0.0", "0"]
    units = ["", "", "", f"({unit})", f"({unit})", "(sec)", ""]
    header = [list(table), ["Label", "Spot ID", "Track ID", "X", "Y", "T", "Frame"]]
    header += [["Label", "Spot ID", "Track ID", "X", "Y", "T", "Frame"], units]
    rows = [*header, single, *table.astype(str).to_numpy().tolist()]
    text = "\n".join(",".join(row) for row in rows) + "\n"
    (directory / "export-spots.csv").write_text(text, encoding=encoding)
    if links:
        header = ["LABEL,TRACK_ID,SPOT_SOURCE_ID,SPOT_TARGET_ID", "Label,Track ID,Source,Target", ",,,", ",,,"]
        rows = [f"edge,1,{SPOT + one},{SPOT + other}" for one, other in EDGES]
        (directory / "export-edges.csv").write_text("\n".join([*header, *rows]) + "\n")


def write_trackmate_xml(
    directory, unit="micron", filtered='<TrackID TRACK_ID="1"/><TrackID TRACK_ID="4"/>', head="", without="", size=""
):
    """Track 9, of two more spots, does not pass the filters; one link is written backwards."""
    table = spots()
    for spot in (98, 99):
        table.loc[len(table)] = [f"ID{spot}", spot, 9, 1.0, 1.0, 0.0, spot - 98]
    keys = ["ID", "POSITION_X", "POSITION_Y", "POSITION_T", "FRAME"]
    frames = dict.fromkeys(sorted(table["FRAME"]), "")
    for row in table[keys].astype(object).to_dict("records"):
        attributes = " ".join(f'{key}="{row[key]}"' for key in keys if key != without)
        frames[row["FRAME"]] += f'<Spot {attributes} POSITION_Z="0.0" VISIBILITY="1"/>'
    spot_elements = [f'<SpotsInFrame frame="{frame}">{spots}</SpotsInFrame>' for frame, spots in frames.items()]
    links = [(SPOT + one, SPOT + other) for one, other in EDGES]
    links[0] = links[0][::-1]
    edges = [f'<Edge SPOT_SOURCE_ID="{one}" SPOT_TARGET_ID="{other}"/>' for one, other in links]
    tracks = [(1, edges[:5]), (4, edges[5:]), (9, ['<Edge SPOT_SOURCE_ID="98" SPOT_TARGET_ID="99"/>'])]
    all_tracks = "".join(f'<Track TRACK_ID="{number}" name="t">{"".join(some)}</Track>' for number, some in tracks)
    (directory / "movie.xml").write_text(
        f'<?xml version="1.0" encoding="UTF-8"?>\n{head}<TrackMate version="7.11.1"><Log>a &lt; b</Log>'
        f'<Model spatialunits="{unit}" timeunits="sec"><AllSpots nspots="{len(table)}">'
        f"{''.join(spot_elements)}</AllSpots><AllTracks>{all_tracks}</AllTracks>"
        f"<FilteredTracks>{filtered}</FilteredTracks></Model>"
        f'<Settings><ImageData filename="movie.tif" {size} pixelwidth="{MICROMETERS}" pixelheight="{MICROMETERS}" '
        f'voxeldepth="1.0" timeinterval="600.0"/></Settings></TrackMate>\n'
    )


def write_particles(directory):
    """The smaller file to which TrackMate exports tracks, which has no divisions."""
    tracks = [
        "".join(f'<detection t="{t}" x="{x}" y="{y}" z="0.0"/>' for track, t, y, x, _ in ROWS if track == number)
        for number in (1, 2, 3, 4)
    ]
    particles = "".join(f'<particle nSpots="2">{track}</particle>' for track in tracks)
    (directory / "movie_Tracks.xml").write_text(
        f'<?xml version="1.0"?><Tracks nTracks="4" spaceUnits="pixel" frameInterval="1.0" from="TrackMate v7">'
        f"{particles}</Tracks>"
    )


def napari_array(z=False):
    """As trackastra draws divisions: a daughter begins at the last point of her mother."""
    columns = ["track_id", "t", *(["z"] if z else []), "y", "x"]
    shared = CELLS.iloc[[1, 1]].assign(track_id=[2, 3])
    table = pd.concat([CELLS, shared]).assign(z=0.0).sort_values(["track_id", "t"])
    return table[columns].to_numpy(dtype=float)


def write_napari_csv(directory):
    pd.DataFrame(napari_array(), columns=["ID", "T", "Y", "X"]).to_csv(directory / "tracks.csv", index=False)


def write_napari_csv_3d(directory):
    pd.DataFrame(napari_array(z=True), columns=["ID", "T", "Z", "Y", "X"]).to_csv(directory / "0.csv", index=False)


def write_napari_text(directory):
    np.savetxt(directory / "tracks.csv", napari_array(z=True))


def write_napari_npy(directory):
    np.save(directory / "tracks.npy", napari_array())


def write_geff(directory, unit="micrometer", time_unit="frame", name="0.geff", props=(), **names):
    """Lineages are only in the edges; a property without a value is the frame."""
    import networkx
    from geff import GeffMetadata, write

    names = {"t": "t", "y": "y", "x": "x"} | names
    scale = MICROMETERS if unit == "micrometer" else 1
    graph = networkx.DiGraph()
    for row, (_, frame, y, x, _) in enumerate(ROWS):
        t = frame * 10.0 if time_unit == "minute" else frame
        more = {name: frame if value is None else value for name, value in dict(props).items()}
        graph.add_node(SPOT + row, **{names["t"]: t, names["y"]: y * scale, names["x"]: x * scale, **more})
    graph.add_edges_from((SPOT + one, SPOT + other) for one, other in EDGES)
    with zarr_codecs():  # whatever codecs another test has chosen for the process
        write(
            graph,
            directory / name,
            metadata=GeffMetadata(directed=True, node_props_metadata={}, edge_props_metadata={}),
            axis_names=[names["t"], names["y"], names["x"]],
            axis_types=["time", "space", "space"],
            axis_units=[time_unit, unit, unit],
            zarr_format=3,
        )


def label_images(numbers=None, shape=SHAPE):
    """Return images (T, Y, X) with a square around each cell; other numbers than those of the tracks may be given."""
    images = np.zeros((shape[0], *shape[-2:]), dtype=np.uint16)
    for (track, t, y, x, _), number in zip(ROWS, numbers or [None] * len(ROWS), strict=True):
        images[t, y - 1 : y + 2, x - 1 : x + 2] = number or track
    return images


def write_ctc(directory, name="mask", table="res_track.txt", digits=3, **options):
    for frame, image in enumerate(label_images()):
        tifffile.imwrite(directory / f"{name}{frame:0{digits}}.tif", image, **options)
    (directory / table).write_text("1 0 1 0\n2 2 3 1\n3 2 3 1\n4 0 3 0\n")


def write_trackastra_ctc(directory):
    write_ctc(directory, name="man_track", table="man_track.txt", digits=4, compression="zlib")


def write_trackastra_edges(directory):
    """Labels of the images differ from frame to frame."""
    numbers = [7, 1, 3, 1, 4, 2, 2, 5, 6]
    for frame, image in enumerate(label_images(numbers)):
        tifffile.imwrite(directory / f"t{frame}.tif", image)
    rows = [(CELLS["t"][one], numbers[one], CELLS["t"][other], numbers[other], 0.9) for one, other in EDGES]
    columns = ["source_frame", "source_label", "target_frame", "target_label", "weight"]
    pd.DataFrame(rows, columns=columns).to_csv(directory / "edges.csv", index=False)
