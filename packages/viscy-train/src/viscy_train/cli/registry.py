"""Registry: all commands, each with what its help says and the function that runs it."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

from viscy_train.cli.options import ARGUMENTS, OPTIONS

if TYPE_CHECKING:
    from viscy_train.cli.option import Option

CONFIGURED = "Work on a project"
_CLI = "viscy_train.cli"


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command of the command line.

    Parameters
    ----------
    name : str
        Its name.
    does : str
        What it does, in a line without a capital letter and a period.
    more : str
        A sentence or two in addition, for its own help.
    example : str
        Options of an example.
    group : str
        Heading under which the help lists it. Those of `CONFIGURED` take a configuration.
    function : str
        Module and name of the function that runs it, which is imported when it is called with the options and the
        description, and returns the exit code.
    needs_model : bool, default True
        Whether it makes a model.
    """

    name: str
    does: str
    more: str
    example: str
    function: str
    group: str = CONFIGURED
    needs_model: bool = True

    @property
    def takes_config(self) -> bool:
        """Whether it takes a configuration, all of whose keys are options, too."""
        return self.group == CONFIGURED

    @property
    def description(self) -> str:
        """What it does, as a sentence."""
        return f"{self.does[0].upper()}{self.does[1:]}."

    @property
    def options(self) -> dict[str, Option]:
        """Its own options by name."""
        return OPTIONS[self.name]

    @property
    def arguments(self) -> dict[str, Option]:
        """Its arguments without a name in front of them."""
        return ARGUMENTS.get(self.name, {})

    def run(self, options: list[str]) -> int:
        """Run the command and return the exit code."""
        module, _, name = self.function.partition(":")
        return getattr(import_module(module), name)(options, self.description)


_SAMPLE, _OWN, _STUDY, _LOOK = (
    "Create a sample project",
    "Start a project of your own",
    "Find out when composing batches pays",
    "Look at a run",
)
_ALL = (
    Command(
        name="demo",
        group=_SAMPLE,
        function=f"{_CLI}.sample_projects:run_demo",
        does="simulate three small experiments and train on them",
        more="Takes about a minute, and ends in a report. Every other command can be tried on what it writes.",
        example="--out viscy-demo",
    ),
    Command(
        name="hela",
        group=_SAMPLE,
        function=f"{_CLI}.sample_projects:run_hela",
        does="write the HeLa time-lapse of the Cell Tracking Challenge as a project",
        more="Needs viscy-train[hela], which contains the images. Its conditions are made up.",
        example="--out hela",
    ),
    Command(
        name="init",
        group=_OWN,
        function=f"{_CLI}.project_files:run_init",
        does="look at plates, and write experiments.yaml and config.yaml to start from",
        more="Writes the wells, channels, times and tracks that it finds; what only you know is left open, and marked.",
        example="plates/*.zarr --out project",
    ),
    Command(
        name="import",
        group=_OWN,
        function=f"{_CLI}.project_files:run_import",
        does="write experiments.yaml and config.yaml from a collection of VisCy",
        more="Lists whatever has no counterpart here.",
        example="collection.yml --out project",
    ),
    Command(
        name="study",
        group=_STUDY,
        function=f"{_CLI}.studies:run_study_command",
        does="compare compositions of the batches on made-up worlds, to see when composing pays",
        more="What is interrupted continues when the command is repeated. For your own cells, run compare.",
        example="--size ci --out study",
    ),
    Command(
        name="view",
        group=_LOOK,
        function=f"{_CLI}.view:run_view",
        does="open napari with a position of a run: the plate, its tracks, and a batch",
        more="Needs viscy-train[napari].",
        example="run --position A/1/0 --color condition",
    ),
    Command(
        name="index",
        function=f"{_CLI}.commands:index",
        does="check plates and tracks, and build the anchor table from them",
        more="Lists all problems of the project at once. Run it again after a change of the plates, tracks or crops.",
        example="--config config.yaml --processes 4",
        needs_model=False,
    ),
    Command(
        name="pack",
        function=f"{_CLI}.commands:pack",
        does="write the crops of all observations to a store, from which `data.store` reads them fast",
        more="Worth it if `inspect` says that reading takes longer than training. May be interrupted and repeated.",
        example="--config config.yaml --processes 4",
        needs_model=False,
    ),
    Command(
        name="inspect",
        function=f"{_CLI}.commands:inspect",
        does="show the composition of the batches without training",
        more="Says what a composition may do to the embeddings, and what reading its crops takes. Writes a page.",
        example="--config config.yaml --data.sampler.leaky 0.2",
        needs_model=False,
    ),
    Command(
        name="compare",
        function=f"{_CLI}.studies:compare",
        does="train with several compositions of the batches, and say which of them pays",
        more="Holds out experiments or positions in turn. What is interrupted continues when the command is repeated.",
        example="--config config.yaml --seeds 5 --out compare",
    ),
    Command(
        name="fit",
        function=f"{_CLI}.commands:fit",
        does="train and write a report",
        more="After Ctrl-C or SIGTERM, --checkpoint last resumes with the very batch that would have been next.",
        example="--config config.yaml --checkpoint last",
    ),
    Command(
        name="validate",
        function=f"{_CLI}.commands:validate",
        does="evaluate a checkpoint on the validation anchors",
        more="Prints the loss and recall@1.",
        example="--config config.yaml",
    ),
    Command(
        name="predict",
        function=f"{_CLI}.commands:predict",
        does="write the embedding of every cell",
        more="Writes AnnData: embeddings in X, and where each cell comes from in obs.",
        example="--config config.yaml --checkpoint best",
    ),
    Command(
        name="export",
        function=f"{_CLI}.commands:export",
        does="write the encoder of a checkpoint as safetensors, with a model card, and as ONNX",
        more="`viscy_train.load_encoder` loads it without the project.",
        example="--config config.yaml --out encoder --onnx",
    ),
    Command(
        name="replay",
        function=f"{_CLI}.commands:replay",
        does="plot the crops of one training step",
        more="Shows the anchors and positives of a batch as they were read, and as the encoder saw them.",
        example="--config config.yaml --step 100",
    ),
    Command(
        name="report",
        function=f"{_CLI}.commands:report",
        does="write the report of a run again",
        more="Use it after a run that was killed, or with another evaluation.probe.",
        example="--config config.yaml --evaluation.probe well",
    ),
)
COMMANDS: dict[str, Command] = {command.name: command for command in _ALL}
"""All commands by name, in the order of the help."""
