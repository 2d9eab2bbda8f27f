"""The backend `monailabel_app`: unmodified MONAI Label apps, hosted in an environment of their own.

`hosting`, `faults`, `surroundings` and `lessons` run over there; everything else is our side.
"""
