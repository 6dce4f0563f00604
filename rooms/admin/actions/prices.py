"""The bulk action that changes prices by an amount, by percent, or to an amount, and rounds them."""

from collections.abc import Callable
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal
from statistics import fmean
from typing import TYPE_CHECKING, Any

from django import forms
from django.contrib import admin
from django.contrib.admin.models import CHANGE
from django.db import connection
from django.db.models import (
    Avg,
    BigIntegerField,
    Count,
    DecimalField,
    ExpressionWrapper,
    F,
    Max,
    Min,
    Q,
    QuerySet,
    Sum,
    Value,
)
from django.db.models.expressions import Combinable
from django.db.models.functions import Abs, Cast, Round
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext, ngettext, pgettext_lazy
from django.utils.translation import gettext_lazy as _

from rooms.admin import history
from rooms.admin.actions import large
from rooms.admin.actions.bulk import (
    MAX_SHOWN,
    bulk_action,
    confirmation_page,
    fingerprint,
    is_confirmed,
    warn_of_changes,
)
from rooms.admin.jobs.record import recorded, report
from rooms.admin.locks import lock_rooms
from rooms.admin.numbers import AmountField, grouped
from rooms.admin.recorded import show_rule
from rooms.columns import COLUMNS
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

    extreme = False
    """Whether the sum of the prices becomes more than five times as much, or less than a fifth."""

    change = AmountField(
        label=pgettext_lazy("noun", "Change"),
        max_digits=9,
        decimal_places=2,
        help_text=_("With a minus to lower: -5"),
        widget=forms.TextInput(attrs={"size": 10, "autocomplete": "off", "required": True}),
    )
    sure = forms.BooleanField(required=False)
    unit = forms.ChoiceField(
        choices=[
            ("euros", _("euros per day more")),
            ("percent", _("percent more")),
            ("set", _("euros per day, the new price")),
        ],
        initial="euros",
        widget=forms.RadioSelect,
    )
    ending = forms.ChoiceField(
        label=_("Round"),
        choices=[("", _("to whole euros")), ("5", _("to a multiple of 5")), ("9", _("to an end in 9"))],
        required=False,
    )

    def clean(self) -> dict[str, object]:
        cleaned = super().clean() or {}
        change = cleaned.get("change")
        if change == 0 and cleaned.get("unit") != "set" and not cleaned.get("ending"):
            self.add_error("change", gettext("Zero changes nothing."))
        if change is not None and cleaned.get("unit") != "percent" and change % 1:
            self.add_error("change", gettext("Prices are whole euros."))
        return cleaned

    def note_sums(self, before: int, after: int) -> None:
        """Compare the sums of all prices: a change that is hardly meant has to be confirmed twice."""
        self.extreme = after > 5 * before or 5 * after < before

    def is_sure(self) -> bool:
        """Whether the change is moderate, or was ticked as meant; adds an error where it was not."""
        if self.extreme and not self.cleaned_data["sure"]:
            self.add_error("sure", gettext("Tick this to go on."))
            return False
        return True

    @property
    def summary(self) -> str:
        """As it is recorded: "by +5 %", "by -3 euros per day" or "to 49 euros per day, ending in 9"."""
        change, kind = self.cleaned_data["change"].normalize(), self.cleaned_data["unit"]
        unit = "%" if kind == "percent" else "euros per day"
        amount = f"to {change:f}" if kind == "set" else f"by {change:+f}"
        endings = {"5": ", rounded to 5", "9": ", ending in 9"}
        return f"{amount} {unit}{endings.get(self.cleaned_data['ending'], '')}"

    @property
    def rule(self) -> tuple[Decimal, Decimal]:
        """
        A factor and an amount: a new price is price · factor + amount, rounded, a half away from zero. That
        is ROUND_HALF_UP in Python, and `round(numeric)` in PostgreSQL.
        """
        change, unit = self.cleaned_data["change"], self.cleaned_data["unit"]
        if unit == "percent":
            return 1 + change / 100, Decimal(0)
        return Decimal(unit == "euros"), change

    @property
    def rounding(self) -> tuple[Decimal, Decimal]:
        """A step and a shift: prices are rounded to multiples of the step, less the shift."""
        step, shift = {"5": (5, 0), "9": (10, 1)}.get(self.cleaned_data["ending"], (1, 0))
        return Decimal(step), Decimal(shift)

    def new_price(self, price: int) -> int:
        (factor, amount), (step, shift) = self.rule, self.rounding
        steps = (price * factor + amount + shift) / step
        return int(steps.quantize(Decimal(1), ROUND_HALF_UP) * step - shift)

    def new_price_sql(self) -> Combinable:
        """The same as an expression of the database."""
        (factor, amount), (step, shift) = self.rule, self.rounding
        number = DecimalField(max_digits=20, decimal_places=5)
        steps = ExpressionWrapper(
            (F("price") * Value(factor) + Value(amount + shift)) * Value(1 / step), number
        )
        rounded = ExpressionWrapper(Round(steps) * Value(step) - Value(shift), number)
        return Cast(rounded, BigIntegerField())


