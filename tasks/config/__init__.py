"""The configuration, `pointsman.yaml`, as frozen data; `tasks.loading` reads and checks the file.

Imports the contract alone. Start with config.py.
"""
