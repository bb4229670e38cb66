"""What a run reads and in which order: a pure function of (manifests, seed, phases), the same on every rank."""
