"""What can be wrong with a record."""


class Flaw(Exception):
    """A record, or a stretch of a file, in which no document can be found; raised, or handed on as a value.

    A stream that raised it can be read on: what follows is what lies behind the flaw.
    """

    def __init__(self, reason: str, detail: str = "", *, records: int = 1, lost_bytes: int = 0) -> None:
        """Say what is wrong: in one word for the statistics, and exactly for a person.

        Args:
            reason: One word.
            detail: What exactly is wrong.
            records: How many records are lost, if that can be known.
            lost_bytes: If it cannot: about how many bytes of content the stretch has.
        """
        super().__init__(reason, detail)
        self.reason = reason
        self.detail = detail
        self.records = records
        self.lost_bytes = lost_bytes
