"""How a large file is cut into parts."""

from hypothesis import given
from hypothesis import strategies as st

from api.tickets import MIB, part_size, parts_of


@given(st.integers(64 * MIB + 1, 5 * 1024**4))
def test_parts_cover_the_file_once_and_are_at_most_a_thousand(size: int) -> None:
    each = part_size(size)
    parts = parts_of(size, each)
    assert each % MIB == 0
    assert each >= 16 * MIB
    assert len(parts) <= 1000
    assert [part.number for part in parts] == list(range(1, len(parts) + 1))
    end = 0
    for part in parts:
        assert part.offset == end
        assert 0 < part.size <= each
        end += part.size
    assert end == size
