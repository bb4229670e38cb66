"""Objectives: (model, micro batch) -> sum of losses over the valid tokens. A new kind of run is a new objective."""
