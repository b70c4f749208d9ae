"""Makes PyTorch's .pt2 files safe to open: what `torch.export.load` would run is refused or left out."""
