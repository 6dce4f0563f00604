"""The words for a room and its numbers on pages."""

from typing import Any

from rooms.places.gazetteer import describe, gazetteer

THIN = "\N{NARROW NO-BREAK SPACE}"
"""Between a number and its unit, and between thousands."""


def euros(price: float) -> str:
    """As in "1 200 €"."""
    return f"{number(price)}{THIN}€"


def number(value: float) -> str:
    """A whole number, its thousands apart."""
    return f"{round(value):,}".replace(",", THIN)


def square_metres(size: int) -> str:
    return f"{number(size)}{THIN}m²"


def per_square_metre(room: dict[str, Any]) -> str:
    """The price of a square metre, as in "1.74 €/m²"; empty where the size is unknown."""
    figure = rate(room)
    return f"{figure}{THIN}€/m²" if figure else ""


def rate(room: dict[str, Any]) -> str:
    """The price of a square metre without its unit, as in "1.74"; empty where the size is unknown."""
    if not room["size"]:
        return ""
    value = room["price"] / room["size"]
    return f"{value:.2f}" if value < 100 else number(value)


def degrees(value: float) -> str:
    """Decimal degrees to about a metre, as in "41.40275": a URL that people share."""
    return str(round(value, 5) or 0.0).removesuffix(".0")


def metres(distance: float) -> str:
    """A rounded distance: "350 m", "2.4 km", "1 200 km"."""
    if distance < 995:
        return f"{max(round(distance, -1), 10):.0f}{THIN}m" if distance >= 1 else f"0{THIN}m"
    if distance < 9_950:
        return f"{distance / 1000:.1f}".removesuffix(".0") + f"{THIN}km"
    return f"{number(distance / 1000)}{THIN}km"


def place_of(room: dict[str, Any]) -> str:
    """Where a room is: "in Gràcia, Barcelona"; its coordinates far from every place."""
    nearest = gazetteer().nearest(room["latitude"], room["longitude"])
    return describe(nearest) or f"at {room['latitude']:.4f}, {room['longitude']:.4f}"


def title(room: dict[str, Any], place: str) -> str:
    """As in "38 m² room in Gràcia, Barcelona"; `place` is from `place_of`, which takes 0.1 ms."""
    kind = f"{square_metres(room['size'])} room" if room["size"] else "Room"
    return f"{kind} {place}"
