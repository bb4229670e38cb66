"""A tracker that keeps what it is given."""

from pipeline.train.tracking.tracker import Composite, Metrics


class Rows(Composite):
    """Keeps them."""

    def __init__(self) -> None:
        super().__init__([])
        self.rows: list[tuple[int, Metrics]] = []

    def log(self, step: int, metrics: Metrics) -> None:
        self.rows.append((step, metrics))
