"""How many pixels may be decoded at once: threads are many, and one image may be very large."""

import contextlib
import threading
from collections.abc import Iterator


class Room:
    """For `most` pixels in all; an image that is larger has it to itself."""

    def __init__(self, most: int):
        self.most, self.taken = most, 0
        self._changed = threading.Condition()

    @contextlib.contextmanager
    def of(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for them."""
        with self._changed:
            self._changed.wait_for(lambda: not self.taken or self.taken + pixels <= self.most)
            self.taken += pixels
        try:
            yield
        finally:
            with self._changed:
                self.taken -= pixels
                self._changed.notify_all()
