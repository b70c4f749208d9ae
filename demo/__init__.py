"""The whole journey on one machine: train, convert, sign, publish, roll out, install, infer, fall back."""
