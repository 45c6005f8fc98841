"""Tables as plain text, for stdout."""

from collections.abc import Sequence


def table(rows: Sequence[Sequence[str]]) -> str:
    """Rows (the first is the header) in columns of equal width; columns of numbers are flush right."""
    columns = list(zip(*rows, strict=True))
    widths = [max(len(cell) for cell in column) for column in columns]
    flush = [all(_is_number(cell) for cell in column[1:]) for column in columns]
    lines = (
        "  ".join(
            cell.rjust(w) if right else cell.ljust(w)
            for cell, w, right in zip(row, widths, flush, strict=True)
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def _is_number(cell: str) -> bool:
    return cell in ("", "-") or cell.replace(".", "").replace("-", "").isdigit()
