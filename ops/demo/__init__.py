"""The demo: `pointsman.yaml` is its configuration, `scenes.py` submits its jobs. Imports all but `ops.cli`."""
