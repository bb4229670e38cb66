"""`tarmac doctor`: what a run will take, told before any of it is spent."""

from pipeline.stages.doctor.examine import examine

__all__ = ["examine"]