def with_new_price(rooms: QuerySet, parameters: dict[str, Any]) -> QuerySet:
    form = PriceForm(parameters)
    form.full_clean()
    changing: QuerySet = rooms.annotate(new_price=form.new_price_sql()).exclude(price=F("new_price"))
    return changing


PRICES = large.Operation(
    permission="change",
    rooms=lambda rooms, parameters: with_new_price(rooms, parameters).values("id", "new_price"),
    write="""
        UPDATE room SET price = batch.new_price FROM batch WHERE room.id = batch.id
        RETURNING room.id, room.code, concat('price ', old.price, ' → ', new.price, %s::text) AS message
    """,
    message=lambda parameters: [f" ({parameters['summary'].removeprefix('by ')})"],
)


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


def change_prices_in_batches(
    model_admin: "RoomAdmin", request: HttpRequest, queryset: QuerySet[Room]
) -> HttpResponse | None:
    """Ask for the change, preview its sums and its first prices, then change many rooms in batches."""
    submitted = "change" in request.POST
    form = PriceForm(request.POST if submitted else None)
    context: dict[str, Any] = {"form": form, "in_batches": True}
    snapshot = large.current_snapshot()
    if submitted and form.is_valid():
        parameters = {name: str(form.cleaned_data[name]) for name in ("change", "unit", "ending")}
        parameters["summary"] = form.summary
        context |= preview(queryset.annotate(new_price=form.new_price_sql()), form)
        change = large.confirmed(request, "prices", parameters, f"Change prices {parameters['summary']}")
        if change and context["ready"] and form.is_sure():
            return large.start(change)
        if "confirm" in request.POST and not change:
            warn_of_changes(request)
        context["fingerprint"] = large.sign(request, "prices", parameters, snapshot, context["changing"])
    else:
        context["number"] = queryset.count()
    return confirmation_page(
        model_admin,
        request,
        "admin/rooms/change_prices.html",
        gettext("Change prices"),
        {**context, "valid": submitted and not form.errors},
    )


def preview(rooms: QuerySet, form: PriceForm) -> dict[str, Any]:
    """The context of a preview of many rooms, in two or three queries."""
    outside = Q(new_price__lt=LOWEST) | Q(new_price__gt=HIGHEST)
    found = rooms.aggregate(
        number=Count("pk"),
        changing=Count("pk", filter=~Q(new_price=F("price"))),
        rejected=Count("pk", filter=outside),
        **{
            f"{name}_{price}": function(price)
            for name, function in FIGURES.items()
            for price in ("price", "new_price")
        },
    )
    figures = [
        (FIGURE_LABELS[name], found.pop(f"{name}_price"), found.pop(f"{name}_new_price")) for name in FIGURES
    ]
    form.note_sums(figures[0][1] or 0, figures[0][2] or 0)
    shown = rooms.filter(outside) if found["rejected"] else rooms.exclude(new_price=F("price"))
    if found["rejected"]:
        form.add_error("change", limits_error(found["rejected"]))
    return {
        **found,
        "unchanged": found["number"] - found["changing"],
        "ready": bool(found["changing"]) and not found["rejected"],
        "figures": figures,
        "changes": [
            NewPrice(room, room.new_price)
            for room in shown.order_by(Abs(F("new_price") - F("price")).desc(), "pk")[:MAX_SHOWN]
        ],
    }


