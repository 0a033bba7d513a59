"""What users copy: every composition that the project shows first is the one that the study recommends."""

from dataclasses import asdict
from pathlib import Path

import pytest
import yaml

from viscy_train.config.schema import SamplerConfig
from viscy_train.project_files.config_file import ConfigDraft, config_text
from viscy_train.sample_projects.demo import write_demo

ROOT = Path(__file__).parents[4]
RECOMMENDED = {"experiment_aware": True, "condition_balanced": True, "leaky": 0.0, "temporal_enrichment": False}


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    return write_demo(tmp_path_factory.mktemp("demo") / "demo").read_text(encoding="utf-8")


def sampler_of(text):
    options = yaml.safe_load(text)["data"]["sampler"]
    return {name: options[name] for name in RECOMMENDED}


def test_the_demo_is_by_experiment_and_condition_only(demo):
    assert sampler_of(demo) == RECOMMENDED


def test_a_project_starts_by_experiment_and_condition_only():
    assert sampler_of(config_text(ConfigDraft())) == RECOMMENDED


def test_the_defaults_are_by_experiment_and_condition_only():
    assert asdict(SamplerConfig()).items() >= RECOMMENDED.items()


@pytest.mark.parametrize("source", ["demo", "init"])
def test_a_configuration_says_when_to_turn_the_other_options_on(demo, source):
    text = demo if source == "demo" else config_text(ConfigDraft())
    comments = " ".join(line.strip(" #") for line in text.splitlines() if line.strip().startswith("#"))
    for words in ("one condition each: there it hurt", "only if time is a nuisance", "viscy-train compare"):
        assert words in comments


@pytest.mark.parametrize("readme", ["README.md", "packages/viscy-data/README.md"])
def test_the_first_sampler_of_a_readme_has_no_leak_and_no_enrichment(readme):
    text = (ROOT / readme).read_text(encoding="utf-8")
    first = text.split("sampler = FlexibleBatchSampler(", 1)[1].split("```", 1)[0]
    assert "leaky" not in first
    assert "temporal_enrichment" not in first
    assert "only if time is a nuisance" in text
