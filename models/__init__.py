"""Example models as data: how each is made, its recipe and its card. The weights are not kept."""
