class Tails:
    outputs: int
    ld: int
    def __init__(
        self, itemsize: int, outputs: int, clusters: list[tuple[int, int, int, int, int]], widths: list[int]
    ) -> None: ...
    def sizes(self) -> tuple[int, int]: ...
