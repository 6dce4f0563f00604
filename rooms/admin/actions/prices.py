"""The bulk action that changes prices by an amount or by percent."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from typing import TYPE_CHECKING

from django import forms
from django.contrib import admin, messages
from django.contrib.admin.models import CHANGE
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse

from rooms.admin import history
from rooms.admin.actions.bulk import MAX_SHOWN, bulk_action, confirmation_page, fingerprint, is_confirmed
from rooms.admin.locks import lock_rooms
from rooms.columns import COLUMNS
from rooms.counting import Count
from rooms.models import Room

if TYPE_CHECKING:
    from rooms.admin.room import RoomAdmin

PRICE = COLUMNS["price"]
assert PRICE.limits
LOWEST, HIGHEST = PRICE.limits

UPDATE = """
UPDATE room SET price = new.price FROM unnest(%s::bigint[], %s::integer[]) AS new (id, price)
WHERE room.id = new.id
"""


class PriceForm(forms.Form):
    """The amount or percentage by which prices change."""

    change = forms.DecimalField(
        max_digits=9,
        decimal_places=2,
        help_text="With a minus to lower: -5",
        widget=forms.NumberInput(attrs={"step": "any", "required": True}),
    )
    unit = forms.ChoiceField(
        choices=[("euros", "euros per day"), ("percent", "percent")],
        initial="euros",
        widget=forms.RadioSelect,
    )

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        change = cleaned.get("change")
        if change == 0:
            self.add_error("change", "Zero changes nothing.")
        if change is not None and cleaned.get("unit") == "euros" and change % 1:
            self.add_error("change", "Prices are whole euros.")
        return cleaned

    @property
    def summary(self) -> str:
        """As in "+5 %" or "-3 euros per day"."""
        unit = "%" if self.cleaned_data["unit"] == "percent" else "euros per day"
        return f"{self.cleaned_data['change'].normalize():+f} {unit}"

    def new_price(self) -> Callable[[int], int]:
        """The function from old price to new, in whole euros; half a euro is rounded up."""
        change = self.cleaned_data["change"]
        if self.cleaned_data["unit"] == "euros":
            return lambda price: price + int(change)
        factor = 1 + change / 100
        return lambda price: int((price * factor).quantize(Decimal(1), ROUND_HALF_UP))


@dataclass(frozen=True)
class NewPrice:
    """One room with the price that it will have."""

    room: Room
    price: int

    @property
    def allowed(self) -> bool:
        return LOWEST <= self.price <= HIGHEST

    @property
    def difference(self) -> int:
        return self.price - self.room.price


@admin.action(description="Change prices…", permissions=["change"])
@bulk_action
def change_prices(model_admin: "RoomAdmin", request: HttpRequest, rooms: list[Room]) -> HttpResponse | None:
    """Ask for the change, preview the new prices, then write all of them or none, with their log entries."""
    submitted = "change" in request.POST
    form = PriceForm(request.POST if submitted else None)
    changes: list[NewPrice] = []
    if submitted and form.is_valid():
        new_price = form.new_price()
        changes = [NewPrice(room, new_price(room.price)) for room in rooms]
    rejected = [change for change in changes if not change.allowed]
    changing = [change for change in changes if change.difference]
    current = fingerprint((change.room, change.price) for change in changing)
    if rejected:
        form.add_error(
            "change",
            f"{len(rejected):,} of the rooms would leave the limits of {LOWEST} to "
            f"{HIGHEST:,} euros per day. Nothing is changed.",
        )
    elif changing and is_confirmed(request, current):
        write(request, form, changing)
        return None
    return confirmation_page(
        model_admin,
        request,
        "admin/rooms/change_prices.html",
        "Change prices",
        {
            "form": form,
            "number": len(rooms),
            "changing": len(changing),
            "unchanged": len(changes) - len(changing),
            "rejected": len(rejected),
            "changes": (rejected or changing)[:MAX_SHOWN],
            "fingerprint": current,
            "ready": bool(changing) and not rejected,
            "valid": submitted and form.is_bound and not form.errors,
        },
    )


def write(request: HttpRequest, form: PriceForm, changes: list[NewPrice]) -> None:
    """Write the log entries, then lock the rooms and write the new prices."""
    lines = [
        (
            change.room,
            f"{history.format_change('price', change.room.price, change.price)} ({form.summary})",
        )
        for change in changes
    ]
    with transaction.atomic(), connection.cursor() as cursor:
        history.log_changes(request.user, CHANGE, lines)
        lock_rooms([change.room for change in changes])
        cursor.execute(UPDATE, [[change.room.pk for change in changes], [change.price for change in changes]])
    messages.success(request, f"Prices of {Count(len(changes))} changed by {form.summary}.")
