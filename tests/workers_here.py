"""Workers in this process: bytes go to them and come back as from other processes."""

from __future__ import annotations

from collections.abc import Sequence

from spa_bench.executors.base import Lost, Returned, Seat, serve


class Here:
    """See Seat: a worker in this process."""

    def __init__(self, number: int):
        self.name, self.state, self.answer = f"worker {number} (here)", list[object](), b""

    def send(self, parcel: object) -> None:
        assert isinstance(parcel, bytes)
        self.answer = serve(self.state, parcel)

    def stop(self) -> None:
        self.state = []


class InThisProcess:
    """See Transport. The last of the busy workers answers first, so that answers come out of order."""

    def __init__(self, count: int):
        self.count = count

    def start(self, place: int) -> Seat:
        return Here(place)

    def pack(self, act: bytes) -> object:
        return act

    def drop(self, parcel: object) -> None:
        pass

    def wait(self, seats: Sequence[Seat], seconds: float) -> list[tuple[Seat, Returned | Lost]]:
        last = seats[-1]
        assert isinstance(last, Here)
        return [(last, Returned(last.answer))]

    def close(self) -> None:
        pass
