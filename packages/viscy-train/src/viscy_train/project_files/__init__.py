"""Files of a project: `experiments.yaml` and `config.yaml`, from plates or from a collection of VisCy.

Imports `anchors` and `config`; only `cli` imports it.
"""