FIGURES = {"sum": Sum, "average": Avg, "lowest": Min, "highest": Max}
FIGURE_LABELS = {"sum": _("Sum"), "average": _("Average"), "lowest": _("Lowest"), "highest": _("Highest")}


def compute_figures(changes: list[NewPrice]) -> list[tuple[Any, float, float]]:
    """Sum, average and extremes of the prices before and after; of no prices none."""
    functions: dict[str, Callable[[list[int]], float]] = {
        "sum": sum,
        "average": fmean,
        "lowest": min,
        "highest": max,
    }
    before, after = [change.room.price for change in changes], [change.price for change in changes]
    return [
        (FIGURE_LABELS[name], function(before), function(after))
        for name, function in functions.items()
        if changes
    ]


def limits_error(number: int) -> str:
    text = ngettext(
        "%(number)s of the rooms would leave the limits of %(low)s to %(high)s euros per day. "
        "Nothing is changed.",
        "%(number)s of the rooms would leave the limits of %(low)s to %(high)s euros per day. "
        "Nothing is changed.",
        number,
    )
    return text % {"number": grouped(number), "low": grouped(LOWEST), "high": grouped(HIGHEST)}


@admin.action(description=_("Change prices…"), permissions=["change"])
@bulk_action(change_prices_in_batches)
def change_prices(model_admin: "RoomAdmin", request: HttpRequest, rooms: list[Room]) -> HttpResponse | None:
    """Ask for the change, preview the new prices, then write all of them or none, with their log entries."""
    submitted = "change" in request.POST
    form = PriceForm(request.POST if submitted else None)
    changes: list[NewPrice] = []
    if submitted and form.is_valid():
        changes = [NewPrice(room, form.new_price(room.price)) for room in rooms]
    figures = compute_figures(changes)
    if figures:
        form.note_sums(int(figures[0][1]), int(figures[0][2]))
    rejected = [change for change in changes if not change.allowed]
    changing = [change for change in changes if change.difference]
    current = fingerprint((change.room, change.price) for change in changing)
    if rejected:
        form.add_error("change", limits_error(len(rejected)))
    elif changing and is_confirmed(request, current) and form.is_sure():
        write(request, form, changing)
        return None
    return confirmation_page(
        model_admin,
        request,
        "admin/rooms/change_prices.html",
        gettext("Change prices"),
        {
            "form": form,
            "number": len(rooms),
            "changing": len(changing),
            "unchanged": len(changes) - len(changing),
            "rejected": len(rejected),
            "figures": figures,
            "changes": sorted(rejected or changing, key=lambda change: -abs(change.difference))[:MAX_SHOWN],
            "fingerprint": current,
            "ready": bool(changing) and not rejected,
            "valid": submitted and form.is_bound and not form.errors,
        },
    )


def write(request: HttpRequest, form: PriceForm, changes: list[NewPrice]) -> None:
    """Write the log entries, then lock the rooms and write the new prices."""
    rule = form.summary.removeprefix("by ")
    lines = [
        (
            change.room,
            f"{history.format_change('price', change.room.price, change.price)} ({rule})",
        )
        for change in changes
    ]
    with recorded(request.user, f"Change prices {form.summary}") as job, connection.cursor() as cursor:
        history.log_changes(request.user, CHANGE, lines)
        lock_rooms([change.room for change in changes])
        cursor.execute(UPDATE, [[change.room.pk for change in changes], [change.price for change in changes]])
    changed = ngettext(
        "Price of %(number)s room changed %(rule)s.",
        "Prices of %(number)s rooms changed %(rule)s.",
        len(changes),
    )
    report(request, job, changed % {"number": grouped(len(changes)), "rule": show_rule(form.summary)})
