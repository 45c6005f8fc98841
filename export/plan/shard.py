"""A shard: one of several runs of consecutive samples, for jobs that write a dataset side by side."""

from dataclasses import dataclass

from lift3d.errors import ConfigError
from lift3d.settings import shown


@dataclass(frozen=True)
class Shard:
    """The ``number``-th of ``count`` shards; as text "3/50"."""

    number: int = 1  # 1..count
    count: int = 1

    @staticmethod
    def parse(text: str) -> "Shard":
        """A shard of its text; ``ConfigError`` for anything else."""
        number, _, count = text.partition("/")
        if not (number.isdecimal() and count.isdecimal() and len(text) < 16):
            raise ConfigError(f"shard is {shown(text)}, expected one of several, such as 3/50")
        shard = Shard(int(number), int(count))
        if not 1 <= shard.number <= shard.count:
            raise ConfigError(f"shard is {text}, expected 1/{count} to {count}/{count}")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, n: int) -> range:
        """Which of n samples are in it. Shards differ by one sample at most; ``ConfigError`` for an empty
        one.
        """
        if self.count > n:
            raise ConfigError(f"shard is {self}, but there are only {n} samples; make fewer shards")
        return range((self.number - 1) * n // self.count, self.number * n // self.count)
