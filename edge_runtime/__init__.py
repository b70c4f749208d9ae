"""Runs a variant: one port over the runtimes, preprocessing, and the golden check.

The same code wherever a variant runs: the converter's evaluation, the device, the reference cloud
endpoint. What is measured at conversion is therefore what the device does.
"""
